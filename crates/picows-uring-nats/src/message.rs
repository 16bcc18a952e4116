//! Publications as messages of NATS, both ways.
//!
//! One header, `Picows`, has the type, the origin and the key; messages of other programs have none.

use async_nats::header::{HeaderMap, HeaderName, HeaderValue};
use picows_uring::MsgType;
use picows_uring::topics::{BusMessage, Position};

/// Mapping of topics to subjects.
#[derive(Clone, Debug)]
pub(crate) struct Subjects {
    /// With its dot.
    prefix: String,
}

impl Subjects {
    /// Returns `None` if that is no prefix.
    pub(crate) fn new(prefix: &str) -> Option<Self> {
        let is_token = |token: &str| {
            let is_bad =
                |it: char| it.is_whitespace() || it.is_control() || matches!(it, '*' | '>');
            !token.is_empty() && !token.contains(is_bad)
        };
        prefix.split('.').all(is_token).then(|| Self { prefix: format!("{prefix}.") })
    }

    /// The subject of a topic, or of a pattern.
    pub(crate) fn subject(&self, topic: &str) -> String {
        format!("{}{topic}", self.prefix)
    }

    /// The topic of a subject; `None` if it is not one of ours.
    pub(crate) fn topic<'a>(&self, subject: &'a str) -> Option<&'a str> {
        subject.strip_prefix(&*self.prefix).filter(|topic| !topic.is_empty())
    }

    /// The subject for presence: none of a topic, so that no stream keeps it.
    pub(crate) fn presence(&self) -> String {
        format!("{}-presence", self.prefix.trim_end_matches('.'))
    }

    /// The subjects of all topics.
    pub(crate) fn all(&self) -> String {
        format!("{}>", self.prefix)
    }
}

/// The headers of a publication. `None` if one of the application's cannot be a header of NATS.
pub(crate) fn headers(message: &BusMessage) -> Option<HeaderMap> {
    let mut text = String::from(if message.msg_type == MsgType::Text { "t" } else { "b" });
    if let Some(origin) = message.origin {
        text += &format!(" {origin}");
    }
    if let Some(key) = message.key {
        text += &format!(" k{key:x}");
    }
    let mut headers = HeaderMap::new();
    headers.insert(HEADER, HeaderValue::from(text));
    for (name, value) in &message.headers {
        // Under a prefix, as JetStream obeys some names.
        let name = format!("{USER_PREFIX}{name}").parse::<HeaderName>().ok()?;
        headers.append(name, value.parse::<HeaderValue>().ok()?);
    }
    Some(headers)
}

/// Returns the publication that a message is, or `None` if its subject is not one of ours.
pub(crate) fn decode(subjects: &Subjects, message: async_nats::Message) -> Option<BusMessage> {
    let topic = subjects.topic(&message.subject)?.to_owned();
    let mut decoded = BusMessage::new(topic, MsgType::Text, message.payload);
    let headers = message.headers.as_ref();
    let own = headers.and_then(|headers| headers.get(HEADER));
    let is_text = match own.map(HeaderValue::as_str) {
        Some(own) => {
            let mut words = own.split(' ');
            let is_text = words.next() == Some("t");
            for word in words {
                match word.strip_prefix('k') {
                    Some(key) => decoded.key = u64::from_str_radix(key, 16).ok(),
                    None => decoded.origin = word.parse::<Position>().ok(),
                }
            }
            is_text
        }
        None => true,
    };
    // Of another program, or of a node that is wrong: what is not UTF-8 is not text.
    if !is_text || str::from_utf8(&decoded.payload).is_err() {
        decoded.msg_type = MsgType::Binary;
    }
    let entries = headers.into_iter().flat_map(HeaderMap::iter);
    for (name, values) in entries {
        let name: &str = name.as_ref();
        // With a header of ours, only those under the prefix are the application's.
        let name = match name.strip_prefix(USER_PREFIX) {
            Some(name) => name,
            None if own.is_none() && !name.starts_with(SERVER_PREFIX) => name,
            None => continue,
        };
        for value in values {
            decoded.headers.push((name.to_owned(), value.as_str().to_owned()));
        }
    }
    Some(decoded)
}

/// Type (`t` or `b`), origin and key, divided by blanks.
const HEADER: HeaderName = HeaderName::from_static("Picows");
const USER_PREFIX: &str = "Picows-H-";
/// Headers that the server sets or obeys.
const SERVER_PREFIX: &str = "Nats-";

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn received(subject: &str, headers: Option<HeaderMap>, payload: &[u8]) -> async_nats::Message {
        async_nats::Message {
            subject: subject.to_owned().into(),
            reply: None,
            payload: Bytes::copy_from_slice(payload),
            headers,
            status: None,
            description: None,
            length: 0,
        }
    }

    #[test]
    fn a_publication_comes_back_as_it_was() {
        let subjects = Subjects::new("picows").unwrap();
        for (msg_type, origin, key) in [
            (MsgType::Text, Some(Position { epoch: 0xab, offset: 7 }), Some(0)),
            (MsgType::Binary, None, Some(u64::MAX)),
            (MsgType::Text, None, None),
        ] {
            let mut message = BusMessage::new("a.b", msg_type, "hello");
            (message.key, message.origin) = (key, origin);
            message.headers = vec![("Nats-Rollup".to_owned(), "all".to_owned())];
            let headers = headers(&message).unwrap();
            assert!(headers.get("Nats-Rollup").is_none(), "the server would obey it");
            let subject = subjects.subject(&message.topic);
            let decoded = decode(&subjects, received(&subject, Some(headers), b"hello")).unwrap();
            assert_eq!((decoded.topic, decoded.msg_type), (message.topic, msg_type));
            assert_eq!((decoded.origin, decoded.key), (origin, key));
            assert_eq!((decoded.headers, &*decoded.payload), (message.headers, &b"hello"[..]));
        }
    }

    #[test]
    fn messages_of_other_programs_are_publications_too() {
        let subjects = Subjects::new("a").unwrap();
        let decoded = decode(&subjects, received("a.x", None, b"hi")).unwrap();
        assert_eq!((decoded.msg_type, decoded.origin), (MsgType::Text, None));
        assert_eq!(
            decode(&subjects, received("a.x", None, b"\xff")).unwrap().msg_type,
            MsgType::Binary
        );
        let mut headers = HeaderMap::new();
        headers.insert("Kind", "trade");
        headers.insert("Nats-Msg-Id", "1");
        let decoded = decode(&subjects, received("a.x", Some(headers), b"")).unwrap();
        assert_eq!(decoded.headers, [("Kind".to_owned(), "trade".to_owned())]);
        for subject in ["b.x", "a", "a."] {
            assert!(decode(&subjects, received(subject, None, b"")).is_none(), "{subject}");
        }
    }

    #[test]
    fn nonsense_in_our_header_does_no_harm() {
        let subjects = Subjects::new("a").unwrap();
        for text in ["", "t 1:2:3 kz", "t  k", "b 00000000000000001:1 \u{fc}"] {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, HeaderValue::from(text));
            let decoded = decode(&subjects, received("a.x", Some(headers), b"\xff")).unwrap();
            assert_eq!((decoded.msg_type, decoded.origin), (MsgType::Binary, None), "{text}");
        }
    }

    #[test]
    fn headers_that_nats_cannot_have_are_refused() {
        let with = |name: &str, value: &str| {
            let mut message = BusMessage::new("a", MsgType::Text, "");
            message.headers = vec![(name.to_owned(), value.to_owned())];
            headers(&message)
        };
        assert!(with("Kind", "trade").is_some());
        for (name, value) in [("a:b", "c"), ("a b", "c"), ("a", "b\r\nNats-Rollup: all")] {
            assert!(with(name, value).is_none(), "{name} {value}");
        }
    }
}

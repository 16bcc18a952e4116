//! Requests of clients: the topic, the place to begin at, and the subprotocol.

use super::wire::SUBPROTOCOL;
use picows_uring::UpgradeRequest;
use picows_uring::topics::{Position, TopicName};

/// What a client asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) topic: String,
    /// It has wildcards: all topics that match.
    pub(super) is_pattern: bool,
    /// What came behind this position is to be delivered first.
    pub(super) from: Option<Position>,
    /// So many publications of the past are to be delivered first.
    pub(super) last: Option<usize>,
    pub(super) token: Option<Vec<u8>>,
    /// Each message begins with its position.
    pub(super) has_positions: bool,
}

/// Why a request is refused: its status, and a text for the client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    NotFound,
    Bad(String),
}

impl Wish {
    /// Reads a request.
    ///
    /// # Errors
    ///
    /// When its path names no topic, or its query cannot be.
    pub(super) fn read(request: &UpgradeRequest) -> Result<Self, Refused> {
        let name = request.path().strip_prefix(PREFIX).ok_or(Refused::NotFound)?;
        let name = decode(name).and_then(|name| String::from_utf8(name).ok());
        let topic = name.ok_or_else(|| Refused::Bad("the topic's name is not UTF-8".into()))?;
        let is_pattern = topic.contains(['*', '>']);
        let check = if is_pattern { TopicName::check_pattern } else { TopicName::check };
        check(&topic).map_err(|error| Refused::Bad(error.to_string()))?;
        let has_positions = request.subprotocols().any(|name| name == SUBPROTOCOL);
        let mut wish =
            Self { topic, is_pattern, from: None, last: None, token: None, has_positions };
        for part in request.query().unwrap_or_default().split('&') {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            match name {
                "from" if wish.from.is_none() => wish.from = Some(position(value)?),
                "last" if wish.last.is_none() => wish.last = Some(count(value)?),
                "token" if wish.token.is_none() => {
                    let bad = || Refused::Bad("?token=: a % without two digits".to_owned());
                    wish.token = Some(decode(value).ok_or_else(bad)?);
                }
                "from" | "last" | "token" => {
                    return Err(Refused::Bad(format!("?{name}= is there twice")));
                }
                // Of proxies, caches and trackers.
                _ => {}
            }
        }
        wish.check()
    }

    fn check(self) -> Result<Self, Refused> {
        let fault = if self.from.is_some() && !self.has_positions {
            format!("?from= needs the subprotocol {SUBPROTOCOL}, whose messages have positions")
        } else if self.from.is_some() && self.last.is_some() {
            "?from= and ?last= exclude each other".to_owned()
        } else if self.from.is_some() && self.is_pattern {
            "?from= is for one topic: a subject with wildcards has no position".to_owned()
        } else {
            return Ok(self);
        };
        Err(Refused::Bad(fault))
    }
}

fn position(value: &str) -> Result<Position, Refused> {
    // A colon may be encoded.
    let text = decode(value).and_then(|value| String::from_utf8(value).ok()).unwrap_or_default();
    text.parse().map_err(|_| {
        Refused::Bad(format!(
            "?from={}: write a position as messages have it, EPOCH:OFFSET in hexadecimal",
            value.escape_default()
        ))
    })
}

fn count(value: &str) -> Result<usize, Refused> {
    let bad = |_| Refused::Bad(format!("?last={}: write a number", value.escape_default()));
    value.parse().map_err(bad)
}

/// Decodes `%41` and its kin; `None` for a `%` without two digits.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        decoded.push((digit()? * 16 + digit()?) as u8);
    }
    Some(decoded)
}

/// What paths of topics begin with.
const PREFIX: &str = "/topic/";

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use picows_uring::{Server, Upgrade};
    use std::sync::{Arc, Mutex};

    /// The request that the library makes of this text: as a server gets it.
    pub(in crate::pubsub) fn parse_request(text: &str) -> UpgradeRequest {
        use std::io::{Read, Write};
        let seen = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&seen);
        let builder = Server::builder().listen("127.0.0.1:0").workers(1);
        let builder = builder.driver(picows_uring::Driver::Epoll);
        let server = builder
            .start(move |request: &UpgradeRequest| {
                *slot.lock().unwrap() = Some(request.clone());
                Upgrade::not_found()
            })
            .unwrap();
        let mut stream = std::net::TcpStream::connect(server.local_addr().unwrap()).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        let mut byte = [0];
        // The router was called before the response.
        stream.read_exact(&mut byte).unwrap();
        drop(stream);
        server.stop().unwrap();
        let request = seen.lock().unwrap().take();
        request.unwrap_or_else(|| panic!("refused: {text}"))
    }

    fn wish(target: &str, subprotocols: &str) -> Result<Wish, Refused> {
        Wish::read(&parse_request(&format!(
            "GET {target} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Protocol: {subprotocols}\r\n\r\n"
        )))
    }

    #[test]
    fn paths_and_queries_are_read() {
        let plain = wish("/topic/rooms.lobby", "chat").unwrap();
        assert_eq!(plain.topic, "rooms.lobby");
        assert!(plain.from.is_none() && plain.token.is_none() && !plain.has_positions);
        let full = wish("/topic/%C3%A4.b?from=a%3A1f&token=s%65same&x=1", "chat, picows.pubsub.1");
        let full = full.unwrap();
        assert_eq!((&*full.topic, full.has_positions), ("\u{e4}.b", true));
        assert_eq!(full.from, Some(Position { epoch: 10, offset: 31 }));
        assert_eq!(full.token.as_deref(), Some(&b"sesame"[..]));
        assert_eq!(wish("/topic/a?last=5", "chat").unwrap().last, Some(5));
        for (target, is_pattern) in
            [("/topic/a.*", true), ("/topic/%3E", true), ("/topic/a", false)]
        {
            assert_eq!(wish(target, "chat").map(|it| it.is_pattern), Ok(is_pattern), "{target}");
        }
    }

    #[test]
    fn bad_requests_are_refused_with_the_cause() {
        for (target, part) in [
            ("/topic/", "name"),
            ("/topic/a..b", "name"),
            ("/topic/a.%3E.b", "last token"),
            ("/topic/a*", "whole token"),
            ("/topic/%ff", "UTF-8"),
            ("/topic/a%2", "UTF-8"),
            ("/topic/a%20b", "name"),
            ("/topic/a?from=1:2", "subprotocol picows.pubsub.1"),
            ("/topic/a?last=x", "?last=x: write a number"),
            ("/topic/a?token=a&token=b", "twice"),
        ] {
            let Err(Refused::Bad(text)) = wish(target, "chat") else { panic!("{target}") };
            assert!(text.contains(part), "{target}: {text}");
        }
        for (target, part) in [
            ("/topic/a?from=", "EPOCH:OFFSET"),
            ("/topic/a?from=1", "EPOCH:OFFSET"),
            ("/topic/a?from=x:1", "EPOCH:OFFSET"),
            ("/topic/a?from=1:2&last=3", "exclude"),
            ("/topic/a.*?from=1:2", "wildcards"),
        ] {
            let Err(Refused::Bad(text)) = wish(target, SUBPROTOCOL) else { panic!("{target}") };
            assert!(text.contains(part), "{target}: {text}");
        }
        assert_eq!(wish("/other", "chat"), Err(Refused::NotFound));
        assert_eq!(wish("/topic", "chat"), Err(Refused::NotFound));
    }
}

//! Messages for subscribers: publications, with positions in the subprotocol, and its first message.

use picows_uring::topics::{Format, Position, Publication, Recovery};
use picows_uring::{ApiMisuse, MsgType, Prepared};

/// The subprotocol in which each message begins with its position.
pub(super) const SUBPROTOCOL: &str = "picows.pubsub.1";

/// The format of the subprotocol: BINARY begins with epoch and offset, 16 bytes, big endian; TEXT with
/// `EPOCH:OFFSET` in hexadecimal and a blank.
pub(super) fn with_positions() -> Format {
    Format::new(|publication: &Publication| {
        encode(publication.position(), publication.msg_type(), publication.payload())
    })
}

/// The same for subjects with wildcards: behind the position is the topic, in TEXT with a blank, in BINARY
/// behind a byte with its length.
pub(super) fn with_topics() -> Format {
    Format::new(|publication: &Publication| {
        let (msg_type, topic) = (publication.msg_type(), publication.topic().as_bytes());
        let mut payload = Vec::with_capacity(topic.len() + 1 + publication.payload().len());
        if msg_type == MsgType::Text {
            payload.extend_from_slice(topic);
            payload.push(b' ');
        } else {
            // A name is no longer than that.
            payload.push(u8::try_from(topic.len()).unwrap_or(u8::MAX));
            payload.extend_from_slice(topic);
        }
        payload.extend_from_slice(publication.payload());
        encode(publication.position(), msg_type, &payload)
    })
}

fn encode(position: Position, msg_type: MsgType, payload: &[u8]) -> Result<Prepared, ApiMisuse> {
    let mut message;
    if msg_type == MsgType::Text {
        message = format!("{position} ").into_bytes();
    } else {
        message = Vec::with_capacity(16 + payload.len());
        message.extend_from_slice(&position.epoch.to_be_bytes());
        message.extend_from_slice(&position.offset.to_be_bytes());
    }
    message.extend_from_slice(payload);
    Prepared::new(msg_type, message)
}

/// The first message of the subprotocol.
pub(super) fn first_message(recovery: &Recovery) -> String {
    let position = recovery.position();
    match recovery {
        Recovery::Lost { .. } => format!(r#"{{"lost":true,"position":"{position}"}}"#),
        Recovery::Recovered { count, .. } => {
            format!(r#"{{"recovered":{count},"position":"{position}"}}"#)
        }
        _ => format!(r#"{{"recovered":0,"position":"{position}"}}"#),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Position = Position { epoch: 0xabc, offset: 0x10 };

    #[test]
    fn messages_begin_with_their_positions() {
        let text = encode(AT, MsgType::Text, "h\u{e9}llo".as_bytes()).unwrap();
        assert_eq!(text.payload(), "abc:10 h\u{e9}llo".as_bytes());
        let binary = encode(AT, MsgType::Binary, b"\xff").unwrap();
        assert_eq!(binary.payload(), b"\0\0\0\0\0\0\x0a\xbc\0\0\0\0\0\0\0\x10\xff");
    }

    #[test]
    fn the_first_message_names_the_position() {
        for (recovery, text) in [
            (Recovery::New { position: AT }, r#"{"recovered":0,"position":"abc:10"}"#),
            (
                Recovery::Recovered { count: 3, position: AT },
                r#"{"recovered":3,"position":"abc:10"}"#,
            ),
            (Recovery::Lost { position: AT }, r#"{"lost":true,"position":"abc:10"}"#),
        ] {
            assert_eq!(first_message(&recovery), text);
            assert!(serde_json::from_str::<serde_json::Value>(text).is_ok());
        }
    }
}

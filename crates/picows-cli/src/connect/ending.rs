//! Judgement of a connection's end, for the exit status.
//!
//! Depends on the final state only, not on which side closed first: the code of a connection is
//! that of the CLOSE received (RFC 6455 §7.1.5).

use crate::fault::Fault;
use picows_uring::{CloseCode, CloseFrame, CloseHandshake, DisconnectCause};
use std::time::Duration;

/// Returns `Ok` if the server closed the connection with a normal code.
///
/// # Errors
///
/// Otherwise, with the server's code and reason if it sent any.
pub(super) fn judge(
    cause: Option<DisconnectCause>,
    close: &CloseHandshake,
    close_timeout: Duration,
) -> Result<(), Fault> {
    let is_fault = matches!(
        cause,
        Some(
            DisconnectCause::PeerMisbehaved(_)
                | DisconnectCause::Listener(_)
                | DisconnectCause::QueueFull
                | DisconnectCause::PingTimedOut
                | DisconnectCause::WorkerFailed
        )
    );
    match (cause, &close.received) {
        (Some(cause), _) if is_fault => Err(cause.into()),
        (_, Some(received)) => judge_close(received),
        (Some(DisconnectCause::TimedOut), None) if close.sent.is_some() => Err(format!(
            "the server did not answer CLOSE within {close_timeout:?}: a longer --close-timeout \
             waits for a slow one"
        )
        .into()),
        (Some(cause), None) => Err(cause.into()),
        (None, None) => Ok(()),
    }
}

fn judge_close(received: &CloseFrame) -> Result<(), Fault> {
    match received.code() {
        None | Some(CloseCode::NORMAL | CloseCode::GOING_AWAY) => Ok(()),
        Some(code) => {
            let reason = received.reason();
            let reason = if reason.is_empty() { String::new() } else { format!(" {reason:?}") };
            Err(format!("the server closed the connection with {code}{reason}").into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;

    fn judged(cause: DisconnectCause, sent: Option<u16>, received: Option<(u16, &str)>) -> String {
        let frame = |code: u16, reason: &str| match code {
            0 => CloseFrame::empty(),
            _ => CloseFrame::new(CloseCode::new(code).unwrap(), reason),
        };
        let mut fault = None;
        // The outcome must not depend on which side closed first.
        for received_first in [false, true] {
            let mut close = CloseHandshake::default();
            close.sent = sent.map(|code| frame(code, ""));
            close.received = received.map(|(code, reason)| frame(code, reason));
            close.received_first = received_first;
            let judged = judge(Some(cause.clone()), &close, Duration::from_secs(5));
            let text = judged.map_or_else(|fault| fault.to_string(), |()| String::new());
            assert_eq!(fault.get_or_insert(text.clone()), &text);
        }
        fault.unwrap()
    }

    #[test]
    fn the_first_close_received_decides() {
        for cause in [
            DisconnectCause::Closed,
            DisconnectCause::Io(ErrorKind::ConnectionReset),
            DisconnectCause::TimedOut,
            DisconnectCause::EndOfStream,
        ] {
            for sent in [None, Some(1000), Some(1001)] {
                for code in [0, 1000, 1001] {
                    let text = judged(cause.clone(), sent, Some((code, "bye")));
                    assert_eq!(text, "", "{cause:?} {sent:?} {code}");
                }
                for code in [1002, 1007, 1008, 1009, 1011, 1013, 3000, 4401, 4999] {
                    let text = judged(cause.clone(), sent, Some((code, "bad \x1b token")));
                    let wanted = format!(
                        "the server closed the connection with {code} \"bad \\u{{1b}} token\""
                    );
                    assert_eq!(text, wanted, "{cause:?} {sent:?}");
                }
            }
        }
    }

    #[test]
    fn without_a_close_the_cause_decides() {
        for (cause, word) in [
            (DisconnectCause::EndOfStream, "without a close handshake"),
            (DisconnectCause::Io(ErrorKind::ConnectionReset), "broke"),
            (DisconnectCause::TimedOut, "did not answer CLOSE within 5s"),
        ] {
            let text = judged(cause.clone(), Some(1000), None);
            assert!(text.contains(word), "{cause:?}: {text}");
        }
    }

    #[test]
    fn faults_count_whatever_was_closed() {
        for cause in [
            DisconnectCause::PeerMisbehaved(picows_uring::PeerMisbehaved::InvalidUtf8),
            DisconnectCause::PingTimedOut,
            DisconnectCause::QueueFull,
        ] {
            assert_ne!(judged(cause.clone(), Some(1007), Some((1000, ""))), "", "{cause:?}");
        }
    }
}

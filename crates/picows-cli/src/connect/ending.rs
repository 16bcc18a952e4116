//! Judgement of a connection's end, for the exit status.
//!
//! Depends on the final state only, not on which side closed first: the code of a connection is
//! that of the CLOSE received (RFC 6455 §7.1.5).

use crate::fault::{Fault, Status};
use picows_uring::{CloseCode, CloseFrame, CloseHandshake, DisconnectCause};
use std::time::Duration;

/// Exit status for a close code of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ExitOn {
    code: u16,
    status: u8,
}

/// Parses a code and its exit status, such as `4401=10`.
pub(super) fn exit_on(text: &str) -> Result<ExitOn, String> {
    let (code, status) = text.split_once('=').unwrap_or((text, "0"));
    let code = code.parse().ok().filter(|code| (1000..5000).contains(code));
    if let Some(code) = code
        && code != NO_CODE
        && CloseCode::new(code).is_none()
    {
        return Err(format!(
            "no CLOSE has the code {code}, so a server cannot close with it; a connection that is lost without \
             CLOSE ends the command with 1"
        ));
    }
    match (code, status.parse()) {
        (Some(code), Ok(status)) => Ok(ExitOn { code, status }),
        _ => {
            Err("write a code from 1000 to 4999, and a status up to 255, such as 4401=10"
                .to_owned())
        }
    }
}

/// Returns `Ok` if the server closed the connection with a normal code, or with one that `exit_on` says is.
///
/// # Errors
///
/// Otherwise, with the server's code and reason if it sent any.
pub(super) fn judge(
    cause: Option<DisconnectCause>,
    close: &CloseHandshake,
    close_timeout: Duration,
    exit_on: &[ExitOn],
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
        (_, Some(received)) => judge_close(received, exit_on),
        (Some(DisconnectCause::TimedOut), None) if close.sent.is_some() => Err(format!(
            "the server did not answer CLOSE within {close_timeout:?}: a longer --close-timeout \
             waits for a slow one"
        )
        .into()),
        (Some(cause), None) => Err(cause.into()),
        (None, None) => Ok(()),
    }
}

fn judge_close(received: &CloseFrame, exit_on: &[ExitOn]) -> Result<(), Fault> {
    let number = received.code().map_or(NO_CODE, CloseCode::get);
    let reason = received.reason();
    let reason = if reason.is_empty() { String::new() } else { format!(" {reason:?}") };
    let text = format!("the server closed the connection with {number}{reason}");
    let named = exit_on.iter().find(|it| it.code == number);
    match (named.map(|it| it.status), received.code()) {
        (Some(0), _) | (None, None | Some(CloseCode::NORMAL | CloseCode::GOING_AWAY)) => Ok(()),
        (Some(status), _) => Err(Status { status, text }.into()),
        (None, Some(_)) => Err(text.into()),
    }
}

/// Stands for a CLOSE without a code (RFC 6455 §7.1.5).
const NO_CODE: u16 = 1005;

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
            let judged = judge(Some(cause.clone()), &close, Duration::from_secs(5), &[]);
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
    fn a_code_that_is_named_has_its_status() {
        let exit_on = ["4401=10", "4000", "1005=4", "1001=3"].map(|text| exit_on(text).unwrap());
        let status = |code: u16| {
            let frame = match code {
                NO_CODE => CloseFrame::empty(),
                _ => CloseFrame::new(CloseCode::new(code).unwrap(), "why"),
            };
            match judge_close(&frame, &exit_on) {
                Ok(()) => 0,
                Err(fault) => {
                    assert!(fault.to_string().contains(&code.to_string()), "{fault}");
                    fault.downcast_ref::<Status>().map_or(1, |it| it.status)
                }
            }
        };
        for (code, wanted) in [(4401, 10), (4000, 0), (NO_CODE, 4), (1001, 3), (1000, 0), (1008, 1)]
        {
            assert_eq!(status(code), wanted, "{code}");
        }
        for text in ["", "999", "5000", "4401=", "4401=256", "4401=-1", "x=1", "4401:1"] {
            let error = super::exit_on(text).unwrap_err();
            assert!(error.contains("such as 4401=10"), "{text}: {error}");
        }
        // Reserved for what no peer sends (RFC 6455 §7.4.1), or for later versions.
        for text in ["1004", "1006=10", "1015=1", "2000"] {
            let error = super::exit_on(text).unwrap_err();
            assert!(error.contains("no CLOSE has the code"), "{text}: {error}");
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

//! The close handshake and the end (RFC 6455 §5.5.1, §7).

use super::*;
use crate::close::CloseCode;
use crate::conversation::{Phase, Step};

fn close(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes()[..], reason.as_bytes()].concat()
}

fn rules() -> Rules {
    Rules::default()
}

/// §5.5.1: the body of a CLOSE MUST begin with a code of two bytes, or be empty
#[test]
fn half_a_code_fails_rfc6455_5_5_1() {
    for role in ROLES {
        let bytes = frame(role, CLOSE, b"\x03");
        assert_fails(role, &rules(), &bytes, PeerMisbehaved::TruncatedCloseCode);
    }
}

/// §5.5.1: the reason of a CLOSE MUST be UTF-8
#[test]
fn a_reason_that_is_no_text_fails_rfc6455_5_5_1() {
    for role in ROLES {
        let bytes = frame(role, CLOSE, b"\x03\xe8\xff");
        assert_fails(role, &rules(), &bytes, PeerMisbehaved::InvalidCloseReason);
    }
}

/// §5.5.1: an endpoint MUST NOT send any more data frames after it sent a CLOSE
#[test]
fn nothing_follows_our_close_rfc6455_5_5_1() {
    for role in ROLES {
        let mut pair = Pair::open(Delivery::Whole);
        let sender = &mut pair.end_mut(role).sender();
        sender.send_close_with(CloseCode::NORMAL, "");
        sender.send_text("late");
        sender.send_frame(FrameHead::new(MsgType::Ping), b"late");
        sender.send_close_with(CloseCode::GOING_AWAY, "late");
        pair.deliver();
        let heard = pair.end(other(role)).frames();
        assert_eq!(heard, [(MsgType::Close, true, &b"\x03\xe8"[..])]);
    }
}

/// §5.5.1: an endpoint that receives a CLOSE and has sent none MUST send one in response
#[test]
fn a_close_is_answered_rfc6455_5_5_1() {
    for role in ROLES {
        for payload in [vec![], close(1000, ""), close(4999, "reason")] {
            let pair = hear(role, &rules(), &frame(role, CLOSE, &payload));
            let answers = pair.end(other(role)).frames();
            assert_eq!(answers, [(MsgType::Close, true, &payload[..])]);
        }
    }
}

/// §5.5.1: after a CLOSE was sent and one received, the TCP connection MUST be closed
#[test]
fn the_stream_is_closed_after_both_closes_rfc6455_5_5_1() {
    for role in ROLES {
        let mut pair = Pair::open(Delivery::Whole);
        pair.end_mut(role).sender().send_close_with(CloseCode::NORMAL, "");
        pair.deliver();
        for end in ROLES.map(|role| pair.end(role)) {
            assert_eq!((end.phase(), end.step()), (Phase::Ended, Step::Close));
        }
    }
}

/// §5.5.1: the server MUST close the TCP connection immediately, and the client SHOULD wait for that
#[test]
fn the_server_ends_the_stream_first_rfc6455_5_5_1() {
    for role in ROLES {
        let mut pair = Pair::open(Delivery::Whole);
        let mut bytes = Vec::new();
        pair.end_mut(other(role)).sender().send_close_with(CloseCode::NORMAL, "");
        bytes.append(&mut pair.said_by(other(role)));
        match role {
            Role::Server => pair.deliver_to_server(&bytes),
            Role::Client => pair.deliver_to_client(&bytes),
        }
        let is_server = role == Role::Server;
        let phase = if is_server { Phase::Lingering } else { Phase::Finishing };
        // Lingering: its side of the stream is shut.
        pair.said_by(role);
        assert_eq!((pair.end(role).phase(), pair.end(role).step()), (phase, Step::Linger));
    }
}

/// §5.5.1: if both send a CLOSE at the same time, the connection MUST be closed, without a second one
#[test]
fn closes_that_cross_end_it_rfc6455_5_5_1() {
    let pair = at_every_split(|delivery| {
        let mut pair = Pair::open(delivery);
        for role in ROLES {
            pair.end_mut(role).sender().send_close_with(CloseCode::NORMAL, "");
        }
        pair.deliver();
        pair
    });
    for role in ROLES {
        assert_eq!((pair.end(role).phase(), pair.end(role).frames().len()), (Phase::Ended, 1));
    }
}

/// §7.1.5: the close code is that of the first CLOSE that was received; without one it MUST be none (1005, 1006)
#[test]
fn the_code_is_that_of_the_first_close_rfc6455_7_1_5() {
    for role in ROLES {
        let received = |bytes: &[u8]| {
            let pair = hear(role, &rules(), bytes);
            pair.end(role).close_handshake().and_then(|close| close.received.clone())
        };
        let first = frame(role, CLOSE, &close(4321, "first"));
        let twice = [&first[..], &frame(role, CLOSE, &close(1000, "second"))].concat();
        let code = CloseCode::new(4321).unwrap();
        assert_eq!(received(&twice), Some(CloseFrame::new(code, "first")));
        assert_eq!(received(&frame(role, CLOSE, b"")), Some(CloseFrame::empty()));
        assert_eq!(received(&frame(role, TEXT, b"")), None);
    }
}

/// §7.1.7: who fails the connection SHOULD send a CLOSE that says why
#[test]
fn a_failure_says_why_rfc6455_7_1_7() {
    for role in ROLES {
        let bytes = frame(role, 0x83, b"");
        // Checks the code and the reason that the peer hears.
        assert_fails(role, &rules(), &bytes, PeerMisbehaved::UnknownOpcode(3));
    }
}

/// §7.1.7: after it failed the connection, an endpoint MUST NOT process data any more, nor answer CLOSE
#[test]
fn nothing_is_processed_after_a_failure_rfc6455_7_1_7() {
    for role in ROLES {
        let behind = [
            frame(role, PING, b"late"),
            frame(role, TEXT, b"late"),
            frame(role, CLOSE, &close(1000, "late")),
        ];
        let bytes = [frame(role, 0x83, b""), behind.concat()].concat();
        let pair = assert_fails(role, &rules(), &bytes, PeerMisbehaved::UnknownOpcode(3));
        assert!(pair.end(role).frames().is_empty());
        assert_eq!(pair.end(other(role)).frames().len(), 1, "one CLOSE and no PONG");
        assert_eq!(pair.end(role).close_handshake().unwrap().received, None);
    }
}

/// §7.2.1: a connection whose transport is lost MUST be failed
#[test]
fn the_end_of_the_stream_is_the_end_rfc6455_7_2_1() {
    for role in ROLES {
        let mut pair = Pair::open(Delivery::Whole);
        pair.end_mut(other(role)).sender().abort();
        pair.deliver();
        assert_eq!(pair.end(role).events(), [Event::Connected, Event::Disconnected]);
        assert_eq!(pair.end(role).close_handshake(), None, "1006: no CLOSE was received");
    }
}

/// §7.3: an unclean close MUST end, too: no end waits for ever
#[test]
fn an_unanswered_close_ends_rfc6455_7_3() {
    for role in ROLES {
        let mut pair = Pair::open(Delivery::Whole);
        pair.end_mut(role).sender().send_close_with(CloseCode::NORMAL, "");
        pair.said_by(role); // Lost.
        pair.advance(rules().conversation.close_timeout);
        assert_eq!(pair.end(role).phase(), Phase::Ended);
    }
}

/// §7.4.1: 1005, 1006 and 1015 MUST NOT be set as a status code in a CLOSE, received or sent
#[test]
fn codes_that_mean_nothing_was_received_fail_rfc6455_7_4_1() {
    for code in [1005, 1006, 1015] {
        for role in ROLES {
            let bytes = frame(role, CLOSE, &close(code, ""));
            assert_fails(role, &rules(), &bytes, PeerMisbehaved::InvalidCloseCode(code));
        }
        assert_eq!(CloseCode::new(code), None, "it cannot be sent");
    }
}

/// §7.4.2: codes that are not used or reserved MUST NOT be sent; 3000–4999 are free
#[test]
fn codes_of_no_range_fail_rfc6455_7_4_2() {
    for role in ROLES {
        for code in [0, 999, 1004, 1016, 2999, 5000, 65_535] {
            let bytes = frame(role, CLOSE, &close(code, ""));
            assert_fails(role, &rules(), &bytes, PeerMisbehaved::InvalidCloseCode(code));
            assert_eq!(CloseCode::new(code), None, "it cannot be sent");
        }
        for code in [1000, 1001, 1002, 1003, 1007, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999] {
            let pair = hear(role, &rules(), &frame(role, CLOSE, &close(code, "")));
            assert_eq!(pair.end(role).frames().len(), 1, "{code}");
        }
    }
}

//! Conversations while the connection is open, and how a broken one is broken off.

use super::*;
use crate::close::{CloseCode, CloseHandshake};
use crate::conversation::Phase;
use crate::encode::FrameHead;
use crate::endpoint::Outgoing;
use crate::error::PeerMisbehaved;
use crate::frame::{Frame, MsgType};

/// A listener that sends back what it gets, frame by frame.
fn echo(sender: &mut Outgoing, frame: &Frame<'_>) {
    if !frame.msg_type().is_control() {
        let head = FrameHead::new(frame.msg_type()).with_fin(frame.fin());
        sender.send_frame(head, frame.payload());
    }
}

#[test]
fn texts_are_echoed() {
    let pair = at_every_split(|delivery| {
        let mut pair = Pair::open(delivery);
        pair.server.on_frame(echo);
        pair.client.sender().send_text("ABCD");
        pair.client.sender().send_text("");
        pair.client.sender().send_text("ПРИВЕТ 🦀");
        pair.deliver();
        pair.client.sender().send_text("and again");
        pair.deliver();
        pair
    });
    assert_eq!(pair.server.texts(), ["ABCD", "", "ПРИВЕТ 🦀", "and again"]);
    assert_eq!(pair.client.texts(), pair.server.texts());
    assert_eq!([pair.client.phase(), pair.server.phase()], [Phase::Open; 2]);
}

#[test]
fn each_length_form_crosses_both_ways_rfc6455_5_2() {
    let payloads = [125, 126, 127, 0xFFFF, 0x1_0000].map(|len| vec![0xC3; len]);
    // Whole and some cuts: every cut of so many bytes would take its time.
    let splits = [1, 3, 130, 131, 135, 260, 400, 405, 50_000, 66_000, 131_000];
    for delivery in [Delivery::Whole].into_iter().chain(splits.map(Delivery::SplitAt)) {
        let mut pair = Pair::open(delivery);
        pair.server.on_frame(echo);
        for payload in &payloads {
            pair.client.sender().send_frame(FrameHead::new(MsgType::Binary), payload);
        }
        pair.deliver();
        for end in [&pair.client, &pair.server] {
            let got = end.frames();
            assert_eq!(got.len(), payloads.len(), "{delivery:?}");
            assert!(got.iter().zip(&payloads).all(|((.., got), sent)| got == sent));
        }
    }
}

#[test]
fn fragments_and_the_control_frames_between_them_keep_their_order_rfc6455_5_4() {
    let pair = at_every_split(|delivery| {
        let mut pair = Pair::open(delivery);
        pair.server.on_frame(echo);
        let client = &mut pair.client.sender();
        client.send_frame(FrameHead::new(MsgType::Text).with_fin(false), b"Hel");
        client.send_frame(FrameHead::new(MsgType::Ping), b"in between");
        client.send_frame(FrameHead::new(MsgType::Continuation).with_fin(false), b"");
        client.send_frame(FrameHead::new(MsgType::Pong), b"unasked");
        client.send_frame(FrameHead::new(MsgType::Continuation), b"lo");
        client.send_frame(FrameHead::new(MsgType::Binary), b"\xff\x00");
        pair.deliver();
        pair
    });
    // The ping was answered and not delivered.
    assert_eq!(
        pair.server.frames(),
        [
            (MsgType::Text, false, &b"Hel"[..]),
            (MsgType::Continuation, false, b""),
            (MsgType::Pong, true, b"unasked"),
            (MsgType::Continuation, true, b"lo"),
            (MsgType::Binary, true, b"\xff\x00"),
        ]
    );
    assert_eq!(
        pair.client.frames(),
        [
            (MsgType::Text, false, &b"Hel"[..]),
            (MsgType::Pong, true, b"in between"),
            (MsgType::Continuation, false, b""),
            (MsgType::Continuation, true, b"lo"),
            (MsgType::Binary, true, b"\xff\x00"),
        ]
    );
}

#[test]
fn pings_are_answered_by_both_ends_rfc6455_5_5_2() {
    let pair = at_every_split(|delivery| {
        let mut pair = Pair::open(delivery);
        pair.client.sender().send_frame(FrameHead::new(MsgType::Ping), "ПРИВЕТ".as_bytes());
        pair.server.sender().send_frame(FrameHead::new(MsgType::Ping), &[7; 125]);
        pair.deliver();
        pair
    });
    let answer = "ПРИВЕТ".as_bytes();
    assert_eq!(pair.client.frames(), [(MsgType::Pong, true, answer)]);
    assert_eq!(pair.server.frames(), [(MsgType::Pong, true, &[7; 125][..])]);
}

#[test]
fn pings_are_delivered_to_a_listener_that_wants_them() {
    let pair = at_every_split(|delivery| {
        let mut rules = Rules::default();
        rules.conversation.auto_pong = false;
        let mut pair = Pair::open_with(delivery, &rules);
        pair.client.sender().send_frame(FrameHead::new(MsgType::Ping), b"x");
        pair.deliver();
        pair
    });
    assert_eq!(pair.server.frames(), [(MsgType::Ping, true, &b"x"[..])]);
    assert_eq!(pair.client.frames(), []);
}

#[test]
fn a_ping_that_comes_after_our_close_is_not_answered() {
    let pair = at_every_split(|delivery| {
        let mut pair = Pair::open(delivery);
        pair.client.sender().send_close_with(CloseCode::NORMAL, "");
        pair.server.sender().send_frame(FrameHead::new(MsgType::Ping), b"still there?");
        pair.server.sender().send_text("late");
        pair.deliver();
        pair
    });
    assert_eq!(pair.client.texts(), ["late"]);
    assert_eq!(pair.server.frames().len(), 1, "CLOSE and no PONG");
}

/// Lets one end say something broken between two texts.
fn break_the_rules(by: Role, rules: &Rules, broken: &[u8]) -> Pair {
    at_every_split(|delivery| {
        let mut pair = Pair::open_with(delivery, rules);
        pair.client.on_frame(echo);
        let (speaker, hearer) = match by {
            Role::Client => (&mut pair.client, &mut pair.server),
            Role::Server => (&mut pair.server, &mut pair.client),
        };
        hearer.on_frame(echo);
        speaker.on_frame(|_, _| {});
        speaker.sender().send_text("before");
        speaker.sender().append_raw(broken);
        speaker.sender().send_text("after");
        pair.deliver();
        pair
    })
}

/// Checks that a violation was delivered after what came before it, told to the one who did it,
/// and ended the connection.
fn assert_broken_off(by: Role, rules: &Rules, broken: &[u8], error: PeerMisbehaved) {
    let pair = break_the_rules(by, rules, broken);
    let (speaker, hearer) = match by {
        Role::Client => (&pair.client, &pair.server),
        Role::Server => (&pair.server, &pair.client),
    };
    let before = Event::Frame { msg_type: MsgType::Text, fin: true, payload: b"before".to_vec() };
    let events = [Event::Connected, before, Event::PeerMisbehaved(error), Event::Disconnected];
    assert_eq!(hearer.events(), events);
    let owed = CloseFrame::new(error.close_code(), &error.to_string());
    let told = CloseHandshake { sent: Some(owed.clone()), ..CloseHandshake::default() };
    assert_eq!(hearer.close_handshake(), Some(&told));
    assert_eq!(speaker.texts(), ["before"], "the echo comes before the CLOSE");
    let heard = speaker.close_handshake().unwrap();
    assert_eq!((heard.received.as_ref(), heard.received_first), (Some(&owed), true));
    assert_eq!([speaker.phase(), hearer.phase()], [Phase::Ended; 2]);
}

#[test]
fn a_client_that_misbehaves_gets_the_reason_rfc6455_7_1_7() {
    let mut rules = Rules::default();
    rules.frames.validate_text = true;
    rules.frames.payload_bytes_max = 64 * 1024;
    let frame = |msg_type, payload: &[u8]| {
        let mut bytes = Vec::new();
        FrameHead::new(msg_type).append(&mut bytes, payload, Some([1, 2, 3, 4]));
        bytes
    };
    for (broken, error) in [
        (b"\x81\x03abc".to_vec(), PeerMisbehaved::UnmaskedFrame),
        (b"\x84\x80\x01\x02\x03\x04".to_vec(), PeerMisbehaved::UnknownOpcode(4)),
        (b"\xc1\x80\x01\x02\x03\x04".to_vec(), PeerMisbehaved::UnexpectedRsv),
        (b"\x82\xfe\x00\x7d".to_vec(), PeerMisbehaved::NonMinimalLength16),
        (b"\x82\xff\0\0\0\0\0\0\xff\xff".to_vec(), PeerMisbehaved::NonMinimalLength64),
        (b"\x82\xff\x80\0\0\0\0\0\0\0".to_vec(), PeerMisbehaved::LengthOverflow),
        (b"\x82\xff\0\0\0\0\0\x02\0\0".to_vec(), PeerMisbehaved::FrameTooLarge),
        (frame(MsgType::Continuation, b""), PeerMisbehaved::UnexpectedContinuation),
        (frame(MsgType::Text, b"\xff"), PeerMisbehaved::InvalidUtf8),
        (frame(MsgType::Close, b"\x03"), PeerMisbehaved::TruncatedCloseCode),
        (frame(MsgType::Close, b"\x03\xee"), PeerMisbehaved::InvalidCloseCode(1006)),
        (frame(MsgType::Close, b"\x03\xe8\xff"), PeerMisbehaved::InvalidCloseReason),
    ] {
        assert_broken_off(Role::Client, &rules, &broken, error);
    }
}

#[test]
fn a_server_that_misbehaves_gets_the_reason_rfc6455_7_1_7() {
    let rules = Rules::default();
    let masked = b"\x81\x81\x01\x02\x03\x04x";
    assert_broken_off(Role::Server, &rules, masked, PeerMisbehaved::MaskedFrame);
    let too_long = b"\x82\x7f\0\0\0\0\x01\0\0\0";
    assert_broken_off(Role::Server, &rules, too_long, PeerMisbehaved::FrameTooLarge);
}

//! Ends of connections (RFC 6455 §7), from each side and in each way.

use super::*;
use crate::close::{CloseCode, CloseHandshake};
use crate::conversation::{Phase, Step};
use crate::encode::FrameHead;
use crate::frame::MsgType;

const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
const NANO: Duration = Duration::from_nanos(1);

fn normal() -> CloseFrame {
    CloseFrame::new(CloseCode::NORMAL, "client says bye")
}

fn going() -> CloseFrame {
    CloseFrame::new(CloseCode::GOING_AWAY, "server shutdown")
}

fn record(
    sent: Option<CloseFrame>,
    received: Option<CloseFrame>,
    received_first: bool,
) -> CloseHandshake {
    CloseHandshake { sent, received, received_first }
}

/// Both ends are through, and told so once.
fn assert_ended(pair: &Pair) {
    for end in [&pair.client, &pair.server] {
        assert_eq!(end.phase(), Phase::Ended);
        let ends = end.events().iter().filter(|event| **event == Event::Disconnected);
        assert_eq!(ends.count(), 1);
        assert_eq!(end.events().last(), Some(&Event::Disconnected));
    }
}

#[test]
fn a_close_by_the_client_is_answered_alike_rfc6455_7_1_2() {
    let pair = at_every_split(|delivery| {
        let mut pair = Pair::open(delivery);
        pair.client.sender().send_text("one");
        pair.client.sender().send_close_frame(&normal());
        pair.client.sender().send_text("never sent");
        pair.client.sender().send_close_frame(&going());
        pair.deliver();
        pair
    });
    assert_ended(&pair);
    assert_eq!(pair.server.texts(), ["one"]);
    let by_us = record(Some(normal()), Some(normal()), false);
    assert_eq!(pair.client.close_handshake(), Some(&by_us));
    let by_them = record(Some(normal()), Some(normal()), true);
    assert_eq!(pair.server.close_handshake(), Some(&by_them));
}

#[test]
fn a_close_by_the_server_is_answered_alike_rfc6455_7_1_2() {
    let pair = at_every_split(|delivery| {
        let mut pair = Pair::open(delivery);
        pair.server.sender().send_close_frame(&going());
        pair.deliver();
        pair
    });
    assert_ended(&pair);
    let by_us = record(Some(going()), Some(going()), false);
    assert_eq!(pair.server.close_handshake(), Some(&by_us));
    let by_them = record(Some(going()), Some(going()), true);
    assert_eq!(pair.client.close_handshake(), Some(&by_them));
}

#[test]
fn an_empty_close_is_answered_with_an_empty_one_rfc6455_5_5_1() {
    for by in [Role::Client, Role::Server] {
        let pair = at_every_split(|delivery| {
            let mut pair = Pair::open(delivery);
            let initiator = if by == Role::Client { &mut pair.client } else { &mut pair.server };
            initiator.sender().send_close_frame(&CloseFrame::empty());
            pair.deliver();
            pair
        });
        assert_ended(&pair);
        for end in [&pair.client, &pair.server] {
            assert_eq!(end.frames().last(), Some(&(MsgType::Close, true, &b""[..])));
            let close = end.close_handshake().unwrap();
            assert_eq!([&close.sent, &close.received], [&Some(CloseFrame::empty()); 2]);
        }
    }
}

#[test]
fn two_closes_that_cross_are_both_the_first_and_each_others_answer_rfc6455_7_1_3() {
    let pair = at_every_split(|delivery| {
        let mut pair = Pair::open(delivery);
        pair.client.sender().send_close_frame(&normal());
        pair.server.sender().send_close_frame(&going());
        pair.deliver();
        pair
    });
    assert_ended(&pair);
    let of_client = record(Some(normal()), Some(going()), false);
    assert_eq!(pair.client.close_handshake(), Some(&of_client));
    let of_server = record(Some(going()), Some(normal()), false);
    assert_eq!(pair.server.close_handshake(), Some(&of_server));
    // One frame each.
    assert_eq!([pair.client.frames().len(), pair.server.frames().len()], [1, 1]);
}

#[test]
fn the_server_ends_the_stream_first_rfc6455_7_1_1() {
    let mut pair = Pair::open(Delivery::Whole);
    pair.client.sender().send_close_frame(&normal());
    let close = pair.client.take_wire();
    pair.deliver_to_server(&close);
    assert_eq!(pair.server.phase(), Phase::Lingering, "it said CLOSE and shut its side");
    let answer = pair.server.take_wire();
    pair.deliver_to_client(&answer);
    assert_eq!(pair.client.phase(), Phase::Finishing);
    assert_eq!(pair.client.step(), Step::Linger, "it waits for the server's end");
    pair.deliver();
    assert_ended(&pair);
}

#[test]
fn a_client_gives_up_waiting_for_the_servers_end() {
    let mut pair = Pair::open(Delivery::Whole);
    let mut close = Vec::new();
    normal().append(&mut close, None);
    pair.deliver_to_client(&close);
    assert_eq!(pair.client.step(), Step::Linger);
    pair.advance(CLOSE_TIMEOUT - NANO);
    assert_eq!(pair.client.phase(), Phase::Finishing);
    pair.advance(NANO);
    assert_eq!(pair.client.phase(), Phase::Ended);
}

#[test]
fn a_listener_may_have_the_last_word_before_its_close() {
    let pair = at_every_split(|delivery| {
        let mut pair = Pair::open(delivery);
        pair.server.on_frame(|sender, frame| {
            if frame.msg_type() == MsgType::Close {
                sender.send_text("last words");
            }
        });
        pair.client.sender().send_close_frame(&normal());
        pair.deliver();
        pair
    });
    assert_ended(&pair);
    assert_eq!(pair.client.texts(), ["last words"]);
    assert_eq!(pair.client.frames().last().map(|frame| frame.0), Some(MsgType::Close));
}

#[test]
fn a_listener_may_answer_close_with_a_code_of_its_own() {
    let pair = at_every_split(|delivery| {
        let mut pair = Pair::open(delivery);
        pair.server.on_frame(|sender, frame| {
            if frame.msg_type() == MsgType::Close {
                sender.send_close_with(CloseCode::TRY_AGAIN_LATER, "me too");
            }
        });
        pair.client.sender().send_close_frame(&normal());
        pair.deliver();
        pair
    });
    assert_ended(&pair);
    let answer = CloseFrame::new(CloseCode::TRY_AGAIN_LATER, "me too");
    let of_client = record(Some(normal()), Some(answer.clone()), false);
    assert_eq!(pair.client.close_handshake(), Some(&of_client));
    let of_server = record(Some(answer), Some(normal()), true);
    assert_eq!(pair.server.close_handshake(), Some(&of_server));
    assert_eq!(pair.client.frames().len(), 1, "one CLOSE only");
}

#[test]
fn a_disconnect_instead_of_an_answer_leaves_half_a_handshake() {
    for by in [Role::Client, Role::Server] {
        let pair = at_every_split(|delivery| {
            let mut pair = Pair::open(delivery);
            let (initiator, other) = match by {
                Role::Client => (&mut pair.client, &mut pair.server),
                Role::Server => (&mut pair.server, &mut pair.client),
            };
            other.on_frame(|sender, _| sender.finish());
            initiator.sender().send_close_frame(&normal());
            pair.deliver();
            pair
        });
        assert_ended(&pair);
        let (initiator, other) = match by {
            Role::Client => (&pair.client, &pair.server),
            Role::Server => (&pair.server, &pair.client),
        };
        let unanswered = record(Some(normal()), None, false);
        assert_eq!(initiator.close_handshake(), Some(&unanswered));
        let not_answered = record(None, Some(normal()), true);
        assert_eq!(other.close_handshake(), Some(&not_answered));
    }
}

#[test]
fn without_auto_close_the_application_answers_and_disconnects() {
    let pair = at_every_split(|delivery| {
        let mut rules = Rules::default();
        rules.conversation.auto_close = false;
        let mut pair = Pair::open_with(delivery, &rules);
        pair.client.sender().send_close_frame(&normal());
        pair.deliver();
        assert_eq!([pair.client.phase(), pair.server.phase()], [Phase::Open; 2]);
        pair.server.sender().send_text("not yet");
        pair.server.sender().send_close_frame(&going());
        pair.deliver();
        pair.advance(10 * CLOSE_TIMEOUT);
        assert_eq!([pair.client.phase(), pair.server.phase()], [Phase::Open; 2]);
        pair.server.sender().finish();
        pair.deliver();
        pair
    });
    assert_ended(&pair);
    assert_eq!(pair.client.texts(), ["not yet"]);
    let of_server = record(Some(going()), Some(normal()), true);
    assert_eq!(pair.server.close_handshake(), Some(&of_server));
}

#[test]
fn an_unanswered_close_ends_at_the_timeout() {
    for by in [Role::Client, Role::Server] {
        let mut pair = Pair::open(Delivery::Whole);
        pair.advance(3 * CLOSE_TIMEOUT);
        let initiator = if by == Role::Client { &mut pair.client } else { &mut pair.server };
        initiator.sender().send_close_frame(&normal());
        initiator.take_wire(); // Lost.
        pair.advance(CLOSE_TIMEOUT - NANO);
        assert_eq!([pair.client.phase(), pair.server.phase()], [Phase::Open; 2]);
        pair.advance(NANO);
        let (initiator, other) = match by {
            Role::Client => (&pair.client, &pair.server),
            Role::Server => (&pair.server, &pair.client),
        };
        assert_eq!((initiator.phase(), other.phase()), (Phase::Ended, Phase::Open));
        assert_eq!(initiator.events().last(), Some(&Event::Disconnected));
        // The end of the stream reaches the other side.
        pair.deliver();
        assert_ended(&pair);
    }
}

#[test]
fn frames_after_close_are_ignored_rfc6455_1_4() {
    let pair = at_every_split(|delivery| {
        let mut pair = Pair::open(delivery);
        let mut bytes = Vec::new();
        normal().append(&mut bytes, Some([1, 2, 3, 4]));
        FrameHead::new(MsgType::Text).append(&mut bytes, b"late", Some([5, 6, 7, 8]));
        bytes.extend_from_slice(b"\xff\xff not even a frame");
        pair.client.sender().append_raw(&bytes);
        pair.deliver();
        pair
    });
    assert_eq!(pair.server.frames(), [(MsgType::Close, true, &b"\x03\xe8client says bye"[..])]);
    let answered = record(Some(normal()), Some(normal()), true);
    assert_eq!(pair.server.close_handshake(), Some(&answered));
}

#[test]
fn a_peer_that_goes_without_a_word_is_a_disconnect_and_no_more() {
    for by in [Role::Client, Role::Server] {
        let pair = at_every_split(|delivery| {
            let mut pair = Pair::open(delivery);
            let goer = if by == Role::Client { &mut pair.client } else { &mut pair.server };
            goer.sender().append_raw(b"\x82"); // Half a header.
            pair.deliver();
            let goer = if by == Role::Client { &mut pair.client } else { &mut pair.server };
            goer.sender().abort();
            pair.deliver();
            pair
        });
        assert_ended(&pair);
        for end in [&pair.client, &pair.server] {
            assert_eq!(end.events(), [Event::Connected, Event::Disconnected]);
            assert_eq!(end.close_handshake(), None);
        }
    }
}

#[test]
fn what_is_queued_goes_out_before_the_server_ends_the_stream() {
    let pair = at_every_split(|delivery| {
        let mut pair = Pair::open(delivery);
        pair.server.block(true);
        pair.server.sender().send_text("queued");
        pair.server.sender().finish();
        pair.server.sender().send_text("too late");
        pair.deliver();
        assert_eq!((pair.server.phase(), pair.server.step()), (Phase::Finishing, Step::Flush));
        assert!(pair.client.texts().is_empty());
        pair.advance(CLOSE_TIMEOUT - NANO);
        pair.server.block(false);
        let last_words = pair.server.take_wire();
        assert_eq!((pair.server.phase(), pair.server.step()), (Phase::Lingering, Step::Linger));
        pair.deliver_to_client(&last_words);
        pair.deliver();
        pair
    });
    assert_eq!(pair.client.texts(), ["queued"]);
    assert_ended(&pair);
}

#[test]
fn a_peer_that_does_not_read_cannot_hold_a_finishing_server() {
    let mut pair = Pair::open(Delivery::Whole);
    pair.server.block(true);
    pair.server.sender().send_text("queued");
    pair.server.sender().finish();
    pair.advance(CLOSE_TIMEOUT);
    assert_eq!((pair.server.phase(), pair.server.step()), (Phase::Ended, Step::Close));
    pair.server.block(false);
    pair.deliver();
    assert!(pair.client.texts().is_empty(), "the queue was dropped");
    assert_ended(&pair);
}

#[test]
fn a_peer_that_does_not_end_its_stream_cannot_hold_a_lingering_server() {
    let mut pair = Pair::open(Delivery::Whole);
    pair.server.sender().finish();
    pair.server.take_wire();
    assert_eq!(pair.server.phase(), Phase::Lingering);
    let mut late = Vec::new();
    FrameHead::new(MsgType::Text).append(&mut late, b"late", Some([1, 2, 3, 4]));
    pair.deliver_to_server(&late);
    pair.advance(CLOSE_TIMEOUT - NANO);
    assert_eq!(pair.server.phase(), Phase::Lingering);
    pair.advance(NANO);
    assert_eq!(pair.server.events(), [Event::Connected, Event::Disconnected]);
}

#[test]
fn a_client_that_shuts_only_its_sending_side_still_gets_what_is_queued() {
    let mut pair = Pair::open(Delivery::Whole);
    pair.server.on_frame(|sender, frame| sender.send_text(frame.text().unwrap()));
    pair.server.block(true);
    pair.client.sender().send_text("one more");
    pair.client.sender().finish();
    pair.deliver();
    assert_eq!((pair.server.phase(), pair.server.step()), (Phase::Finishing, Step::Flush));
    pair.server.block(false);
    assert_eq!(pair.server.take_wire(), b"\x81\x08one more");
    pair.deliver();
    assert_ended(&pair);
}

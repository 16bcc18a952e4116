//! Conversations from the first byte of HTTP to the end.

use super::*;
use crate::close::CloseCode;
use crate::conversation::Phase;
use crate::encode::FrameHead;
use crate::frame::MsgType;

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
const NANO: Duration = Duration::from_nanos(1);

#[test]
fn from_the_request_to_the_end() {
    let pair = at_every_split(|delivery| {
        let mut pair = Pair::connecting(delivery, &Rules::default());
        pair.server.on_frame(|sender, frame| {
            if frame.msg_type() == MsgType::Text {
                sender.send_text(frame.text().unwrap());
            }
        });
        pair.client.on_connected(|sender| sender.send_text("hello"));
        pair.deliver();
        pair.client.sender().send_close_with(CloseCode::NORMAL, "bye");
        pair.deliver();
        pair
    });
    assert_eq!((pair.client.texts(), pair.server.texts()), (vec!["hello"], vec!["hello"]));
    for end in [&pair.client, &pair.server] {
        assert_eq!(end.phase(), Phase::Ended);
        assert_eq!(end.events().first(), Some(&Event::Connected));
        assert_eq!(end.events().last(), Some(&Event::Disconnected));
        assert!(end.close_handshake().unwrap().is_complete());
    }
}

#[test]
fn the_first_frames_may_come_with_request_and_answer() {
    let pair = at_every_split(|delivery| {
        let mut pair = Pair::connecting(delivery, &Rules::default());
        pair.server.on_connected(|sender| {
            sender.send_text("welcome");
            sender.send_frame(FrameHead::new(MsgType::Ping), b"at once");
        });
        // A client that does not wait for the answer.
        let mut frames = Vec::new();
        FrameHead::new(MsgType::Text).append(&mut frames, b"in a hurry", Some([1, 2, 3, 4]));
        FrameHead::new(MsgType::Text).append(&mut frames, b"", Some([5, 6, 7, 8]));
        pair.client.sender().append_raw(&frames);
        pair.deliver();
        pair
    });
    assert_eq!(pair.server.texts(), ["in a hurry", ""]);
    assert_eq!(pair.server.frames().last(), Some(&(MsgType::Pong, true, &b"at once"[..])));
    assert_eq!(pair.client.texts(), ["welcome"]);
    assert_eq!([pair.client.phase(), pair.server.phase()], [Phase::Open; 2]);
}

#[test]
fn a_close_may_come_with_the_answer() {
    let pair = at_every_split(|delivery| {
        let mut pair = Pair::connecting(delivery, &Rules::default());
        pair.server
            .on_connected(|sender| sender.send_close_with(CloseCode::TRY_AGAIN_LATER, "full"));
        pair.deliver();
        pair
    });
    let full = CloseFrame::new(CloseCode::TRY_AGAIN_LATER, "full");
    let close = pair.client.close_handshake().unwrap();
    assert_eq!((close.received.as_ref(), close.received_first), (Some(&full), true));
    assert_eq!([pair.client.phase(), pair.server.phase()], [Phase::Ended; 2]);
}

#[test]
fn a_request_that_is_none_is_answered_in_http_and_opens_no_connection() {
    let pair = at_every_split(|delivery| {
        let mut pair = Pair::connecting(delivery, &Rules::default());
        pair.client.take_wire(); // Lost; another peer writes to the server.
        pair.deliver_to_server(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n\x81\x80\0\0\0\0");
        assert_eq!(pair.server.phase(), Phase::Lingering, "the answer is out");
        pair.deliver();
        pair
    });
    let [Event::Refused(_)] = pair.server.events() else { panic!("{:?}", pair.server.events()) };
    let [Event::Refused(why)] = pair.client.events() else { panic!("{:?}", pair.client.events()) };
    assert!(why.contains("400"), "{why}");
    for end in [&pair.client, &pair.server] {
        assert_eq!((end.phase(), end.close_handshake()), (Phase::Ended, None));
    }
}

#[test]
fn a_slow_handshake_is_cut_at_its_deadline() {
    let mut pair = Pair::connecting(Delivery::Whole, &Rules::default());
    let request = pair.client.take_wire();
    let (front, back) = request.split_at(request.len() - 1);
    pair.deliver_to_server(front);
    pair.advance(HANDSHAKE_TIMEOUT - NANO);
    assert_eq!([pair.client.phase(), pair.server.phase()], [Phase::Handshake; 2]);
    pair.advance(NANO);
    assert_eq!([pair.client.phase(), pair.server.phase()], [Phase::Ended; 2]);
    pair.deliver_to_server(back);
    pair.deliver();
    assert_eq!((pair.client.events(), pair.server.events()), (&[][..], &[][..]));
}

#[test]
fn a_handshake_just_before_its_deadline_is_good() {
    let mut pair = Pair::connecting(Delivery::Whole, &Rules::default());
    pair.advance(HANDSHAKE_TIMEOUT - NANO);
    pair.deliver();
    pair.advance(10 * HANDSHAKE_TIMEOUT);
    assert_eq!([pair.client.phase(), pair.server.phase()], [Phase::Open; 2]);
}

#[test]
fn a_handshake_without_timeout_may_take_for_ever() {
    let mut rules = Rules::default();
    rules.conversation.handshake_timeout = None;
    let mut pair = Pair::connecting(Delivery::Whole, &rules);
    pair.advance(1000 * HANDSHAKE_TIMEOUT);
    pair.deliver();
    assert_eq!([pair.client.phase(), pair.server.phase()], [Phase::Open; 2]);
}

#[test]
fn the_end_of_the_stream_inside_the_handshake_is_the_end() {
    let mut pair = Pair::connecting(Delivery::Whole, &Rules::default());
    let request = pair.client.take_wire();
    pair.deliver_to_server(&request[..20]);
    pair.client.sender().abort();
    pair.deliver();
    assert_eq!([pair.client.phase(), pair.server.phase()], [Phase::Ended; 2]);
    assert_eq!((pair.client.events(), pair.server.events()), (&[][..], &[][..]));
}

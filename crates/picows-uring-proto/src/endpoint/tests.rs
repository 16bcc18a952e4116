//! The halves of an endpoint by themselves, and whole ones with a clock that the test moves.
//!
//! Whole conversations between two of them are in `testing/pair`.

mod liveness;
mod pieces;
mod receiver;
mod sender;

use super::*;
use crate::liveness::{AutoPing, AutoPingStrategy};

const START: Tick = Tick::from_nanos(3_000_000_000);
const SECOND: Duration = Duration::from_secs(1);
const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

fn shared(rules: EndpointRules) -> Arc<EndpointRules> {
    Arc::new(rules)
}

/// A server whose handshake is done.
fn open_server(rules: EndpointRules) -> Endpoint {
    let mut endpoint = Endpoint::server(&shared(rules), START);
    endpoint.opened(START);
    endpoint
}

/// A client whose handshake is done; its keys count up.
fn open_client(rules: EndpointRules) -> Endpoint {
    let mut key = u32::from_be_bytes(KEY);
    let next_key = move || {
        key += 1;
        (key - 1).to_be_bytes()
    };
    let mut endpoint = Endpoint::client(&shared(rules), START, next_key);
    endpoint.opened(START);
    endpoint
}

/// A frame of a client.
fn masked(msg_type: MsgType, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    FrameHead::new(msg_type).append(&mut bytes, payload, Some(KEY));
    bytes
}

/// A frame of a server.
fn plain(msg_type: MsgType, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    FrameHead::new(msg_type).append(&mut bytes, payload, None);
    bytes
}

/// Lets `input` arrive, and returns the frames that were delivered.
fn receive(endpoint: &mut Endpoint, now: Tick, input: &[u8]) -> Vec<(MsgType, Vec<u8>)> {
    let mut frames = Vec::new();
    let taken = endpoint.receive(now, &mut input.to_vec(), |_, frame| {
        frames.push((frame.msg_type(), frame.payload().to_vec()));
    });
    assert_eq!(taken, Ok(()));
    frames
}

/// Takes all that is to be sent.
fn take(endpoint: &mut Endpoint, now: Tick) -> Vec<u8> {
    let bytes = endpoint.outgoing().bytes().to_vec();
    endpoint.sent(now, bytes.len());
    bytes
}

#[test]
fn nothing_is_sent_or_received_before_the_handshake_is_done() {
    let mut endpoint = Endpoint::server(&shared(EndpointRules::default()), START);
    assert_eq!(endpoint.phase(), Phase::Handshake);
    assert_eq!(endpoint.poll_timeout(), Some(START + 5 * SECOND));
    let sent = endpoint.outgoing().send(FrameHead::new(MsgType::Text), b"early");
    assert_eq!(sent, Err(SendError::Closed));
    assert!(receive(&mut endpoint, START, &masked(MsgType::Text, b"early")).is_empty());
    endpoint.opened(START);
    assert_eq!((endpoint.phase(), endpoint.poll_timeout()), (Phase::Open, None));
    let frames = receive(&mut endpoint, START, &masked(MsgType::Text, b"now"));
    assert_eq!(frames, [(MsgType::Text, b"now".to_vec())]);
}

#[test]
fn a_handshake_that_takes_too_long_ends() {
    let mut endpoint = Endpoint::server(&shared(EndpointRules::default()), START);
    assert_eq!(endpoint.handle_timeout(START + 4 * SECOND), None);
    assert_eq!(endpoint.step(), Step::Continue);
    assert_eq!(endpoint.handle_timeout(START + 5 * SECOND), None);
    assert_eq!((endpoint.phase(), endpoint.step()), (Phase::Ended, Step::Close));
}

#[test]
fn http_goes_in_front_of_the_frames() {
    let mut endpoint = Endpoint::server(&shared(EndpointRules::default()), START);
    endpoint.outgoing().append_raw(b"HTTP/1.1 101\r\n\r\n");
    endpoint.opened(START);
    endpoint.outgoing().send(FrameHead::new(MsgType::Text), b"hi").unwrap();
    assert_eq!(endpoint.outgoing().bytes(), b"HTTP/1.1 101\r\n\r\n\x81\x02hi");
    endpoint.sent(START, 16);
    assert_eq!(endpoint.outgoing().bytes(), b"\x81\x02hi");
    endpoint.sent(START, 100);
    assert_eq!(endpoint.outgoing().bytes(), b"");
}

#[test]
fn the_application_may_answer_while_it_handles_a_frame() {
    let mut endpoint = open_server(EndpointRules::default());
    let mut input = [masked(MsgType::Text, b"one"), masked(MsgType::Binary, b"two")].concat();
    let echoed = endpoint.receive(START, &mut input, |outgoing, frame| {
        outgoing.send(FrameHead::new(frame.msg_type()), frame.payload()).unwrap();
    });
    assert_eq!(echoed, Ok(()));
    assert_eq!(endpoint.outgoing().bytes(), b"\x81\x03one\x82\x03two");
}

#[test]
fn a_ping_is_answered_and_not_delivered_unless_the_application_does_that_rfc6455_5_5_2() {
    let ping = masked(MsgType::Ping, b"here?");
    let mut endpoint = open_server(EndpointRules::default());
    assert!(receive(&mut endpoint, START, &ping).is_empty());
    assert_eq!(take(&mut endpoint, START), plain(MsgType::Pong, b"here?"));

    let mut rules = EndpointRules::default();
    rules.conversation.auto_pong = false;
    let mut endpoint = open_server(rules);
    assert_eq!(receive(&mut endpoint, START, &ping), [(MsgType::Ping, b"here?".to_vec())]);
    assert_eq!(take(&mut endpoint, START), b"");
}

#[test]
fn a_client_masks_each_frame_with_a_new_key_rfc6455_5_3() {
    let mut endpoint = open_client(EndpointRules::default());
    endpoint.outgoing().send(FrameHead::new(MsgType::Text), b"Hello").unwrap();
    assert!(endpoint.outgoing().send_close(CloseFrame::empty()));
    let expected = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58\x88\x80\x37\xfa\x21\x3e";
    assert_eq!(endpoint.outgoing().bytes(), expected); // RFC 6455 §5.7, and CLOSE.
}

#[test]
fn the_peers_close_is_answered_after_it_was_delivered() {
    let mut endpoint = open_server(EndpointRules::default());
    let mut input = [masked(MsgType::Close, b"\x03\xe8"), masked(MsgType::Text, b"late")].concat();
    let mut seen = Vec::new();
    let taken = endpoint.receive(START, &mut input, |outgoing, frame| {
        seen.push(frame.msg_type());
        outgoing.send(FrameHead::new(MsgType::Text), b"last words").unwrap();
    });
    assert_eq!((taken, seen), (Ok(()), vec![MsgType::Close]));
    assert_eq!(endpoint.step(), Step::Flush);
    assert_eq!(take(&mut endpoint, START), b"\x81\x0alast words\x88\x02\x03\xe8");
    assert_eq!(endpoint.step(), Step::ShutDown);
    endpoint.shut_down();
    assert_eq!((endpoint.phase(), endpoint.step()), (Phase::Lingering, Step::Linger));
    endpoint.end_of_stream(START);
    assert_eq!((endpoint.phase(), endpoint.step()), (Phase::Ended, Step::Close));
}

#[test]
fn a_close_of_ours_is_sent_once_and_has_a_deadline() {
    let mut endpoint = open_server(EndpointRules::default());
    assert!(endpoint.outgoing().send_close(CloseFrame::new(CloseCode::NORMAL, "")));
    assert!(!endpoint.outgoing().send_close(CloseFrame::empty()));
    assert_eq!(take(&mut endpoint, START), b"\x88\x02\x03\xe8");
    assert_eq!(endpoint.poll_timeout(), Some(START + 5 * SECOND));
    // A PING that crosses it is not answered: nothing may follow a CLOSE.
    assert!(receive(&mut endpoint, START, &masked(MsgType::Ping, b"")).is_empty());
    assert_eq!(take(&mut endpoint, START), b"");
    endpoint.handle_timeout(START + 5 * SECOND);
    assert_eq!(endpoint.phase(), Phase::Ended);
}

#[test]
fn a_peer_that_misbehaves_gets_the_close_code_for_it_rfc6455_7_1_7() {
    let mut endpoint = open_server(EndpointRules::default());
    let mut input = [masked(MsgType::Text, b"fine"), b"\x81\x00".to_vec()].concat();
    let mut delivered = 0;
    let error = endpoint.receive(START, &mut input, |_, _| delivered += 1);
    assert_eq!((error, delivered), (Err(PeerMisbehaved::UnmaskedFrame), 1));
    let close =
        CloseFrame::new(CloseCode::PROTOCOL_ERROR, &PeerMisbehaved::UnmaskedFrame.to_string());
    let mut expected = Vec::new();
    close.append(&mut expected, None);
    assert_eq!(take(&mut endpoint, START), expected);
    assert_eq!(endpoint.phase(), Phase::Finishing);
}

#[test]
fn an_end_of_the_application_lets_queued_bytes_go_first_and_an_abort_does_not() {
    let mut endpoint = open_server(EndpointRules::default());
    endpoint.outgoing().send(FrameHead::new(MsgType::Text), b"bye").unwrap();
    endpoint.outgoing().finish();
    assert_eq!((endpoint.phase(), endpoint.step()), (Phase::Finishing, Step::Flush));
    assert_eq!(endpoint.outgoing().phase(), Phase::Finishing);
    endpoint.outgoing().abort();
    assert_eq!((endpoint.phase(), endpoint.step()), (Phase::Ended, Step::Close));
    assert_eq!(endpoint.outgoing().bytes(), b"");

    let mut endpoint = open_server(EndpointRules::default());
    endpoint.outgoing().send(FrameHead::new(MsgType::Text), b"bye").unwrap();
    endpoint.end();
    assert_eq!((endpoint.phase(), endpoint.outgoing().bytes()), (Phase::Ended, &b""[..]));
}

#[test]
fn deadlines_of_the_conversation_begin_at_the_time_of_the_last_event() {
    let later = START + SECOND;
    let mut endpoint = open_server(EndpointRules::default());
    receive(&mut endpoint, later, b"");
    endpoint.outgoing().finish();
    assert_eq!(endpoint.poll_timeout(), Some(later + 5 * SECOND));
    let mut endpoint = open_server(EndpointRules::default());
    endpoint.sent(later, 0);
    endpoint.outgoing().finish();
    assert_eq!(endpoint.poll_timeout(), Some(later + 5 * SECOND));
    let mut endpoint = open_server(EndpointRules::default());
    endpoint.outgoing().send_close(CloseFrame::empty());
    endpoint.sent(later, 1);
    assert_eq!(endpoint.poll_timeout(), Some(START + 5 * SECOND), "a byte of it is still here");
    endpoint.sent(later, 1);
    assert_eq!(endpoint.poll_timeout(), Some(later + 5 * SECOND));
    let mut endpoint = open_server(EndpointRules::default());
    endpoint.end_of_stream(later);
    assert_eq!(endpoint.poll_timeout(), Some(later + 5 * SECOND));
}

#[test]
fn an_endpoint_between_two_frames_has_no_memory_of_them() {
    let mut endpoint = open_server(EndpointRules::default());
    let frame = masked(MsgType::Binary, &[7; 100]);
    assert!(receive(&mut endpoint, START, &frame[..50]).is_empty());
    assert!(endpoint.receiver().stash().capacity() > 0);
    assert_eq!(receive(&mut endpoint, START, &frame[50..]).len(), 1);
    assert_eq!(endpoint.receiver().stash().capacity(), 0);
}

#[test]
fn what_debug_shows_names_the_parts_and_no_payload() {
    let mut endpoint = open_server(EndpointRules::default());
    endpoint.outgoing().send(FrameHead::new(MsgType::Text), b"secret").unwrap();
    let text = format!("{endpoint:?}");
    assert!(text.starts_with("Endpoint") && text.contains("Outgoing") && !text.contains("secret"));
}

//! Automatic pings, idle timeout and lifetime of an endpoint.

use super::*;

fn watched() -> EndpointRules {
    let mut rules = EndpointRules::default();
    rules.liveness.auto_ping = Some(AutoPing::new(10 * SECOND, 5 * SECOND));
    rules
}

const FIRST_PING: [u8; 8] = 1_u64.to_be_bytes();
const IDLE: Tick = Tick::from_nanos(13_000_000_000);
const _: () = assert!(IDLE.as_nanos() == START.as_nanos() + 10_000_000_000);

#[test]
fn an_idle_peer_is_pinged_and_its_pong_is_not_delivered() {
    let mut endpoint = open_server(watched());
    assert_eq!(endpoint.poll_timeout(), Some(IDLE));
    assert_eq!(endpoint.handle_timeout(IDLE), Some(Verdict::Ping));
    assert_eq!(take(&mut endpoint, IDLE), plain(MsgType::Ping, &FIRST_PING));
    assert_eq!(endpoint.poll_timeout(), Some(IDLE + 5 * SECOND));
    assert_eq!(endpoint.handle_timeout(IDLE + 4 * SECOND), None);
    let pong = masked(MsgType::Pong, &FIRST_PING);
    assert!(receive(&mut endpoint, IDLE + SECOND, &pong).is_empty());
    assert_eq!(endpoint.poll_timeout(), Some(IDLE + 11 * SECOND));
    // It answers nothing any more: it is the application's.
    assert_eq!(receive(&mut endpoint, IDLE + SECOND, &pong).len(), 1);
    assert_eq!(endpoint.handle_timeout(IDLE + 11 * SECOND), Some(Verdict::Ping));
    assert_eq!(take(&mut endpoint, IDLE), plain(MsgType::Ping, &2_u64.to_be_bytes()));
}

#[test]
fn another_frame_is_no_answer_to_a_ping() {
    let mut endpoint = open_server(watched());
    endpoint.handle_timeout(IDLE);
    take(&mut endpoint, IDLE);
    for (msg_type, payload) in [(MsgType::Pong, &b"other"[..]), (MsgType::Binary, &FIRST_PING)] {
        let frames = receive(&mut endpoint, IDLE, &masked(msg_type, payload));
        assert_eq!(frames, [(msg_type, payload.to_vec())]);
    }
    assert_eq!(endpoint.handle_timeout(IDLE + 5 * SECOND), Some(Verdict::Silent));
}

#[test]
fn a_silent_peer_gets_a_close_and_a_moment() {
    let mut endpoint = open_server(watched());
    endpoint.handle_timeout(IDLE);
    take(&mut endpoint, IDLE);
    let late = IDLE + 5 * SECOND;
    assert_eq!(endpoint.handle_timeout(late), Some(Verdict::Silent));
    assert_eq!(endpoint.phase(), Phase::Finishing);
    let bytes = take(&mut endpoint, late);
    assert_eq!(bytes[..4], [0x88, 2 + 17, 0x03, 0xE9]);
    assert_eq!(bytes[4..], *b"no pong within 5s");
    assert_eq!(endpoint.poll_timeout(), Some(late + SILENT_LINGER));
    assert_eq!(endpoint.handle_timeout(late + SILENT_LINGER), None);
    assert_eq!(endpoint.phase(), Phase::Ended);
}

#[test]
fn the_time_for_a_pong_begins_when_the_ping_has_left() {
    let mut endpoint = open_server(watched());
    endpoint.outgoing().send(FrameHead::new(MsgType::Text), b"in front").unwrap();
    endpoint.handle_timeout(IDLE);
    let ahead = endpoint.outgoing().bytes().len();
    endpoint.sent(IDLE + 2 * SECOND, ahead - 1);
    endpoint.sent(IDLE + 3 * SECOND, 1);
    assert_eq!(endpoint.poll_timeout(), Some(IDLE + 8 * SECOND));
}

#[test]
fn received_bytes_put_a_ping_off_also_those_of_a_part_of_a_frame() {
    let mut endpoint = open_server(watched());
    receive(&mut endpoint, START + 4 * SECOND, &masked(MsgType::Binary, &[0; 10])[..3]);
    assert_eq!(endpoint.handle_timeout(IDLE), None);
    assert_eq!(endpoint.poll_timeout(), Some(START + 14 * SECOND));
}

#[test]
fn a_connection_whose_close_is_under_way_is_not_pinged() {
    let mut endpoint = open_server(watched());
    endpoint.outgoing().send_close(CloseFrame::empty());
    take(&mut endpoint, START);
    assert_eq!(endpoint.poll_timeout(), Some(START + 5 * SECOND));
    let mut rules = watched();
    rules.conversation.close_timeout = 60 * SECOND;
    let mut endpoint = open_server(rules);
    endpoint.outgoing().send_close(CloseFrame::empty());
    take(&mut endpoint, START);
    assert_eq!(endpoint.handle_timeout(IDLE), None);
    assert_eq!(take(&mut endpoint, IDLE), b"");
}

#[test]
fn a_ping_that_cannot_be_sent_is_not_waited_for() {
    let mut rules = watched();
    rules.conversation.auto_close = false;
    let mut endpoint = open_server(rules);
    endpoint.outgoing().send_close(CloseFrame::empty());
    take(&mut endpoint, START);
    assert_eq!(endpoint.handle_timeout(IDLE), Some(Verdict::Ping));
    assert_eq!(take(&mut endpoint, IDLE), b"");
    assert_eq!(endpoint.handle_timeout(IDLE + 5 * SECOND), None, "nothing is awaited");
    assert_eq!(endpoint.handle_timeout(IDLE + 10 * SECOND), Some(Verdict::Ping));
}

#[test]
fn a_connection_that_is_idle_or_has_lasted_long_enough_is_asked_to_go() {
    let idle = LivenessRules { idle_timeout: Some(10 * SECOND), ..LivenessRules::default() };
    let aged = LivenessRules { lifetime: Some(10 * SECOND), ..LivenessRules::default() };
    for (liveness, verdict, reason) in [
        (idle, Verdict::Idle, &b"idle for too long"[..]),
        (aged, Verdict::Expired, b"please reconnect"),
    ] {
        for auto_close in [true, false] {
            let mut rules =
                EndpointRules { liveness: liveness.clone(), ..EndpointRules::default() };
            rules.conversation.auto_close = auto_close;
            let mut endpoint = open_server(rules);
            assert_eq!(endpoint.poll_timeout(), Some(IDLE));
            assert_eq!(endpoint.handle_timeout(IDLE), Some(verdict));
            let bytes = take(&mut endpoint, IDLE);
            assert_eq!((&bytes[..1], &bytes[2..4]), (&b"\x88"[..], &b"\x03\xe9"[..]));
            assert_eq!(bytes[4..], *reason);
            let phase = if auto_close { Phase::Open } else { Phase::Finishing };
            assert_eq!(
                (endpoint.phase(), endpoint.poll_timeout()),
                (phase, Some(IDLE + 5 * SECOND))
            );
        }
    }
}

#[test]
fn periodic_pings_come_whatever_arrives() {
    let mut rules = watched();
    let periodic = |ping: AutoPing| ping.with_strategy(AutoPingStrategy::Periodic);
    rules.liveness.auto_ping = rules.liveness.auto_ping.map(periodic);
    let mut endpoint = open_client(rules);
    receive(&mut endpoint, START + 9 * SECOND, &plain(MsgType::Text, b"busy"));
    assert_eq!(endpoint.handle_timeout(IDLE), Some(Verdict::Ping));
    assert_eq!(take(&mut endpoint, IDLE), masked(MsgType::Ping, &FIRST_PING));
}

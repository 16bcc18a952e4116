//! Each transition by itself. Two ends that talk to each other are tested in `pair.rs`.

use super::*;
use proptest::prelude::*;

const ROLES: [Role; 2] = [Role::Client, Role::Server];
const START: Tick = Tick::from_nanos(1_000_000_007);
const TIMEOUT: Duration = Duration::from_secs(5);
const NANO: Duration = Duration::from_nanos(1);

fn auto() -> ConversationRules {
    ConversationRules::default()
}

/// The application answers CLOSE and ends the connection itself.
fn manual() -> ConversationRules {
    ConversationRules { auto_close: false, ..auto() }
}

fn open(role: Role) -> Conversation {
    let mut conversation = Conversation::new(role, &auto(), START);
    conversation.opened();
    conversation
}

/// A connection in each phase after `Open`, with the sends refused that are refused there.
fn over(role: Role) -> [Conversation; 3] {
    let mut finishing = open(role);
    finishing.finish(&auto(), START);
    let mut lingering = open(role);
    lingering.finish(&auto(), START);
    lingering.shut_down();
    let mut ended = open(role);
    ended.end();
    [finishing, lingering, ended]
}

fn normal() -> CloseFrame {
    CloseFrame::new(CloseCode::NORMAL, "client says bye")
}

fn going() -> CloseFrame {
    CloseFrame::new(CloseCode::GOING_AWAY, "server shutdown")
}

/// What a CLOSE carries on the wire.
fn payload(close: &CloseFrame) -> Vec<u8> {
    let code = close.code().map(|code| code.get().to_be_bytes());
    [code.as_ref().map_or(&[][..], |code| &code[..]), close.reason().as_bytes()].concat()
}

/// The peer's CLOSE arrives, and the listener does nothing about it.
fn receive_close(
    conversation: &mut Conversation,
    rules: &ConversationRules,
    close: &CloseFrame,
) -> Option<CloseFrame> {
    let payload = payload(close);
    let frame = Frame::new(MsgType::Close, &payload);
    assert_eq!(conversation.arrived(rules, &frame), Arrival::Deliver);
    conversation.close_reply(rules, START, &frame)
}

fn handshake_of(conversation: &Conversation) -> CloseHandshake {
    conversation.close_handshake().cloned().unwrap_or_default()
}

fn recorded(
    sent: Option<CloseFrame>,
    received: Option<CloseFrame>,
    received_first: bool,
) -> CloseHandshake {
    CloseHandshake { sent, received, received_first }
}

#[test]
fn nothing_is_sent_or_delivered_before_the_handshake_is_done() {
    for role in ROLES {
        let mut conversation = Conversation::new(role, &auto(), START);
        assert_eq!((conversation.phase(), conversation.role()), (Phase::Handshake, role));
        assert!(!conversation.may_send());
        assert!(!conversation.send_close(&auto(), START, normal()));
        for msg_type in [MsgType::Text, MsgType::Ping, MsgType::Close] {
            let frame = Frame::new(msg_type, b"");
            assert_eq!(conversation.arrived(&auto(), &frame), Arrival::Ignore);
            assert_eq!(conversation.close_reply(&auto(), START, &frame), None);
        }
        assert_eq!(conversation.close_handshake(), None);
        assert_eq!(conversation.step(false), Step::Continue);
        assert_eq!(conversation.phase(), Phase::Handshake);
        conversation.opened();
        assert!(conversation.may_send() && conversation.phase() == Phase::Open);
    }
}

#[test]
fn a_failure_before_the_handshake_is_done_sends_no_close() {
    for role in ROLES {
        let mut conversation = Conversation::new(role, &auto(), START);
        let close = conversation.fail(&auto(), START, CloseCode::INTERNAL_ERROR, "no");
        assert_eq!((close, conversation.phase()), (None, Phase::Finishing));
        // What HTTP has to say goes out first.
        assert_eq!(
            [false, true].map(|is_flushed| conversation.step(is_flushed)),
            [Step::Flush, Step::ShutDown]
        );
        assert_eq!(conversation.close_handshake(), None);
    }
}

#[test]
fn opened_comes_too_late_after_the_end() {
    for role in ROLES {
        for mut conversation in over(role) {
            let (phase, deadline) = (conversation.phase(), conversation.poll_timeout());
            conversation.opened();
            assert_eq!((conversation.phase(), conversation.poll_timeout()), (phase, deadline));
        }
    }
}

#[test]
fn frames_are_delivered_while_open() {
    for role in ROLES {
        let mut conversation = open(role);
        for msg_type in [MsgType::Text, MsgType::Binary, MsgType::Continuation, MsgType::Pong] {
            let frame = Frame::new(msg_type, b"\x03\xe8");
            assert_eq!(conversation.arrived(&auto(), &frame), Arrival::Deliver);
            assert_eq!(conversation.close_reply(&auto(), START, &frame), None);
        }
        assert_eq!((conversation.phase(), conversation.poll_timeout()), (Phase::Open, None));
    }
}

#[test]
fn a_ping_is_answered_or_delivered_rfc6455_5_5_2() {
    for (auto_pong, arrival) in [(true, Arrival::AnswerPing), (false, Arrival::Deliver)] {
        let rules = ConversationRules { auto_pong, ..auto() };
        let ping = Frame::new(MsgType::Ping, b"x");
        assert_eq!(open(Role::Server).arrived(&rules, &ping), arrival);
        let pong = Frame::new(MsgType::Pong, b"x");
        assert_eq!(open(Role::Server).arrived(&rules, &pong), Arrival::Deliver);
    }
}

#[test]
fn close_is_answered_with_what_it_said_rfc6455_5_5_1() {
    let longest = "x".repeat(123);
    for role in ROLES {
        for close in [
            CloseFrame::empty(),
            CloseFrame::new(CloseCode::NORMAL, ""),
            CloseFrame::new(CloseCode::new(4321).unwrap(), "причина"),
            CloseFrame::new(CloseCode::GOING_AWAY, &longest),
        ] {
            let mut conversation = open(role);
            assert_eq!(receive_close(&mut conversation, &auto(), &close), Some(close.clone()));
            assert_eq!(conversation.phase(), Phase::Finishing);
            let both = recorded(Some(close.clone()), Some(close), true);
            assert_eq!(handshake_of(&conversation), both);
            assert!(both.is_complete() && conversation.is_close_sent());
        }
    }
}

#[test]
fn a_listener_that_answers_close_itself_has_the_word() {
    for role in ROLES {
        let mut conversation = open(role);
        let payload = payload(&normal());
        let frame = Frame::new(MsgType::Close, &payload);
        assert_eq!(conversation.arrived(&auto(), &frame), Arrival::Deliver);
        assert!(conversation.may_send(), "data may still go before the answer");
        assert!(conversation.send_close(&auto(), START, going()));
        assert_eq!(conversation.phase(), Phase::Finishing);
        assert_eq!(conversation.close_reply(&auto(), START, &frame), None);
        assert_eq!(handshake_of(&conversation), recorded(Some(going()), Some(normal()), true));
    }
}

#[test]
fn a_listener_that_disconnects_at_close_leaves_it_without_an_answer() {
    for role in ROLES {
        let mut conversation = open(role);
        let frame = Frame::new(MsgType::Close, b"");
        assert_eq!(conversation.arrived(&auto(), &frame), Arrival::Deliver);
        conversation.finish(&auto(), START);
        assert_eq!(conversation.close_reply(&auto(), START, &frame), None);
        let received = recorded(None, Some(CloseFrame::empty()), true);
        assert_eq!(handshake_of(&conversation), received);
        assert_eq!(conversation.step(true), Step::ShutDown);
    }
}

#[test]
fn without_auto_close_nothing_happens_by_itself() {
    for role in ROLES {
        let mut conversation = open(role);
        assert_eq!(receive_close(&mut conversation, &manual(), &normal()), None);
        assert_eq!((conversation.phase(), conversation.poll_timeout()), (Phase::Open, None));
        assert!(conversation.may_send());
        assert!(conversation.send_close(&manual(), START, going()));
        assert_eq!((conversation.phase(), conversation.poll_timeout()), (Phase::Open, None));
        assert!(!conversation.may_send());
        assert_eq!(conversation.step(true), Step::Continue);
        conversation.finish(&manual(), START);
        assert_eq!(conversation.phase(), Phase::Finishing);
        assert_eq!(handshake_of(&conversation), recorded(Some(going()), Some(normal()), true));
    }
}

#[test]
fn without_auto_close_our_close_starts_no_clock() {
    let mut conversation = open(Role::Client);
    assert!(conversation.send_close(&manual(), START, normal()));
    assert_eq!((conversation.phase(), conversation.poll_timeout()), (Phase::Open, None));
    assert_eq!(receive_close(&mut conversation, &manual(), &normal()), None);
    assert_eq!((conversation.phase(), conversation.poll_timeout()), (Phase::Open, None));
    assert_eq!(handshake_of(&conversation), recorded(Some(normal()), Some(normal()), false));
}

#[test]
fn close_is_sent_once_and_nothing_follows_it_rfc6455_5_5_1() {
    for role in ROLES {
        let mut conversation = open(role);
        assert!(conversation.send_close(&auto(), START, normal()));
        assert!(conversation.is_close_sent() && !conversation.may_send());
        assert_eq!(conversation.phase(), Phase::Open, "the peer may still speak");
        assert!(!conversation.send_close(&auto(), START + NANO, going()));
        assert_eq!(conversation.poll_timeout(), Some(START + TIMEOUT), "no second chance");
        assert_eq!(handshake_of(&conversation), recorded(Some(normal()), None, false));
    }
}

#[test]
fn frames_are_delivered_between_our_close_and_the_answer() {
    for role in ROLES {
        let mut conversation = open(role);
        conversation.send_close(&auto(), START, normal());
        let late = Frame::new(MsgType::Text, b"late");
        assert_eq!(conversation.arrived(&auto(), &late), Arrival::Deliver);
        assert_eq!(receive_close(&mut conversation, &auto(), &normal()), None);
        assert_eq!(conversation.phase(), Phase::Finishing);
        assert_eq!(handshake_of(&conversation), recorded(Some(normal()), Some(normal()), false));
    }
}

#[test]
fn frames_after_the_end_are_ignored() {
    for role in ROLES {
        for mut conversation in over(role) {
            let phase = conversation.phase();
            for msg_type in [MsgType::Text, MsgType::Ping, MsgType::Pong, MsgType::Close] {
                let frame = Frame::new(msg_type, b"");
                for rules in [auto(), manual()] {
                    assert_eq!(conversation.arrived(&rules, &frame), Arrival::Ignore);
                    assert_eq!(conversation.close_reply(&rules, START, &frame), None);
                }
            }
            assert_eq!((conversation.close_handshake(), conversation.phase()), (None, phase));
        }
    }
}

#[test]
fn nothing_may_be_sent_after_the_end() {
    for role in ROLES {
        for mut conversation in over(role) {
            let phase = conversation.phase();
            assert!(!conversation.may_send());
            assert!(!conversation.send_close(&auto(), START, normal()));
            let close = conversation.fail(&auto(), START, CloseCode::INTERNAL_ERROR, "late");
            assert_eq!((close, conversation.phase()), (None, phase));
            assert_eq!(conversation.close_handshake(), None);
        }
    }
}

#[test]
fn a_peer_that_misbehaves_is_told_why_rfc6455_7_1_7() {
    for role in ROLES {
        for (error, code) in [
            (PeerMisbehaved::UnmaskedFrame, CloseCode::PROTOCOL_ERROR),
            (PeerMisbehaved::InvalidUtf8, CloseCode::INVALID_PAYLOAD),
            (PeerMisbehaved::FrameTooLarge, CloseCode::MESSAGE_TOO_BIG),
            (PeerMisbehaved::MessageTooLarge, CloseCode::MESSAGE_TOO_BIG),
        ] {
            for rules in [auto(), manual()] {
                let mut conversation = open(role);
                let close = conversation.peer_misbehaved(&rules, START, error);
                assert_eq!(close, Some(CloseFrame::new(code, &error.to_string())));
                assert_eq!(handshake_of(&conversation), recorded(close, None, false));
                assert_eq!(conversation.phase(), Phase::Finishing);
                assert_eq!(conversation.poll_timeout(), Some(START + TIMEOUT));
                assert_eq!(conversation.step(false), Step::Flush);
                assert_eq!(conversation.step(true), Step::ShutDown, "no answer is waited for");
                // Reported again and again by the decoder.
                assert_eq!(conversation.peer_misbehaved(&rules, START, error), None);
            }
        }
    }
}

#[test]
fn a_peer_that_misbehaves_after_our_close_gets_no_second_one() {
    for role in ROLES {
        let mut conversation = open(role);
        conversation.send_close(&auto(), START, normal());
        let error = PeerMisbehaved::UnmaskedFrame;
        assert_eq!(conversation.peer_misbehaved(&auto(), START + NANO, error), None);
        assert_eq!(conversation.phase(), Phase::Finishing);
        assert_eq!(handshake_of(&conversation), recorded(Some(normal()), None, false));
        assert_eq!(conversation.step(true), Step::ShutDown);
    }
}

#[test]
fn a_failure_of_ours_carries_its_own_code() {
    let mut conversation = open(Role::Server);
    let close = conversation.fail(&auto(), START, CloseCode::INTERNAL_ERROR, "listener failed");
    assert_eq!(close, Some(CloseFrame::new(CloseCode::INTERNAL_ERROR, "listener failed")));
    assert_eq!(handshake_of(&conversation), recorded(close, None, false));
}

#[test]
fn a_failure_after_the_peers_close_answers_it() {
    let mut conversation = open(Role::Server);
    let frame = Frame::new(MsgType::Close, b"");
    conversation.arrived(&auto(), &frame);
    let close = conversation.fail(&auto(), START, CloseCode::INTERNAL_ERROR, "listener failed");
    assert!(close.is_some());
    assert_eq!(conversation.close_reply(&auto(), START, &frame), None);
    let both = recorded(close, Some(CloseFrame::empty()), true);
    assert_eq!(handshake_of(&conversation), both);
}

/// When the clock acts, to the nanosecond; early and late calls are harmless.
fn assert_ends_at(mut conversation: Conversation, deadline: Tick) {
    let phase = conversation.phase();
    assert_eq!(conversation.poll_timeout(), Some(deadline));
    let just_before = Tick::from_nanos(deadline.as_nanos() - 1);
    for early in [Tick::ZERO, START, just_before] {
        assert!(!conversation.handle_timeout(early));
        assert_eq!((conversation.phase(), conversation.poll_timeout()), (phase, Some(deadline)));
    }
    assert!(conversation.handle_timeout(deadline));
    assert_eq!((conversation.phase(), conversation.poll_timeout()), (Phase::Ended, None));
    assert_eq!(conversation.step(false), Step::Close, "whatever is queued");
    assert!(!conversation.handle_timeout(deadline), "only once");
    assert!(!conversation.handle_timeout(deadline + TIMEOUT));
}

#[test]
fn a_slow_handshake_is_cut_at_its_deadline() {
    for role in ROLES {
        assert_ends_at(Conversation::new(role, &auto(), START), START + TIMEOUT);
        let handshake_timeout = Some(Duration::from_millis(3));
        let rules = ConversationRules { handshake_timeout, ..auto() };
        let deadline = START + Duration::from_millis(3);
        assert_ends_at(Conversation::new(role, &rules, START), deadline);
    }
}

#[test]
fn a_handshake_without_timeout_may_take_for_ever() {
    for handshake_timeout in [None, Some(Duration::MAX)] {
        let rules = ConversationRules { handshake_timeout, ..auto() };
        let mut conversation = Conversation::new(Role::Server, &rules, START);
        assert_eq!(conversation.poll_timeout(), None);
        assert!(!conversation.handle_timeout(Tick::from_nanos(u64::MAX)));
        conversation.opened();
        assert_eq!(conversation.phase(), Phase::Open);
    }
}

#[test]
fn an_open_connection_has_no_deadline() {
    for role in ROLES {
        let mut conversation = open(role);
        assert_eq!(conversation.poll_timeout(), None);
        assert!(!conversation.handle_timeout(Tick::from_nanos(u64::MAX)));
        assert_eq!(conversation.phase(), Phase::Open);
    }
}

#[test]
fn an_unanswered_close_ends_at_the_close_timeout_rfc6455_7_1_1() {
    for role in ROLES {
        let mut conversation = open(role);
        conversation.send_close(&auto(), START, normal());
        assert_ends_at(conversation, START + TIMEOUT);
    }
}

#[test]
fn a_connection_that_is_done_ends_at_the_close_timeout() {
    for role in ROLES {
        let mut finishing = open(role);
        finishing.finish(&auto(), START);
        // Again, later: nobody can put it off.
        finishing.finish(&auto(), START + NANO);
        assert_ends_at(finishing, START + TIMEOUT);

        let mut lingering = open(role);
        lingering.finish(&auto(), START);
        lingering.shut_down();
        lingering.shut_down();
        lingering.finish(&auto(), START + NANO);
        assert_ends_at(lingering, START + TIMEOUT);

        let mut answered = open(role);
        answered.send_close(&auto(), START, normal());
        let later = START + Duration::from_secs(4);
        let frame = Frame::new(MsgType::Close, b"");
        answered.arrived(&auto(), &frame);
        answered.close_reply(&auto(), later, &frame);
        assert_ends_at(answered, later + TIMEOUT);
    }
}

#[test]
fn each_phase_has_its_step() {
    use Step::{Close, Continue, Flush, Linger, ShutDown};
    let build = |role, phase, is_close_complete| {
        let mut conversation = Conversation::new(role, &auto(), START);
        if phase > Phase::Handshake {
            conversation.opened();
        }
        if is_close_complete {
            receive_close(&mut conversation, &manual(), &normal());
            conversation.send_close(&manual(), START, normal());
        }
        if phase >= Phase::Finishing {
            conversation.finish(&auto(), START);
        }
        if phase >= Phase::Lingering {
            conversation.shut_down();
        }
        if phase == Phase::Ended {
            conversation.end();
        }
        assert_eq!(conversation.phase(), phase);
        conversation
    };
    for (role, phase, is_close_complete, queued, flushed) in [
        (Role::Client, Phase::Handshake, false, Continue, Continue),
        (Role::Server, Phase::Handshake, false, Continue, Continue),
        (Role::Client, Phase::Open, false, Continue, Continue),
        (Role::Server, Phase::Open, false, Continue, Continue),
        (Role::Client, Phase::Open, true, Continue, Continue),
        (Role::Client, Phase::Finishing, false, Flush, ShutDown),
        (Role::Server, Phase::Finishing, false, Flush, ShutDown),
        // RFC 6455 §7.1.1: the server ends the stream first.
        (Role::Client, Phase::Finishing, true, Flush, Linger),
        (Role::Server, Phase::Finishing, true, Flush, ShutDown),
        (Role::Client, Phase::Lingering, false, Linger, Linger),
        (Role::Server, Phase::Lingering, true, Linger, Linger),
        (Role::Client, Phase::Ended, false, Close, Close),
        (Role::Server, Phase::Ended, true, Close, Close),
    ] {
        let conversation = build(role, phase, is_close_complete);
        let got = (conversation.step(false), conversation.step(true));
        assert_eq!(got, (queued, flushed), "{role:?}, {phase:?}, {is_close_complete}");
    }
}

#[test]
fn the_end_of_the_peers_stream_keeps_only_what_is_queued() {
    for role in ROLES {
        let mut in_handshake = Conversation::new(role, &auto(), START);
        in_handshake.end_of_stream(&auto(), START);
        assert_eq!((in_handshake.phase(), in_handshake.step(false)), (Phase::Ended, Step::Close));
        assert_eq!(in_handshake.poll_timeout(), None);

        let mut while_open = open(role);
        assert!(!while_open.is_peer_gone());
        while_open.end_of_stream(&auto(), START);
        assert!(while_open.is_peer_gone());
        assert_eq!(while_open.phase(), Phase::Finishing);
        assert_eq!((while_open.step(false), while_open.step(true)), (Step::Flush, Step::Close));
        assert!(!while_open.may_send());
        assert_ends_at(while_open, START + TIMEOUT);

        let [mut finishing, mut lingering, mut ended] = over(role);
        finishing.end_of_stream(&auto(), START + NANO);
        assert_eq!((finishing.step(false), finishing.step(true)), (Step::Flush, Step::Close));
        assert_ends_at(finishing, START + TIMEOUT);
        lingering.end_of_stream(&auto(), START + NANO);
        assert_eq!((lingering.phase(), lingering.step(false)), (Phase::Ended, Step::Close));
        ended.end_of_stream(&auto(), START + NANO);
        assert_eq!((ended.phase(), ended.poll_timeout()), (Phase::Ended, None));
    }
}

#[test]
fn a_client_that_waits_for_the_servers_end_is_done_with_it_rfc6455_7_1_1() {
    let mut client = open(Role::Client);
    receive_close(&mut client, &auto(), &normal());
    assert_eq!(client.step(true), Step::Linger);
    client.end_of_stream(&auto(), START);
    assert_eq!(client.step(true), Step::Close);
}

#[test]
fn the_record_tells_who_closed_with_what() {
    for role in ROLES {
        assert_eq!(open(role).close_handshake(), None, "nobody");

        let mut initiator = open(role);
        initiator.send_close(&auto(), START, normal());
        assert_eq!(handshake_of(&initiator), recorded(Some(normal()), None, false));
        assert!(!handshake_of(&initiator).is_complete());
        receive_close(&mut initiator, &auto(), &normal());
        assert_eq!(handshake_of(&initiator), recorded(Some(normal()), Some(normal()), false));

        let mut other = open(role);
        receive_close(&mut other, &manual(), &normal());
        assert_eq!(handshake_of(&other), recorded(None, Some(normal()), true));
        other.send_close(&auto(), START, going());
        assert_eq!(handshake_of(&other), recorded(Some(going()), Some(normal()), true));

        let mut unanswered = open(role);
        unanswered.send_close(&auto(), START, normal());
        unanswered.end_of_stream(&auto(), START);
        assert_eq!(handshake_of(&unanswered), recorded(Some(normal()), None, false));
        unanswered.end();
        assert_eq!(handshake_of(&unanswered), recorded(Some(normal()), None, false));
    }
}

/// What can happen to a connection.
#[derive(Clone, Copy, Debug)]
enum Happening {
    Opened,
    Arrived(MsgType),
    SendClose,
    Misbehaved,
    Finish,
    Step { is_flushed: bool },
    EndOfStream,
    End,
    Wait(u64),
}

fn happening() -> impl Strategy<Value = Happening> {
    let msg_type = proptest::sample::select(vec![MsgType::Text, MsgType::Ping, MsgType::Close]);
    prop_oneof![
        2 => Just(Happening::Opened),
        3 => msg_type.prop_map(Happening::Arrived),
        1 => Just(Happening::SendClose),
        1 => Just(Happening::Misbehaved),
        1 => Just(Happening::Finish),
        3 => any::<bool>().prop_map(|is_flushed| Happening::Step { is_flushed }),
        1 => Just(Happening::EndOfStream),
        1 => Just(Happening::End),
        2 => (0..7_u64).prop_map(Happening::Wait),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_it_goes_forward_and_ends(
        role in proptest::sample::select(ROLES.to_vec()),
        auto_close: bool,
        is_open: bool,
        happenings in proptest::collection::vec(happening(), 0..24),
    ) {
        let rules = ConversationRules { auto_close, ..auto() };
        let mut conversation = Conversation::new(role, &rules, START);
        if is_open {
            conversation.opened();
        }
        let (mut now, mut closes_sent) = (START, 0);
        for happening in happenings {
            let (phase, could_send) = (conversation.phase(), conversation.may_send());
            match happening {
                Happening::Opened => conversation.opened(),
                Happening::Arrived(msg_type) => {
                    let frame = Frame::new(msg_type, b"");
                    if conversation.arrived(&rules, &frame) == Arrival::Deliver {
                        let reply = conversation.close_reply(&rules, now, &frame);
                        closes_sent += usize::from(reply.is_some());
                    }
                }
                Happening::SendClose => {
                    let is_sent = conversation.send_close(&rules, now, normal());
                    prop_assert_eq!(is_sent, could_send);
                    closes_sent += usize::from(is_sent);
                }
                Happening::Misbehaved => {
                    let error = PeerMisbehaved::UnmaskedFrame;
                    let close = conversation.peer_misbehaved(&rules, now, error);
                    prop_assert_eq!(close.is_some(), could_send);
                    closes_sent += usize::from(close.is_some());
                }
                Happening::Finish => conversation.finish(&rules, now),
                Happening::Step { is_flushed } => match conversation.step(is_flushed) {
                    Step::ShutDown => conversation.shut_down(),
                    Step::Close => conversation.end(),
                    Step::Continue | Step::Flush | Step::Linger => {}
                },
                Happening::EndOfStream => conversation.end_of_stream(&rules, now),
                Happening::End => conversation.end(),
                Happening::Wait(seconds) => {
                    now = now + Duration::from_secs(seconds);
                    conversation.handle_timeout(now);
                }
            }
            prop_assert!(phase <= conversation.phase(), "never back");
            prop_assert!(closes_sent <= 1, "one CLOSE at most");
            prop_assert_eq!(conversation.is_close_sent(), closes_sent == 1);
            prop_assert!(conversation.phase() == Phase::Open || !conversation.may_send());
            let is_ending = matches!(conversation.phase(), Phase::Finishing | Phase::Lingering);
            let deadline = conversation.poll_timeout();
            prop_assert!(deadline.is_some() || !is_ending, "nobody can hold it open");
            prop_assert!(deadline.is_none_or(|deadline| deadline <= now + TIMEOUT));
        }
        conversation.finish(&rules, now);
        conversation.handle_timeout(now + TIMEOUT);
        prop_assert_eq!(conversation.phase(), Phase::Ended);
    }
}

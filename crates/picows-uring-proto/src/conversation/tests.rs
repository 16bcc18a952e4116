//! Each transition by itself. Two ends that talk to each other are tested in `pair.rs`.

mod closing;
mod course;
mod deadlines;
mod failing;
mod giving_up;

use super::*;

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
    assert_eq!(conversation.handle_frame(rules, &frame), FrameAction::Deliver);
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
            assert_eq!(conversation.handle_frame(&auto(), &frame), FrameAction::Ignore);
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
            assert_eq!(conversation.handle_frame(&auto(), &frame), FrameAction::Deliver);
            assert_eq!(conversation.close_reply(&auto(), START, &frame), None);
        }
        assert_eq!((conversation.phase(), conversation.poll_timeout()), (Phase::Open, None));
    }
}

#[test]
fn a_ping_is_answered_or_delivered_rfc6455_5_5_2() {
    for (auto_pong, arrival) in [(true, FrameAction::AnswerPing), (false, FrameAction::Deliver)] {
        let rules = ConversationRules { auto_pong, ..auto() };
        let ping = Frame::new(MsgType::Ping, b"x");
        assert_eq!(open(Role::Server).handle_frame(&rules, &ping), arrival);
        let pong = Frame::new(MsgType::Pong, b"x");
        assert_eq!(open(Role::Server).handle_frame(&rules, &pong), FrameAction::Deliver);
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
                    assert_eq!(conversation.handle_frame(&rules, &frame), FrameAction::Ignore);
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
fn the_peers_time_begins_when_the_bytes_have_left_and_once() {
    let (rules, late) = (auto(), START + Duration::from_secs(60));
    let timeout = rules.close_timeout;
    let mut closing = open(Role::Server);
    assert!(!closing.is_leaving());
    assert!(closing.send_close(&rules, START, normal()));
    let [finishing, lingering, ended] = over(Role::Server);
    for mut conversation in [closing, finishing, lingering] {
        assert!(conversation.is_leaving());
        conversation.left(&rules, late);
        assert_eq!(conversation.poll_timeout(), Some(late + timeout));
        assert!(!conversation.is_leaving());
        conversation.left(&rules, late + timeout);
        assert_eq!(conversation.poll_timeout(), Some(late + timeout), "no second time");
    }
    for mut conversation in [open(Role::Server), ended] {
        conversation.left(&rules, late);
        assert_eq!(conversation.poll_timeout(), None);
    }
    let mut client = Conversation::new(Role::Client, &rules, START);
    client.left(&rules, late);
    assert_eq!(client.poll_timeout(), rules.handshake_timeout.map(|timeout| late + timeout));
    let mut server = Conversation::new(Role::Server, &rules, START);
    server.left(&rules, late);
    assert_eq!(server.poll_timeout(), rules.handshake_timeout.map(|timeout| START + timeout));
}

#[test]
fn a_limit_from_outside_stays_when_the_bytes_have_left() {
    let rules = auto();
    let limit = START + rules.close_timeout / 2;
    let mut limited = open(Role::Server);
    limited.finish(&rules, START);
    limited.expire(limit);
    limited.left(&rules, START + rules.close_timeout);
    assert_eq!(limited.poll_timeout(), Some(limit));
    let mut manual_close = open(Role::Server);
    assert!(manual_close.send_close(&manual(), START, normal()));
    manual_close.left(&manual(), START);
    assert_eq!(manual_close.poll_timeout(), None);
}

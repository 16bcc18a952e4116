//! CLOSE from either side: who answers, who says it first, and what is recorded.

use super::*;

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
        assert_eq!(conversation.handle_frame(&auto(), &frame), FrameAction::Deliver);
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
        assert_eq!(conversation.handle_frame(&auto(), &frame), FrameAction::Deliver);
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
        assert_eq!(conversation.handle_frame(&auto(), &late), FrameAction::Deliver);
        assert_eq!(receive_close(&mut conversation, &auto(), &normal()), None);
        assert_eq!(conversation.phase(), Phase::Finishing);
        assert_eq!(handshake_of(&conversation), recorded(Some(normal()), Some(normal()), false));
    }
}

#[test]
fn the_record_has_who_closed_with_what() {
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

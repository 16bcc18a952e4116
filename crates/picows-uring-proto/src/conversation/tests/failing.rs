//! Peers that misbehave, and failures of ours.

use super::*;

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
fn a_peer_that_misbehaves_gets_the_reason_rfc6455_7_1_7() {
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
    conversation.handle_frame(&auto(), &frame);
    let close = conversation.fail(&auto(), START, CloseCode::INTERNAL_ERROR, "listener failed");
    assert!(close.is_some());
    assert_eq!(conversation.close_reply(&auto(), START, &frame), None);
    let both = recorded(close, Some(CloseFrame::empty()), true);
    assert_eq!(handshake_of(&conversation), both);
}

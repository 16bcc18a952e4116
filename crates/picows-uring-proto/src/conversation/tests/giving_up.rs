//! Ends that are shorter than the close timeout, and what counts as a CLOSE under way.

use super::*;

const LINGER: Duration = Duration::from_millis(10);

#[test]
fn a_close_is_under_way_from_the_first_one_with_a_deadline_to_the_end_of_the_open_phase() {
    for role in ROLES {
        let mut conversation = Conversation::new(role, &auto(), START);
        assert!(!conversation.is_closing(), "the deadline is that of the handshake");
        conversation.opened();
        assert!(!conversation.is_closing());
        assert!(conversation.send_close(&auto(), START, normal()));
        assert!(conversation.is_closing(), "the peer has to answer");
        receive_close(&mut conversation, &auto(), &normal());
        assert!(!conversation.is_closing(), "it has, and the conversation is over");
        for conversation in over(role) {
            assert!(!conversation.is_closing());
        }
    }
}

#[test]
fn a_close_without_a_deadline_is_left_to_the_application() {
    for role in ROLES {
        let mut conversation = open(role);
        assert!(conversation.send_close(&manual(), START, normal()));
        assert!(!conversation.is_closing());
        let mut conversation = open(role);
        receive_close(&mut conversation, &manual(), &normal());
        assert!(!conversation.is_closing());
    }
}

#[test]
fn a_peer_that_is_given_up_has_only_a_moment_for_the_close() {
    for role in ROLES {
        let mut conversation = open(role);
        let close = conversation.give_up(&auto(), START, "no pong", LINGER);
        assert_eq!(close, Some(CloseFrame::new(CloseCode::GOING_AWAY, "no pong")));
        assert_eq!(handshake_of(&conversation), recorded(close, None, false));
        assert_eq!(conversation.phase(), Phase::Finishing);
        assert_eq!(conversation.poll_timeout(), Some(START + LINGER));
        assert!(!conversation.handle_timeout(START + (LINGER - NANO)));
        assert!(conversation.handle_timeout(START + LINGER));
        assert_eq!(conversation.phase(), Phase::Ended);
        assert_eq!(conversation.give_up(&auto(), START, "again", LINGER), None);
    }
}

#[test]
fn a_failure_within_a_moment_is_never_longer_than_the_close_timeout() {
    for (linger, deadline) in [(LINGER, START + LINGER), (2 * TIMEOUT, START + TIMEOUT)] {
        let mut conversation = open(Role::Server);
        let code = CloseCode::TRY_AGAIN_LATER;
        let close = conversation.fail_within(&auto(), START, code, "memory", linger);
        assert_eq!(close, Some(CloseFrame::new(code, "memory")));
        assert_eq!(conversation.poll_timeout(), Some(deadline));
    }
}

#[test]
fn a_limit_from_outside_brings_every_deadline_forward_and_puts_none_off() {
    for role in ROLES {
        let mut conversation = open(role);
        conversation.expire(START + LINGER);
        assert_eq!(conversation.poll_timeout(), Some(START + LINGER));
        conversation.expire(START + TIMEOUT);
        assert_eq!(conversation.poll_timeout(), Some(START + LINGER), "the earlier one counts");
        assert!(conversation.handle_timeout(START + LINGER));
        conversation.expire(START);
        assert_eq!(conversation.poll_timeout(), None, "it is over");
    }
}

#[test]
fn a_limit_from_outside_at_the_very_deadline_is_not_put_off_when_the_bytes_have_left() {
    for role in ROLES {
        let mut conversation = open(role);
        conversation.finish(&auto(), START);
        conversation.expire(START + TIMEOUT);
        conversation.left(&auto(), START + LINGER);
        assert_eq!(conversation.poll_timeout(), Some(START + TIMEOUT));
        let mut conversation = open(role);
        assert!(conversation.give_up(&auto(), START, "no pong", TIMEOUT).is_some());
        conversation.left(&auto(), START + LINGER);
        assert_eq!(conversation.poll_timeout(), Some(START + TIMEOUT));
    }
}

#[test]
fn only_our_own_close_keeps_frames_from_being_sent() {
    for role in ROLES {
        let mut conversation = open(role);
        assert!(conversation.may_send() && !conversation.is_close_sent());
        receive_close(&mut conversation, &manual(), &normal());
        assert!(conversation.may_send() && !conversation.is_close_sent());
        assert!(conversation.send_close(&manual(), START, going()));
        assert!(!conversation.may_send() && conversation.is_close_sent());
    }
}

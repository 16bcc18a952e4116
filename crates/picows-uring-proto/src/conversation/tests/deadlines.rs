//! Ends by the clock, and what is to be done about the transport before.

use super::*;

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
fn a_further_request_has_the_time_of_a_handshake() {
    let later = START + TIMEOUT / 2;
    let mut conversation = Conversation::new(Role::Server, &auto(), START);
    conversation.await_request(&auto(), later);
    assert_ends_at(conversation, later + TIMEOUT);
    let mut conversation = Conversation::new(Role::Server, &auto(), START);
    let rules = ConversationRules { handshake_timeout: None, ..auto() };
    conversation.await_request(&rules, later);
    assert_eq!(conversation.poll_timeout(), None);
    let mut conversation = open(Role::Server);
    conversation.await_request(&auto(), later);
    assert_eq!(conversation.poll_timeout(), None, "it is open");
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
        // Again, later: nothing can put it off.
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
        answered.handle_frame(&auto(), &frame);
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

//! Automatic pings and silence: what counts as an answer, and how a connection ends without one.

use super::*;
use picows_uring_proto::FrameHead;

#[test]
fn only_the_pong_with_the_number_of_the_ping_counts() {
    let mut fixture = Fixture::new(Manner::default(), |_| {});
    let mut wrong = fixture.ping();
    wrong[0] ^= 1;
    fixture.say(PONG, &wrong);
    fixture.say(PONG, b"");
    let told = seen();
    assert_eq!(told.iter().filter(|it| *it == "asked").count(), 2);
    assert_eq!(told.iter().filter(|it| it.starts_with("Pong")).count(), 2, "{told:?}");
    // A peer that says something is there, but the answer is still owed.
    fixture.go(15 * SECOND);
    assert!(fixture.heard().is_empty());
    fixture.go(15 * SECOND + 3 * GRANULE);
    let [(CLOSE, payload)] = &fixture.heard()[..] else { panic!() };
    assert_eq!(payload[..2], 1001_u16.to_be_bytes());
    assert_eq!(payload[2..], *b"no pong within 5s");
    fixture.go(15 * SECOND + Duration::from_millis(20));
    assert!(fixture.is_gone(), "aborted shortly after");
    assert_eq!(seen(), ["disconnected PingTimedOut"]);
}

#[test]
fn the_right_pong_is_consumed_and_the_next_ping_carries_another_number() {
    let mut fixture = Fixture::new(Manner::default(), |_| {});
    let nonce = fixture.ping();
    fixture.say(PONG, &nonce);
    assert_eq!(seen(), ["asked"]);
    fixture.go(20 * SECOND + 3 * GRANULE);
    let [(PING, again)] = &fixture.heard()[..] else { panic!() };
    assert_ne!(*again, nonce);
    fixture.say(PONG, &nonce);
    assert_eq!(seen().len(), 2, "an old pong is a frame like any other");
    let again = again.clone();
    fixture.say(PONG, &again);
    assert_eq!(seen(), ["asked"]);
}

#[test]
fn no_listener_is_asked_while_no_pong_is_awaited() {
    let mut fixture = Fixture::new(Manner::default(), |_| {});
    fixture.say(PONG, b"hello");
    fixture.say(TEXT, b"that was it");
    assert_eq!(seen(), ["Pong hello", "Text that was it"], "and to notify is harmless");
    fixture.go(9 * SECOND);
    assert!(fixture.heard().is_empty());
}

#[test]
fn a_pong_found_while_it_is_handled_counts() {
    let mut fixture = Fixture::new(Manner { pings_as_text: true, ..Manner::default() }, |_| {});
    fixture.go(10 * SECOND + GRANULE);
    assert_eq!(fixture.heard(), [(TEXT, b"ping".to_vec())]);
    fixture.say(TEXT, b"that was it");
    assert_eq!(seen(), ["asked", "Text that was it"]);
    fixture.go(19 * SECOND);
    assert!(fixture.heard().is_empty() && !fixture.is_gone());
}

#[test]
fn failing_callbacks_of_the_cycle_close_with_1011_and_are_reported_once() {
    for manner in [
        Manner { ping_fails: true, ..Manner::default() },
        Manner { pong_panics: true, ..Manner::default() },
    ] {
        let mut fixture = Fixture::new(manner, |_| {});
        fixture.go(10 * SECOND + GRANULE);
        fixture.say(TEXT, b"hello");
        let heard = fixture.heard();
        let (opcode, payload) = heard.last().unwrap();
        assert_eq!((*opcode, &payload[..]), (CLOSE, &1011_u16.to_be_bytes()[..]));
        fixture.go(3600 * SECOND);
        assert!(fixture.is_gone() && fixture.heard().is_empty());
        let told = seen();
        assert_eq!(told.iter().filter(|it| it.starts_with("disconnected Listener")).count(), 1);
        assert!(!told.contains(&"Text hello".into()), "{told:?}");
    }
}

#[test]
fn a_disconnect_at_any_point_of_the_cycle_is_reported_once_and_leaves_nothing() {
    type Act = fn(&mut Fixture);
    let points: [(&str, Act); 6] = [
        ("before the ping", |_| {}),
        ("the ping is queued", |fixture| {
            fixture.worker.ring.is_stuck = true;
            transport().send_text("held up");
            fixture.go(10 * SECOND + GRANULE);
        }),
        ("the ping has left", |fixture| drop(fixture.ping())),
        ("answered", |fixture| {
            let nonce = fixture.ping();
            fixture.say(PONG, &nonce);
        }),
        ("the second ping", |fixture| {
            let nonce = fixture.ping();
            fixture.say(PONG, &nonce);
            fixture.go(20 * SECOND + 3 * GRANULE);
        }),
        ("given up", |fixture| {
            fixture.ping();
            fixture.go(15 * SECOND + 2 * GRANULE);
            assert!(!fixture.is_gone());
        }),
    ];
    let ends: [(&str, Act); 6] = [
        ("end of stream", |fixture| fixture.worker.ring.end(ReceiveResult::EndOfStream)),
        ("reset", |fixture| {
            let error = io::Error::from_raw_os_error(libc::ECONNRESET);
            fixture.worker.ring.end(ReceiveResult::Failed(error));
        }),
        ("abort", |_| transport().abort()),
        ("disconnect", |_| transport().disconnect()),
        ("CLOSE of the peer", |fixture| fixture.say(CLOSE, &1000_u16.to_be_bytes())),
        ("CLOSE of ours", |_| {
            transport().send_close(CloseCode::NORMAL, "");
        }),
    ];
    for (point, reach) in points {
        for (end, make) in ends {
            let mut fixture = Fixture::new(Manner::default(), |_| {});
            reach(&mut fixture);
            make(&mut fixture);
            fixture.turn();
            let wakes = fixture.go(3600 * SECOND);
            let told = seen();
            let count = told.iter().filter(|it| it.starts_with("disconnected")).count();
            assert_eq!(count, 1, "{end}, {point}: {told:?}");
            assert!(fixture.is_gone(), "{end}, {point}");
            assert_eq!(fixture.worker.slots.len(), 0, "{end}, {point}");
            assert_eq!(fixture.worker.timers.len(), 0, "{end}, {point}");
            assert!(wakes <= 6, "{end}, {point}: {wakes} wake-ups");
        }
    }
}

#[test]
fn a_close_that_is_under_way_has_a_deadline_of_its_own() {
    let mut fixture = Fixture::new(Manner::default(), |config| {
        config.liveness.auto_ping = Some(AutoPing::new(2 * SECOND, SECOND));
    });
    fixture.worker.ring.now = SECOND;
    fixture.turn();
    transport().send_close(CloseCode::NORMAL, "bye");
    fixture.turn();
    assert_eq!(fixture.heard().len(), 1);
    fixture.go(5 * SECOND);
    assert!(fixture.heard().is_empty() && !fixture.is_gone(), "no ping follows a CLOSE");
    fixture.go(6 * SECOND + GRANULE);
    assert!(fixture.is_gone());
    assert_eq!(seen(), ["disconnected TimedOut"]);
}

#[test]
fn an_idle_connection_gets_one_close_and_wakes_no_worker_until_its_end_is_due() {
    for (change, reason, cause) in [
        (
            (|config| config.liveness.idle_timeout = Some(10 * SECOND)) as fn(&mut Config),
            "idle for too long",
            DisconnectCause::TimedOut,
        ),
        (
            |config| {
                config.liveness.lifetime = Some(10 * SECOND);
                config.lifetime_jitter = 0.0;
            },
            "please reconnect",
            DisconnectCause::Closed,
        ),
    ] {
        let mut fixture = Fixture::new(Manner::default(), |config| {
            config.liveness.auto_ping = None;
            without_looks(config);
            change(config);
        });
        assert_eq!(fixture.go(10 * SECOND + GRANULE), 2, "one for the handshake that was in time");
        let heard = fixture.heard();
        assert!(heard.len() == 1 && heard[0].1.ends_with(reason.as_bytes()), "{heard:?}");
        assert_eq!(fixture.go(14 * SECOND), 0, "{reason}");
        fixture.say(CLOSE, &heard[0].1);
        assert_eq!(seen().last(), Some(&format!("disconnected {}", name(&cause))));
    }
}

#[test]
fn a_peer_that_takes_what_waits_for_it_is_not_silent() {
    let mut fixture = Fixture::new(Manner::default(), |_| {});
    fixture.worker.ring.is_stuck = true;
    transport().send(MsgType::Binary, vec![0; 1 << 20]);
    fixture.go(14 * SECOND);
    for second in 14..60 {
        // The send has not completed, but the kernel knows better.
        fixture.worker.ring.send_state = Some(SendState { taken: second * 1000, has_more: true });
        fixture.go(SECOND * second as u32);
        assert!(!fixture.is_gone(), "{second}");
    }
    // It has all arrived, the ping with it, and now an answer is owed.
    fixture.worker.ring.unstick();
    fixture.worker.ring.send_state = Some(SendState { taken: 1 << 20, has_more: false });
    fixture.turn();
    fixture.go(64 * SECOND);
    assert!(!fixture.is_gone());
    fixture.go(66 * SECOND);
    assert!(fixture.is_gone());
    assert_eq!(seen(), ["disconnected PingTimedOut"]);
}

#[test]
fn a_peer_that_takes_nothing_is_dropped_within_idle_and_reply_timeout() {
    let mut fixture = Fixture::new(Manner::default(), |_| {});
    fixture.worker.ring.is_stuck = true;
    fixture.worker.ring.send_state = Some(SendState { taken: 1000, has_more: true });
    transport().send(MsgType::Binary, vec![0; 1 << 20]);
    fixture.go(15 * SECOND - GRANULE);
    assert!(seen().is_empty());
    fixture.go(15 * SECOND + 3 * GRANULE + Duration::from_millis(10));
    assert!(fixture.is_gone(), "whatever is queued");
    assert_eq!(seen(), ["disconnected PingTimedOut"]);
}

#[test]
fn bytes_that_wait_in_the_kernel_are_no_silence() {
    let mut fixture = Fixture::new(Manner::default(), |_| {});
    let nonce = fixture.ping();
    fixture.worker.ring.unread = 1;
    fixture.go(19 * SECOND);
    assert!(seen().is_empty() && fixture.heard().is_empty());
    fixture.worker.ring.unread = 0;
    fixture.say(PONG, &nonce);
    fixture.go(28 * SECOND);
    assert_eq!(seen(), ["asked"]);
}

#[test]
fn while_reading_is_paused_a_pong_that_waits_to_be_read_counts_and_none_does_not() {
    for answers in [true, false] {
        let mut fixture = Fixture::new(Manner::default(), |_| {});
        transport().pause_reading();
        fixture.turn();
        let nonce = fixture.ping();
        fixture.worker.ring.unread = usize::from(answers);
        fixture.go(60 * SECOND);
        assert_eq!(fixture.is_gone(), !answers);
        if answers {
            fixture.worker.ring.unread = 0;
            transport().resume_reading();
            fixture.turn();
            fixture.say(PONG, &nonce);
            assert_eq!(seen(), ["asked"]);
            fixture.go(69 * SECOND);
            assert!(!fixture.is_gone());
        }
    }
}

#[test]
fn a_ping_is_queued_where_other_frames_are_dropped() {
    let mut fixture = Fixture::new(Manner { pings_as_text: true, ..Manner::default() }, |config| {
        config.queue_bytes_max = 100_000;
        config.queue_policy = QueuePolicy::DropNewest;
    });
    fixture.worker.ring.is_stuck = true;
    transport().send(MsgType::Binary, vec![0; 99_980]);
    assert!(!transport().send_text("no room").is_queued());
    fixture.go(12 * SECOND);
    fixture.worker.ring.unstick();
    fixture.turn();
    assert!(fixture.worker.ring.sent.ends_with(b"\x81\x04ping"));
}

/// Two ways in which a listener sends no ping: a message between fragments is refused.
fn without_a_ping() -> [Fixture; 2] {
    let open = FrameHead::new(MsgType::Text).with_fin(false);
    let refused = Manner { pings_as_text: true, ..Manner::default() };
    let never = Manner { pings_never: true, ..Manner::default() };
    [refused, never].map(|manner| {
        let mut fixture = Fixture::new(manner, |_| {});
        if manner.pings_as_text {
            assert!(transport().send_frame(open, b"first part").is_queued());
            assert!(!transport().send_text("in between").is_queued());
            fixture.turn();
            assert_eq!(fixture.heard().len(), 1);
        }
        fixture
    })
}

#[test]
fn a_ping_that_the_listener_did_not_send_is_replaced_by_one_of_ours() {
    for mut fixture in without_a_ping() {
        for round in 1..=3 {
            fixture.go(round * 10 * SECOND + 3 * round * GRANULE);
            let heard = fixture.heard();
            let [(PING, number)] = &heard[..] else { panic!("{round}: {heard:?}") };
            seen();
            fixture.say(PONG, b"another");
            assert_eq!(seen(), ["asked", "Pong another"]);
            fixture.say(PONG, &number.clone());
            assert!(seen().is_empty(), "the listener knows nothing of it");
        }
        assert!(!fixture.is_gone());
        // That one was sent, and has to be answered.
        fixture.ping_at(40 * SECOND + 12 * GRANULE);
        fixture.go(46 * SECOND);
        assert!(fixture.is_gone());
        assert_eq!(seen().last().unwrap(), "disconnected PingTimedOut");
    }
}

#[test]
fn the_next_ping_is_of_the_listener_again_as_soon_as_it_can_be() {
    let [mut fixture, _] = without_a_ping();
    TRANSPORT.set(Some(fixture.worker.slots.iter_mut().next().unwrap().transport.clone()));
    let number = fixture.ping_at(10 * SECOND + GRANULE);
    fixture.say(PONG, &number);
    let last = FrameHead::new(MsgType::Continuation);
    assert!(transport().send_frame(last, b"last part").is_queued());
    fixture.go(21 * SECOND);
    let heard = fixture.heard();
    assert_eq!(heard, [(0, b"last part".to_vec()), (TEXT, b"ping".to_vec())]);
    seen();
    fixture.say(TEXT, b"pong");
    assert_eq!(seen(), ["asked"]);
    fixture.go(30 * SECOND);
    assert!(!fixture.is_gone());
}

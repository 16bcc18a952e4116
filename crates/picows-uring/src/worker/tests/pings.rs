//! Automatic pings and silence: what counts as an answer, and how a connection ends without one.

use super::*;
use picows_uring_proto::FrameHead;

#[test]
fn only_the_pong_with_the_number_of_the_ping_counts() {
    let mut stage = Stage::new(Manner::default(), |_| {});
    let mut wrong = stage.ping();
    wrong[0] ^= 1;
    stage.say(PONG, &wrong);
    stage.say(PONG, b"");
    let told = seen();
    assert_eq!(told.iter().filter(|it| *it == "asked").count(), 2);
    assert_eq!(told.iter().filter(|it| it.starts_with("Pong")).count(), 2, "{told:?}");
    // A peer that says something is there, but the answer is still owed.
    stage.go(15 * SECOND);
    assert!(stage.heard().is_empty());
    stage.go(15 * SECOND + 3 * GRANULE);
    let [(CLOSE, payload)] = &stage.heard()[..] else { panic!() };
    assert_eq!(payload[..2], 1001_u16.to_be_bytes());
    assert_eq!(payload[2..], *b"no pong within 5s");
    stage.go(15 * SECOND + Duration::from_millis(20));
    assert!(stage.is_gone(), "aborted shortly after");
    assert_eq!(seen(), ["disconnected PingTimedOut"]);
}

#[test]
fn the_right_pong_is_consumed_and_the_next_ping_carries_another_number() {
    let mut stage = Stage::new(Manner::default(), |_| {});
    let nonce = stage.ping();
    stage.say(PONG, &nonce);
    assert_eq!(seen(), ["asked"]);
    stage.go(20 * SECOND + 3 * GRANULE);
    let [(PING, again)] = &stage.heard()[..] else { panic!() };
    assert_ne!(*again, nonce);
    stage.say(PONG, &nonce);
    assert_eq!(seen().len(), 2, "an old pong is a frame like any other");
    let again = again.clone();
    stage.say(PONG, &again);
    assert_eq!(seen(), ["asked"]);
}

#[test]
fn nobody_is_asked_while_no_pong_is_awaited() {
    let mut stage = Stage::new(Manner::default(), |_| {});
    stage.say(PONG, b"hello");
    stage.say(TEXT, b"that was it");
    assert_eq!(seen(), ["Pong hello", "Text that was it"], "and to notify is harmless");
    stage.go(9 * SECOND);
    assert!(stage.heard().is_empty());
}

#[test]
fn a_pong_found_while_it_is_handled_counts() {
    let mut stage = Stage::new(Manner { pings_as_text: true, ..Manner::default() }, |_| {});
    stage.go(10 * SECOND + GRANULE);
    assert_eq!(stage.heard(), [(TEXT, b"ping".to_vec())]);
    stage.say(TEXT, b"that was it");
    assert_eq!(seen(), ["asked", "Text that was it"]);
    stage.go(19 * SECOND);
    assert!(stage.heard().is_empty() && !stage.is_gone());
}

#[test]
fn failing_callbacks_of_the_cycle_close_with_1011_and_are_told_once() {
    for manner in [
        Manner { ping_fails: true, ..Manner::default() },
        Manner { pong_panics: true, ..Manner::default() },
    ] {
        let mut stage = Stage::new(manner, |_| {});
        stage.go(10 * SECOND + GRANULE);
        stage.say(TEXT, b"hello");
        let heard = stage.heard();
        let (opcode, payload) = heard.last().unwrap();
        assert_eq!((*opcode, &payload[..]), (CLOSE, &1011_u16.to_be_bytes()[..]));
        stage.go(3600 * SECOND);
        assert!(stage.is_gone() && stage.heard().is_empty());
        let told = seen();
        assert_eq!(told.iter().filter(|it| it.starts_with("disconnected Listener")).count(), 1);
        assert!(!told.contains(&"Text hello".into()), "{told:?}");
    }
}

#[test]
fn a_disconnect_at_any_point_of_the_cycle_is_told_once_and_leaves_nothing() {
    type Act = fn(&mut Stage);
    let points: [(&str, Act); 6] = [
        ("before the ping", |_| {}),
        ("the ping is queued", |stage| {
            stage.worker.ring.is_stuck = true;
            transport().send_text("held up");
            stage.go(10 * SECOND + GRANULE);
        }),
        ("the ping has left", |stage| drop(stage.ping())),
        ("answered", |stage| {
            let nonce = stage.ping();
            stage.say(PONG, &nonce);
        }),
        ("the second ping", |stage| {
            let nonce = stage.ping();
            stage.say(PONG, &nonce);
            stage.go(20 * SECOND + 3 * GRANULE);
        }),
        ("given up", |stage| {
            stage.ping();
            stage.go(15 * SECOND + 2 * GRANULE);
            assert!(!stage.is_gone());
        }),
    ];
    let ends: [(&str, Act); 6] = [
        ("end of stream", |stage| stage.worker.ring.end(Received::EndOfStream)),
        ("reset", |stage| {
            let error = io::Error::from_raw_os_error(libc::ECONNRESET);
            stage.worker.ring.end(Received::Failed(error));
        }),
        ("abort", |_| transport().abort()),
        ("disconnect", |_| transport().disconnect()),
        ("CLOSE of the peer", |stage| stage.say(CLOSE, &1000_u16.to_be_bytes())),
        ("CLOSE of ours", |_| {
            transport().send_close(CloseCode::NORMAL, "");
        }),
    ];
    for (point, reach) in points {
        for (end, make) in ends {
            let mut stage = Stage::new(Manner::default(), |_| {});
            reach(&mut stage);
            make(&mut stage);
            stage.turn();
            let wakes = stage.go(3600 * SECOND);
            let told = seen();
            let count = told.iter().filter(|it| it.starts_with("disconnected")).count();
            assert_eq!(count, 1, "{end}, {point}: {told:?}");
            assert!(stage.is_gone(), "{end}, {point}");
            assert_eq!(stage.worker.slots.len(), 0, "{end}, {point}");
            assert!(stage.worker.wheel.is_empty(), "{end}, {point}");
            assert!(wakes <= 6, "{end}, {point}: {wakes} wake-ups");
        }
    }
}

#[test]
fn a_close_that_is_under_way_has_a_deadline_of_its_own() {
    let mut stage = Stage::new(Manner::default(), |config| {
        config.liveness.auto_ping = Some(AutoPing::new(2 * SECOND, SECOND));
    });
    stage.worker.ring.now = SECOND;
    stage.turn();
    transport().send_close(CloseCode::NORMAL, "bye");
    stage.turn();
    assert_eq!(stage.heard().len(), 1);
    stage.go(5 * SECOND);
    assert!(stage.heard().is_empty() && !stage.is_gone(), "no ping follows a CLOSE");
    stage.go(6 * SECOND + GRANULE);
    assert!(stage.is_gone());
    assert_eq!(seen(), ["disconnected TimedOut"]);
}

#[test]
fn an_idle_connection_is_told_once_and_wakes_nobody_until_its_close_is_due() {
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
        let mut stage = Stage::new(Manner::default(), |config| {
            config.liveness.auto_ping = None;
            without_looks(config);
            change(config);
        });
        assert_eq!(stage.go(10 * SECOND + GRANULE), 2, "one for the handshake that was in time");
        let heard = stage.heard();
        assert!(heard.len() == 1 && heard[0].1.ends_with(reason.as_bytes()), "{heard:?}");
        assert_eq!(stage.go(14 * SECOND), 0, "{reason}");
        stage.say(CLOSE, &heard[0].1);
        assert_eq!(seen().last(), Some(&format!("disconnected {}", name(&cause))));
    }
}

#[test]
fn a_peer_that_takes_what_waits_for_it_is_not_silent() {
    let mut stage = Stage::new(Manner::default(), |_| {});
    stage.worker.ring.is_stuck = true;
    transport().send(MsgType::Binary, vec![0; 1 << 20]);
    stage.go(14 * SECOND);
    for second in 14..60 {
        // The send has not completed, but the kernel knows better.
        stage.worker.ring.outbox = Some(Outbox { taken: second * 1000, has_more: true });
        stage.go(SECOND * second as u32);
        assert!(!stage.is_gone(), "{second}");
    }
    // It has all arrived, the ping with it, and now an answer is owed.
    stage.worker.ring.unstick();
    stage.worker.ring.outbox = Some(Outbox { taken: 1 << 20, has_more: false });
    stage.turn();
    stage.go(64 * SECOND);
    assert!(!stage.is_gone());
    stage.go(66 * SECOND);
    assert!(stage.is_gone());
    assert_eq!(seen(), ["disconnected PingTimedOut"]);
}

#[test]
fn a_peer_that_takes_nothing_is_dropped_within_idle_and_reply_timeout() {
    let mut stage = Stage::new(Manner::default(), |_| {});
    stage.worker.ring.is_stuck = true;
    stage.worker.ring.outbox = Some(Outbox { taken: 1000, has_more: true });
    transport().send(MsgType::Binary, vec![0; 1 << 20]);
    stage.go(15 * SECOND - GRANULE);
    assert!(seen().is_empty());
    stage.go(15 * SECOND + 3 * GRANULE + Duration::from_millis(10));
    assert!(stage.is_gone(), "whatever is queued");
    assert_eq!(seen(), ["disconnected PingTimedOut"]);
}

#[test]
fn bytes_that_wait_in_the_kernel_are_no_silence() {
    let mut stage = Stage::new(Manner::default(), |_| {});
    let nonce = stage.ping();
    stage.worker.ring.unread = 1;
    stage.go(19 * SECOND);
    assert!(seen().is_empty() && stage.heard().is_empty());
    stage.worker.ring.unread = 0;
    stage.say(PONG, &nonce);
    stage.go(28 * SECOND);
    assert_eq!(seen(), ["asked"]);
}

#[test]
fn while_reading_is_paused_a_pong_that_waits_to_be_read_counts_and_none_does_not() {
    for answers in [true, false] {
        let mut stage = Stage::new(Manner::default(), |_| {});
        transport().pause_reading();
        stage.turn();
        let nonce = stage.ping();
        stage.worker.ring.unread = usize::from(answers);
        stage.go(60 * SECOND);
        assert_eq!(stage.is_gone(), !answers);
        if answers {
            stage.worker.ring.unread = 0;
            transport().resume_reading();
            stage.turn();
            stage.say(PONG, &nonce);
            assert_eq!(seen(), ["asked"]);
            stage.go(69 * SECOND);
            assert!(!stage.is_gone());
        }
    }
}

#[test]
fn a_ping_is_queued_where_other_frames_are_dropped() {
    let mut stage = Stage::new(Manner { pings_as_text: true, ..Manner::default() }, |config| {
        config.queue_bytes_max = 100_000;
        config.queue_policy = QueuePolicy::DropNewest;
    });
    stage.worker.ring.is_stuck = true;
    transport().send(MsgType::Binary, vec![0; 99_980]);
    assert!(!transport().send_text("no room").is_queued());
    stage.go(12 * SECOND);
    stage.worker.ring.unstick();
    stage.turn();
    assert!(stage.worker.ring.sent.ends_with(b"\x81\x04ping"));
}

/// Two ways in which a listener sends no ping: a message between fragments is refused.
fn without_a_ping() -> [Stage; 2] {
    let open = FrameHead::new(MsgType::Text).with_fin(false);
    let refused = Manner { pings_as_text: true, ..Manner::default() };
    let never = Manner { pings_never: true, ..Manner::default() };
    [refused, never].map(|manner| {
        let mut stage = Stage::new(manner, |_| {});
        if manner.pings_as_text {
            assert!(transport().send_frame(open, b"first part").is_queued());
            assert!(!transport().send_text("in between").is_queued());
            stage.turn();
            assert_eq!(stage.heard().len(), 1);
        }
        stage
    })
}

#[test]
fn a_ping_that_the_listener_did_not_send_is_replaced_by_one_of_ours() {
    for mut stage in without_a_ping() {
        for round in 1..=3 {
            stage.go(round * 10 * SECOND + 3 * round * GRANULE);
            let heard = stage.heard();
            let [(PING, number)] = &heard[..] else { panic!("{round}: {heard:?}") };
            seen();
            stage.say(PONG, b"another");
            assert_eq!(seen(), ["asked", "Pong another"]);
            stage.say(PONG, &number.clone());
            assert!(seen().is_empty(), "the listener knows nothing of it");
        }
        assert!(!stage.is_gone());
        // That one was sent, and has to be answered.
        stage.ping_at(40 * SECOND + 12 * GRANULE);
        stage.go(46 * SECOND);
        assert!(stage.is_gone());
        assert_eq!(seen().last().unwrap(), "disconnected PingTimedOut");
    }
}

#[test]
fn the_next_ping_is_of_the_listener_again_as_soon_as_it_can_be() {
    let [mut stage, _] = without_a_ping();
    TRANSPORT.set(Some(stage.worker.slots.iter_mut().next().unwrap().transport.clone()));
    let number = stage.ping_at(10 * SECOND + GRANULE);
    stage.say(PONG, &number);
    let last = FrameHead::new(MsgType::Continuation);
    assert!(transport().send_frame(last, b"last part").is_queued());
    stage.go(21 * SECOND);
    let heard = stage.heard();
    assert_eq!(heard, [(0, b"last part".to_vec()), (TEXT, b"ping".to_vec())]);
    seen();
    stage.say(TEXT, b"pong");
    assert_eq!(seen(), ["asked"]);
    stage.go(30 * SECOND);
    assert!(!stage.is_gone());
}

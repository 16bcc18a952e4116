use super::*;
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

fn at(seconds: u64) -> Tick {
    Tick::ZERO + SECOND * seconds as u32
}

fn nanos_before(tick: Tick) -> Tick {
    Tick::from_nanos(tick.as_nanos() - 1)
}

fn pinging(idle: u64, reply: u64, strategy: AutoPingStrategy) -> LivenessRules {
    let ping = AutoPing::new(SECOND * idle as u32, SECOND * reply as u32).with_strategy(strategy);
    LivenessRules { auto_ping: Some(ping), ..LivenessRules::default() }
}

/// A peer with a ping that left at 10 s and is to be answered until 15 s.
fn pinged() -> (LivenessRules, Liveness) {
    let rules = pinging(10, 5, AutoPingStrategy::WhenIdle);
    let mut peer = Liveness::new(&rules, at(0), None);
    assert_eq!(peer.handle_timeout(&rules, at(10), false), Some(Verdict::Ping));
    peer.ping_queued(at(10), 10);
    peer.sent(at(10), 10);
    (rules, peer)
}

#[test]
fn nothing_is_watched_by_default() {
    let rules = LivenessRules::default();
    let mut peer = Liveness::new(&rules, at(0), None);
    assert!(!rules.is_on() && peer.poll_timeout(&rules).is_none());
    assert_eq!(peer.handle_timeout(&rules, at(1_000_000), false), None);
}

#[test]
fn a_ping_is_due_when_nothing_arrived_for_the_idle_timeout() {
    let rules = pinging(10, 5, AutoPingStrategy::WhenIdle);
    let mut peer = Liveness::new(&rules, at(0), None);
    assert_eq!(peer.handle_timeout(&rules, nanos_before(at(10)), false), None);
    peer.received(at(9));
    assert_eq!(peer.handle_timeout(&rules, at(10), false), None, "the timer fired early");
    assert_eq!(peer.poll_timeout(&rules), Some(at(19)));
    assert_eq!(peer.handle_timeout(&rules, at(19), false), Some(Verdict::Ping));
}

#[test]
fn the_reply_clock_starts_when_the_ping_has_left_the_queue() {
    let rules = pinging(10, 5, AutoPingStrategy::WhenIdle);
    let mut peer = Liveness::new(&rules, at(0), None);
    assert_eq!(peer.handle_timeout(&rules, at(10), false), Some(Verdict::Ping));
    peer.ping_queued(at(10), 1000);
    peer.sent(at(12), 400);
    peer.sent(at(14), 599);
    assert_eq!(peer.handle_timeout(&rules, at(18), false), None, "the queue still moves");
    peer.sent(at(18), 500);
    assert_eq!(peer.handle_timeout(&rules, nanos_before(at(23)), false), None);
    assert_eq!(peer.handle_timeout(&rules, at(23), false), Some(Verdict::Silent));
}

#[test]
fn a_ping_that_was_not_sent_is_not_waited_for_and_tried_again_later() {
    for strategy in [AutoPingStrategy::WhenIdle, AutoPingStrategy::Periodic] {
        let rules = pinging(10, 5, strategy);
        let mut peer = Liveness::new(&rules, at(0), None);
        for round in 1..=3 {
            let verdict = peer.handle_timeout(&rules, at(10 * round), false);
            assert_eq!(verdict, Some(Verdict::Ping), "{strategy:?}");
            assert_eq!(peer.poll_timeout(&rules), Some(at(10 * (round + 1))), "not at once");
        }
    }
}

#[test]
fn a_queue_that_does_not_move_is_silence() {
    let rules = pinging(10, 5, AutoPingStrategy::WhenIdle);
    let mut peer = Liveness::new(&rules, at(0), None);
    assert_eq!(peer.handle_timeout(&rules, at(10), false), Some(Verdict::Ping));
    peer.ping_queued(at(10), 1000);
    assert_eq!(peer.handle_timeout(&rules, at(15), false), Some(Verdict::Silent));
}

#[test]
fn a_pong_counts_just_before_the_deadline_and_not_after() {
    let (rules, mut peer) = pinged();
    peer.received(nanos_before(at(15)));
    let took = peer.pong_received(nanos_before(at(15)));
    assert_eq!(took, Some(SECOND * 5 - Duration::from_nanos(1)));
    assert_eq!(peer.pong_received(at(15)), None, "none is awaited");
    assert_eq!(peer.handle_timeout(&rules, at(15), false), None);
    assert!(!peer.is_pong_expected());

    // One that arrives in the turn of the deadline is handled before the deadline is.
    let (rules, mut peer) = pinged();
    peer.received(at(15));
    peer.pong_received(at(15));
    assert_eq!(peer.handle_timeout(&rules, at(15), false), None);

    let (rules, mut peer) = pinged();
    assert_eq!(peer.handle_timeout(&rules, at(15), false), Some(Verdict::Silent));
}

#[test]
fn a_peer_that_sends_is_not_silent_though_it_owes_a_pong() {
    let (rules, mut peer) = pinged();
    for second in 11..30 {
        peer.received(at(second));
        assert_eq!(peer.handle_timeout(&rules, at(second), false), None);
    }
    assert!(peer.is_pong_expected());
    assert_eq!(peer.handle_timeout(&rules, nanos_before(at(34)), false), None);
    assert_eq!(peer.handle_timeout(&rules, at(34), false), Some(Verdict::Silent));
}

#[test]
fn a_backlog_is_no_silence() {
    let (rules, mut peer) = pinged();
    assert_eq!(peer.handle_timeout(&rules, at(15), true), None);
    assert_eq!(peer.poll_timeout(&rules), Some(at(20)));
    assert_eq!(peer.handle_timeout(&rules, at(20), false), Some(Verdict::Silent));
}

#[test]
fn a_peer_that_takes_what_waits_in_front_of_the_ping_is_not_silent() {
    let rules = pinging(10, 5, AutoPingStrategy::WhenIdle);
    let mut peer = Liveness::new(&rules, at(0), None);
    assert_eq!(peer.handle_timeout(&rules, at(10), false), Some(Verdict::Ping));
    peer.ping_queued(at(10), 1_000_000);
    peer.taken(at(10), 500, true);
    peer.taken(at(15), 501, true);
    assert_eq!(peer.handle_timeout(&rules, at(15), false), None);
    peer.taken(at(20), 501, true);
    assert_eq!(peer.handle_timeout(&rules, at(20), false), Some(Verdict::Silent));

    // The ping has left, but waits in the kernel; then it has arrived.
    peer.ping_queued(at(20), 0);
    peer.taken(at(25), 502, true);
    assert_eq!(peer.handle_timeout(&rules, at(25), false), None);
    peer.taken(at(30), 503, false);
    assert_eq!(peer.handle_timeout(&rules, at(30), false), Some(Verdict::Silent));
}

#[test]
fn a_pong_that_is_not_awaited_is_harmless() {
    let rules = pinging(10, 5, AutoPingStrategy::WhenIdle);
    let mut peer = Liveness::new(&rules, at(0), None);
    peer.pong_received(at(3));
    assert_eq!(peer.poll_timeout(&rules), Some(at(10)));
    peer.sent(at(3), 100);
    assert!(!peer.is_pong_expected());
}

#[test]
fn when_idle_a_busy_peer_is_never_pinged_for_hours() {
    let rules = pinging(10, 5, AutoPingStrategy::WhenIdle);
    let mut peer = Liveness::new(&rules, at(0), None);
    for second in (9..6 * 3600).step_by(9) {
        peer.received(at(second));
        assert_eq!(peer.handle_timeout(&rules, at(second), false), None);
    }
}

#[test]
fn periodic_pings_come_in_spite_of_data_for_hours() {
    let rules = pinging(10, 10, AutoPingStrategy::Periodic);
    let mut peer = Liveness::new(&rules, at(0), None);
    let mut pings = 0;
    for second in 1..=6 * 3600 {
        peer.received(at(second));
        match peer.handle_timeout(&rules, at(second), false) {
            None => {}
            Some(Verdict::Ping) => {
                assert_eq!(second % 10, 0);
                pings += 1;
                peer.ping_queued(at(second), 0);
                peer.pong_received(at(second));
            }
            other => panic!("{other:?} at {second}"),
        }
    }
    assert_eq!(pings, 6 * 360);
}

#[test]
fn periodic_pings_do_not_pile_up_behind_a_late_pong() {
    let rules = pinging(10, 10, AutoPingStrategy::Periodic);
    let mut peer = Liveness::new(&rules, at(0), None);
    assert_eq!(peer.handle_timeout(&rules, at(10), false), Some(Verdict::Ping));
    peer.ping_queued(at(10), 0);
    peer.received(at(19));
    assert_eq!(peer.handle_timeout(&rules, at(20), false), None, "one ping at a time");
    peer.received(at(25));
    peer.pong_received(at(25));
    assert_eq!(peer.handle_timeout(&rules, at(25), false), Some(Verdict::Ping));
}

#[test]
fn held_back_while_a_round_trip_is_measured() {
    let rules = pinging(10, 5, AutoPingStrategy::WhenIdle);
    let mut peer = Liveness::new(&rules, at(0), None);
    peer.hold(true);
    assert_eq!(peer.poll_timeout(&rules), None);
    assert_eq!(peer.handle_timeout(&rules, at(100), false), None);
    peer.hold(false);
    assert_eq!(peer.handle_timeout(&rules, at(100), false), Some(Verdict::Ping));
}

#[test]
fn an_idle_connection_is_ended_without_asking() {
    let rules = LivenessRules { idle_timeout: Some(30 * SECOND), ..LivenessRules::default() };
    let mut peer = Liveness::new(&rules, at(0), None);
    peer.received(at(20));
    assert_eq!(peer.handle_timeout(&rules, at(30), false), None);
    assert_eq!(peer.handle_timeout(&rules, at(50), true), None, "something is here to be read");
    assert_eq!(peer.handle_timeout(&rules, at(80), false), Some(Verdict::Idle));
}

#[test]
fn a_lifetime_ends_once_and_in_spite_of_traffic() {
    let rules = pinging(10, 5, AutoPingStrategy::WhenIdle);
    let mut peer = Liveness::new(&rules, at(0), Some(60 * SECOND));
    peer.received(at(59));
    assert_eq!(peer.handle_timeout(&rules, nanos_before(at(60)), false), None);
    assert_eq!(peer.handle_timeout(&rules, at(60), true), Some(Verdict::Expired));
    assert_eq!(peer.handle_timeout(&rules, at(60), false), None);
}

#[test]
fn timeouts_that_make_no_sense_are_named_with_their_values() {
    let text = AutoPing::new(SECOND, 2 * SECOND).check().unwrap_err();
    assert!(text.contains("1s") && text.contains("2s"), "{text}");
    assert!(AutoPing::new(Duration::ZERO, Duration::ZERO).check().is_err());
    assert!(AutoPing::new(SECOND, SECOND).check().is_ok());
    for (rules, field) in [
        (
            LivenessRules { idle_timeout: Some(Duration::ZERO), ..Default::default() },
            "idle_timeout",
        ),
        (LivenessRules { lifetime: Some(Duration::ZERO), ..Default::default() }, "lifetime"),
        (pinging(1, 2, AutoPingStrategy::WhenIdle), "auto_ping"),
    ] {
        assert_eq!(rules.check().unwrap_err().0, field);
    }
    assert_eq!(pinging(2, 2, AutoPingStrategy::Periodic).check(), Ok(()));
}

proptest! {
    /// Whatever happens: a peer that says nothing is found out within idle + reply, and one that
    /// always answers within the reply timeout never is.
    #[test]
    fn the_silent_are_found_in_time_and_the_prompt_are_spared(
        idle in 2..50_u64,
        reply_part in 1..100_u64,
        periodic in any::<bool>(),
        delays in proptest::collection::vec(0..100_u64, 20),
        last_words in 0..20_usize,
    ) {
        let strategy =
            if periodic { AutoPingStrategy::Periodic } else { AutoPingStrategy::WhenIdle };
        let reply = (idle * reply_part).div_ceil(100).max(1);
        let rules = pinging(idle, reply, strategy);
        let mut peer = Liveness::new(&rules, at(0), None);
        let mut last_heard = at(0);
        for (round, delay) in delays.iter().enumerate() {
            let due = peer.poll_timeout(&rules).unwrap();
            prop_assert_eq!(peer.handle_timeout(&rules, due, false), Some(Verdict::Ping));
            peer.ping_queued(due, 10);
            peer.sent(due, 10);
            if round >= last_words {
                let due = peer.poll_timeout(&rules).unwrap();
                prop_assert_eq!(peer.handle_timeout(&rules, due, false), Some(Verdict::Silent));
                let limit = SECOND * (idle + reply) as u32;
                prop_assert!(due.duration_since(last_heard) <= limit);
                return Ok(());
            }
            let answer = due + SECOND * (reply - 1) as u32 * (*delay as u32) / 100;
            prop_assert_eq!(peer.handle_timeout(&rules, answer, false), None);
            peer.received(answer);
            peer.pong_received(answer);
            last_heard = answer;
        }
    }
}

#[test]
fn a_timeout_of_zero_is_refused_as_such_whatever_the_other_one_is() {
    for (idle, reply) in [(SECOND, Duration::ZERO), (Duration::ZERO, SECOND)] {
        let fault = AutoPing::new(idle, reply).check().unwrap_err();
        assert!(fault.contains("more than zero"), "{fault}");
    }
}

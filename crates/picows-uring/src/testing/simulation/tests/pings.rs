//! Automatic pings, and who answers them.

use super::*;
use picows_uring_proto::{AutoPing, AutoPingStrategy, LivenessRules};

const SECOND: Duration = Duration::from_secs(1);

/// A ping after ten seconds without anything, to be answered within five.
fn pinging(strategy: AutoPingStrategy) -> Config {
    let ping = AutoPing::new(SECOND * 10, SECOND * 5).with_strategy(strategy);
    let liveness = LivenessRules { auto_ping: Some(ping), ..LivenessRules::default() };
    Config { liveness, ..Config::default() }
}

#[test]
fn a_silent_peer_is_dropped_within_idle_and_reply_timeout_and_reported_once() {
    let mut scene = Scene::new(Faults::none(), pinging(AutoPingStrategy::WhenIdle));
    let peer = scene.call("/echo");
    // To hear takes twenty milliseconds, and so did the call.
    scene.run(SECOND * 10 - MILLI * 60);
    assert!(scene.hear(peer).frames.is_empty());
    scene.run(MILLI * 40);
    let heard = scene.hear(peer);
    assert_eq!(heard.frames.iter().map(|frame| frame.0).collect::<Vec<_>>(), [0x89]);
    scene.run(SECOND * 5 - MILLI * 60);
    assert_eq!(Scene::disconnected(0), 0);
    scene.run(MILLI * 60);
    assert_eq!(Scene::disconnected(0), 1, "a ping, five seconds, and a granule of the wheel");
    let heard = scene.hear(peer);
    assert_eq!(heard.frames, [close_frame(CloseCode::GOING_AWAY, "no pong within 5s")]);
    assert!(heard.is_over);
    scene.end();
}

#[test]
fn a_peer_that_takes_nothing_is_dropped_as_soon() {
    let mut scene = Scene::new(Faults::none(), pinging(AutoPingStrategy::WhenIdle));
    let peer = scene.call_with_room("/echo", 3000);
    // The echo fills the peer's room, so that the ping never leaves the queue.
    scene.say(peer, MsgType::Binary, &[7; 2900]);
    scene.run(MILLI);
    scene.say(peer, MsgType::Binary, &[7; 2900]);
    scene.run(SECOND * 15 - MILLI * 10);
    assert_eq!(Scene::disconnected(0), 0);
    scene.run(MILLI * 40);
    assert_eq!((scene.harness.stats().connections, Scene::disconnected(0)), (0, 1));
    scene.end();
}

#[test]
fn a_peer_that_answers_lives_and_a_wrong_answer_does_not_count() {
    for is_right in [true, false] {
        let mut scene = Scene::new(Faults::none(), pinging(AutoPingStrategy::WhenIdle));
        let peer = scene.call("/echo");
        for _ in 0..10 {
            scene.run(SECOND * 10);
            let heard = scene.hear(peer);
            let Some((0x89, nonce)) = heard.frames.first().cloned() else { break };
            let answer = if is_right { nonce } else { b"whatever".to_vec() };
            scene.say(peer, MsgType::Pong, &answer);
        }
        // A wrong pong shows that the peer is there, but not that it has got our ping.
        scene.run(SECOND * 6);
        assert_eq!(Scene::disconnected(0), u32::from(!is_right), "is_right={is_right}");
        scene.end();
    }
}

#[test]
fn a_busy_peer_is_pinged_only_by_the_clock() {
    for (strategy, pings) in [(AutoPingStrategy::WhenIdle, 0), (AutoPingStrategy::Periodic, 6)] {
        let mut scene = Scene::new(Faults::none(), pinging(strategy));
        let peer = scene.call("/mute");
        let mut seen = 0;
        for _ in 0..61 {
            scene.run(SECOND);
            scene.say(peer, MsgType::Text, b"busy");
            for (first, nonce) in scene.hear(peer).frames {
                assert_eq!(first, 0x89);
                seen += 1;
                scene.say(peer, MsgType::Pong, &nonce);
            }
        }
        assert_eq!(seen, pings, "{strategy:?}");
        scene.end();
    }
}

#[test]
fn nothing_wakes_a_worker_between_the_deadlines_of_its_idle_connections() {
    let mut scene = Scene::new(Faults::none(), pinging(AutoPingStrategy::WhenIdle));
    for _ in 0..50 {
        scene.call("/mute");
    }
    scene.run(SECOND);
    let before = scene.harness.stats().turns;
    scene.run(SECOND * 8);
    // The harness itself wakes a worker for nothing now and then, to see that it is harmless.
    let turns = scene.harness.stats().turns - before;
    assert!(turns < 2000, "{turns} turns in 80,000 steps of a clock without a deadline");
    scene.end();
}

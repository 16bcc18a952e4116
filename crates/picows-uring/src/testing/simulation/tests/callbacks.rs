//! Callbacks that fail, and callbacks that end another connection.

use super::*;
use crate::testing::simulation::listeners::PLACES;

#[test]
fn a_panic_in_any_callback_ends_one_connection_only() {
    for place in PLACES {
        let config = Config { high_watermark: 1000, low_watermark: 100, ..Config::default() };
        let mut scene = Scene::new(Faults::none(), config);
        let neighbour = scene.call("/echo");
        // Echoes 3000 bytes into a pipe of 2000, so that it pauses, and resumes when it is read.
        let peer = scene.call_with_room(&format!("/echo?at={place}"), 3200);
        scene.hear(peer);
        if place != "connected" {
            for _ in 0..2 {
                scene.say(peer, MsgType::Binary, &[1; 3000]);
                scene.run(MILLI);
            }
            scene.hear(peer);
        }
        if matches!(place, "disconnected" | "drop") {
            scene.harness.ring().peer(peer).reset();
        }
        scene.run(MILLI * 5100);
        let record = journal::with(|journal| format!("{:?}", journal.record(1)));
        assert_eq!(scene.harness.stats().listener_errors, 1, "at={place}: {record}");
        assert_eq!(scene.harness.stats().connections, 1, "at={place}: {record}");
        assert_eq!(Scene::disconnected(1), 1, "at={place}");
        scene.assert_served(neighbour);
        scene.end();
    }
}

#[test]
fn what_a_listener_returns_decides_the_close_code() {
    for (command, code, reason) in
        [("panic", 1011, ""), ("error", 1011, ""), ("refuse", 4000, "as it was told")]
    {
        let mut scene = Scene::quiet();
        let neighbour = scene.call("/echo");
        let peer = scene.call("/obey");
        scene.say(peer, MsgType::Text, command.as_bytes());
        let heard = scene.hear(peer);
        assert_eq!(heard.frames, [close_frame(CloseCode::new(code).unwrap(), reason)]);
        assert!(heard.is_over);
        scene.assert_served(neighbour);
        scene.end();
    }
}

#[test]
fn a_listener_that_panics_when_it_is_dropped_unused_ends_one_connection_only() {
    let mut scene = Scene::quiet();
    let neighbour = scene.call("/echo");
    let peer = scene.connect(1000);
    scene.write(peer, b"GET /echo?at=drop HTTP/1.1\r\nHost: x\r\n\r\n");
    let heard = scene.hear(peer);
    assert!(heard.answer.starts_with("HTTP/1.1 4"), "{heard:?}");
    scene.assert_served(neighbour);
    scene.end();
}

#[test]
fn a_callback_may_end_another_connection() {
    let mut closes = Vec::new();
    for first in 0..8 {
        let mut scene = Scene::quiet();
        // The way in which it is ended depends on the number of the caller.
        scene.callers = first * 10;
        let neighbour = scene.call("/echo");
        let (caller, victim) = (scene.call("/obey"), scene.call("/room"));
        scene.hear(victim);
        scene.say(caller, MsgType::Text, b"others");
        closes.push(scene.hear(victim).frames.len());
        scene.run(MILLI * 5100);
        assert_eq!(Scene::disconnected(first * 10 + 2), 1);
        assert_eq!(Scene::disconnected(first * 10 + 1), 0);
        scene.assert_served(neighbour);
        scene.end();
    }
    assert!(closes.contains(&0) && closes.contains(&1), "in silence, and with CLOSE: {closes:?}");
}

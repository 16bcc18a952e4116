//! Buffers that run out, and queues that are full.

use super::*;
use crate::config::QueuePolicy;

#[test]
fn want_of_buffers_loses_nothing() {
    let faults = Faults { buffers: 1, buffer_bytes: 64, ..Faults::none() };
    let mut scene = Scene::new(faults, Config::default());
    let peers: Vec<_> = (0..8).map(|_| scene.call("/echo")).collect();
    for (number, peer) in peers.iter().enumerate() {
        scene.say(*peer, MsgType::Binary, &vec![number as u8; 10_000]);
    }
    scene.run(MILLI * 500);
    for (number, peer) in peers.into_iter().enumerate() {
        assert_eq!(scene.hear(peer).frames, [(0x82, vec![number as u8; 10_000])]);
    }
    assert!(scene.harness.stats().buffer_shortages > 100);
    scene.end();
}

#[test]
fn a_full_queue_ends_the_connection_with_1008() {
    let config = Config { queue_bytes_max: 10_000, high_watermark: 5000, ..Config::default() };
    let mut scene = Scene::new(Faults::none(), config);
    let peer = scene.call_with_room("/echo", 5000);
    for _ in 0..8 {
        scene.say(peer, MsgType::Binary, &[5; 3000]);
        scene.run(MILLI);
    }
    let heard = scene.hear(peer);
    let (last, frames) = heard.frames.split_last().unwrap();
    assert_eq!(*last, close_frame(CloseCode::POLICY_VIOLATION, "send queue full"));
    assert!(heard.is_over && frames.len() < 8);
    assert!(frames.iter().all(|frame| *frame == (0x82, vec![5; 3000])));
    scene.end();
}

#[test]
fn a_full_queue_may_drop_what_is_newest_and_no_control_frame() {
    let config = Config {
        queue_bytes_max: 10_000,
        high_watermark: 5000,
        queue_policy: QueuePolicy::DropNewest,
        ..Config::default()
    };
    let mut scene = Scene::new(Faults::none(), config);
    let peer = scene.call_with_room("/echo", 5000);
    for number in 0..8 {
        scene.say(peer, MsgType::Binary, &[number; 3000]);
        scene.run(MILLI);
    }
    scene.say(peer, MsgType::Ping, b"alive?");
    scene.run(MILLI);
    let heard = scene.hear(peer);
    let (last, frames) = heard.frames.split_last().unwrap();
    assert_eq!(*last, (0x8A, b"alive?".to_vec()));
    for (number, frame) in frames.iter().enumerate() {
        assert_eq!(*frame, (0x82, vec![number as u8; 3000]));
    }
    let dropped = 8 - frames.len() as u64;
    assert!(dropped > 0 && scene.harness.stats().frames_dropped == dropped);
    scene.assert_served(peer);
    scene.end();
}

#[test]
fn a_sender_with_a_congested_queue_has_to_pause() {
    let config = Config { high_watermark: 1000, low_watermark: 100, ..Config::default() };
    let mut scene = Scene::new(Faults::none(), config);
    // There is no room for the first echo beside the response, which it has not read.
    let peer = scene.call_with_room("/echo", 1000);
    let pauses = || {
        journal::with(|journal| {
            let record = journal.record(0);
            (record.pauses, record.is_paused)
        })
    };
    for expected in [(0, false), (1, true)] {
        scene.say(peer, MsgType::Binary, &[0; 990]);
        scene.run(MILLI * 5);
        assert_eq!(pauses(), expected);
    }
    assert_eq!(scene.hear(peer).frames.len(), 2);
    assert_eq!(pauses(), (1, false), "resumed when it was sent");
    scene.assert_served(peer);
    scene.end();
}

#[test]
fn an_idle_connection_owns_no_buffer() {
    let mut scene = Scene::quiet();
    let peer = scene.call("/echo");
    // A frame in two halves needs a stash, and its echo a queue.
    let mut frame = Vec::new();
    FrameHead::new(MsgType::Binary).append(&mut frame, &[7; 50_000], Some([1, 2, 3, 4]));
    let (first, second) = frame.split_at(20_000);
    scene.write(peer, first);
    scene.run(MILLI * 5);
    assert!(scene.harness.owned_bytes() >= 19_000, "{}", scene.harness.owned_bytes());
    scene.write(peer, second);
    assert_eq!(scene.hear(peer).frames.len(), 1);
    assert_eq!(scene.harness.owned_bytes(), 0);
    scene.end();
}

//! Ends that take their time: of peers that do not do their part, and of a server that stops.

use super::*;

#[test]
fn a_handshake_has_five_seconds() {
    let mut scene = Scene::quiet();
    let silent = scene.connect(1000);
    let slow = scene.connect(1000);
    scene.write(slow, b"GET /echo HTTP/1.1\r\n");
    scene.run(MILLI * 4990);
    assert_eq!(scene.harness.stats().connections, 2);
    scene.run(MILLI * 20);
    assert_eq!(scene.harness.stats().connections, 0);
    for peer in [silent, slow] {
        assert!(scene.hear(peer).is_over);
    }
    scene.end();
}

#[test]
fn a_peer_that_never_reads_is_given_the_close_timeout() {
    let mut scene = Scene::quiet();
    let peer = scene.call_with_room("/echo", 5000);
    scene.say(peer, MsgType::Binary, &[7; 3000]);
    scene.run(MILLI);
    scene.say(peer, MsgType::Binary, &[7; 3000]);
    scene.run(MILLI);
    scene.write(peer, CLOSE_NORMAL);
    scene.run(MILLI * 4900);
    assert_eq!((scene.harness.stats().connections, Scene::disconnected(0)), (1, 0));
    scene.run(MILLI * 200);
    assert_eq!((scene.harness.stats().connections, Scene::disconnected(0)), (0, 1));
    scene.end();
}

#[test]
fn a_peer_that_does_not_end_the_stream_is_given_the_close_timeout() {
    let mut scene = Scene::quiet();
    let peer = scene.call("/echo");
    scene.write(peer, CLOSE_NORMAL);
    let heard = scene.hear(peer);
    assert_eq!(heard.frames, [(0x88, vec![0x03, 0xE8])]);
    assert!(heard.is_over);
    assert_eq!((scene.harness.stats().connections, Scene::disconnected(0)), (1, 1));
    scene.run(MILLI * 5000);
    assert_eq!(scene.harness.stats().connections, 0);
    scene.end();
}

#[test]
fn stopping_closes_every_connection_and_waits_no_longer_than_its_timeout() {
    let mut scene = Scene::quiet();
    let (polite, rude) = (scene.call("/echo"), scene.call("/mute"));
    let begun = scene.connect(1000);
    scene.run(MILLI);
    scene.harness.stop(MILLI * 1000);
    scene.run(MILLI * 2);
    let goodbye = close_frame(CloseCode::GOING_AWAY, "server is shutting down");
    for peer in [polite, rude] {
        let heard = scene.hear(peer);
        assert_eq!(heard.frames.as_slice(), std::slice::from_ref(&goodbye));
        assert!(!heard.is_over);
    }
    let late = scene.connect(1000);
    scene.run(MILLI);
    assert!(scene.hear(late).is_over);
    // One whose handshake is under way has a moment for the rest of it.
    assert!(!scene.hear(begun).is_over);
    scene.run(MILLI * 300);
    let heard = scene.hear(begun);
    assert!(heard.answer.starts_with("HTTP/1.1 503 ") && heard.is_over, "{heard:?}");
    scene.harness.ring().peer(begun).close();
    scene.write(polite, b"\x88\x82\0\0\0\0\x03\xE9");
    assert!(scene.hear(polite).is_over);
    scene.harness.ring().peer(polite).close();
    scene.run(MILLI * 450);
    assert!(!scene.harness.is_done());
    assert_eq!((Scene::disconnected(0), Scene::disconnected(1)), (1, 0));
    scene.run(MILLI * 300);
    assert!(scene.harness.is_done());
    assert_eq!(Scene::disconnected(1), 1);
}

#[test]
fn closes_of_a_shutdown_are_spread_and_connections_are_served_until_theirs() {
    const PEERS: usize = 10;
    let config = Config { drain_spread: Some(MILLI * 1000), ..Config::default() };
    let mut scene = Scene::new(Faults::none(), config);
    let peers: Vec<_> = (0..PEERS).map(|_| scene.call("/echo")).collect();
    peers.iter().for_each(|peer| drop(scene.hear(*peer)));
    scene.say(peers[8], MsgType::Text, b"still there?");
    scene.harness.stop(MILLI * 4000);
    let (begun, before) = (scene.harness.ring().now(), scene.harness.stats().frames_sent);
    // One that leaves by itself does not hold the others up.
    scene.harness.ring().peer(peers[PEERS - 1]).close();
    for _ in 0..8 {
        scene.run(MILLI * 100);
        let passed = scene.harness.ring().now() - begun;
        // One frame is the echo.
        let told = scene.harness.stats().frames_sent - before - 1;
        // The first at once, and then one every 100 ms, as exactly as timers are.
        let due = |at: Duration| (at.as_millis() as u64 / 100 + 1).min(9);
        assert!((due(passed - MILLI * 10)..=due(passed)).contains(&told), "{told} by {passed:?}");
    }
    let goodbye = close_frame(CloseCode::GOING_AWAY, "server is shutting down");
    assert_eq!(scene.hear(peers[8]).frames, [(0x81, b"still there?".to_vec()), goodbye]);
    for peer in &peers[..9] {
        scene.write(*peer, b"\x88\x82\0\0\0\0\x03\xE9");
        scene.run(MILLI);
        scene.harness.ring().peer(*peer).close();
    }
    scene.run(MILLI * 100);
    assert!(scene.harness.is_done(), "nobody is left, so nobody is waited for");
}

#[test]
fn a_stop_that_is_in_a_hurry_overtakes_one_that_is_not() {
    let config = Config { drain_spread: Some(MILLI * 10_000), ..Config::default() };
    let mut scene = Scene::new(Faults::none(), config);
    let peers: Vec<_> = (0..10).map(|_| scene.call("/echo")).collect();
    scene.harness.stop(MILLI * 60_000);
    scene.run(MILLI * 100);
    scene.harness.stop(MILLI * 1000);
    scene.run(MILLI * 500);
    for peer in &peers {
        assert_eq!(scene.hear(*peer).frames.len(), 1);
    }
    scene.harness.stop(Duration::ZERO);
    scene.run(MILLI * 10);
    assert!(scene.harness.is_done());
}

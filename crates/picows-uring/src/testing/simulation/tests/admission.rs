//! Admission of connections, and what happens when there is no room.

use super::*;

#[test]
fn want_of_descriptors_pauses_accepting_and_a_timer_resumes_it() {
    let mut scene = Scene::new(Faults { descriptors_max: 1, ..Faults::none() }, Config::default());
    let peer = scene.call("/echo");
    scene.run(MILLI * 250);
    let stats = scene.harness.stats();
    assert_eq!((stats.accepted, stats.accept_pauses), (0, 3), "every 100 ms");
    assert!(stats.turns < 100, "it does not spin: {}", stats.turns);
    scene.harness.ring().faults_mut().descriptors_max = 100;
    scene.run(MILLI * 30);
    assert_eq!(scene.harness.stats().accepted, 0);
    scene.run(MILLI * 30);
    scene.assert_served(peer);
    scene.end();
}

#[test]
fn a_connection_that_ends_resumes_accepting() {
    let mut scene = Scene::new(Faults { descriptors_max: 2, ..Faults::none() }, Config::default());
    let first = scene.call("/echo");
    let second = scene.call("/echo");
    assert_eq!((scene.harness.stats().accepted, scene.harness.stats().accept_pauses), (1, 1));
    scene.harness.ring().peer(first).reset();
    scene.run(MILLI * 3);
    assert_eq!(scene.harness.stats().accepted, 2);
    scene.assert_served(second);
    scene.end();
}

#[test]
fn the_limit_of_connections_is_answered_with_503() {
    let config = Config { connections_max: Some(1), ..Config::default() };
    let mut scene = Scene::new(Faults::none(), config);
    let first = scene.call("/echo");
    let second = scene.call("/echo");
    let heard = scene.hear(second);
    assert!(heard.answer.starts_with("HTTP/1.1 503 "), "{heard:?}");
    assert!(heard.is_over);
    scene.assert_served(first);
    for peer in [first, second] {
        scene.harness.ring().peer(peer).close();
    }
    scene.run(MILLI * 5);
    assert_eq!(scene.harness.stats().refused, 1);
    let third = scene.call("/echo");
    scene.assert_served(third);
    scene.end();
}

#[test]
fn the_limit_of_an_address_and_that_of_handshakes_are_answered_with_503() {
    let config = Config { connections_per_address_max: Some(2), ..Config::default() };
    let mut scene = Scene::new(Faults::none(), config);
    let (first, second) = (scene.call("/echo"), scene.call("/echo"));
    let third = scene.call("/echo");
    let heard = scene.hear(third);
    assert!(heard.answer.starts_with("HTTP/1.1 503 "), "{heard:?}");
    scene.assert_served(first);
    scene.harness.ring().peer(second).close();
    scene.run(MILLI * 5);
    let fourth = scene.call("/echo");
    scene.assert_served(fourth);
    assert_eq!(scene.harness.stats().refused_by_address, 1);
    scene.end();

    let config = Config { handshakes_max: Some(1), ..Config::default() };
    let mut scene = Scene::new(Faults::none(), config);
    let first = scene.call("/echo");
    let begun = scene.connect(1000);
    scene.run(MILLI);
    let second = scene.call("/echo");
    let heard = scene.hear(second);
    assert!(heard.answer.starts_with("HTTP/1.1 503 "), "{heard:?}");
    scene.assert_served(first);
    scene.harness.ring().peer(begun).close();
    scene.run(MILLI);
    let third = scene.call("/echo");
    scene.assert_served(third);
    assert_eq!(scene.harness.stats().refused_by_handshakes, 1);
    scene.end();
}

//! Publications that wait for others of their topic.

use super::*;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

/// A hub whose topics below `slow` linger for 20 ms, or until three publications wait.
fn hub() -> Hub {
    let slow = TopicSettings::new().linger(20 * MS).batch_max(3).history(History::last(100));
    Hub::builder().settings_of("slow.>", slow).build().unwrap()
}

fn later(place: &mut Place, time: Duration) {
    place.worker.ring.now += time;
    place.turn();
}

#[test]
fn publications_wait_for_others_and_leave_together_on_time() {
    let (hub, mut place) = (hub(), Place::new());
    subscribe(&place, &hub, ">", SubscribeOptions::new()).keep();
    publish(&hub, "slow.a", "1");
    publish(&hub, "fast", "at once");
    place.turn();
    assert_eq!(place.texts(), ["at once"]);
    let armed = place.worker.ring.deadline.expect("the worker takes a turn by itself");
    assert!(armed <= place.worker.ring.now + 22 * MS, "{armed:?}");
    later(&mut place, 10 * MS);
    publish(&hub, "slow.a", "2");
    publish(&hub, "slow.b", "other");
    place.turn();
    assert!(place.texts().is_empty());
    place.stick();
    later(&mut place, 12 * MS);
    assert_eq!(place.worker.ring.sending().len(), 1, "both in one run");
    place.unstick();
    assert_eq!(place.texts(), ["1", "2"], "the first is as late as it may be, the second is not");
    later(&mut place, 10 * MS);
    assert_eq!(place.texts(), ["other"]);
    later(&mut place, 100 * MS);
    assert!(place.texts().is_empty());
}

#[test]
fn a_full_batch_leaves_at_once() {
    let (hub, mut place) = (hub(), Place::new());
    subscribe(&place, &hub, "slow.a", SubscribeOptions::new()).keep();
    for number in 1..=4 {
        publish(&hub, "slow.a", &number.to_string());
    }
    place.turn();
    assert_eq!(place.texts(), ["1", "2", "3"]);
    later(&mut place, 22 * MS);
    assert_eq!(place.texts(), ["4"]);
    // Longer than a run: there is nothing to wait for.
    publish(&hub, "slow.a", &"x".repeat(70_000));
    place.turn();
    assert_eq!(place.texts().len(), 1);
}

#[test]
fn runs_have_no_more_publications_than_the_topic_allows() {
    let settings = TopicSettings::new().batch_max(2);
    let hub = Hub::builder().settings(settings).build().unwrap();
    let mut place = Place::new();
    subscribe(&place, &hub, "t", SubscribeOptions::new()).keep();
    place.stick();
    for number in 1..=5 {
        publish(&hub, "t", &number.to_string());
    }
    place.turn();
    assert_eq!(place.worker.ring.sending().len(), 3);
    place.unstick();
    assert_eq!(place.texts(), ["1", "2", "3", "4", "5"]);
}

#[test]
fn a_direct_send_takes_with_it_what_waits_for_the_connection() {
    let (hub, mut place) = (hub(), Place::new());
    subscribe(&place, &hub, "slow.a", SubscribeOptions::new()).keep();
    publish(&hub, "slow.a", "1");
    place.turn();
    place.on_thread(|transport| {
        publish(&hub, "slow.a", "2");
        transport.send_text("3");
        transport.send_text("4");
        publish(&hub, "slow.a", "5");
        transport.send_text("6");
    });
    place.turn();
    assert_eq!(place.texts(), ["1", "2", "3", "4", "5", "6"]);
    later(&mut place, 100 * MS);
    assert!(place.texts().is_empty(), "nothing twice");
}

#[test]
fn what_lingers_is_before_a_gap_and_before_the_end() {
    let (hub, mut place) = (hub(), Place::new());
    let options = SubscribeOptions::new();
    let options = options.on_missed(|transport, _| {
        transport.send_text("missed");
    });
    subscribe(&place, &hub, "slow.a", options).keep();
    publish(&hub, "slow.a", "1");
    place.turn();
    hub.core().topic("slow.a").map(|core| core.gap(&mut core.lock(), None)).unwrap();
    publish(&hub, "slow.a", "2");
    place.turn();
    assert_eq!(place.texts(), ["1", "missed"]);
    place.on_thread(|transport| transport.send_close(crate::CloseCode::NORMAL, ""));
    place.turn();
    let last: Vec<_> = place.received().into_iter().map(|(opcode, _)| opcode).collect();
    assert_eq!(last, [1, 8], "2 leaves before the CLOSE");
}

#[test]
fn a_history_and_what_lingers_of_it_come_once() {
    let (hub, mut place) = (hub(), Place::new());
    subscribe(&place, &hub, "slow.>", SubscribeOptions::new().filter(|_| false)).keep();
    subscribe(&place, &hub, "slow.a", SubscribeOptions::new().filter(|_| false)).keep();
    publish(&hub, "slow.a", "a1");
    place.turn();
    publish(&hub, "slow.b", "b1");
    for subject in ["slow.>", "slow.a"] {
        subscribe(&place, &hub, subject, SubscribeOptions::new().start(Start::History)).keep();
    }
    publish(&hub, "slow.a", "a2");
    later(&mut place, 50 * MS);
    let mut texts = place.texts();
    texts.sort();
    assert_eq!(texts, ["a1", "a1", "a2", "a2", "b1"]);
}

#[test]
fn runs_that_begin_before_a_start_with_wildcards_are_not_taken_for_new() {
    let settings = TopicSettings::new().history(History::last(100));
    let hub = Hub::builder().settings(settings).build().unwrap();
    let mut place = Place::new();
    subscribe(&place, &hub, "t.*", SubscribeOptions::new().filter(|_| false)).keep();
    publish(&hub, "t.a", "a1");
    publish(&hub, "t.b", "b1");
    subscribe(&place, &hub, "t.*", SubscribeOptions::new().start(Start::History)).keep();
    // Joined with the first, in front of that of the other topic.
    publish(&hub, "t.a", "a2");
    place.turn();
    let mut texts = place.texts();
    texts.sort();
    assert_eq!(texts, ["a1", "a2", "b1"]);
}

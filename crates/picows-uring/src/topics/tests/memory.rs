//! Memory of histories: their bound, and their part in the memory budget.

use super::*;
use crate::memory::{MemoryBudget, MemoryShare};

fn kept(bytes: usize) -> Hub {
    let settings = TopicSettings::new().history(History::last(usize::MAX));
    Hub::builder().settings(settings).max_history_bytes(bytes).build().unwrap()
}

fn fill(hub: &Hub, topic: &str, count: usize) {
    let text = "x".repeat(1000);
    for _ in 0..count {
        publish(hub, topic, &text);
    }
}

#[test]
fn histories_of_all_topics_are_bounded_together() {
    let hub = kept(1_000_000);
    let mut place = Place::new();
    fill(&hub, "large", 500);
    fill(&hub, "small", 100);
    let before = hub.stats();
    assert_eq!(before.history_len, 600, "so much fits");
    let from = Position { offset: 1, ..hub.position("large").unwrap() };
    fill(&hub, "other", 1000);
    let stats = hub.stats();
    assert!(stats.history_bytes <= 1_000_000 && stats.history_bytes >= 800_000, "{stats:?}");
    let len = |topic: &str| hub.topic(topic).unwrap().history_len();
    assert!(len("large") > 4 * len("small") && len("small") > 0, "in proportion");
    // What gave way is lost, never a part of it.
    let lost = subscribe(&place, &hub, "large", SubscribeOptions::new().start(Start::From(from)));
    assert!(matches!(lost.recovery(), Some(Recovery::Lost { .. })));
    place.turn();
    assert!(place.texts().is_empty());
    place.on_thread(|_| drop(lost));
}

#[test]
fn histories_are_in_the_memory_budget_and_give_way_first() {
    let budget = MemoryBudget::new(Some(10_000_000));
    let (hub, place) = (kept(usize::MAX), Place::new());
    fill(&hub, "t", 1000);
    hub.core().join_budget(&budget);
    let near = |wanted: usize, of: usize| wanted.abs_diff(of) <= 2 * budget.step();
    let held = hub.stats().history_bytes;
    assert!(near(held, budget.sum()), "what it had before counts: {held} {}", budget.sum());
    fill(&hub, "t", 1000);
    assert!(near(hub.stats().history_bytes, budget.sum()));
    // Connections need what is left: histories give way, to the target.
    let mailbox = place.on_thread(|transport| Arc::clone(&transport.session().local.mailbox));
    let mut share = MemoryShare::new(&budget, &mailbox);
    share.publish(9_500_000);
    assert!(budget.is_over());
    budget.give_up_reserves();
    assert!(!budget.is_over() && hub.stats().history_bytes < 100_000);
    // As they do where it is publications that make it too much.
    share.publish(6_000_000);
    fill(&hub, "t", 10_000);
    assert!(!budget.is_over() && hub.stats().history_len > 1000, "{}", budget.sum());
    // And no newcomer is refused for them.
    share.publish(7_000_000);
    assert!(!budget.is_full());
    share.publish(0);
    drop((share, hub));
    assert_eq!(budget.sum(), 0);
}

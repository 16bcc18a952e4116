//! The order of publications and of what callbacks of a beginning subscription send.

use super::*;
use std::sync::Mutex;

fn hub() -> Hub {
    let settings = TopicSettings::new().history(History::last(10));
    Hub::builder().settings(settings).build().unwrap()
}

/// Says what came of the start, and publishes in front of that and behind.
fn publishing(hub: &Hub, start: Start) -> SubscribeOptions {
    let hub = hub.clone();
    SubscribeOptions::new().start(start).on_start(move |transport, recovery| {
        publish(&hub, "t", "3");
        publish(&hub, "other", "of_another");
        let kind = match recovery {
            Recovery::New { .. } => "new",
            Recovery::Recovered { .. } => "recovered",
            _ => "lost",
        };
        transport.send_text(kind);
        publish(&hub, "t", "4");
        transport.send_text("started");
    })
}

#[test]
fn nothing_new_is_delivered_before_a_subscription_has_begun() {
    let lost = Position { epoch: 1, offset: 1 };
    for (subject, start, expected) in [
        ("t", Start::New, "new started 3 4"),
        ("t", Start::History, "recovered started 1 2 3 4"),
        ("t", Start::From(lost), "lost started 3 4"),
        ("t.>", Start::New, "new started"),
        // Topics have no order among each other.
        (">", Start::Last(9), "recovered started 1 2 3 4 of_another"),
    ] {
        let (hub, mut place) = (hub(), Place::new());
        subscribe(&place, &hub, "other", SubscribeOptions::new()).keep();
        ["1", "2"].iter().for_each(|it| drop(format!("{:?}", publish(&hub, "t", it))));
        let options = publishing(&hub, start);
        place.on_thread(|transport| {
            hub.subscribe(transport, subject, options).unwrap().keep();
            transport.send_text("behind");
        });
        place.turn();
        let texts = place.texts().join(" ");
        assert_eq!(texts, format!("of_another {expected} behind"), "{subject} {start:?}");
    }
}

#[test]
fn filters_of_what_is_recovered_send_in_front_of_what_is_new() {
    let (hub, mut place) = (hub(), Place::new());
    ["1", "2"].iter().for_each(|it| drop(format!("{:?}", publish(&hub, "t", it))));
    let (its_hub, transport) = (hub.clone(), place.transport.clone());
    let options = SubscribeOptions::new().start(Start::History).filter(move |publication| {
        if publication.payload() == b"1" {
            publish(&its_hub, "t", "3");
            transport.send_text("sees 1");
        }
        true
    });
    subscribe(&place, &hub, "t", options).keep();
    place.turn();
    assert_eq!(place.texts(), ["sees 1", "1", "2", "3"]);
}

#[test]
fn what_is_published_in_a_callback_of_missed_ones_follows_what_that_sends() {
    let hub = Hub::builder().max_waiting(1, usize::MAX).build().unwrap();
    let mut place = Place::new();
    let its_hub = hub.clone();
    let options = SubscribeOptions::new().policy(SlowPolicy::drop_oldest(60));
    let options = options.on_missed(move |transport, missed| {
        publish(&its_hub, "t", "after");
        transport.send_text(format!("missed {:?}", missed.count()));
    });
    subscribe(&place, &hub, "t", options).keep();
    place.stick();
    // It holds some back; behind the last one, some more have no room in the inbox.
    for number in 0..20 {
        publish(&hub, "t", &format!("{number:0>20000}"));
        place.turn();
    }
    (20..23).for_each(|it| drop(format!("{:?}", publish(&hub, "t", &format!("{it:0>20000}")))));
    place.turn();
    place.unstick();
    let texts = place.texts();
    let ends: Vec<_> = texts.iter().map(|it| it.trim_start_matches('0')).collect();
    assert_eq!(ends[ends.len() - 3..], ["20", "missed Some(2)", "after"]);
}

#[test]
fn what_is_published_on_the_way_to_a_start_with_wildcards_comes_once() {
    let own = Arc::new(Mutex::new(None::<Hub>));
    let its_own = Arc::clone(&own);
    let settings = TopicSettings::new().history(History::last(10));
    let hub = Hub::builder().settings(settings).on_first_subscriber(move |_| {
        // Between the call that subscribes and the start.
        let hub = its_own.lock().unwrap().clone().unwrap();
        ["a", "b"].iter().for_each(|topic| drop(format!("{:?}", publish(&hub, topic, "1"))));
    });
    let hub = hub.build().unwrap();
    *own.lock().unwrap() = Some(hub.clone());
    let (mut place, its_hub) = (Place::new(), hub.clone());
    let options = SubscribeOptions::new().start(Start::History).on_start(move |_, _| {
        // Joins the run of its topic, in front of that of the other one.
        publish(&its_hub, "a", "2");
    });
    subscribe(&place, &hub, "*", options).keep();
    place.turn();
    assert_eq!(place.texts(), ["1", "1", "2"]);
    drop(own.lock().unwrap().take());
}

#[test]
fn what_is_missing_behind_a_start_is_reported_however_much_was_missing_before() {
    for (subject, start, recovered) in [
        ("t", Start::New, 0),
        ("t", Start::History, 2),
        ("*", Start::New, 0),
        ("*", Start::History, 2),
    ] {
        let settings = TopicSettings::new().history(History::last(10));
        let hub = Hub::builder().settings(settings).max_waiting(1, usize::MAX).build().unwrap();
        let mut place = Place::new();
        let first = SubscribeOptions::new().filter(|_| false).on_missed(|_, _| {});
        subscribe(&place, &hub, "t", first).keep();
        // The second one has no room.
        ["1", "2"].iter().for_each(|it| drop(format!("{:?}", publish(&hub, "t", it))));
        let options = SubscribeOptions::new().start(start).on_missed(|transport, missed| {
            transport.send_text(format!("missed {:?}", missed.count()));
        });
        subscribe(&place, &hub, subject, options).keep();
        assert_eq!(publish(&hub, "t", "3").lost, 2, "each of both has a gap");
        place.turn();
        let texts = place.texts();
        assert_eq!(texts[..recovered], ["1", "2"][..recovered], "{subject} {start:?}");
        assert_eq!(texts[recovered..], ["missed Some(1)"], "{subject} {start:?}");
    }
}

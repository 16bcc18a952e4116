//! Subscriptions that other threads end.

use super::*;

#[test]
fn what_is_published_behind_the_call_is_not_delivered() {
    let (hub, mut place) = (Hub::new(), Place::new());
    let one = subscribe(&place, &hub, "t", SubscribeOptions::new());
    subscribe(&place, &hub, "other", SubscribeOptions::new()).keep();
    let remote = one.remote();
    one.keep();
    publish(&hub, "t", "1");
    place.turn();
    assert_eq!(place.texts(), ["1"]);
    std::thread::spawn(move || remote.unsubscribe()).join().unwrap();
    assert_eq!(hub.subscribers("t"), 1, "its worker ends it");
    for number in 0..2000 {
        publish(&hub, "t", &number.to_string());
    }
    publish(&hub, "other", "2");
    place.turn();
    assert_eq!((place.texts(), hub.subscribers("t")), (vec!["2".to_owned()], 0));
}

#[test]
fn a_direct_send_finds_it_ended_as_a_turn_does() {
    let (hub, mut place) = (Hub::new(), Place::new());
    let one = subscribe(&place, &hub, "t", SubscribeOptions::new());
    place.on_thread(|transport| {
        one.remote().unsubscribe();
        publish(&hub, "t", "behind it");
        transport.send_text("direct");
    });
    place.turn();
    assert_eq!((place.texts(), one.is_active()), (vec!["direct".to_owned()], false));
    place.on_thread(|_| drop(one));
}

#[test]
fn however_often_it_is_called_the_worker_is_asked_once() {
    let (hub, mut place) = (Hub::new(), Place::new());
    let one = subscribe(&place, &hub, "t", SubscribeOptions::new());
    let remotes: Vec<_> = (0..100).map(|_| one.remote()).collect();
    remotes.iter().for_each(RemoteSubscription::unsubscribe);
    assert_eq!(place.on_thread(waiting), 1);
    assert!(remotes[0].is_active());
    place.turn();
    assert!(!remotes[0].is_active() && !one.is_active());
    // Twice, when its connection has ended, and when its worker has.
    remotes[1].unsubscribe();
    let two = subscribe(&place, &hub, "t", SubscribeOptions::new());
    let (late, subject) = (two.remote(), two.remote().subject().to_owned());
    place.end();
    assert!(!late.is_active() && subject == "t");
    late.unsubscribe();
    place.turn();
    let other = Place::new();
    let three = subscribe(&other, &hub, "t", SubscribeOptions::new());
    let orphan = three.remote();
    other.on_thread(|_| drop(three));
    drop(other);
    orphan.unsubscribe();
    place.on_thread(|_| drop((one, two)));
    assert_eq!((hub.subscriptions(), hub.topics()), (0, 0));
}

/// Entries that wait for the worker of a connection.
fn waiting(transport: &Transport) -> u64 {
    let desk = desk::Desk::get(&transport.session().local).unwrap();
    desk.inbox().next()
}

#[test]
fn a_worker_that_is_lost_leaves_nothing_behind() {
    let settings = TopicSettings::new().linger(std::time::Duration::from_secs(1));
    let hub = Hub::builder().settings_of("slow", settings).build().unwrap();
    let (place, mut other) = (Place::new(), Place::new());
    for subject in ["t", "*", "slow"] {
        subscribe(&place, &hub, subject, SubscribeOptions::new()).keep();
        subscribe(&other, &hub, subject, SubscribeOptions::new()).keep();
    }
    publish(&hub, "slow", "1");
    publish(&hub, "t", "2");
    assert_eq!(hub.subscriptions(), 6);
    drop(place);
    assert_eq!((hub.subscriptions(), hub.subscribers("t")), (3, 2));
    let published = publish(&hub, "t", "3");
    assert_eq!((published.receivers, published.lost, published.congested), (2, 0, 0));
    other.turn();
    let mut texts = other.texts();
    texts.sort();
    assert_eq!(texts, ["2", "2", "3", "3"]);
    other.end();
    assert_eq!((hub.topics(), hub.subscriptions()), (0, 0));
}

//! Publications that are held back for a peer that does not read, until it does.

use super::*;

/// A subscriber that holds some back, of `len` bytes each, and how many were published.
fn behind(len: usize, policy: SlowPolicy) -> (Hub, Place, Subscription, usize) {
    let (hub, mut place) = (Hub::new(), Place::new());
    let options = SubscribeOptions::new().policy(policy);
    let subscription = subscribe(&place, &hub, "t", options);
    place.stick();
    for number in 0..COUNT {
        publish(&hub, "t", &format!("{number:0>len$}"));
        place.turn();
    }
    assert!(subscription.held() > 0 && hub.stats().behind == 1);
    (hub, place, subscription, COUNT)
}

const COUNT: usize = 60;

#[test]
fn all_of_it_follows_when_the_socket_takes_everything() {
    // By completions of the ring, and at once, where none comes.
    for (len, is_at_once) in [(20_000, false), (60_000, false), (20_000, true), (60_000, true)] {
        let (hub, mut place, subscription, count) = behind(len, SlowPolicy::drop_oldest(COUNT));
        if is_at_once {
            place.worker.ring.room.extend((0..2 * COUNT).map(|_| Ok(usize::MAX)));
        }
        place.unstick();
        let numbers: Vec<usize> = place
            .texts()
            .iter()
            .map(|it| it.trim_start_matches('0').parse().unwrap_or(0))
            .collect();
        assert_eq!(numbers, (0..count).collect::<Vec<_>>(), "{len} {is_at_once}");
        assert_eq!((subscription.held(), hub.stats().behind, hub.stats().dropped), (0, 0, 0));
    }
}

#[test]
fn it_follows_as_the_socket_takes_a_part_at_a_time() {
    let (hub, mut place, subscription, count) = behind(20_000, SlowPolicy::drop_oldest(COUNT));
    let mut received = 0;
    for _ in 0..10_000 {
        place.take(3000);
        place.turn();
        received += place.received().len();
        if received == count {
            break;
        }
    }
    assert_eq!((received, subscription.held(), hub.stats().behind), (count, 0, 0));
}

#[test]
fn a_direct_send_is_not_in_the_way_of_what_is_held_back() {
    let (hub, mut place, subscription, _) = behind(20_000, SlowPolicy::latest());
    place.on_thread(|transport| {
        transport.send_text("direct");
    });
    place.turn();
    place.unstick();
    let texts = place.texts();
    let last = texts.iter().map(|it| it.trim_start_matches('0')).rfind(|it| *it != "direct");
    assert_eq!(last, Some("59"));
    assert!(texts.iter().any(|it| it == "direct"));
    let conflated = usize::try_from(subscription.conflated()).unwrap();
    assert_eq!((texts.len() + conflated, hub.stats().behind), (COUNT + 1, 0));
}

//! Topics on workers whose kernel is played by hand: seeds choose what happens.

mod begin;
mod bus;
mod linger;
mod memory;
mod remote;
mod simulation;
mod slow;

use super::*;
use crate::config::Config;
use crate::health::Counters;
use crate::listener::{Listener, ListenerResult};
use crate::local::{HostKind, Hosting, Local};
use crate::mailbox::Mailbox;
use crate::ring::{ReceiveResult, Socket};
use crate::testing::ring::checked::Checked;
use crate::testing::ring::scripted::{ByHand, stalled};
use crate::transport::Transport;
use crate::upgrade::{Factory, Upgrade};
use crate::worker::{Listening, Turn, Worker};
use std::cell::Cell;
use std::sync::Arc;

thread_local! {
    static CONNECTED: Cell<Option<Transport>> = const { Cell::new(None) };
}

struct Silent;

impl Listener for Silent {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        CONNECTED.set(Some(transport.clone()));
        Ok(())
    }

    fn on_frame(&mut self, _: &Transport, _: &crate::Frame<'_>) -> ListenerResult {
        Ok(())
    }
}

/// A worker with one connection, whose peer reads or does not.
pub(super) struct Place {
    worker: Worker<Checked<ByHand>>,
    pub(super) transport: Transport,
    received: Vec<u8>,
}

impl Place {
    pub(super) fn new() -> Self {
        let event = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
        let mailbox = Arc::new(Mailbox::new(Arc::new(event)));
        let mut config = Config { admission: Some(Arc::default()), ..Config::default() };
        (config.progress.message_timeout, config.progress.write_stall_timeout) = (None, None);
        let config = Arc::new(config);
        let local = Local::new(Arc::clone(&config), Arc::<Counters>::default(), mailbox);
        local.callback_timer.clock.set(stalled);
        local.budget_rules.clock.set(stalled);
        let factory: Arc<Factory> = Arc::new(|_: &_| Ok(Upgrade::accept(Silent)));
        let mut worker = Worker::new(Checked::<ByHand>::default(), local);
        worker.listen(Socket(3), &Listening::new(config, factory));
        worker.ring.connect(7);
        turn(&mut worker);
        worker.ring.deliver_to(
            7,
            b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        );
        turn(&mut worker);
        worker.ring.sent.clear();
        let transport = CONNECTED.take().unwrap();
        Self { worker, transport, received: Vec::new() }
    }

    /// Runs something on the worker's thread.
    pub(super) fn on_thread<T>(&self, run: impl FnOnce(&Transport) -> T) -> T {
        let hosting = Hosting::begin(&self.worker.local, HostKind::Embedded);
        assert!(hosting.is_some());
        run(&self.transport)
    }

    /// One turn; returns whether there is more to do.
    pub(super) fn turn_once(&mut self) -> bool {
        let _hosting = self.hosting();
        self.worker.turn().unwrap() == Turn::Busy
    }

    pub(super) fn turn(&mut self) {
        let _hosting = self.hosting();
        turn(&mut self.worker);
    }

    /// Its thread is that of its worker, as in each turn of a real one.
    fn hosting(&self) -> Option<Hosting> {
        Hosting::begin(&self.worker.local, HostKind::Embedded)
    }

    /// The peer stops reading.
    pub(super) fn stick(&mut self) {
        self.worker.ring.is_stuck = true;
    }

    /// The peer reads so many bytes.
    pub(super) fn take(&mut self, max: usize) {
        self.worker.ring.take(max);
    }

    pub(super) fn unstick(&mut self) {
        self.worker.ring.unstick();
        self.turn();
    }

    /// The peer ends the connection.
    pub(super) fn end(&mut self) {
        self.worker.ring.end_of(Socket(7), ReceiveResult::EndOfStream);
        self.turn();
    }

    /// The frames that have left since the last call: opcode and payload.
    pub(super) fn received(&mut self) -> Vec<(u8, Vec<u8>)> {
        self.worker.ring.gather();
        self.received.append(&mut self.worker.ring.sent);
        let mut frames = Vec::new();
        while let Some((len, frame)) = first_frame(&self.received) {
            frames.push(frame);
            self.received.drain(..len);
        }
        frames
    }

    /// The same, as texts.
    pub(super) fn texts(&mut self) -> Vec<String> {
        let frames = self.received().into_iter();
        frames.map(|(_, payload)| String::from_utf8_lossy(&payload).into_owned()).collect()
    }
}

fn turn(worker: &mut Worker<Checked<ByHand>>) {
    while worker.turn().unwrap() == Turn::Busy {}
}

/// The first frame of a server, and its length on the wire.
fn first_frame(bytes: &[u8]) -> Option<(usize, (u8, Vec<u8>))> {
    let (opcode, short) = (bytes.first()? & 0xF, usize::from(*bytes.get(1)?));
    let (head, len) = match short {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize),
        len => (2, len),
    };
    let payload = bytes.get(head..head + len)?;
    Some((head + len, (opcode, payload.to_vec())))
}

fn publish(hub: &Hub, topic: &str, text: &str) -> Published {
    hub.publish(topic, Post::text(text.to_owned())).unwrap()
}

fn subscribe(place: &Place, hub: &Hub, subject: &str, options: SubscribeOptions) -> Subscription {
    place.on_thread(|transport| hub.subscribe(transport, subject, options)).unwrap()
}

#[test]
fn publications_of_a_turn_are_one_segment_for_each_connection() {
    let (hub, mut place) = (Hub::new(), Place::new());
    subscribe(&place, &hub, "t", SubscribeOptions::new()).keep();
    place.stick();
    (0..16).for_each(|it| drop(format!("{:?}", publish(&hub, "t", &it.to_string()))));
    place.turn();
    assert_eq!(place.worker.ring.sending().len(), 1, "joined, and none copied for this connection");
    place.unstick();
    assert_eq!(place.texts(), (0..16).map(|it| it.to_string()).collect::<Vec<_>>());
}

#[test]
fn a_burst_is_served_in_slices_and_what_waits_is_bounded() {
    let hub = Hub::builder().max_waiting(5_000, usize::MAX).build().unwrap();
    let mut place = Place::new();
    let options = SubscribeOptions::new().on_missed(|transport, missed| {
        transport.send_text(format!("missed {:?}", missed.count()));
    });
    subscribe(&place, &hub, "t", options).keep();
    let published: Vec<_> = (0..10_000).map(|it| publish(&hub, "t", &it.to_string())).collect();
    assert_eq!(published.iter().filter(|it| it.lost == 1).count(), 5_000);
    assert!(published.iter().all(|it| it.receivers + it.lost == 1));
    assert!(published[4_000].congested == 1 && published[100].congested == 0);
    let mut turns = 0;
    while place.turn_once() {
        turns += 1;
    }
    assert!(turns >= 4, "{turns} turns: none takes more than about a thousand");
    let mut texts = place.texts();
    assert_eq!(texts.pop().as_deref(), Some("missed Some(5000)"));
    assert_eq!(texts, (0..5_000).map(|it| it.to_string()).collect::<Vec<_>>());
    let stats = hub.stats();
    assert_eq!((stats.lost, stats.dropped, stats.delivered), (5_000, 5_000, 5_000));
}

#[test]
fn a_gap_ends_a_connection_that_does_not_hear_of_it() {
    let hub = Hub::builder().max_waiting(1, usize::MAX).build().unwrap();
    let mut place = Place::new();
    subscribe(&place, &hub, "t", SubscribeOptions::new()).keep();
    (0..3).for_each(|it| drop(format!("{:?}", publish(&hub, "t", &it.to_string()))));
    place.turn();
    let frames = place.received();
    assert_eq!(frames[0], (1, b"0".to_vec()));
    assert_eq!(frames[1].0, 8);
    assert_eq!(frames[1].1[..2], 1013_u16.to_be_bytes());
    assert_eq!(frames[1].1[2..], *b"publications of topic t were lost");
}

#[test]
fn a_subscription_ends_with_its_connection_in_the_same_turn() {
    let (hub, mut place) = (Hub::new(), Place::new());
    let (first, second) = (
        subscribe(&place, &hub, "t", SubscribeOptions::new()),
        subscribe(&place, &hub, "*", SubscribeOptions::new()),
    );
    second.keep();
    assert_eq!((hub.subscriptions(), hub.topics()), (2, 1));
    place.end();
    assert_eq!((hub.subscriptions(), hub.topics()), (0, 0));
    assert!(!first.is_active());
    first.unsubscribe();
    let again = place.on_thread(|it| hub.subscribe(it, "t", SubscribeOptions::new()));
    assert_eq!(again.err(), Some(TopicError::Disconnected));
}

#[test]
fn nothing_of_a_subscription_runs_behind_its_end() {
    let (hub, mut place) = (Hub::new(), Place::new());
    let calls = std::rc::Rc::new(Cell::new(0));
    let own = std::rc::Rc::new(Cell::new(None::<Subscription>));
    let (its_calls, its_own) = (std::rc::Rc::clone(&calls), std::rc::Rc::clone(&own));
    // It ends itself inside of its third filter call, with ten publications in this turn.
    let options = SubscribeOptions::new().filter(move |_| {
        its_calls.set(its_calls.get() + 1);
        if its_calls.get() == 3 {
            drop(its_own.take());
        }
        true
    });
    own.set(Some(subscribe(&place, &hub, "t", options)));
    (0..10).for_each(|it| drop(format!("{:?}", publish(&hub, "t", &it.to_string()))));
    place.turn();
    assert_eq!((place.texts(), calls.get()), (vec!["0".to_owned(), "1".to_owned()], 3));
    assert_eq!((hub.subscriptions(), hub.topics()), (0, 0));
}

#[test]
fn code_of_the_application_that_panics_costs_its_own_publication() {
    let (hub, mut place) = (Hub::new(), Place::new());
    let panics = |publication: &Publication| {
        assert!(publication.payload() != b"2", "a filter fails");
        true
    };
    subscribe(&place, &hub, "t", SubscribeOptions::new().filter(panics)).keep();
    let format = Format::new(|it| {
        assert!(it.payload() != b"3", "a format fails");
        Ok(it.message().clone())
    });
    subscribe(&place, &hub, "*", SubscribeOptions::new().format(format)).keep();
    (1..=4).for_each(|it| drop(format!("{:?}", publish(&hub, "t", &it.to_string()))));
    place.turn();
    let mut texts = place.texts();
    texts.sort();
    assert_eq!(texts, ["1", "1", "2", "3", "4", "4"]);
    assert!(place.worker.local.counters.read().stray_panics >= 1);
}

#[test]
fn bounds_name_their_settings() {
    let hub = Hub::builder().max_topics(2).max_patterns(1).max_subscriptions(3).build().unwrap();
    let (place, other) = (Place::new(), Place::new());
    let try_to = |place: &Place, subject: &str| {
        let subscribed = place.on_thread(|it| hub.subscribe(it, subject, SubscribeOptions::new()));
        subscribed.map(Subscription::keep)
    };
    assert_eq!(try_to(&place, "a"), Ok(()));
    assert_eq!(try_to(&place, "b"), Ok(()));
    assert_eq!(try_to(&place, "c"), Err(TopicError::TooManyTopics(2)));
    assert_eq!(try_to(&place, "c.*"), Ok(()));
    assert_eq!(try_to(&place, "a"), Err(TopicError::TooManySubscriptions(3)));
    assert_eq!(try_to(&other, "d.*"), Err(TopicError::TooManyPatterns(1)));
    assert_eq!(try_to(&other, "c.*"), Ok(()), "there it is");
    assert!(matches!(try_to(&other, "a..b"), Err(TopicError::BadPattern { .. })));
    assert!(matches!(hub.publish("a.*", Post::text("")), Err(TopicError::BadName { .. })));
    let ping = Post::new(crate::MsgType::Ping, "");
    assert!(matches!(hub.publish("a", ping), Err(TopicError::Misuse(_))));
    assert!(matches!(hub.publish("a", Post::text(&b"\xFF"[..])), Err(TopicError::Misuse(_))));
    let headers = (0..17).fold(Post::text(""), |post, _| post.header("a", "b"));
    assert_eq!(hub.publish("a", headers), Err(TopicError::HeadersTooLong));
    assert_eq!(hub.subscriptions(), 4);
}

#[test]
fn topics_without_use_make_room() {
    let hub = Hub::builder().max_topics(10).build().unwrap();
    for number in 0..1000 {
        publish(&hub, &format!("t{number}"), "x");
    }
    assert_eq!(hub.topics(), 0, "neither subscribers nor history");
    let topic = hub.topic("kept").unwrap();
    topic.publish(Post::text("1")).unwrap();
    assert_eq!((topic.position().offset, hub.topics()), (1, 1));
    let clone = topic.clone();
    drop(topic);
    assert_eq!(hub.position("kept").map(|it| it.offset), Some(1));
    drop(clone);
    assert_eq!((hub.position("kept"), hub.topics()), (None, 0));
}

#[test]
fn hooks_see_the_first_and_the_last_subscriber_of_a_subject() {
    let (sender, events) = std::sync::mpsc::channel();
    let last = sender.clone();
    let hub = Hub::builder()
        .on_first_subscriber(move |subject| sender.send(format!("first {subject}")).unwrap())
        .on_last_subscriber(move |subject| last.send(format!("last {subject}")).unwrap())
        .build()
        .unwrap();
    let (mut one, two) = (Place::new(), Place::new());
    let first = subscribe(&one, &hub, "t", SubscribeOptions::new());
    subscribe(&one, &hub, "t", SubscribeOptions::new()).keep();
    let other = subscribe(&two, &hub, "t", SubscribeOptions::new());
    subscribe(&two, &hub, "*", SubscribeOptions::new()).keep();
    drop(first);
    one.end();
    assert_eq!(events.try_iter().collect::<Vec<_>>(), ["first t", "first *"]);
    two.on_thread(|_| drop(other));
    assert_eq!(events.try_iter().collect::<Vec<_>>(), ["last t"]);
}

#[test]
fn held_publications_are_references_of_one_copy() {
    let (hub, mut places) = (Hub::new(), (0..3).map(|_| Place::new()).collect::<Vec<_>>());
    let policies = [SlowPolicy::drop_oldest(64), SlowPolicy::latest(), SlowPolicy::close()];
    let subscriptions: Vec<_> = places
        .iter()
        .zip(policies)
        .map(|(place, policy)| subscribe(place, &hub, "t", SubscribeOptions::new().policy(policy)))
        .collect();
    places.iter_mut().for_each(Place::stick);
    for number in 0..1000 {
        publish(&hub, "t", &format!("{number:01024}"));
        places.iter_mut().for_each(Place::turn);
    }
    let held: Vec<_> = subscriptions.iter().map(Subscription::held).collect();
    assert_eq!(held, [64, 1, 0], "the last one is in the queue");
    assert_eq!(hub.stats().behind, 2);
    for place in &mut places[..2] {
        let bytes = place.transport.session().held_bytes();
        assert!(bytes < 100 * 200, "{bytes} bytes for at most 64 KiB in flight and queued");
    }
    let received: Vec<_> = places
        .iter_mut()
        .map(|place| {
            place.unstick();
            place.received().len()
        })
        .collect();
    let counts: Vec<_> =
        subscriptions.iter().map(|it| (it.dropped() + it.conflated()) as usize).collect();
    for index in 0..3 {
        assert_eq!(received[index] + counts[index], 1000);
    }
}

#[test]
fn a_subscription_that_ends_while_it_holds_some_back_leaves_the_connection_idle() {
    let (hub, mut place) = (Hub::new(), Place::new());
    let options = SubscribeOptions::new().policy(SlowPolicy::latest());
    let subscription = subscribe(&place, &hub, "t", options);
    place.stick();
    for number in 0..3 {
        publish(&hub, "t", &number.to_string());
        place.turn();
    }
    assert_eq!((subscription.held(), subscription.conflated()), (1, 1));
    place.on_thread(|_| drop(subscription));
    // Turns that never end are what this would be.
    place.unstick();
    assert_eq!((place.texts(), hub.stats().behind), (vec!["0".to_owned()], 0));
}

#[test]
fn a_position_is_one_of_a_life_of_its_topic() {
    let settings = TopicSettings::new().history(History::last(10));
    let hub = Hub::builder().settings(settings).build().unwrap();
    let place = Place::new();
    for number in 0..5 {
        publish(&hub, "t", &number.to_string());
    }
    let now = hub.position("t").unwrap();
    for (epoch, offset, recovers) in [
        (now.epoch, 2, true),
        (now.epoch, now.offset, true),
        (now.epoch ^ 1, 2, false),
        (now.epoch ^ 1, now.offset, false),
        (now.epoch, now.offset + 1, false),
    ] {
        let options = SubscribeOptions::new().start(Start::From(Position { epoch, offset }));
        let subscription = subscribe(&place, &hub, "t", options);
        let is_recovered = matches!(subscription.recovery(), Some(Recovery::Recovered { .. }));
        assert_eq!(is_recovered, recovers, "{epoch:x}:{offset:x}");
        place.on_thread(|_| drop(subscription));
    }
}

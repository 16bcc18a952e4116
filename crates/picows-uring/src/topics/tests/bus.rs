//! Hubs on buses: what is lost, late or twice on the way.

use super::*;
use std::sync::Mutex;

/// A bus that records what it is asked for, and has an inlet to play with.
#[derive(Debug)]
struct Played {
    mode: BusMode,
    inlet: Mutex<Option<Inlet>>,
    asked: Mutex<Vec<String>>,
    published: Mutex<Vec<BusMessage>>,
    fails: bool,
}

impl Played {
    fn new(mode: BusMode) -> Arc<Self> {
        Arc::new(Self {
            mode,
            inlet: Mutex::default(),
            asked: Mutex::default(),
            published: Mutex::default(),
            fails: false,
        })
    }

    fn inlet(&self) -> Inlet {
        self.inlet.lock().unwrap().clone().unwrap()
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

impl Bus for Played {
    fn mode(&self) -> BusMode {
        self.mode
    }

    fn attach(&self, inlet: Inlet) -> Result<(), BusError> {
        *self.inlet.lock().unwrap() = Some(inlet);
        Ok(())
    }

    fn subscribe(&self, subject: &str, history: History) {
        self.asked.lock().unwrap().push(format!("subscribe {subject} {}", history.count));
    }

    fn unsubscribe(&self, subject: &str) {
        self.asked.lock().unwrap().push(format!("unsubscribe {subject}"));
    }

    fn publish(&self, message: BusMessage) -> Result<(), BusError> {
        self.published.lock().unwrap().push(message);
        if self.fails { Err(BusError::new("not connected")) } else { Ok(()) }
    }
}

fn message(topic: &str, text: &str, origin: Option<(u64, u64)>) -> BusMessage {
    let mut message = BusMessage::new(topic, crate::MsgType::Text, text.to_owned());
    message.origin = origin.map(|(epoch, offset)| Position { epoch, offset });
    message
}

fn at(topic: &str, text: &str, epoch: u64, offset: u64) -> BusMessage {
    let mut message = message(topic, text, None);
    message.position = Some(Position { epoch, offset });
    message
}

fn reports() -> SubscribeOptions {
    let options = SubscribeOptions::new().on_start(|transport, recovery| {
        transport.send_text(match recovery {
            Recovery::New { .. } => "new".to_owned(),
            Recovery::Recovered { count, .. } => format!("recovered {count}"),
            Recovery::Lost { position } => format!("lost at {position}"),
        });
    });
    options.on_missed(|transport, missed| {
        transport.send_text(format!("missed {:?} of {}", missed.count(), missed.topic()));
    })
}

#[test]
fn a_bus_is_asked_for_what_has_subscribers_in_its_order() {
    let (hub, place, bus) = (Hub::new(), Place::new(), Played::new(BusMode::Relay));
    let early = subscribe(&place, &hub, "early", SubscribeOptions::new());
    hub.attach(Arc::clone(&bus) as Arc<dyn Bus>).unwrap();
    assert_eq!(bus.asked(), ["subscribe early 0"]);
    let again = hub.attach(Arc::clone(&bus) as Arc<dyn Bus>);
    assert_eq!(again, Err(TopicError::HasBus));
    let (one, two) = (
        subscribe(&place, &hub, "t.*", SubscribeOptions::new()),
        subscribe(&place, &hub, "t.*", SubscribeOptions::new()),
    );
    place.on_thread(|_| drop((early, one)));
    assert_eq!(bus.asked(), ["subscribe t.* 0", "unsubscribe early"]);
    place.on_thread(|_| drop(two));
    assert_eq!(bus.asked(), ["unsubscribe t.*"]);
}

#[test]
fn a_relay_delivers_nothing_twice_and_reports_what_is_missing() {
    let (hub, mut place, bus) = (Hub::new(), Place::new(), Played::new(BusMode::Relay));
    hub.attach(Arc::clone(&bus) as Arc<dyn Bus>).unwrap();
    subscribe(&place, &hub, "t", reports()).keep();
    publish(&hub, "t", "own");
    let own = bus.published.lock().unwrap().pop().unwrap();
    assert_eq!(own.origin, hub.position("t"));
    let inlet = bus.inlet();
    assert!(inlet.deliver("t", own), "it is not delivered again");
    for (offset, text) in [(5, "5"), (6, "6"), (6, "6 again"), (9, "9"), (8, "late"), (10, "10")] {
        inlet.deliver("t", message("t", text, Some((1, offset))));
    }
    inlet.gap("t");
    place.turn();
    let missed = ["missed Some(2) of t", "9", "10", "missed None of t"];
    let texts = place.texts();
    assert_eq!(texts[..4], ["new", "own", "5", "6"]);
    assert_eq!(texts[4..], missed);
    drop(hub);
}

#[test]
fn a_gap_of_topics_that_were_not_seen_yet_is_one_of_the_subject() {
    let (hub, mut place, bus) = (Hub::new(), Place::new(), Played::new(BusMode::Relay));
    hub.attach(Arc::clone(&bus) as Arc<dyn Bus>).unwrap();
    subscribe(&place, &hub, "t.*", reports()).keep();
    subscribe(&place, &hub, "u.*", reports()).keep();
    bus.inlet().gap("t.*");
    place.turn();
    assert_eq!(place.texts(), ["new", "new", "missed None of t.*"]);
    bus.inlet().deliver("t.*", message("t.a", "1", Some((1, 1))));
    bus.inlet().gap("t.*");
    place.turn();
    assert_eq!(place.texts(), ["1", "missed None of t.a"]);
}

#[test]
fn a_copy_for_each_subject_is_taken_once() {
    let (hub, mut place, bus) = (Hub::new(), Place::new(), Played::new(BusMode::Relay));
    hub.attach(Arc::clone(&bus) as Arc<dyn Bus>).unwrap();
    let pattern = subscribe(&place, &hub, "a.*", SubscribeOptions::new());
    subscribe(&place, &hub, "a.b", SubscribeOptions::new()).keep();
    let inlet = bus.inlet();
    for via in ["a.*", "a.b"] {
        inlet.deliver(via, message("a.b", "foreign", None));
        inlet.deliver(via, message("a.b", "of a node", Some((1, 1))));
    }
    place.turn();
    let mut texts = place.texts();
    texts.sort();
    assert_eq!(texts, ["foreign", "foreign", "of a node", "of a node"], "two subscriptions");
    place.on_thread(|_| drop(pattern));
    inlet.deliver("a.*", message("a.b", "not asked for", None));
    inlet.deliver("a.b", message("a.b", "asked for", None));
    inlet.deliver("x", message("x", "no subscriber", Some((1, 1))));
    place.turn();
    assert_eq!((place.texts(), hub.topics()), (vec!["asked for".to_owned()], 1));
}

#[test]
fn a_gap_of_a_bus_ends_recovery_from_before_it() {
    let settings = TopicSettings::new().history(History::last(10));
    let hub = Hub::builder().settings(settings).build().unwrap();
    let (mut place, bus) = (Place::new(), Played::new(BusMode::Relay));
    hub.attach(Arc::clone(&bus) as Arc<dyn Bus>).unwrap();
    publish(&hub, "t", "1");
    let before = Position { offset: 0, ..hub.position("t").unwrap() };
    bus.inlet().gap("t");
    // What is behind the last publication before it is missing as well.
    let last = Position { offset: 1, ..before };
    publish(&hub, "t", "2");
    let behind = Position { offset: 2, ..before };
    publish(&hub, "t", "3");
    for position in [before, last, behind] {
        subscribe(&place, &hub, "t", reports().start(Start::From(position))).keep();
    }
    place.turn();
    let lost = format!("lost at {}", hub.position("t").unwrap());
    assert_eq!(place.texts(), [lost.clone(), lost, "recovered 1".into(), "3".into()]);
}

#[test]
fn a_log_gives_positions_and_starts_wait_for_the_past() {
    let settings = TopicSettings::new().history(History::last(10));
    let hub = Hub::builder().settings(settings).build().unwrap();
    let (mut place, bus) = (Place::new(), Played::new(BusMode::Log));
    hub.attach(Arc::clone(&bus) as Arc<dyn Bus>).unwrap();
    let from = |offset| Start::From(Position { epoch: 7, offset });
    let waiting = subscribe(&place, &hub, "t", reports().start(from(20)));
    assert_eq!((bus.asked(), waiting.recovery()), (vec!["subscribe t 10".to_owned()], None));
    let published = publish(&hub, "t", "ours");
    assert_eq!((published.position, published.receivers), (None, 1));
    assert_eq!(bus.published.lock().unwrap().pop().unwrap().origin, None);
    let inlet = bus.inlet();
    for offset in [10, 20, 30] {
        inlet.deliver("t", at("t", &offset.to_string(), 7, offset));
    }
    place.turn();
    assert!(place.texts().is_empty(), "the past is not complete");
    inlet.ready("t");
    place.turn();
    inlet.deliver("t", at("t", "40", 7, 40));
    inlet.deliver("t", at("t", "40 again", 7, 40));
    place.turn();
    assert_eq!(place.texts(), ["recovered 1", "30", "40"]);
    subscribe(&place, &hub, "t", reports().start(from(5))).keep();
    place.turn();
    assert_eq!(place.texts(), ["lost at 7:28"], "what was before the first is not known");
    // The stream was made anew: another epoch, whose numbers begin at 1.
    inlet.deliver("t", at("t", "anew", 8, 1));
    place.on_thread(|_| drop(waiting));
    subscribe(&place, &hub, "t", reports().start(from(40))).keep();
    place.turn();
    let texts = place.texts();
    assert_eq!(texts, ["lost at 8:1", "missed None of t", "anew"]);
}

#[test]
fn a_stream_made_anew_before_a_start_is_no_gap_for_it() {
    let settings = TopicSettings::new().history(History::last(10));
    for subject in ["t", "*"] {
        let hub = Hub::builder().settings(settings).build().unwrap();
        let (mut place, bus) = (Place::new(), Played::new(BusMode::Log));
        hub.attach(Arc::clone(&bus) as Arc<dyn Bus>).unwrap();
        subscribe(&place, &hub, subject, reports().start(Start::History)).keep();
        let inlet = bus.inlet();
        inlet.deliver(subject, at("t", "old", 7, 40));
        inlet.ready(subject);
        // Its worker has not taken its turn yet.
        inlet.deliver(subject, at("t", "anew", 8, 1));
        place.turn();
        inlet.deliver(subject, at("t", "behind", 8, 2));
        place.turn();
        assert_eq!(place.texts(), ["recovered 1", "anew", "behind"], "{subject}");
    }
}

#[test]
fn a_bus_that_fails_is_counted_and_local_delivery_goes_on() {
    let (hub, mut place) = (Hub::new(), Place::new());
    let failing = Arc::into_inner(Played::new(BusMode::Relay)).unwrap();
    hub.attach(Arc::new(Played { fails: true, ..failing })).unwrap();
    subscribe(&place, &hub, "t", SubscribeOptions::new()).keep();
    publish(&hub, "t", "1");
    place.turn();
    assert_eq!((place.texts(), hub.stats().bus_errors), (vec!["1".to_owned()], 1));
}

#[test]
fn hubs_on_a_local_bus_share_their_topics() {
    let bus = LocalBus::new();
    let mut nodes: Vec<_> = (0..3).map(|_| (Hub::new(), Place::new())).collect();
    for (hub, place) in &nodes {
        hub.attach(bus.connect()).unwrap();
        subscribe(place, hub, "room.*", SubscribeOptions::new()).keep();
    }
    publish(&nodes[0].0, "room.1", "from the first");
    publish(&nodes[2].0, "room.2", "from the third");
    publish(&nodes[1].0, "elsewhere", "for none");
    for (_, place) in &mut nodes {
        place.turn();
        let mut texts = place.texts();
        texts.sort();
        assert_eq!(texts, ["from the first", "from the third"]);
    }
}

#[test]
fn presence_counts_the_subscriptions_of_all_hubs_on_a_bus() {
    let bus = LocalBus::new();
    let nodes: Vec<_> = (0..3).map(|_| (Hub::new(), Place::new())).collect();
    for (hub, _) in &nodes {
        hub.attach(bus.connect()).unwrap();
    }
    let (first, place) = &nodes[0];
    let exact = subscribe(place, first, "room.1", SubscribeOptions::new());
    subscribe(&nodes[1].1, &nodes[1].0, "room.*", SubscribeOptions::new()).keep();
    subscribe(&nodes[1].1, &nodes[1].0, "room.1", SubscribeOptions::new()).keep();
    for (hub, _) in &nodes {
        let counts = ["room.1", "room.2", "other"].map(|name| hub.subscribers_everywhere(name));
        assert_eq!(counts, [3, 1, 0]);
    }
    assert_eq!((first.subscribers("room.1"), nodes[2].0.subscribers("room.1")), (1, 0));
    place.on_thread(|_| drop(exact));
    assert_eq!(nodes[2].0.subscribers_everywhere("room.1"), 2);
    assert_eq!(Hub::new().subscribers_everywhere("room.1"), 0, "without a bus");
}

/// A bus that stands still in its first call.
struct Stuck(Mutex<std::sync::mpsc::Receiver<()>>, std::sync::mpsc::Sender<()>);

impl Bus for Stuck {
    fn attach(&self, _: Inlet) -> Result<(), BusError> {
        Ok(())
    }

    fn subscribe(&self, _: &str, _: History) {}

    fn unsubscribe(&self, _: &str) {}

    fn publish(&self, _: BusMessage) -> Result<(), BusError> {
        let _ = self.1.send(());
        let _ = self.0.lock().unwrap().recv();
        Ok(())
    }
}

#[test]
fn what_waits_for_a_bus_is_bounded_and_local_delivery_goes_on() {
    let (go, wait) = std::sync::mpsc::channel();
    let (hub, mut place) = (Hub::new(), Place::new());
    let (entered, is_stuck) = std::sync::mpsc::channel();
    hub.attach(Arc::new(Stuck(Mutex::new(wait), entered))).unwrap();
    subscribe(&place, &hub, "t", SubscribeOptions::new().filter(|it| it.payload() == b"last"))
        .keep();
    let first = hub.clone();
    let stuck = std::thread::spawn(move || {
        publish(&first, "t", "first");
    });
    is_stuck.recv().unwrap();
    // Handed over by the thread that stands still: this one goes on.
    for _ in 0..20_000 {
        publish(&hub, "t", "more");
    }
    publish(&hub, "t", "last");
    place.turn();
    assert_eq!(place.texts(), ["last"]);
    assert_eq!(hub.stats().bus_errors, 20_001 - 16_384);
    drop(go);
    stuck.join().unwrap();
    assert_eq!(hub.stats().bus_errors, 20_001 - 16_384, "the others were handed over");
}

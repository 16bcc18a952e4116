//! Code of the application that runs where payloads are dropped, tasks are woken and lines are
//! logged: it panics, asks and sends, and finds everything in its place.

use super::*;
use crate::memory::MemoryBudget;
use crate::remote::RemoteTransport;
use bytes::Bytes;
use picows_uring_proto::FrameHead;
use std::cell::Cell;
use std::panic::resume_unwind;
use std::pin::pin;
use std::task::{Context, Poll, Wake, Waker};

thread_local! {
    /// What an owner of a payload, or a waker, does when it is dropped or woken.
    static ACT: Cell<fn()> = const { Cell::new(|| ()) };
    static ACTS: Cell<u64> = const { Cell::new(0) };
}

/// Sets what happens, and counts anew how often.
fn hostile(act: fn()) {
    ACT.set(act);
    ACTS.set(0);
}

fn act() {
    ACTS.set(ACTS.get() + 1);
    ACT.get()();
}

/// The memory of a payload.
struct Owner(Vec<u8>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        act();
    }
}

/// A payload that begins with a number, long enough to be kept by reference.
fn owned(number: usize) -> Bytes {
    let mut text = format!("{number} ");
    text.extend(std::iter::repeat_n('x', 2000 - text.len()));
    Bytes::from_owner(Owner(text.into()))
}

fn send_owned(number: usize) {
    let status = transport().send_bytes(FrameHead::new(MsgType::Text), &owned(number));
    assert!(status.is_queued(), "{status:?}");
}

fn asks() {
    let transport = transport();
    let sum = transport.queued_amount() + transport.in_flight_amount();
    assert_eq!(transport.buffered_amount(), sum);
    let _ = (transport.is_open(), transport.close_handshake(), transport.disconnect_cause());
    let _ = (transport.is_reading_paused(), format!("{transport:?}"));
    transport.pause_reading();
    transport.resume_reading();
}

fn sends() {
    asks();
    let number = ACTS.get();
    let _ = transport().send_text(format!("act {number}"));
    let _ = transport().send_latest(number % 3, MsgType::Text, format!("act {number}"));
    asks();
}

fn sends_a_text() {
    let _ = transport().send_text(format!("act {}", ACTS.get()));
}

fn panics() {
    asks();
    resume_unwind(Box::new("on purpose"));
}

fn sends_and_panics() {
    sends();
    resume_unwind(Box::new("on purpose"));
}

fn aborts_and_panics() {
    transport().abort();
    resume_unwind(Box::new("on purpose"));
}

const ACTIONS: [fn(); 5] = [asks, sends, panics, sends_and_panics, aborts_and_panics];

/// Ways in which payloads come to be dropped, once there are twenty of them.
const ENDS: [fn(&mut Fixture); 8] = [
    |fixture| fixture.worker.ring.take(usize::MAX),
    |fixture| fixture.worker.ring.take(12_345),
    |_| transport().abort(),
    |_| transport().remote().abort().unwrap(),
    |fixture| fixture.worker.stop(Duration::ZERO),
    |fixture| fixture.worker.ring.end(ReceiveResult::Failed(libc_error(libc::ECONNRESET))),
    |fixture| fixture.say(CLOSE, &[0x03, 0xE8]),
    |fixture| {
        fixture.worker.ring.is_lost = true;
        let _ = fixture.worker.turn();
    },
];

fn libc_error(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

/// A peer that takes nothing, with a message on its way to it for ever.
fn stuck(policy: QueuePolicy, queue_bytes_max: usize) -> Fixture {
    hostile(|| ());
    let mut fixture = Fixture::new(Manner::default(), |config| {
        config.liveness.auto_ping = None;
        (config.queue_policy, config.queue_bytes_max) = (policy, queue_bytes_max);
    });
    fixture.worker.ring.is_stuck = true;
    transport().send_text("first");
    fixture.turn();
    fixture
}

impl Fixture {
    fn serves_a_newcomer(&mut self) {
        hostile(|| ());
        self.worker.ring.sent.clear();
        self.join(8);
        self.say_to(8, TEXT, b"hello");
        assert_eq!(seen().last().unwrap(), "Text hello");
    }
}

#[test]
fn owners_of_payloads_may_do_what_they_like_however_these_are_dropped() {
    for (action, end) in ACTIONS.iter().flat_map(|act| ENDS.iter().map(move |end| (act, end))) {
        for policy in [QueuePolicy::Close, QueuePolicy::DropOldest] {
            let mut fixture = stuck(policy, 1 << 20);
            hostile(*action);
            // Some of them on their way, some in the queue or waiting apart.
            for number in 0..20 {
                send_owned(number);
                if number == 9 {
                    fixture.worker.ring.take(usize::MAX);
                    fixture.turn();
                }
            }
            end(&mut fixture);
            if !fixture.worker.ring.is_lost {
                fixture.turn();
                // Whatever became of the connection, its neighbours are served.
                fixture.worker.ring.is_stuck = false;
                fixture.worker.ring.take(usize::MAX);
                fixture.turn();
                if !fixture.worker.shutdown.is_stopping {
                    fixture.serves_a_newcomer();
                }
            }
            let local = Rc::clone(&fixture.worker.local);
            drop(fixture);
            hostile(|| ());
            TRANSPORT.set(None);
            assert_eq!(local.pool.queued(), 0);
            assert!(!local.pool.has_discarded());
        }
    }
}

#[test]
fn each_payload_is_dropped_though_the_drops_of_all_panic() {
    for end in ENDS {
        let mut fixture = stuck(QueuePolicy::Close, 1 << 20);
        hostile(panics);
        (0..20).for_each(send_owned);
        fixture.turn();
        end(&mut fixture);
        for _ in 0..4 {
            if !fixture.worker.ring.is_lost {
                fixture.turn();
                fixture.worker.ring.take(usize::MAX);
            }
        }
        let counters = Arc::clone(&fixture.worker.local.counters);
        let is_lost = fixture.worker.ring.is_lost;
        drop(fixture);
        assert_eq!(ACTS.get(), 20);
        assert!(is_lost || counters.read().stray_panics > 0);
        TRANSPORT.set(None);
    }
}

#[test]
fn what_is_sent_while_the_oldest_makes_room_arrives_whole_and_in_order() {
    let mut fixture = stuck(QueuePolicy::DropOldest, 20_000);
    hostile(sends_a_text);
    for number in 0..40 {
        send_owned(number);
        if number % 7 == 0 {
            fixture.turn();
        }
    }
    fixture.turn();
    assert!(ACTS.get() >= 20, "{} were dropped to make room", ACTS.get());
    let got = fixture.drain();
    let texts: Vec<_> = got.iter().map(|(.., payload)| String::from_utf8_lossy(payload)).collect();
    let stats = fixture.stats();
    // One was sent before, the response of the handshake is no frame.
    assert_eq!(stats.frames_sent - stats.frames_dropped, texts.len() as u64, "none is lost");
    let numbers = |prefix: &str| -> Vec<u64> {
        let numbers = texts.iter().filter_map(|text| text.strip_prefix(prefix));
        numbers.filter_map(|text| text.split(' ').next()?.parse().ok()).collect()
    };
    for numbers in [numbers(""), numbers("act ")] {
        assert!(!numbers.is_empty() && numbers.is_sorted(), "{numbers:?}");
    }
}

#[test]
fn what_is_sent_while_a_key_is_replaced_arrives_whole() {
    let mut fixture = stuck(QueuePolicy::Close, 1 << 20);
    hostile(sends_a_text);
    for number in 0..30 {
        let head = FrameHead::new(MsgType::Text);
        let status = transport().send_latest_bytes(number as u64 % 3, head, &owned(number));
        assert!(status.is_queued(), "{status:?}");
    }
    fixture.turn();
    assert_eq!(ACTS.get(), 27);
    let got = fixture.drain();
    // The first, the last of each key, and one for each that was replaced.
    assert_eq!(got.len(), 1 + 3 + 27 + 3);
}

#[test]
fn an_owner_that_sends_itself_again_costs_a_turn_at_a_time() {
    let mut fixture = stuck(QueuePolicy::DropOldest, 20_000);
    hostile(|| {
        let _ = transport().send_bytes(FrameHead::new(MsgType::Text), &owned(0));
    });
    (0..20).for_each(send_owned);
    for turn in 1..=100 {
        let before = ACTS.get();
        assert_eq!(fixture.worker.turn().unwrap(), Turn::Busy);
        let acts = ACTS.get() - before;
        assert!((1..200).contains(&acts), "{acts} in turn {turn}");
    }
    hostile(|| ());
    fixture.turn();
}

/// The queue of an evicted connection is dropped behind the rest of its turn.
#[test]
fn what_owners_send_when_their_connection_is_evicted_counts_in_the_same_turn() {
    let config = Config { memory: MemoryBudget::new(Some(100_000)), ..Config::default() };
    let mut fixture = Fixture::listening(Manner::default(), config);
    fixture.join(7);
    let evicted = transport();
    fixture.join(8);
    fixture.worker.ring.is_stuck = true;
    hostile(|| {
        if ACTS.get() == 1 {
            transport().send(MsgType::Binary, [0; 20_000]);
        }
    });
    for number in 0..60 {
        evicted.send_bytes(FrameHead::new(MsgType::Text), &owned(number));
        if number == 0 {
            fixture.turn();
        }
    }
    loop {
        let turn = fixture.worker.turn().unwrap();
        let (held, sum) = (fixture.worker.held_bytes(), fixture.worker.memory.share.sum());
        assert!(held.abs_diff(sum) < 100, "{held} bytes are held, and {sum} published");
        if turn != Turn::Busy {
            break;
        }
    }
    assert_eq!(evicted.disconnect_cause(), Some(DisconnectCause::MemoryLimit));
    assert!(ACTS.get() >= 59 && fixture.worker.held_bytes() >= 20_000);
    hostile(|| ());
}

/// What was posted to a connection that has ended since is dropped by the worker.
#[test]
fn commands_to_a_connection_that_has_ended_are_dropped_one_by_one() {
    for is_worker_gone in [false, true] {
        let mut fixture = stuck(QueuePolicy::Close, 1 << 20);
        let remote: RemoteTransport = transport().remote();
        hostile(panics);
        for number in 0..10 {
            remote.send(MsgType::Text, owned(number)).unwrap();
        }
        transport().abort();
        TRANSPORT.set(None);
        hostile(|| resume_unwind(Box::new("on purpose")));
        if !is_worker_gone {
            fixture.turn();
            fixture.worker.ring.take(usize::MAX);
            fixture.turn();
            assert_eq!(ACTS.get(), 10);
        }
        drop((fixture, remote));
        assert_eq!(ACTS.get(), 10);
    }
}

/// A waker of an executor that is code of the application.
struct Task;

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        act();
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        // Nothing can help a waker whose `wake` panics and whose `Drop` does so on the way out.
        if !std::thread::panicking() {
            act();
        }
    }
}

/// A waker that counts.
#[derive(Default)]
struct Counts(std::sync::atomic::AtomicUsize);

impl Wake for Counts {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
fn a_waker_that_panics_keeps_no_other_task_from_being_woken() {
    for action in ACTIONS {
        let mut fixture = stuck(QueuePolicy::Close, 1 << 20);
        let counts = Arc::<Counts>::default();
        let (transport, last) = (transport(), Waker::from(Arc::clone(&counts)));
        hostile(action);
        let mut ends: Vec<_> = (0..3).map(|_| Box::pin(transport.wait_disconnected())).collect();
        for end in &mut ends {
            let waker = Waker::from(Arc::new(Task));
            assert!(end.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
        let mut end = pin!(transport.wait_disconnected());
        assert!(end.as_mut().poll(&mut Context::from_waker(&last)).is_pending());
        // Two more that wait for a round trip, of which the second takes the place of the first.
        let mut measuring = pin!(transport.measure_roundtrip_time(1));
        for _ in 0..2 {
            let waker = Waker::from(Arc::new(Task));
            let polled = measuring.as_mut().poll(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
        }
        fixture.turn();
        transport.abort();
        fixture.worker.ring.take(usize::MAX);
        fixture.turn();
        assert!(matches!(end.as_mut().poll(&mut Context::from_waker(&last)), Poll::Ready(Ok(()))));
        assert_eq!(counts.0.load(std::sync::atomic::Ordering::Relaxed), 1);
        hostile(|| ());
    }
}

/// A subscriber that is as bad as an owner.
struct Log;

impl tracing::Subscriber for Log {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn event(&self, _: &tracing::Event<'_>) {
        // What it does is logged as well.
        if !IS_LOGGING.replace(true) {
            let act = crate::foreign::call(act);
            IS_LOGGING.set(false);
            assert!(act.is_ok(), "on purpose");
        }
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

thread_local! {
    static IS_LOGGING: Cell<bool> = const { Cell::new(false) };
}

#[test]
fn a_subscriber_of_the_log_may_send_and_panic() {
    for action in ACTIONS {
        let mut fixture = stuck(QueuePolicy::DropOldest, 10_000);
        hostile(action);
        // As in `foreign/log.rs`: with one subscriber alone, another test may have it passed over.
        let _second = tracing::Dispatch::new(Log);
        tracing::subscriber::with_default(Log, || {
            fixture.say(TEXT, b"hello");
            for number in 0..20 {
                let _ = transport().send_text(number.to_string());
            }
            fixture.worker.ring.take(usize::MAX);
            fixture.turn();
            fixture.worker.ring.is_stuck = false;
            fixture.worker.ring.connect(9);
            fixture.turn();
            fixture.worker.ring.deliver_to(9, b"no HTTP\r\n\r\n");
            fixture.deliver(&[0xFF; 20]);
        });
        assert!(ACTS.get() >= 3, "{} lines", ACTS.get());
        fixture.serves_a_newcomer();
        assert!(fixture.worker.turn().is_ok() && fixture.worker.ring.lent() == 0);
    }
}

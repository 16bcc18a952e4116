//! Many clients, many listeners, every lie.
//!
//! A run is its seed. `PICOWS_SIM_SEEDS=N` plays so many, from `PICOWS_SIM_FROM` on and
//! `PICOWS_SIM_JOBS` at a time; `PICOWS_SIM_SEED=X` repeats one and prints what happens.
//! `scripts/sim` sets them.

use super::callee::Callee;
use super::client::{Client, Facts};
use super::codec;
use super::harness::Harness;
use super::plan::ClientScript;
use super::strain::Strain;
use super::stream::PeerStream;
#[cfg(feature = "_tls")]
use super::stream::{CallTls, server_settings};
use super::{journal, letters, listeners};
use crate::command::ConnectionCommand;
use crate::config::{Config, QueuePolicy};
use crate::memory::MemoryBudget;
use crate::ring::{Ring, Token};
use crate::testing::ring::sim::{Faults, Random};
use crate::transport::Transport;
use picows_uring_proto::{AutoPing, AutoPingStrategy, LivenessRules};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

/// One run: everybody in it, and how far it got.
struct Run {
    random: Random,
    harness: Harness,
    clients: Vec<Client>,
    /// Those whom our client calls, and how.
    callees: Vec<Callee>,
    calling: Arc<Config>,
    /// Connections that are not read from, and until when.
    paused: Vec<(Duration, Transport)>,
    /// What another thread is about to say, after so many steps.
    letter: Option<(usize, Token, ConnectionCommand)>,
    liveness: LivenessRules,
    has_limit: bool,
    /// All connections are of TLS.
    #[cfg(feature = "_tls")]
    is_secure: bool,
    /// When the server is stopped, whatever happens then.
    stops_at: Option<Duration>,
    drain: Duration,
    stopped_at: Option<Duration>,
    strain: Strain,
}

impl Run {
    fn new(seed: u64, is_secure: bool) -> Self {
        let mut random = Random::new(seed);
        let mut faults = Faults::draw(&mut random);
        let strain = Strain::draw(seed, &mut faults);
        let mut config = draw_config(&mut random, is_secure);
        let limits =
            [config.connections_max, config.connections_per_address_max, config.handshakes_max];
        let has_limit = limits.iter().any(Option::is_some) || config.memory.limit().is_some();
        let span = Duration::from_millis(random.pick(&[0, 5, 100, 3000]));
        let count = random.between(2, 16);
        let has_pieces = Random::new(seed ^ PIECES).chance(400)
            && !is_secure
            && config.liveness.lifetime.is_none()
            && config.liveness.idle_timeout.is_none();
        let clients = (0..count as u32)
            .map(|id| {
                let plan = ClientScript::draw(&mut random);
                let is_in_pieces = has_pieces && plan == ClientScript::Echo && id % 2 == 0;
                let path = if is_in_pieces { "/pieces" } else { plan.path() };
                let offer = codec::offer(seed, id, plan.breaks_by_rsv1() || is_in_pieces);
                Client::new(id, (plan, path), is_secure, offer, &mut random, span)
            })
            .collect();
        let callees = (0..random.below(5) as u32)
            .map(|id| Callee::new(CALLEES + id, codec::draw(seed, 1), &mut random, span))
            .collect();
        let mut calling = draw_config(&mut random, false);
        codec::set(&mut config, codec::draw(seed, 2).filter(|_| !is_secure));
        codec::set(&mut calling, codec::draw(seed, 3));
        let calling = Arc::new(calling);
        let mut stops_at = random.chance(300).then(|| span * random.below(3000) as u32 / 1000);
        if faults.descriptors_max < usize::MAX {
            // Those who wait for ever may have all of them.
            stops_at.get_or_insert(PATIENCE / 2);
        }
        let drain = Duration::from_millis(random.pick(&[0, 10, 2000, 20_000]));
        let liveness = config.liveness.clone();
        let harness = Harness::new(random.next(), faults, config);
        if let Some(units) = strain.units {
            harness.local().budget_rules.units.set(units);
        }
        Self {
            random,
            harness,
            clients,
            callees,
            calling,
            paused: Vec::new(),
            letter: None,
            liveness,
            has_limit,
            #[cfg(feature = "_tls")]
            is_secure,
            stops_at,
            drain,
            stopped_at: None,
            strain,
        }
    }

    fn now(&mut self) -> Duration {
        self.harness.ring().now()
    }

    /// Runs until the worker has ended and every client has seen its end.
    fn play(&mut self) {
        let mut steps = 0;
        while !self.harness.is_done() || !self.are_all_over() {
            steps += 1;
            assert!(steps < STEPS_MAX, "no end: {}", self.picture());
            self.step();
        }
        self.judge();
    }

    fn are_all_over(&self) -> bool {
        self.clients.iter().all(Client::is_over) && self.callees.iter().all(Callee::is_over)
    }

    fn step(&mut self) {
        let now = self.now();
        let are_served =
            self.clients.iter().all(|client| client.is_over() || !client.plan.is_finite());
        let are_called = self.callees.iter().all(Callee::is_over);
        let is_time = self.stops_at.is_some_and(|at| at <= now) || (are_served && are_called);
        if self.stopped_at.is_none() && is_time {
            self.stopped_at = Some(now);
            self.harness.stop(self.drain);
        }
        if self.random.chance(5) {
            // A task beside the worker, on its thread.
            listeners::end_another(&mut self.random, u32::MAX);
        }
        let ring = self.harness.ring();
        let is_stalled = self.strain.is_stalled(now, || ring.has_unread());
        if !is_stalled {
            self.meddle(now);
        }
        let mut has_moved = (!is_stalled && self.call(now)) | self.answer() | self.act(now);
        let by = Duration::from_micros(self.random.pick(&[0, 1, 50]));
        if is_stalled {
            self.harness.stall(by);
        } else {
            has_moved |= self.harness.step(by);
        }
        if !has_moved && (is_stalled || !self.harness.is_woken()) {
            self.sleep(is_stalled);
        }
        let limit = self.stopped_at.map_or(PATIENCE, |at| at + self.drain + STOP_SLACK);
        let limit = limit + self.strain.stalled;
        if !self.harness.is_done() {
            assert!(self.now() < limit, "too late: {}", self.picture());
        }
    }

    /// Tasks on the worker's thread stop and go on reading, and other threads say something.
    fn meddle(&mut self, now: Duration) {
        if self.random.chance(10) {
            let index = self.random.below(journal::with(|journal| journal.open.len()));
            let chosen = journal::with(|journal| journal.open.values().nth(index).cloned());
            if let Some(transport) = chosen {
                transport.pause_reading();
                let span = Duration::from_micros(self.random.pick(&[0, 100, 10_000, 300_000]));
                self.paused.push((now + span, transport));
            }
        }
        for (_, transport) in self.paused.extract_if(.., |(until, _)| *until <= now) {
            transport.resume_reading();
        }
        match &mut self.letter {
            Some((0, ..)) => {
                let (_, token, action) = self.letter.take().expect("it is there");
                self.harness.post(token, action);
            }
            Some((steps, ..)) => *steps -= 1,
            None if self.random.chance(30) => {
                let steps = self.random.pick(&[0, 1, 10, 100]);
                let letter = letters::draw(&mut self.random);
                self.letter = letter.map(|(token, action)| (steps, token, action));
            }
            None => {}
        }
    }

    /// Has our client make the calls that are due.
    fn call(&mut self, now: Duration) -> bool {
        let mut has_acted = false;
        for callee in &mut self.callees {
            if callee.is_dialed() || (callee.dialed_at > now && self.stopped_at.is_none()) {
                continue;
            }
            if self.stopped_at.is_some() {
                callee.give_up();
                continue;
            }
            let (room, may_break) = callee.wire();
            #[cfg(feature = "_tls")]
            let mut tls = if self.is_secure { CallTls::of(callee.id) } else { CallTls::default() };
            let (peer, outcome) = self.harness.dial(
                callee.id,
                &self.calling,
                room,
                may_break,
                #[cfg(feature = "_tls")]
                &mut tls,
            );
            #[cfg(feature = "_tls")]
            let stream = PeerStream::server(peer, &mut tls);
            #[cfg(not(feature = "_tls"))]
            let stream = PeerStream::plain(peer);
            callee.dialed(stream, outcome);
            has_acted = true;
        }
        has_acted
    }

    /// Lets those whom our client calls do what is due.
    fn answer(&mut self) -> bool {
        let mut has_acted = false;
        let ring = self.harness.ring();
        journal::with(|journal| {
            for callee in &mut self.callees {
                has_acted |= callee.act(ring, journal);
            }
        });
        has_acted
    }

    /// Lets every client do what is due, in any order.
    fn act(&mut self, now: Duration) -> bool {
        let mut order: Vec<_> = (0..self.clients.len()).collect();
        self.random.shuffle(&mut order);
        let listener = self.harness.listener();
        let ring = self.harness.ring();
        let mut has_acted = false;
        journal::with(|journal| {
            for index in order {
                has_acted |= self.clients[index].act(ring, listener, now, journal);
            }
        });
        has_acted
    }

    /// No side has anything to do: waits for the next event.
    fn sleep(&mut self, is_stalled: bool) {
        let now = self.now();
        let ring = self.harness.ring();
        let at = self.clients.iter().filter_map(|client| client.next_at(ring)).min();
        let is_called = self.callees.iter().any(|callee| callee.has_work(ring)).then_some(now);
        let due = |callee: &&Callee| !callee.is_dialed();
        let calls_at = self.callees.iter().filter(due).map(|callee| callee.dialed_at).min();
        let reads_at = self.paused.iter().map(|(until, _)| *until).min();
        let stops_at = self.stops_at.filter(|at| *at > now);
        let mut others = [ring.next_event(), is_called, calls_at, reads_at, stops_at];
        if is_stalled {
            // What the worker would do has to wait, and then its turn is long due.
            others = [self.strain.ends_at(), is_called, None, None, stops_at];
        }
        match at.into_iter().chain(others.into_iter().flatten()).min() {
            Some(next) if is_stalled => self.harness.stall(next.saturating_sub(now)),
            Some(next) => drop(self.harness.step(next.saturating_sub(now))),
            None if self.harness.is_done() => self.end_the_deaf(),
            None => panic!("stuck: {}", self.picture()),
        }
    }

    /// A client that does not read never learns that the server has ended.
    fn end_the_deaf(&mut self) {
        let now = self.now();
        for client in &mut self.clients {
            client.give_up(now);
        }
        self.callees.iter_mut().for_each(Callee::give_up);
    }

    /// The state of all sides, for a reader who has to find out why they do not move.
    fn picture(&mut self) -> String {
        let (now, stats) = (self.now(), self.harness.stats());
        let is_woken = self.harness.is_woken();
        let ring = self.harness.ring();
        let mut text = format!(
            "at {now:?}, stopped at {:?}, next event at {:?}, awake: {is_woken}, {stats:?}",
            self.stopped_at,
            ring.next_event(),
        );
        for client in self.clients.iter().filter(|client| !client.is_over()) {
            text += &format!("\nnext at {:?}: {client:?}", client.next_at(ring));
        }
        for callee in self.callees.iter().filter(|callee| !callee.is_over()) {
            text += &format!("\n{callee:?}");
        }
        text
    }

    fn judge(&mut self) {
        let stats = self.harness.stats();
        let held = [stats.queue_bytes, stats.stash_bytes, stats.message_bytes, stats.history_bytes];
        assert_eq!(held, [0; 4], "nothing is held without a connection");
        let stopped = self.stopped_at.map(|at| (at, self.drain));
        journal::with(|journal| {
            for client in &self.clients {
                let broken = client.peer().and_then(|it| self.harness.ring().peer(it).broken_by());
                let (has_limit, liveness) = (self.has_limit, self.liveness.clone());
                let has_evictions = stats.memory_evictions > 0;
                let stalled = self.strain.stalled;
                let facts = Facts { broken, stopped, has_limit, has_evictions, liveness, stalled };
                if let Err(fault) = client.verdict(&facts, journal) {
                    panic!("{fault}: {client:?}");
                }
            }
            for callee in &mut self.callees {
                let broken = callee.peer().and_then(|it| self.harness.ring().peer(it).broken_by());
                let is_sent_away = self.calling.liveness.is_on();
                let may_be_evicted = stats.memory_evictions > 0;
                if let Err(fault) = callee.verdict(
                    broken,
                    is_sent_away,
                    may_be_evicted,
                    stopped,
                    self.strain.stalled,
                    journal,
                ) {
                    panic!("{fault}: {callee:?}");
                }
            }
        });
        self.paused.clear();
        self.harness.assert_sessions_are_gone();
    }
}

fn draw_config(random: &mut Random, is_secure: bool) -> Config {
    let mut config = Config {
        queue_bytes_max: random.pick(&[400 * 1024, 64 * 1024 * 1024]),
        queue_policy: random.pick(&[
            QueuePolicy::Close,
            QueuePolicy::DropNewest,
            QueuePolicy::DropOldest,
        ]),
        ..Config::default()
    };
    if random.chance(500) {
        config.high_watermark = 4000;
        config.low_watermark = random.pick(&[0, 1000]);
    }
    if random.chance(100) {
        config.connections_max = Some(random.between(1, 5));
    }
    if random.chance(100) {
        config.connections_per_address_max = Some(random.between(1, 5));
    }
    if random.chance(100) {
        config.handshakes_max = Some(random.between(1, 5));
    }
    let memory = random.chance(300).then(|| random.pick(&[50_000, 200_000, 1_000_000]));
    config.memory = MemoryBudget::new(memory);
    config.drain_spread = random.pick(&[None, Some(Duration::from_secs(1))]);
    config.frames.payload_bytes_max = 1024 * 1024;
    config.frames.validate_text = true;
    config.keep_request = random.chance(500);
    config.liveness = draw_liveness(random);
    let _ = is_secure;
    #[cfg(feature = "_tls")]
    if is_secure {
        config.tls = Some(server_settings());
    }
    config
}

/// Nothing, or any mixture of pings, of patience with silence, and of a limit to everything.
fn draw_liveness(random: &mut Random) -> LivenessRules {
    let millis = |random: &mut Random, choices: &[u64]| Duration::from_millis(random.pick(choices));
    let mut rules = LivenessRules::default();
    if random.chance(400) {
        let idle = millis(random, &[300, 1000, 10_000]);
        let reply = idle.min(millis(random, &[250, 1000]));
        let strategy = random.pick(&[AutoPingStrategy::WhenIdle, AutoPingStrategy::Periodic]);
        rules.auto_ping = Some(AutoPing::new(idle, reply).with_strategy(strategy));
    }
    if random.chance(100) {
        rules.idle_timeout = Some(millis(random, &[400, 2000]));
    }
    if random.chance(100) {
        rules.lifetime = Some(millis(random, &[100, 3000]));
    }
    rules
}

/// The numbers differ from those of the run.
const PIECES: u64 = 0x5EED_0F1E_CE50_ED00;
/// The numbers of those whom our client calls begin here.
const CALLEES: u32 = 1000;
/// More than any run needs.
const STEPS_MAX: usize = 1_000_000;
/// Everybody who ends by itself has done so by then.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a worker may take after its drain timeout: delays of what it cancels.
const STOP_SLACK: Duration = Duration::from_millis(100);
/// Runs that an ordinary test makes: some seconds without optimization.
const SEEDS: u64 = 100;
/// The same over TLS, where each of the connections costs two handshakes.
#[cfg(feature = "_tls")]
const SECURE_SEEDS: u64 = 40;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text:?} is not a number")))
}

/// What has to happen in some runs, or they show nothing of it, and how often it did.
const EVENTS: [&str; 10] = [
    "handshakes of TLS were made",
    "bytes of large frames were taken straight from their sockets",
    "connections were ended for their memory",
    "messages were replaced by later ones with their keys",
    "turns ended with input that was held",
    "turns ended with input that was copied",
    "times the process stood still",
    "pieces of frames were sent on",
    "bytes of messages were compressed",
    "bytes were the text of compressed messages",
];

/// Plays one seed, and says which it was if it fails. Returns how often each of the [`EVENTS`]
/// happened.
fn play(seed: u64, is_traced: bool, is_secure: bool) -> [u64; EVENTS.len()] {
    let mut run = Run::new(seed, is_secure);
    run.harness.ring().set_traced(is_traced);
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run.play())) {
        let tls = if is_secure { " --tls" } else { "" };
        eprintln!("seed {seed} failed. To see it again: scripts/sim{tls} --seed {seed}");
        // Its worker is in no state to be ended.
        std::mem::forget(run);
        resume_unwind(panic);
    }
    let stats = run.harness.stats();
    let taken = run.harness.ring().taken();
    let (held, copied) = (run.harness.held_turns, run.harness.copied_turns);
    let stalls = run.strain.stall_count;
    let handshakes = stats.tls_handshakes;
    let pieces = journal::with(|journal| journal.pieces);
    let (compressed, expanded) = (stats.bytes_before_compression, stats.bytes_after_expansion);
    [
        handshakes,
        taken,
        stats.memory_evictions,
        stats.frames_conflated,
        held,
        copied,
        stalls,
        pieces,
        compressed,
        expanded,
    ]
}

/// Plays the seeds that the variables name, or the first `usual` ones, and returns how many those were and
/// how often each of the [`EVENTS`] happened; `None` after one seed alone.
fn play_seeds(usual: u64, is_secure: bool) -> Option<(u64, [u64; EVENTS.len()])> {
    if let Some(seed) = number("PICOWS_SIM_SEED") {
        play(seed, true, is_secure);
        return None;
    }
    let (from, count) = (number("PICOWS_SIM_FROM"), number("PICOWS_SIM_SEEDS"));
    let (from, count) = (from.unwrap_or(0), count.unwrap_or(usual));
    let happened = EVENTS.map(|_| AtomicU64::new(0));
    let (next, done, has_failed) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    // A run belongs to its thread from beginning to end, so any number may be under way.
    std::thread::scope(|scope| {
        for _ in 0..number("PICOWS_SIM_JOBS").unwrap_or(1) {
            scope.spawn(|| {
                while !has_failed.load(Relaxed) {
                    let index = next.fetch_add(1, Relaxed);
                    if index >= count {
                        return;
                    }
                    match catch_unwind(|| play(from + index, false, is_secure)) {
                        Ok(counts) => {
                            for (all, count) in happened.iter().zip(counts) {
                                all.fetch_add(count, Relaxed);
                            }
                        }
                        Err(_) => has_failed.store(true, Relaxed),
                    }
                    let done = done.fetch_add(1, Relaxed) + 1;
                    if done.is_multiple_of(SEEDS_PER_LINE) {
                        eprintln!("{done} of {count} seeds played");
                    }
                }
            });
        }
    });
    assert!(!has_failed.into_inner(), "see above");
    let happened = happened.map(AtomicU64::into_inner);
    for (what, times) in EVENTS.iter().zip(happened) {
        eprintln!("{times} {what}");
    }
    Some((count, happened))
}

#[test]
fn everybody_is_served_whatever_the_kernel_does() {
    let Some((count, happened)) = play_seeds(SEEDS, false) else { return };
    let [handshakes, taken, others @ ..] = happened;
    assert_eq!(handshakes, 0, "of TLS");
    assert!(count < SEEDS || taken > count * 1000, "too few to show anything: {taken}");
    // Without the feature, nothing is compressed.
    let counted = others.len() - if cfg!(feature = "deflate") { 0 } else { 2 };
    let is_enough = others[..counted].iter().all(|times| *times > count / 10);
    assert!(count < SEEDS || is_enough, "too few to show anything: {others:?}");
}

#[cfg(feature = "_tls")]
#[test]
fn everybody_is_served_over_tls_whatever_the_kernel_does() {
    let Some((count, happened)) = play_seeds(SECURE_SEEDS, true) else { return };
    let [handshakes, _, others @ ..] = happened;
    assert!(handshakes > count * 4, "too few to show anything: {handshakes}");
    let is_enough = others[..5].iter().all(|times| *times > count / 10);
    assert!(count < SECURE_SEEDS || is_enough, "too few to show anything: {others:?}");
}

#[test]
fn a_worker_that_fails_in_the_middle_of_traffic_ends_every_connection_once() {
    let mut open = 0;
    for seed in 0..SEEDS {
        let mut run = Run::new(seed, false);
        for _ in 0..run.random.below(800) {
            if !run.harness.is_done() {
                run.step();
            }
        }
        let local = run.harness.local();
        let mut callees = std::mem::take(&mut run.callees);
        open += journal::with(|journal| journal.open.len());
        drop(run);
        journal::with(|journal| {
            assert!(journal.faults.is_empty(), "seed {seed}: {:#?}", journal.faults);
            assert!(journal.open.is_empty(), "seed {seed}: open without a worker");
            for (id, record) in &journal.records {
                assert_eq!(record.connected, record.disconnected, "seed {seed}, {id}: {record:?}");
            }
        });
        for callee in &mut callees {
            assert!(callee.is_told(), "seed {seed}: nobody told its caller: {callee:?}");
        }
        drop(callees);
        assert_eq!(Rc::strong_count(&local), 1, "seed {seed}: connections outlive their worker");
    }
    assert!(open > SEEDS as usize, "{open} connections were open: too few to show anything");
}

const SEEDS_PER_LINE: u64 = 1000;

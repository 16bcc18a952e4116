//! Many clients, many listeners, every lie.
//!
//! A run is its seed. `PICOWS_SIM_SEEDS=N` runs so many, `PICOWS_SIM_SEED=X` repeats one and
//! prints what happens; `scripts/sim` does both.

use super::client::{Client, Facts};
use super::harness::Harness;
use super::plan::Plan;
use super::{journal, listeners};
use crate::config::{Config, QueuePolicy};
use crate::ring::Ring;
use crate::ring::sim::{Faults, Random};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

/// One run: everybody in it, and how far it got.
struct Run {
    random: Random,
    harness: Harness,
    clients: Vec<Client>,
    has_limit: bool,
    /// When the server is stopped, whatever happens then.
    stops_at: Option<Duration>,
    drain: Duration,
    stopped_at: Option<Duration>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let faults = Faults::draw(&mut random);
        let config = draw_config(&mut random);
        let limits =
            [config.connections_max, config.connections_per_address_max, config.handshakes_max];
        let has_limit = limits.iter().any(Option::is_some);
        let span = Duration::from_millis(random.pick(&[0, 5, 100, 3000]));
        let count = random.between(2, 16);
        let clients = (0..count as u32)
            .map(|id| Client::new(id, Plan::draw(&mut random), &mut random, span))
            .collect();
        let mut stops_at = random.chance(300).then(|| span * random.below(3000) as u32 / 1000);
        if faults.descriptors_max < usize::MAX {
            // Those who wait for ever may have all of them.
            stops_at.get_or_insert(PATIENCE / 2);
        }
        let drain = Duration::from_millis(random.pick(&[0, 10, 2000, 20_000]));
        let harness = Harness::new(random.next(), faults, config);
        Self { random, harness, clients, has_limit, stops_at, drain, stopped_at: None }
    }

    fn now(&mut self) -> Duration {
        self.harness.ring().now()
    }

    /// Runs until the worker has ended and every client has seen its end.
    fn play(&mut self) {
        let mut steps = 0;
        while !self.harness.is_done() || self.clients.iter().any(|client| !client.is_over()) {
            steps += 1;
            assert!(steps < STEPS_MAX, "no end: {}", self.picture());
            self.step();
        }
        self.judge();
    }

    fn step(&mut self) {
        let now = self.now();
        let is_time = self.stops_at.is_some_and(|at| at <= now)
            || self.clients.iter().all(|client| client.is_over() || !client.plan.is_finite());
        if self.stopped_at.is_none() && is_time {
            self.stopped_at = Some(now);
            self.harness.stop(self.drain);
        }
        if self.random.chance(5) {
            // A task beside the worker, on its thread.
            listeners::end_another(&mut self.random, u32::MAX);
        }
        let mut has_moved = self.act(now);
        let by = Duration::from_micros(self.random.pick(&[0, 1, 50]));
        has_moved |= self.harness.step(by);
        if !has_moved && !self.harness.is_woken() {
            self.sleep();
        }
        let limit = self.stopped_at.map_or(PATIENCE, |at| at + self.drain + STOP_SLACK);
        if !self.harness.is_done() {
            assert!(self.now() < limit, "too late: {}", self.picture());
        }
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

    /// Nobody has anything to do: waits for the next event.
    fn sleep(&mut self) {
        let now = self.now();
        let ring = self.harness.ring();
        let at = self.clients.iter().filter_map(|client| client.next_at(ring)).min();
        let stops_at = self.stops_at.filter(|at| *at > now);
        match at.into_iter().chain(ring.next_event()).chain(stops_at).min() {
            Some(next) => drop(self.harness.step(next.saturating_sub(now))),
            None if self.harness.is_done() => self.end_the_deaf(),
            None => panic!("stuck: {}", self.picture()),
        }
    }

    /// Whoever does not read never learns that the server has ended.
    fn end_the_deaf(&mut self) {
        let now = self.now();
        for client in &mut self.clients {
            client.give_up(now);
        }
    }

    /// How things stand, for whoever has to find out why they do not move.
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
        text
    }

    fn judge(&mut self) {
        let stats = self.harness.stats();
        let held = (stats.queue_bytes, stats.stash_bytes, stats.message_bytes);
        assert_eq!(held, (0, 0, 0), "nothing is held for nobody");
        let stopped = self.stopped_at.map(|at| (at, self.drain));
        journal::with(|journal| {
            for client in &self.clients {
                let broken = client.peer().and_then(|it| self.harness.ring().peer(it).broken_by());
                let facts = Facts { broken, stopped, has_limit: self.has_limit };
                if let Err(fault) = client.verdict(&facts, journal) {
                    panic!("{fault}: {client:?}");
                }
            }
        });
    }
}

fn draw_config(random: &mut Random) -> Config {
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
    config.drain_spread = random.pick(&[None, Some(Duration::from_secs(1))]);
    config.frames.payload_bytes_max = 1024 * 1024;
    config.frames.validate_text = true;
    config.keep_request = random.chance(500);
    config
}

/// More than any run needs.
const STEPS_MAX: usize = 1_000_000;
/// Everybody who ends by itself has done so by then.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a worker may take after its drain timeout: delays of what it cancels.
const STOP_SLACK: Duration = Duration::from_millis(100);
/// Runs that an ordinary test makes: some seconds without optimization.
const SEEDS: u64 = 100;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text:?} is not a number")))
}

#[test]
fn everybody_is_served_whatever_the_kernel_does() {
    let seed = number("PICOWS_SIM_SEED");
    let seeds = match seed {
        Some(seed) => seed..seed + 1,
        None => 0..number("PICOWS_SIM_SEEDS").unwrap_or(SEEDS),
    };
    let count = seeds.end - seeds.start;
    for (done, each) in seeds.enumerate() {
        let mut run = Run::new(each);
        run.harness.ring().set_traced(seed.is_some());
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run.play())) {
            eprintln!("seed {each} failed. To see it again: scripts/sim --seed {each}");
            // Its worker is in no state to be ended.
            std::mem::forget(run);
            resume_unwind(panic);
        }
        if (done + 1).is_multiple_of(SEEDS_PER_LINE) {
            eprintln!("{} of {count} seeds passed", done + 1);
        }
    }
}

const SEEDS_PER_LINE: usize = 1000;

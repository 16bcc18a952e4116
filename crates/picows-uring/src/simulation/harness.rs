//! A real worker on a simulated kernel, driven as its host does, and checked after every turn.

use super::journal;
use super::listeners;
use crate::config::Config;
use crate::counters::{Counters, Stats};
use crate::mailbox::{Letter, Mailbox};
use crate::ring::Socket;
use crate::ring::sim::{Faults, Random, SimRing};
use crate::server::Gauge;
use crate::session::Shared;
use crate::worker::{Turn, Worker};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

pub(super) struct Harness {
    worker: Worker<SimRing>,
    listener: Socket,
    gauge: Arc<Gauge>,
    counters: Arc<Counters>,
    event: Arc<OwnedFd>,
    random: Random,
    /// The worker waits to be woken.
    is_asleep: bool,
    is_done: bool,
}

impl Harness {
    pub(super) fn new(seed: u64, faults: Faults, config: Config) -> Self {
        journal::reset(seed);
        let mut ring = SimRing::new(seed, faults);
        let listener = ring.listen();
        let event = Arc::new(eventfd(0, EventfdFlags::NONBLOCK).unwrap());
        let mailbox = Arc::new(Mailbox::new(Arc::clone(&event)));
        let counters = Arc::<Counters>::default();
        let shared = Shared::new(Arc::new(config), Arc::clone(&counters), mailbox);
        let gauge = Arc::<Gauge>::default();
        let factory = listeners::factory();
        let worker = Worker::new(ring, shared, factory, Arc::clone(&gauge), vec![listener]);
        let random = Random::new(!seed);
        Self { worker, listener, gauge, counters, event, random, is_asleep: false, is_done: false }
    }

    pub(super) fn ring(&mut self) -> &mut SimRing {
        &mut self.worker.ring
    }

    pub(super) fn listener(&self) -> Socket {
        self.listener
    }

    pub(super) fn stats(&self) -> Stats {
        self.counters.read()
    }

    /// Bytes of buffers that connections hold on to.
    #[cfg(test)]
    pub(super) fn owned_bytes(&mut self) -> usize {
        self.worker.owned_bytes()
    }

    pub(super) fn is_done(&self) -> bool {
        self.is_done
    }

    /// Has the worker stopped, as another thread does.
    pub(super) fn stop(&mut self, drain: Duration) {
        self.worker.shared.mailbox.post(Letter::Stop { drain });
    }

    /// Lets time pass and the kernel work, and gives the worker a turn if it is awake. Tells
    /// whether it had one.
    pub(super) fn step(&mut self, by: Duration) -> bool {
        self.ring().advance(by);
        // A worker may be late, and it may be woken for nothing.
        let is_awake = self.is_woken() && !self.random.chance(100);
        if self.is_done || !(is_awake || self.random.chance(10)) {
            return false;
        }
        self.turn();
        true
    }

    /// Whether the worker's host would give it a turn.
    pub(super) fn is_woken(&mut self) -> bool {
        if rustix::io::read(&self.event, &mut [0; 8]).is_ok() {
            self.is_asleep = false;
        }
        let is_awake = !self.is_asleep
            || self.worker.ring.is_signalled()
            || !self.worker.shared.dirty.borrow().is_empty();
        is_awake && !self.is_done
    }

    fn turn(&mut self) {
        self.worker.shared.mailbox.after_sleep();
        let turn = self.worker.turn().unwrap();
        self.worker.ring.assert_turn_is_over();
        self.check(turn);
        match turn {
            Turn::Busy => self.is_asleep = false,
            Turn::Idle => self.is_asleep = self.worker.shared.mailbox.before_sleep(),
            Turn::Done => {
                self.is_done = true;
                self.check_end();
            }
        }
    }

    /// What holds after every turn.
    fn check(&mut self, turn: Turn) {
        let stats = self.stats();
        let refused =
            stats.refused_by_connections + stats.refused_by_address + stats.refused_by_handshakes;
        assert_eq!(stats.refused, refused, "{stats:?}");
        assert_eq!(stats.accepted, stats.connections + stats.disconnected, "{stats:?}");
        assert_eq!(stats.connections, stats.slots, "{stats:?}");
        assert_eq!(stats.connections, self.worker.ring.streams_owned() as u64, "{stats:?}");
        journal::with(|journal| {
            assert!(journal.faults.is_empty(), "{:#?}", journal.faults);
            assert_eq!(stats.listener_errors, journal.errors, "{stats:?}");
            let (mut connected, mut disconnected) = (0, 0);
            for (id, record) in &journal.records {
                connected += u64::from(record.connected);
                disconnected += u64::from(record.disconnected);
                let is_settled = turn == Turn::Busy || !record.awaits_pause;
                assert!(is_settled, "client {id}: no pause_writing after Congested");
            }
            assert_eq!(stats.upgraded, connected, "{stats:?}");
            assert!(connected - disconnected <= stats.connections, "{stats:?}");
        });
        if turn != Turn::Busy {
            assert!(self.worker.shared.dirty.borrow().is_empty(), "idle with connections to serve");
        }
    }

    /// What holds once the worker has ended.
    fn check_end(&mut self) {
        self.ring().assert_nothing_is_left();
        let stats = self.stats();
        assert_eq!((stats.connections, stats.slots), (0, 0), "{stats:?}");
        assert!(self.gauge.is_empty(), "still counted: {:?}", self.gauge);
        journal::with(|journal| {
            assert!(journal.room.is_empty());
            for (id, record) in &journal.records {
                assert_eq!(record.connected, record.disconnected, "client {id}: {record:?}");
            }
        });
    }
}

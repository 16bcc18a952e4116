//! A real worker on a simulated kernel, driven as its host does, and checked after every turn.

use super::{journal, listeners};
use crate::admission::Admission;
#[cfg(test)]
use crate::client::{ConnectOutcome, Connecting, MakeListener};
use crate::command::Command;
#[cfg(test)]
use crate::command::ConnectionCommand;
use crate::config::Config;
use crate::connection::Connection;
#[cfg(test)]
use crate::foreign::Foreign;
use crate::health::{Counters, Stats};
use crate::keys::KeySource;
use crate::link::InputState;
use crate::local::Local;
use crate::mailbox::Mailbox;
#[cfg(test)]
use crate::ring::Ring;
use crate::ring::{Socket, Token};
use crate::testing::ring::checked::Checked;
#[cfg(test)]
use crate::testing::ring::sim::PeerId;
use crate::testing::ring::sim::{Faults, Random, SimRing};
use crate::worker::{Listening, Turn, Worker};
use picows_uring_proto::Phase;
#[cfg(test)]
use picows_uring_proto::{ClientHandshake, Tick};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::OwnedFd;
#[cfg(test)]
use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

pub(super) struct Harness {
    worker: Worker<Checked<SimRing>>,
    listener: Socket,
    admission: Arc<Admission>,
    counters: Arc<Counters>,
    event: Arc<OwnedFd>,
    random: Random,
    /// The worker waits to be woken.
    is_asleep: bool,
    is_done: bool,
    /// For how many turns a connection that holds input has not had its share.
    waits: HashMap<Token, u32>,
    /// Turns after which connections held input, and those after which some of it was copied.
    pub(super) held_turns: u64,
    pub(super) copied_turns: u64,
}

impl Harness {
    pub(super) fn new(seed: u64, faults: Faults, mut config: Config) -> Self {
        journal::reset(seed);
        let mut ring = SimRing::new(seed, faults);
        let listener = ring.listen();
        let event = Arc::new(eventfd(0, EventfdFlags::NONBLOCK).unwrap());
        let mailbox = Arc::new(Mailbox::new(Arc::clone(&event)));
        let counters = Arc::<Counters>::default();
        let admission = Arc::<Admission>::default();
        config.admission = Some(Arc::clone(&admission));
        let config = Arc::new(config);
        let local = Local::new(Arc::clone(&config), Arc::clone(&counters), mailbox);
        *local.keys.borrow_mut() = KeySource::seeded(seed);
        local.callback_timer.clock.set(|| Duration::ZERO);
        local.budget_rules.clock.set(|| Duration::ZERO);
        let mut worker = Worker::new(Checked::new(ring), local);
        worker.listen(listener, &Listening::new(config, listeners::factory()));
        let random = Random::new(!seed);
        Self {
            worker,
            listener,
            admission,
            counters,
            event,
            random,
            is_asleep: false,
            is_done: false,
            waits: HashMap::new(),
            held_turns: 0,
            copied_turns: 0,
        }
    }

    pub(super) fn ring(&mut self) -> &mut Checked<SimRing> {
        &mut self.worker.ring
    }

    pub(super) fn listener(&self) -> Socket {
        self.listener
    }

    pub(super) fn stats(&self) -> Stats {
        self.counters.read()
    }

    /// Has our client make a connection, with pipes of this size: up to the handshake, which the
    /// peer sees next.
    #[cfg(test)]
    pub(super) fn dial(
        &mut self,
        id: u32,
        config: &Arc<Config>,
        room: usize,
        may_break: bool,
        #[cfg(feature = "_tls")] tls: &mut super::stream::CallTls,
    ) -> (PeerId, Rc<ConnectOutcome>) {
        let (socket, peer) = self.ring().dial(room, may_break);
        self.ring().opened(socket);
        let handshake = ClientHandshake::new("sim.test", "/", [id as u8; 16]).unwrap();
        let handshake = match config.deflate() {
            Some(settings) => handshake.with_deflate(settings).unwrap(),
            None => handshake,
        };
        let request = Box::new(handshake.request().unwrap());
        let make: MakeListener = Box::new(move |_, _| listeners::caller(id));
        let outcome = Rc::<ConnectOutcome>::default();
        let connecting = Connecting {
            head: picows_uring_proto::HeadReceiver::of_response(),
            handshake,
            request,
            make: Rc::new(Cell::new(Some(Foreign::new(make)))),
            outcome: Rc::clone(&outcome),
            follows_redirects: false,
            #[cfg(feature = "_tls")]
            tls: tls.inner.take().map(Box::new),
            #[cfg(feature = "_tls")]
            proxy: tls.outer.take(),
        };
        journal::with(|journal| journal.dialed += 1);
        // Calls are made in a turn, whose clock is no older than they are.
        let now = Tick::ZERO + self.ring().now();
        self.worker.local.now.set(now);
        self.worker.connected(socket, None, config, connecting);
        (peer, outcome)
    }

    /// Has another thread say something to a connection.
    #[cfg(test)]
    pub(super) fn post(&mut self, token: Token, action: ConnectionCommand) {
        // As a handle does: what waits is counted where the connection is still there.
        let bytes = action.bytes();
        let mut connections = self.worker.connections();
        let connection = connections.find(|it| it.session().token == token);
        if connection.is_some_and(|it| !it.session().remote().admit(bytes)) {
            return;
        }
        drop(connections);
        self.worker.local.mailbox.post_payload(Command::Connection(token, action), bytes);
    }

    /// What all connections refer to.
    #[cfg(test)]
    pub(super) fn local(&self) -> Rc<Local> {
        Rc::clone(&self.worker.local)
    }

    /// Nothing refers to a connection that is over, so its memory has gone back.
    #[cfg(test)]
    pub(super) fn assert_sessions_are_gone(&self) {
        let count = Rc::strong_count(&self.worker.local) - 1;
        assert_eq!(count, 0, "connections that are over and not dropped");
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
        self.worker.local.mailbox.post(Command::Stop { drain });
    }

    /// Lets time pass and the kernel work, and gives the worker a turn if it is awake. Returns
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
            || !self.worker.local.dirty.borrow().is_empty();
        is_awake && !self.is_done
    }

    fn turn(&mut self) {
        self.worker.local.mailbox.after_sleep();
        let turn = self.worker.turn().unwrap();
        self.worker.ring.demand_turn_is_over();
        self.check(turn);
        match turn {
            Turn::Busy => self.is_asleep = false,
            Turn::Idle => self.is_asleep = self.worker.local.mailbox.before_sleep(),
            Turn::Done => {
                self.is_done = true;
                self.check_end();
            }
        }
    }

    /// What holds after every turn.
    fn check(&mut self, turn: Turn) {
        self.audit(turn);
        self.check_shares();
        let stats = self.stats();
        let refused = stats.refused_by_connections
            + stats.refused_by_address
            + stats.refused_by_handshakes
            + stats.refused_by_memory;
        assert_eq!(stats.refused, refused, "{stats:?}");
        let made = stats.accepted + journal::with(|journal| journal.dialed);
        assert_eq!(made, stats.connections + stats.disconnected, "{stats:?}");
        let told = self.worker.ring.told();
        assert_eq!((stats.bytes_received, stats.bytes_sent), told, "{stats:?}");
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
            assert!(self.worker.local.dirty.borrow().is_empty(), "idle with connections to serve");
        }
    }

    /// That the worker's view of each connection is the kernel's: what is in flight, and how much.
    fn audit(&mut self, turn: Turn) {
        let mut views = Vec::new();
        let (_, copied) = self.worker.deferred_input();
        let held: usize = self.worker.connections().map(|it| it.held_bytes()).sum();
        let held = held + copied;
        assert_eq!(held, self.worker.held_bytes(), "the worker counts what its connections hold");
        if let Some(limit) = self.worker.local.config.memory.limit() {
            let published = self.worker.memory.published();
            assert!(held.abs_diff(published) <= limit / 1024, "{published} of {held} published");
            assert!(turn == Turn::Busy || held <= limit + limit / 1024, "{held} of {limit} held");
        }
        for connection in self.worker.connections() {
            if turn != Turn::Busy {
                check_rest(connection);
            }
            let session = Rc::clone(connection.session());
            views.push((session, connection.link.is_receiving()));
        }
        for (session, receives) in views {
            let token = session.token;
            let socket = session.socket.get().expect("a slot in use has a socket");
            let (is_receiving, sending) = self.worker.ring.in_flight(socket);
            assert_eq!(
                (receives, session.is_sending()),
                (is_receiving, sending.is_some()),
                "{token:?}"
            );
            assert_eq!(session.in_flight(), sending.unwrap_or(0), "{token:?}");
            let most = session.queue_bytes_max() + CONTROL_BYTES;
            assert!(session.buffered() <= most, "{token:?}: {} are queued", session.buffered());
        }
    }

    /// Asserts that deferred input has its turn: a connection with some after a turn has used up
    /// its budget in it, or does so in the next.
    fn check_shares(&mut self) {
        let (holders, copied) = self.worker.deferred_input();
        self.held_turns += u64::from(holders > 0);
        self.copied_turns += u64::from(copied > 0);
        let (turn, units) = (self.worker.turn_number(), self.worker.local.budget_rules.units.get());
        let connections = self.worker.connections().count() as u32;
        let waits = &mut self.waits;
        for connection in self.worker.connections() {
            let token = connection.session().token;
            let is_waiting = connection.link.input == InputState::Deferred
                && connection.phase() == Phase::Open
                && connection.spent(turn) < usize::from(units);
            if is_waiting {
                let turns = waits.entry(token).or_default();
                *turns += 1;
                // One of those that compress has a turn in any case.
                let most = match connection.is_expanding() {
                    true => HELD_TURNS_MAX + connections + UNDECIDED_TURNS_MAX,
                    false => HELD_TURNS_MAX,
                };
                assert!(*turns <= most, "{token:?}: its input waits for {turns} turns");
            } else {
                waits.remove(&token);
            }
        }
    }

    /// Has time pass in which the process does not run.
    #[cfg(test)]
    pub(super) fn stall(&mut self, by: Duration) {
        self.ring().advance(by);
    }

    /// What holds once the worker has ended.
    fn check_end(&mut self) {
        self.ring().assert_nothing_is_left();
        self.worker.ring.demand_nothing_is_left();
        let stats = self.stats();
        assert_eq!((stats.connections, stats.slots), (0, 0), "{stats:?}");
        assert!(self.admission.is_empty(), "still counted: {:?}", self.admission);
        journal::with(|journal| {
            assert!(journal.room.is_empty() && journal.open.is_empty());
            for (id, record) in &journal.records {
                assert_eq!(record.connected, record.disconnected, "client {id}: {record:?}");
            }
        });
    }
}

/// What holds for a connection while its worker waits: whatever it waits for will wake it.
fn check_rest(connection: &Connection) {
    let session = connection.session();
    let token = session.token;
    let phase = connection.phase();
    if phase == Phase::Ended {
        assert!(connection.link.cancelled().0, "{token:?}: it waits for what was not cancelled");
        return;
    }
    if let Some(deadline) = session.deadline() {
        let is_armed = connection.timer.is_some_and(|(_, at)| at <= deadline);
        assert!(is_armed, "{token:?}: nobody wakes it");
    }
    let (wants, receives) = (connection.wants_receive(), connection.link.is_receiving());
    let is_as_wanted = receives == wants
        || connection.link.cancelled().1
        || connection.link.input == InputState::Starved;
    assert!(is_as_wanted, "{token:?}: wants to receive: {wants}, does: {receives}");
    assert!(session.is_wire_empty() || session.is_sending(), "{token:?}: its queue is never sent");
    if phase == Phase::Open {
        let (config, buffered) = (&session.config, session.buffered());
        if session.is_paused.get() {
            assert!(buffered > config.low_watermark, "{token:?}: not resumed at {buffered}");
        } else {
            let high = config.high_watermark.max(config.low_watermark);
            // Behind its CLOSE there is nothing to pause.
            let may_send = session.conversation.borrow().may_send();
            assert!(buffered <= high || !may_send, "{token:?}: not paused at {buffered}");
        }
    }
}

/// Sixteen whole shares make a turn, and a run has fewer than twice as many connections.
const HELD_TURNS_MAX: u32 = 1;
/// Turns in which nothing is expanded, as it is waited for which connections are evicted.
const UNDECIDED_TURNS_MAX: u32 = 10;
/// What control frames may queue beyond the limit, the last CLOSE included.
const CONTROL_BYTES: usize = 65 * 1024;

//! The worker of a network, its simulated ring, and the peers at the other ends.

use super::peer::PeerState;
use super::ring::sim::{Faults, PeerId, PeerRead, SimRing};
use crate::client::{Connect, ConnectError, ConnectFault, ConnectOutcome};
use crate::command::Command;
use crate::config::Config;
use crate::foreign::Foreign;
use crate::health::{Counters, Stats};
use crate::keys::KeySource;
use crate::listener::Listener;
use crate::local::Local;
use crate::mailbox::Mailbox;
use crate::ring::{Ring, Socket};
use crate::transport::Transport;
use crate::upgrade::LocalFactory;
use crate::worker::{Listening, Turn, Worker};
use picows_uring_proto::Tick;
use rustix::event::{EventfdFlags, eventfd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// See the module.
pub(super) struct Kernel {
    worker: Worker<SimRing>,
    counters: Arc<Counters>,
    mailbox: Arc<Mailbox>,
    listener: Option<Socket>,
    peers: Vec<(PeerId, PeerState)>,
    joints: Vec<Joint>,
    is_done: bool,
}

/// A client and a server of the network, whose streams are joined: each is the other's peer.
struct Joint {
    ends: [JointEnd; 2],
}

/// What one end has sent and the other has not taken.
struct JointEnd {
    id: PeerId,
    unsent: Vec<u8>,
    /// It sends no more.
    is_over: bool,
    /// The other one knows of that.
    is_passed_on: bool,
}

impl Kernel {
    pub(super) fn new(config: Arc<Config>) -> Self {
        let faults = Faults { buffers: BUFFERS, buffer_bytes: BUFFER_BYTES, ..Faults::none() };
        let event = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC);
        let event = event.expect("there is a descriptor for an eventfd");
        let mailbox = Arc::new(Mailbox::new(Arc::new(event)));
        let counters = Arc::<Counters>::default();
        let local = Local::new(config, Arc::clone(&counters), Arc::clone(&mailbox));
        *local.keys.borrow_mut() = KeySource::seeded(SEED);
        local.callback_timer.clock.set(|| Duration::ZERO);
        local.budget_rules.clock.set(|| Duration::ZERO);
        Self {
            worker: Worker::new(SimRing::new(SEED, faults), local),
            counters,
            mailbox,
            listener: None,
            peers: Vec::new(),
            joints: Vec::new(),
            is_done: false,
        }
    }

    pub(super) fn listen(&mut self, config: Arc<Config>, factory: Box<LocalFactory>) {
        let socket = self.worker.ring.listen();
        let listening = Listening::of(config, Rc::new(Foreign::new(factory)));
        self.worker.listen(socket, &listening);
        self.listener = Some(socket);
        self.settle();
    }

    pub(super) fn now(&self) -> Duration {
        self.worker.ring.now()
    }

    pub(super) fn stats(&mut self) -> Stats {
        self.settle();
        self.counters.read()
    }

    pub(super) fn post(&self, command: Command) {
        self.mailbox.post(command);
    }

    /// The state of a peer.
    pub(super) fn peer_mut(&mut self, index: usize) -> &mut PeerState {
        &mut self.peers[index].1
    }

    /// Breaks the connection of a peer.
    pub(super) fn reset(&mut self, index: usize) {
        let (id, state) = &mut self.peers[index];
        state.ended();
        self.worker.ring.peer(*id).reset();
        self.settle();
    }

    /// Connects a client that the test plays, and returns its number.
    pub(super) fn connect_peer(&mut self, connect: Connect) -> usize {
        let listener =
            self.listener.expect("no server listens: make the network with Network::serve");
        let local = Rc::clone(&self.worker.local);
        let handshake = connect.handshake_of_peer(&local);
        let handshake =
            handshake.unwrap_or_else(|fault| panic!("{}", ConnectError::new("", fault)));
        let id = self.worker.ring.connect(listener, ROOM_BYTES, false);
        self.peers.push((id, PeerState::client(handshake)));
        self.settle();
        self.peers.len() - 1
    }

    /// Connects a client of this library to the server.
    pub(super) fn connect_client(
        &mut self,
        connect: Connect,
        listener: Box<dyn Listener>,
    ) -> Result<Transport, ConnectError> {
        let url = connect.url().to_owned();
        let failed = |fault| ConnectError::new(&url, fault);
        let Some(listening) = self.listener else {
            return Err(failed(ConnectFault::Unreachable { attempts: Vec::new() }));
        };
        let (id, outcome) = self.begin(connect, listener).map_err(failed)?;
        let other = self.worker.ring.connect(listening, ROOM_BYTES, false);
        let ends = [id, other].map(|id| JointEnd {
            id,
            unsent: Vec::new(),
            is_over: false,
            is_passed_on: false,
        });
        self.joints.push(Joint { ends });
        self.outcome(&outcome).map_err(failed)
    }

    /// Connects a client of this library to a server that the test plays.
    pub(super) fn dial(
        &mut self,
        connect: Connect,
        listener: Box<dyn Listener>,
    ) -> Result<(Transport, usize), ConnectError> {
        let url = connect.url().to_owned();
        let failed = |fault| ConnectError::new(&url, fault);
        let (id, outcome) = self.begin(connect, listener).map_err(failed)?;
        self.peers.push((id, PeerState::server()));
        let index = self.peers.len() - 1;
        self.outcome(&outcome).map(|transport| (transport, index)).map_err(failed)
    }

    fn begin(
        &mut self,
        connect: Connect,
        listener: Box<dyn Listener>,
    ) -> Result<(PeerId, Rc<ConnectOutcome>), ConnectFault> {
        let local = Rc::clone(&self.worker.local);
        let (config, connecting) = connect.begin_in_memory(&local, listener)?;
        let outcome = Rc::clone(&connecting.outcome);
        let (socket, id) = self.worker.ring.dial(ROOM_BYTES, false);
        // The handshake has its deadline from now on.
        local.now.set(Tick::ZERO + self.worker.ring.now());
        self.worker.connected(socket, None, &config, connecting);
        Ok((id, outcome))
    }

    /// The outcome of a handshake; lets time pass if it needs that.
    fn outcome(&mut self, outcome: &ConnectOutcome) -> Result<Transport, ConnectFault> {
        self.settle();
        loop {
            if let Some(result) = outcome.take_result() {
                return result;
            }
            let Some(next) = self.worker.ring.next_event() else {
                return Err(ConnectFault::Disconnected(None));
            };
            self.advance(next.saturating_sub(self.now()));
        }
    }

    pub(super) fn advance(&mut self, by: Duration) {
        let until = self.now().saturating_add(by);
        self.settle();
        while let Some(next) = self.worker.ring.next_event().filter(|next| *next <= until) {
            let step = next.saturating_sub(self.now());
            self.worker.ring.advance(step);
            self.settle();
        }
        let rest = until.saturating_sub(self.now());
        self.worker.ring.advance(rest);
        self.settle();
    }

    /// Takes turns and moves bytes until nothing happens any more without time passing.
    pub(super) fn settle(&mut self) {
        for _ in 0..TURNS_MAX {
            let turn = self.turn();
            self.worker.ring.advance(Duration::ZERO);
            // Behind that: what has left the worker by then is moved before anything is at rest.
            let has_moved = self.move_bytes();
            let now = self.now();
            let is_due = self.worker.ring.next_event().is_some_and(|at| at <= now);
            let is_signalled = self.worker.ring.is_signalled() || self.mailbox.has_mail();
            if turn != Turn::Busy && !has_moved && !is_due && !is_signalled {
                return;
            }
            if self.is_done && !has_moved {
                return;
            }
        }
        panic!(
            "the connections of a network do not come to rest: do they send to each other for ever?"
        );
    }

    fn turn(&mut self) -> Turn {
        if self.is_done {
            // The last sockets are closed by what the worker has queued.
            let _ = self.worker.ring.poll(0, &mut Vec::new());
            return Turn::Done;
        }
        let turn = self.worker.turn().expect("a simulated ring is not lost");
        self.is_done = turn == Turn::Done;
        turn
    }

    /// Moves bytes between the ring and the peers, and from one end of each joint to the other.
    /// Returns whether there were any.
    fn move_bytes(&mut self) -> bool {
        let Self { worker, peers, joints, .. } = self;
        let ring = &mut worker.ring;
        let mut has_moved = false;
        for (id, state) in peers {
            has_moved |= serve(ring, *id, state);
        }
        for joint in joints {
            let [first, second] = &mut joint.ends;
            has_moved |= pass_on(ring, first, second.id);
            has_moved |= pass_on(ring, second, first.id);
        }
        has_moved
    }
}

/// Has a peer read and write.
fn serve(ring: &mut SimRing, id: PeerId, state: &mut PeerState) -> bool {
    let mut has_moved = false;
    while state.reads() {
        match ring.peer(id).read(usize::MAX) {
            PeerRead::Bytes(mut bytes) => {
                state.receive(&mut bytes);
                has_moved = true;
            }
            PeerRead::Nothing => break,
            PeerRead::End | PeerRead::Reset => {
                state.ended();
                ring.peer(id).close();
                has_moved = true;
            }
        }
    }
    if state.unsent.is_empty() {
        if state.is_hanging_up() {
            ring.peer(id).shut_down();
            has_moved = true;
        }
        return has_moved;
    }
    match ring.peer(id).write(&state.unsent) {
        Some(count) => {
            state.unsent.drain(..count);
            has_moved | (count > 0)
        }
        None => {
            state.ended();
            true
        }
    }
}

/// Passes on what one end of a joint has sent.
fn pass_on(ring: &mut SimRing, from: &mut JointEnd, to: PeerId) -> bool {
    let mut has_moved = false;
    // No more than the other end takes, so that a slow reader holds the sender back.
    while !from.is_over && from.unsent.is_empty() && ring.peer(to).is_writable() {
        match ring.peer(from.id).read(usize::MAX) {
            PeerRead::Bytes(bytes) => from.unsent = bytes,
            PeerRead::Nothing => break,
            PeerRead::End => from.is_over = true,
            PeerRead::Reset => {
                from.is_over = true;
                from.is_passed_on = true;
                from.unsent.clear();
                ring.peer(to).reset();
            }
        }
        if !from.unsent.is_empty() {
            let taken = ring.peer(to).write(&from.unsent).unwrap_or(from.unsent.len());
            from.unsent.drain(..taken);
        }
        has_moved = true;
    }
    if !from.unsent.is_empty() && ring.peer(to).is_writable() {
        let taken = ring.peer(to).write(&from.unsent).unwrap_or(from.unsent.len());
        from.unsent.drain(..taken);
        has_moved |= taken > 0;
    }
    if from.is_over && !from.is_passed_on && from.unsent.is_empty() {
        from.is_passed_on = true;
        ring.peer(to).shut_down();
        has_moved = true;
    }
    has_moved
}

/// Drawn from it are masks and nonces, and in which order sockets have their turn.
const SEED: u64 = 0;
/// As many as a small server has.
const BUFFERS: usize = 64;
const BUFFER_BYTES: usize = 16 * 1024;
/// What each direction of a connection holds beside the queues at its ends.
pub(super) const ROOM_BYTES: usize = 64 * 1024;
/// Far more than a test of any size takes.
const TURNS_MAX: usize = 1_000_000;

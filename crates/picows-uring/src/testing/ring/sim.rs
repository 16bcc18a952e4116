//! A kernel for tests: seeded, single-threaded, with a clock that the test moves.
//!
//! It lies as [`Faults`] says. Its caller is held to the contract of [`Ring`] by `Checked` around
//! it. Peers are played by the test ([`SimRing::peer`]). What it does by itself is in
//! `sim/progress.rs`.

mod buffers;
mod faults;
mod peer;
mod progress;
mod random;
#[cfg(test)]
mod tests;
mod wire;
mod wires;

pub(crate) use faults::Faults;
#[cfg(any(test, feature = "_fuzzing"))]
pub(crate) use peer::Peer;
pub(crate) use peer::{PeerId, PeerRead};
pub(crate) use random::Random;
#[cfg(test)]
pub(crate) use wire::BrokenBy;

use crate::ring::{
    Completion, ListenerId, Loan, Outlet, ReceiveResult, RecvBuffer, Ring, Room, SendBatch,
    SendState, Socket, Token,
};
use buffers::Buffers;
use std::cell::RefMut;
use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;
use wire::Link;
use wires::Wires;

/// The simulated kernel, with everything that is connected to it.
pub(crate) struct SimRing {
    random: Random,
    faults: Faults,
    now: Duration,
    buffers: Buffers,
    /// Open sockets by descriptor, counted from [`DESCRIPTOR_MIN`]. The lowest that is free is
    /// used next, as in any Unix.
    sockets: Vec<Option<Entry>>,
    wires: Rc<Wires>,
    submissions: VecDeque<Submission>,
    completions: VecDeque<Queued>,
    deadline: Option<Duration>,
    /// Bytes that were reported to the caller as arrived, and as sent.
    told: (u64, u64),
    /// Those of them that it took at once.
    taken: u64,
    is_traced: bool,
    /// Each send is a call, as with epoll: connections offer their batches first.
    is_one_by_one: bool,
}

/// A socket.
struct Entry {
    kind: Kind,
    accept: Option<Operation<ListenerId>>,
    receive: Option<Operation<Token>>,
    send: Option<Sending>,
    /// A receive as the caller sees it: from the call to the last completion.
    is_receiving: bool,
    /// The caller has closed it, and the kernel has not seen that.
    is_closing: bool,
}

enum Kind {
    /// With the connections that wait to be accepted.
    Listener(VecDeque<PeerId>),
    Stream(PeerId),
}

/// An operation that the kernel has seen.
#[derive(Debug)]
struct Operation<Name> {
    /// Of what it is.
    name: Name,
    /// Nothing comes of it before.
    gate: Duration,
    is_cancelled: bool,
    /// It ends with its first success.
    is_single: bool,
}

#[derive(Debug)]
struct Sending {
    operation: Operation<Token>,
    batch: Box<SendBatch>,
    /// Bytes at the front of `batch` that have left.
    sent: usize,
}

/// A call that the kernel has not seen.
enum Submission {
    Accept(Socket, ListenerId),
    Receive(Socket, Token),
    ReceiveOnce(Socket, Token),
    Send(Socket, Token, Box<SendBatch>),
    CancelReceive(Token),
    Cancel(Socket),
    Close(Socket),
}

/// A completion that has not been taken, and the socket it belongs to.
struct Queued {
    socket: Socket,
    completion: Completion,
}

impl SimRing {
    pub(crate) fn new(seed: u64, faults: Faults) -> Self {
        Self {
            random: Random::new(seed),
            buffers: Buffers::new(faults.buffers, faults.buffer_bytes),
            faults,
            now: Duration::ZERO,
            sockets: Vec::new(),
            wires: Rc::new(Wires::new(seed)),
            submissions: VecDeque::new(),
            completions: VecDeque::new(),
            deadline: None,
            told: (0, 0),
            taken: 0,
            is_traced: false,
            is_one_by_one: seed % 4 == 1,
        }
    }

    /// Prints what happens.
    pub(crate) fn set_traced(&mut self, is_traced: bool) {
        self.is_traced = is_traced;
    }

    pub(crate) fn faults_mut(&mut self) -> &mut Faults {
        &mut self.faults
    }

    /// A listening socket.
    pub(crate) fn listen(&mut self) -> Socket {
        self.open(Kind::Listener(VecDeque::new()))
    }

    /// Moves the clock, and lets the kernel work.
    pub(crate) fn advance(&mut self, by: Duration) {
        self.now += by;
        self.progress();
    }

    /// Whether a caller that sleeps would be woken.
    pub(crate) fn is_signalled(&self) -> bool {
        !self.completions.is_empty() || self.deadline.is_some_and(|deadline| deadline <= self.now)
    }

    /// Connections that the caller has accepted and not closed.
    pub(crate) fn streams_owned(&self) -> usize {
        let is_queued = |fd: i32| {
            self.completions.iter().any(|queued| {
                matches!(&queued.completion, Completion::Accepted { result: Ok(socket), .. }
                    if socket.0 == fd)
            })
        };
        let open = self.sockets.iter().enumerate().filter(|(index, entry)| {
            let is_stream = |entry: &Entry| matches!(entry.kind, Kind::Stream(_));
            entry.as_ref().is_some_and(|entry| is_stream(entry) && !entry.is_closing)
                && !is_queued(*index as i32 + DESCRIPTOR_MIN)
        });
        open.count()
    }

    /// Bytes that were reported to the caller as arrived, and as sent, on all sockets.
    pub(crate) fn told(&self) -> (u64, u64) {
        (self.told.0, self.told.1 + self.wires.taken())
    }

    /// Bytes that the caller took from sockets at once.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// Whether the caller has not been told of something yet that peers have sent.
    #[cfg(test)]
    pub(crate) fn has_unread(&self) -> bool {
        let links = self.wires.links.borrow();
        !self.completions.is_empty()
            || links.iter().any(|link| link.socket.is_some() && !link.to_server.is_empty())
    }

    /// What is in flight on a socket: whether a receive is, and how many bytes a send was given.
    pub(crate) fn in_flight(&mut self, socket: Socket) -> (bool, Option<usize>) {
        let of_call = self.submissions.iter().find_map(|submission| match submission {
            Submission::Send(at, _, batch) if *at == socket => Some(batch.len()),
            _ => None,
        });
        let of_completion = self.completions.iter().find_map(|queued| match &queued.completion {
            Completion::Sent { batch, .. } if queued.socket == socket => Some(batch.len()),
            _ => None,
        });
        let Some(entry) = self.entry_mut(socket) else { return (false, None) };
        let of_kernel = entry.send.as_ref().map(|send| send.batch.len());
        (entry.is_receiving, of_call.or(of_kernel).or(of_completion))
    }

    /// The caller has ended: what it has queued takes effect, and nothing is left then.
    pub(crate) fn assert_nothing_is_left(&mut self) {
        self.submit();
        self.deadline = None;
        assert_eq!(self.descriptors(), 0, "sockets are left open");
        assert!(self.completions.is_empty(), "completions are left");
        assert!(self.buffers.are_all_free(), "receive buffers are left, or loans of them");
    }

    /// Hands the caller a completion that the kernel would never make.
    pub(crate) fn forge_received(&mut self, token: Token, bytes: &[u8]) {
        let mut source = bytes.iter().copied().collect();
        let buffer = self.buffers.fill(&mut self.random, &mut source, usize::MAX);
        let result =
            ReceiveResult::Data(buffer.expect("a forger sees to it that a buffer is free"));
        let completion = Completion::Received { token, result, more: true };
        self.completions.push_back(Queued { socket: Socket(-1), completion });
    }

    fn open(&mut self, kind: Kind) -> Socket {
        let entry = Entry {
            kind,
            accept: None,
            receive: None,
            send: None,
            is_receiving: false,
            is_closing: false,
        };
        let index = self.sockets.iter().position(Option::is_none).unwrap_or_else(|| {
            self.sockets.push(None);
            self.sockets.len() - 1
        });
        let socket = Socket(index as i32 + DESCRIPTOR_MIN);
        if let Kind::Stream(peer) = entry.kind {
            self.link(peer).socket = Some(socket);
        }
        self.sockets[index] = Some(entry);
        socket
    }

    fn link(&self, peer: PeerId) -> RefMut<'_, Link> {
        RefMut::map(self.wires.links.borrow_mut(), |links| &mut links[peer.0])
    }

    fn descriptors(&self) -> usize {
        self.sockets.iter().flatten().count()
    }

    fn entry_mut(&mut self, socket: Socket) -> Option<&mut Entry> {
        let index = usize::try_from(socket.0 - DESCRIPTOR_MIN).ok()?;
        self.sockets.get_mut(index)?.as_mut()
    }

    fn listener_mut(&mut self, socket: Socket) -> Option<&mut VecDeque<PeerId>> {
        match &mut self.entry_mut(socket)?.kind {
            Kind::Listener(waiting) => Some(waiting),
            Kind::Stream(_) => None,
        }
    }

    /// The connection of a socket.
    fn stream(&self, socket: Socket) -> Option<PeerId> {
        let index = usize::try_from(socket.0 - DESCRIPTOR_MIN).ok()?;
        match self.sockets.get(index)?.as_ref()?.kind {
            Kind::Stream(peer) => Some(peer),
            Kind::Listener(_) => None,
        }
    }

    /// The socket of a call.
    fn called(&mut self, socket: Socket) -> &mut Entry {
        self.entry_mut(socket).expect("an open socket, which `Checked` demands")
    }

    #[allow(clippy::print_stderr, reason = "for whoever looks for the reason of a failure")]
    fn trace(&self, what: impl FnOnce() -> String) {
        if self.is_traced {
            eprintln!("[{:>12.6}] {}", self.now.as_secs_f64(), what());
        }
    }

    /// Takes note of a completion that the caller is about to get.
    fn hand_over(&mut self, queued: Queued) -> Completion {
        let Queued { socket, completion } = queued;
        self.trace(|| match &completion {
            Completion::Sent { result, .. } => format!("{socket:?} sent {result:?}"),
            completion => format!("{socket:?} {completion:?}"),
        });
        match &completion {
            Completion::Received { result: ReceiveResult::Data(buffer), .. } => {
                self.buffers.hand_over(buffer);
                let is_forged = socket.0 < DESCRIPTOR_MIN;
                self.told.0 += if is_forged { 0 } else { buffer.len() as u64 };
            }
            Completion::Sent { result: Ok(count), .. } => self.told.1 += *count as u64,
            _ => {}
        }
        if let Completion::Received { more, .. } = completion
            && let Some(entry) = self.entry_mut(socket)
        {
            entry.is_receiving = more;
        }
        completion
    }
}

impl Ring for SimRing {
    fn now(&self) -> Duration {
        self.now
    }

    fn accept(&mut self, socket: Socket, listener: ListenerId) {
        self.submissions.push_back(Submission::Accept(socket, listener));
    }

    fn receive(&mut self, socket: Socket, token: Token) {
        self.called(socket).is_receiving = true;
        self.submissions.push_back(Submission::Receive(socket, token));
    }

    fn receive_once(&mut self, socket: Socket, token: Token) {
        self.called(socket).is_receiving = true;
        self.submissions.push_back(Submission::ReceiveOnce(socket, token));
    }

    fn receive_now(&mut self, socket: Socket, room: Room<'_>) -> io::Result<usize> {
        let max = room.max();
        let peer = self.stream(socket).expect("an open stream, which `Checked` demands");
        let bytes = self.take_now(peer, max)?;
        room.fill(&bytes, self.random.next() as u8);
        self.told.0 += bytes.len() as u64;
        self.taken += bytes.len() as u64;
        self.trace(|| format!("{socket:?} took {} of {max} bytes", bytes.len()));
        Ok(bytes.len())
    }

    fn bytes(&mut self, buffer: &RecvBuffer) -> &mut [u8] {
        self.buffers.bytes(buffer).expect("a buffer of the caller, which `Checked` demands")
    }

    fn lend(&mut self, buffer: &RecvBuffer) -> Option<Loan> {
        self.buffers.lend(buffer)
    }

    fn keep(&mut self, buffer: &mut RecvBuffer, must: bool) -> bool {
        self.buffers.keep(buffer, must)
    }

    fn room_to_receive(&mut self, _: bool) -> usize {
        self.buffers.free()
    }

    fn release(&mut self, buffer: RecvBuffer) {
        self.buffers.release(&buffer);
    }

    fn send(&mut self, socket: Socket, token: Token, batch: Box<SendBatch>) {
        self.trace(|| format!("{socket:?} send of {} bytes", batch.len()));
        self.submissions.push_back(Submission::Send(socket, token, batch));
    }

    fn send_now(&mut self, socket: Socket, batch: &SendBatch) -> io::Result<usize> {
        let count = self.wires.send_now(socket, batch)?;
        self.trace(|| format!("{socket:?} sent {count} of {} bytes at once", batch.len()));
        Ok(count)
    }

    fn sends_one_by_one(&self) -> bool {
        self.is_one_by_one
    }

    fn outlet(&self) -> Rc<dyn Outlet> {
        Rc::clone(&self.wires) as Rc<dyn Outlet>
    }

    fn cancel_receive(&mut self, token: Token) {
        self.submissions.push_back(Submission::CancelReceive(token));
    }

    fn cancel(&mut self, socket: Socket) {
        self.trace(|| format!("{socket:?} cancel"));
        self.submissions.push_back(Submission::Cancel(socket));
    }

    fn shut_down(&mut self, socket: Socket) {
        let peer = self.stream(socket).expect("an open stream, which `Checked` demands");
        self.trace(|| format!("{socket:?} shut_down"));
        self.link(peer).is_to_peer_ended = true;
    }

    fn close(&mut self, socket: Socket) {
        self.called(socket).is_closing = true;
        if let Some(peer) = self.stream(socket) {
            self.link(peer).socket = None;
        }
        self.submissions.push_back(Submission::Close(socket));
    }

    fn close_on_failure(&mut self, _: Socket) {
        // A worker that fails takes this kernel with it.
    }

    fn unread(&self, socket: Socket) -> usize {
        self.stream(socket).map_or(0, |peer| self.link(peer).to_server.len())
    }

    fn send_state(&self, _: Socket) -> Option<SendState> {
        None
    }

    fn peer_addr(&self, socket: Socket) -> Option<SocketAddr> {
        Some((Ipv4Addr::LOCALHOST, self.stream(socket)?.0 as u16).into())
    }

    fn set_deadline(&mut self, deadline: Duration) {
        if self.deadline.is_none_or(|armed| deadline < armed) {
            self.deadline = Some(deadline);
        }
    }

    fn poll(&mut self, max: usize, out: &mut Vec<Completion>) -> io::Result<()> {
        self.wires.set_faults(self.faults.no_buffer, self.faults.short_send);
        self.submit();
        if self.random.chance(500) {
            self.progress();
        }
        if self.deadline.is_some_and(|deadline| deadline <= self.now) {
            self.deadline = None;
        }
        let max = max.min(self.faults.poll_max);
        let max = if self.random.chance(self.faults.few) { self.random.between(1, 4) } else { max };
        for _ in 0..max {
            let Some(queued) = self.completions.pop_front() else { break };
            let completion = self.hand_over(queued);
            out.push(completion);
        }
        Ok(())
    }

    fn has_work(&mut self) -> bool {
        !self.submissions.is_empty() || !self.completions.is_empty()
    }

    fn polls_behind(&mut self, _: usize) -> usize {
        // One completion at the least is returned each time.
        self.completions.len()
    }
}

/// Far from the descriptors of the process, which no mistake shall reach.
const DESCRIPTOR_MIN: i32 = 1_000_000;

//! A kernel that a test plays by hand, clock included: what arrives, what leaves, and when.

mod wait;

use crate::ring::{
    Completion, ListenerId, Loan, Outlet, ReceiveResult, RecvBuffer, RecvMemory, Ring, Room,
    SendBatch, SendState, Socket, Token,
};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// See the module. Sends complete at once, unless `is_stuck`.
#[derive(Debug, Default)]
pub(crate) struct ByHand {
    pub(crate) now: Duration,
    /// The peer takes nothing more.
    pub(crate) is_stuck: bool,
    /// Bytes that wait in every socket.
    pub(crate) unread: usize,
    /// Buffers that may be kept, if not any number, and how many are.
    pub(crate) keeps: Option<usize>,
    pub(crate) kept: usize,
    /// Receives that find a buffer, if not all.
    pub(crate) receives: Option<usize>,
    /// Completions that a poll returns at the most, if not all.
    pub(crate) per_poll: Option<usize>,
    /// Each send is a call, so that a connection offers its batch first.
    pub(crate) is_one_by_one: bool,
    pub(crate) send_state: Option<SendState>,
    pub(crate) untaken: Option<usize>,
    /// What has left, of all sockets.
    pub(crate) sent: Vec<u8>,
    /// How much had left when a sending side was shut.
    pub(crate) shut_down_behind: Option<usize>,
    pub(crate) closed: Vec<Socket>,
    /// Sockets of a worker that has failed; outlives both.
    pub(crate) abandoned: Rc<RefCell<Vec<Socket>>>,
    /// When the worker wants to be woken.
    pub(crate) deadline: Option<Duration>,
    /// The ring is lost: every poll fails.
    pub(crate) is_lost: bool,
    /// By how much each count exceeds its limit: completions of a poll, bytes of `receive_now` and
    /// of `send_now`.
    pub(crate) excess: usize,
    /// How often accepting was begun.
    pub(crate) accepts: usize,
    /// The accepts that are in flight.
    accepting: Vec<(Socket, ListenerId)>,
    /// What has connected while nothing was accepted: the next accept brings it.
    pub(crate) backlog: VecDeque<Socket>,
    /// An accept ends with the first connection of the backlog.
    pub(crate) accepts_one: bool,
    /// Listening sockets on which no new connection begins.
    pub(crate) held_off: Vec<Socket>,
    arrived: VecDeque<Completion>,
    /// The receives that are in flight.
    receiving: Vec<(Socket, Token)>,
    /// Those of them that bring one piece.
    single: Vec<Token>,
    /// What waits in the sockets to be taken at once, piece by piece, and how it ends.
    pub(crate) waiting: VecDeque<io::Result<Vec<u8>>>,
    /// How much each time may be taken at once.
    pub(crate) asked: Vec<usize>,
    /// How much a socket takes at once, call by call; nothing after the last.
    pub(crate) room: VecDeque<io::Result<usize>>,
    /// What callbacks send with.
    pub(crate) outlet: Rc<OutletByHand>,
    sending: Option<(Token, Box<SendBatch>)>,
    /// How often it was polled.
    pub(crate) polls: u64,
    /// A send was queued since the last poll.
    has_queued: bool,
    /// None is used again, so that loans of a released one stay as they were.
    buffers: Vec<Option<Rc<RecvMemory>>>,
    /// Waiting, as the test scripts it.
    pub(crate) sleep: wait::SleepScript,
    /// Memory of released buffers of which no loan is left, where it is kept for the next.
    spare: Option<Vec<Rc<RecvMemory>>>,
}

impl ByHand {
    /// Uses the memory of released buffers again, so that a delivery costs next to nothing.
    pub(crate) fn with_spare_buffers(mut self) -> Self {
        self.spare = Some(Vec::new());
        self
    }

    /// A peer connects, on the listening socket where accepting was begun first.
    pub(crate) fn connect(&mut self, socket: i32) {
        let first = self.accepting.first();
        let none = ListenerId { index: 0, generation: 0 };
        let listener = first.map_or(none, |(_, listener)| *listener);
        let result = Ok(Socket(socket));
        self.arrived.push_back(Completion::Accepted { listener, result, more: true });
    }

    /// A peer connects to a listening socket on which accepting is in flight.
    pub(crate) fn connect_to(&mut self, listening: i32, socket: i32) {
        let of_socket = self.accepting.iter().find(|(it, _)| it.0 == listening);
        let (_, listener) = *of_socket.expect("it accepts");
        let result = Ok(Socket(socket));
        self.arrived.push_back(Completion::Accepted { listener, result, more: true });
    }

    /// Accepting fails, on every listening socket on which it is in flight.
    pub(crate) fn fail_accept(&mut self, errno: i32) {
        while !self.accepting.is_empty() {
            self.fail_accept_on(0, errno);
        }
    }

    /// Accepting fails, where it was begun first, second and so on.
    pub(crate) fn fail_accept_on(&mut self, index: usize, errno: i32) {
        let (_, listener) = self.accepting.remove(index);
        let result = Err(io::Error::from_raw_os_error(errno));
        self.arrived.push_back(Completion::Accepted { listener, result, more: false });
    }

    /// Bytes arrive for the socket that receives first.
    pub(crate) fn deliver(&mut self, bytes: &[u8]) {
        if let Some((socket, _)) = self.receiving.first() {
            self.deliver_to(socket.0, bytes);
        }
    }

    /// Bytes arrive on a socket, if it receives and there are any.
    pub(crate) fn deliver_to(&mut self, socket: i32, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let Some((_, token)) = self.receiving.iter().find(|(it, _)| it.0 == socket) else {
            return;
        };
        let token = *token;
        let buffer = RecvBuffer::new(self.buffers.len() as u16, 0, bytes.len() as u32);
        let spare = self.spare.as_mut().and_then(Vec::pop);
        self.buffers.push(Some(filled(spare, bytes)));
        let result = ReceiveResult::Data(buffer);
        let is_single = self.single.contains(&token);
        if is_single {
            self.single.retain(|it| *it != token);
            self.receiving.retain(|(_, it)| *it != token);
        }
        self.arrived.push_back(Completion::Received { token, result, more: !is_single });
    }

    /// The peer ends the stream, or breaks it.
    pub(crate) fn end(&mut self, result: ReceiveResult) {
        if let Some((socket, _)) = self.receiving.first().copied() {
            self.end_of(socket, result);
        }
    }

    pub(crate) fn end_of(&mut self, socket: Socket, result: ReceiveResult) {
        if let Some(index) = self.receiving.iter().position(|(it, _)| *it == socket) {
            let (_, token) = self.receiving.remove(index);
            self.single.retain(|it| *it != token);
            self.arrived.push_back(Completion::Received { token, result, more: false });
        }
    }

    /// The next poll brings a completion that nothing has led to.
    #[cfg(test)]
    pub(crate) fn forge(&mut self, completion: Completion) {
        self.arrived.push_back(completion);
    }

    /// Whether a socket receives.
    pub(crate) fn is_receiving(&self, socket: i32) -> bool {
        self.receiving.iter().any(|(it, _)| it.0 == socket)
    }

    /// Whether the next piece ends its receive.
    pub(crate) fn is_single(&self, socket: i32) -> bool {
        let of_socket = self.receiving.iter().find(|(it, _)| it.0 == socket);
        of_socket.is_some_and(|(_, token)| self.single.contains(token))
    }

    /// Buffers that were not given back.
    pub(crate) fn lent(&self) -> usize {
        self.buffers.iter().flatten().count()
    }

    fn memory(&self, buffer: &RecvBuffer) -> &Rc<RecvMemory> {
        self.buffers[usize::from(buffer.id())].as_ref().expect("it was not released")
    }

    /// The peer takes what is being sent.
    pub(crate) fn unstick(&mut self) {
        self.is_stuck = false;
        if let Some((token, batch)) = self.sending.take() {
            self.leave(token, batch);
        }
    }

    /// The peer takes so many bytes of what is being sent, at the most, and then no more.
    pub(crate) fn take(&mut self, max: usize) {
        if let Some((token, batch)) = self.sending.take() {
            let count = batch.len().min(max);
            let before = self.sent.len();
            self.sent.extend(batch.segments().flatten().take(count));
            debug_assert_eq!(self.sent.len() - before, count);
            self.arrived.push_back(Completion::Sent { token, result: Ok(count), batch });
        }
    }

    /// What is being sent, without a completion.
    #[cfg(test)]
    pub(crate) fn take_sending(&mut self) -> Option<Box<SendBatch>> {
        self.sending.take().map(|(_, batch)| batch)
    }

    /// What is being sent and has not left.
    pub(crate) fn sending(&self) -> Vec<&[u8]> {
        self.sending.iter().flat_map(|(_, batch)| batch.segments()).collect()
    }

    /// What left from inside of callbacks is before all that leaves from now on.
    pub(crate) fn gather(&mut self) {
        self.sent.append(&mut self.outlet.sent.borrow_mut());
    }

    fn leave(&mut self, token: Token, batch: Box<SendBatch>) {
        let before = self.sent.len();
        for segment in batch.segments() {
            self.sent.extend_from_slice(segment);
        }
        let result = Ok(self.sent.len() - before);
        self.arrived.push_back(Completion::Sent { token, result, batch });
    }
}

/// A way to the sockets from inside a callback. They take nothing that way, unless they are given
/// room.
#[derive(Debug, Default)]
pub(crate) struct OutletByHand {
    /// How much a socket takes, call by call; nothing after the last.
    room: RefCell<VecDeque<io::Result<usize>>>,
    /// How often it was asked.
    asked: Cell<usize>,
    sent: RefCell<Vec<u8>>,
}

impl OutletByHand {
    /// Gives the sockets room, call by call.
    pub(crate) fn give(&self, room: impl IntoIterator<Item = io::Result<usize>>) {
        self.room.borrow_mut().extend(room);
    }

    /// How often a socket was offered something since the last call.
    pub(crate) fn asked(&self) -> usize {
        self.asked.take()
    }
}

impl Outlet for OutletByHand {
    fn send_now(&self, _: Socket, batch: &SendBatch) -> io::Result<usize> {
        self.asked.set(self.asked.get() + 1);
        let full = Err(io::ErrorKind::WouldBlock.into());
        let room = self.room.borrow_mut().pop_front().unwrap_or(full)?;
        let count = batch.len().min(room);
        self.sent.borrow_mut().extend(batch.segments().flatten().take(count));
        Ok(count)
    }
}

/// A receive buffer with `bytes` at its start: `spare`, if it is large enough.
fn filled(spare: Option<Rc<RecvMemory>>, bytes: &[u8]) -> Rc<RecvMemory> {
    let len = bytes.len().max(1).next_multiple_of(4096);
    let memory = spare
        .filter(|spare| spare.len() >= len)
        .unwrap_or_else(|| RecvMemory::new(len, LOAN_BYTES_MIN));
    // SAFETY: it is as long, and no other reference to it exists yet.
    #[expect(unsafe_code)]
    unsafe {
        memory.address().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
    }
    memory
}

const LOAN_BYTES_MIN: usize = 4096;

thread_local! {
    static STALLED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// A callback takes its time.
pub(crate) fn stall(time: Duration) {
    STALLED.set(STALLED.get() + time);
}

/// How long callbacks of this thread have taken.
pub(crate) fn stalled() -> Duration {
    STALLED.get()
}

impl Ring for ByHand {
    fn now(&self) -> Duration {
        self.now + stalled()
    }

    fn accept(&mut self, socket: Socket, listener: ListenerId) {
        self.accepts += 1;
        self.accepting.push((socket, listener));
        if self.accepts_one
            && let Some(socket) = self.backlog.pop_front()
        {
            self.accepting.pop();
            let result = Ok(socket);
            return self.arrived.push_back(Completion::Accepted { listener, result, more: false });
        }
        for socket in self.backlog.drain(..) {
            let result = Ok(socket);
            self.arrived.push_back(Completion::Accepted { listener, result, more: true });
        }
    }

    fn receive(&mut self, socket: Socket, token: Token) {
        self.receiving.push((socket, token));
    }

    fn receive_once(&mut self, socket: Socket, token: Token) {
        self.receiving.push((socket, token));
        self.single.push(token);
    }

    fn receive_now(&mut self, socket: Socket, room: Room<'_>) -> io::Result<usize> {
        assert!(!self.is_receiving(socket.0), "bytes would overtake others");
        self.asked.push(room.max());
        let mut piece = match self.waiting.pop_front() {
            None => return Err(io::ErrorKind::WouldBlock.into()),
            Some(piece) => piece?,
        };
        let rest = piece.split_off(piece.len().min(room.max()));
        if !rest.is_empty() {
            self.waiting.push_front(Ok(rest));
        }
        room.fill(&piece, 0xDD);
        Ok(piece.len() + self.excess)
    }

    fn bytes(&mut self, buffer: &RecvBuffer) -> &mut [u8] {
        let memory = self.memory(buffer);
        // SAFETY: the memory is as long, has no other writer, and is lent to the kernel
        // only while the ring is not borrowed.
        #[expect(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts_mut(memory.address(), buffer.len())
        }
    }

    fn lend(&mut self, buffer: &RecvBuffer) -> Option<Loan> {
        self.memory(buffer).lend(0, buffer.len())
    }

    fn keep(&mut self, buffer: &mut RecvBuffer, must: bool) -> bool {
        let must = must && self.excess == 0;
        if !buffer.is_kept() && (must || self.keeps.is_none_or(|most| self.kept < most)) {
            buffer.mark_kept();
            self.kept += 1;
        }
        buffer.is_kept()
    }

    fn room_to_receive(&mut self, _: bool) -> usize {
        self.receives.unwrap_or(usize::MAX)
    }

    fn release(&mut self, buffer: RecvBuffer) {
        self.kept -= usize::from(buffer.is_kept());
        let memory = self.buffers[usize::from(buffer.id())].take().expect("it was not released");
        if let Some(spare) = &mut self.spare {
            if !memory.is_lent() {
                spare.push(memory);
            }
            while self.buffers.last().is_some_and(Option::is_none) {
                self.buffers.pop();
            }
        }
    }

    fn send(&mut self, _: Socket, token: Token, batch: Box<SendBatch>) {
        self.gather();
        self.has_queued = true;
        if self.is_stuck {
            self.sending = Some((token, batch));
        } else {
            self.leave(token, batch);
        }
    }

    fn send_now(&mut self, _: Socket, batch: &SendBatch) -> io::Result<usize> {
        self.gather();
        let room = self.room.pop_front().unwrap_or(Err(io::ErrorKind::WouldBlock.into()))?;
        let before = self.sent.len();
        for segment in batch.segments() {
            self.sent.extend_from_slice(segment);
        }
        self.sent.truncate(before.saturating_add(room));
        Ok(self.sent.len() - before + self.excess)
    }

    fn sends_one_by_one(&self) -> bool {
        self.is_one_by_one
    }

    fn outlet(&self) -> Rc<dyn Outlet> {
        Rc::clone(&self.outlet) as Rc<dyn Outlet>
    }

    fn cancel_receive(&mut self, token: Token) {
        if let Some((socket, _)) = self.receiving.iter().find(|(_, it)| *it == token).copied() {
            self.end_of(socket, ReceiveResult::Cancelled);
        }
    }

    fn cancel(&mut self, socket: Socket) {
        self.end_of(socket, ReceiveResult::Cancelled);
        if let Some(index) = self.accepting.iter().position(|(it, _)| *it == socket) {
            return self.fail_accept_on(index, libc::ECANCELED);
        }
        if let Some((token, batch)) = self.sending.take() {
            let result = Err(io::Error::from_raw_os_error(libc::ECANCELED));
            self.arrived.push_back(Completion::Sent { token, result, batch });
        }
    }

    fn drop_new_connections(&mut self, listener: Socket) {
        self.held_off.push(listener);
    }

    fn shut_down(&mut self, _: Socket) {
        self.gather();
        self.shut_down_behind = Some(self.sent.len());
    }

    fn close(&mut self, socket: Socket) {
        self.closed.push(socket);
    }

    fn unread(&self, _: Socket) -> usize {
        self.unread
    }

    fn send_state(&self, _: Socket) -> Option<SendState> {
        self.send_state
    }

    fn untaken(&self, _: Socket) -> Option<usize> {
        self.untaken
    }

    fn close_on_failure(&mut self, socket: Socket) {
        self.abandoned.borrow_mut().push(socket);
    }

    fn peer_addr(&self, _: Socket) -> Option<SocketAddr> {
        None
    }

    fn set_deadline(&mut self, deadline: Duration) {
        self.deadline = Some(self.deadline.map_or(deadline, |armed| armed.min(deadline)));
    }

    fn poll(&mut self, max: usize, out: &mut Vec<Completion>) -> io::Result<()> {
        if self.is_lost {
            return Err(io::Error::from_raw_os_error(libc::EBADFD));
        }
        self.gather();
        self.has_queued = false;
        self.polls += 1;
        let now = self.now();
        self.deadline = self.deadline.filter(|deadline| *deadline > now);
        let max = max.saturating_add(self.excess);
        let count = self.arrived.len().min(max).min(self.per_poll.unwrap_or(max));
        out.extend(self.arrived.drain(..count));
        Ok(())
    }

    fn has_work(&mut self) -> bool {
        self.has_queued || !self.arrived.is_empty()
    }

    fn polls_behind(&mut self, max: usize) -> usize {
        self.arrived.len().div_ceil(self.per_poll.unwrap_or(max))
    }
}

//! The kernel seam: sockets, bytes and tokens in, completions out.
//!
//! Knows nothing of WebSocket, sessions or listeners. Workers are generic over [`Ring`]:
//! `uring.rs` is io_uring, `epoll.rs` epoll; those for tests are in `testing/ring`. Hosts wait
//! through [`Wait`].

mod accept_filter;
mod batch;
mod clock;
mod direct;
pub(crate) mod epoll;
mod loan;
pub(crate) mod outside;
mod refusal;
mod socket;
mod stamp;
mod start;
mod tcp_info;
mod token;
pub(crate) mod uring;
mod wait;

pub(crate) use batch::{Segment, SendBatch};
pub(crate) use clock::monotonic_clock;
pub(crate) use loan::Loan;
#[cfg(any(test, feature = "testing"))]
pub(crate) use loan::RecvMemory;
pub(crate) use outside::{Outside, Streams};
pub(crate) use socket::{Socket, borrow, close_inherited, local_addr};
pub(crate) use stamp::Stamp;
pub(crate) use start::{LOCKED_KIB_PER_WORKER, RefusedBy, StartError};
pub(crate) use token::{ListenerId, Token};
pub(crate) use wait::{RingEvent, SleepOptions, Unsupported, Wait, WaitMode};

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use std::{fmt, io};

/// The operations that a worker wants of a kernel.
///
/// Operations are queued and return nothing: their outcome is a [`Completion`], later. No method
/// calls back, so a worker drains first and handles second.
pub(crate) trait Ring {
    /// The time since an origin that stays the same for this ring.
    fn now(&self) -> Duration;

    /// Accepts connections on `socket`, which is that of `listener`, until a completion says that
    /// there is no `more`.
    fn accept(&mut self, socket: Socket, listener: ListenerId);

    /// Receives from `socket` until a completion says that there is no `more`.
    fn receive(&mut self, socket: Socket, token: Token);

    /// Receives from `socket` once, as [`receive`](Self::receive) does, and no more than the
    /// beginning of what is there.
    fn receive_once(&mut self, socket: Socket, token: Token);

    /// Receives as [`receive`](Self::receive) does, for large frames: where the ring can, bytes stay in
    /// the socket until a poll takes those of few sockets at a time, and are in cache when they are
    /// handled.
    fn receive_in_turn(&mut self, socket: Socket, token: Token) {
        self.receive(socket, token);
    }

    /// Has the kernel take the time of what it receives for `socket`. Returns whether it can: else nothing
    /// is received with stamps.
    fn request_stamps(&mut self, _socket: Socket) -> bool {
        false
    }

    /// Receives as [`receive`](Self::receive) does, each piece with the time at which the kernel received
    /// its last bytes, where there is one.
    fn receive_stamped(&mut self, socket: Socket, token: Token) {
        self.receive(socket, token);
    }

    /// The time at which the kernel received the last bytes of a piece, if it came with one.
    fn stamp(&mut self, _buffer: &RecvBuffer) -> Option<Stamp> {
        None
    }

    /// Takes bytes that wait in `socket`, without waiting for any, and as many as there is room for.
    /// Returns how many; 0 is the end of the stream. Nothing is receiving from the socket, or that
    /// would come later and be earlier.
    ///
    /// # Errors
    ///
    /// `WouldBlock` where nothing waits, or what is wrong with the connection. The memory is as it
    /// was.
    fn receive_now(&mut self, socket: Socket, room: Room<'_>) -> io::Result<usize>;

    /// The bytes of a received buffer.
    fn bytes(&mut self, buffer: &RecvBuffer) -> &mut [u8];

    /// Lends the bytes of a received buffer to a send. The buffer is released as
    /// ever, before the loan ends or after. `None` where a copy is as good, or too much is lent.
    fn lend(&mut self, buffer: &RecvBuffer) -> Option<Loan>;

    /// Gives a received buffer back to the kernel.
    fn release(&mut self, buffer: RecvBuffer);

    /// Keeps a received buffer beyond the turn. `false` if as much is kept as leaves enough for the
    /// others: then it is to be copied and released. Where it `must` be kept, as there is no memory
    /// for a copy, it is.
    fn keep(&mut self, buffer: &mut RecvBuffer, must: bool) -> bool;

    /// How many receives may be begun that have buffers to receive into, as far as is known: single
    /// and stamped ones, or others.
    fn room_to_receive(&mut self, is_single: bool) -> usize;

    /// Sends what is in `batch`, which belongs to the kernel until its completion returns it. One
    /// at a time for each socket, and never an empty one.
    fn send(&mut self, socket: Socket, token: Token, batch: Box<SendBatch>);

    /// Sends of `batch` what the socket takes at once, and returns how much that is. Nothing is being
    /// sent on it.
    ///
    /// # Errors
    ///
    /// `WouldBlock` where it takes nothing now, or what is wrong with the connection.
    fn send_now(&mut self, socket: Socket, batch: &SendBatch) -> io::Result<usize>;

    /// Whether [`send`](Self::send) makes a call for each socket, too: then [`send_now`](Self::send_now)
    /// costs less, as there is no completion.
    fn sends_one_by_one(&self) -> bool {
        false
    }

    /// The way to its sockets for those who do not have the ring.
    fn outlet(&self) -> Rc<dyn Outlet>;

    /// Ends the receive of `token` soon; it still gets its last completion.
    fn cancel_receive(&mut self, token: Token);

    /// Ends the operations in flight on `socket` soon; each still gets its last completion.
    fn cancel(&mut self, socket: Socket);

    /// Has the kernel take no new connection on `listener`, if it can; those that have begun are
    /// still accepted.
    fn drop_new_connections(&mut self, _listener: Socket) {}

    /// Shuts the sending side: the peer reads the end of the stream after what was sent.
    fn shut_down(&mut self, socket: Socket);

    /// Closes a socket on which nothing is in flight.
    fn close(&mut self, socket: Socket);

    /// Closes a socket whatever is in flight on it, with the ring: the worker fails.
    fn close_on_failure(&mut self, socket: Socket);

    /// How many bytes of the peer wait in `socket` that no completion has brought.
    fn unread(&self, socket: Socket) -> usize;

    /// What has become of the bytes that were sent; `None` where the kernel does not say.
    fn send_state(&self, socket: Socket) -> Option<SendState>;

    /// Memory of bytes that were sent on a Unix socket and that the peer has not read: the kernel
    /// counts no other ones there. `None` where it does not say.
    fn untaken(&self, _socket: Socket) -> Option<usize> {
        None
    }

    /// The address of the peer, if it has one (Unix sockets do not).
    fn peer_addr(&self, socket: Socket) -> Option<SocketAddr>;

    /// Wakes the worker at `deadline` at the latest, counted as [`now`](Self::now) is, with or
    /// without a completion. An earlier deadline set before stays in force.
    fn set_deadline(&mut self, deadline: Duration);

    /// The descriptors of the ring itself, which a child process of fork inherits.
    fn descriptors(&self) -> Vec<i32> {
        Vec::new()
    }

    /// Hands what is queued to the kernel and appends at most `max` completions to `out`.
    ///
    /// # Errors
    ///
    /// When the ring itself is lost; the worker cannot go on.
    fn poll(&mut self, max: usize, out: &mut Vec<Completion>) -> io::Result<()>;

    /// Whether operations are queued that the kernel has not seen, or completions wait.
    fn has_work(&mut self) -> bool;

    /// After so many polls of at most `max` completions, all that has happened up to now has been
    /// returned: a poll need not return all there is, even below `max`.
    fn polls_behind(&mut self, max: usize) -> usize;

    /// How many receive buffers there are.
    fn recv_buffers(&self) -> usize {
        0
    }

    /// Whether there is memory that may not be needed.
    fn has_spare(&self) -> bool {
        false
    }

    /// Gives up memory that was not needed since the last call.
    fn trim(&mut self) {}
}

/// Sends on the sockets of a ring without the ring: also from inside a callback, which runs while
/// the ring is lent.
pub(crate) trait Outlet: fmt::Debug {
    /// [`Ring::send_now`], under the same condition: nothing is being sent on `socket`.
    ///
    /// # Errors
    ///
    /// As there.
    fn send_now(&self, socket: Socket, batch: &SendBatch) -> io::Result<usize>;

    /// [`send_now`](Self::send_now), of bytes that are the caller's.
    ///
    /// # Errors
    ///
    /// As there.
    fn send_slice(&self, socket: Socket, bytes: &[u8]) -> io::Result<usize> {
        let mut batch = SendBatch::default();
        batch.push(Segment::Owned { bytes: bytes.to_vec(), start: 0 });
        self.send_now(socket, &batch)
    }
}

/// Whether what a socket refused at once may go later: an operation of the ring waits for that.
pub(crate) fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// The place for bytes that wait in a socket: behind what is in `memory` and `gap` bytes of no
/// meaning.
#[derive(Debug)]
pub(crate) struct Room<'a> {
    memory: &'a mut Vec<u8>,
    gap: usize,
    max: usize,
}

impl<'a> Room<'a> {
    /// Room for `max` bytes. If memory has to be taken for them, it is for `expected` or more;
    /// `None` where there is none.
    pub(crate) fn new(
        memory: &'a mut Vec<u8>,
        gap: usize,
        expected: usize,
        max: usize,
    ) -> Option<Self> {
        if memory.capacity() - memory.len() < gap + max {
            let room = gap + expected.max(max);
            if room > reserve_max() {
                return None;
            }
            memory.try_reserve_exact(room).ok()?;
        }
        Some(Self { memory, gap, max })
    }

    /// The most bytes that may be put there.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn max(&self) -> usize {
        self.max
    }

    /// Behind so many bytes of no meaning.
    #[cfg(any(test, feature = "_fuzzing"))]
    pub(crate) fn gap(&self) -> usize {
        self.gap
    }

    /// How many bytes the memory holds.
    #[cfg(any(test, feature = "_fuzzing"))]
    pub(crate) fn filled(&self) -> usize {
        self.memory.len()
    }

    /// The same room, for a ring inside of another.
    #[cfg(any(test, feature = "_fuzzing"))]
    pub(crate) fn reborrow(&mut self) -> Room<'_> {
        Room { memory: self.memory, gap: self.gap, max: self.max }
    }

    /// What a test ring does: puts `bytes` there, of which there are not too many.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn fill(self, bytes: &[u8], meaningless: u8) {
        debug_assert!(bytes.len() <= self.max, "{} bytes, room for {}", bytes.len(), self.max);
        self.memory.resize(self.memory.len() + self.gap, meaningless);
        self.memory.extend_from_slice(bytes);
    }
}

/// The state of the bytes that a socket was given to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SendState {
    /// Bytes that the peer's side has acknowledged, since the beginning.
    pub(crate) taken: u64,
    /// Bytes wait for the peer to have room for them.
    pub(crate) has_more: bool,
}

/// A buffer that the kernel filled. To be given back with [`Ring::release`].
#[derive(Debug)]
#[must_use = "a buffer that is not released is lost to the kernel"]
pub(crate) struct RecvBuffer {
    id: u16,
    offset: u32,
    len: u32,
    /// It is kept beyond its turn.
    is_kept: bool,
    /// In front of it is room for a stamp.
    is_stamped: bool,
}

/// For the test rings, which have buffers of their own.
#[cfg(any(test, feature = "testing"))]
impl RecvBuffer {
    pub(crate) fn new(id: u16, offset: u32, len: u32) -> Self {
        Self { id, offset, len, is_kept: false, is_stamped: false }
    }

    pub(crate) fn id(&self) -> u16 {
        self.id
    }

    pub(crate) fn offset(&self) -> u32 {
        self.offset
    }

    pub(crate) fn is_kept(&self) -> bool {
        self.is_kept
    }

    pub(crate) fn mark_kept(&mut self) {
        self.is_kept = true;
    }
}

impl RecvBuffer {
    /// How many bytes are in it.
    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }
}

/// The outcome of an operation, or one of several.
#[derive(Debug)]
pub(crate) enum Completion {
    /// A connection was accepted, or not. Without `more`, accepting has ended.
    Accepted { listener: ListenerId, result: io::Result<Socket>, more: bool },
    /// Bytes arrived, or the receive failed. Without `more`, receiving has ended.
    Received { token: Token, result: ReceiveResult, more: bool },
    /// Part of a batch was sent, or nothing of it.
    Sent { token: Token, result: io::Result<usize>, batch: Box<SendBatch> },
}

/// The result of a receive.
#[derive(Debug)]
pub(crate) enum ReceiveResult {
    /// Bytes of the peer.
    Data(RecvBuffer),
    /// The peer ended its side of the stream.
    EndOfStream,
    /// There was no free buffer: bytes may wait in the socket.
    NoBuffer,
    /// We cancelled it.
    Cancelled,
    /// The connection is broken.
    Failed(io::Error),
}

/// Memory that tests let a thread take at once.
#[cfg(not(test))]
pub(crate) fn reserve_max() -> usize {
    usize::MAX
}

#[cfg(test)]
thread_local! {
    /// Larger buffers cannot be had on this thread.
    pub(crate) static RESERVE_MAX: std::cell::Cell<usize> =
        const { std::cell::Cell::new(usize::MAX) };
}

#[cfg(test)]
pub(crate) fn reserve_max() -> usize {
    RESERVE_MAX.get()
}

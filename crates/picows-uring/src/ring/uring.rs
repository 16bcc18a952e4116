//! The data ring: [`Ring`] on io_uring.
//!
//! Everything that talks to the kernel through shared memory is here and in `kernel/`, but for the
//! memory of the receive buffers (`loan.rs`). See `docs/KERNEL.md` for the features used and since
//! when they exist.

mod buffers;
mod features;
mod op;
mod sends;
mod sleep;
mod start;
mod watches;

pub(crate) use super::StartError;
use super::clock::Clock;
use super::{
    Completion, ListenerId, Loan, Outlet, ReceiveResult, RecvBuffer, Ring, Room, SendBatch,
    SendState, SleepOptions, Socket, Stamp, Token, Unsupported, Wait, WaitMode, borrow, direct,
    stamp, tcp_info,
};
use crate::foreign::log;
use buffers::Buffers;
pub(crate) use features::Features;
use io_uring::{IoUring, cqueue, opcode, squeue, types};
use op::Op;
use rustix::fd::OwnedFd;
use sends::Sends;
use sleep::WaitArgument;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;
use watches::Watches;

/// io_uring, set up for sockets.
pub(crate) struct UringRing {
    ring: Uring,
    buffers: Buffers,
    sends: Sends,
    /// Receives of large frames.
    watches: Watches,
    /// Operations for which the submission queue had no room.
    overflow: VecDeque<squeue::Entry>,
    /// Signalled by the kernel with every completion, and by other threads that have work for us.
    event: Arc<OwnedFd>,
    /// What the deadline operation points to until it is submitted.
    timespec: Box<types::Timespec>,
    /// The deadline that the kernel knows of.
    deadline: Option<Duration>,
    clock: Clock,
    /// Operations that will have a last completion, which has not come yet.
    in_flight: usize,
    /// The ring itself watches `event`.
    is_event_watched: bool,
    /// Flags of each call that enters the ring.
    enter_flags: u32,
    /// The argument of calls that wait, where they gather completions.
    gathering: Option<Box<WaitArgument>>,
    /// How often the ring was entered.
    enters: u64,
    /// Sockets to close when nothing is in flight any more. Not before: operations that are queued
    /// name descriptors, which might belong to another socket by then.
    abandoned: Vec<OwnedFd>,
    /// The kernel takes the operations of the data path only.
    is_restricted: bool,
    /// What stamped receives point to; `None` while there were none.
    stamped: Option<Box<libc::msghdr>>,
}

impl UringRing {
    /// Sets up a ring for this thread.
    pub(crate) fn new(waiting: WaitMode) -> Result<Self, StartError> {
        start::start(waiting)
    }

    /// Whether the kernel refuses all operations but those of the data path.
    pub(crate) fn is_restricted(&self) -> bool {
        self.is_restricted
    }

    fn push(&mut self, entry: squeue::Entry) {
        self.in_flight += 1;
        if self.overflow.is_empty() && (self.try_push(&entry) || self.push_behind(&entry)) {
            return;
        }
        self.overflow.push_back(entry);
    }

    /// Hands over what fills the submission queue, and pushes the entry. Returns whether that was done:
    /// not where the completions might be more than the kernel has room for.
    #[cold]
    fn push_behind(&mut self, entry: &squeue::Entry) -> bool {
        let has_room = self.ring.completion().len() <= COMPLETIONS_KEPT;
        // What makes a call fail for good makes the next poll fail, too.
        has_room && self.enter(0).is_ok() && self.try_push(entry)
    }

    fn try_push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: what the entry points to (the batch of a send, the timespec of a deadline, the
        // header of stamped receives, the buffer ring) belongs to `self` and stays where it is until
        // the completion, and `drop` waits for all completions or leaks it.
        #[expect(unsafe_code)]
        unsafe {
            self.ring.submission().push(entry).is_ok()
        }
    }

    /// Moves the overflow to the submission queue, as far as there is room.
    fn push_backlog(&mut self) {
        while let Some(entry) = self.overflow.front().cloned() {
            if !self.try_push(&entry) {
                return;
            }
            self.overflow.pop_front();
        }
    }

    /// Hands over what is queued, lets the kernel finish what it has deferred, and waits for `want`
    /// completions.
    fn enter(&mut self, want: u32) -> io::Result<()> {
        self.buffers.reclaim();
        self.push_backlog();
        let mut submission = self.ring.submission();
        let queued = submission.len();
        let has_deferred = submission.taskrun() || submission.cq_overflow();
        let wants_enter = want > 0 || queued > 0 || (has_deferred && !self.watches.go_first());
        submission.sync();
        drop(submission);
        if !wants_enter {
            return Ok(());
        }
        self.enters += 1;
        self.watches.on_enter();
        // SAFETY: no argument is passed, so there is nothing to be valid.
        #[expect(unsafe_code)]
        let entered = unsafe {
            self.ring.submitter().enter::<()>(queued as u32, want, self.enter_flags, None)
        };
        Self::entered(entered)
    }

    /// The outcome of a call that entered the ring.
    fn entered(entered: io::Result<usize>) -> io::Result<()> {
        match entered {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                // A signal, or more completions than the kernel can hold (EBUSY) or memory for
                // (EAGAIN): drain, and try again next time.
                Some(libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// Turns one entry of the completion queue into a completion, unless its outcome is ignored.
    fn complete(&mut self, entry: &cqueue::Entry) -> Option<Completion> {
        let (result, flags, user_data) = (entry.result(), entry.flags(), entry.user_data());
        let more = cqueue::more(flags);
        if !more {
            self.in_flight -= 1;
        }
        let token = Token::unpack(user_data);
        match Op::of(user_data)? {
            Op::Accept => {
                let listener = ListenerId::unpack(user_data);
                let result = outcome(result).map(|fd| Socket(fd as i32));
                Some(Completion::Accepted { listener, result, more })
            }
            Op::Receive => {
                let result = self.received(result, flags);
                Some(Completion::Received { token, result, more })
            }
            Op::ReceiveStamped => {
                let result = self.received_stamped(result, flags);
                Some(Completion::Received { token, result, more })
            }
            Op::Send => {
                let (token, batch) = self.sends.take(token.slot)?;
                Some(Completion::Sent { token, result: outcome(result), batch })
            }
            Op::Deadline => {
                self.deadline = None;
                None
            }
            Op::Silent => None,
            Op::Wake => {
                self.is_event_watched = more;
                None
            }
            Op::Watch => self.watches.on_event(token, outcome(result), more),
        }
    }

    /// The result of a stamped receive, in which each message has a header, also that of the end.
    fn received_stamped(&mut self, result: i32, flags: u32) -> ReceiveResult {
        let is_end = (0..=stamp::MULTISHOT_FRONT_BYTES as i32).contains(&result);
        match (self.received(if is_end { 0 } else { result }, flags), &self.stamped) {
            (ReceiveResult::Data(buffer), Some(header)) => {
                let bytes = self.buffers.bytes(&buffer);
                let message = types::RecvMsgOut::parse(bytes, header).ok();
                let found = message.and_then(|it| stamp::in_control(it.control_data()));
                Stamp::put(found, &mut bytes[..stamp::MULTISHOT_FRONT_BYTES]);
                ReceiveResult::Data(stamp::behind(buffer, stamp::MULTISHOT_FRONT_BYTES))
            }
            (result, _) => result,
        }
    }

    fn received(&mut self, result: i32, flags: u32) -> ReceiveResult {
        match (outcome(result), cqueue::buffer_select(flags)) {
            (Ok(len), Some(id)) if len > 0 => {
                match self.buffers.take(id, len as u32, !cqueue::buffer_more(flags)) {
                    Ok(buffer) => ReceiveResult::Data(buffer),
                    Err(error) => ReceiveResult::Failed(error),
                }
            }
            (result, unused) => {
                if let Some(id) = unused {
                    self.buffers.pass_over(id);
                }
                match result {
                    Ok(_) => ReceiveResult::EndOfStream,
                    Err(error) => match error.raw_os_error() {
                        Some(libc::ENOBUFS) => {
                            self.buffers.grow();
                            ReceiveResult::NoBuffer
                        }
                        Some(libc::ECANCELED) => ReceiveResult::Cancelled,
                        _ => ReceiveResult::Failed(error),
                    },
                }
            }
        }
    }
}

impl Ring for UringRing {
    fn now(&self) -> Duration {
        self.clock.now()
    }

    fn accept(&mut self, socket: Socket, listener: ListenerId) {
        // io_uring does not wait on a socket that is marked not to. One that cannot be changed shows it
        // by its first completion.
        let _ = rustix::io::ioctl_fionbio(borrow(&socket), false);
        let entry = opcode::AcceptMulti::new(types::Fd(socket.0))
            .flags(libc::SOCK_CLOEXEC)
            .build()
            .user_data(Op::Accept.tag(listener.pack()));
        self.push(entry);
    }

    fn receive(&mut self, socket: Socket, token: Token) {
        let entry = opcode::RecvMulti::new(types::Fd(socket.0), self.buffers.multishot_group())
            .build()
            .user_data(Op::Receive.tag(token.pack()));
        self.push(entry);
    }

    fn receive_once(&mut self, socket: Socket, token: Token) {
        // No address: the kernel takes one of the buffers.
        let group = self.buffers.single_group();
        let entry = opcode::Recv::new(types::Fd(socket.0), std::ptr::null_mut(), ONCE_BYTES_MAX)
            .buf_group(group)
            .build()
            .flags(squeue::Flags::BUFFER_SELECT)
            .user_data(Op::Receive.tag(token.pack()));
        self.push(entry);
    }

    fn receive_in_turn(&mut self, socket: Socket, token: Token) {
        self.watch(socket, token);
    }

    fn request_stamps(&mut self, socket: Socket) -> bool {
        stamp::request(socket)
    }

    fn receive_stamped(&mut self, socket: Socket, token: Token) {
        // Each message takes a whole buffer: what is left of one that is filled piece by piece may be too
        // short for the header, on which the kernel ends the receive.
        let group = self.buffers.single_group();
        let header: *const libc::msghdr =
            &raw const **self.stamped.get_or_insert_with(|| Box::new(stamp::multishot_header()));
        let entry = opcode::RecvMsgMulti::new(types::Fd(socket.0), header, group)
            .build()
            .user_data(Op::ReceiveStamped.tag(token.pack()));
        self.push(entry);
    }

    fn stamp(&mut self, buffer: &RecvBuffer) -> Option<Stamp> {
        Stamp::of_bytes(self.buffers.bytes(&stamp::place(buffer)?))
    }

    fn receive_now(&mut self, socket: Socket, room: Room<'_>) -> io::Result<usize> {
        direct::receive_now(socket, room)
    }

    fn bytes(&mut self, buffer: &RecvBuffer) -> &mut [u8] {
        self.buffers.bytes(buffer)
    }

    fn lend(&mut self, buffer: &RecvBuffer) -> Option<Loan> {
        self.buffers.lend(buffer)
    }

    fn release(&mut self, buffer: RecvBuffer) {
        self.buffers.release(buffer);
    }

    fn keep(&mut self, buffer: &mut RecvBuffer, must: bool) -> bool {
        self.buffers.keep(buffer, must)
    }

    fn room_to_receive(&mut self, is_single: bool) -> usize {
        self.buffers.room(is_single)
    }

    fn send(&mut self, socket: Socket, token: Token, batch: Box<SendBatch>) {
        let (index, entry) = self.sends.put(socket, token, batch);
        self.push(entry.user_data(Op::Send.tag(u64::from(index))));
    }

    fn send_now(&mut self, socket: Socket, batch: &SendBatch) -> io::Result<usize> {
        direct::SocketOutlet.send_now(socket, batch)
    }

    fn outlet(&self) -> Rc<dyn Outlet> {
        Rc::new(direct::SocketOutlet)
    }

    fn cancel_receive(&mut self, token: Token) {
        let op = if self.watches.cancel(token) { Op::Watch } else { Op::Receive };
        self.cancel_operation(op, token);
        if self.stamped.is_some() && op == Op::Receive {
            // Whichever it is: the other is not found.
            self.cancel_operation(Op::ReceiveStamped, token);
        }
    }

    fn cancel(&mut self, socket: Socket) {
        let all = types::CancelBuilder::fd(types::Fd(socket.0)).all();
        self.push(opcode::AsyncCancel2::new(all).build().user_data(Op::Silent.tag(0)));
    }

    fn drop_new_connections(&mut self, listener: Socket) {
        // Without it, connections that begin just now are lost, as ever.
        let _ = super::accept_filter::drop_new_connections(borrow(&listener));
    }

    fn shut_down(&mut self, socket: Socket) {
        // By a call of its own: io_uring hands IORING_OP_SHUTDOWN to a kernel thread.
        direct::shut_down(socket);
    }

    fn close(&mut self, socket: Socket) {
        let entry = opcode::Close::new(types::Fd(socket.0)).build();
        self.push(entry.user_data(Op::Silent.tag(0)));
    }

    fn descriptors(&self) -> Vec<i32> {
        vec![self.ring.as_raw_fd(), self.event.as_raw_fd()]
    }

    fn close_on_failure(&mut self, socket: Socket) {
        // SAFETY: the socket is the ring's to close, and its owner forgets it.
        #[expect(unsafe_code)]
        self.abandoned.push(unsafe { OwnedFd::from_raw_fd(socket.0) });
    }

    fn unread(&self, socket: Socket) -> usize {
        direct::unread(socket)
    }

    fn send_state(&self, socket: Socket) -> Option<SendState> {
        tcp_info::read(socket)
    }

    fn untaken(&self, socket: Socket) -> Option<usize> {
        tcp_info::untaken(socket)
    }

    fn peer_addr(&self, socket: Socket) -> Option<SocketAddr> {
        direct::peer_addr(socket)
    }

    fn set_deadline(&mut self, deadline: Duration) {
        if self.deadline.is_some_and(|armed| armed <= deadline) {
            return;
        }
        // Relative, as the deadline counts from our own origin.
        let wait = deadline.saturating_sub(self.clock.now());
        *self.timespec = types::Timespec::new().sec(wait.as_secs()).nsec(wait.subsec_nanos());
        let timespec: *const types::Timespec = &raw const *self.timespec;
        let entry = if self.deadline.is_none() {
            opcode::Timeout::new(timespec).build().user_data(Op::Deadline.tag(0))
        } else {
            // If it has fired meanwhile, the change fails, and the completion wakes us anyway.
            let update = opcode::TimeoutUpdate::new(Op::Deadline.tag(0), timespec).build();
            update.user_data(Op::Silent.tag(0))
        };
        self.deadline = Some(deadline);
        self.push(entry);
    }

    fn poll(&mut self, max: usize, out: &mut Vec<Completion>) -> io::Result<()> {
        #[cfg(test)]
        tests::lose_on_demand()?;
        self.enter(0)?;
        let before = out.len();
        // However many there are, a socket that has bytes has its turn.
        let reserved = usize::from(max > 1 && self.watches.has_ready());
        for _ in 0..max - reserved {
            let Some(entry) = self.ring.completion().next() else { break };
            if let Some(completion) = self.complete(&entry) {
                out.push(completion);
            }
        }
        if self.watches.has_ready() {
            self.take_in_turn(max - (out.len() - before), out);
        }
        Ok(())
    }

    fn has_work(&mut self) -> bool {
        let submission = self.ring.submission();
        let is_pending = !submission.is_empty() || submission.taskrun();
        drop(submission);
        is_pending
            || !self.overflow.is_empty()
            || !self.ring.completion().is_empty()
            || self.watches.has_ready()
    }

    fn polls_behind(&mut self, max: usize) -> usize {
        // Each operation has at most one piece of deferred work at a time, and their order is kept.
        let enters = self.in_flight.div_ceil(TASK_WORK_PER_ENTER);
        let polls = enters.saturating_mul(self.watches.polls_per_enter());
        // A poll takes the bytes of one socket at the least, of those that have some.
        let told = self.ring.completion().len().div_ceil(max.saturating_sub(1).max(1));
        polls + told + self.watches.count()
    }

    fn recv_buffers(&self) -> usize {
        self.buffers.count()
    }

    fn has_spare(&self) -> bool {
        self.buffers.has_spare()
            || self.sends.has_spare()
            || self.watches.has_spare()
            || self.overflow.capacity() > OVERFLOW_KEPT
    }

    fn trim(&mut self) {
        // Nothing that was received waits in the queue, nor behind it.
        let is_told = !self.ring.submission().cq_overflow() && self.ring.completion().is_empty();
        self.buffers.trim(is_told);
        self.sends.trim();
        self.watches.trim();
        self.overflow.shrink_to(OVERFLOW_KEPT);
    }
}

impl Wait for UringRing {
    /// The eventfd, which the kernel signals as well.
    fn descriptor(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.event)
    }

    fn signal(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.event)
    }

    fn set_signals(&mut self, on: bool) {
        // Only where the kernel's flag of deferred work and its look at ours are ordered by the
        // processor: the kernel itself does not ask for it.
        if cfg!(target_arch = "x86_64") {
            let completions = self.ring.completion();
            if on {
                completions.enable_eventfd();
            } else {
                completions.disable_eventfd();
            }
            fence(Ordering::SeqCst);
        }
    }

    fn clear_signals(&mut self) {
        // Does not block; fails where there was no signal.
        let _ = rustix::io::read(&self.event, &mut [0; size_of::<u64>()]);
    }

    fn wait(&mut self) -> io::Result<()> {
        if !self.is_event_watched {
            self.is_event_watched = true;
            // Multishot: every signal makes a completion, so the eventfd need not be read.
            let watch =
                opcode::PollAdd::new(types::Fd(self.event.as_raw_fd()), libc::POLLIN as u32);
            self.push(watch.multi(true).build().user_data(Op::Wake.tag(0)));
        }
        if self.gathering.is_some() { self.enter_gathering() } else { self.enter(1) }
    }

    fn set_sleep(&mut self, options: SleepOptions) -> Result<(), Unsupported> {
        self.sleep_by(options)
    }

    fn dedicate(&mut self) -> io::Result<()> {
        // The ring is to watch the eventfd, and each of its own signals would wake it once more.
        self.ring.submitter().unregister_eventfd()
    }

    fn enters(&self) -> u64 {
        self.enters
    }

    fn is_io_uring(&self) -> bool {
        true
    }
}

impl Drop for UringRing {
    /// Waits until the kernel has let go of every buffer.
    fn drop(&mut self) {
        let mut out = Vec::new();
        for _ in 0..DROP_ROUNDS_MAX {
            if self.in_flight == 0 {
                return;
            }
            let round = types::Timespec::new().nsec(DROP_ROUND_NANOS);
            let everything = types::CancelBuilder::any();
            // Says that it found nothing, or ran out of time: the count decides.
            let _ = self.ring.submitter().register_sync_cancel(Some(round), everything);
            if self.poll(usize::MAX, &mut out).is_err() {
                break;
            }
            for completion in out.drain(..) {
                match completion {
                    Completion::Received { result: ReceiveResult::Data(buffer), .. } => {
                        self.buffers.release(buffer);
                    }
                    Completion::Accepted { result: Ok(socket), .. } => {
                        self.close(socket);
                    }
                    _ => {}
                }
            }
        }
        if self.in_flight > 0 {
            log::error!(
                in_flight = self.in_flight,
                "the kernel did not give back all buffers of the ring: leaking them"
            );
            self.buffers.leak();
            self.sends.leak();
            std::mem::forget(std::mem::take(&mut self.timespec));
            std::mem::forget(self.stamped.take());
        }
    }
}

/// The result of an operation, with its errno by name.
fn outcome(result: i32) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
}

/// What a call that waits for nothing runs of the deferred work (`IO_LOCAL_TW_DEFAULT_MAX`, since
/// Linux 6.13): after a stall, so many completions come of each.
const TASK_WORK_PER_ENTER: usize = 20;
/// How often `drop` looks for completions, one millisecond each, before it leaks.
const DROP_ROUNDS_MAX: usize = 1000;
const DROP_ROUND_NANOS: u32 = 1_000_000;

/// What [`Ring::receive_once`] brings at the most: the header of a large frame, and of its payload
/// as much as costs little to be copied. The rest is taken from the socket at once.
const ONCE_BYTES_MAX: u32 = 16 * 1024;

/// Completions that may wait while more is submitted in the middle of a turn: half of what there is
/// room for.
const COMPLETIONS_KEPT: usize = 4096;
/// Operations for which a quiet ring keeps room.
const OVERFLOW_KEPT: usize = 1024;

type Uring = IoUring<squeue::Entry, cqueue::Entry>;

#[cfg(test)]
pub(crate) mod tests;

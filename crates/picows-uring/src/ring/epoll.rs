//! The driver for kernels and containers without io_uring: [`Ring`] on epoll.
//!
//! Sockets are registered once, edge-triggered: what an event said is remembered until a call on the
//! socket returns less than it was asked for. Operations that cannot be carried out at once wait for
//! the event of their socket; every call is made with `MSG_DONTWAIT`, so that nothing blocks. The
//! receive, send and accept calls are made by [`poll`](Ring::poll) and [`send`](Ring::send), one for
//! each completion; events of all sockets are fetched with one call. See epoll(7).

mod accept;
mod alarm;
pub(super) mod buffers;
mod in_loop;
mod sockets;
mod wait;

use super::clock::Clock;
use super::{
    Completion, ListenerId, Loan, Outlet, ReceiveResult, RecvBuffer, Ring, Room, SendBatch,
    SendState, Socket, Stamp, StartError, Token, borrow, direct, is_passing, stamp, tcp_info,
};
use alarm::Alarm;
use buffers::{BUFFER_BYTES, Buffers};
use in_loop::InLoop;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::net::RecvFlags;
use sockets::{Entry, Reading, Receive, Sending, Sockets};
use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::FromRawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Sockets on epoll.
pub(crate) struct EpollRing {
    epoll: Arc<OwnedFd>,
    /// Signalled by other threads that have work for us.
    event: Arc<OwnedFd>,
    events: Box<[MaybeUninit<Event>; EVENTS_MAX]>,
    sockets: Sockets,
    buffers: Buffers,
    /// Sockets for which something can be done, each once.
    ready: VecDeque<i32>,
    /// Outcomes that no poll has returned yet.
    done: VecDeque<Completion>,
    /// What the alarm is set to, until its event was fetched.
    deadline: Option<Duration>,
    /// Sockets that the hosting loop watches itself, while there is one.
    in_loop: Option<InLoop>,
    /// The hosting loop has looked at all sockets since the worker slept, and found something.
    found_in_loop: Option<Found>,
    /// Fires at the deadline.
    alarm: Alarm,
    clock: Clock,
    /// So many polls need not look for events, as those that were fetched are not handled yet.
    fresh_polls: u8,
    /// The last look filled `events`: there may be more.
    has_more_events: bool,
    /// How often events were fetched.
    looks: u64,
}

/// Where the hosting loop has found what ended a sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// In the epoll descriptor, and perhaps in sockets that it watches itself.
    Descriptor,
    /// In those sockets alone: there is no event to fetch.
    Sockets,
}

impl EpollRing {
    /// Sets the driver up for this thread.
    ///
    /// # Errors
    ///
    /// When there is no descriptor or no memory for it.
    pub(crate) fn new() -> Result<Self, StartError> {
        Self::set_up().map_err(StartError::Epoll)
    }

    fn set_up() -> io::Result<Self> {
        let epoll = Arc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?);
        let event = Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?);
        // An edge for each signal, so that the counter need not be read.
        epoll::add(&epoll, &event, EventData::new_u64(WAKE), EventFlags::IN | EventFlags::ET)?;
        let alarm = Alarm::new(&epoll)?;
        Ok(Self {
            epoll,
            event,
            events: Box::new([MaybeUninit::uninit(); EVENTS_MAX]),
            sockets: Sockets::default(),
            buffers: Buffers::default(),
            ready: VecDeque::new(),
            done: VecDeque::new(),
            deadline: None,
            in_loop: None,
            found_in_loop: None,
            alarm,
            clock: Clock::new(),
            fresh_polls: 0,
            has_more_events: false,
            looks: 0,
        })
    }

    fn is_ready(&self) -> bool {
        !self.ready.is_empty() || !self.done.is_empty() || self.has_more_events
    }

    /// Fetches events, and puts the sockets for which something can be done on the list.
    fn fetch(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.looks += 1;
        let timeout = timeout.map(timespec);
        let found = match epoll::wait(&self.epoll, &mut self.events[..], timeout.as_ref()) {
            Ok((found, _)) => found,
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        self.fresh_polls = 1;
        self.has_more_events = found.len() == EVENTS_MAX;
        for event in found {
            let (data, flags) = (event.data.u64(), event.flags);
            // Of a socket that is closed, the kernel reports nothing any more.
            let Some(entry) = self.sockets.get_mut(data) else {
                if data == ALARM {
                    self.deadline = None;
                }
                continue;
            };
            if entry.mark(flags) {
                self.ready.push_back(data as i32);
            }
        }
        Ok(())
    }

    /// Fetches what has happened up to now, unless that was done since the worker slept.
    fn look_again(&mut self) -> io::Result<()> {
        let found = self.found_in_loop.take();
        // What happens meanwhile is found by the wait that follows if there is nothing else to do, or by
        // the next poll.
        if self.fresh_polls > 0 && !self.has_more_events {
            self.fresh_polls -= 1;
            return Ok(());
        }
        self.fetch(Some(Duration::ZERO))?;
        if found.is_none() {
            self.try_watched();
        }
        Ok(())
    }

    /// Has the next calls find out whether there is something for the sockets that the hosting loop
    /// watches: it does not look while the worker is in its turns.
    fn try_watched(&mut self) {
        for socket in self.in_loop.iter().flat_map(InLoop::sockets) {
            let Some(entry) = self.sockets.get_mut(socket.0 as u64) else { continue };
            entry.is_readable |= entry.reading.is_some();
            entry.is_writable |= entry.sending.is_some();
            if entry.is_to_be_listed() {
                self.ready.push_back(socket.0);
            }
        }
    }

    /// The entry of a socket, registered from here on.
    fn entry(&mut self, socket: Socket, listens: bool) -> io::Result<&mut Entry> {
        let key = socket.0 as u64;
        if self.sockets.get_mut(key).is_none() {
            let is_watched = match &mut self.in_loop {
                Some(in_loop) if !listens => in_loop.watch(socket),
                _ => false,
            };
            if !is_watched {
                self.register(socket)?;
            }
            self.sockets.add(socket, is_watched);
        }
        self.sockets.get_mut(key).ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    /// Has the kernel report the events of a socket. What it is ready for is the first.
    fn register(&self, socket: Socket) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        let data = EventData::new_u64(socket.0 as u64);
        Ok(epoll::add(&self.epoll, borrow(&socket), data, flags)?)
    }

    /// Puts a socket on the list if something can be done for it.
    fn mark_ready(&mut self, socket: Socket) {
        if self.sockets.get_mut(socket.0 as u64).is_some_and(Entry::is_to_be_listed) {
            self.ready.push_back(socket.0);
        }
    }

    fn begin_receive(&mut self, socket: Socket, receive: Receive) {
        let token = receive.token;
        match self.entry(socket, false) {
            Ok(entry) => {
                debug_assert!(entry.reading.is_none(), "a second receive on {socket:?}");
                entry.reading = Some(Reading::Bytes(receive));
                self.sockets.receives(token, socket);
                self.mark_ready(socket);
            }
            Err(error) => {
                let result = ReceiveResult::Failed(error);
                self.done.push_back(Completion::Received { token, result, more: false });
            }
        }
    }

    /// Does what can be done for the next socket of the list: a send and a receive, or what can be
    /// accepted. `out` is not full, and gets no longer than `end`.
    fn serve(&mut self, fd: i32, end: usize, out: &mut Vec<Completion>) {
        let socket = Socket(fd);
        let Some(entry) = self.sockets.get_mut(fd as u64) else { return };
        entry.is_listed = false;
        let can_read = |entry: &Entry| entry.reading.filter(|_| entry.is_readable);
        match can_read(entry) {
            Some(Reading::Connections(listener)) => {
                self.serve_accept(socket, listener, end, out);
            }
            reading => {
                if entry.sending.is_some() {
                    self.serve_send(socket, out);
                }
                if let Some(Reading::Bytes(receive)) = reading
                    && out.len() < end
                {
                    self.serve_receive(socket, receive, out);
                }
            }
        }
        self.mark_ready(socket);
    }

    fn serve_receive(&mut self, socket: Socket, receive: Receive, out: &mut Vec<Completion>) {
        let Some(entry) = self.sockets.get_mut(socket.0 as u64) else { return };
        let Receive { token, is_single, is_stamped } = receive;
        let max = if is_single { ONCE_BYTES_MAX } else { RECEIVE_BYTES_MAX };
        let result = match self.buffers.space(max) {
            None => ReceiveResult::NoBuffer,
            Some(space) => {
                let asked = space.len();
                match receive_into(socket, space, is_stamped) {
                    Ok(0) => ReceiveResult::EndOfStream,
                    Ok(count) => {
                        // All is taken, unless the end of the stream waits behind it.
                        entry.is_readable = count == asked || entry.is_ending;
                        match self.buffers.cut(count) {
                            Some(piece) if is_stamped => {
                                ReceiveResult::Data(stamp::behind(piece, stamp::FRONT_BYTES))
                            }
                            Some(piece) => ReceiveResult::Data(piece),
                            None => ReceiveResult::NoBuffer,
                        }
                    }
                    Err(rustix::io::Errno::AGAIN) => {
                        entry.is_readable = false;
                        return;
                    }
                    Err(rustix::io::Errno::INTR) => return,
                    Err(error) => ReceiveResult::Failed(error.into()),
                }
            }
        };
        let more = !is_single && matches!(result, ReceiveResult::Data(_));
        if !more {
            entry.reading = None;
        }
        out.push(Completion::Received { token, result, more });
    }

    /// Sends on, as far as the socket takes it; the batch comes back when all of it was sent.
    fn serve_send(&mut self, socket: Socket, out: &mut Vec<Completion>) {
        let Some(entry) = self.sockets.get_mut(socket.0 as u64) else { return };
        if entry.sending.is_none() || !entry.is_writable {
            return;
        }
        let Some(mut sending) = entry.sending.take() else { return };
        loop {
            let (batch, sent) = (&sending.batch, sending.sent);
            match direct::send_from::<SEGMENTS_PER_SEND_MAX>(socket, batch, sent) {
                Ok(count) => {
                    sending.sent += count;
                    if sending.sent < sending.batch.len() && count > 0 {
                        continue;
                    }
                    let Sending { token, batch, sent } = sending;
                    return out.push(Completion::Sent { token, result: Ok(sent), batch });
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_passing(&error) => {
                    entry.is_writable = false;
                    entry.sending = Some(sending);
                    return;
                }
                Err(error) => {
                    let Sending { token, batch, sent } = sending;
                    // What was sent before counts; the next send finds the error again.
                    let result = if sent > 0 { Ok(sent) } else { Err(error) };
                    return out.push(Completion::Sent { token, result, batch });
                }
            }
        }
    }

    /// Ends the receive or accept of a socket, if there is one. Connections that have come are
    /// accepted before.
    fn end_receive(&mut self, socket: Socket) {
        let Some(entry) = self.sockets.get_mut(socket.0 as u64) else { return };
        let Some(reading) = entry.reading.take() else { return };
        let end = match reading {
            Reading::Connections(listener) => {
                self.accept_backlog(socket, listener);
                Completion::Accepted { listener, result: Err(cancelled()), more: false }
            }
            Reading::Bytes(Receive { token, .. }) => {
                Completion::Received { token, result: ReceiveResult::Cancelled, more: false }
            }
        };
        self.done.push_back(end);
    }
}

/// Receives what waits in a socket, with a stamp in front of it or without.
fn receive_into(
    socket: Socket,
    space: &mut [u8],
    is_stamped: bool,
) -> Result<usize, rustix::io::Errno> {
    if is_stamped {
        return stamp::receive(socket, space);
    }
    Ok(rustix::net::recv(borrow(&socket), space, RecvFlags::DONTWAIT)?.0)
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

fn cancelled() -> io::Error {
    io::Error::from_raw_os_error(libc::ECANCELED)
}

impl Ring for EpollRing {
    fn now(&self) -> Duration {
        self.clock.now()
    }

    fn accept(&mut self, socket: Socket, listener: ListenerId) {
        // So that it does not block where another worker was faster. Connections do not inherit it.
        let begun = rustix::io::ioctl_fionbio(borrow(&socket), true).map_err(io::Error::from);
        match begun.and_then(|()| self.entry(socket, true)) {
            Ok(entry) => {
                debug_assert!(entry.reading.is_none(), "a second accept on {socket:?}");
                entry.reading = Some(Reading::Connections(listener));
                self.mark_ready(socket);
            }
            Err(error) => {
                let result = Err(error);
                self.done.push_back(Completion::Accepted { listener, result, more: false });
            }
        }
    }

    fn receive(&mut self, socket: Socket, token: Token) {
        self.begin_receive(socket, Receive { token, is_single: false, is_stamped: false });
    }

    fn receive_once(&mut self, socket: Socket, token: Token) {
        self.begin_receive(socket, Receive { token, is_single: true, is_stamped: false });
    }

    fn request_stamps(&mut self, socket: Socket) -> bool {
        stamp::request(socket)
    }

    fn receive_stamped(&mut self, socket: Socket, token: Token) {
        self.begin_receive(socket, Receive { token, is_single: false, is_stamped: true });
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

    fn room_to_receive(&mut self, _is_single: bool) -> usize {
        self.buffers.room()
    }

    fn send(&mut self, socket: Socket, token: Token, batch: Box<SendBatch>) {
        match self.entry(socket, false) {
            Ok(entry) => {
                debug_assert!(entry.sending.is_none(), "a second send on {socket:?}");
                entry.sending = Some(Sending { token, batch, sent: 0 });
                // An event takes this back only if the socket is full, which the call finds out.
                entry.is_writable = true;
                self.mark_ready(socket);
            }
            Err(error) => {
                self.done.push_back(Completion::Sent { token, result: Err(error), batch });
            }
        }
    }

    fn send_now(&mut self, socket: Socket, batch: &SendBatch) -> io::Result<usize> {
        direct::send_from::<SEGMENTS_PER_SEND_MAX>(socket, batch, 0)
    }

    fn sends_one_by_one(&self) -> bool {
        true
    }

    fn outlet(&self) -> Rc<dyn Outlet> {
        Rc::new(direct::SocketOutlet)
    }

    fn cancel_receive(&mut self, token: Token) {
        if let Some(socket) = self.sockets.receiver(token) {
            self.end_receive(socket);
        }
    }

    fn cancel(&mut self, socket: Socket) {
        self.end_receive(socket);
        let Some(entry) = self.sockets.get_mut(socket.0 as u64) else { return };
        if let Some(sending) = entry.sending.take() {
            let Sending { token, batch, sent } = sending;
            let result = if sent > 0 { Ok(sent) } else { Err(cancelled()) };
            self.done.push_back(Completion::Sent { token, result, batch });
        }
    }

    fn drop_new_connections(&mut self, listener: Socket) {
        // Without it, connections that begin just now are lost, as ever.
        let _ = super::accept_filter::drop_new_connections(borrow(&listener));
    }

    fn shut_down(&mut self, socket: Socket) {
        direct::shut_down(socket);
    }

    fn close(&mut self, socket: Socket) {
        // The kernel forgets its registration with it; the hosting loop does not.
        if self.sockets.remove(socket).is_some_and(|entry| entry.is_watched)
            && let Some(in_loop) = &mut self.in_loop
        {
            in_loop.forget(socket);
        }
        // SAFETY: the socket is the ring's to close, and its owner forgets it.
        #[expect(unsafe_code)]
        drop(unsafe { OwnedFd::from_raw_fd(socket.0) });
    }

    fn descriptors(&self) -> Vec<i32> {
        vec![self.epoll.as_raw_fd(), self.event.as_raw_fd(), self.alarm.descriptor()]
    }

    fn close_on_failure(&mut self, socket: Socket) {
        // Nothing of ours is in the kernel's hands.
        self.close(socket);
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
        if self.deadline.is_none_or(|armed| deadline < armed) {
            self.deadline = Some(deadline);
            self.alarm.set(deadline.saturating_sub(self.now()));
        }
    }

    fn poll(&mut self, max: usize, out: &mut Vec<Completion>) -> io::Result<()> {
        self.look_again()?;
        let end = out.len() + max;
        while out.len() < end {
            let Some(completion) = self.done.pop_front() else { break };
            out.push(completion);
        }
        // Sockets come to the end of the list after each call, so that all have their turn. One that
        // never runs dry does not fill all buffers: what a poll leaves is for the next.
        for _ in 0..ROUNDS_PER_POLL {
            for _ in 0..self.ready.len() {
                if out.len() == end {
                    return Ok(());
                }
                let Some(fd) = self.ready.pop_front() else { break };
                self.serve(fd, end, out);
            }
        }
        Ok(())
    }

    fn has_work(&mut self) -> bool {
        self.is_ready()
    }

    fn polls_behind(&mut self, max: usize) -> usize {
        let waiting = self.ready.len() + self.done.len();
        // Every other poll looks, and a look finds so many.
        2 * self.sockets.count().div_ceil(EVENTS_MAX.min(max)) + waiting.div_ceil(max)
    }

    fn recv_buffers(&self) -> usize {
        self.buffers.count()
    }

    fn has_spare(&self) -> bool {
        self.buffers.has_spare() || self.sockets.has_spare()
    }

    fn trim(&mut self) {
        self.buffers.trim();
        self.sockets.trim();
        self.ready.shrink_to(LISTED_KEPT);
        self.done.shrink_to(LISTED_KEPT);
    }
}

impl Drop for EpollRing {
    /// Closes what was accepted and not handed over.
    fn drop(&mut self) {
        while let Some(completion) = self.done.pop_front() {
            if let Completion::Accepted { result: Ok(socket), .. } = completion {
                self.close(socket);
            }
        }
    }
}

/// What the events of the eventfd and of the alarm carry: no descriptors are so large.
const WAKE: u64 = u64::MAX;
const ALARM: u64 = u64::MAX - 1;
/// Events of one look: 12 KiB.
const EVENTS_MAX: usize = 1024;
/// What one call receives at the most: a frame of 100 kB comes with one call, and one connection does
/// not fill a buffer.
const RECEIVE_BYTES_MAX: usize = 128 * 1024;
/// Calls of one socket in one poll, 256 KiB: more would be deferred, in memory of ours.
const ROUNDS_PER_POLL: usize = 2;
/// What [`Ring::receive_once`] brings at the most, as with the other driver.
const ONCE_BYTES_MAX: usize = 16 * 1024;
/// Segments that leave with one call; more follow with the next.
const SEGMENTS_PER_SEND_MAX: usize = 64;
/// Places that a quiet ring keeps in its lists.
const LISTED_KEPT: usize = 1024;

const _: () = assert!(RECEIVE_BYTES_MAX <= BUFFER_BYTES);

#[cfg(test)]
mod tests;

//! Streams whose bytes a carrier of the application brings: TLS of another library, a pipe, the transports
//! of a foreign loop.
//!
//! A ring around that of a driver. Sockets of the system are the driver's; numbers from -2 downwards name
//! streams. As with a kernel, operations are queued: carriers are called by `poll`, and nowhere else.

mod pieces;
mod streams;

pub(crate) use streams::Streams;
pub use streams::{Carried, Carrier};

use super::{
    Completion, ListenerId, Loan, Outlet, ReceiveResult, RecvBuffer, Ring, Room, SendBatch,
    SendState, Socket, Stamp, Token, Wait,
};
use pieces::Pieces;
use rustix::fd::OwnedFd;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use streams::Done;

/// The ring of a driver, and streams beside its sockets.
pub(crate) struct Outside<R> {
    inner: R,
    streams: Rc<Streams>,
    /// Received, and in the hands of the worker.
    pieces: Pieces,
}

impl<R> Outside<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self { inner, streams: Rc::default(), pieces: Pieces::default() }
    }

    /// Returns outcomes of streams until there are `end`.
    fn take_done(&mut self, end: usize, out: &mut Vec<Completion>) {
        while out.len() < end
            && let Some(done) = self.streams.next_done()
        {
            out.push(match done {
                Done::Other(completion) => completion,
                Done::Received { token, piece, more } => {
                    let result = match self.pieces.give(piece) {
                        Ok(buffer) => ReceiveResult::Data(buffer),
                        // The bytes are lost, and so is the stream.
                        Err(_) => ReceiveResult::Failed(io::ErrorKind::OutOfMemory.into()),
                    };
                    Completion::Received { token, result, more }
                }
            });
        }
    }

    pub(crate) fn streams(&self) -> &Rc<Streams> {
        &self.streams
    }
}

impl<R: Ring> Ring for Outside<R> {
    fn now(&self) -> Duration {
        self.inner.now()
    }

    fn accept(&mut self, socket: Socket, listener: ListenerId) {
        self.inner.accept(socket, listener);
    }

    fn receive(&mut self, socket: Socket, token: Token) {
        if socket.is_stream() {
            self.streams.receive(socket, token, false);
        } else {
            self.inner.receive(socket, token);
        }
    }

    fn receive_once(&mut self, socket: Socket, token: Token) {
        if socket.is_stream() {
            self.streams.receive(socket, token, true);
        } else {
            self.inner.receive_once(socket, token);
        }
    }

    fn receive_in_turn(&mut self, socket: Socket, token: Token) {
        if socket.is_stream() {
            self.streams.receive(socket, token, false);
        } else {
            self.inner.receive_in_turn(socket, token);
        }
    }

    fn request_stamps(&mut self, socket: Socket) -> bool {
        !socket.is_stream() && self.inner.request_stamps(socket)
    }

    fn receive_stamped(&mut self, socket: Socket, token: Token) {
        if socket.is_stream() {
            self.streams.receive(socket, token, false);
        } else {
            self.inner.receive_stamped(socket, token);
        }
    }

    fn stamp(&mut self, buffer: &RecvBuffer) -> Option<Stamp> {
        if is_of_stream(buffer) { None } else { self.inner.stamp(buffer) }
    }

    fn receive_now(&mut self, socket: Socket, room: Room<'_>) -> io::Result<usize> {
        if socket.is_stream() {
            // What waits comes with the next receive.
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.inner.receive_now(socket, room)
    }

    fn bytes(&mut self, buffer: &RecvBuffer) -> &mut [u8] {
        if is_of_stream(buffer) { self.pieces.bytes(buffer) } else { self.inner.bytes(buffer) }
    }

    fn lend(&mut self, buffer: &RecvBuffer) -> Option<Loan> {
        if is_of_stream(buffer) { None } else { self.inner.lend(buffer) }
    }

    fn release(&mut self, buffer: RecvBuffer) {
        if is_of_stream(&buffer) {
            self.pieces.release(&buffer, &mut self.streams.spare.borrow_mut());
        } else {
            self.inner.release(buffer);
        }
    }

    fn keep(&mut self, buffer: &mut RecvBuffer, must: bool) -> bool {
        if is_of_stream(buffer) {
            buffer.is_kept = true;
            return true;
        }
        self.inner.keep(buffer, must)
    }

    fn room_to_receive(&mut self, is_single: bool) -> usize {
        self.inner.room_to_receive(is_single)
    }

    fn send(&mut self, socket: Socket, token: Token, batch: Box<SendBatch>) {
        if socket.is_stream() {
            self.streams.send(socket, token, batch);
        } else {
            self.inner.send(socket, token, batch);
        }
    }

    fn send_now(&mut self, socket: Socket, batch: &SendBatch) -> io::Result<usize> {
        if socket.is_stream() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.inner.send_now(socket, batch)
    }

    fn sends_one_by_one(&self) -> bool {
        self.inner.sends_one_by_one()
    }

    fn outlet(&self) -> Rc<dyn Outlet> {
        Rc::new(SocketsOnly(self.inner.outlet()))
    }

    fn cancel_receive(&mut self, token: Token) {
        if !self.streams.cancel_receive(token) {
            self.inner.cancel_receive(token);
        }
    }

    fn cancel(&mut self, socket: Socket) {
        if socket.is_stream() {
            self.streams.cancel(socket);
        } else {
            self.inner.cancel(socket);
        }
    }

    fn drop_new_connections(&mut self, listener: Socket) {
        self.inner.drop_new_connections(listener);
    }

    fn shut_down(&mut self, socket: Socket) {
        if socket.is_stream() {
            self.streams.shut_down(socket);
        } else {
            self.inner.shut_down(socket);
        }
    }

    fn close(&mut self, socket: Socket) {
        if socket.is_stream() {
            self.streams.close(socket);
        } else {
            self.inner.close(socket);
        }
    }

    fn close_on_failure(&mut self, socket: Socket) {
        if socket.is_stream() {
            self.streams.close(socket);
        } else {
            self.inner.close_on_failure(socket);
        }
    }

    fn unread(&self, socket: Socket) -> usize {
        if socket.is_stream() { self.streams.unread(socket) } else { self.inner.unread(socket) }
    }

    fn send_state(&self, socket: Socket) -> Option<SendState> {
        if socket.is_stream() { None } else { self.inner.send_state(socket) }
    }

    fn untaken(&self, socket: Socket) -> Option<usize> {
        if socket.is_stream() { None } else { self.inner.untaken(socket) }
    }

    fn peer_addr(&self, socket: Socket) -> Option<SocketAddr> {
        if socket.is_stream() {
            self.streams.peer_addr(socket)
        } else {
            self.inner.peer_addr(socket)
        }
    }

    fn set_deadline(&mut self, deadline: Duration) {
        self.inner.set_deadline(deadline);
    }

    fn descriptors(&self) -> Vec<i32> {
        self.inner.descriptors()
    }

    fn poll(&mut self, max: usize, out: &mut Vec<Completion>) -> io::Result<()> {
        self.streams.call_carriers();
        let end = out.len() + max;
        // Half for each, and what one leaves for the other.
        self.take_done(out.len() + max.div_ceil(2), out);
        self.inner.poll(end.saturating_sub(out.len()), out)?;
        self.take_done(end, out);
        Ok(())
    }

    fn has_work(&mut self) -> bool {
        self.streams.has_work() || self.inner.has_work()
    }

    fn polls_behind(&mut self, max: usize) -> usize {
        let of_streams = self.streams.done_len().div_ceil(max.div_ceil(2).max(1));
        // While there are some, the driver has half of a poll.
        if of_streams == 0 {
            return self.inner.polls_behind(max);
        }
        of_streams + self.inner.polls_behind(max.div_ceil(2).max(1))
    }

    fn recv_buffers(&self) -> usize {
        self.inner.recv_buffers()
    }

    fn has_spare(&self) -> bool {
        !self.streams.spare.borrow().is_empty() || self.inner.has_spare()
    }

    fn trim(&mut self) {
        self.streams.spare.borrow_mut().clear();
        self.inner.trim();
    }
}

impl<R: Wait> Wait for Outside<R> {
    fn descriptor(&self) -> Arc<OwnedFd> {
        self.inner.descriptor()
    }

    fn signal(&self) -> Arc<OwnedFd> {
        self.inner.signal()
    }

    fn set_signals(&mut self, on: bool) {
        self.inner.set_signals(on);
    }

    fn join_loop(&mut self) {
        self.inner.join_loop();
    }

    fn leave_loop(&mut self) {
        self.inner.leave_loop();
    }

    fn poll_sockets(&mut self, context: &mut Context<'_>, is_signalled: bool) -> Poll<()> {
        self.inner.poll_sockets(context, is_signalled)
    }

    fn clear_signals(&mut self) {
        self.inner.clear_signals();
    }

    fn look(&mut self) {
        self.inner.look();
    }

    fn wait(&mut self) -> io::Result<()> {
        self.inner.wait()
    }

    fn dedicate(&mut self) -> io::Result<()> {
        self.inner.dedicate()
    }

    fn enters(&self) -> u64 {
        self.inner.enters()
    }

    fn is_io_uring(&self) -> bool {
        self.inner.is_io_uring()
    }
}

impl<R> Drop for Outside<R> {
    fn drop(&mut self) {
        self.streams.close_all();
    }
}

/// The outlet of a driver, for its sockets: a stream is not offered anything at once.
#[derive(Debug)]
struct SocketsOnly(Rc<dyn Outlet>);

impl Outlet for SocketsOnly {
    fn send_now(&self, socket: Socket, batch: &SendBatch) -> io::Result<usize> {
        if socket.is_stream() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.0.send_now(socket, batch)
    }

    fn send_slice(&self, socket: Socket, bytes: &[u8]) -> io::Result<usize> {
        if socket.is_stream() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.0.send_slice(socket, bytes)
    }
}

/// Whether a buffer has bytes of a stream.
fn is_of_stream(buffer: &RecvBuffer) -> bool {
    buffer.id & STREAM_ID != 0
}

/// Drivers have fewer buffers than that.
const STREAM_ID: u16 = 1 << 15;

#[cfg(test)]
mod tests;

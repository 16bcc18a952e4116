//! The contract of [`Ring`], around any ring: a caller or a ring that breaks it is stopped by a
//! panic that names the demand.
//!
//! Adds nothing and changes nothing: every call goes on to the ring as it came. What is noted of
//! sockets, tokens and buffers is in `checked/book.rs`. The one demand that is not checked is what
//! no wrapper can see: what the kernel does with memory while an operation is in flight.

mod book;
#[cfg(test)]
mod tests;

use crate::ring::{
    Completion, ListenerId, Loan, Outlet, RecvBuffer, Ring, Room, SendBatch, SendState,
    SleepOptions, Socket, Stamp, Token, Unsupported, Wait,
};
use book::{Book, demand};
use rustix::fd::OwnedFd;
use std::cell::{Cell, RefCell, RefMut};
use std::io;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// A ring whose caller, and which itself, is held to the contract.
#[derive(Debug, Default)]
pub(crate) struct Checked<R> {
    ring: R,
    book: Rc<RefCell<Book>>,
    /// The latest time that the ring has said.
    latest: Cell<Duration>,
}

impl<R: Ring> Checked<R> {
    pub(crate) fn new(ring: R) -> Self {
        Self { ring, book: Rc::default(), latest: Cell::default() }
    }

    /// The caller has got a socket that the ring did not accept.
    #[cfg(test)]
    pub(crate) fn opened(&mut self, socket: Socket) {
        self.book().opened(socket);
    }

    /// The next completion of `token` is one that the kernel would never make.
    #[cfg(test)]
    pub(crate) fn allow_stray(&mut self, token: Token) {
        self.book().allow_stray(token);
    }

    /// The caller connects sockets by itself, and has the ring receive from them first, for a token
    /// that is new: one may have the descriptor of a socket that was closed.
    #[cfg(test)]
    pub(crate) fn allow_adopting(&mut self) {
        self.book().allow_adopting();
    }

    /// A turn of the caller is over: what it was lent is released, or kept.
    pub(crate) fn demand_turn_is_over(&self) {
        self.book().demand_turn_is_over();
    }

    /// The caller has ended, and has left nothing behind.
    pub(crate) fn demand_nothing_is_left(&self) {
        self.book().demand_nothing_is_left();
    }

    fn book(&self) -> RefMut<'_, Book> {
        self.book.borrow_mut()
    }
}

/// Tests play the ring inside.
impl<R> Deref for Checked<R> {
    type Target = R;

    fn deref(&self) -> &R {
        &self.ring
    }
}

impl<R> DerefMut for Checked<R> {
    fn deref_mut(&mut self) -> &mut R {
        &mut self.ring
    }
}

impl<R: Ring> Ring for Checked<R> {
    fn now(&self) -> Duration {
        let now = self.ring.now();
        demand(now >= self.latest.replace(now), || "the clock of the ring goes back".into());
        now
    }

    fn accept(&mut self, socket: Socket, listener: ListenerId) {
        self.book().accept(socket, listener);
        self.ring.accept(socket, listener);
    }

    fn receive(&mut self, socket: Socket, token: Token) {
        self.book().receive(socket, token, false);
        self.ring.receive(socket, token);
    }

    fn receive_once(&mut self, socket: Socket, token: Token) {
        self.book().receive(socket, token, true);
        self.ring.receive_once(socket, token);
    }

    fn receive_in_turn(&mut self, socket: Socket, token: Token) {
        self.book().receive(socket, token, false);
        self.ring.receive_in_turn(socket, token);
    }

    fn request_stamps(&mut self, socket: Socket) -> bool {
        self.book().called("request_stamps", socket);
        self.ring.request_stamps(socket)
    }

    fn receive_stamped(&mut self, socket: Socket, token: Token) {
        self.book().receive(socket, token, false);
        self.ring.receive_stamped(socket, token);
    }

    fn stamp(&mut self, buffer: &RecvBuffer) -> Option<Stamp> {
        self.book().use_buffer("stamp", buffer);
        self.ring.stamp(buffer)
    }

    fn receive_now(&mut self, socket: Socket, mut room: Room<'_>) -> io::Result<usize> {
        self.book().receive_now(socket, room.max());
        let (max, before) = (room.max(), room.filled());
        let result = self.ring.receive_now(socket, room.reborrow());
        let grown = room.filled() - before;
        match &result {
            Ok(count) => {
                demand(*count <= max, || format!("receive_now took {count} of {max} bytes"));
                let is_there = *count == 0 || grown == room.gap() + count;
                demand(is_there, || format!("receive_now of {count} bytes left {grown}"));
            }
            Err(error) => demand(grown == 0, || format!("receive_now left bytes and {error}")),
        }
        result
    }

    fn bytes(&mut self, buffer: &RecvBuffer) -> &mut [u8] {
        self.book().use_buffer("bytes", buffer);
        let bytes = self.ring.bytes(buffer);
        demand(bytes.len() == buffer.len(), || format!("{} bytes of {buffer:?}", bytes.len()));
        bytes
    }

    fn lend(&mut self, buffer: &RecvBuffer) -> Option<Loan> {
        self.book().use_buffer("lend", buffer);
        self.ring.lend(buffer)
    }

    fn release(&mut self, buffer: RecvBuffer) {
        self.book().release(&buffer);
        self.ring.release(buffer);
    }

    fn keep(&mut self, buffer: &mut RecvBuffer, must: bool) -> bool {
        self.book().use_buffer("keep", buffer);
        let is_kept = self.ring.keep(buffer, must);
        demand(is_kept || !must, || format!("{buffer:?} is not kept, and must be"));
        demand(is_kept == buffer.is_kept(), || format!("keep says {is_kept} of {buffer:?}"));
        if is_kept {
            self.book().keep(buffer);
        }
        is_kept
    }

    fn room_to_receive(&mut self, is_single: bool) -> usize {
        self.ring.room_to_receive(is_single)
    }

    fn send(&mut self, socket: Socket, token: Token, batch: Box<SendBatch>) {
        self.book().send(socket, token, &batch);
        self.ring.send(socket, token, batch);
    }

    fn send_now(&mut self, socket: Socket, batch: &SendBatch) -> io::Result<usize> {
        self.book().send_now(socket, batch);
        took_of(batch, self.ring.send_now(socket, batch))
    }

    fn sends_one_by_one(&self) -> bool {
        self.ring.sends_one_by_one()
    }

    fn outlet(&self) -> Rc<dyn Outlet> {
        Rc::new(CheckedOutlet { outlet: self.ring.outlet(), book: Rc::clone(&self.book) })
    }

    fn cancel_receive(&mut self, token: Token) {
        self.book().cancel_receive(token);
        self.ring.cancel_receive(token);
    }

    fn cancel(&mut self, socket: Socket) {
        self.book().called("cancel", socket);
        self.ring.cancel(socket);
    }

    fn drop_new_connections(&mut self, listener: Socket) {
        self.book().called("drop_new_connections", listener);
        self.ring.drop_new_connections(listener);
    }

    fn shut_down(&mut self, socket: Socket) {
        self.book().shut_down(socket);
        self.ring.shut_down(socket);
    }

    fn close(&mut self, socket: Socket) {
        self.book().close(socket);
        self.ring.close(socket);
    }

    fn descriptors(&self) -> Vec<i32> {
        self.ring.descriptors()
    }

    fn close_on_failure(&mut self, socket: Socket) {
        self.book().close_on_failure(socket);
        self.ring.close_on_failure(socket);
    }

    fn unread(&self, socket: Socket) -> usize {
        self.book().called("unread", socket);
        self.ring.unread(socket)
    }

    fn send_state(&self, socket: Socket) -> Option<SendState> {
        self.book().called("send_state", socket);
        self.ring.send_state(socket)
    }

    fn untaken(&self, socket: Socket) -> Option<usize> {
        self.book().called("untaken", socket);
        self.ring.untaken(socket)
    }

    fn peer_addr(&self, socket: Socket) -> Option<SocketAddr> {
        self.book().called("peer_addr", socket);
        self.ring.peer_addr(socket)
    }

    fn set_deadline(&mut self, deadline: Duration) {
        self.ring.set_deadline(deadline);
    }

    fn poll(&mut self, max: usize, out: &mut Vec<Completion>) -> io::Result<()> {
        self.book().demand_turn_is_over();
        let before = out.len();
        let result = self.ring.poll(max, out);
        demand(out.len() >= before, || "a poll took completions away".into());
        let count = out.len() - before;
        demand(count <= max, || format!("a poll returned {count} completions, not {max}"));
        let mut book = self.book();
        for completion in &out[before..] {
            book.complete(completion);
        }
        drop(book);
        result
    }

    fn has_work(&mut self) -> bool {
        self.ring.has_work()
    }

    fn polls_behind(&mut self, max: usize) -> usize {
        self.ring.polls_behind(max)
    }

    fn recv_buffers(&self) -> usize {
        self.ring.recv_buffers()
    }

    fn has_spare(&self) -> bool {
        self.ring.has_spare()
    }

    fn trim(&mut self) {
        self.ring.trim();
    }
}

impl<R: Ring + Wait> Wait for Checked<R> {
    fn descriptor(&self) -> Arc<OwnedFd> {
        self.ring.descriptor()
    }

    fn signal(&self) -> Arc<OwnedFd> {
        self.ring.signal()
    }

    fn set_signals(&mut self, on: bool) {
        self.ring.set_signals(on);
    }

    fn join_loop(&mut self) {
        self.ring.join_loop();
    }

    fn leave_loop(&mut self) {
        self.ring.leave_loop();
    }

    fn poll_sockets(&mut self, context: &mut Context<'_>, is_signalled: bool) -> Poll<()> {
        self.ring.poll_sockets(context, is_signalled)
    }

    fn clear_signals(&mut self) {
        self.ring.clear_signals();
    }

    fn look(&mut self) {
        self.ring.look();
    }

    fn wait(&mut self) -> io::Result<()> {
        self.book().demand_turn_is_over();
        self.ring.wait()
    }

    fn set_sleep(&mut self, options: SleepOptions) -> Result<(), Unsupported> {
        self.ring.set_sleep(options)
    }

    fn dedicate(&mut self) -> io::Result<()> {
        self.ring.dedicate()
    }

    fn enters(&self) -> u64 {
        self.ring.enters()
    }

    fn is_io_uring(&self) -> bool {
        self.ring.is_io_uring()
    }
}

/// The outlet of a ring, under the same contract.
#[derive(Debug)]
struct CheckedOutlet {
    outlet: Rc<dyn Outlet>,
    book: Rc<RefCell<Book>>,
}

impl Outlet for CheckedOutlet {
    fn send_now(&self, socket: Socket, batch: &SendBatch) -> io::Result<usize> {
        self.book.borrow_mut().send_now(socket, batch);
        took_of(batch, self.outlet.send_now(socket, batch))
    }
}

/// No socket takes more than it was given.
fn took_of(batch: &SendBatch, result: io::Result<usize>) -> io::Result<usize> {
    if let Ok(count) = result {
        let len = batch.len();
        demand(count <= len, || format!("send_now took {count} of {len} bytes"));
    }
    result
}

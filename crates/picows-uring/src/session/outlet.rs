//! Sending from inside a callback or a task, where a limit of the queue is met.
//!
//! A limit is for peers that do not read, and what one turn has queued says nothing of that: the
//! socket is offered it first, and the rest is judged (`queue.rs`). Everything else leaves when the
//! turn ends (`link/send.rs`), but for answers to messages that
//! take long to expand and compress, or that are large.

use super::Session;
use super::conflation::Droppable;
use crate::foreign::log;
use crate::ring::{Outlet, SendBatch, Socket, is_passing};
use crate::status::DisconnectCause;
use picows_uring_proto::Phase;
use std::io;

impl Session {
    /// Offers the socket what is queued, unless it has refused some since the last send, and as long
    /// as it takes all of it.
    #[cold]
    pub(super) fn offer(&self) {
        // Before anything else: what is dropped on the way may send, and get here again.
        if self.is_offered.replace(true) {
            return;
        }
        if self.in_flight.get() == 0 && self.conversation.borrow().may_send() {
            self.offer_queue();
        }
        self.renew_append_max();
        self.wake_drain_waiters();
    }

    /// Sends what is queued outside of a turn, as far as the socket takes it, its CLOSE included. The
    /// rest waits for the next turn.
    pub(crate) fn flush(&self) {
        let may_send = self.conversation.borrow().phase() != Phase::Ended;
        if may_send && self.in_flight.get() == 0 {
            // For what is dropped on the way, which may send.
            self.is_offered.set(true);
            self.offer_queue();
            self.renew_append_max();
            self.wake_drain_waiters();
        }
    }

    /// Sends what is queued before the turn is over, unless it is so much that the ring is to wait for
    /// room, as far as the socket takes it.
    #[cfg(feature = "deflate")]
    pub(crate) fn send_at_once(&self) {
        if (1..=AT_ONCE_BYTES_MAX).contains(&self.queued()) {
            self.flush();
        }
    }

    fn offer_queue(&self) {
        match self.offer_all() {
            Ok(true) => self.is_offered.set(false),
            // Nothing more until the ring has waited for room.
            Ok(false) => {}
            Err(error) => self.fail_offer(&error),
        }
    }

    /// The socket has failed while it was offered something.
    pub(super) fn fail_offer(&self, error: &io::Error) {
        if self.reads_on_after(error) {
            return;
        }
        log::debug!(peer = self.peer.logged(), %error, "connection broken");
        self.set_cause(DisconnectCause::Io(error.kind()));
        self.conversation.borrow_mut().end();
        self.mark_dirty();
    }

    /// The ring is given a send, or one is over: the next limit is one to offer something at.
    #[inline]
    pub(crate) fn may_offer(&self) {
        if self.is_offered.replace(false) {
            self.renew_append_max();
        }
    }

    /// Computes anew how much is appended at once.
    pub(super) fn renew_append_max(&self) {
        self.set_append_max(self.droppable.ask(Droppable::len).is_some());
    }

    /// What may be queued. Twice as much as the setting says while the kernel has not seen what it
    /// was given.
    pub(crate) fn queue_bytes_max(&self) -> usize {
        let max = self.config.queue_bytes_max;
        if self.is_tried() { max } else { max.saturating_mul(2) }
    }

    /// Whether the socket took everything that is queued.
    fn offer_all(&self) -> io::Result<bool> {
        let (Some(socket), Some(outlet)) = (self.socket.get(), self.local.outlet.get()) else {
            return Ok(false);
        };
        loop {
            // Out of the cell first: what is sent is dropped, and whose it was may send.
            let Some(queue) = self.take_offer() else { return Ok(true) };
            let (rest, outcome) = self.send_now(socket, outlet.as_ref(), queue);
            if let Some(rest) = rest {
                self.put_back(rest);
            }
            if !outcome? {
                return Ok(false);
            }
        }
    }

    /// Takes what the socket is offered next: what is queued, and without that a part of what waits apart.
    fn take_offer(&self) -> Option<Box<SendBatch>> {
        if self.is_sealed() {
            return self.take_batch();
        }
        match self.queue.take() {
            Some(queue) if !queue.is_empty() => Some(queue),
            empty => {
                if let Some(batch) = empty {
                    self.local.pool.put_batch(batch);
                }
                self.take_batch()
            }
        }
    }

    /// Sends of `batch` what the socket takes, and returns the rest; and whether there may be room
    /// for more.
    fn send_now(
        &self,
        socket: Socket,
        outlet: &dyn Outlet,
        mut batch: Box<SendBatch>,
    ) -> (Option<Box<SendBatch>>, io::Result<bool>) {
        while !batch.is_empty() {
            match outlet.send_now(socket, &batch) {
                Ok(count) if count > 0 => self.took(&mut batch, count),
                Ok(_) => return (Some(batch), Ok(false)),
                Err(error) if is_passing(&error) => return (Some(batch), Ok(false)),
                Err(error) => return (Some(batch), Err(error)),
            }
        }
        self.local.pool.put_batch(batch);
        (None, Ok(true))
    }
}

/// More may not fit into the socket, and is worth being waited for by the kernel (`link/send.rs`).
#[cfg(feature = "deflate")]
const AT_ONCE_BYTES_MAX: usize = 64 * 1024;

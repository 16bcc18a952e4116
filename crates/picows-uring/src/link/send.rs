//! Sending: one batch at a time, and the rest of it that did not fit into the socket.
//!
//! What many connections send is submitted with one call for all of them. Where one connection sends
//! alone, or the ring makes a call for each anyway, there is nothing to save: the batch goes straight
//! to the socket, and is back before the turn ends.

use super::Link;
use crate::ring::{Ring, SendBatch, Socket, is_passing};
use crate::session::Session;
use std::io::{self, ErrorKind};

impl Link {
    /// Whether nothing is in flight or to be sent.
    pub(crate) fn is_flushed(&self, session: &Session) -> bool {
        // Droppable frames have not left, though nothing may be in flight.
        !session.is_sending() && session.is_wire_empty()
    }

    /// Sends `batch`, when nothing is in flight. One of `offer_max` bytes or less is offered to the
    /// socket first: see [`offer_max`].
    ///
    /// # Errors
    ///
    /// When the socket has failed; the batch is dropped.
    pub(crate) fn send(
        &mut self,
        ring: &mut impl Ring,
        session: &Session,
        socket: Socket,
        mut batch: Box<SendBatch>,
        offer_max: usize,
    ) -> io::Result<()> {
        let pool = &session.local.pool;
        session.may_offer();
        let is_now = (1..=offer_max).contains(&batch.len());
        if is_now {
            match ring.send_now(socket, &batch) {
                Ok(count) => session.took(&mut batch, count),
                // The ring waits for room, and tries again.
                Err(error) if is_passing(&error) => {}
                Err(error) => {
                    pool.put_batch(batch);
                    return Err(error);
                }
            }
        }
        if batch.is_empty() {
            pool.put_batch(batch);
        } else {
            session.send_begins(&batch);
            ring.send(socket, session.token, batch);
        }
        if is_now {
            session.wake_drain_waiters();
            // Droppable frames follow, and a pause may be over.
            if session.is_paused.get() || (!session.is_sending() && session.queued() > 0) {
                session.mark_dirty();
            }
        }
        Ok(())
    }

    /// The send in flight has its completion. Of a connection that `is_ended` nothing more is sent.
    ///
    /// # Errors
    ///
    /// When the kernel took nothing; the batch is dropped.
    pub(crate) fn on_sent(
        &mut self,
        session: &Session,
        result: io::Result<usize>,
        mut batch: Box<SendBatch>,
        is_ended: bool,
    ) -> io::Result<()> {
        let pool = &session.local.pool;
        session.send_is_over();
        match result {
            Ok(count) if count > 0 => {
                session.took(&mut batch, count);
                if batch.is_empty() || is_ended {
                    pool.put_batch(batch);
                } else {
                    self.keep_rest(session, batch);
                }
                Ok(())
            }
            failed => {
                pool.put_batch(batch);
                Err(failed.err().unwrap_or_else(|| ErrorKind::WriteZero.into()))
            }
        }
    }

    /// Keeps what a send left over for the next one.
    fn keep_rest(&mut self, session: &Session, rest: Box<SendBatch>) {
        // The rest is the beginning of the queue again: what is queued later joins its last buffer, if
        // that is not sealed, and both leave together.
        session.put_back(rest);
        session.judge_rest();
    }
}

/// The longest batch that each connection of a round offers to its socket, before the ring has it.
pub(crate) fn offer_max(ring: &impl Ring, connections: usize) -> usize {
    match connections {
        _ if ring.sends_one_by_one() => usize::MAX,
        1 => SEND_NOW_BYTES_MAX,
        _ => 0,
    }
}

/// More may not fit into the socket, and is worth being waited for by the kernel.
const SEND_NOW_BYTES_MAX: usize = 64 * 1024;

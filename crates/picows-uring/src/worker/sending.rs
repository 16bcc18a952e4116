//! What leaves, and what comes of it.
//!
//! What many connections send leaves with one call for all of them. Where one connection sends alone,
//! there is nothing to save: it goes straight to the socket, and the batch is back before the turn
//! ends.

use super::Worker;
use crate::ring::{Ring, SendBatch, Socket, Token, is_passing};
use picows_uring_proto::Phase;
use std::io::{self, ErrorKind};
use std::rc::Rc;

impl<R: Ring> Worker<R> {
    /// Sends `batch`, of a connection of which nothing is being sent.
    pub(super) fn send(&mut self, token: Token, socket: Socket, mut batch: Box<SendBatch>) {
        let Some(connection) = self.slots.get_mut(token) else { return };
        let session = Rc::clone(connection.session());
        session.may_offer();
        let is_now = self.is_alone && (1..=SEND_NOW_BYTES_MAX).contains(&batch.len());
        if is_now {
            match self.ring.send_now(socket, &batch) {
                Ok(count) => session.took(&mut batch, count),
                // The ring waits for room, and tries again.
                Err(error) if is_passing(&error) => {}
                Err(error) => {
                    connection.send_failed(&error);
                    return self.shared.pool.put_batch(batch);
                }
            }
        }
        if batch.is_empty() {
            self.shared.pool.put_batch(batch);
        } else {
            session.send_begins(&batch);
            self.ring.send(socket, token, batch);
        }
        if is_now {
            session.drained();
            // What waits apart goes on, and a pause may be over.
            if session.is_paused.get() || (!session.is_sending() && session.queued() > 0) {
                session.touch();
            }
        }
    }

    /// A send of the ring is over.
    pub(super) fn sent(
        &mut self,
        token: Token,
        result: io::Result<usize>,
        mut batch: Box<SendBatch>,
    ) {
        let shared = Rc::clone(&self.shared);
        let Some(connection) = self.slots.get_mut(token) else {
            debug_assert!(false, "a completion for nobody: {token:?}");
            return shared.pool.put_batch(batch);
        };
        let session = Rc::clone(connection.session());
        session.send_is_over();
        match result {
            Ok(count) if count > 0 => {
                session.took(&mut batch, count);
                if batch.is_empty() || connection.phase() == Phase::Ended {
                    shared.pool.put_batch(batch);
                } else {
                    session.put_back(batch);
                }
            }
            failed => {
                shared.pool.put_batch(batch);
                if connection.phase() != Phase::Ended {
                    let nothing = || io::Error::from(ErrorKind::WriteZero);
                    connection.send_failed(&failed.err().unwrap_or_else(nothing));
                }
            }
        }
        session.drained();
        let is_open = connection.phase() == Phase::Open;
        if !is_open || session.queued() > 0 || session.is_paused.get() {
            session.touch();
        }
    }
}

/// More may not fit into the socket, and is worth being waited for by the kernel.
const SEND_NOW_BYTES_MAX: usize = 64 * 1024;

//! Sending: submission and completion, for the connections of a worker.
//!
//! How a batch is sent, and what becomes of its rest, is decided in `link/send.rs`.

use super::Worker;
use crate::ring::{Ring, SendBatch, Token};
use picows_uring_proto::Phase;
use std::io;
use std::rc::Rc;

impl<R: Ring> Worker<R> {
    /// Judges the peers of long sends that the kernel has seen by what it has not taken of them.
    pub(super) fn judge_sends(&mut self) {
        let slots = &mut self.slots;
        self.untried.retain(|token| {
            let Some(connection) = slots.get_mut(*token) else { return false };
            let session = connection.session();
            let is_tried = session.is_tried();
            if is_tried && session.is_sending() {
                session.judge_rest();
            }
            !is_tried
        });
    }

    /// A send of the ring is over.
    pub(super) fn sent(&mut self, token: Token, result: io::Result<usize>, batch: Box<SendBatch>) {
        let Some(connection) = self.slots.get_mut(token) else {
            debug_assert!(false, "a completion without a connection: {token:?}");
            return self.local.pool.put_batch(batch);
        };
        let session = Rc::clone(connection.session());
        let is_ended = connection.phase() == Phase::Ended;
        if let Err(error) = connection.link.on_sent(&session, result, batch, is_ended)
            && !is_ended
        {
            connection.send_failed(&error);
        }
        session.wake_drain_waiters();
        let is_open = connection.phase() == Phase::Open;
        if !is_open || session.queued() > 0 || session.is_paused.get() {
            session.mark_dirty();
        }
    }
}

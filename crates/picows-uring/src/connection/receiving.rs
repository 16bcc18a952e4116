//! Receiving of a connection: whether it wants anything, and the rest of a large frame straight into its
//! memory.
//!
//! The operations on the socket, and which of them are in flight, are the link's (`link/direct.rs`).

use super::{Callbacks, Connection, Stage, keep_cut};
use crate::link::{Direct, InputState, Link};
use crate::ring::{Ring, Room};
use crate::session::Session;
use picows_uring_proto::{PeerMisbehaved, Phase, Stash};
use std::io;
use std::rc::Rc;

impl Connection {
    /// Whether anything that could still arrive is worth receiving, and wanted now.
    pub(crate) fn wants_receive(&self) -> bool {
        let session = self.session();
        // What comes after the end is not the application's, so a pause does not hold it back.
        let is_paused = session.is_reading_paused.get() && self.phase() <= Phase::Open;
        !matches!(self.stage, Stage::Discard(DISCARD_BYTES_MAX..))
            && !is_paused
            && self.link.input != InputState::Deferred
            && !session.conversation.borrow().is_peer_gone()
    }

    /// Begins or cancels the receive, as it is wanted.
    pub(crate) fn receive_as_wanted(&mut self, ring: &mut impl Ring) {
        let session = self.transport.session();
        let (Some(socket), token) = (session.socket.get(), session.token) else { return };
        if !self.wants_receive() {
            self.link.cancel_receive(ring, token);
        } else if !self.link.is_receiving() && self.link.input != InputState::Starved {
            self.link.receive(ring, socket, token);
        }
    }

    /// Whether enough of the frame under way is missing, and may be given room.
    pub(crate) fn is_worth_direct(&self) -> bool {
        self.phase() == Phase::Open && self.link.is_worth_direct(self.room())
    }

    /// How much of what is missing there may be room for: memory grows as it does when bytes are
    /// copied, to twice of what has arrived.
    fn room(&self) -> usize {
        let Some(receiver) = self.receiver() else { return 0 };
        let missing = usize::try_from(receiver.bytes_missing()).unwrap_or(usize::MAX);
        let (len, capacity) = (receiver.stash().len(), receiver.stash().capacity());
        missing.min(capacity.max(2 * len) - len)
    }

    /// Whether [`receive_directly`](Self::receive_directly) may have something to do: a frame is under
    /// way, or large ones came lately.
    #[inline]
    pub(crate) fn may_receive_directly(&self) -> bool {
        let is_under_way = match &self.stage {
            Stage::Frames(receiver) => receiver.bytes_missing() > 0,
            _ => true,
        };
        is_under_way || self.link.is_bulk()
    }

    /// Takes what waits in the socket for a large frame under way, up to its end, that of the budget
    /// of the turn, or `left` bytes, of which it takes off what it took. Returns whether the stream
    /// has ended.
    pub(crate) fn receive_directly(
        &mut self,
        ring: &mut impl Ring,
        turn: u32,
        left: &mut usize,
    ) -> io::Result<bool> {
        let token = self.session().token;
        if let Stage::Pieces(in_pieces) = &self.stage {
            let is_large = in_pieces.is_large_under_way();
            self.link.begins_direct(ring, token, is_large);
            return Ok(false);
        }
        let is_wanted = self.wants_receive() && self.is_worth_direct();
        if !self.link.begins_direct(ring, token, is_wanted) {
            return Ok(false);
        }
        let session = Rc::clone(self.session());
        loop {
            let room = self.room();
            let max = self.link.direct_max(turn, &session.local.budget_rules, room, *left);
            let (Some(max), Stage::Frames(receiver)) = (max, &mut self.stage) else {
                return Ok(false);
            };
            let (pool, gap) = (&session.local.pool, Link::direct_gap(&session));
            let stash = receiver.stash_mut();
            pool.unhold(stash);
            let Some(room) = Room::new(stash.bytes_mut(), gap, room, max) else {
                *stash = Stash::new();
                self.callbacks().peer_misbehaved(PeerMisbehaved::OutOfMemory);
                return Ok(false);
            };
            let received = self.link.receive_now(ring, &session, room, max);
            let Ok(Direct::Bytes { count, is_full }) = received else {
                pool.hold(stash);
                return received.map(|it| matches!(it, Direct::EndOfStream));
            };
            *left -= count;
            self.fill(&session, gap, count);
            if !is_full {
                // The socket is empty, or it could have brought more.
                return Ok(false);
            }
        }
    }

    /// Bytes of the frame under way were put behind those in the stash.
    fn fill(&mut self, session: &Session, gap: usize, count: usize) {
        let Self { transport, stage, listener, link, .. } = self;
        // Only a frame under way has room.
        let Stage::Frames(receiver) = stage else { return };
        let mut callbacks = Callbacks { transport, listener };
        let filled = receiver.next_filled(&session.config.frames, gap, count);
        link.budget.pay(u32::from(matches!(filled, Ok(Some(_)))), count);
        match filled {
            Ok(None) => {}
            Ok(Some(frame)) => {
                let has_delivered = callbacks.handle(&frame, false);
                callbacks.end_batch(has_delivered);
                // A listener that keeps the frame keeps its memory.
                receiver.stash_mut().clear();
            }
            Err(error) => callbacks.peer_misbehaved(error),
        }
        keep_cut(session, receiver);
    }
}

/// How much a peer may send after the end before we let it wait: more than is on its way in the
/// buffers of most networks.
const DISCARD_BYTES_MAX: u32 = 8 * 1024 * 1024;

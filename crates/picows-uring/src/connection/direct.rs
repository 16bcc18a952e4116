//! The rest of a large frame, taken from the socket straight into the memory that collects it.
//!
//! Through the shared buffers it would be copied once more, and as the kernel fills those of many
//! connections before the first is looked at, they are not in cache any more when they are read.
//! Here one connection is read and unmasked at a time, in pieces that stay in cache.

use super::Connection;
use crate::ring::{Ring, Room, is_passing};
use picows_uring_proto::{PeerMisbehaved, Phase, Stash};
use std::io;
use std::rc::Rc;

impl Connection {
    /// Whether enough of the frame under way is missing, and may be given room.
    pub(crate) fn is_worth_direct(&self) -> bool {
        self.phase() == Phase::Open && self.room() >= DIRECT_BYTES_MIN
    }

    /// Whether large frames came lately, so that each receive is to be one by itself.
    pub(crate) fn is_bulk(&self) -> bool {
        self.session().bulk.get() > 0
    }

    /// Takes note of a receive, in the middle of a large frame or not.
    pub(crate) fn count_bulk(&self, is_large: bool) {
        let bulk = &self.session().bulk;
        if is_large {
            bulk.set(BULK_RECEIVES);
        } else if bulk.get() > 0 {
            bulk.set(bulk.get() - 1);
        }
    }

    /// How much of what is missing there may be room for: memory grows as it does when bytes are
    /// copied, to twice of what has arrived.
    fn room(&self) -> usize {
        let missing =
            usize::try_from(self.decoder.bytes_missing(&self.stash)).unwrap_or(usize::MAX);
        let (len, capacity) = (self.stash.len(), self.stash.capacity());
        missing.min(capacity.max(2 * len) - len)
    }

    /// Takes what waits in the socket for the frame under way, up to its end, that of this
    /// connection's share of the turn, or `left` bytes, of which it takes off what it took. Tells
    /// whether the stream has ended.
    pub(crate) fn receive_directly(
        &mut self,
        ring: &mut impl Ring,
        turn: u32,
        left: &mut usize,
    ) -> io::Result<bool> {
        let Some(socket) = self.session().socket.get() else { return Ok(false) };
        loop {
            let room = self.room();
            let max = room.min(PIECE_BYTES_MAX).min(*left);
            let shared = Rc::clone(&self.session().shared);
            if max == 0 || !self.budget.renew(turn, &shared.shares) {
                return Ok(false);
            }
            let gap = if self.session().is_client { GAP_OF_CLIENT } else { GAP_OF_SERVER };
            let mut stash = self.take_stash();
            let Some(room) = Room::new(stash.bytes_mut(), gap, room, max) else {
                self.peer_misbehaved(PeerMisbehaved::OutOfMemory);
                return Ok(false);
            };
            let received = ring.receive_now(socket, room);
            let count = *received.as_ref().unwrap_or(&0);
            *left -= count;
            if count > 0 {
                self.heard(count);
                self.fill(stash, gap, count);
            } else {
                self.keep_stash(stash);
            }
            match received {
                Ok(0) => return Ok(true),
                // The socket is empty, or it could have brought more.
                Ok(count) if count < max => return Ok(false),
                Ok(_) => {}
                Err(error) if is_passing(&error) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    /// Bytes of the frame under way were put behind those in `stash`.
    fn fill(&mut self, mut stash: Stash, gap: usize, count: usize) {
        let session = Rc::clone(self.session());
        let shared = &session.shared;
        let filled = self.decoder.next_filled(&session.config.frames, &mut stash, gap, count);
        self.budget.pay(u32::from(matches!(filled, Ok(Some(_)))), count);
        match filled {
            Ok(None) => {}
            Ok(Some(frame)) => {
                shared.counters.frames_received.increment();
                self.dispatch(&frame);
                // Who keeps the frame keeps its memory.
                stash.clear();
            }
            Err(error) => self.peer_misbehaved(error),
        }
        self.put_away(stash);
    }
}

/// Less is copied sooner than asked for: 64 KiB made an echo of 100 kB a fifth slower. The random runs
/// of the simulation have no frames so large, so there it is less.
const DIRECT_BYTES_MIN: usize = if cfg!(test) { 64 * 1024 } else { 128 * 1024 };
/// What is taken from the socket before it is unmasked: half of what the second-level cache of a
/// core holds, or less.
const PIECE_BYTES_MAX: usize = 256 * 1024;
/// Receives after a large frame that are each one by itself.
const BULK_RECEIVES: u8 = 16;
/// As long as the header of a large frame, so that the payload has the alignment that it had in
/// front of the sender's kernel, counted in 16 bytes. Some processors copy ten times slower
/// (`rep movsb`, AMD Zen 4) where the target lies 1 to 15 bytes behind the source, counted in pages.
const GAP_OF_SERVER: usize = 14;
const GAP_OF_CLIENT: usize = 10;

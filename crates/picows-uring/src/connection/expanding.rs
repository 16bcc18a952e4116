//! Received frames of a connection that has agreed on permessage-deflate.
//!
//! As `receive_frames`, with one thing more: bytes that a frame is expanded to are paid from the
//! budget of the turn, and counted. All connections together expand no more in a turn than a small
//! part of the memory limit: a few kilobytes of each may be megabytes. Frames are not received directly: what is compressed is copied
//! sooner than expanded.

use super::{Callbacks, Connection, Stage, keep_cut};
use crate::link::BYTES_PER_UNIT;
use crate::pool::HistoryCount;
use crate::session::Session;
use picows_uring_proto::{Deflate, Expanded, Expansion, NegotiatedDeflate, Phase, Receiver};

/// What receives frames that may be compressed.
pub(super) struct Expanding {
    pub(super) receiver: Receiver,
    expansion: Expansion,
    count: HistoryCount,
}

impl Expanding {
    pub(super) fn new(
        session: &Session,
        receiver: Receiver,
        settings: &Deflate,
        agreed: &NegotiatedDeflate,
    ) -> Box<Self> {
        let expansion = Expansion::new(settings, agreed);
        Box::new(Self { receiver, expansion, count: session.local.pool.history_count() })
    }

    /// Gives up what it holds, but for the stash: nothing more is expanded.
    pub(super) fn end(&mut self) {
        self.expansion.end();
        self.count.set(0);
    }

    /// Bytes of memory that it holds from frame to frame, beside the stash.
    pub(super) fn memory(&self) -> usize {
        self.expansion.memory()
    }
}

impl Connection {
    /// [`receive_frames`](Self::receive_frames), of frames that may be compressed.
    pub(super) fn receive_compressed(&mut self, bytes: &mut [u8]) -> Option<usize> {
        let Self { transport, stage, listener, link, .. } = self;
        let Stage::Expanding(expanding) = stage else { return None };
        let Expanding { receiver, expansion, count } = &mut **expanding;
        let mut callbacks = Callbacks { transport, listener };
        let session: &Session = transport.session();
        let (local, config) = (&*session.local, &*session.config);
        if local.expansion_left.get() == 0 {
            return Some(0);
        }
        local.pool.lend(receiver.stash_mut());
        *expansion.text_mut() = local.pool.stash();
        let (mut consumed, mut frames, mut expanded_bytes) = (0, 0, 0);
        let (mut meter, mut is_over, mut has_delivered) = (link.budget.begin(), false, false);
        loop {
            let rest = &mut bytes[consumed..];
            let mut inflaters = local.inflaters.borrow_mut();
            let next = receiver.next_expanded(&config.frames, expansion, &mut inflaters, rest);
            drop(inflaters);
            match next {
                Ok((decoded, expanded)) => {
                    consumed += decoded.consumed;
                    let Some(frame) = decoded.frame else { break };
                    if let Some(Expanded { before, after }) = expanded {
                        local.counters.bytes_before_expansion.add(before as u64);
                        local.counters.bytes_after_expansion.add(after as u64);
                        expanded_bytes += after;
                        local.expansion_left.set(local.expansion_left.get().saturating_sub(after));
                    }
                    has_delivered = callbacks.handle(&frame, has_delivered);
                    // What the listener keeps, it keeps with its memory.
                    if receiver.stash().is_shared() {
                        *receiver.stash_mut() = local.pool.stash();
                    }
                    if expansion.is_text_shared() {
                        *expansion.text_mut() = local.pool.stash();
                    }
                }
                Err(error) => {
                    callbacks.peer_misbehaved(error);
                    break;
                }
            }
            if session.conversation.borrow().phase() != Phase::Open {
                break;
            }
            frames += 1;
            let units = u32::try_from(expanded_bytes / BYTES_PER_UNIT).unwrap_or(u32::MAX);
            let is_spent = meter.is_spent(frames, units) || local.expansion_left.get() == 0;
            if is_spent || meter.is_over(frames, &local.budget_rules) {
                is_over = true;
                break;
            }
            if consumed == bytes.len() && receiver.needs_input() {
                break;
            }
        }
        callbacks.end_batch(has_delivered);
        link.budget.spend(frames, consumed + expanded_bytes, &meter);
        count.set(expansion.memory());
        if receiver.is_under_way() && !session.is_watched.get() {
            session.mark_dirty();
        }
        let is_open = keep_cut(session, receiver);
        local.pool.put_stash(std::mem::take(expansion.text_mut()));
        if expanded_bytes >= SENT_AT_ONCE_BYTES {
            // The peer goes on while the messages of others are expanded and compressed.
            session.send_at_once();
        }
        // After the end of the conversation, the rest is of no use.
        (is_over && is_open).then_some(consumed)
    }
}

/// Messages that expand to so many bytes take longer than a call for their answers: those leave at once,
/// not with the answers to all others of the turn.
const SENT_AT_ONCE_BYTES: usize = 512;

//! Received frames of a listener that wants large ones in pieces.
//!
//! As `receive_frames`, but that nothing large is collected: a piece is handed out from the receive
//! buffer. Frames are not received directly, as there is no memory of a frame to receive them into; but
//! each receive is one by itself meanwhile, so that little follows when the listener pauses.

use super::{Callbacks, Connection, Stage, keep_cut};
use crate::foreign::{self, log};
use crate::session::Session;
use picows_uring_proto::{FramePiece, Phase, Pieces, Received, Receiver, UnderWay};

/// The receiver of such a connection.
pub(super) struct InPieces {
    pub(super) receiver: Receiver,
    pieces: Pieces,
}

impl InPieces {
    pub(super) fn new(receiver: Receiver, frame_bytes_whole: u64) -> Box<Self> {
        Box::new(Self { receiver, pieces: Pieces::of_frames_above(frame_bytes_whole) })
    }

    /// Whether the rest of a large frame comes next.
    pub(super) fn is_large_under_way(&self) -> bool {
        self.pieces.is_under_way()
    }

    pub(super) fn under_way(&mut self) -> Option<UnderWay> {
        self.receiver.under_way_in_pieces(&self.pieces)
    }
}

impl Connection {
    /// Asks a new listener whether it wants pieces. Where messages may be compressed there are none:
    /// a frame is expanded when it is whole.
    pub(super) fn begin_pieces(&mut self) {
        if !matches!(self.stage, Stage::Frames(_)) {
            return;
        }
        let Some(listener) = self.listener.as_deref() else { return };
        let wanted = match foreign::call(|| listener.pieces_of_frames_above()) {
            Ok(wanted) => wanted,
            Err(panicked) => {
                let callback = "pieces_of_frames_above";
                return self.callbacks().listener_failed(callback, panicked.into());
            }
        };
        let Some(bytes) = wanted else { return };
        let role = self.session().conversation.borrow().role();
        self.stage = Stage::Pieces(InPieces::new(Receiver::new(role), bytes));
    }

    /// [`receive_frames`](Self::receive_frames), of large frames in pieces.
    pub(super) fn receive_pieces(&mut self, bytes: &mut [u8]) -> Option<usize> {
        let Self { transport, stage, listener, link, .. } = self;
        let Stage::Pieces(in_pieces) = stage else { return None };
        let InPieces { receiver, pieces } = &mut **in_pieces;
        let mut callbacks = Callbacks { transport, listener };
        let session: &Session = transport.session();
        let (local, config) = (&*session.local, &*session.config);
        local.pool.lend(receiver.stash_mut());
        let (mut consumed, mut frames) = (0, 0);
        let (mut meter, mut is_over, mut has_delivered) = (link.budget.begin(), false, false);
        loop {
            let rest = &mut bytes[consumed..];
            match receiver.next_in_pieces(&config.frames, pieces, rest) {
                Ok((count, received)) => {
                    consumed += count;
                    match received {
                        None => break,
                        Some(Received::Piece(piece)) => {
                            if piece.is_last() {
                                local.counters.received.increment(piece.msg_type());
                            }
                            local.counters.payload_received.add(piece.payload().len() as u64);
                            has_delivered |= callbacks.handle_piece(&piece);
                        }
                        Some(Received::Frame(frame)) => {
                            has_delivered = callbacks.handle(&frame, has_delivered);
                            if receiver.stash().is_shared() {
                                *receiver.stash_mut() = local.pool.stash();
                            }
                        }
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
            if meter.is_over(frames, &local.budget_rules) {
                is_over = true;
                break;
            }
            if consumed == bytes.len() && receiver.needs_input() {
                break;
            }
        }
        callbacks.end_batch(has_delivered);
        link.budget.spend(frames, consumed, &meter);
        if receiver.is_under_way() && !session.is_watched.get() {
            session.mark_dirty();
        }
        let is_open = keep_cut(session, receiver);
        // After the end of the conversation, the rest is of no use.
        (is_over && is_open).then_some(consumed)
    }
}

impl Callbacks<'_> {
    /// Delivers a piece of a data frame, while the conversation is open. Returns whether it was.
    fn handle_piece(&mut self, piece: &FramePiece<'_>) -> bool {
        let session = self.session();
        log::trace!(peer = session.peer.logged(), ?piece, "received");
        let is_open = session.conversation.borrow().phase() == Phase::Open;
        if is_open {
            self.call("on_piece", |listener, transport| listener.on_piece(transport, piece));
        }
        is_open
    }
}

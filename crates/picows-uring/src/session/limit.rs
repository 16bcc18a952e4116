//! Limit of the send queue: frames that are too many, or that may have to be taken back.
//!
//! Room is made for such a frame, it waits apart, or it is refused, as the policy of the queue says
//! (`QueuePolicy`). Frames within the limit never come here (`queue.rs`).

use super::Session;
use super::conflation::{Droppable, DroppableFrame};
use super::payload::Payload;
use crate::config::{Config, QueuePolicy};
use crate::foreign::log::{LogLine, log_limited};
use crate::status::{DisconnectCause, SendStatus};
use picows_uring_proto::{CloseCode, FRAME_HEADER_BYTES_MAX, FrameHead, MsgType};

impl Session {
    /// `queue_frame` for frames that were checked, and that are too many, or
    /// may have to be taken back.
    #[cold]
    #[inline(never)]
    pub(super) fn queue_beyond<P: Payload>(
        &self,
        head: FrameHead,
        payload: P,
        key: Option<u64>,
    ) -> SendStatus {
        if self.is_writing() {
            return self.queue_behind_pieces(head, payload.bytes());
        }
        let payload_len = payload.len();
        let size = FRAME_HEADER_BYTES_MAX + payload_len;
        if self.is_offered_at(size, key) {
            self.offer();
            if !self.conversation.borrow().may_send() {
                return SendStatus::Closed;
            }
        }
        // Says nothing of the peer: what is too much of it is known when the turn's send was tried.
        let is_only_frame = self.buffered() == 0;
        // Neither is ever dropped, nor has to wait: they may come between any two messages, and
        // control frames between fragments (RFC 6455 §5.4).
        let is_urgent = head.msg_type.is_control() || self.is_pinging();
        let mut droppable = self.droppable.take();
        let dropped = match self.make_room(head, size, key, is_urgent, droppable.as_deref_mut()) {
            Ok(dropped) => dropped,
            Err(policy) => {
                self.set_droppable(droppable);
                return self.queue_full(policy);
            }
        };
        let mut is_replaced = false;
        if !is_urgent && self.waits(head, size, key, droppable.as_deref()) {
            let frame = match self.is_compressing() {
                // Dropping or replacing it must not change what the peer refers to.
                true => {
                    let prepared = payload.prepared().cloned();
                    DroppableFrame::plain(head, payload.body(), prepared)
                }
                false => payload.apart(head, self.mask_key()),
            };
            is_replaced = droppable.get_or_insert_default().put(frame, key, &self.local.pool);
        } else if !self.append_frame(head, payload) {
            self.set_droppable(droppable);
            self.out_of_memory();
            return SendStatus::Closed;
        }
        self.set_droppable(droppable);
        self.conversation.sender_mut().queued(head);
        let counters = &self.local.counters;
        counters.frames_dropped.add(dropped as u64);
        counters.frames_dropped_oldest.add(dropped as u64);
        counters.frames_conflated.add(u64::from(is_replaced));
        if !is_only_frame && self.buffered() > self.high_watermark() {
            self.offer();
        }
        self.note_ping();
        self.count_sent(head.msg_type, payload_len);
        let status = self.queued_frame(if is_only_frame { 0 } else { self.buffered() });
        if dropped > 0 {
            // It was full, though it may not even be above the watermark any more.
            self.owes_pause.set(!self.is_paused.get());
            SendStatus::DroppedOldest
        } else if is_replaced {
            SendStatus::Replaced
        } else {
            status
        }
    }

    /// Whether the socket is offered what is queued before a frame of `size` bytes is: it would have
    /// to wait, or be too much.
    fn is_offered_at(&self, size: usize, key: Option<u64>) -> bool {
        let max = match key {
            Some(_) => commit_bytes_max(&self.config),
            None => hard_max(&self.config),
        };
        let droppable = self.droppable.ask(Droppable::weight).unwrap_or(0);
        !self.is_offered.get() && self.committed() + droppable + size > max
    }

    /// Makes a frame of `size` bytes fit into the queue, and returns how many others were dropped
    /// for that; or what is to become of it.
    fn make_room(
        &self,
        head: FrameHead,
        size: usize,
        key: Option<u64>,
        is_urgent: bool,
        droppable: Option<&mut Droppable>,
    ) -> Result<usize, QueuePolicy> {
        let (max, policy) = (self.queue_bytes_max(), self.config.queue_policy);
        let others = self.committed() + size;
        let replaced = |droppable: &Droppable| key.map_or(0, |key| droppable.weight_of(key));
        let total = |droppable: &Droppable| others + droppable.weight() - replaced(droppable);
        let needed = droppable.as_deref().map_or(others, total);
        if needed <= max {
            return Ok(0);
        }
        if is_urgent {
            // They have some room of their own; more than that only the application can ask for.
            let fits = needed <= max.saturating_add(CONTROL_QUEUE_BYTES);
            return if fits { Ok(0) } else { Err(QueuePolicy::Close) };
        }
        if policy == QueuePolicy::DropOldest
            && let Some(droppable) = droppable
            && others + droppable.fixed_weight() <= max
        {
            let mut dropped = 0;
            while total(droppable) > max {
                match droppable.drop_oldest(&self.local.pool) {
                    0 => break,
                    frames => dropped += frames,
                }
            }
            return Ok(dropped);
        }
        // Without one of its fragments, a message would arrive with a hole.
        let is_begun = head.msg_type == MsgType::Continuation;
        let closes = is_begun || policy == QueuePolicy::Close;
        Err(if closes { QueuePolicy::Close } else { QueuePolicy::DropNewest })
    }

    /// Whether a data frame waits apart, rather than at the end of the queue.
    fn waits(
        &self,
        head: FrameHead,
        size: usize,
        key: Option<u64>,
        droppable: Option<&Droppable>,
    ) -> bool {
        if droppable.is_some_and(Droppable::has_frames) {
            return true;
        }
        // A message is in one place: this one has begun in the queue, or it would be there.
        if head.msg_type == MsgType::Continuation {
            return false;
        }
        let is_much = self.committed() + size > commit_bytes_max(&self.config);
        match key {
            Some(_) => is_much || self.in_flight.get() > 0,
            None => is_much && self.config.queue_policy == QueuePolicy::DropOldest,
        }
    }

    #[cold]
    fn queue_full(&self, policy: QueuePolicy) -> SendStatus {
        if policy != QueuePolicy::Close {
            self.local.counters.frames_dropped.increment();
            return SendStatus::Dropped;
        }
        self.close_as_full();
        SendStatus::Closed
    }

    /// Ends the connection as one whose queue is full, unless it is ending already.
    #[cold]
    pub(crate) fn close_as_full(&self) {
        if !self.conversation.borrow().may_send() {
            return;
        }
        let limit = self.config.queue_bytes_max;
        log_limited!(warn, self.local, LogLine::QueueFull, peer = self.peer.logged(), limit);
        self.fail(DisconnectCause::QueueFull, CloseCode::POLICY_VIOLATION, "send queue full");
    }
}

/// Unsent bytes up to which frames are appended to the queue, whatever they are: as many as are no
/// reason to pause, until the socket was offered what is queued and has refused some.
pub(super) fn append_max(config: &Config, soft: usize, is_offered: bool) -> u32 {
    let hard = hard_max(config);
    u32::try_from(if is_offered { hard } else { hard.min(soft) }).unwrap_or(u32::MAX)
}

/// Unsent bytes up to which frames are appended to the queue of a peer that does not take them.
fn hard_max(config: &Config) -> usize {
    match config.queue_policy {
        QueuePolicy::DropOldest => commit_bytes_max(config),
        QueuePolicy::Close | QueuePolicy::DropNewest => config.queue_bytes_max,
    }
}

/// Bytes that are as good as on their way, where frames may be taken back: the more, the fewer
/// sends; the fewer, the newer what a slow peer gets. A small queue is not to be full of them.
pub(super) fn commit_bytes_max(config: &Config) -> usize {
    COMMIT_BYTES_MAX.min(config.queue_bytes_max / 4)
}

const COMMIT_BYTES_MAX: usize = 64 * 1024;
/// Queued bytes that control frames may have beyond the limit of the queue.
const CONTROL_QUEUE_BYTES: usize = 64 * 1024;

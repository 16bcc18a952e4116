//! Publications of topics in the queue of a connection.
//!
//! They never meet the policy of the queue: where there is no room, the caller keeps them and has a
//! policy of its own. What is too much is judged by what the socket has refused.

use super::Session;
use super::conflation::Droppable;
use super::limit::{append_max, commit_bytes_max};
use super::payload::Publication;
use crate::local::Publications;
use crate::prepared::Prepared;
use crate::ring::Segment;
use crate::status::DisconnectCause;
use bytes::Bytes;
use picows_uring_proto::{CloseCode, FRAME_HEADER_BYTES_MAX, MsgType};

/// The fate of publications that were to be queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handed {
    Queued,
    /// Not now: the socket has refused some of what was queued, or a message in fragments or a frame in
    /// pieces is under way.
    NoRoom,
    /// Nothing is sent any more.
    Ended,
}

/// Counts of a run of encoded messages.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RunCounts {
    pub(crate) frames: usize,
    /// Those of them that are text.
    pub(crate) texts: usize,
    /// Bytes of their payloads.
    pub(crate) payload_bytes: usize,
}

impl Session {
    /// Whether it sends messages as others do, so that many are one run of bytes for all.
    pub(crate) fn takes_runs(&self) -> bool {
        !self.is_client && !self.is_compressing()
    }

    /// Queues whole messages that are encoded, by reference, if no more than `max` bytes are unsent
    /// then.
    pub(crate) fn queue_run(&self, run: &Bytes, counts: RunCounts, max: usize) -> Handed {
        let handed = self.has_room(run.len(), max);
        if handed == Handed::Queued {
            let segment = Segment::Common { bytes: run.clone(), is_counted: false };
            self.open_queue().push(segment);
            let (counters, binary) = (&self.local.counters, counts.frames - counts.texts);
            counters.sent.add(MsgType::Text, counts.texts as u64);
            counters.sent.add(MsgType::Binary, binary as u64);
            counters.payload_sent.add(counts.payload_bytes as u64);
            self.queued_frame(self.committed());
        }
        handed
    }

    /// Queues a message, compressed where that was agreed on.
    pub(crate) fn queue_publication(&self, message: &Prepared, max: usize) -> Handed {
        let payload = Publication(message);
        let handed = self.room_for(message, max);
        if handed != Handed::Queued {
            return handed;
        }
        let head = message.head();
        if !self.has_memory_for(&payload) {
            return Handed::Ended;
        }
        if !self.append_frame(head, payload) {
            self.out_of_memory();
            return Handed::Ended;
        }
        self.conversation.sender_mut().queued(head);
        self.count_sent(head.msg_type, message.text().len());
        self.queued_frame(self.committed());
        Handed::Queued
    }

    /// Whether a message would be queued.
    pub(crate) fn room_for(&self, message: &Prepared, max: usize) -> Handed {
        self.has_room(FRAME_HEADER_BYTES_MAX + message.text().len(), max)
    }

    fn has_room(&self, len: usize, max: usize) -> Handed {
        let may_send_message = self.conversation.sender().may_send_message();
        if !may_send_message {
            let may_send = self.conversation.borrow().may_send();
            return if may_send { Handed::NoRoom } else { Handed::Ended };
        }
        // In the middle of a frame, or in front of frames that would be overtaken.
        if self.is_writing() || self.droppable.ask(Droppable::has_frames) == Some(true) {
            return Handed::NoRoom;
        }
        // Alone, it says nothing of the peer, however long it is.
        let fits = |max: usize| {
            let committed = self.committed();
            committed == 0 || committed + len <= max
        };
        if fits(max) {
            return Handed::Queued;
        }
        self.offer();
        if !self.conversation.borrow().may_send() {
            return Handed::Ended;
        }
        // As much again, while the kernel has not seen what it was given.
        let is_fine = fits(max) || (!self.is_tried() && fits(max.saturating_mul(2)));
        if is_fine { Handed::Queued } else { Handed::NoRoom }
    }

    /// Unsent bytes up to which publications that may be dropped or replaced are queued.
    pub(crate) fn droppable_publications_max(&self) -> usize {
        commit_bytes_max(&self.config)
    }

    /// The connection has subscriptions, or none any more.
    pub(crate) fn set_subscribed(&self, is_subscribed: bool) {
        if self.rare_state().is_subscribed.replace(is_subscribed) != is_subscribed {
            self.renew_append_max();
        }
    }

    /// Whether it has subscriptions: then no frame takes the short way, as publications may have to
    /// go before it.
    pub(super) fn is_subscribed(&self) -> bool {
        self.rare_state.get().is_some_and(|it| it.is_subscribed.get())
    }

    /// Whether subscriptions are all that keeps a frame, with which `buffered` bytes would be unsent,
    /// from being appended.
    #[cold]
    pub(super) fn appends_beyond(&self, buffered: usize) -> bool {
        let is_plain = !self.is_compressing() && !self.is_writing();
        let max = append_max(&self.config, self.high_watermark(), self.is_offered.get());
        self.is_subscribed()
            && is_plain
            && self.droppable.ask(|_| ()).is_none()
            && buffered <= max as usize
    }

    /// Some of its subscriptions hold publications back, or may.
    pub(crate) fn set_holds_publications(&self, holds: bool) {
        self.holds_publications.set(holds);
    }

    /// Whether subscriptions hold publications back.
    #[inline]
    pub(crate) fn holds_publications(&self) -> bool {
        self.holds_publications.get()
    }

    /// Whether publications are held back that could be queued now: nothing else will say so.
    pub(crate) fn may_refill(&self) -> bool {
        self.holds_publications()
            && !self.is_sending()
            && self.queued() == 0
            && !self.is_writing()
            && self.conversation.sender().may_send_message()
    }

    /// Queues publications that were made on this thread before what is sent next.
    #[inline]
    pub(crate) fn catch_up(&self) {
        if self.local.publications.get() != Publications::None {
            self.catch_up_with_topics();
        }
    }

    #[cold]
    fn catch_up_with_topics(&self) {
        if self.is_subscribed()
            && let Some(topics) = self.local.topics()
        {
            topics.catch_up(&self.local, self.token);
        }
    }

    /// Queues what was held back, when nothing is in flight.
    #[inline]
    pub(crate) fn refill(&self) {
        if self.holds_publications()
            && let Some(topics) = self.local.topics()
        {
            // Those that hold some back behind this set it again; those that have ended do not.
            self.set_holds_publications(false);
            topics.refill(self.token);
        }
    }

    /// The connection has ended.
    pub(super) fn end_subscriptions(&self) {
        let is_subscribed = self.rare_state.get().is_some_and(|it| it.is_subscribed.take());
        if is_subscribed && let Some(topics) = self.local.topics() {
            topics.end(self.token);
        }
    }

    /// Ends the connection: it is too slow for a topic, or publications of it are missing.
    #[cold]
    pub(crate) fn close_for_topic(&self, cause: DisconnectCause, reason: &str) {
        self.fail(cause, CloseCode::TRY_AGAIN_LATER, reason);
    }
}

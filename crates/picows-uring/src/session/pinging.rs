//! The ping that a listener is asked for: whether it was queued, and what is sent in its place.

use super::Session;
use super::conflation::Droppable;
use picows_uring_proto::Frame;

/// The way in which the last ping was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Ping {
    /// By the listener, or none was.
    #[default]
    OfListener,
    /// The listener is being asked for one: what it sends is queued even where other frames are not,
    /// or the peer would be expected to answer what it was never sent.
    Asked,
    /// The listener is being asked, and has queued something.
    Queued,
    /// By a PING with a number, as the listener queued nothing: RFC 6455 §5.4 lets it stand between
    /// the fragments of a message, where another message is refused.
    Replaced,
}

impl Session {
    /// The listener is asked for a ping.
    pub(crate) fn begin_ping(&self) {
        self.ping.set(Ping::Asked);
        // So that the next frame takes the way on which it is noticed.
        self.append_max.set(0);
    }

    /// The listener was asked for a ping. Returns whether the peer has something to answer, which is
    /// a PING if the listener has queued nothing.
    pub(crate) fn end_ping(&self) -> bool {
        let is_queued = self.ping.replace(Ping::OfListener) == Ping::Queued;
        self.set_append_max(self.droppable.ask(Droppable::len).is_some());
        if is_queued || !self.conversation.borrow().may_send() {
            return is_queued;
        }
        self.ping.set(Ping::Replaced);
        self.send_auto_ping().is_queued()
    }

    /// A frame was queued.
    pub(super) fn note_ping(&self) {
        if self.ping.get() == Ping::Asked {
            self.ping.set(Ping::Queued);
        }
    }

    /// Whether the listener is being asked for a ping.
    pub(super) fn is_pinging(&self) -> bool {
        matches!(self.ping.get(), Ping::Asked | Ping::Queued)
    }

    /// Whether `frame` answers the ping that was sent in the place of the listener's.
    pub(crate) fn is_pong_of_ours(&self, frame: &Frame<'_>) -> bool {
        self.ping.get() == Ping::Replaced && self.is_auto_pong(frame)
    }
}

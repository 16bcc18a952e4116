//! The sending half of the endpoint, in the cell that handles and worker share.
//!
//! One borrow reaches the order of our frames and the conversation they depend on. As with every
//! `StateCell`, none lasts while a callback runs.

use crate::foreign::{StateCell, StateMut, StateRef};
use picows_uring_proto::{Conversation, Sender};

/// A [`Sender`], borrowed as such to queue frames, and as its [`Conversation`] elsewhere.
#[derive(Debug)]
pub(crate) struct ConversationCell(StateCell<Sender>);

impl ConversationCell {
    pub(super) const fn new(sender: Sender) -> Self {
        Self(StateCell::new(sender))
    }

    /// Phase, close handshake and deadline.
    #[inline]
    #[track_caller]
    pub(crate) fn borrow(&self) -> StateRef<'_, Conversation> {
        self.0.borrow().map(Sender::conversation)
    }

    /// The same, to report events to it.
    #[inline]
    #[track_caller]
    pub(crate) fn borrow_mut(&self) -> StateMut<'_, Conversation> {
        self.0.borrow_mut().map(Sender::conversation_mut)
    }

    /// Which frame may be sent.
    #[inline]
    #[track_caller]
    pub(crate) fn sender(&self) -> StateRef<'_, Sender> {
        self.0.borrow()
    }

    /// The same, to record a frame that is queued.
    #[inline]
    #[track_caller]
    pub(crate) fn sender_mut(&self) -> StateMut<'_, Sender> {
        self.0.borrow_mut()
    }
}

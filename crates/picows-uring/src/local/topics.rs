//! The seam to the topics of a worker: they know its connections, and are above them.

use super::Local;
use crate::ring::Token;
use picows_uring_proto::Tick;
use std::any::Any;
use std::fmt;
use std::rc::Rc;

/// Publications that wait for the subscriptions of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Publications {
    None,
    /// They wait for more of their topics; a timer of the worker is set.
    Lingering,
    /// They are for the next turn, or may be.
    Due,
}

/// The subscriptions of a worker; there is one with the first of them.
pub(crate) trait TopicService: fmt::Debug {
    /// Delivers what waits, as much as fits in a turn. Returns when the first publication is due that
    /// lingers.
    fn serve(&self, local: &Local) -> Option<Tick>;
    /// Delivers what waits for one connection: something else is about to be sent there.
    fn catch_up(&self, local: &Local, token: Token);
    /// Queues what subscriptions of a connection hold back, as much as there is room for.
    fn refill(&self, token: Token);
    /// A connection has ended.
    fn end(&self, token: Token);
    /// The worker has ended.
    fn close(&self);
    /// Itself, for those that know its type.
    fn as_any(self: Rc<Self>) -> Rc<dyn Any>;
}

impl Local {
    /// The subscriptions of the worker, if it has had any.
    pub(crate) fn topics(&self) -> Option<&Rc<dyn TopicService>> {
        self.topics.get()
    }

    /// Publications wait for this worker.
    pub(crate) fn note_publications(&self) {
        self.publications.set(Publications::Due);
    }
}

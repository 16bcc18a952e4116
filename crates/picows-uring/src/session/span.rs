//! Span of the connection in the log, for as long as it is handled.

use super::Session;
use crate::foreign::log::{ConnectionSpan, wants_spans};
use std::net::SocketAddr;
use std::rc::Rc;

/// Inside the span of a connection until it is dropped.
#[derive(Debug)]
pub(crate) struct InSpan(Rc<Session>);

impl Drop for InSpan {
    fn drop(&mut self) {
        self.0.span().exit();
    }
}

impl Session {
    /// Enters the span of the connection, if a subscriber may want it.
    #[inline(always)] // A comparison, mostly.
    pub(crate) fn enter_span(self: &Rc<Self>) -> Option<InSpan> {
        if wants_spans() { Some(self.enter_span_now()) } else { None }
    }

    #[cold]
    #[inline(never)]
    fn enter_span_now(self: &Rc<Self>) -> InSpan {
        self.span().enter();
        InSpan(Rc::clone(self))
    }

    fn span(&self) -> &ConnectionSpan {
        let rare_state = self.rare_state();
        if rare_state.span.get().is_none() {
            // Outside of the cell: the subscriber may come back here.
            let made = ConnectionSpan::new(self.id(), self.peer.get());
            let _ = rare_state.span.set(made);
        }
        rare_state.span.get_or_init(|| ConnectionSpan::new(self.id(), self.peer.get()))
    }

    /// A proxy has named the client.
    pub(crate) fn name_peer(&self, client: SocketAddr) {
        self.peer.set(client);
        if let Some(span) = self.rare_state.get().and_then(|it| it.span.get()) {
            span.record_peer(client);
        }
    }
}

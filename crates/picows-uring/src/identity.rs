//! Identity of a connection in this process: the same for all of its handles.

use crate::ring::Token;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

/// Names a connection, among all that this process has and had: for logs, and as a key. Its text has the
/// form `worker-slot-generation` and means nothing else.
///
/// ```
/// use picows_uring::{ConnectionId, Frame, Listener, ListenerResult, Transport};
/// use std::cell::RefCell;
/// use std::collections::HashMap;
/// use std::rc::Rc;
///
/// /// Remembers the name that each connection has sent.
/// struct Names(Rc<RefCell<HashMap<ConnectionId, String>>>);
///
/// impl Listener for Names {
///     fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
///         self.0.borrow_mut().insert(transport.id(), frame.text()?.to_owned());
///         Ok(())
///     }
///
///     fn on_disconnected(&mut self, transport: &Transport) {
///         self.0.borrow_mut().remove(&transport.id());
///     }
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    worker: u32,
    slot: u32,
    generation: u32,
}

impl ConnectionId {
    /// The id of the connection that a worker calls `token`.
    pub(crate) fn new(worker: u32, token: Token) -> Self {
        Self { worker, slot: token.slot, generation: token.generation }
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.worker, self.slot, self.generation)
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnectionId({self})")
    }
}

/// A number that no other worker of this process has, of servers and of clients.
pub(crate) fn next_worker() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_by_worker_slot_and_generation() {
        let token = Token { slot: 7, generation: 2 };
        let id = ConnectionId::new(3, token);
        assert_eq!(
            (id.to_string(), format!("{id:?}")),
            ("3-7-2".into(), "ConnectionId(3-7-2)".into())
        );
        assert_eq!(id, ConnectionId::new(3, token));
        assert_ne!(id, ConnectionId::new(4, token));
        assert_ne!(id, ConnectionId::new(3, Token { slot: 8, ..token }));
        assert_ne!(id, ConnectionId::new(3, Token { generation: 3, ..token }));
        assert_ne!(next_worker(), next_worker());
    }
}

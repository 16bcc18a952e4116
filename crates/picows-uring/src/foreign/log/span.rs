//! Span of a connection: what is logged while the connection is handled has its id, lines of the
//! application included.
//!
//! It is made when a subscriber may want it, and costs a comparison otherwise.

use crate::foreign::{self, Foreign};
use std::fmt;
use std::net::SocketAddr;
use tracing::level_filters::LevelFilter;
use tracing::{Level, Span};

/// See the module.
pub(crate) struct ConnectionSpan(Foreign<Span>);

/// Whether spans may be wanted; the subscriber is not asked here.
#[inline(always)]
pub(crate) fn wants_spans() -> bool {
    Level::INFO <= LevelFilter::current()
}

impl ConnectionSpan {
    /// The span of a connection; a disabled one, if the subscriber does not want it, or panics.
    pub(crate) fn new(id: impl fmt::Display, peer: Option<SocketAddr>) -> Self {
        let peer = super::peer_field(peer);
        let make = || tracing::info_span!(parent: None, "connection", %id, peer);
        Self(Foreign::new(foreign::call(make).unwrap_or_else(|_| Span::none())))
    }

    /// What is logged from here on is inside, until [`exit`](Self::exit).
    pub(crate) fn enter(&self) {
        foreign::submit(|| {
            let _ = self.0.with_subscriber(|(id, subscriber)| subscriber.enter(id));
        });
    }

    /// The end of the innermost [`enter`](Self::enter).
    pub(crate) fn exit(&self) {
        foreign::submit(|| {
            let _ = self.0.with_subscriber(|(id, subscriber)| subscriber.exit(id));
        });
    }

    /// A proxy has named the client.
    pub(crate) fn record_peer(&self, client: SocketAddr) {
        foreign::submit(|| {
            self.0.record("peer", tracing::field::display(client));
        });
    }
}

impl fmt::Debug for ConnectionSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConnectionSpan")
    }
}

//! The header of the PROXY protocol in front of a connection: it names the client.
//!
//! It is awaited from proxies that are trusted, on addresses that are set up for it; TLS and HTTP come
//! behind it. What it may look like is decided in the protocol crate.

use super::{Connection, Stage};
use crate::foreign::log::{self, LogLine, log_limited};
use crate::session::Session;
use crate::status::DisconnectCause;
use crate::upgrade::SharedFactory;
use picows_uring_proto::{PROXY_HEADER_BYTES_MAX, ProxyHeader, ProxyHeaderError};
use std::io;

/// The stage of a connection whose proxy is about to name the client.
pub(super) struct Proxied {
    /// The pieces of the header so far.
    pub(super) collected: Vec<u8>,
    pub(super) factory: SharedFactory,
}

impl Connection {
    /// Bytes of the header arrived, perhaps with the client's behind it.
    pub(super) fn receive_proxy_header(&mut self, bytes: &mut [u8]) -> Option<usize> {
        let Stage::Proxied(proxied) = &mut self.stage else { return None };
        let before = proxied.collected.len();
        let parsed = if before == 0 {
            ProxyHeader::parse(bytes)
        } else {
            let room = PROXY_HEADER_BYTES_MAX.saturating_sub(before).min(bytes.len());
            proxied.collected.extend_from_slice(&bytes[..room]);
            ProxyHeader::parse(&proxied.collected)
        };
        match parsed {
            Ok(Some((header, used))) => {
                self.client_named(&header);
                self.receive_behind(bytes, used.saturating_sub(before))
            }
            Ok(None) if before == 0 => {
                proxied.collected.extend_from_slice(bytes);
                None
            }
            Ok(None) => None,
            Err(error) => {
                self.refuse_proxy_header(error);
                None
            }
        }
    }

    /// The client is known: its first bytes come next.
    fn client_named(&mut self, header: &ProxyHeader) {
        let session = self.transport.session();
        log::debug!(proxy = ?session.peer, client = ?header.source, "header of the PROXY protocol");
        if let Some(source) = header.source {
            session.name_peer(source);
        }
        let Stage::Proxied(proxied) = std::mem::replace(&mut self.stage, Stage::Discard(0)) else {
            return;
        };
        self.stage = Self::requests(self.transport.session(), proxied.factory);
        self.link.begin(self.transport.session());
    }

    /// Handles what follows the first `used` bytes, as TLS or HTTP.
    fn receive_behind(&mut self, bytes: &mut [u8], used: usize) -> Option<usize> {
        if used >= bytes.len() {
            return None;
        }
        let rest = &mut bytes[used..];
        #[cfg(feature = "_tls")]
        if self.link.is_secure() {
            return self.receive_secure(rest).map(|count| used + count);
        }
        self.receive_plain(rest).map(|count| used + count)
    }

    fn refuse_proxy_header(&self, error: ProxyHeaderError) {
        let session: &Session = self.session();
        log_limited!(warn, session.local, LogLine::ProxyHeader, peer = session.peer.logged(), %error);
        session.local.counters.protocol_errors.increment();
        session.set_cause(DisconnectCause::Io(io::ErrorKind::InvalidData));
        session.conversation.borrow_mut().end();
        session.mark_dirty();
    }
}

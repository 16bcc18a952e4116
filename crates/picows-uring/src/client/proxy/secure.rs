//! TLS to a proxy: its handshake, its records until the tunnel is open, and its hand-over to the worker.
//!
//! The worker opens and seals the records from then on (`session/secure.rs`).

use super::Route;
use super::fault::ProxyFault;
use super::stream::ProxyStream;
use crate::client::error::ConnectFault;
use crate::client::secure::shared_settings;
use crate::foreign::log::{LogLine, log_limited};
use crate::local;
use crate::session::Session;
use crate::tls::{Control, Handshake, HandshakeError, Opened, RecordError, Secure, Step};
use std::fmt;
use std::io;

/// The layer of TLS that ends at a proxy, around all that a connection sends and receives.
pub(crate) struct ProxyTls {
    /// The record layer, and the beginning of the next record; taken when the connection begins.
    open: Option<(Box<Secure>, Vec<u8>)>,
    /// The proxy without user and password, and the variable that named it, for errors.
    proxy: String,
    variable: Option<&'static str>,
}

impl ProxyTls {
    pub(super) fn new(records: Records, route: &Route<'_>) -> Box<Self> {
        let Records { secure, rest, .. } = records;
        let (proxy, variable) = (route.url.to_string(), route.variable);
        Box::new(Self { open: Some((secure, rest)), proxy, variable })
    }

    /// TLS to a proxy that was made elsewhere.
    #[cfg(test)]
    pub(crate) fn of_test(secure: Box<Secure>) -> Box<Self> {
        let (proxy, variable) = ("https://gate.test:443".to_owned(), None);
        Box::new(Self { open: Some((secure, Vec::new())), proxy, variable })
    }

    /// Hands the record layer to the session of the connection.
    pub(crate) fn begin(&mut self, session: &Session) {
        if let Some((secure, rest)) = self.open.take() {
            session.begin_outer(secure, &rest);
        }
    }

    /// The fault of a connection whose TLS to the proxy has failed.
    pub(crate) fn fault(&self, error: HandshakeError) -> ConnectFault {
        ConnectFault::Proxy {
            proxy: self.proxy.clone(),
            variable: self.variable,
            fault: error.into(),
        }
    }
}

impl fmt::Debug for ProxyTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyTls").field("proxy", &self.proxy).finish_non_exhaustive()
    }
}

/// Records of an open connection to a proxy.
pub(super) struct Records {
    secure: Box<Secure>,
    /// Received bytes of a record that is not whole.
    rest: Vec<u8>,
    /// The proxy sends no more data.
    is_ended: bool,
}

impl Records {
    /// Seals `bytes`, behind what is owed.
    pub(super) fn seal(&mut self, bytes: &[u8]) -> Result<Vec<u8>, ProxyFault> {
        let mut out = Vec::new();
        let sealed = self.secure.seal_owed(&mut out);
        sealed.and_then(|()| self.secure.seal_from(bytes, &mut out)).map_err(broken)?;
        Ok(out)
    }

    /// Opens all records that are whole with `bytes`, to the end of `plain`.
    pub(super) fn open(&mut self, bytes: &[u8], plain: &mut Vec<u8>) -> Result<(), ProxyFault> {
        self.rest.extend_from_slice(bytes);
        let mut start = 0;
        while !self.is_ended {
            match self.secure.open_to(&self.rest[start..], plain).map_err(broken)? {
                Opened::Incomplete { .. } => break,
                Opened::Data { consumed, .. } => start += consumed,
                Opened::Control { consumed, control } => {
                    start += consumed;
                    match control {
                        Control::CloseNotify => self.is_ended = true,
                        Control::Alert(alert) => {
                            return Err(HandshakeError::AlertReceived { alert }.into());
                        }
                        _ => {}
                    }
                }
            }
        }
        self.rest.drain(..start);
        Ok(())
    }

    /// Whether the proxy has ended its side of the stream.
    pub(super) fn is_ended(&self) -> bool {
        self.is_ended
    }
}

impl ProxyStream {
    /// Makes the handshake of TLS with the proxy of `route`.
    ///
    /// # Errors
    ///
    /// When its settings cannot be used, or the handshake fails.
    pub(super) async fn secure(&mut self, route: &Route<'_>) -> Result<(), ConnectFault> {
        let tls = match route.tls {
            Some(tls) => tls.clone(),
            None => shared_settings().await.map_err(|fault| route.dial_fault(fault))?,
        };
        let name = &route.url.host;
        if let Some(local) = local::current().filter(|_| tls.accepts_invalid_certificates()) {
            log_limited!(warn, local, LogLine::AnyCertificate, name);
        }
        let handshake = Handshake::client(&tls, name);
        let handshake =
            handshake.map_err(|error| route.fault(ProxyFault::TlsSettings(error.into())))?;
        let records = self.shake_hands(handshake).await.map_err(|fault| route.fault(fault))?;
        self.records = Some(records);
        Ok(())
    }

    async fn shake_hands(&self, mut handshake: Handshake) -> Result<Records, ProxyFault> {
        let (mut input, mut out) = (Vec::new(), Vec::new());
        loop {
            out.clear();
            let step = handshake.advance(&mut input, &mut out);
            // An alert, too. A proxy that ends the connection may have said why before.
            let sent = self.send_raw(&out).await;
            if let Step::Done { consumed, secure, .. } = step? {
                sent.map_err(ProxyFault::Io)?;
                input.drain(..consumed);
                return Ok(Records { secure, rest: input, is_ended: false });
            }
            input.clear();
            match (self.receive_raw(&mut input).await, sent) {
                (Ok(()), _) if !input.is_empty() => {}
                (Err(error), _) | (Ok(()), Err(error)) => return Err(ProxyFault::Io(error)),
                (Ok(()), Ok(())) => {
                    let ended = "it ended the connection in the handshake of TLS";
                    let error = io::Error::new(io::ErrorKind::UnexpectedEof, ended);
                    return Err(ProxyFault::Io(error));
                }
            }
        }
    }
}

/// The proxy broke the protocol, or nothing can be sealed any more.
fn broken(error: RecordError) -> ProxyFault {
    HandshakeError::PeerMisbehaved(error.to_string()).into()
}

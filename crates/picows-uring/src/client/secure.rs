//! TLS of a client connection: its settings, and the beginning of its handshake.
//!
//! The worker makes the handshake (`connection/secure.rs`).

use super::connect::Connect;
use super::error::ConnectFault;
use super::target::{Endpoint, Target};
use crate::foreign::log::{LogLine, log_limited};
use crate::local::Local;
use crate::tls::{ClientTls, Handshake};
use std::{io, thread};
use tokio::sync::oneshot;

/// Options that were given for TLS.
#[derive(Clone, Debug, Default)]
pub(super) struct TlsOptions {
    tls: Option<ClientTls>,
    server_name: Option<String>,
}

/// A handshake of TLS that has begun.
#[derive(Debug)]
pub(crate) struct NewTls {
    pub(crate) handshake: Handshake,
    /// Its first bytes.
    pub(crate) hello: Vec<u8>,
}

impl TlsOptions {
    /// The server is another one now: its name was given for the first.
    pub(super) fn leave_origin(&mut self) {
        self.server_name = None;
    }

    /// Begins a handshake with the server of `target`.
    pub(super) fn begin(
        &self,
        local: &Local,
        tls: &ClientTls,
        target: &Target,
    ) -> Result<NewTls, ConnectFault> {
        let name = match (&self.server_name, &target.endpoint) {
            (Some(name), _) => name,
            (None, Endpoint::Host { host, .. }) => host.as_str(),
            (None, Endpoint::Unix(_)) => "localhost",
        };
        if tls.accepts_invalid_certificates() {
            log_limited!(warn, local, LogLine::AnyCertificate, name);
        }
        let mut handshake = Handshake::client(tls, name)?;
        let mut hello = Vec::new();
        handshake.advance(&mut [], &mut hello)?;
        Ok(NewTls { handshake, hello })
    }

    /// The settings, if they are there without reading the roots of the system.
    pub(super) fn ready(&self) -> Option<Result<ClientTls, ConnectFault>> {
        match &self.tls {
            Some(tls) => Some(Ok(tls.clone())),
            None => ClientTls::is_shared_ready().then(|| Ok(ClientTls::shared()?)),
        }
    }

    /// The settings; the roots of the system are read by another thread.
    pub(super) async fn settings(&self) -> Result<ClientTls, ConnectFault> {
        match self.ready() {
            Some(ready) => ready,
            None => shared_settings().await,
        }
    }
}

/// The settings for all that have none, with the roots of the system, which another thread reads.
pub(super) async fn shared_settings() -> Result<ClientTls, ConnectFault> {
    if ClientTls::is_shared_ready() {
        return Ok(ClientTls::shared()?);
    }
    let (report, loaded) = oneshot::channel();
    // The caller may have given up meanwhile; the roots are kept for the next.
    let load = move || drop(report.send(ClientTls::shared()));
    thread::Builder::new()
        .name("picows-roots".to_owned())
        .spawn(load)
        .map_err(ConnectFault::Socket)?;
    let loaded = loaded.await.map_err(|error| ConnectFault::Socket(io::Error::other(error)))?;
    Ok(loaded?)
}

impl Connect {
    /// Settings of TLS for `wss://`: roots, own certificate, pins. One of them serves many connections, which
    /// then resume each other's sessions. Default: one for the process, with the roots of the system, which
    /// the first connection reads.
    pub fn tls(mut self, tls: &ClientTls) -> Self {
        self.tls.tls = Some(tls.clone());
        self
    }

    /// The name that the certificate of the server has to have, and that it is asked for. Default: the host
    /// of the URL. Does not follow redirects to another origin.
    pub fn tls_server_name(mut self, name: impl Into<String>) -> Self {
        self.tls.server_name = Some(name.into());
        self
    }
}

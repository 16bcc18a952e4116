//! Notes of a handshake step: what code that rustls calls has seen, and rustls does not hand on.
//!
//! The errors of rustls have no place for more, and its choice of an alert depends on them; its unbuffered
//! connections do not return the name in a hello. That code runs inside of the step, on its thread.

use std::cell::RefCell;
use std::sync::Arc;

use rustls::KeyLog;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::fingerprint::Fingerprint;
use crate::secret::Secret;
use crate::text::Names;

/// Facts about a certificate that was refused.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rejection {
    /// Names of the peer's own certificate.
    pub(crate) own: Names,
    /// Issuer of the last certificate of its chain.
    pub(crate) last_issuer: String,
    /// Which roots were used.
    pub(crate) roots: String,
    /// The fingerprint, if it is none of the pinned ones.
    pub(crate) not_pinned: Option<Fingerprint>,
}

/// Notes of a step.
#[derive(Default)]
pub(crate) struct Notes {
    pub(crate) rejection: Option<Rejection>,
    /// The name of the server in the client's hello.
    pub(crate) server_name: Option<Arc<str>>,
    /// The secret that the keys of the client come from, in TLS 1.3.
    pub(crate) client_secret: Option<Secret>,
    /// That of the server.
    pub(crate) server_secret: Option<Secret>,
}

impl Notes {
    /// Keeps what a later step has noted.
    pub(crate) fn absorb(&mut self, later: Self) {
        self.server_name = later.server_name.or(self.server_name.take());
        self.client_secret = later.client_secret.or(self.client_secret.take());
        self.server_secret = later.server_secret.or(self.server_secret.take());
    }
}

thread_local! {
    static NOTES: RefCell<Notes> = RefCell::default();
}

/// Takes what was noted since the last call.
pub(crate) fn take() -> Notes {
    NOTES.with(RefCell::take)
}

/// Notes why a certificate was refused.
pub(crate) fn reject(rejection: Rejection) {
    NOTES.with(|notes| notes.borrow_mut().rejection = Some(rejection));
}

/// A choice of certificates that notes the name in the hello.
#[derive(Debug)]
pub(crate) struct Noting(pub(crate) Arc<dyn ResolvesServerCert>);

impl ResolvesServerCert for Noting {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(Arc::from);
        NOTES.with(|notes| notes.borrow_mut().server_name = name);
        self.0.resolve(hello)
    }

    fn only_raw_public_keys(&self) -> bool {
        self.0.only_raw_public_keys()
    }
}

/// A key log that notes the secrets of a connection, beside the log that there is.
#[derive(Debug)]
pub(crate) struct NotingSecrets(pub(crate) Arc<dyn KeyLog>);

impl KeyLog for NotingSecrets {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let noted = Secret::new(secret);
        NOTES.with(|notes| match label {
            CLIENT_SECRET => notes.borrow_mut().client_secret = noted,
            SERVER_SECRET => notes.borrow_mut().server_secret = noted,
            _ => {}
        });
        if self.0.will_log(label) {
            self.0.log(label, client_random, secret);
        }
    }

    fn will_log(&self, label: &str) -> bool {
        matches!(label, CLIENT_SECRET | SERVER_SECRET) || self.0.will_log(label)
    }
}

const CLIENT_SECRET: &str = "CLIENT_TRAFFIC_SECRET_0";
const SERVER_SECRET: &str = "SERVER_TRAFFIC_SECRET_0";

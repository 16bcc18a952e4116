//! Settings of clients.

use std::path::PathBuf;
use std::sync::Arc;

use crate::certificate::Certificate;
use crate::error::TlsError;
use crate::fingerprint::Fingerprint;
use crate::info::TlsVersion;
use crate::provider::Provider;

/// Settings of clients: roots, own certificate, sessions to resume. One serves many connections, as it
/// holds roots and sessions. A handle: clones share everything, and may be in any thread.
#[derive(Clone)]
pub struct ClientTls {
    inner: Arc<Inner>,
}

/// What all clones share.
struct Inner {}

/// Settings of clients that are not complete yet.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct ClientTlsBuilder {
    native_roots: bool,
    webpki_roots: bool,
    roots: Vec<PathBuf>,
    certificate: Option<Certificate>,
    pins: Vec<Fingerprint>,
    accept_invalid: bool,
    resumption: Option<usize>,
    key_log: Option<PathBuf>,
    min_version: Option<TlsVersion>,
    provider: Option<Provider>,
}

impl ClientTls {
    /// Begins settings.
    pub fn builder() -> ClientTlsBuilder {
        ClientTlsBuilder::default()
    }

    /// Returns the settings that the process shares where none are given: the system's roots, 256 sessions.
    ///
    /// The first call reads the roots, which takes up to hundreds of milliseconds: not for a thread that
    /// must not wait. See [`Self::is_shared_ready`].
    pub fn shared() -> Result<Self, TlsError> {
        Self::builder().build()
    }

    /// Returns whether [`Self::shared`] returns at once.
    pub fn is_shared_ready() -> bool {
        false
    }

    /// Returns whether any certificate is accepted: worth a warning for each connection.
    pub fn accepts_invalid_certificates(&self) -> bool {
        let _ = &self.inner;
        false
    }
}

impl std::fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientTls").finish_non_exhaustive()
    }
}

impl ClientTlsBuilder {
    /// Trusts the system's roots (SSL_CERT_FILE and SSL_CERT_DIR are honoured). The default if no others are
    /// named. They are read once in a process.
    pub fn native_roots(mut self) -> Self {
        self.native_roots = true;
        self
    }

    /// Trusts the roots of Mozilla that are built in.
    #[cfg(feature = "webpki-roots")]
    pub fn webpki_roots(mut self) -> Self {
        self.webpki_roots = true;
        self
    }

    /// Trusts the certificates in a file (PEM), beside the others that are named or alone.
    pub fn roots(mut self, file: impl Into<PathBuf>) -> Self {
        self.roots.push(file.into());
        self
    }

    /// Sets the certificate for servers that ask for one.
    pub fn certificate(mut self, certificate: Certificate) -> Self {
        self.certificate = Some(certificate);
        self
    }

    /// Accepts the server's certificate if it has this fingerprint, or another one that is pinned. Roots,
    /// names and dates do not count then.
    pub fn pin(mut self, fingerprint: Fingerprint) -> Self {
        self.pins.push(fingerprint);
        self
    }

    /// Accepts any certificate, so that anyone on the way can read and change everything. Only that the
    /// server has the key of its certificate is checked.
    pub fn danger_accept_invalid_certificates(mut self) -> Self {
        self.accept_invalid = true;
        self
    }

    /// Sets how many sessions are kept to be resumed. 0 is none. Default: 256.
    pub fn resumption(mut self, sessions: usize) -> Self {
        self.resumption = Some(sessions);
        self
    }

    /// Writes the secrets of all connections to a file, for tools that read recordings. The environment
    /// variable SSLKEYLOGFILE is not read.
    pub fn key_log(mut self, file: impl Into<PathBuf>) -> Self {
        self.key_log = Some(file.into());
        self
    }

    /// Sets the lowest version that is accepted. Default: TLS 1.2.
    pub fn min_version(mut self, version: TlsVersion) -> Self {
        self.min_version = Some(version);
        self
    }

    /// Chooses the provider. Default: [`Provider::preferred`].
    pub fn provider(mut self, provider: Provider) -> Self {
        self.provider = Some(provider);
        self
    }

    /// Reads and checks everything.
    ///
    /// Reads files: not for a thread that must not wait for a disk.
    pub fn build(self) -> Result<ClientTls, TlsError> {
        Err(TlsError::NoNativeRoots { errors: String::new() })
    }
}

//! Settings of clients.

mod roots;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};

use crate::certificate::{Certificate, add_roots, read_roots};
use crate::error::TlsError;
use crate::fingerprint::Fingerprint;
use crate::info::TlsVersion;
use crate::key_log::KeyLog;
use crate::provider::Provider;
use crate::record::PLAINTEXT_BYTES_MAX;
use crate::server::{HTTP_1_1, checked_record_bytes, versions};
use crate::verify::{ServerVerifier, Trust};

/// Settings of clients: roots, own certificate, sessions to resume. One serves many connections, as it
/// holds roots and sessions. A handle: clones share everything, and may be in any thread.
///
/// ```no_run
/// use picows_uring_tls::ClientTls;
///
/// let tls = ClientTls::builder().native_roots().roots("company-ca.pem").tls13_only().build()?;
/// # Ok::<(), picows_uring_tls::TlsError>(())
/// ```
#[derive(Clone)]
pub struct ClientTls {
    inner: Arc<Inner>,
}

/// State that all clones share.
struct Inner {
    provider: Provider,
    config: Arc<ClientConfig>,
    accepts_anything: bool,
    /// Most plaintext in a record that is sent.
    record_bytes_max: usize,
}

/// Settings for callers that have none.
static SHARED: OnceLock<ClientTls> = OnceLock::new();

/// Settings of clients that are not complete yet.
///
/// ```
/// use picows_uring_tls::{ClientTls, TlsVersion};
///
/// let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
/// let roots = std::env::temp_dir().join(format!("roots-{}.pem", std::process::id()));
/// std::fs::write(&roots, made.cert.pem())?;
/// let tls = ClientTls::builder().roots(&roots).min_version(TlsVersion::Tls13).resumption(16).build()?;
/// assert!(!tls.accepts_invalid_certificates());
/// # std::fs::remove_file(&roots)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
    record_bytes_max: Option<usize>,
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
        if let Some(shared) = SHARED.get() {
            return Ok(shared.clone());
        }
        let made = Self::builder().build()?;
        Ok(SHARED.get_or_init(|| made).clone())
    }

    /// Takes settings of rustls as they are, but for the extraction of secrets, which is switched on.
    ///
    /// For what this interface does not have. Not covered by semver, as the type is that of another crate.
    pub fn from_rustls(mut config: Arc<ClientConfig>) -> Self {
        if !config.enable_secret_extraction {
            Arc::make_mut(&mut config).enable_secret_extraction = true;
        }
        let provider = Provider::preferred();
        let record_bytes_max = PLAINTEXT_BYTES_MAX;
        Self::new(Inner { provider, config, accepts_anything: false, record_bytes_max })
    }

    fn new(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    /// Returns whether [`Self::shared`] returns at once.
    pub fn is_shared_ready() -> bool {
        SHARED.get().is_some()
    }

    /// Returns whether any certificate is accepted: worth a warning for each connection.
    pub fn accepts_invalid_certificates(&self) -> bool {
        self.inner.accepts_anything
    }

    pub(crate) fn provider(&self) -> Provider {
        self.inner.provider
    }

    pub(crate) fn record_bytes_max(&self) -> usize {
        self.inner.record_bytes_max
    }

    pub(crate) fn config(&self) -> &Arc<ClientConfig> {
        &self.inner.config
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

    /// Sets how many bytes of data a record has at most, 512 to 16,384. Default: 16,384, and no more than a
    /// turn has queued.
    pub fn record_bytes_max(mut self, bytes: usize) -> Self {
        self.record_bytes_max = Some(bytes);
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

    /// Accepts TLS 1.3 and later only.
    pub fn tls13_only(self) -> Self {
        self.min_version(TlsVersion::Tls13)
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
        let provider = self.provider.unwrap_or_else(Provider::preferred);
        let crypto = provider.rustls().ok_or(TlsError::NoProvider { provider })?;
        let (trust, roots) = self.trust(&crypto)?;
        let verifier = ServerVerifier {
            trust,
            provider,
            algorithms: crypto.signature_verification_algorithms,
            roots,
        };
        let min_version = self.min_version.unwrap_or(TlsVersion::Tls12);
        let builder = ClientConfig::builder_with_provider(crypto.clone())
            .with_protocol_versions(versions(min_version))
            .map_err(|error| TlsError::Other(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match &self.certificate {
            None => builder.with_no_client_auth(),
            Some(certificate) => {
                let pair = certificate.load(&crypto)?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair)))
            }
        };
        // Some front ends choose HTTP/2 for a client that names nothing.
        config.alpn_protocols = vec![HTTP_1_1.to_vec()];
        config.enable_secret_extraction = true;
        config.resumption = match self.resumption.unwrap_or(SESSIONS) {
            0 => Resumption::disabled(),
            sessions => Resumption::in_memory_sessions(sessions),
        };
        if let Some(path) = &self.key_log {
            config.key_log = KeyLog::open(path)?;
        }
        Ok(ClientTls::new(Inner {
            provider,
            config: Arc::new(config),
            accepts_anything: self.accept_invalid,
            record_bytes_max: checked_record_bytes(self.record_bytes_max)?,
        }))
    }

    /// Returns what makes a certificate good, and its name for errors.
    fn trust(&self, crypto: &Arc<CryptoProvider>) -> Result<(Trust, String), TlsError> {
        if self.accept_invalid {
            if !self.pins.is_empty() {
                return Err(TlsError::Conflict(
                    "a pin is of no use where any certificate is accepted: leave one of them out",
                ));
            }
            return Ok((Trust::Anything, "none".into()));
        }
        if !self.pins.is_empty() {
            return Ok((Trust::Pins(self.pins.clone()), "pins".into()));
        }
        let mut store = RootCertStore::empty();
        let mut names = Vec::new();
        if self.native_roots || (!self.webpki_roots && self.roots.is_empty()) {
            store.extend(roots::native()?.roots.iter().cloned());
            names.push(format!("the system's, {}", store.len()));
        }
        #[cfg(feature = "webpki-roots")]
        if self.webpki_roots {
            store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
            names.push("those of Mozilla".to_owned());
        }
        for file in &self.roots {
            add_roots(&mut store, file, &read_roots(file)?)?;
            names.push(file.display().to_string());
        }
        let names = names.join(", ");
        let trust = Trust::roots(store, crypto)
            .map_err(|reason| TlsError::Roots { from: names.clone(), reason })?;
        Ok((trust, names))
    }
}

/// As many servers as most clients have. A session takes about 1 KiB.
const SESSIONS: usize = 256;

#[cfg(all(test, feature = "webpki-roots"))]
mod tests {
    use super::*;
    use crate::handshake::Handshake;

    #[test]
    fn roots_that_are_built_in_need_none_of_the_system() {
        let crypto = Provider::preferred().rustls().expect("a provider");
        let builder = ClientTls::builder().webpki_roots();
        let (_, names) = builder.trust(&crypto).expect("good roots");
        assert_eq!(names, "those of Mozilla");
        let tls = builder.build().expect("good settings");
        Handshake::client(&tls, "example.com").expect("a handshake begins");
    }
}

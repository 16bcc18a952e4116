//! Settings of servers, and their reload.

mod current;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rustls::ServerConfig;

use crate::certificate::{Certificate, Chooser, ClientCertificates, ReadCertificate};
use crate::error::TlsError;
use crate::info::TlsVersion;
use crate::key_log::KeyLog;
use crate::provider::Provider;
use crate::record::PLAINTEXT_BYTES_MAX;
use crate::server::current::{Rules, Tickets};

pub(crate) use current::{Current, HTTP_1_1, versions};

/// Settings of a server: certificates, client rules, tickets. A handle: clones share everything, and may
/// be in any thread.
///
/// ```no_run
/// use picows_uring_tls::{Certificate, ClientCertificates, ServerTls};
///
/// let tls = ServerTls::builder()
///     .certificate(Certificate::files("api.crt", "api.key"))
///     .certificate_for("*.example.com", Certificate::files("wild.crt", "wild.key"))
///     .client_certificates(ClientCertificates::optional("clients.pem"))
///     .build()?;
/// tls.reload()?; // The same files again, in any thread.
/// # Ok::<(), picows_uring_tls::TlsError>(())
/// ```
#[derive(Clone)]
pub struct ServerTls {
    inner: Arc<Inner>,
}

/// State that all clones share.
struct Inner {
    provider: Provider,
    /// Most plaintext in a record that is sent.
    record_bytes_max: usize,
    /// Sources of the next reload. Locked while one is under way, so that they are one after the other.
    sources: Mutex<Sources>,
    /// Settings of the next handshake. Locked for the time of a clone.
    current: RwLock<Arc<Current>>,
    generation: AtomicU64,
}

/// Sources of all settings, and the state that outlives a reload.
pub(crate) struct Sources {
    pub(crate) certificate: Option<Certificate>,
    pub(crate) names: Vec<(String, Certificate)>,
    pub(crate) chooser: Option<Chooser>,
    pub(crate) clients: Option<ClientCertificates>,
    pub(crate) clients_by_name: Vec<(String, ClientCertificates)>,
    pub(crate) key_log: Option<Arc<KeyLog>>,
    pub(crate) min_version: TlsVersion,
    /// Ticket keys of each set of client rules.
    pub(crate) tickets: Vec<(Rules, Tickets)>,
    /// Whether the settings come from rustls, and there is nothing to reload.
    pub(crate) is_foreign: bool,
}

/// Settings of a server that are not complete yet.
///
/// ```
/// use picows_uring_tls::{Certificate, ServerTls, TlsError};
///
/// let pair = |name: &str| {
///     let made = rcgen::generate_simple_self_signed([name.to_owned()])?;
///     Ok::<_, rcgen::Error>(Certificate::pem(made.cert.pem(), made.signing_key.serialize_pem()))
/// };
/// let tls = ServerTls::builder()
///     .certificate(pair("example.com")?)
///     .certificate_for("chat.example.com", pair("chat.example.com")?)
///     .tls13_only()
///     .build()?;
/// tls.reload()?; // The same, as they are no files.
/// assert!(ServerTls::builder().build().is_err(), "a server has a certificate");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct ServerTlsBuilder {
    certificate: Option<Certificate>,
    names: Vec<(String, Certificate)>,
    chooser: Option<Chooser>,
    record_bytes_max: Option<usize>,
    clients: Option<ClientCertificates>,
    clients_by_name: Vec<(String, ClientCertificates)>,
    key_log: Option<PathBuf>,
    min_version: Option<TlsVersion>,
    provider: Option<Provider>,
}

impl ServerTls {
    /// Begins settings.
    pub fn builder() -> ServerTlsBuilder {
        ServerTlsBuilder::default()
    }

    /// Takes settings of rustls as they are, but for the extraction of secrets, which is switched on.
    ///
    /// For what this interface does not have. Not covered by semver, as the type is that of another crate.
    pub fn from_rustls(config: Arc<ServerConfig>) -> Self {
        let sources = Sources {
            certificate: None,
            names: Vec::new(),
            chooser: None,
            clients: None,
            clients_by_name: Vec::new(),
            key_log: None,
            min_version: TlsVersion::Tls12,
            tickets: Vec::new(),
            is_foreign: true,
        };
        let current = Current::from_rustls(config);
        Self::new(Provider::preferred(), PLAINTEXT_BYTES_MAX, sources, current)
    }

    fn new(
        provider: Provider,
        record_bytes_max: usize,
        sources: Sources,
        current: Current,
    ) -> Self {
        let inner = Inner {
            provider,
            record_bytes_max,
            sources: Mutex::new(sources),
            current: RwLock::new(Arc::new(current)),
            generation: AtomicU64::new(0),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Reads the same files again. Open connections and handshakes under way keep what they began with, and
    /// tickets stay good as long as the client rules are the same. An error leaves everything as it was.
    ///
    /// Reads files: not for a thread that must not wait for a disk.
    pub fn reload(&self) -> Result<(), TlsError> {
        let mut sources = self.inner.sources.lock().unwrap_or_else(PoisonError::into_inner);
        self.install(&mut sources)
    }

    /// Replaces all certificates: the default, and those by name. Later reloads read the new ones. An error
    /// leaves everything as it was.
    pub fn replace(
        &self,
        certificate: Option<Certificate>,
        names: Vec<(String, Certificate)>,
    ) -> Result<(), TlsError> {
        let mut sources = self.inner.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let before = (
            std::mem::replace(&mut sources.certificate, certificate),
            std::mem::replace(&mut sources.names, names),
        );
        let installed = self.install(&mut sources);
        if installed.is_err() {
            (sources.certificate, sources.names) = before;
        }
        installed
    }

    fn install(&self, sources: &mut Sources) -> Result<(), TlsError> {
        if sources.is_foreign {
            return Err(TlsError::Conflict(
                "settings of rustls have no files to read: make new ones for a new server",
            ));
        }
        let current = Arc::new(Current::load(self.inner.provider, sources)?);
        *self.inner.current.write().unwrap_or_else(PoisonError::into_inner) = current;
        self.inner.generation.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Returns a number that grows with each successful [`Self::reload`] and [`Self::replace`].
    pub fn generation(&self) -> u64 {
        self.inner.generation.load(Ordering::Acquire)
    }

    /// Returns what a handshake that begins now goes by.
    pub(crate) fn current(&self) -> Arc<Current> {
        self.inner.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn provider(&self) -> Provider {
        self.inner.provider
    }

    pub(crate) fn record_bytes_max(&self) -> usize {
        self.inner.record_bytes_max
    }
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTls").field("generation", &self.generation()).finish_non_exhaustive()
    }
}

impl ServerTlsBuilder {
    /// Sets the certificate for clients that ask for no name, or for one that has no other.
    ///
    /// Without it such clients are refused (`unrecognized_name`).
    pub fn certificate(mut self, certificate: Certificate) -> Self {
        self.certificate = Some(certificate);
        self
    }

    /// Adds the certificate of a name, or of all names one label below it (`*.example.com`). An exact name
    /// goes before a wildcard.
    pub fn certificate_for(mut self, name: impl Into<String>, certificate: Certificate) -> Self {
        self.names.push((name.into(), certificate));
        self
    }

    /// Has `choose` choose the certificate, by the name that the client asks for, if it asks for one. Where
    /// it returns `None`, the certificates that were set here are chosen from.
    ///
    /// It is called once in each handshake, on the worker's thread, and must not wait: read certificates
    /// before ([`Certificate::read`]). Reloads do not change it. A panic of it ends the handshake.
    ///
    /// ```no_run
    /// use picows_uring_tls::{Certificate, ReadCertificate, ServerTls};
    /// use std::collections::HashMap;
    /// use std::sync::{Arc, RwLock};
    ///
    /// // Tenants come and go.
    /// let tenants: Arc<RwLock<HashMap<String, ReadCertificate>>> = Arc::default();
    /// let known = tenants.clone();
    /// let tls = ServerTls::builder()
    ///     .certificate(Certificate::files("default.crt", "default.key"))
    ///     .certificate_by(move |name| known.read().ok()?.get(name?).cloned())
    ///     .build()?;
    /// let new = Certificate::files("new.crt", "new.key").read()?;
    /// tenants.write().expect("no panic").insert("new.example.com".into(), new);
    /// # Ok::<(), picows_uring_tls::TlsError>(())
    /// ```
    pub fn certificate_by(
        mut self,
        choose: impl Fn(Option<&str>) -> Option<ReadCertificate> + Send + Sync + 'static,
    ) -> Self {
        self.chooser = Some(Chooser(Arc::new(choose)));
        self
    }

    /// Sets how many bytes of data a record has at most, 512 to 16,384: the peer can open the first part of
    /// a long message earlier, and both sides spend more time for each byte (4096: about 1.4 times).
    /// Default: 16,384, and no more than a turn has queued.
    pub fn record_bytes_max(mut self, bytes: usize) -> Self {
        self.record_bytes_max = Some(bytes);
        self
    }

    /// Asks clients for certificates. Without it they are not asked.
    pub fn client_certificates(mut self, clients: ClientCertificates) -> Self {
        self.clients = Some(clients);
        self
    }

    /// Asks clients of a name for certificates, by other rules than [`Self::client_certificates`]. The name
    /// is one of [`Self::certificate_for`]. A session of one set of rules is never resumed under another.
    pub fn client_certificates_for(
        mut self,
        name: impl Into<String>,
        clients: ClientCertificates,
    ) -> Self {
        self.clients_by_name.push((name.into(), clients));
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
    pub fn build(self) -> Result<ServerTls, TlsError> {
        let provider = self.provider.unwrap_or_else(Provider::preferred);
        let mut sources = Sources {
            certificate: self.certificate,
            names: self.names,
            chooser: self.chooser,
            clients: self.clients,
            clients_by_name: self.clients_by_name,
            key_log: self.key_log.as_deref().map(KeyLog::open).transpose()?,
            min_version: self.min_version.unwrap_or(TlsVersion::Tls12),
            tickets: Vec::new(),
            is_foreign: false,
        };
        let record_bytes_max = checked_record_bytes(self.record_bytes_max)?;
        let current = Current::load(provider, &mut sources)?;
        Ok(ServerTls::new(provider, record_bytes_max, sources, current))
    }
}

/// Returns how many bytes of data a record may have.
pub(crate) fn checked_record_bytes(wanted: Option<usize>) -> Result<usize, TlsError> {
    let bytes = wanted.unwrap_or(PLAINTEXT_BYTES_MAX);
    if (RECORD_BYTES_MIN..=PLAINTEXT_BYTES_MAX).contains(&bytes) {
        return Ok(bytes);
    }
    Err(TlsError::Conflict("record_bytes_max: use 512 to 16384 bytes"))
}

/// Shorter ones are mostly overhead.
const RECORD_BYTES_MIN: usize = 512;

//! Settings of servers, and their reload.

use std::path::PathBuf;
use std::sync::Arc;

use crate::certificate::{Certificate, ClientCertificates};
use crate::error::TlsError;
use crate::info::TlsVersion;
use crate::provider::Provider;

/// Settings of a server: certificates, client rules, tickets. A handle: clones share everything, and may
/// be in any thread.
#[derive(Clone)]
pub struct ServerTls {
    inner: Arc<Inner>,
}

/// What all clones share.
struct Inner {}

/// Settings of a server that are not complete yet.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct ServerTlsBuilder {
    certificate: Option<Certificate>,
    names: Vec<(String, Certificate)>,
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

    /// Reads the same files again. Open connections and handshakes under way keep what they began with, and
    /// tickets stay good as long as the client rules are the same. An error leaves everything as it was.
    ///
    /// Reads files: not for a thread that must not wait for a disk.
    pub fn reload(&self) -> Result<(), TlsError> {
        let _ = &self.inner;
        Err(TlsError::NoCertificate)
    }

    /// Replaces all certificates: the default, and those by name. Later reloads read the new ones. An error
    /// leaves everything as it was.
    pub fn replace(
        &self,
        certificate: Option<Certificate>,
        names: Vec<(String, Certificate)>,
    ) -> Result<(), TlsError> {
        let _ = (certificate, names);
        Err(TlsError::NoCertificate)
    }

    /// Returns a number that is another one after each successful [`Self::reload`] and [`Self::replace`].
    pub fn generation(&self) -> u64 {
        0
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

    /// Chooses the provider. Default: [`Provider::preferred`].
    pub fn provider(mut self, provider: Provider) -> Self {
        self.provider = Some(provider);
        self
    }

    /// Reads and checks everything.
    ///
    /// Reads files: not for a thread that must not wait for a disk.
    pub fn build(self) -> Result<ServerTls, TlsError> {
        Err(TlsError::NoCertificate)
    }
}

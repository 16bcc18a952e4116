//! Certificates with their keys, and the issuers that those of clients have to come from.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, Error, InconsistentKeys, RootCertStore};

use crate::error::TlsError;
use crate::pem;
use crate::provider::Provider;

/// A chain of certificates with its key: where it is, read when the settings are built, and read again
/// at each reload.
#[derive(Clone, Debug)]
pub struct Certificate {
    source: Source,
}

/// Places of a certificate and its key.
#[derive(Clone)]
enum Source {
    /// Two files.
    Files { certificate: PathBuf, key: PathBuf },
    /// Texts in memory.
    Pem { certificate: Vec<u8>, key: Vec<u8> },
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Files { certificate, key } => {
                write!(f, "Files({}, {})", certificate.display(), key.display())
            }
            // Not the key.
            Self::Pem { .. } => f.write_str("Pem"),
        }
    }
}

impl Certificate {
    /// Takes the files of a chain (its own certificate first) and of the key, as PEM. One file may be both.
    pub fn files(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self { source: Source::Files { certificate: certificate.into(), key: key.into() } }
    }

    /// Takes the chain and the key as PEM texts.
    pub fn pem(certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        Self { source: Source::Pem { certificate: certificate.into(), key: key.into() } }
    }

    /// Reads both halves now and checks that they fit, for [`certificate_by`]: a certificate that a program
    /// chooses for each client. It is not read again at reloads.
    ///
    /// Reads files: not for a thread that must not wait for a disk.
    ///
    /// [`certificate_by`]: crate::ServerTlsBuilder::certificate_by
    pub fn read(&self) -> Result<ReadCertificate, TlsError> {
        let provider = Provider::preferred();
        let crypto = provider.rustls().ok_or(TlsError::NoProvider { provider })?;
        self.load(&crypto).map(ReadCertificate)
    }

    /// Reads both halves and checks that they fit. Every error names both.
    pub(crate) fn load(&self, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, TlsError> {
        let (certificate, key) = self.places();
        self.load_pair(provider).map_err(|reason| TlsError::Pair { certificate, key, reason })
    }

    /// Returns where both halves are.
    fn places(&self) -> (String, String) {
        match &self.source {
            Source::Files { certificate, key } => {
                (certificate.display().to_string(), key.display().to_string())
            }
            Source::Pem { .. } => ("in memory".into(), "in memory".into()),
        }
    }

    fn load_pair(&self, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, String> {
        let (chain, key) = match &self.source {
            Source::Files { certificate, key } => {
                let read = |path: &PathBuf| {
                    let cure = "check permissions, and the folder that relative paths begin in";
                    fs::read(path).map_err(|error| {
                        format!("cannot read {}: {error} ({cure})", path.display())
                    })
                };
                (read(certificate)?, read(key)?)
            }
            Source::Pem { certificate, key } => (certificate.clone(), key.clone()),
        };
        let chain =
            pem::certificates(&chain).map_err(|reason| format!("the certificate: {reason}"))?;
        let key = pem::key(&key).map_err(|reason| format!("the key: {reason}"))?;
        if let Err(error) = ParsedCertificate::try_from(&chain[0]) {
            return Err(format!("the certificate cannot be parsed: {error}"));
        }
        match CertifiedKey::from_der(chain, key, provider) {
            Ok(pair) => Ok(Arc::new(pair)),
            Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => Err(
                "the key does not fit the certificate: one of the files is older than the other, or \
                 belongs to another pair"
                    .into(),
            ),
            Err(error) => Err(format!("the key cannot be used: {error}")),
        }
    }

    /// Checks that a certificate is for the name that it was given for, which may begin with `*.`.
    pub(crate) fn check_name(&self, pair: &CertifiedKey, name: &str) -> Result<(), TlsError> {
        let invalid = || TlsError::InvalidName { name: name.to_owned() };
        // A wildcard is good for every label in its place.
        let sample = match name.strip_prefix("*.") {
            Some(parent) => format!("any.{parent}"),
            None => name.to_owned(),
        };
        let sample = ServerName::try_from(sample).map_err(|_| invalid())?;
        let certificate = pair.end_entity_cert().and_then(ParsedCertificate::try_from);
        let certificate = certificate.map_err(|error| TlsError::Other(error.to_string()))?;
        let Err(error) = verify_server_name(&certificate, &sample) else {
            return Ok(());
        };
        let presented = match error {
            Error::InvalidCertificate(CertificateError::NotValidForNameContext {
                presented,
                ..
            }) => names(&presented).join(", "),
            error => error.to_string(),
        };
        let (certificate, _) = self.places();
        Err(TlsError::WrongName { certificate, name: name.to_owned(), presented })
    }
}

/// A certificate with its key, in memory. Clones share it.
#[derive(Clone)]
pub struct ReadCertificate(pub(crate) Arc<CertifiedKey>);

impl std::fmt::Debug for ReadCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the key.
        f.debug_struct("ReadCertificate").finish_non_exhaustive()
    }
}

/// Chooses a certificate by the name that a client asks for.
#[derive(Clone)]
pub(crate) struct Chooser(pub(crate) Arc<Choose>);

pub(crate) type Choose = dyn Fn(Option<&str>) -> Option<ReadCertificate> + Send + Sync;

impl std::fmt::Debug for Chooser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Chooser")
    }
}

/// Returns the names in a certificate as users write them: rustls has `DnsName("a")`.
pub(crate) fn names(presented: &[String]) -> Vec<String> {
    let bare = |name: &String| {
        let inner = name.split_once('(').map(|(_, inner)| inner.trim_end_matches(')'));
        inner.unwrap_or(name).trim_matches('"').to_owned()
    };
    presented.iter().map(bare).collect()
}

/// Demand of a server on its clients: certificates of these issuers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificates {
    pub(crate) file: PathBuf,
    pub(crate) is_required: bool,
}

impl ClientCertificates {
    /// Requires a certificate of one of the issuers in the file (PEM).
    pub fn required(file: impl Into<PathBuf>) -> Self {
        Self { file: file.into(), is_required: true }
    }

    /// Asks for a certificate of one of the issuers in the file (PEM), and goes on without.
    pub fn optional(file: impl Into<PathBuf>) -> Self {
        Self { file: file.into(), is_required: false }
    }
}

/// Reads root certificates from a file.
pub(crate) fn read_roots(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    pem::certificates(&pem::read(file)?)
        .map_err(|reason| TlsError::Roots { from: file.display().to_string(), reason })
}

/// Adds root certificates of a file to others.
pub(crate) fn add_roots(
    store: &mut RootCertStore,
    file: &Path,
    roots: &[CertificateDer<'static>],
) -> Result<(), TlsError> {
    for root in roots {
        store.add(root.clone()).map_err(|error| TlsError::Roots {
            from: file.display().to_string(),
            reason: format!("a certificate in it cannot be a root: {error}"),
        })?;
    }
    Ok(())
}

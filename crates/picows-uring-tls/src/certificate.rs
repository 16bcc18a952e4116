//! Certificates with their keys, and the certificates that clients have to come from.

use std::path::PathBuf;

/// A chain of certificates with its key: where it is, read when the settings are built, and read again
/// at each reload.
#[derive(Clone, Debug)]
pub struct Certificate {
    pub(crate) source: Source,
}

/// Where a certificate and its key are.
#[derive(Clone)]
pub(crate) enum Source {
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
}

/// What a server asks of its clients: certificates of these issuers.
#[derive(Clone, Debug)]
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

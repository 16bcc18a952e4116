//! PEM files: certificates and keys in them, and what they hold instead.

use std::fs;
use std::path::Path;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::TlsError;

/// Reads a file whole.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error| TlsError::Unreadable { path: path.to_owned(), error })
}

/// Returns all certificates in a text, or what is wrong.
pub(crate) fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => {
            let contents = contents(text);
            let cure = if contents.contains("KEY") { "; are the two files exchanged?" } else { "" };
            Err(format!("there is no certificate in it, but {contents}{cure}"))
        }
        Err(error) => Err(format!("it is damaged: {error}")),
    }
}

/// Returns the key in a text, or what is wrong.
pub(crate) fn key(text: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    let is_encrypted = |mark: &str| contains(text, mark.as_bytes());
    if is_encrypted("-----BEGIN ENCRYPTED PRIVATE KEY-----")
        || is_encrypted("Proc-Type: 4,ENCRYPTED")
    {
        return Err(
            "the key is encrypted: decrypt it first, as with `openssl pkey -in FILE`".into()
        );
    }
    match PrivateKeyDer::from_pem_slice(text) {
        Ok(key) => Ok(key),
        Err(rustls::pki_types::pem::Error::NoItemsFound) => {
            let contents = contents(text);
            let cure =
                if contents == "CERTIFICATE" { "; are the two files exchanged?" } else { "" };
            Err(format!("there is no private key in it, but {contents}{cure}"))
        }
        Err(error) => Err(format!("it is damaged: {error}")),
    }
}

/// Returns what a text holds: the labels of its PEM sections, or what else it seems to be.
fn contents(text: &[u8]) -> String {
    let lines = String::from_utf8_lossy(text);
    let mut labels: Vec<&str> = lines
        .lines()
        .filter_map(|line| line.trim().strip_prefix("-----BEGIN ")?.strip_suffix("-----"))
        .collect();
    labels.dedup();
    match text {
        _ if !labels.is_empty() => labels.join(", "),
        [] => "nothing: it is empty".into(),
        [0x30, ..] => "DER: convert it to PEM, as with `openssl x509 -inform der`".into(),
        _ => "a text that is not PEM".into(),
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

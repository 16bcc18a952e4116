//! The secret of one direction of a TLS 1.3 connection, which its keys come from, one after the other.
//!
//! rustls would do this as well, but keeps 760 bytes for each connection to be able to.

use rustls::Tls13CipherSuite;
use rustls::crypto::tls13::{HkdfExpander, OkmBlock};
use zeroize::Zeroizing;

/// A secret (RFC 8446 §7.1), as long as the hash of its suite.
pub(crate) struct Secret {
    bytes: Zeroizing<[u8; SECRET_BYTES_MAX]>,
    length: u8,
}

/// SHA-384.
const SECRET_BYTES_MAX: usize = 48;

impl Secret {
    /// Takes a secret, or nothing if it is longer than any.
    pub(crate) fn new(secret: &[u8]) -> Option<Self> {
        let mut bytes = Zeroizing::new([0; SECRET_BYTES_MAX]);
        bytes.get_mut(..secret.len())?.copy_from_slice(secret);
        Some(Self { bytes, length: u8::try_from(secret.len()).ok()? })
    }

    /// Goes on to the next secret (RFC 8446 §7.2) and writes the key and the IV that come from it (§7.3).
    pub(crate) fn update(
        &mut self,
        suite: &Tls13CipherSuite,
        key: &mut [u8],
        iv: &mut [u8; 12],
    ) -> Option<()> {
        let this = OkmBlock::new(self.bytes.get(..usize::from(self.length))?);
        let expander = suite.hkdf_provider.expander_for_okm(&this);
        let mut next = Zeroizing::new([0; SECRET_BYTES_MAX]);
        expand(&*expander, "traffic upd", next.get_mut(..usize::from(self.length))?)?;
        self.bytes = next;
        let this = OkmBlock::new(self.bytes.get(..usize::from(self.length))?);
        let expander = suite.hkdf_provider.expander_for_okm(&this);
        expand(&*expander, "key", key)?;
        expand(&*expander, "iv", iv)
    }
}

/// HKDF-Expand-Label without a context (RFC 8446 §7.1).
fn expand(expander: &dyn HkdfExpander, label: &str, output: &mut [u8]) -> Option<()> {
    let length = u16::try_from(output.len()).ok()?.to_be_bytes();
    let prefix = b"tls13 ";
    let label_length = [u8::try_from(prefix.len() + label.len()).ok()?];
    let info: [&[u8]; 5] = [&length, &label_length, prefix, label.as_bytes(), &[0]];
    expander.expand_slice(&info, output).ok()
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secret").finish_non_exhaustive()
    }
}

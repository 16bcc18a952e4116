//! Fingerprint of a certificate, for pins.

use std::fmt;
use std::str::FromStr;

/// SHA-256 of a certificate (DER), as `openssl x509 -fingerprint -sha256` prints it.
///
/// ```
/// use picows_uring_tls::Fingerprint;
///
/// let pin: Fingerprint = "AB:".repeat(32).trim_end_matches(':').parse()?;
/// assert_eq!(pin, Fingerprint::sha256([0xab; 32]));
/// # Ok::<(), picows_uring_tls::InvalidFingerprint>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Takes the digest as bytes.
    pub const fn sha256(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// Returns the digest.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// A text that is no fingerprint.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint is 64 hexadecimal digits, with or without colons")]
pub struct InvalidFingerprint(());

crate::debug::debug_with_text!(InvalidFingerprint);

impl FromStr for Fingerprint {
    type Err = InvalidFingerprint;

    /// Takes 64 hexadecimal digits, with colons between them or without.
    fn from_str(text: &str) -> Result<Self, InvalidFingerprint> {
        let mut digits = text.chars().filter(|&char| char != ':').map(|char| char.to_digit(16));
        let mut next = || digits.next().flatten().ok_or(InvalidFingerprint(()));
        let mut digest = [0; 32];
        for byte in &mut digest {
            // Two digits of four bits each fit into a byte.
            *byte = u8::try_from(next()? * 16 + next()?).map_err(|_| InvalidFingerprint(()))?;
        }
        if digits.next().is_some() { Err(InvalidFingerprint(())) } else { Ok(Self(digest)) }
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02X}", if index == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

//! Ciphers of records, by the providers, and the nonce and the count that go with a key.
//!
//! The providers' own interfaces are used directly, as those that rustls puts before them allocate.

use crate::error::RecordError;
use crate::provider::Provider;
use crate::record::{Form, TAG_BYTES};

/// An authenticated cipher with its key.
pub(crate) trait Aead {
    /// Opens `in_out`, which ends with the tag, in place. Returns the length of the plaintext.
    fn open(&self, nonce: [u8; 12], aad: &[u8], in_out: &mut [u8]) -> Option<usize>;

    /// Opens `sealed`, which ends with the tag, to `out`, which is shorter by the tag.
    fn open_to(&self, nonce: [u8; 12], aad: &[u8], sealed: &[u8], out: &mut [u8]) -> Option<()>;

    /// Seals `in_out` in place and writes the tag.
    fn seal(&self, nonce: [u8; 12], aad: &[u8], in_out: &mut [u8], tag: &mut [u8]) -> Option<()>;

    /// Seals `plaintext` and `extra` behind it to `out`, which has room for them and the tag.
    fn seal_to(
        &self,
        nonce: [u8; 12],
        aad: &[u8],
        plaintext: &[u8],
        extra: &[u8],
        out: &mut [u8],
    ) -> Option<()>;
}

/// Ciphers of the suites that are supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cipher {
    Aes128Gcm,
    Aes256Gcm,
    ChaCha20Poly1305,
}

impl Cipher {
    /// Returns the length of a key.
    pub(crate) const fn key_bytes(self) -> usize {
        match self {
            Self::Aes128Gcm => 16,
            Self::Aes256Gcm | Self::ChaCha20Poly1305 => 32,
        }
    }
}

/// A cipher with its key, of one of the providers.
pub(crate) enum Key {
    #[cfg(feature = "aws-lc")]
    AwsLc(aws_lc_rs::aead::LessSafeKey),
    /// Boxed, as it has the expanded key inside.
    #[cfg(feature = "ring")]
    Ring(Box<ring::aead::LessSafeKey>),
}

impl Key {
    /// Expands a key. The length of `key` has to be that of the cipher.
    pub(crate) fn new(provider: Provider, cipher: Cipher, key: &[u8]) -> Result<Self, RecordError> {
        match provider {
            #[cfg(feature = "aws-lc")]
            Provider::AwsLc => {
                use aws_lc_rs::aead;
                let algorithm = match cipher {
                    Cipher::Aes128Gcm => &aead::AES_128_GCM,
                    Cipher::Aes256Gcm => &aead::AES_256_GCM,
                    Cipher::ChaCha20Poly1305 => &aead::CHACHA20_POLY1305,
                };
                let key = aead::UnboundKey::new(algorithm, key);
                Ok(Self::AwsLc(aead::LessSafeKey::new(key.map_err(|_| RecordError::Broken)?)))
            }
            #[cfg(feature = "ring")]
            Provider::Ring => {
                use ring::aead;
                let algorithm = match cipher {
                    Cipher::Aes128Gcm => &aead::AES_128_GCM,
                    Cipher::Aes256Gcm => &aead::AES_256_GCM,
                    Cipher::ChaCha20Poly1305 => &aead::CHACHA20_POLY1305,
                };
                let key = aead::UnboundKey::new(algorithm, key);
                let key = aead::LessSafeKey::new(key.map_err(|_| RecordError::Broken)?);
                Ok(Self::Ring(Box::new(key)))
            }
            #[cfg(not(all(feature = "aws-lc", feature = "ring")))]
            _ => {
                let _ = (cipher, key);
                Err(RecordError::Broken)
            }
        }
    }

    fn aead(&self) -> &dyn Aead {
        match self {
            #[cfg(feature = "aws-lc")]
            Self::AwsLc(key) => key,
            #[cfg(feature = "ring")]
            Self::Ring(key) => &**key,
            #[cfg(not(any(feature = "aws-lc", feature = "ring")))]
            _ => unreachable!("no key without a provider"),
        }
    }
}

#[cfg(feature = "aws-lc")]
impl Aead for aws_lc_rs::aead::LessSafeKey {
    fn open(&self, nonce: [u8; 12], aad: &[u8], in_out: &mut [u8]) -> Option<usize> {
        use aws_lc_rs::aead::{Aad, Nonce};
        let nonce = Nonce::assume_unique_for_key(nonce);
        Some(self.open_in_place(nonce, Aad::from(aad), in_out).ok()?.len())
    }

    fn open_to(&self, nonce: [u8; 12], aad: &[u8], sealed: &[u8], out: &mut [u8]) -> Option<()> {
        use aws_lc_rs::aead::{Aad, Nonce};
        let nonce = Nonce::assume_unique_for_key(nonce);
        let (sealed, tag) = sealed.split_at_checked(sealed.len().checked_sub(TAG_BYTES)?)?;
        self.open_separate_gather(nonce, Aad::from(aad), sealed, tag, out).ok()
    }

    fn seal(&self, nonce: [u8; 12], aad: &[u8], in_out: &mut [u8], tag: &mut [u8]) -> Option<()> {
        use aws_lc_rs::aead::{Aad, Nonce};
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.seal_in_place_scatter(nonce, Aad::from(aad), in_out, &[], tag).ok()
    }

    fn seal_to(
        &self,
        nonce: [u8; 12],
        aad: &[u8],
        plaintext: &[u8],
        extra: &[u8],
        out: &mut [u8],
    ) -> Option<()> {
        use aws_lc_rs::aead::{Aad, Nonce};
        let nonce = Nonce::assume_unique_for_key(nonce);
        let (out, rest) = out.split_at_mut_checked(plaintext.len())?;
        self.seal_out_of_place_scatter(nonce, Aad::from(aad), plaintext, out, extra, rest).ok()
    }
}

#[cfg(feature = "ring")]
impl Aead for ring::aead::LessSafeKey {
    fn open(&self, nonce: [u8; 12], aad: &[u8], in_out: &mut [u8]) -> Option<usize> {
        use ring::aead::{Aad, Nonce};
        let nonce = Nonce::assume_unique_for_key(nonce);
        Some(self.open_in_place(nonce, Aad::from(aad), in_out).ok()?.len())
    }

    fn open_to(&self, nonce: [u8; 12], aad: &[u8], sealed: &[u8], out: &mut [u8]) -> Option<()> {
        use ring::aead::{Aad, Nonce, Tag};
        let nonce = Nonce::assume_unique_for_key(nonce);
        let (sealed, tag) = sealed.split_at_checked(sealed.len().checked_sub(TAG_BYTES)?)?;
        if out.len() != sealed.len() {
            return None;
        }
        out.copy_from_slice(sealed);
        let tag = Tag::try_from(tag).ok()?;
        self.open_in_place_separate_tag(nonce, Aad::from(aad), tag, out, 0..).ok().map(drop)
    }

    fn seal(&self, nonce: [u8; 12], aad: &[u8], in_out: &mut [u8], tag: &mut [u8]) -> Option<()> {
        use ring::aead::{Aad, Nonce};
        let nonce = Nonce::assume_unique_for_key(nonce);
        let sealed = self.seal_in_place_separate_tag(nonce, Aad::from(aad), in_out).ok()?;
        tag.copy_from_slice(sealed.as_ref());
        Some(())
    }

    fn seal_to(
        &self,
        nonce: [u8; 12],
        aad: &[u8],
        plaintext: &[u8],
        extra: &[u8],
        out: &mut [u8],
    ) -> Option<()> {
        let (in_out, tag) = out.split_at_mut_checked(plaintext.len() + extra.len())?;
        let (before, behind) = in_out.split_at_mut(plaintext.len());
        before.copy_from_slice(plaintext);
        behind.copy_from_slice(extra);
        self.seal(nonce, aad, in_out, tag)
    }
}

/// A key for one direction, with what makes its nonces and bounds its use.
pub(crate) struct RecordKey {
    key: Key,
    iv: [u8; 12],
    /// Number of the next record. Never wraps: `limit` is below the end.
    sequence: u64,
    /// Number of the first record that must not be sealed with the key, or opened.
    limit: u64,
}

impl RecordKey {
    /// Takes a key whose next record has the number `sequence`, and that seals or opens `records_max`
    /// altogether.
    pub(crate) fn new(key: Key, iv: [u8; 12], sequence: u64, records_max: u64) -> Self {
        Self { key, iv, sequence, limit: records_max.min(u64::MAX - 1) }
    }

    /// Returns the cipher.
    pub(crate) fn aead(&self) -> &dyn Aead {
        self.key.aead()
    }

    /// Returns the number of the next record.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Returns how many records may follow.
    pub(crate) fn records_left(&self) -> u64 {
        self.limit.saturating_sub(self.sequence)
    }

    /// Counts a record.
    pub(crate) fn advance(&mut self) {
        self.sequence = self.sequence.saturating_add(1);
    }

    /// Returns the nonce of the next record.
    pub(crate) fn nonce(&self) -> [u8; 12] {
        let mut nonce = self.iv;
        for (byte, number) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= number;
        }
        nonce
    }

    /// Returns the nonce of a record of TLS 1.2 with GCM, which carries a part of it.
    pub(crate) fn nonce_with(&self, explicit: [u8; 8]) -> [u8; 12] {
        let mut nonce = self.iv;
        nonce[4..].copy_from_slice(&explicit);
        nonce
    }
}

impl Drop for RecordKey {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.iv);
    }
}

/// Returns the additional data of a record of TLS 1.2 (RFC 5246 §6.2.3.3).
pub(crate) fn aad_of_tls12(sequence: u64, content: u8, plaintext_bytes: usize) -> [u8; 13] {
    let mut aad = [0; 13];
    aad[..8].copy_from_slice(&sequence.to_be_bytes());
    aad[8] = content;
    aad[9..11].copy_from_slice(&[3, 3]);
    // Plaintext has at most 2^14 bytes.
    aad[11..].copy_from_slice(&(plaintext_bytes as u16).to_be_bytes());
    aad
}

impl Form {
    /// Returns the form of the records of a version with a cipher.
    pub(crate) fn new(is_tls13: bool, cipher: Cipher) -> Self {
        match (is_tls13, cipher) {
            (true, _) => Self::Tls13,
            (false, Cipher::Aes128Gcm | Cipher::Aes256Gcm) => Self::Tls12Gcm,
            (false, Cipher::ChaCha20Poly1305) => Self::Tls12ChaCha,
        }
    }
}

//! The record layer: opens and seals records, and keeps the limits that rustls does not after extraction.

mod aead;
mod opener;
mod sealer;

pub(crate) use aead::{Cipher, Key, RecordKey};
pub use opener::{Control, Opened};
pub(crate) use opener::{Opener, PostHandshake};
pub(crate) use sealer::Sealer;

/// Length of a record's header (RFC 8446 §5.1).
pub const HEADER_BYTES: usize = 5;
/// Most plaintext in a record (RFC 8446 §5.1).
pub const PLAINTEXT_BYTES_MAX: usize = 1 << 14;
/// Longest record that is accepted, its header included (RFC 8446 §5.2).
pub const RECORD_BYTES_MAX: usize = HEADER_BYTES + PLAINTEXT_BYTES_MAX + 256;
/// Most that a record has before its plaintext: the header and the nonce of TLS 1.2 with GCM.
pub const PREFIX_BYTES_MAX: usize = HEADER_BYTES + 8;
/// Most that a record has behind its plaintext: the tag, and the type of content in TLS 1.3.
pub const SUFFIX_BYTES_MAX: usize = 16 + 1;

/// Types of records (RFC 8446 §5.1).
pub(crate) mod content {
    pub(crate) const ALERT: u8 = 21;
    pub(crate) const HANDSHAKE: u8 = 22;
    pub(crate) const DATA: u8 = 23;
}

/// Form of the records of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// TLS 1.3, every suite.
    Tls13,
    /// TLS 1.2 with AES-GCM, whose records carry a part of the nonce.
    Tls12Gcm,
    /// TLS 1.2 with ChaCha20-Poly1305.
    Tls12ChaCha,
}

impl Form {
    /// Returns how many bytes a record has before its plaintext.
    pub(crate) const fn prefix(self) -> usize {
        match self {
            Self::Tls13 | Self::Tls12ChaCha => HEADER_BYTES,
            Self::Tls12Gcm => HEADER_BYTES + 8,
        }
    }

    /// Returns how many bytes a record has behind its plaintext.
    pub(crate) const fn suffix(self) -> usize {
        match self {
            Self::Tls13 => TAG_BYTES + 1,
            Self::Tls12Gcm | Self::Tls12ChaCha => TAG_BYTES,
        }
    }
}

/// Length of the tag of every cipher here.
pub(crate) const TAG_BYTES: usize = 16;

#[cfg(test)]
mod tests;

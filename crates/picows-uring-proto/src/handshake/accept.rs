//! The proof that a server has read the client's key (RFC 6455 §4.2.2, item 5).
//!
//! No cryptography in earnest: it separates a WebSocket server from a cache, not friend from foe.

use std::fmt;

use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use sha1::{Digest, Sha1};

/// The value of `Sec-WebSocket-Accept` that belongs to a `Sec-WebSocket-Key`.
///
/// ```
/// use picows_uring_proto::AcceptKey;
///
/// // The sample of RFC 6455 §1.3.
/// let accept = AcceptKey::for_key("dGhlIHNhbXBsZSBub25jZQ==");
/// assert_eq!(accept.as_str(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct AcceptKey([u8; ACCEPT_BYTES]);

impl AcceptKey {
    /// The answer to `key`, the text of a `Sec-WebSocket-Key`, which is hashed as it is.
    #[must_use]
    pub fn for_key(key: &str) -> Self {
        let digest = Sha1::new().chain_update(key).chain_update(ACCEPT_GUID).finalize();
        let mut text = [0; ACCEPT_BYTES];
        let written = STANDARD.encode_slice(digest, &mut text);
        debug_assert!(written == Ok(ACCEPT_BYTES));
        Self(text)
    }

    /// The text that goes on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Base64 is ASCII, so this is never the default.
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for AcceptKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for AcceptKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AcceptKey").field(&self.as_str()).finish()
    }
}

/// Returns `value` as text when it is the base64 of 16 bytes (RFC 6455 §4.2.1, item 5).
pub(super) fn key_text(value: &[u8]) -> Option<&str> {
    // The engine refuses what might not fit, and asks for room in whole groups of three.
    let mut nonce = [0; KEY_BYTES / 4 * 3];
    let length = KEY_DECODER.decode_slice(value, &mut nonce).ok()?;
    if length == NONCE_BYTES { str::from_utf8(value).ok() } else { None }
}

/// The text of a key made of 16 random bytes.
pub(super) fn key_for_nonce(nonce: [u8; NONCE_BYTES]) -> String {
    STANDARD.encode(nonce)
}

/// What is appended to the key before it is hashed (RFC 6455 §1.3).
const ACCEPT_GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What a key holds when decoded (RFC 6455 §4.1, item 7).
const NONCE_BYTES: usize = 16;

/// Base64 with padding: four characters for every three bytes begun.
const KEY_BYTES: usize = NONCE_BYTES.div_ceil(3) * 4;
const ACCEPT_BYTES: usize = SHA1_BYTES.div_ceil(3) * 4;
const SHA1_BYTES: usize = 20;

/// Forgives the four spare bits of the last character: the text is hashed, not what it decodes
/// to, so both ends agree whatever those bits are, and some clients write keys by hand.
const KEY_DECODER: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_is_the_sample_of_rfc_6455_section_1_3() {
        let key = key_for_nonce(*b"the sample nonce");
        assert_eq!(key, "dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(AcceptKey::for_key(&key).to_string(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_key_is_the_padded_base64_of_16_bytes() {
        assert!(key_text(b"dGhlIHNhbXBsZSBub25jZQ==").is_some());
        assert!(key_text(b"AAAAAAAAAAAAAAAAAAAAAB==").is_some(), "spare bits are forgiven");
        let refused: [&[u8]; 8] = [
            b"",
            b"dGhlIHNhbXBsZSBub25jZQ",
            b"dGhlIHNhbXBsZSBub25j",
            b"dGhlIHNhbXBsZSBub25jZTE=",
            b"dGhlIHNhbXBsZSBub25jZTEy",
            b"dGhlIHNhbXBsZSBub25jZQ==x",
            b"dGhlIHNhbXBsZSBub25jZ===",
            b"\xe4GhlIHNhbXBsZSBub25jZQ==",
        ];
        for key in refused {
            assert_eq!(key_text(key), None, "{}", key.escape_ascii());
        }
    }
}

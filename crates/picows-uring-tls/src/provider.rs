//! Providers of cryptography.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::ProducesTickets;
use rustls::{CipherSuite, Error};

/// The library that computes: for handshakes through rustls, for records directly.
///
/// Without a choice it is [`Provider::AwsLc`] where the feature is on, else [`Provider::Ring`]. The default
/// that rustls keeps for the process is neither read nor set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Provider {
    /// aws-lc-rs: the fastest, with post-quantum key exchange. Feature `aws-lc`.
    AwsLc,
    /// ring: builds faster; half the speed for long records. Feature `ring`.
    Ring,
}

impl Provider {
    /// Returns the provider that is used without a choice.
    pub fn preferred() -> Self {
        if cfg!(feature = "aws-lc") { Self::AwsLc } else { Self::Ring }
    }

    /// Returns what rustls needs of the provider, or `None` if it is not built in. The suites are in the
    /// order of this machine's speed.
    pub(crate) fn rustls(self) -> Option<Arc<CryptoProvider>> {
        let mut provider: CryptoProvider = match self {
            #[cfg(feature = "aws-lc")]
            Self::AwsLc => rustls::crypto::aws_lc_rs::default_provider(),
            #[cfg(feature = "ring")]
            Self::Ring => rustls::crypto::ring::default_provider(),
            #[cfg(not(all(feature = "aws-lc", feature = "ring")))]
            _ => return None,
        };
        let is_fast = has_aes_instructions();
        provider.cipher_suites.sort_by_key(|suite| {
            let is_tls12 = suite.tls13().is_none();
            (is_tls12, place(suite.suite(), is_fast))
        });
        Some(Arc::new(provider))
    }

    /// Makes keys for tickets: of 6 hours each, for this process.
    pub(crate) fn ticketer(self) -> Option<Result<Arc<dyn ProducesTickets>, Error>> {
        match self {
            #[cfg(feature = "aws-lc")]
            Self::AwsLc => Some(rustls::crypto::aws_lc_rs::Ticketer::new()),
            #[cfg(feature = "ring")]
            Self::Ring => Some(rustls::crypto::ring::Ticketer::new()),
            #[cfg(not(all(feature = "aws-lc", feature = "ring")))]
            _ => None,
        }
    }

    /// Returns the SHA-256 of `bytes`.
    pub(crate) fn sha256(self, bytes: &[u8]) -> [u8; 32] {
        let mut digest = [0; 32];
        match self {
            #[cfg(feature = "aws-lc")]
            Self::AwsLc => {
                use aws_lc_rs::digest;
                digest.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
            }
            #[cfg(feature = "ring")]
            Self::Ring => {
                use ring::digest;
                digest.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
            }
            // Settings of a provider that is not built in cannot be made.
            #[cfg(not(all(feature = "aws-lc", feature = "ring")))]
            _ => {
                let _ = bytes;
            }
        }
        digest
    }
}

/// Returns whether AES has instructions here. Then it is faster than ChaCha20, whatever a client prefers.
pub(crate) fn has_aes_instructions() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::is_x86_feature_detected!("aes") && std::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}

/// Returns the place of a suite among those of its version. Long keys cost more and protect no better
/// against what is known, so AES-128 is first, as elsewhere.
fn place(suite: CipherSuite, has_aes_instructions: bool) -> u8 {
    let name = format!("{suite:?}");
    match (name.contains("CHACHA20"), name.contains("AES_256")) {
        (true, _) if !has_aes_instructions => 0,
        (true, _) => 3,
        (false, false) => 1,
        (false, true) => 2,
    }
}

//! Providers of cryptography.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

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

    /// Returns what rustls needs of the provider, or `None` if it is not built in.
    pub(crate) fn rustls(self) -> Option<Arc<CryptoProvider>> {
        match self {
            #[cfg(feature = "aws-lc")]
            Self::AwsLc => Some(Arc::new(rustls::crypto::aws_lc_rs::default_provider())),
            #[cfg(feature = "ring")]
            Self::Ring => Some(Arc::new(rustls::crypto::ring::default_provider())),
            #[cfg(not(all(feature = "aws-lc", feature = "ring")))]
            _ => None,
        }
    }
}

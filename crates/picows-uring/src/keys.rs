//! Masking keys and nonces, which a peer or a proxy must not be able to guess.
//!
//! RFC 6455 §10.3 wants keys from a strong source; a system call for each frame would cost more
//! than the frame.

use crate::foreign::log;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rustix::io::retry_on_intr;
use rustix::rand::{GetRandomFlags, getrandom};

/// Makes keys from a cipher that is seeded by the operating system.
#[derive(Debug)]
pub(crate) struct KeySource {
    /// Makes 64 words at a time, and hands them out.
    generator: Box<ChaCha12Rng>,
}

impl KeySource {
    /// Keys that are the same for the same seed: for tests.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn seeded(seed: u64) -> Self {
        Self { generator: Box::new(ChaCha12Rng::seed_from_u64(seed)) }
    }

    /// The masking key of the next frame.
    #[inline]
    pub(crate) fn next_key(&mut self) -> [u8; 4] {
        self.generator.next_u32().to_ne_bytes()
    }

    /// A number that no ping before it carried, or nearly so.
    pub(crate) fn next_nonce(&mut self) -> u64 {
        self.generator.next_u64()
    }

    /// A number from 0.0 up to 1.0.
    pub(crate) fn fraction(&mut self) -> f64 {
        f64::from(self.generator.next_u32()) / (f64::from(u32::MAX) + 1.0)
    }

    /// The nonce of a handshake (RFC 6455 §4.1).
    pub(crate) fn nonce(&mut self) -> [u8; 16] {
        let mut nonce = [0; 16];
        self.generator.fill_bytes(&mut nonce);
        nonce
    }
}

impl Default for KeySource {
    /// Not at first use: the log is not written to while a session is at work.
    fn default() -> Self {
        let mut seed = [0; 32];
        // It fails only where there is no getrandom(2), which is older than io_uring. Keys that
        // can be guessed harm proxies, not us: better than no connection.
        // By a system call, as a static binary in a root of its own may have no /dev/urandom.
        match retry_on_intr(|| getrandom(&mut seed, GetRandomFlags::empty())) {
            Ok(length) if length == seed.len() => {}
            outcome => log::error!(?outcome, "no randomness from the system: masks can be guessed"),
        }
        Self { generator: Box::new(ChaCha12Rng::from_seed(seed)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_from_each_other_and_from_source_to_source() {
        let (mut first, mut second) = (KeySource::default(), KeySource::default());
        let keys: std::collections::HashSet<_> = (0..1000).map(|_| first.next_key()).collect();
        assert!(keys.len() > 990);
        assert_ne!(first.nonce(), second.nonce());
    }

    #[test]
    fn a_seed_repeats_itself() {
        assert_eq!(KeySource::seeded(1).nonce(), KeySource::seeded(1).nonce());
    }
}

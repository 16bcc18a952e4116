//! Faults of the simulated kernel, and how often it has each.
//!
//! Every lie is something that a kernel, a network or a peer may do.

use super::random::Random;
use std::time::Duration;

/// Probabilities are per mille.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    /// A completion comes later than it could.
    pub(crate) delay: u32,
    /// By at most so much.
    pub(crate) delay_max: Duration,
    /// A receive brings a part of what is there.
    pub(crate) cut: u32,
    /// A send takes a part of what it could.
    pub(crate) short_send: u32,
    /// A receive finds no buffer although there is one.
    pub(crate) no_buffer: u32,
    /// A receive of many ends after a success.
    pub(crate) receive_ends: u32,
    /// An accept of many ends after a success.
    pub(crate) accept_ends: u32,
    /// An accept fails.
    pub(crate) accept_fails: u32,
    /// A connection breaks, each time that something could happen on it.
    pub(crate) reset: u32,
    /// Something happens after a cancellation, and before it takes effect.
    pub(crate) race: u32,
    /// A receive outlives its cancellation, if it has brought something after it.
    pub(crate) outlive: u32,
    /// A poll returns a few of the completions that there are.
    pub(crate) few: u32,
    /// No poll returns more.
    pub(crate) poll_max: usize,
    /// Receive buffers: how many, and of which size.
    pub(crate) buffers: usize,
    pub(crate) buffer_bytes: usize,
    /// Sockets that can be open at a time, listening ones included.
    pub(crate) descriptors_max: usize,
}

impl Faults {
    /// A kernel that does what it can at once.
    pub(crate) fn none() -> Self {
        Self {
            delay: 0,
            delay_max: Duration::ZERO,
            cut: 0,
            short_send: 0,
            no_buffer: 0,
            receive_ends: 0,
            accept_ends: 0,
            accept_fails: 0,
            reset: 0,
            race: 0,
            outlive: 0,
            few: 0,
            poll_max: usize::MAX,
            buffers: 8,
            buffer_bytes: 4096,
            descriptors_max: usize::MAX,
        }
    }

    /// A mixture in which each lie may be absent, rare or frequent.
    pub(crate) fn draw(random: &mut Random) -> Self {
        let mut often = |most: usize| match random.below(3) {
            0 => 0,
            1 => random.between(1, most / 10 + 1) as u32,
            _ => random.between(1, most) as u32,
        };
        let mut faults = Self {
            delay: often(300),
            cut: often(900),
            short_send: often(900),
            no_buffer: often(200),
            receive_ends: often(300),
            accept_ends: often(500),
            accept_fails: often(500),
            race: often(800),
            outlive: often(900),
            few: often(700),
            ..Self::none()
        };
        faults.delay_max = Duration::from_micros(random.pick(&[10, 200, 2_000]));
        faults.buffers = random.pick(&[1, 2, 3, 8, 32]);
        faults.buffer_bytes = random.pick(&[64, 300, 1024, 4096, 4096]);
        if random.chance(200) {
            faults.descriptors_max = random.between(3, 8);
        }
        if random.chance(400) {
            faults.reset = random.between(1, 10) as u32;
        }
        faults
    }
}

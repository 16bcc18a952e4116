//! permessage-deflate of the peers in a simulation: settings from the seed, frames both ways.
//!
//! Drawn from numbers of its own, so that a run without it is what it was. Without the feature nothing is
//! agreed on, and frames stay as they are.

use crate::config::Config;
use crate::testing::ring::sim::Random;
#[cfg(feature = "deflate")]
use picows_uring_proto::{Compressed, Compression, Deflaters, Expansion, Inflaters, Receiver};
use picows_uring_proto::{
    Decoded, Decoder, Deflate, FrameHead, FrameRules, NegotiatedDeflate, PeerMisbehaved, Role,
    Stash,
};

/// Halves of a peer that has agreed on it, or none.
#[derive(Default)]
pub(super) struct Codec {
    #[cfg(feature = "deflate")]
    agreed: Option<Box<Agreed>>,
}

#[cfg(feature = "deflate")]
struct Agreed {
    receiver: Receiver,
    expansion: Expansion,
    inflaters: Inflaters,
    compression: Compression,
    deflaters: Deflaters,
}

impl Codec {
    /// Compresses and expands from now on. `role` is that of the peer.
    pub(super) fn begin(&mut self, role: Role, settings: &Deflate, agreed: &NegotiatedDeflate) {
        #[cfg(feature = "deflate")]
        {
            self.agreed = Some(Box::new(Agreed {
                receiver: Receiver::new(role),
                expansion: Expansion::new(settings, agreed),
                inflaters: Inflaters::new(1),
                compression: Compression::new(settings, agreed),
                deflaters: Deflaters::new(1),
            }));
        }
        let _ = (role, settings, agreed);
    }

    /// Appends a frame, compressed where that was agreed on.
    pub(super) fn frame(
        &mut self,
        out: &mut Vec<u8>,
        head: FrameHead,
        payload: &[u8],
        key: Option<[u8; 4]>,
    ) {
        #[cfg(feature = "deflate")]
        if let Some(agreed) = &mut self.agreed
            && let Ok(Compressed::Frame(head, data)) =
                agreed.compression.compress(&mut agreed.deflaters, head, payload)
        {
            return head.append(out, data, key);
        }
        head.append(out, payload, key);
    }

    /// The next frame of `input`, expanded where that was agreed on; by `decoder` otherwise.
    pub(super) fn next<'a>(
        &'a mut self,
        (decoder, stash): (&mut Decoder, &'a mut Stash),
        rules: &FrameRules,
        input: &'a mut [u8],
    ) -> Result<Decoded<'a>, PeerMisbehaved> {
        #[cfg(feature = "deflate")]
        if let Some(agreed) = &mut self.agreed {
            let Agreed { receiver, expansion, inflaters, .. } = &mut **agreed;
            return Ok(receiver.next_expanded(rules, expansion, inflaters, input)?.0);
        }
        decoder.next_frame(rules, stash, input)
    }
}

/// The settings of a server, or of all our clients, in a run.
pub(super) fn draw(seed: u64, which: u64) -> Option<Deflate> {
    let mut random = Random::new(seed ^ OTHER.wrapping_mul(which + 1));
    (cfg!(feature = "deflate") && random.chance(400)).then(|| settings(&mut random))
}

/// What a client offers in it, which follows one of the plans; a server may decline.
pub(super) fn offer(seed: u64, id: u32, breaks_by_rsv1: bool) -> Option<Deflate> {
    let mut random = Random::new(seed ^ OTHER ^ u64::from(id + 1) << 32);
    let is_offered = cfg!(feature = "deflate") && random.chance(600) && !breaks_by_rsv1;
    is_offered.then(|| settings(&mut random))
}

fn settings(random: &mut Random) -> Deflate {
    let settings = Deflate::new()
        .level(random.pick(&[1, 2, 3, 6, 9]))
        .window_bits(random.pick(&[8, 9, 12, 15]))
        .context_takeover(random.chance(700))
        .peer_context_takeover(random.chance(700))
        .threshold(random.pick(&[0, 64, 1024]));
    match random.below(3) {
        0 => settings.peer_window_bits(random.pick(&[9, 12, 15])),
        _ => settings,
    }
}

/// Puts the settings into those of a worker.
pub(super) fn set(config: &mut Config, deflate: Option<Deflate>) {
    #[cfg(feature = "deflate")]
    {
        config.deflate = deflate;
    }
    let _ = (config, deflate);
}

/// The numbers differ from those of the run.
const OTHER: u64 = 0x5EED_0FDE_F1A7_ED01;

//! Both halves of permessage-deflate, against stock zlib and against each other.

mod bounds;
mod endpoints;
mod examples;
mod oracle;
mod random;
mod short;
mod verdicts;
#[cfg(feature = "libdeflate")]
mod whole;

use super::{Compressed, Compression, Deflate, Deflaters, Expansion, Inflaters, NegotiatedDeflate};
use crate::error::PeerMisbehaved;
use crate::frame::{MsgType, Role};
use crate::limits::FrameRules;
use crate::{FrameHead, Receiver};

/// Windows of `bits` both ways.
fn agreed(bits: u8, takeover: bool) -> NegotiatedDeflate {
    NegotiatedDeflate {
        window_bits: bits,
        peer_window_bits: bits,
        context_takeover: takeover,
        peer_context_takeover: takeover,
    }
}

/// A client that receives.
struct Receiving {
    receiver: Receiver,
    expansion: Expansion,
    inflaters: Inflaters,
    rules: FrameRules,
}

impl Receiving {
    fn new(settings: &Deflate, agreed: &NegotiatedDeflate) -> Self {
        let receiver = Receiver::new(Role::Client);
        let expansion = Expansion::new(settings, agreed);
        let rules = FrameRules { validate_text: true, ..FrameRules::default() };
        Self { receiver, expansion, inflaters: Inflaters::new(4), rules }
    }

    fn with_window(bits: u8) -> Self {
        Self::new(&Deflate::new(), &agreed(bits, true))
    }

    /// The frames in `wire`: FIN and text.
    fn receive(&mut self, wire: &[u8]) -> Result<Vec<(bool, Vec<u8>)>, PeerMisbehaved> {
        let (mut wire, mut consumed, mut frames) = (wire.to_vec(), 0, Vec::new());
        loop {
            let Self { receiver, expansion, inflaters, rules } = self;
            let (decoded, expanded) =
                receiver.next_expanded(rules, expansion, inflaters, &mut wire[consumed..])?;
            consumed += decoded.consumed;
            let Some(frame) = decoded.frame else { return Ok(frames) };
            assert_eq!(frame.rsv(), 0, "RSV1 does not leak");
            assert!(expanded.is_none_or(|it| it.after == frame.payload().len()));
            frames.push((frame.fin(), frame.payload().to_vec()));
        }
    }

    /// Expands the data of one compressed message of one frame.
    fn expand(&mut self, data: &[u8]) -> Result<Vec<u8>, PeerMisbehaved> {
        let mut frames = self.receive(&frame(MsgType::Binary, true, 4, data))?;
        assert_eq!(frames.len(), 1);
        Ok(frames.remove(0).1)
    }
}

/// A frame of a server.
fn frame(msg_type: MsgType, fin: bool, rsv: u8, payload: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    FrameHead::new(msg_type).with_fin(fin).with_rsv(rsv).append(&mut wire, payload, None);
    wire
}

/// A server that sends.
struct Sending {
    compression: Compression,
    deflaters: Deflaters,
}

impl Sending {
    fn new(settings: &Deflate, agreed: &NegotiatedDeflate) -> Self {
        let compression = Compression::new(settings, agreed);
        Self { compression, deflaters: Deflaters::new(4) }
    }

    fn with_window(bits: u8) -> Self {
        Self::new(&Deflate::new().threshold(0), &agreed(bits, true))
    }

    /// The frame that is sent for `payload`: RSV bits and payload.
    fn frame(&mut self, head: FrameHead, payload: &[u8]) -> (u8, Vec<u8>) {
        match self.compression.compress(&mut self.deflaters, head, payload).unwrap() {
            Compressed::Plain => (head.rsv, payload.to_vec()),
            Compressed::Frame(head, payload) => (head.rsv, payload.to_vec()),
        }
    }

    /// The same, on the wire.
    fn send(&mut self, head: FrameHead, payload: &[u8]) -> Vec<u8> {
        let (rsv, payload) = self.frame(head, payload);
        frame(head.msg_type, head.fin, rsv, &payload)
    }
}

/// Text that compresses as market data does, another for each number.
fn quote(number: u32) -> String {
    let price = number.wrapping_mul(2_654_435_761) % 100_000;
    format!(
        r#"{{"channel":"book","symbol":"BTC-{}","bid":{}.{:02},"size":{},"sequence":{number}}}"#,
        ["USD", "EUR", "GBP"][number as usize % 3],
        price / 100,
        price % 100,
        price % 977,
    )
}

/// Bytes that do not compress.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}

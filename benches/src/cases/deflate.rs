//! Messages compressed and expanded, each another one: what a connection does beside the frame.

use super::Case;
use picows_uring_proto::{
    Compressed, Compression, Deflate, Deflaters, Expansion, FrameHead, FrameRules, Inflaters,
    MsgType, NegotiatedDeflate, Receiver, Role,
};
use std::hint::black_box;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (level, size) in [(1, 100), (2, 100), (1, 1024), (2, 1024), (4, 1024)] {
        cases.push(compress(level, 12, size, true));
    }
    for level in [2, 4] {
        cases.push(compress(level, 12, 1024, false));
    }
    for (bits, size) in [(12, 100), (15, 100), (12, 1024), (15, 1024)] {
        cases.push(expand(bits, size, true));
    }
    cases.push(expand(12, 1024, false));
    cases
}

fn compress(level: u8, bits: u8, size: usize, takeover: bool) -> Case {
    let mut sending = Sending::new(level, bits, takeover);
    let texts: Vec<_> = texts(size).take(MESSAGES).collect();
    let mut next = 0;
    Case::new(name("compress", Some(level), bits, size, takeover), move || {
        next = (next + 1) % MESSAGES;
        black_box(sending.compress(black_box(&texts[next])));
    })
}

fn expand(bits: u8, size: usize, takeover: bool) -> Case {
    let (settings, agreed) = (Deflate::new(), agreed(bits, takeover));
    let mut sending = Sending::new(2, bits, takeover);
    // As many as are called for: they refer to each other in their order.
    let messages: Vec<_> = texts(size).take(MESSAGES).map(|text| sending.wire(&text)).collect();
    let mut messages = messages.into_iter();
    let (mut receiver, rules) = (Receiver::new(Role::Client), FrameRules::default());
    let mut expansion = Expansion::new(&settings, &agreed);
    let mut inflaters = Inflaters::new(1);
    Case::new(name("expand", None, bits, size, takeover), move || {
        let mut wire = messages.next().unwrap_or_default();
        let input = black_box(&mut wire[..]);
        let next = receiver.next_expanded(&rules, &mut expansion, &mut inflaters, input);
        black_box(next.is_ok_and(|(decoded, _)| decoded.frame.is_some()));
    })
}

fn name(what: &str, level: Option<u8>, bits: u8, size: usize, takeover: bool) -> String {
    let level = level.map_or(String::new(), |level| format!("level-{level}-"));
    let context = if takeover { "context" } else { "no-context" };
    format!("deflate/{what}/{level}{bits}-bits-{context}/{size}")
}

struct Sending {
    compression: Compression,
    deflaters: Deflaters,
}

impl Sending {
    fn new(level: u8, bits: u8, takeover: bool) -> Self {
        let settings = Deflate::new().level(level).threshold(0);
        let compression = Compression::new(&settings, &agreed(bits, takeover));
        Self { compression, deflaters: Deflaters::new(1) }
    }

    fn compress(&mut self, text: &[u8]) -> Option<(FrameHead, &[u8])> {
        let head = FrameHead::new(MsgType::Text);
        match self.compression.compress(&mut self.deflaters, head, text) {
            Ok(Compressed::Frame(head, data)) => Some((head, data)),
            _ => None,
        }
    }

    fn wire(&mut self, text: &[u8]) -> Vec<u8> {
        let mut wire = Vec::new();
        match self.compress(text) {
            Some((head, data)) => head.append(&mut wire, data, None),
            None => FrameHead::new(MsgType::Text).append(&mut wire, text, None),
        }
        wire
    }
}

fn agreed(bits: u8, takeover: bool) -> NegotiatedDeflate {
    let settings = Deflate::new().window_bits(bits).context_takeover(takeover);
    let settings = settings.peer_window_bits(bits).peer_context_takeover(takeover);
    let head = b"GET / HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Extensions: permessage-deflate; \
        client_max_window_bits\r\n\r\n";
    let limits = picows_uring_proto::HeadLimits::default();
    let request = picows_uring_proto::UpgradeRequest::parse(head, &limits);
    let (request, _) = request.ok().flatten().expect("the request is whole");
    settings.accept(&request).expect("it is an offer").0
}

/// Texts like those of a market feed, of this length each.
pub(super) fn texts(size: usize) -> impl Iterator<Item = Vec<u8>> {
    (0_u32..).map(move |message| {
        let mut text = Vec::with_capacity(size + 100);
        let mut seed = message.wrapping_mul(2_654_435_761);
        while text.len() < size {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (symbol, bid, volume) = (seed >> 30, seed >> 12, seed >> 22);
            let quote = format!(
                r#"{{"channel":"book","symbol":"{}","bid":{}.{:02},"volume":{volume},"sequence":{message}}}"#,
                ["BTC-USD", "ETH-USD", "SOL-USD", "XRP-EUR"][symbol as usize],
                bid % 100_000,
                bid % 97,
            );
            text.extend(quote.bytes());
        }
        text.truncate(size);
        text
    })
}

/// More than `bin/icount.rs` calls a case.
const MESSAGES: usize = 200;

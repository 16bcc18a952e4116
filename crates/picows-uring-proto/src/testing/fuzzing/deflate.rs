//! Bodies of the fuzz targets of permessage-deflate: its negotiation, and both of its halves.

use crate::error::PeerMisbehaved;
use crate::extension::{Compressed, Compression, Deflate, Deflaters, Expansion, Inflaters};
use crate::frame::{MsgType, Role};
use crate::handshake::{ClientHandshake, HeadLimits, UpgradeRequest};
use crate::limits::FrameRules;
use crate::{AcceptKey, FrameHead, NegotiatedDeflate, Receiver};

/// The value of a header with extensions: as an offer and as an answer.
pub fn deflate_negotiation(data: &[u8]) {
    let Some((&choice, value)) = data.split_first() else { return };
    let settings = settings(choice);
    // A line ends at its end.
    let value: Vec<u8> = value.iter().copied().filter(|byte| !b"\r\n\0".contains(byte)).collect();
    let line = [b"Sec-WebSocket-Extensions: ", &value[..], b"\r\n\r\n"].concat();
    let head = [b"GET / HTTP/1.1\r\nHost: a\r\n", &line[..]].concat();
    if let Ok(Some((request, _))) = UpgradeRequest::parse(&head, &LIMITS)
        && let Some((agreed, answer)) = settings.accept(&request)
    {
        assert_is_within(&settings, &agreed);
        // What it answers is one offer and no more, and of the right form.
        let again = [b"GET / HTTP/1.1\r\nHost: a\r\n", &extensions(answer.as_bytes())[..]].concat();
        let (request, _) = UpgradeRequest::parse(&again, &LIMITS)
            .expect("an answer is well formed")
            .expect("it is whole");
        assert!(settings.accept(&request).is_some(), "{answer}");
        assert_eq!(answer.matches("permessage-deflate").count(), 1, "{answer}");
    }
    let handshake =
        ClientHandshake::new("a", "/", *b"the sample nonce").expect("the address is well formed");
    let handshake = handshake.with_deflate(settings).expect("the settings are valid");
    let accept = AcceptKey::for_key("dGhlIHNhbXBsZSBub25jZQ==");
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n"
    );
    let head = [head.as_bytes(), &line].concat();
    match handshake.parse_response(&head, &LIMITS) {
        Ok(Some((response, _))) => {
            let agreed = handshake.negotiated_deflate(&response);
            agreed.inspect(|agreed| assert_is_within(&settings, agreed));
        }
        Ok(None) => panic!("the head is whole"),
        Err(error) => drop(format!("{error} {error:?}")),
    }
}

fn extensions(value: &[u8]) -> Vec<u8> {
    [b"Sec-WebSocket-Extensions: ", value, b"\r\n\r\n"].concat()
}

/// What is agreed on never asks more of us than the settings say.
fn assert_is_within(settings: &Deflate, agreed: &NegotiatedDeflate) {
    assert!((8..=settings.window_bits).contains(&agreed.window_bits), "{agreed:?}");
    assert!((8..=15).contains(&agreed.peer_window_bits), "{agreed:?}");
    assert!(settings.context_takeover || !agreed.context_takeover, "{agreed:?}");
}

/// Messages of compressed data, expanded by a connection that has its expander for itself and by
/// one that has none between two messages; what comes of them goes through our own compressor and
/// back.
pub fn deflate_messages(data: &[u8]) {
    let [choice, rest @ ..] = data else { return };
    let settings = settings(*choice).threshold(0);
    let agreed = NegotiatedDeflate {
        window_bits: settings.window_bits,
        peer_window_bits: 8 + choice % 8,
        context_takeover: choice & 8 == 0,
        peer_context_takeover: choice & 16 == 0,
    };
    let (mut alone, mut shared) =
        (Receiving::new(&settings, &agreed, 1), Receiving::new(&settings, &agreed, 0));
    let back = NegotiatedDeflate {
        peer_window_bits: agreed.window_bits,
        peer_context_takeover: agreed.context_takeover,
        ..agreed
    };
    let mut echoed = Receiving::new(&settings, &back, 0);
    let (mut compression, mut deflaters) =
        (Compression::new(&settings, &agreed), Deflaters::new(1));
    // Each message: its length and kind in a byte, then its data.
    let mut rest = rest;
    while let [kind, more @ ..] = rest {
        let (message, behind) = more.split_at(usize::from(kind >> 2).min(more.len()));
        rest = behind;
        let is_continued = alone.is_open;
        let msg_type = if is_continued { MsgType::Continuation } else { MsgType::Binary };
        let fin = kind & 1 == 0;
        let rsv = if is_continued || kind & 2 != 0 { 0 } else { 4 };
        let mut wire = Vec::new();
        let head = FrameHead::new(msg_type).with_fin(fin);
        head.with_rsv(rsv).append(&mut wire, message, None);
        let text = alone.receive(&wire);
        assert_eq!(shared.receive(&wire), text, "sharing changes no verdict");
        let Ok(text) = text else { return };
        assert!(text.len() <= FRAME_BYTES_MAX, "no more than the limit");
        let kept = 1 << agreed.peer_window_bits.max(9);
        let memory = alone.expansion.memory();
        assert!(memory <= kept + 64 * 1024, "{memory} bytes are kept");
        let mut wire = Vec::new();
        match compression.compress(&mut deflaters, head, &text).expect("there is memory") {
            Compressed::Plain => head.append(&mut wire, &text, None),
            Compressed::Frame(head, data) => head.append(&mut wire, data, None),
        }
        assert_eq!(echoed.receive(&wire), Ok(text), "what we compress, we expand");
        if kind & 4 != 0 {
            deflaters.trim(true);
        }
    }
}

struct Receiving {
    receiver: Receiver,
    expansion: Expansion,
    inflaters: Inflaters,
    is_open: bool,
}

impl Receiving {
    fn new(settings: &Deflate, agreed: &NegotiatedDeflate, states: usize) -> Self {
        Self {
            receiver: Receiver::new(Role::Client),
            expansion: Expansion::new(settings, agreed),
            inflaters: Inflaters::new(states),
            is_open: false,
        }
    }

    /// The text of the one frame in `wire`.
    fn receive(&mut self, wire: &[u8]) -> Result<Vec<u8>, PeerMisbehaved> {
        let rules = FrameRules {
            payload_bytes_max: FRAME_BYTES_MAX as u64,
            validate_text: false,
            ..FrameRules::default()
        };
        let mut wire = wire.to_vec();
        let Self { receiver, expansion, inflaters, is_open } = self;
        let (decoded, _) = receiver.next_expanded(&rules, expansion, inflaters, &mut wire)?;
        let frame = decoded.frame.expect("it is whole");
        assert_eq!(frame.rsv(), 0, "RSV1 does not leak");
        *is_open = !frame.fin();
        Ok(frame.payload().to_vec())
    }
}

/// Settings that a byte chooses.
const fn settings(choice: u8) -> Deflate {
    let settings = Deflate::new()
        .level(1 + choice % 9)
        .window_bits(8 + (choice >> 1) % 8)
        .context_takeover(choice & 8 == 0)
        .peer_context_takeover(choice & 16 == 0)
        .bare_offer(choice & 32 != 0);
    if choice & 64 != 0 { settings.peer_window_bits(8 + choice % 8) } else { settings }
}

const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 16 * 1024, headers_max: 12 };
/// Small, so that a fuzzer gets there.
const FRAME_BYTES_MAX: usize = 64 * 1024;

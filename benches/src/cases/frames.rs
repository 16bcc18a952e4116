//! Frames: headers, masks, whole runs of received bytes, and frames to be sent.

use super::Case;
use picows_uring_proto::internal::mask;
use picows_uring_proto::{
    Decoder, FRAME_HEADER_BYTES_MAX, FrameHead, FrameRules, Header, MsgType, Role, Stash,
};
use std::hint::black_box;
use std::rc::Rc;

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
/// Where a payload begins behind a masked header of medium length, which decides its alignment.
const PAYLOAD_START: usize = 8;
/// What a server leaves free in front of bytes that it takes straight into the stash.
const GAP: usize = 14;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, payload_len) in [("7-bit", 32), ("16-bit", 256), ("64-bit", 100_000)] {
        cases.extend([(Role::Server, "masked"), (Role::Client, "plain")].map(|(role, kind)| {
            decode_header(format!("header/decode/{kind}/{name}"), role, payload_len)
        }));
        cases.push(encode_header(format!("header/encode/{name}"), payload_len));
    }
    for len in [7, 20, 32, 64, 128, 256, 1024, 16_384, 65_536] {
        cases.push(unmask(len));
        cases.push(mask_copy(len));
    }
    for len in [32, 256, 65_536] {
        cases.push(unmask_moving(len));
    }
    cases.push(encode_short_header("header/encode/usual/7-bit", 32));
    cases.push(encode_short_header("header/encode/usual/16-bit", 256));
    // No longer ones: callgrind counts each byte that `memcpy` moves with `rep movsb`.
    for len in [0, 32, 256, 1024] {
        cases.push(append(format!("encode/server/{len}"), len, None));
        cases.push(append(format!("encode/client/{len}"), len, Some(KEY)));
    }
    cases.push(prepend());
    for len in [0, 32, 256] {
        cases.push(burst(format!("decoder/server/burst-64/{len}"), Role::Server, len, 64));
        cases.push(burst(format!("decoder/client/burst-64/{len}"), Role::Client, len, 64));
    }
    cases.push(burst("decoder/server/lone/32".into(), Role::Server, 32, 1));
    cases.push(burst("decoder/server/lone/256".into(), Role::Server, 256, 1));
    cases.push(burst("decoder/client/lone/256".into(), Role::Client, 256, 1));
    cases.push(text_burst());
    cases.push(cut("decoder/server/cut-in-payload/256", 256, 100));
    cases.push(cut("decoder/server/cut-in-header/256", 256, 5));
    cases.push(cut("decoder/server/cut-in-payload/16384", 16_384, 9_000));
    cases.push(filled(64));
    cases
}

fn decode_header(name: String, role: Role, payload_len: u64) -> Case {
    let mask = (role == Role::Server).then_some(KEY);
    let header = Header { payload_len, mask, msg_type: MsgType::Binary, fin: true, rsv: 0 };
    let (bytes, len) = header.encode();
    let rules = FrameRules::default();
    Case::new(name, move || {
        black_box(Header::decode(black_box(&bytes[..len]), role, black_box(&rules)).ok());
    })
}

fn encode_header(name: String, payload_len: u64) -> Case {
    let header =
        Header { payload_len, mask: Some(KEY), msg_type: MsgType::Binary, fin: true, rsv: 0 };
    Case::new(name, move || {
        black_box(black_box(&header).encode());
    })
}

fn encode_short_header(name: &str, payload_len: usize) -> Case {
    let head = FrameHead::new(MsgType::Binary);
    Case::new(name, move || {
        black_box(black_box(&head).encode_short_header(black_box(payload_len)));
    })
}

fn unmask(len: usize) -> Case {
    let mut frame = vec![0x5a; PAYLOAD_START + len];
    Case::new(format!("mask/in-place/{len}"), move || {
        mask::apply(black_box(&mut frame[PAYLOAD_START..]), black_box(KEY));
    })
}

fn unmask_moving(len: usize) -> Case {
    let mut payload = vec![0x5a; GAP + len];
    Case::new(format!("mask/moving/{len}"), move || {
        mask::apply_shifted(black_box(&mut payload), GAP, black_box(KEY), 0);
    })
}

fn mask_copy(len: usize) -> Case {
    let payload = vec![0x5a; len];
    let mut out = Vec::with_capacity(len);
    Case::new(format!("mask/while-copying/{len}"), move || {
        out.clear();
        mask::copy_at(black_box(&mut out), black_box(&payload), black_box(KEY), 0);
    })
}

fn append(name: String, len: usize, key: Option<[u8; 4]>) -> Case {
    let payload = vec![0x5a; len];
    let mut out = Vec::with_capacity(FRAME_HEADER_BYTES_MAX + len);
    Case::new(name, move || {
        out.clear();
        black_box(FrameHead::new(MsgType::Binary)).append(&mut out, black_box(&payload), key);
        black_box(&out);
    })
}

fn prepend() -> Case {
    let mut buffer = vec![0x5a; FRAME_HEADER_BYTES_MAX + 256];
    let head = FrameHead::new(MsgType::Binary);
    Case::new("encode/in-front/256", move || {
        black_box(head.prepend(black_box(&mut buffer), FRAME_HEADER_BYTES_MAX, None).ok());
    })
}

/// Frames that arrive together. The payloads are unmasked where they lie, so that every second call
/// finds them as they were; the headers stay.
fn burst(name: String, role: Role, len: usize, frames: u32) -> Case {
    let key = (role == Role::Server).then_some(KEY);
    let input = received(MsgType::Binary, &vec![0x5a; len], key, frames);
    decoding(name, role, FrameRules::default(), input, frames)
}

/// Text that is checked. A key of zeros leaves it text, however often it is unmasked.
fn text_burst() -> Case {
    let input = received(MsgType::Text, &[b'a'; 256], Some([0; 4]), 64);
    let rules = FrameRules { validate_text: true, ..FrameRules::default() };
    decoding("decoder/server/burst-64/256-of-text".into(), Role::Server, rules, input, 64)
}

fn received(msg_type: MsgType, payload: &[u8], key: Option<[u8; 4]>, frames: u32) -> Vec<u8> {
    let mut input = Vec::new();
    for _ in 0..frames {
        FrameHead::new(msg_type).append(&mut input, payload, key);
    }
    input
}

fn decoding(name: String, role: Role, rules: FrameRules, mut input: Vec<u8>, frames: u32) -> Case {
    let (mut decoder, mut stash) = (Decoder::new(role), Stash::new());
    let call = move || {
        let found = decode(&mut decoder, &rules, &mut stash, black_box(&mut input));
        assert_eq!(found, frames);
    };
    Case::new(name, call).of_items(frames)
}

/// A frame in two pieces, of which the first has `first` bytes.
fn cut(name: &str, len: usize, first: usize) -> Case {
    let mut input = received(MsgType::Binary, &vec![0x5a; len], Some(KEY), 1);
    let (rules, mut decoder) = (FrameRules::default(), Decoder::new(Role::Server));
    let mut stash = Stash::with_memory(Rc::new(Vec::with_capacity(len)));
    Case::new(name, move || {
        let (head, tail) = black_box(&mut input).split_at_mut(first);
        let found = decode(&mut decoder, &rules, &mut stash, head);
        assert_eq!(found + decode(&mut decoder, &rules, &mut stash, tail), 1);
    })
}

/// A frame of which all but the first byte comes straight into the stash, each piece behind a gap.
fn filled(pieces: u32) -> Case {
    // As short as `encode` has them, for the same reason: they are copied here as the kernel would.
    let piece = [0x5a; 1024];
    let len = 1 + piece.len() * pieces as usize;
    let mut front = received(MsgType::Binary, &vec![0x5a; len], Some(KEY), 1);
    front.truncate(FRAME_HEADER_BYTES_MAX + 1);
    let (rules, mut decoder) = (FrameRules::default(), Decoder::new(Role::Server));
    let mut stash = Stash::with_memory(Rc::new(Vec::with_capacity(len + GAP)));
    let call = move || {
        assert_eq!(decode(&mut decoder, &rules, &mut stash, black_box(&mut front)), 0);
        let mut found = 0;
        for _ in 0..pieces {
            let memory = stash.bytes_mut();
            memory.resize(memory.len() + GAP, 0);
            memory.extend_from_slice(black_box(&piece));
            let frame = decoder
                .next_filled(&rules, &mut stash, GAP, piece.len())
                .expect("the frame is in order");
            found += u32::from(black_box(frame).is_some());
        }
        assert_eq!(found, 1);
    };
    Case::new("decoder/server/filled/1024", call).of_items(pieces)
}

/// Takes all frames off `input`, as a connection does.
fn decode(decoder: &mut Decoder, rules: &FrameRules, stash: &mut Stash, input: &mut [u8]) -> u32 {
    let (mut consumed, mut found) = (0, 0);
    loop {
        let decoded = decoder
            .next_frame(rules, stash, &mut input[consumed..])
            .expect("the frames are in order");
        consumed += decoded.consumed;
        let Some(frame) = decoded.frame else { return found };
        black_box(&frame);
        found += 1;
    }
}

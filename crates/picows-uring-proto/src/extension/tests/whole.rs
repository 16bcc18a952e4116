//! Whole messages without history, by libdeflate: any peer expands what is made of its streams, and what
//! it cannot judge is left to the other expander.

use super::super::whole::{MARKS_BYTES, WholeDeflater, WholeInflater};
use super::*;
use proptest::prelude::*;

/// Random text in which there is something to be found.
fn text(seed: u32, len: usize, letters: u8) -> Vec<u8> {
    let noise = noise(u64::from(seed), len);
    let mut text: Vec<_> = noise.iter().map(|byte| b'a' + byte % letters.max(1)).collect();
    for at in (0..len).step_by(97) {
        let end = len.min(at + 40);
        text.copy_within(at / 2..at / 2 + (end - at), at);
    }
    text
}

/// The blocks that a message is compressed to.
fn compress(level: u8, text: &[u8]) -> Option<Vec<u8>> {
    let mut output = vec![0xAA; text.len()];
    let len = WholeDeflater::new().compress(level, text, &mut output).unwrap()?;
    output.truncate(len);
    (len < text.len()).then_some(output)
}

/// What the expander makes of a message.
fn expand(data: &[u8], room: usize) -> Option<Vec<u8>> {
    if !WholeInflater::takes(data) {
        return None;
    }
    let mut text = vec![0; room + MARKS_BYTES];
    let len = WholeInflater::new().expand(data, &mut text).unwrap()?;
    text.truncate(len);
    Some(text)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn zlib_goes_on_behind_what_is_made_of_a_stream(
        seed: u32, len in 256..5000_usize, letters in 1..=90_u8, level in 1..=9_u8,
    ) {
        let text = text(seed, len, letters);
        // The same expander for all: none of them is the last of its stream.
        let mut zlib = oracle::Zlib::new(6, 15);
        for text in [&text[..], &text[..len / 2], &text[..]] {
            if let Some(data) = compress(level, text) {
                prop_assert_eq!(&zlib.expand(&data).unwrap(), text);
                prop_assert_eq!(&expand(&data, text.len()).unwrap(), text);
            }
        }
    }

    #[test]
    fn what_zlib_compresses_is_expanded_and_what_is_cut_or_changed_is_judged_by_zlib_rs(
        seed: u32, len in 1..3000_usize, letters in 1..=90_u8, cut: usize, bit: usize,
    ) {
        let text = text(seed, len, letters);
        let data = oracle::Zlib::new(6, 15).compress(&text);
        prop_assert_eq!(expand(&data, len).unwrap(), text.clone());
        prop_assert_eq!(expand(&data, len - 1), None, "there is no room");
        let mut changed = data.clone();
        changed[bit / 8 % data.len()] ^= 1 << (bit % 8);
        for data in [&data[..cut % data.len()], &changed, &[&data[..], b"\x05"].concat()] {
            let found = expand(data, 100_000);
            let judged = oracle::Zlib::new(6, 15).judge(data);
            let is_lenient = judged.as_ref().is_err_and(|fault| RESERVED.contains(&fault.as_str()));
            prop_assert!(
                found.is_none() || found.as_ref() == judged.as_ref().ok() || is_lenient,
                "{:?}: {:?}", data, judged
            );
            // And by the other expander, which wants the end of the message to be one.
            let mut other = Receiving::new(&Deflate::new(), &agreed(15, true));
            let verdict = other.expand(data);
            prop_assert!(
                found.is_none() || found.as_ref() == verdict.as_ref().ok() || is_lenient,
                "{:?}: {:?}", data, verdict
            );
        }
    }
}

/// What zlib says of symbols that no compressor makes: libdeflate takes them for those before them.
const RESERVED: [&str; 3] =
    ["invalid literal/length code", "invalid distance code", "too many length or distance symbols"];

#[test]
fn a_reserved_length_is_taken_for_the_longest() {
    // A changed bit in what zlib makes of one letter 649 times.
    let data = [74, 76, 28, 5, 227, 96, 16, 0, 0, 0];
    let judged = oracle::Zlib::new(6, 15).judge(&data);
    assert_eq!(judged, Err(RESERVED[0].to_owned()));
    let text = expand(&data, 100_000).expect("libdeflate knows no reserved symbols");
    assert!(text.iter().all(|&byte| byte == b'a'), "{text:?}");
}

#[test]
fn most_messages_of_json_are_compressed_at_once_and_end_in_any_bit() {
    let mut ends = [0; 2];
    for number in 0..500 {
        let text: String = (0..16).map(|at| quote(16 * number + at)).collect();
        let data = compress(4, text.as_bytes()).expect("its codes are its own");
        assert_eq!(data[0] & 0b111, 0b100, "not the last, with codes of its own");
        ends[usize::from(data.ends_with(&[0]))] += 1;
    }
    assert!(ends.iter().all(|&count| count > 50), "with a byte more, and without: {ends:?}");
}

#[test]
fn streams_that_have_ended_and_blocks_that_take_the_end_for_text_are_left_to_the_other() {
    let text = quote(7).repeat(20).into_bytes();
    let ended = [&oracle::finished(&text)[..], b"\0"].concat();
    assert_eq!(expand(&ended, 10_000), None);
    // A block without codes of 4 bytes, which do not come.
    assert_eq!(expand(b"\0\x04\0\xfb\xff", 10_000), None);
    // Others that would take some of what is put behind a message.
    for len in 1..40 {
        assert_eq!(expand(&[0, len, 0, !len, 0xFF], 10_000), None, "{len}");
        assert_eq!(expand(&[0, len + 1, 0, !(len + 1), 0xFF, b'a'], 10_000), None, "{len}");
    }
    // One that goes on, and then one that is the last.
    let mut both = oracle::Zlib::new(6, 15).flush(b"one that goes on");
    both.extend(oracle::finished(b"one that is the last"));
    both.push(0);
    assert_eq!(expand(&both, 10_000), None);
    assert_eq!(expand(b"", 10_000), None);
    // The connection expands them all the same, or ends.
    let mut receiving = Receiving::new(&Deflate::new(), &agreed(15, false));
    assert_eq!(receiving.expand(&ended).unwrap(), text);
    assert_eq!(
        receiving.expand(&both).ok(),
        Some(b"one that goes onone that is the last".to_vec())
    );
    assert_eq!(receiving.expand(b"\0\x04\0\xfb\xff"), Err(PeerMisbehaved::InvalidDeflate));
}

/// A message that ends in the middle of a code, of a block in which the end that is not sent is four bytes
/// of codes: of seven letters and one more, and the one that ends the block.
fn cut_in_a_code() -> Vec<u8> {
    let mut bits: Vec<u8> = Vec::new();
    let number = |bits: &mut Vec<u8>, value: u32, count: u32| {
        bits.extend((0..count).map(|at| (value >> at & 1) as u8));
    };
    // Codes of its own: 257 literals, one distance, and 19 lengths of codes.
    for (value, count) in [(0, 1), (2, 2), (0, 5), (0, 5), (15, 4)] {
        number(&mut bits, value, count);
    }
    // No runs, and four bits for each length.
    (0..19).for_each(|at| number(&mut bits, if at < 3 { 0 } else { 4 }, 3));
    let mut lengths = [0_u32; 258];
    lengths[97..100].fill(2);
    (3..15).for_each(|length| lengths[97 + length as usize] = length);
    (lengths[112], lengths[256]) = (15, 15);
    for length in lengths {
        bits.extend((0..4).rev().map(|at| (length >> at & 1) as u8));
    }
    // Codes of two bits, and one of three, up to the last bit but one of a byte.
    if bits.len().is_multiple_of(2) {
        bits.extend([1, 1, 0]);
    }
    while bits.len() % 8 != 7 {
        bits.extend([0, 1]);
    }
    bits.push(0);
    bits.chunks(8).map(|byte| byte.iter().rev().fold(0, |value, bit| 2 * value + bit)).collect()
}

#[test]
fn codes_that_take_the_end_for_theirs_are_left_to_the_other() {
    let data = cut_in_a_code();
    let judged = oracle::Zlib::new(6, 15).judge(&data).unwrap();
    assert!(
        judged.ends_with(b"aaaaaaaab"),
        "zlib takes the end for a part of the message: {judged:?}"
    );
    assert_eq!(expand(&data, 10_000), None);
    for takeover in [false, true] {
        let mut receiving = Receiving::new(&Deflate::new(), &agreed(15, takeover));
        assert_eq!(receiving.expand(&data), Err(PeerMisbehaved::InvalidDeflate));
    }
    // An empty block that says it is the last, as far as that is not cut off.
    assert_eq!(expand(b"\x01", 10_000), None);
    let last = [&oracle::Zlib::new(6, 15).flush(b"before")[..], b"\x01"].concat();
    assert_eq!(expand(&last, 10_000), None);
}

#[test]
fn a_ratio_judges_what_is_expanded_at_once() {
    // More than three times as long as its data, and longer than what is judged by no ratio.
    let text: Vec<_> = noise(1, 70_000).iter().map(|byte| b'a' + byte % 4).collect();
    let data = oracle::Zlib::new(6, 15).compress(&text);
    assert!((text.len() / 4..text.len() / 3).contains(&data.len()), "{} bytes", data.len());
    assert_eq!(expand(&data, text.len()).as_ref(), Some(&text));
    let ratio = (text.len() / data.len()) as u32;
    let wanted = [(ratio + 1, Ok(text.len())), (ratio, Err(PeerMisbehaved::ExpandedTooFar))];
    for (ratio, wanted) in wanted {
        for takeover in [false, true] {
            let settings = Deflate::new().ratio_max(Some(ratio));
            let mut receiving = Receiving::new(&settings, &agreed(15, takeover));
            assert_eq!(receiving.expand(&data).map(|text| text.len()), wanted);
            // Without the other expander.
            assert!(takeover || receiving.inflaters.memory() < 12_000 + data.len() + 64);
        }
    }
}

#[test]
fn messages_before_and_behind_one_in_fragments_are_expanded_at_once() {
    let text = quote(7).repeat(20).into_bytes();
    let settings = Deflate::new().threshold(0);
    let (mut sending, mut receiving) = (
        Sending::new(&settings, &agreed(15, false)),
        Receiving::new(&settings, &agreed(15, false)),
    );
    for _ in 0..3 {
        for (head, part) in [
            (FrameHead::new(MsgType::Text), &text[..]),
            (FrameHead::new(MsgType::Text).with_fin(false), &text[..500]),
            (FrameHead::new(MsgType::Continuation).with_fin(false), &text[500..1000]),
            (FrameHead::new(MsgType::Continuation), &text[1000..]),
        ] {
            let wire = sending.send(head, part);
            assert_eq!(receiving.receive(&wire).unwrap()[0].1, part);
        }
    }
}

#[test]
fn a_message_longer_than_the_window_of_the_peer_is_not_compressed_at_once() {
    let text = [&noise(1, 1000)[..], &[b'x'; 600], &noise(1, 1000)].concat();
    for (bits, is_short) in [(12, true), (10, false), (9, false)] {
        let agreed = agreed(bits, false);
        let mut sending = Sending::new(&Deflate::new().level(6).threshold(0), &agreed);
        let (rsv, data) = sending.frame(FrameHead::new(MsgType::Binary), &text);
        assert_eq!(rsv, 4);
        assert_eq!(data.len() < 1500, is_short, "{bits}: {} bytes", data.len());
        let mut before = Vec::new();
        let wire = [&data[..], &super::super::compression::TAIL].concat();
        assert!(oracle::distance_max(&wire, &mut before) <= 1 << bits);
        assert_eq!(before, text);
    }
}

#[test]
fn a_limit_bounds_the_text_of_a_message_that_is_expanded_at_once() {
    let text = quote(7).repeat(3).into_bytes();
    let data = oracle::Zlib::new(6, 15).compress(&text);
    for (max, is_fine) in [(text.len(), true), (text.len() - 1, false), (0, false)] {
        let mut receiving = Receiving::new(&Deflate::new(), &agreed(15, false));
        receiving.rules.payload_bytes_max = max as u64;
        let wanted = if is_fine { Ok(text.clone()) } else { Err(PeerMisbehaved::FrameTooLarge) };
        assert_eq!(receiving.expand(&data), wanted);
    }
}

//! Whole messages without history, by libdeflate: any peer expands what is made of its streams, and what
//! it cannot judge is left to the other expander.

use super::super::whole::{MARK_BYTES, WholeDeflater, WholeInflater};
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
    let mut text = vec![0; room + MARK_BYTES];
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

//! Short messages without history, by the compressor for those: stock zlib expands them, no distance is longer
//! than the window, and nothing of one message is in another.

use super::super::short::{OUTPUT_BYTES_MORE, ShortDeflater, TEXT_BYTES_MAX};
use super::*;
use proptest::prelude::*;

/// What a message is compressed to; `None` if it does not shrink.
fn compress(state: &mut ShortDeflater, level: u8, window: usize, text: &[u8]) -> Option<Vec<u8>> {
    let mut output = vec![0xAA; text.len() + OUTPUT_BYTES_MORE];
    let len = state.compress(level, window, text, &mut output).unwrap();
    output.truncate(len);
    (len < text.len()).then_some(output)
}

/// Texts with much and with little in common, in a few letters and in all bytes.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let len = prop_oneof![1..40_usize, 40..1500_usize, 1500..=TEXT_BYTES_MAX];
    let copies = proptest::collection::vec((any::<usize>(), any::<usize>(), 1..300_usize), 0..30);
    (any::<u32>(), len, 1..=256_u16, copies).prop_map(|(seed, len, letters, copies)| {
        let noise = noise(u64::from(seed), len);
        let mut text: Vec<u8> =
            noise.iter().map(|byte| (u16::from(*byte) % letters) as u8).collect();
        for (from, to, count) in copies {
            let (from, to) = (from % len, to % len);
            let count = count.min(len - from).min(len - to);
            text.copy_within(from..from + count, to);
        }
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn zlib_expands_each_message_and_no_distance_is_longer_than_the_window(
        texts in proptest::collection::vec(text(), 1..8), level in 1..=9_u8, bits in 8..=15_u8,
    ) {
        let window = if bits == 8 { 0 } else { 1 << bits };
        let mut state = ShortDeflater::new();
        // The same expander for all: none of the messages ends its stream.
        let mut zlib = oracle::Zlib::new(6, bits.max(9));
        for text in &texts {
            let data = compress(&mut state, level, window, text);
            prop_assert_eq!(&data, &compress(&mut ShortDeflater::new(), level, window, text));
            if let Some(data) = data {
                prop_assert_eq!(&zlib.expand(&data).unwrap(), text);
                let (mut found, wire) = (Vec::new(), [&data[..], &[0, 0, 0xFF, 0xFF]].concat());
                prop_assert!(oracle::distance_max(&wire, &mut found) <= window);
                prop_assert_eq!(&found, text);
                let mut receiving = Receiving::new(&Deflate::new(), &agreed(15, false));
                prop_assert_eq!(&receiving.expand(&data).unwrap(), text);
            }
        }
    }
}

#[test]
fn what_is_remembered_of_earlier_messages_changes_nothing_however_many_they_are() {
    let mut state = ShortDeflater::new();
    let mut zlib = oracle::Zlib::new(6, 15);
    // More than once as many bytes as places are counted up to, at different ends.
    for number in 0..500 {
        let text = quote(number % 7).repeat(1 + number as usize % 40);
        let text = &text.as_bytes()[..text.len().min(TEXT_BYTES_MAX)];
        let data = compress(&mut state, 4, 4096, text);
        assert_eq!(data, compress(&mut ShortDeflater::new(), 4, 4096, text), "{number}");
        if let Some(data) = data {
            assert_eq!(zlib.expand(&data).unwrap(), text, "{number}");
        }
    }
}

#[test]
fn every_length_and_distance_has_its_symbol() {
    for level in [1, 4, 9] {
        let mut state = ShortDeflater::new();
        for len in 4..600 {
            let text = vec![b'a'; len];
            if let Some(data) = compress(&mut state, level, 4096, &text) {
                assert_eq!(oracle::Zlib::new(6, 15).expand(&data).unwrap(), text, "{len}");
            }
        }
        for distance in (1..4000).step_by(7) {
            let text = [&noise(7, distance)[..], &noise(7, distance)].concat();
            let text = &text[..text.len().min(TEXT_BYTES_MAX)];
            if let Some(data) = compress(&mut state, level, 4096, text) {
                assert_eq!(oracle::Zlib::new(6, 15).expand(&data).unwrap(), text, "{distance}");
            }
        }
    }
}

#[test]
fn it_makes_no_more_bytes_than_zlib_but_for_a_few_percent() {
    // To the bytes that stock zlib makes of the same messages at level 6.
    let bounds = [(1, 112), (4, 105), (6, 102), (9, 102)];
    let mut found = Vec::new();
    for (level, percent_max) in bounds {
        for records in [8, 16, 32] {
            let (mut ours, mut theirs) = (0, 0);
            let (mut state, mut zlib) = (ShortDeflater::new(), oracle::Zlib::new(6, 15));
            for number in 0..200 {
                let text: String = (0..records).map(|at| quote(records * number + at)).collect();
                ours += compress(&mut state, level, 4096, text.as_bytes()).unwrap().len();
                theirs += zlib.compress(text.as_bytes()).len();
                zlib.reset();
            }
            found.push((level, records, percent_max, 100.0 * ours as f64 / theirs as f64));
        }
    }
    let are_few =
        found.iter().all(|&(_, _, percent_max, percent)| percent <= f64::from(percent_max));
    assert!(are_few, "level, records, percent at most, percent: {found:?}");
}

#[test]
fn messages_up_to_a_length_need_none_of_the_shared_compressors() {
    for (bits, len) in [(8, 100), (9, 1), (12, TEXT_BYTES_MAX), (15, 1000)] {
        let text = quote(1).repeat(60).into_bytes();
        let mut sending = Sending::new(&Deflate::new().threshold(0), &agreed(bits, false));
        sending.send(FrameHead::new(MsgType::Text), &text[..len]);
        let memory = sending.deflaters.memory();
        assert!((28_000..45_000).contains(&memory), "{bits} bits, {len} bytes: {memory}");
        sending.deflaters.trim(true);
        assert_eq!(sending.deflaters.memory(), 0);
    }
    let text = vec![b'a'; TEXT_BYTES_MAX + 1];
    let mut sending = Sending::new(&Deflate::new(), &agreed(9, false));
    sending.send(FrameHead::new(MsgType::Text), &text);
    assert!(sending.deflaters.memory() > 130_000, "a longer one needs one");
    let outcome = crate::reserve::with_no_more_than(20_000, || {
        ShortDeflater::new().compress(4, 4096, b"text", &mut [0; 12])
    });
    assert_eq!(outcome, Err(PeerMisbehaved::OutOfMemory));
}

//! Random streams: valid ones cut anywhere, and garbage.

use super::*;
use proptest::prelude::*;

/// One message or control frame, as first bytes and payloads.
type Part = Vec<(u8, Vec<u8>)>;

fn control() -> impl Strategy<Value = (u8, Vec<u8>)> {
    (proptest::sample::select(vec![PING, PONG]), proptest::collection::vec(any::<u8>(), 0..=125))
}

/// A message of any number of fragments, with control frames between some of them.
fn message() -> impl Strategy<Value = Part> {
    let payload = prop_oneof![
        (Just(TEXT_BEGINS), ".{0,60}".prop_map(String::into_bytes)),
        (Just(BINARY_BEGINS), proptest::collection::vec(any::<u8>(), 0..400)),
    ];
    let cuts = proptest::collection::vec((0..400_usize, proptest::option::of(control())), 0..4);
    (payload, cuts).prop_map(|((opcode, payload), mut cuts)| {
        cuts.sort_by_key(|(cut, _)| *cut);
        let (mut frames, mut start, mut first) = (Vec::new(), 0, opcode);
        for (cut, control) in cuts {
            let end = cut.min(payload.len());
            frames.push((first, payload[start..end].to_vec()));
            frames.extend(control);
            (start, first) = (end, CONTINUES);
        }
        frames.push((first | ENDS, payload[start..].to_vec()));
        frames
    })
}

fn conversation() -> impl Strategy<Value = Part> {
    let part = prop_oneof![3 => message(), 1 => control().prop_map(|frame| vec![frame])];
    proptest::collection::vec(part, 0..5).prop_map(|parts| parts.concat())
}

/// Bytes that look like frames often enough to get past the first header.
fn garbage() -> impl Strategy<Value = Vec<u8>> {
    let first = proptest::sample::select(vec![
        TEXT,
        TEXT_BEGINS,
        BINARY,
        BINARY_BEGINS,
        CONTINUES,
        ENDS,
        CLOSE,
        PING,
        PONG,
        0x83,
        0xC1,
    ]);
    let frame = (first, prop_oneof![8 => 0..12_u8, 1 => any::<u8>()], any::<bool>()).prop_flat_map(
        |(first, second, is_masked)| {
            let key = if is_masked { 4 } else { 0 };
            let len = key + usize::from(second & 0x7F);
            let second = if is_masked { second | 0x80 } else { second };
            let rest = proptest::collection::vec(any::<u8>(), len);
            rest.prop_map(move |rest| [&[first, second], &rest[..]].concat())
        },
    );
    prop_oneof![
        4 => proptest::collection::vec(frame, 0..12).prop_map(|frames| frames.concat()),
        1 => proptest::collection::vec(any::<u8>(), 0..200),
    ]
}

/// `bytes` cut at the given places, in order.
fn pieces<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

fn role() -> impl Strategy<Value = Role> {
    proptest::sample::select(ROLES.to_vec())
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(any::<usize>(), 0..8)
}

proptest! {
    #[test]
    fn valid_streams_come_out_as_they_went_in(
        role in role(),
        frames in conversation(),
        cuts in cuts(),
        validate_text: bool,
    ) {
        let frames: Vec<_> = frames.iter().map(|(first, payload)| (*first, &payload[..])).collect();
        let bytes = stream(role, &frames);
        let rules = FrameRules { validate_text, ..FrameRules::default() };
        let got = read_in_pieces(role, &rules, pieces(&bytes, &cuts));
        prop_assert_eq!(got, Outcome { frames: seen(&frames), error: None });
    }

    /// Whatever is missing of a frame may be put into the stash instead, as far as it came.
    #[test]
    fn what_is_put_into_the_stash_is_what_would_have_come_in_order(
        role in role(),
        is_garbage: bool,
        frames in conversation(),
        garbage in garbage(),
        pieces in proptest::collection::vec((1..200_usize, 0..3_usize), 1..40),
        gap in 0..40_usize,
        validate_text: bool,
    ) {
        let frames: Vec<_> = frames.iter().map(|(first, payload)| (*first, &payload[..])).collect();
        let bytes = if is_garbage { garbage } else { stream(role, &frames) };
        let rules = FrameRules { validate_text, ..FrameRules::default() };
        let whole = read_in_pieces(role, &rules, [&bytes[..]]);
        let mut reader = Reader::new(role, &rules);
        let (mut rest, mut pieces) = (&bytes[..], pieces.iter().cycle());
        while !rest.is_empty() {
            let (len, way) = pieces.next().unwrap();
            let missing = reader.decoder.bytes_missing(&reader.stash) as usize;
            let is_filled = *way > 0 && missing > 0;
            let most = if is_filled { missing } else { usize::MAX };
            let (piece, after) = rest.split_at((*len).min(rest.len()).min(most));
            if is_filled {
                reader.fill(piece, gap);
            } else {
                reader.feed(piece);
            }
            rest = after;
        }
        prop_assert_eq!(reader.outcome(), whole);
    }

    #[test]
    fn garbage_does_the_same_however_it_is_cut_and_never_panics(
        role in role(),
        bytes in garbage(),
        cuts in cuts(),
        validate_text: bool,
        rsv_allowed in 0..8_u8,
    ) {
        let rules = FrameRules { validate_text, rsv_allowed, payload_bytes_max: 60, ..FrameRules::default() };
        let whole = read_in_pieces(role, &rules, [&bytes[..]]);
        prop_assert_eq!(&read_in_pieces(role, &rules, pieces(&bytes, &cuts)), &whole);
        prop_assert_eq!(&read_in_pieces(role, &rules, bytes.chunks(1)), &whole);
    }
}

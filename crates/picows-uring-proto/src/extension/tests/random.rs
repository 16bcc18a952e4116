//! Random messages, windows, fragments, cuts and lost leases, with stock zlib at the other end.

use super::*;
use proptest::prelude::*;

/// A message: what it is made of, and where it is cut.
#[derive(Clone, Debug)]
struct Script {
    kind: u8,
    seed: u32,
    len: usize,
    cuts: Vec<usize>,
    loses: bool,
}

fn script() -> impl Strategy<Value = Script> {
    let len = prop_oneof![0..10_usize, 10..400_usize, 400..5000_usize, 5000..40_000_usize];
    let cuts = proptest::collection::vec(0..40_000_usize, 0..4);
    (0..4_u8, 0..1000_u32, len, cuts, any::<bool>())
        .prop_map(|(kind, seed, len, cuts, loses)| Script { kind, seed, len, cuts, loses })
}

impl Script {
    fn text(&self) -> Vec<u8> {
        let mut text = match self.kind {
            0 => noise(u64::from(self.seed), self.len),
            1 => vec![self.seed as u8; self.len],
            // Repeats at a distance that some windows cover.
            2 => noise(u64::from(self.seed), 200 + self.seed as usize).repeat(1 + self.len / 200),
            _ => (0..1 + self.len as u32 / 80)
                .map(|at| quote(self.seed + at))
                .collect::<String>()
                .into(),
        };
        text.truncate(self.len);
        text
    }

    /// The parts of `bytes` between its cuts.
    fn parts<'a>(&self, bytes: &'a [u8]) -> Vec<&'a [u8]> {
        let mut cuts: Vec<_> = self.cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
    }
}

/// Type and FIN of a part of a message.
fn head(at: usize, count: usize) -> FrameHead {
    let msg_type = if at == 0 { MsgType::Binary } else { MsgType::Continuation };
    FrameHead::new(msg_type).with_fin(at + 1 == count)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn zlib_expands_what_we_compress(
        scripts in proptest::collection::vec(script(), 1..12),
        bits in 9..=15_u8,
        level in 1..=9_u8,
        takeover: bool,
    ) {
        let settings = Deflate::new().level(level).threshold(0);
        let mut sending = Sending::new(&settings, &agreed(bits, takeover));
        let mut zlib = oracle::Zlib::new(6, bits);
        for script in &scripts {
            let text = script.text();
            let parts = script.parts(&text);
            let (mut data, mut is_compressed) = (Vec::new(), false);
            for (at, part) in parts.iter().enumerate() {
                let (rsv, payload) = sending.frame(head(at, parts.len()), part);
                is_compressed |= rsv == 4;
                data.extend(payload);
                if script.loses {
                    sending.deflaters.trim(true);
                }
            }
            if is_compressed {
                let expanded = zlib.expand(&data);
                prop_assert!(expanded.as_ref() == Some(&text), "{:?}", script);
            } else {
                prop_assert!(data == text);
            }
            if !takeover {
                zlib.reset();
            }
            prop_assert!(sending.compression.memory() <= 1 << bits);
        }
    }

    #[test]
    fn we_expand_what_zlib_compresses(
        scripts in proptest::collection::vec(script(), 1..12),
        bits in 9..=15_u8,
        level in 0..=9_u32,
        takeover: bool,
        is_flushed: bool,
    ) {
        let mut receiving = Receiving::new(&Deflate::new(), &agreed(bits, takeover));
        let mut zlib = oracle::Zlib::new(level, bits);
        for script in &scripts {
            let text = script.text();
            // Fragments end where their sender likes: at a flush, or anywhere in the data.
            let mut fragments: Vec<Vec<u8>> = if is_flushed {
                script.parts(&text).iter().map(|part| zlib.flush(part)).collect()
            } else {
                let data = zlib.compress(&text);
                script.parts(&data).iter().map(|part| part.to_vec()).collect()
            };
            if is_flushed {
                let last = fragments.last_mut().unwrap();
                match last.len().checked_sub(4) {
                    Some(len) => last.truncate(len),
                    None => *last = vec![0],
                }
            }
            let mut wire = Vec::new();
            for (at, fragment) in fragments.iter().enumerate() {
                let FrameHead { msg_type, fin, .. } = head(at, fragments.len());
                wire.extend(frame(msg_type, fin, if at == 0 { 4 } else { 0 }, fragment));
            }
            let mut received = Vec::new();
            for piece in script.parts(&wire) {
                for (_, text) in receiving.receive(piece).unwrap() {
                    received.extend(text);
                }
            }
            prop_assert!(received == text, "{:?}", script);
            if script.loses {
                receiving.inflaters.trim(true);
            }
            if !takeover {
                zlib.reset();
            }
            let memory = receiving.expansion.memory();
            prop_assert!(memory <= 1 << bits);
        }
    }

    /// For the window of 8 bits as well, which zlib refuses.
    #[test]
    fn no_distance_is_longer_than_the_window(
        scripts in proptest::collection::vec(script(), 1..8),
        bits in 8..=15_u8,
        level in 1..=9_u8,
    ) {
        let settings = Deflate::new().level(level).threshold(0);
        let mut sending = Sending::new(&settings, &agreed(bits, true));
        let mut receiving = Receiving::new(&settings, &agreed(bits, true));
        let mut texts = Vec::new();
        for script in &scripts {
            let text = script.text();
            let (rsv, payload) = sending.frame(FrameHead::new(MsgType::Binary), &text);
            if script.loses {
                sending.deflaters.trim(true);
            }
            if rsv == 4 {
                let before = texts.len();
                let data = [&payload[..], &[0, 0, 0xFF, 0xFF]].concat();
                let most = oracle::distance_max(&data, &mut texts);
                prop_assert!(texts[before..] == text);
                prop_assert!(most <= if bits == 8 { 0 } else { 1 << bits }, "{most}");
                prop_assert!(receiving.expand(&payload).unwrap() == text);
            }
        }
    }

    /// One set of each kind for several connections, each message of another one.
    #[test]
    fn connections_share_states_and_no_text(
        order in proptest::collection::vec((0..6_usize, 0..1000_u32, 1..9_usize), 1..60),
        states in 0..5_usize,
    ) {
        let settings = Deflate::new().threshold(0);
        let windows = [9, 12, 12, 12, 15, 15];
        let takeovers = [true, true, true, false, true, true];
        let agreed: Vec<_> = (0..6).map(|at| agreed(windows[at], takeovers[at])).collect();
        let mut sets = (Deflaters::new(states), Inflaters::new(states));
        let mut ends: Vec<_> = agreed.iter().map(|agreed| {
            (Compression::new(&settings, agreed), Receiving::new(&settings, agreed))
        }).collect();
        for (connection, seed, count) in order {
            let text = quote(seed).repeat(count).into_bytes();
            let (compression, receiving) = &mut ends[connection];
            let head = FrameHead::new(MsgType::Binary);
            let Compressed::Frame(head, payload) =
                compression.compress(&mut sets.0, head, &text).unwrap() else { continue };
            let wire = frame(head.msg_type, true, head.rsv, payload);
            std::mem::swap(&mut receiving.inflaters, &mut sets.1);
            let received = receiving.receive(&wire).unwrap();
            std::mem::swap(&mut receiving.inflaters, &mut sets.1);
            prop_assert_eq!(&received[0].1, &text);
            let whole = if cfg!(feature = "libdeflate") { 16 * 1024 } else { 0 };
            prop_assert!(sets.1.memory() <= states * 47_700 + whole);
        }
    }
}

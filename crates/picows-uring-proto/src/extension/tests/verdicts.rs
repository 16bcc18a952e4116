//! Verdicts on messages: the same whether a connection has its expander for itself, shares it with
//! others meanwhile, or has none left.

use super::*;
use proptest::prelude::*;

/// What happens to the expanders between two messages of a connection.
#[derive(Clone, Copy, Debug)]
enum Sharing {
    /// Nothing.
    None,
    /// Another connection of the worker uses the only one.
    Taken,
    /// They are given up.
    Trimmed,
    /// There is none but for the time of a message.
    Absent,
}

const SECRET: &[u8] = b"account 4711 owes 100000 to account 4712 since yesterday";

/// The verdicts on `messages`, each of one or several fragments.
fn verdicts(
    sharing: Sharing,
    agreed: &NegotiatedDeflate,
    messages: &[Vec<&[u8]>],
) -> Vec<Result<Vec<u8>, PeerMisbehaved>> {
    let mut receiving = Receiving::new(&Deflate::new(), agreed);
    receiving.rules.validate_text = false;
    receiving.inflaters = Inflaters::new(usize::from(!matches!(sharing, Sharing::Absent)));
    let mut neighbour = Receiving::new(&Deflate::new(), agreed);
    let mut verdicts = Vec::new();
    for fragments in messages {
        let mut wire = Vec::new();
        for (at, fragment) in fragments.iter().enumerate() {
            let msg_type = if at == 0 { MsgType::Binary } else { MsgType::Continuation };
            let rsv = if at == 0 { 4 } else { 0 };
            wire.extend(frame(msg_type, at + 1 == fragments.len(), rsv, fragment));
        }
        let received = receiving.receive(&wire);
        verdicts.push(received.map(|frames| frames.into_iter().flat_map(|it| it.1).collect()));
        match sharing {
            Sharing::None | Sharing::Absent => {}
            Sharing::Trimmed => receiving.inflaters.trim(true),
            Sharing::Taken => {
                std::mem::swap(&mut receiving.inflaters, &mut neighbour.inflaters);
                let begun = oracle::Zlib::new(6, 9).compress(SECRET);
                assert_eq!(neighbour.expand(&begun).unwrap(), SECRET);
                std::mem::swap(&mut receiving.inflaters, &mut neighbour.inflaters);
            }
        }
    }
    verdicts
}

/// The same for whole messages, however the expanders are shared.
fn verdict(
    agreed: &NegotiatedDeflate,
    messages: &[Vec<&[u8]>],
) -> Vec<Result<Vec<u8>, PeerMisbehaved>> {
    let alone = verdicts(Sharing::None, agreed, messages);
    for sharing in [Sharing::Taken, Sharing::Trimmed, Sharing::Absent] {
        let other = verdicts(sharing, agreed, messages);
        assert!(other == alone, "{sharing:?}\n{other:?}\n{alone:?}\n{messages:?}");
    }
    alone
}

#[test]
fn a_message_that_ends_inside_a_block_is_refused() {
    let refused = Err(PeerMisbehaved::InvalidDeflate);
    let stored = [&[0, 10, 0, 0xF5, 0xFF][..], b"0123456789", &[0]].concat();
    let kinds = [
        oracle::Zlib::new(1, 15).compress(quote(1).as_bytes()),
        oracle::Zlib::new(6, 15).compress(quote(2).repeat(30).as_bytes()),
        oracle::Zlib::new(0, 15).compress(b"some text that is stored"),
        stored,
    ];
    for (data, takeover) in kinds.iter().flat_map(|data| [(data, true), (data, false)]) {
        let agreed = agreed(15, takeover);
        let mut next = oracle::Zlib::new(6, 15);
        let (first, second) = (next.compress(b"first message"), next.compress(quote(3).as_bytes()));
        // The first byte of a block that is not compressed is that of an empty one.
        for cut in (0..data.len()).filter(|&cut| data[..cut] != [0]) {
            // In one frame and in two.
            for fragments in [vec![&data[..cut]], vec![&data[..cut / 2], &data[cut / 2..cut]]] {
                let messages = [vec![&first[..]], fragments, vec![&second[..]]];
                let verdicts = verdict(&agreed, &messages);
                assert_eq!(verdicts[0].as_deref(), Ok(&b"first message"[..]));
                assert_eq!(verdicts[1..], [refused.clone(), refused.clone()], "cut={cut}");
            }
        }
        assert!(verdict(&agreed, &[vec![&data[..]]])[0].is_ok());
    }
}

#[test]
fn data_after_which_the_tail_is_no_block_of_its_own_is_refused() {
    let text = quote(1).repeat(5);
    let whole = oracle::Zlib::new(6, 15).flush(text.as_bytes());
    let finished = oracle::finished(text.as_bytes());
    // The tail was not cut off; nothing is behind a last block; nothing at all; a header of codes that
    // the tail completes, so that a block ends inside its last byte.
    for data in [&whole[..], &finished, b"", b"\x05", b"\x04\xc0\x81\x00\x00\x00"] {
        let verdicts = verdict(&agreed(15, true), &[vec![data]]);
        assert_eq!(verdicts, [Err(PeerMisbehaved::InvalidDeflate)], "{data:02x?}");
    }
}

#[test]
fn a_distance_beyond_the_agreed_window_is_refused() {
    for bits in 9..=14_u8 {
        let window = 1 << bits;
        for beyond in [0, 60, 1000] {
            // It refers to the first bytes of the message before.
            let filler = noise(u64::from(bits), window - SECRET.len() + beyond);
            let mut zlib = oracle::Zlib::new(9, 15);
            let before = zlib.compress(&[SECRET, &filler].concat());
            let crafted = zlib.compress(SECRET);
            let mut text = [SECRET, &filler].concat();
            let tail = [0, 0, 0xFF, 0xFF];
            let most = oracle::distance_max(&[&crafted[..], &tail].concat(), &mut text);
            assert_eq!(most, window + beyond);
            let messages = [vec![&before[..]], vec![&crafted[..]]];
            let verdicts = verdict(&agreed(bits, true), &messages);
            assert!(verdicts[0].is_ok());
            let wanted = match beyond {
                0 => Ok(SECRET.to_vec()),
                _ => Err(PeerMisbehaved::InvalidDeflate),
            };
            assert_eq!(verdicts[1], wanted, "{bits} bits, {beyond} bytes beyond");
            // Text of the message itself, up to the secret, is always there.
            assert!(beyond == 0 || beyond > SECRET.len());
            // Over many messages, as well.
            let mut zlib = oracle::Zlib::new(9, 15);
            let begun = zlib.compress(SECRET);
            let parts: Vec<_> = filler.chunks(100).map(|part| zlib.compress(part)).collect();
            let crafted = zlib.compress(SECRET);
            let mut messages = vec![vec![&begun[..]]];
            messages.extend(parts.iter().map(|part| vec![&part[..]]));
            messages.push(vec![&crafted]);
            let verdicts = verdict(&agreed(bits, true), &messages);
            assert_eq!(verdicts.last(), Some(&wanted), "{bits} bits, {beyond} bytes beyond");
        }
    }
}

/// Messages of stock zlib, some of them broken.
fn message() -> impl Strategy<Value = (u32, usize, Option<(usize, u8)>, Option<usize>)> {
    let flip = proptest::option::weighted(0.3, (any::<usize>(), 1..=255_u8));
    let cut = proptest::option::weighted(0.3, any::<usize>());
    (0..50_u32, 1..40_usize, flip, cut)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn how_expanders_are_shared_changes_no_verdict(
        messages in proptest::collection::vec(message(), 1..12),
        level in 0..=9_u32,
        bits in 9..=15_u8,
        sent_bits in 9..=15_u8,
        takeover: bool,
    ) {
        let mut zlib = oracle::Zlib::new(level, sent_bits);
        let data: Vec<Vec<u8>> = messages.iter().map(|&(seed, count, flip, cut)| {
            let mut data = zlib.compress(quote(seed).repeat(count).as_bytes());
            if let Some((at, bits)) = flip {
                let at = at % data.len();
                data[at] ^= bits;
            }
            if let Some(cut) = cut {
                data.truncate(cut % data.len());
            }
            data
        }).collect();
        let messages: Vec<_> = data.iter().map(|data| vec![&data[..]]).collect();
        verdict(&agreed(bits, takeover), &messages);
    }
}

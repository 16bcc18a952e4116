//! Hostile peers: text of others, bombs, frames that break the rules, no memory.

use super::*;
use crate::reserve::with_no_more_than;

const MIB: usize = 1024 * 1024;

/// What stock zlib makes of `text`, without the end that is not sent.
fn deflated(text: &[u8]) -> Vec<u8> {
    oracle::Zlib::new(9, 15).compress(text)
}

#[test]
fn a_distance_into_the_text_of_another_connection_fails() {
    let secret = b"account 4711 owes 100000 to account 4712 since yesterday";
    // Refers to as many bytes before its own first as the secret has.
    let mut thief = oracle::Zlib::new(9, 15);
    thief.compress(secret);
    let crafted = thief.compress(secret);
    assert!(crafted.len() < 8, "nothing but a distance");
    for takeover in [true, false] {
        let mut owner = Receiving::new(&Deflate::new(), &agreed(15, takeover));
        owner.inflaters = Inflaters::new(1);
        assert_eq!(owner.expand(&deflated(secret)).unwrap(), secret);
        // Another connection of the same worker gets the only expander there is.
        let mut other = Receiving::new(&Deflate::new(), &agreed(15, takeover));
        other.inflaters = std::mem::replace(&mut owner.inflaters, Inflaters::new(0));
        if takeover || !cfg!(feature = "libdeflate") {
            assert_eq!(other.inflaters.memory(), 47_700);
        }
        assert_eq!(other.expand(&crafted), Err(PeerMisbehaved::InvalidDeflate));
        // Every later call returns the same error.
        assert_eq!(other.receive(b"\x81\x01a"), Err(PeerMisbehaved::InvalidDeflate));
        // And its owner can refer to it, even so, where it may.
        let again = owner.expand(&crafted);
        assert_eq!(again.ok(), takeover.then(|| secret.to_vec()));
    }
}

#[test]
fn a_distance_past_the_start_of_the_history_fails() {
    let mut receiving = Receiving::with_window(15);
    let mut zlib = oracle::Zlib::new(9, 15);
    zlib.compress(b"before the connection began: 0123456789");
    let crafted = zlib.compress(b"before the connection began: 0123456789");
    receiving.expand(&deflated(b"short")).unwrap();
    receiving.inflaters.trim(true);
    assert_eq!(receiving.expand(&crafted), Err(PeerMisbehaved::InvalidDeflate));
}

#[test]
fn a_bomb_is_bounded_before_memory_is_taken() {
    let bomb = deflated(&vec![0; 64 * MIB]);
    assert!(bomb.len() < 70_000);
    let mut receiving = Receiving::with_window(15);
    receiving.rules.payload_bytes_max = MIB as u64;
    assert_eq!(receiving.expand(&bomb), Err(PeerMisbehaved::FrameTooLarge));
    let expansion = &mut receiving.expansion;
    assert!(expansion.text_mut().capacity() <= MIB + 1, "{}", expansion.text_mut().capacity());
    // At the limit, and one byte beyond it.
    for (len, is_fine) in [(MIB, true), (MIB + 1, false)] {
        let mut receiving = Receiving::with_window(15);
        receiving.rules.payload_bytes_max = MIB as u64;
        assert_eq!(receiving.expand(&deflated(&vec![7; len])).is_ok(), is_fine);
    }
    for limit in [0, 1] {
        let mut receiving = Receiving::with_window(15);
        receiving.rules.payload_bytes_max = limit;
        // The data of one byte is longer than that.
        let refused = receiving.expand(&deflated(b"ab"));
        assert_eq!(refused, Err(PeerMisbehaved::FrameTooLarge), "{limit}");
    }
}

#[test]
fn a_ratio_ends_what_expands_too_far() {
    let text = vec![0; MIB];
    for (ratio, is_fine) in [(None, true), (Some(2000), true), (Some(100), false)] {
        let settings = Deflate::new().ratio_max(ratio);
        let mut receiving = Receiving::new(&settings, &agreed(15, true));
        let wanted = if is_fine { Ok(text.clone()) } else { Err(PeerMisbehaved::ExpandedTooFar) };
        assert_eq!(receiving.expand(&deflated(&text)), wanted, "{ratio:?}");
        assert_eq!(receiving.expand(&deflated(&text)), wanted, "{ratio:?}");
    }
    // Text that expands as it does everywhere, and short messages however they expand.
    let settings = Deflate::new().ratio_max(Some(20));
    let mut receiving = Receiving::new(&settings, &agreed(15, true));
    let mut zlib = oracle::Zlib::new(9, 15);
    for number in 0..1000 {
        let text = quote(number).into_bytes();
        assert_eq!(receiving.expand(&zlib.compress(&text)).unwrap(), text);
    }
    assert!(receiving.expand(&zlib.compress(&vec![0; 64 * 1024])).is_ok());
}

#[test]
fn last_blocks_are_bounded_as_each_costs_a_copy_of_the_window() {
    // An empty block that says it is the last, and the byte it ends in.
    let mut receiving = Receiving::with_window(15);
    let last = [&b"\x03\x00".repeat(16)[..], b"\x00"].concat();
    assert_eq!(receiving.expand(&last).unwrap(), b"");
    let mut receiving = Receiving::with_window(15);
    let refused = receiving.expand(&b"\x03\x00".repeat(200));
    assert_eq!(refused, Err(PeerMisbehaved::InvalidDeflate));
    // A peer that ends its stream with each message.
    let mut receiving = Receiving::with_window(15);
    for number in 0..100 {
        let text = quote(number);
        let mut data = oracle::finished(text.as_bytes());
        data.push(0);
        assert_eq!(receiving.expand(&data).unwrap(), text.as_bytes());
    }
}

#[test]
fn rsv1_is_for_the_first_frame_of_a_message() {
    let begun = frame(MsgType::Text, false, 4, b"");
    let broken = [
        [&begun[..], &frame(MsgType::Continuation, true, 4, b"\x00")].concat(),
        frame(MsgType::Ping, true, 4, b""),
        frame(MsgType::Close, true, 4, b""),
        frame(MsgType::Text, true, 6, b"\x00"),
        frame(MsgType::Text, true, 1, b""),
    ];
    for wire in broken {
        let mut receiving = Receiving::with_window(15);
        assert_eq!(receiving.receive(&wire), Err(PeerMisbehaved::UnexpectedRsv), "{wire:?}");
    }
    // Without the extension, it has no meaning at all.
    let mut wire = frame(MsgType::Text, true, 4, b"\x00");
    let refused = Receiver::new(Role::Client).next(&FrameRules::default(), &mut wire).map(|_| ());
    assert_eq!(refused, Err(PeerMisbehaved::UnexpectedRsv));
}

#[test]
fn control_frames_between_compressed_fragments_are_plain() {
    let (mut sending, mut receiving) = (Sending::with_window(12), Receiving::with_window(12));
    let text = quote(1).repeat(3).into_bytes();
    let begun = FrameHead::new(MsgType::Binary).with_fin(false);
    let mut wire = sending.send(begun, &text);
    wire.extend(frame(MsgType::Ping, true, 0, b"ping"));
    wire.extend(sending.send(FrameHead::new(MsgType::Continuation), &text));
    let frames = receiving.receive(&wire).unwrap();
    assert_eq!(frames, [(false, text.clone()), (true, b"ping".to_vec()), (true, text)]);
}

#[test]
fn text_is_judged_when_it_is_expanded_rfc6455_8_1() {
    let text = "täglich ".repeat(30);
    let mut sending = Sending::with_window(12);
    for cut in 0..40 {
        let mut receiving = Receiving::with_window(12);
        let begun = FrameHead::new(MsgType::Text).with_fin(false).compressed(true);
        let mut wire = sending.send(begun, &text.as_bytes()[..cut]);
        let rest = FrameHead::new(MsgType::Continuation);
        wire.extend(sending.send(rest, &text.as_bytes()[cut..]));
        assert_eq!(receiving.receive(&wire).unwrap().len(), 2, "cut={cut}");
        sending.compression.forget();
    }
    let broken: [&[u8]; 3] = [b"\xff", b"cut \xc3", b"\xed\xa0\x80"];
    for broken in broken {
        let text = [text.as_bytes(), broken].concat();
        let wire = sending.send(FrameHead::new(MsgType::Text), &text);
        let mut receiving = Receiving::with_window(12);
        assert_eq!(receiving.receive(&wire), Err(PeerMisbehaved::InvalidUtf8));
        let mut receiving = Receiving::with_window(12);
        receiving.rules.validate_text = false;
        assert_eq!(receiving.receive(&wire).unwrap(), [(true, text)]);
        sending.compression.forget();
    }
    // What is compressed text is no text yet.
    let mut receiving = Receiving::with_window(12);
    receiving.receive(&sending.send(FrameHead::new(MsgType::Text), text.as_bytes())).unwrap();
    let plain = receiving.receive(&frame(MsgType::Text, true, 0, b"\xff"));
    assert_eq!(plain, Err(PeerMisbehaved::InvalidUtf8), "a plain one is");
    let mut receiving = Receiving::with_window(12);
    receiving.receive(&frame(MsgType::Text, false, 0, b"a")).unwrap();
    let plain = receiving.receive(&frame(MsgType::Continuation, true, 0, b"\xff"));
    assert_eq!(plain, Err(PeerMisbehaved::InvalidUtf8), "in fragments as well");
}

#[test]
fn broken_data_is_reported_at_every_cut_of_it() {
    let data = deflated(quote(5).repeat(20).as_bytes());
    let mut refused = 0;
    for at in 0..data.len() {
        for flip in [0x01, 0x10, 0xFF] {
            let mut broken = data.clone();
            broken[at] ^= flip;
            let mut receiving = Receiving::with_window(15);
            receiving.rules.payload_bytes_max = MIB as u64;
            match receiving.expand(&broken) {
                Ok(_) => {}
                Err(error) => {
                    refused += 1;
                    let is_known = matches!(
                        error,
                        PeerMisbehaved::InvalidDeflate | PeerMisbehaved::FrameTooLarge
                    );
                    assert!(is_known, "{error}");
                }
            }
        }
    }
    assert!(refused > data.len() / 2, "{refused} of {}", data.len());
}

#[test]
fn without_memory_a_connection_ends_and_not_the_process() {
    let data = deflated(&vec![1; 100_000]);
    let mut receiving = Receiving::with_window(15);
    let outcome = with_no_more_than(20_000, || receiving.expand(&data));
    assert_eq!(outcome, Err(PeerMisbehaved::OutOfMemory), "no expander");
    let mut receiving = Receiving::with_window(15);
    receiving.expand(&deflated(b"makes one")).unwrap();
    let outcome = with_no_more_than(20_000, || receiving.expand(&data));
    assert_eq!(outcome, Err(PeerMisbehaved::OutOfMemory), "no text");
    let mut sending = Sending::with_window(12);
    let head = FrameHead::new(MsgType::Text);
    let Sending { compression, deflaters } = &mut sending;
    let text = quote(1).repeat(10);
    let outcome = with_no_more_than(100_000, || {
        compression.compress(deflaters, head, text.as_bytes()).map(|_| ())
    });
    assert_eq!(outcome, Err(PeerMisbehaved::OutOfMemory), "no compressor");
    assert!(compression.compress(deflaters, head, text.as_bytes()).is_ok());
}

#[test]
fn memory_is_what_is_kept_from_message_to_message() {
    let (mut sending, mut receiving) = (Sending::with_window(12), Receiving::with_window(12));
    for number in 0..200 {
        let text = quote(number).repeat(4);
        let wire = sending.send(FrameHead::new(MsgType::Text), text.as_bytes());
        receiving.receive(&wire).unwrap();
    }
    assert_eq!(sending.compression.memory(), 4096);
    assert_eq!(receiving.expansion.memory(), 4096);
    let begun = FrameHead::new(MsgType::Text).with_fin(false);
    let wire = sending.send(begun, quote(0).as_bytes());
    receiving.receive(&wire).unwrap();
    assert_eq!(receiving.expansion.memory(), 4096 + 47_700);
    // One compressor, and a small output.
    assert!(sending.deflaters.memory() < 200_000, "{}", sending.deflaters.memory());
}

#[test]
fn so_many_messages_in_fragments_keep_an_expander_and_no_more() {
    use crate::extension::deflate::KEPT_MAX;
    let (settings, agreed, rules) = (Deflate::new(), agreed(12, true), FrameRules::default());
    let head = |fin| FrameHead::new(MsgType::Text).with_fin(fin);
    let wire = |fin| Sending::with_window(12).send(head(fin), "text ".repeat(20).as_bytes());
    let (first, whole) = (wire(false), wire(true));
    let mut inflaters = Inflaters::new(4);
    let mut receive = |wire: &[u8]| {
        let mut receiver = Receiver::new(Role::Client);
        let mut expansion = Expansion::new(&settings, &agreed);
        let mut wire = wire.to_vec();
        let outcome = receiver.next_expanded(&rules, &mut expansion, &mut inflaters, &mut wire);
        outcome.map(|(decoded, _)| assert!(decoded.frame.is_some())).map(|()| expansion)
    };
    let mut begun: Vec<_> = (0..KEPT_MAX).map(|_| receive(&first).unwrap()).collect();
    assert_eq!(receive(&first).err(), Some(PeerMisbehaved::OutOfMemory));
    assert!(receive(&whole).is_ok(), "one that is whole gives it back at once");
    // A connection that ends leaves room for another.
    begun.pop();
    begun.push(receive(&first).unwrap());
    assert_eq!(receive(&first).err(), Some(PeerMisbehaved::OutOfMemory));
}

//! The examples of RFC 7692 §7.2.3, and messages that others got wrong.

use super::*;

const TEXT: FrameHead = FrameHead::new(MsgType::Text);

/// Receives `wire` cut at every place, by a peer that keeps its window.
fn receive_cut(wire: &[u8], wanted: &[(bool, &[u8])]) {
    for cut in 0..=wire.len() {
        let mut receiving = Receiving::with_window(15);
        let mut frames = receiving.receive(&wire[..cut]).unwrap();
        frames.extend(receiving.receive(&wire[cut..]).unwrap());
        let frames: Vec<_> = frames.iter().map(|(fin, text)| (*fin, &text[..])).collect();
        assert_eq!(frames, wanted, "cut={cut}");
    }
}

#[test]
fn a_message_of_one_frame_and_of_two_rfc7692_7_2_3_1() {
    receive_cut(b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00", &[(true, b"Hello")]);
    let fragments = b"\x41\x03\xf2\x48\xcd\x80\x04\xc9\xc9\x07\x00";
    let mut receiving = Receiving::with_window(15);
    let frames = receiving.receive(fragments).unwrap();
    let joined: Vec<u8> = frames.iter().flat_map(|(_, text)| text.clone()).collect();
    assert_eq!((joined, frames.len()), (b"Hello".to_vec(), 2));
}

#[test]
fn a_message_that_refers_to_the_one_before_rfc7692_7_2_3_2() {
    let wire = b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00\xc1\x05\xf2\x00\x11\x00\x00";
    receive_cut(wire, &[(true, b"Hello"), (true, b"Hello")]);
}

#[test]
fn a_block_without_compression_rfc7692_7_2_3_3() {
    let wire = b"\xc1\x0b\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00";
    receive_cut(wire, &[(true, b"Hello")]);
}

#[test]
fn a_block_that_says_it_is_the_last_rfc7692_7_2_3_4() {
    let wire = b"\xc1\x08\xf3\x48\xcd\xc9\xc9\x07\x00\x00\xc1\x05\xf2\x00\x11\x00\x00";
    receive_cut(wire, &[(true, b"Hello"), (true, b"Hello")]);
}

#[test]
fn two_blocks_in_one_message_rfc7692_7_2_3_5() {
    let wire = b"\xc1\x0d\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00";
    receive_cut(wire, &[(true, b"Hello")]);
}

#[test]
fn an_empty_message_rfc7692_7_2_3_6() {
    receive_cut(b"\xc1\x01\x00", &[(true, b"")]);
    // Three empty fragments, of which only the last has a byte.
    receive_cut(b"\x41\x00\x00\x00\x80\x01\x00", &[(false, b""), (false, b""), (true, b"")]);
}

#[test]
fn what_we_send_of_the_example_is_what_the_rfc_has() {
    let mut sending = Sending::new(&Deflate::new().level(1).threshold(0), &agreed(15, true));
    // Five bytes do not shrink, so they are sent as they are; in a message that does, they do.
    assert_eq!(sending.send(TEXT, b"Hello"), b"\x81\x05Hello");
    let wire = sending.send(TEXT, b"HelloHelloHelloHello");
    assert_eq!(wire[0], 0xC1);
    receive_cut(&wire, &[(true, b"HelloHelloHelloHello")]);
}

#[test]
fn empty_messages_and_fragments_between_others() {
    for takeover in [true, false] {
        let agreed = agreed(12, takeover);
        let mut sending = Sending::new(&Deflate::new().threshold(0), &agreed);
        let mut receiving = Receiving::new(&Deflate::new(), &agreed);
        let texts = ["", "aaaaaaaaaaaaaaaa", "", "bbbbbbbbbbbbbbbbbbb", "aaaaaaaaaaaaaaaa", ""];
        for text in texts {
            let wire = sending.send(TEXT, text.as_bytes());
            assert!(wire[1] > 0 || wire[0] == 0x81, "no RSV1 without payload");
            assert_eq!(receiving.receive(&wire).unwrap(), [(true, text.as_bytes().to_vec())]);
        }
        // The last fragment is empty, and so are all.
        for parts in [&["first part of a text, first part", ""][..], &["", "", ""], &["", "x"]] {
            let mut joined = Vec::new();
            for (at, part) in parts.iter().enumerate() {
                let msg_type = if at == 0 { MsgType::Text } else { MsgType::Continuation };
                let head = FrameHead::new(msg_type).with_fin(at + 1 == parts.len());
                let wire = sending.send(head, part.as_bytes());
                assert_eq!(wire[0] & 0x40 != 0, at == 0, "RSV1 on the first only");
                assert!(!head.fin || wire[1] > 0, "the last has a byte");
                for (_, text) in receiving.receive(&wire).unwrap() {
                    joined.extend(text);
                }
            }
            assert_eq!(joined, parts.concat().as_bytes());
        }
    }
}

#[test]
fn a_plain_message_enters_neither_history() {
    let (mut sending, mut receiving) = (Sending::with_window(12), Receiving::with_window(12));
    let text = quote(1).repeat(3);
    for (compressed, loses) in [(true, false), (false, false), (true, true), (false, true)] {
        for number in 0..40 {
            let text = format!("{}{text}", quote(number));
            let head = TEXT.compressed(compressed ^ (number % 3 == 1));
            let wire = sending.send(head, text.as_bytes());
            assert_eq!(wire[0] & 0x40 != 0, head.compressed == Some(true));
            if loses {
                sending.deflaters.trim(true);
                receiving.inflaters.trim(true);
            }
            assert_eq!(receiving.receive(&wire).unwrap(), [(true, text.into_bytes())]);
        }
    }
}

#[test]
fn what_does_not_shrink_is_sent_as_it_is_and_is_not_referred_to() {
    let (mut sending, mut receiving) = (Sending::with_window(15), Receiving::with_window(15));
    for round in 0..4 {
        let noise = noise(round, 3000);
        let wire = sending.send(FrameHead::new(MsgType::Binary), &noise);
        assert_eq!((wire[0], wire.len()), (0x82, 3004));
        assert_eq!(receiving.receive(&wire).unwrap(), [(true, noise.clone())]);
        // Part of it in a message that does shrink.
        let text = [&noise[..200], &[b'x'; 2000]].concat();
        let wire = sending.send(FrameHead::new(MsgType::Binary), &text);
        assert!(wire[0] == 0xC2 && wire.len() > 200, "{} bytes", wire.len());
        assert_eq!(receiving.receive(&wire).unwrap(), [(true, text)]);
    }
}

#[test]
fn a_message_in_fragments_is_compressed_whole_or_not_at_all() {
    let parts = [noise(1, 500), quote(1).repeat(5).into_bytes(), noise(2, 500)];
    for order in [[0, 1, 2], [1, 0, 2], [1, 2, 0]] {
        let (mut sending, mut receiving) = (Sending::with_window(12), Receiving::with_window(12));
        for (at, part) in order.iter().map(|&part| &parts[part]).enumerate() {
            let msg_type = if at == 0 { MsgType::Binary } else { MsgType::Continuation };
            let head = FrameHead::new(msg_type).with_fin(at == 2);
            let wire = sending.send(head, part);
            // The first fragment decides.
            let is_smaller = wire.len() < part.len();
            assert_eq!(is_smaller, order[0] == 1 && order[at] == 1, "{order:?} {at}");
            assert_eq!(receiving.receive(&wire).unwrap(), [(at == 2, part.clone())]);
        }
    }
}

#[test]
fn settings_and_heads_decide_what_is_compressed() {
    let text = quote(7).repeat(4);
    let settings = Deflate::new();
    let (long, short) = (text.as_bytes(), &text.as_bytes()[..60]);
    let is_compressed = |settings: &Deflate, takeover, head, payload| {
        Sending::new(settings, &agreed(12, takeover)).frame(head, payload).0 == 4
    };
    assert!(is_compressed(&settings, true, TEXT, long));
    assert!(!is_compressed(&settings, true, TEXT, short), "below the threshold");
    assert!(!is_compressed(&settings, true, TEXT.compressed(false), long));
    assert!(!is_compressed(&settings, false, TEXT, long), "below that without context");
    assert!(is_compressed(&settings, false, TEXT.compressed(true), long));
    assert!(is_compressed(&settings.threshold(100), false, TEXT, long));
    let off = settings.compress(false);
    assert!(!is_compressed(&off, true, TEXT, long));
    assert!(is_compressed(&off, true, TEXT.compressed(true), long));
    for control in [MsgType::Ping, MsgType::Pong] {
        let head = FrameHead::new(control).compressed(true);
        assert!(!is_compressed(&settings, true, head, &[b'a'; 125]));
    }
}

#[test]
fn a_message_without_history_goes_to_every_connection_whose_window_covers_it() {
    let settings = Deflate::new().window_bits(11);
    for bits in [11, 12, 15] {
        for loses in [true, false] {
            let (mut sending, mut receiving) =
                (Sending::with_window(bits), Receiving::with_window(bits));
            assert!(sending.compression.covers(11) && !sending.compression.covers(bits + 1));
            for number in 0..200 {
                let text = quote(number / 2).repeat(3);
                let wire = if number % 3 == 0 {
                    sending.send(TEXT, text.as_bytes())
                } else {
                    let once = super::super::compress_once(&settings, text.as_bytes());
                    sending.compression.skip(text.as_bytes()).unwrap();
                    frame(MsgType::Text, true, 4, &once.unwrap().unwrap())
                };
                if loses {
                    sending.deflaters.trim(true);
                    receiving.inflaters.trim(true);
                }
                assert_eq!(receiving.receive(&wire).unwrap(), [(true, text.into_bytes())]);
            }
        }
    }
    let noise = noise(3, 100);
    assert_eq!(super::super::compress_once(&settings, &noise), Ok(None), "it does not shrink");
}

#[test]
fn a_connection_that_gets_prepared_messages_only_keeps_no_history() {
    let mut sending = Sending::with_window(12);
    sending.compression.skip(&[b'x'; 5000]).unwrap();
    assert_eq!(sending.compression.memory(), 0);
    sending.send(TEXT, quote(1).repeat(2).as_bytes());
    assert!(sending.compression.memory() > 0);
    sending.compression.forget();
    assert_eq!(sending.compression.memory(), 0);
}

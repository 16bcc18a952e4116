//! Knowledge of a frame about the bytes behind it, and the memory it lies in.

use super::*;
use crate::reserve::with_no_more_than;

fn rules() -> FrameRules {
    FrameRules::default()
}

#[test]
fn last_in_buffer_and_tail_size_are_exact_wherever_the_next_frame_is_cut() {
    for role in ROLES {
        for payload_len in [0, 1, 5, 125, 126, 200] {
            let front = frame(role, TEXT, b"first");
            let back = frame(role, BINARY, &vec![1; payload_len]);
            for cut in 0..=back.len() {
                let mut reader = Reader::new(role, &rules());
                reader.feed(&[&front[..], &back[..cut]].concat());
                let is_whole = cut == back.len();
                assert_eq!(reader.tails[0], (!is_whole, cut), "{role:?}, cut={cut}");
                reader.feed(&back[cut..]);
                assert_eq!(reader.tails[1..], [(true, 0)], "{role:?}, cut={cut}");
            }
        }
    }
}

#[test]
fn a_frame_that_ends_in_a_later_input_knows_what_is_behind_it_there() {
    for role in ROLES {
        let front = frame(role, BINARY, &[7; 40]);
        let back = stream(role, &[(TEXT, b"second"), (PING, b"")]);
        let half = &frame(role, TEXT, b"half")[..3];
        let all = [&front[..], &back, half].concat();
        let tails = [
            (false, back.len() + half.len()),
            // A PING that may never be delivered does not count.
            (true, frame(role, PING, b"").len() + half.len()),
            (true, half.len()),
        ];
        for cut in 0..front.len() {
            let mut reader = Reader::new(role, &rules());
            reader.feed(&all[..cut]);
            reader.feed(&all[cut..]);
            assert_eq!(reader.tails, tails, "{role:?}, cut={cut}");
        }
    }
}

#[test]
fn the_last_frame_of_each_input_says_so_and_the_last_data_frame_before_it() {
    for role in ROLES {
        let bytes = stream(role, &[(TEXT, b"one"), (PING, b""), (BINARY, &[0; 130]), (PONG, b"4")]);
        for cut in 0..=bytes.len() {
            let mut reader = Reader::new(role, &rules());
            for piece in [&bytes[..cut], &bytes[cut..]] {
                let before = reader.tails.len();
                reader.feed(piece);
                let frames = &reader.frames[before..];
                let data = frames.iter().rposition(|frame| !frame.msg_type.is_control());
                for (index, tail) in reader.tails[before..].iter().enumerate() {
                    let is_last = index + 1 == frames.len() || data == Some(index);
                    assert_eq!(tail.0, is_last, "{role:?}, cut={cut}, {index}");
                }
            }
        }
    }
}

#[test]
fn what_passes_by_is_looked_past_once() {
    for role in ROLES {
        // Quadratic, this would take minutes.
        let passing = frame(role, PING, b"").repeat(100_000);
        let data = frame(role, TEXT, b"data");
        for (bytes, is_last) in [
            ([&data[..], &passing].concat(), true),
            ([&data[..], &passing, &data].concat(), false),
            ([&data[..], &passing, &data[..3]].concat(), true),
            ([&data[..], &passing, &frame(role, CLOSE, b"")].concat(), false),
            ([&data[..], &passing, &frame(role, 0x83, b"")].concat(), true),
        ] {
            let mut reader = Reader::new(role, &rules());
            reader.feed(&bytes);
            assert_eq!(reader.tails[0].0, is_last, "{role:?}");
        }
    }
}

#[test]
fn a_violation_behind_is_no_complete_frame() {
    for role in ROLES {
        let other = if role == Role::Server { Role::Client } else { Role::Server };
        for broken in [frame(role, 0x83, b"x"), frame(other, TEXT, b"x"), frame(role, ENDS, b"")] {
            let mut reader = Reader::new(role, &rules());
            reader.feed(&[&frame(role, TEXT, b"good")[..], &broken].concat());
            assert_eq!(reader.tails, [(true, broken.len())]);
            assert!(reader.error.is_some());
        }
        // A frame is looked into only when it is its turn: this one is complete.
        let broken = frame(role, CLOSE, b"\x03\xee");
        let mut reader = Reader::new(role, &rules());
        reader.feed(&[&frame(role, TEXT, b"good")[..], &broken].concat());
        assert_eq!(reader.tails, [(false, broken.len())]);
        assert_eq!(reader.error, Some(PeerMisbehaved::InvalidCloseCode(1006)));
    }
}

#[test]
fn close_is_the_last_frame_whatever_is_behind_it() {
    for role in ROLES {
        let behind = stream(role, &[(TEXT, b"late"), (TEXT, b"later")]);
        let mut reader = Reader::new(role, &rules());
        reader.feed(&[&frame(role, CLOSE, b"")[..], &behind].concat());
        assert_eq!(reader.tails, [(true, behind.len())]);
    }
}

#[test]
fn whole_frames_are_lent_from_the_input() {
    for role in ROLES {
        let mut arrived = stream(role, &[(TEXT, b"one"), (BINARY, &[1; 3000]), (PING, b"three")]);
        let range = arrived.as_ptr_range();
        let (mut decoder, mut stash, mut consumed) = (Decoder::new(role), Stash::new(), 0);
        for _ in 0..3 {
            let rest = &mut arrived[consumed..];
            let decoded = decoder.next_frame(&rules(), &mut stash, rest).unwrap();
            let payload = decoded.frame.unwrap().payload().as_ptr_range();
            assert!(range.start < payload.start && payload.end <= range.end);
            consumed += decoded.consumed;
        }
        assert_eq!((consumed, stash.capacity()), (arrived.len(), 0));
    }
}

#[test]
fn a_frame_cut_before_its_payload_needs_no_stash() {
    for role in ROLES {
        let bytes = frame(role, BINARY, &[9; 500]);
        let header_len = bytes.len() - 500;
        for cut in 0..=header_len {
            let mut reader = Reader::new(role, &rules());
            reader.feed(&bytes[..cut]);
            assert_eq!(reader.decoder.wants_stash(), cut == header_len, "cut={cut}");
            reader.feed(&bytes[cut..]);
            assert_eq!(reader.stash.capacity(), 0, "cut={cut}");
            assert_eq!(reader.frames, seen(&[(BINARY, &[9; 500])]));
        }
    }
}

#[test]
fn a_stash_is_wanted_from_the_first_byte_of_a_payload_to_the_call_after_its_frame() {
    let bytes = frame(Role::Server, TEXT, b"Hello");
    let (mut decoder, mut stash) = (Decoder::new(Role::Server), Stash::new());
    assert!(!decoder.wants_stash(), "before the first byte");
    let mut feed = |decoder: &mut Decoder, arrived: &[u8]| {
        let mut arrived = arrived.to_vec();
        let decoded = decoder.next_frame(&rules(), &mut stash, &mut arrived).unwrap();
        decoded.frame.is_some()
    };
    assert!(!feed(&mut decoder, &bytes[..4]));
    assert!(!decoder.wants_stash(), "a cut header is kept in the decoder");
    assert!(!feed(&mut decoder, &bytes[4..8]));
    assert!(decoder.wants_stash(), "a cut payload");
    assert!(feed(&mut decoder, &bytes[8..]));
    assert!(decoder.wants_stash(), "a frame that is lent from the stash");
    assert!(!feed(&mut decoder, &[]));
    assert!(!decoder.wants_stash() && stash.is_empty(), "the frame is done");
}

#[test]
fn a_frame_that_was_cut_can_be_kept_while_others_come() {
    let bytes = frame(Role::Server, BINARY, &[7; 300]);
    let mut decoder = Decoder::new(Role::Server);
    let (mut stash, mut kept) = (Stash::new(), Vec::new());
    for _ in 0..3 {
        for piece in [&bytes[..100], &bytes[100..], &bytes] {
            let mut arrived = piece.to_vec();
            let decoded = decoder.next_frame(&rules(), &mut stash, &mut arrived).unwrap();
            let memory = decoded.frame.as_ref().and_then(Frame::memory);
            assert_eq!(memory.is_some(), piece.len() == bytes.len() - 100);
            kept.extend(memory.cloned());
        }
    }
    assert_eq!(kept.len(), 3);
    assert!(kept.iter().all(|memory| ***memory == [7; 300]));
}

#[test]
fn a_stash_with_an_unfit_close_is_cleared_at_the_next_call() {
    for role in ROLES {
        let bytes = frame(role, CLOSE, b"\x03\xee nobody may say so");
        let mut reader = Reader::new(role, &rules());
        reader.feed(&bytes[..10]);
        reader.feed(&bytes[10..]);
        assert_eq!(reader.error, Some(PeerMisbehaved::InvalidCloseCode(1006)));
        reader.feed(&[]);
        assert!(!reader.decoder.wants_stash() && reader.stash.is_empty());
    }
}

#[test]
fn memory_grows_with_what_arrived_and_not_with_what_the_header_claims() {
    let claim = [127, 0, 0, 0, 0, 0, 0xA0, 0, 0]; // 10 MiB, just allowed.
    for role in ROLES {
        let bytes = frame_with_len(role, BINARY, &claim, &vec![3; 5000]);
        let header_len = bytes.len() - 5000;
        let mut reader = Reader::new(role, &rules());
        reader.feed(&bytes[..header_len]);
        assert_eq!(reader.stash.capacity(), 0, "a header alone");
        for (index, byte) in bytes[header_len..].iter().enumerate() {
            reader.feed(&[*byte]);
            let arrived = index + 1;
            assert_eq!(reader.stash.len(), arrived);
            // Twice, as a vector grows, and its least.
            assert!(reader.stash.capacity() <= 2 * arrived + 16, "arrived={arrived}");
        }
        assert_eq!(reader.error, None);
    }
}

#[test]
fn memory_of_a_frame_is_never_more_than_the_frame() {
    for (len, piece) in [(1000, 1), (1000, 300), (100_000, 999), (100_000, 99_999)] {
        let bytes = frame(Role::Server, BINARY, &vec![3; len]);
        let mut reader = Reader::new(Role::Server, &rules());
        for piece in bytes[..bytes.len() - 1].chunks(piece) {
            reader.feed(piece);
            assert!(reader.stash.capacity() <= len, "{} for {len}", reader.stash.capacity());
        }
        assert!(reader.frames.is_empty() && reader.error.is_none());
    }
}

#[test]
fn a_frame_above_the_limit_takes_no_memory() {
    let claim = [127, 0, 0, 0, 0, 0, 0xA0, 0, 1]; // 10 MiB and one byte.
    for role in ROLES {
        let bytes = frame_with_len(role, BINARY, &claim, &vec![3; 5000]);
        for cut in 0..20 {
            let mut reader = Reader::new(role, &rules());
            reader.feed(&bytes[..cut]);
            reader.feed(&bytes[cut..]);
            assert_eq!(reader.error, Some(PeerMisbehaved::FrameTooLarge));
            assert_eq!(reader.stash.capacity(), 0);
        }
    }
}

#[test]
fn a_large_frame_in_pieces_is_unmasked_right() {
    let payload: Vec<u8> = (0..1 << 20).map(|index: u32| ((index * 31) >> 3) as u8).collect();
    for role in ROLES {
        let bytes = stream(role, &[(BINARY, &payload), (TEXT, b"after")]);
        // The key starts at another byte of the pieces each time.
        for piece_len in [64 * 1024, 64 * 1024 - 1, 64 * 1024 + 3] {
            let got = read_in_pieces(role, &rules(), bytes.chunks(piece_len));
            let want = seen(&[(BINARY, &payload), (TEXT, b"after")]);
            assert!(got == Outcome { frames: want, error: None }, "{role:?}, {piece_len}");
        }
    }
}

#[test]
fn a_frame_that_is_completed_in_its_stash_is_the_last_of_what_came() {
    for role in ROLES {
        let bytes = frame(role, BINARY, &[9; 500]);
        let header_len = bytes.len() - 500;
        let mut reader = Reader::new(role, &rules());
        reader.feed(&bytes[..header_len]);
        assert_eq!(reader.decoder.bytes_missing(&reader.stash), 0, "nothing is in the stash");
        reader.feed(&bytes[header_len..header_len + 100]);
        assert_eq!(reader.decoder.bytes_missing(&reader.stash), 400);
        reader.fill(&bytes[header_len + 100..header_len + 399], 14);
        assert_eq!(reader.decoder.bytes_missing(&reader.stash), 101);
        reader.fill(&bytes[header_len + 399..], 0);
        assert_eq!(reader.frames, seen(&[(BINARY, &[9; 500])]));
        assert_eq!(reader.tails, [(true, 0)]);
        assert_eq!(reader.decoder.bytes_missing(&reader.stash), 0);
        assert!(!reader.decoder.wants_stash() && reader.stash.is_empty());
    }
}

#[test]
fn nothing_is_missing_of_a_frame_whose_header_came_behind_one_that_is_lent() {
    let (front, back) =
        (frame(Role::Server, TEXT, b"Hello"), frame(Role::Server, TEXT, b"once more"));
    let (mut decoder, mut stash) = (Decoder::new(Role::Server), Stash::new());
    decoder.next_frame(&rules(), &mut stash, &mut front[..8].to_vec()).unwrap();
    let mut rest = [&front[8..], &back[..6]].concat();
    let decoded = decoder.next_frame(&rules(), &mut stash, &mut rest).unwrap();
    assert_eq!(decoded.frame.unwrap().payload(), b"Hello");
    assert_eq!(decoder.bytes_missing(&stash), 0, "what is in the stash is of the frame before");
    // So bytes that are put behind it are of no frame, and forgotten.
    stash.bytes_mut().extend_from_slice(b"??");
    assert!(decoder.next_filled(&rules(), &mut stash, 0, 2).unwrap().is_none());
    assert_eq!(stash.bytes(), b"Hello");
    let mut rest = back[6..].to_vec();
    let decoded = decoder.next_frame(&rules(), &mut stash, &mut rest).unwrap();
    assert_eq!(decoded.frame.unwrap().payload(), b"once more");
}

#[test]
fn bytes_for_which_the_stash_has_room_take_no_more_memory() {
    for role in ROLES {
        let bytes = frame(role, BINARY, &[3; 5000]);
        let header_len = bytes.len() - 5000;
        let mut decoder = Decoder::new(role);
        let mut stash = Stash::with_memory(Vec::with_capacity(1000).into());
        let (mut front, mut next) = (bytes[..header_len + 1000].to_vec(), [0]);
        assert!(decoder.next_frame(&rules(), &mut stash, &mut front).unwrap().frame.is_none());
        assert_eq!((stash.len(), stash.capacity()), (1000, 1000));
        assert!(decoder.next_frame(&rules(), &mut stash, &mut next).unwrap().frame.is_none());
        assert_eq!(stash.capacity(), 2000, "twice what there was");
    }
}

#[test]
fn a_frame_in_small_pieces_is_moved_to_larger_memory_a_few_times_only() {
    let bytes = frame(Role::Client, BINARY, &[3; 1 << 16]);
    let mut reader = Reader::new(Role::Client, &rules());
    let mut capacities = Vec::new();
    for piece in bytes[..bytes.len() - 1].chunks(64) {
        reader.feed(piece);
        capacities.push(reader.stash.capacity());
    }
    capacities.dedup();
    // From 64 bytes to 64 KiB in steps that double, the empty stash at first included.
    assert!(capacities.len() <= 12, "{capacities:?}");
}

#[test]
fn a_frame_for_which_there_is_no_memory_is_refused_when_its_part_comes() {
    let (mut decoder, rules) = (Decoder::new(Role::Client), FrameRules::default());
    let mut stash = Stash::new();
    let mut frame = b"\x82\x7e\x10\0".to_vec();
    frame.resize(50, 0);
    with_no_more_than(100, || {
        assert!(decoder.next_frame(&rules, &mut stash, &mut frame).unwrap().frame.is_none());
        for _ in 0..2 {
            let error = decoder.next_frame(&rules, &mut stash, &mut [0; 1000]).map(drop);
            assert_eq!(error, Err(PeerMisbehaved::OutOfMemory));
        }
    });
    assert!(stash.is_empty() && !decoder.wants_stash(), "and the stash is free");
    assert_eq!(PeerMisbehaved::OutOfMemory.close_code(), CloseCode::TRY_AGAIN_LATER);
}

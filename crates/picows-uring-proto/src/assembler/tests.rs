//! Messages, however they were cut.

use super::*;
use crate::reserve::with_no_more_than;
use proptest::prelude::*;

/// What came out, owned.
#[derive(Debug, PartialEq, Eq)]
enum Out {
    Text(String),
    Binary(Vec<u8>),
    Control(MsgType, Vec<u8>),
}

fn owned(assembled: Assembled<'_>) -> Out {
    match assembled {
        Assembled::Message(Message::Text(text)) => Out::Text(text.to_owned()),
        Assembled::Message(Message::Binary(bytes)) => Out::Binary(bytes.to_vec()),
        Assembled::Control(frame) => Out::Control(frame.msg_type(), frame.payload().to_vec()),
    }
}

fn push_all(
    assembler: &mut MessageAssembler,
    frames: &[(MsgType, bool, &[u8])],
) -> Result<Vec<Out>, PeerMisbehaved> {
    let mut out = Vec::new();
    for (msg_type, fin, payload) in frames {
        out.extend(assembler.push(&Frame::new(*msg_type, payload).with_fin(*fin))?.map(owned));
    }
    Ok(out)
}

fn assemble(frames: &[(MsgType, bool, &[u8])]) -> Result<Vec<Out>, PeerMisbehaved> {
    push_all(&mut MessageAssembler::default(), frames)
}

fn text(text: &str) -> Out {
    Out::Text(text.to_owned())
}

use MsgType::{Binary, Close, Continuation, Ping, Pong, Text};

#[test]
fn a_message_of_one_frame_is_lent_and_takes_no_memory() {
    let mut assembler = MessageAssembler::default();
    for (msg_type, payload) in [(Text, &b"hello"[..]), (Binary, b"\xff\x00"), (Text, b"")] {
        let assembled = assembler.push(&Frame::new(msg_type, payload));
        let Ok(Some(Assembled::Message(message))) = assembled else { panic!("{assembled:?}") };
        assert_eq!(message.payload().as_ptr_range(), payload.as_ptr_range());
        assert_eq!(message.msg_type(), msg_type);
    }
    assert_eq!(assembler.joined.capacity(), 0);
}

#[test]
fn fragments_are_joined_and_the_first_decides_the_type_rfc6455_5_4() {
    let out = assemble(&[
        (Text, false, b"Hel"),
        (Continuation, true, b"lo"),
        (Binary, false, b"\xff"),
        (Continuation, false, b""),
        (Continuation, true, b"\xfe"),
        (Text, true, b"whole"),
        (Text, false, b""),
        (Continuation, true, b""),
        (Binary, false, b""),
        (Continuation, true, b""),
    ]);
    let want = [
        text("Hello"),
        Out::Binary(b"\xff\xfe".to_vec()),
        text("whole"),
        text(""),
        Out::Binary(vec![]),
    ];
    assert_eq!(out.unwrap(), want);
}

#[test]
fn control_frames_pass_between_fragments_in_their_order_rfc6455_5_4() {
    let out = assemble(&[
        (Ping, true, b"1"),
        (Text, false, b"a"),
        (Ping, true, b"\xff"),
        (Continuation, false, b"b"),
        (Pong, true, b""),
        (Close, true, b"\x03\xe8"),
        (Continuation, true, b"c"),
    ]);
    let control = |msg_type, payload: &[u8]| Out::Control(msg_type, payload.to_vec());
    let want = [
        control(Ping, b"1"),
        control(Ping, b"\xff"),
        control(Pong, b""),
        control(Close, b"\x03\xe8"),
        text("abc"),
    ];
    assert_eq!(out.unwrap(), want);
}

#[test]
fn the_limit_is_for_all_fragments_together_and_exact() {
    let push = |limit, frames: &[_]| push_all(&mut MessageAssembler::new(limit), frames);
    for first in [Text, Binary] {
        for limit in [3, 4] {
            let got = push(limit, &[(first, false, b"ab"), (Continuation, true, b"cd")]);
            assert_eq!(got.is_ok(), limit == 4, "{first:?}");
            assert_eq!(push(limit, &[(first, true, b"abcd")]).is_ok(), limit == 4, "{first:?}");
        }
        // Each message is counted by itself, and control frames are not.
        let twice =
            [(first, false, &b"ab"[..]), (Ping, true, &[7; 100]), (Continuation, true, b"cd")];
        assert!(push(4, &[twice, twice].concat()).is_ok());
    }
    // The bytes of a character that is not complete count, too.
    let crab = "🦀".as_bytes();
    for (limit, is_ok) in [(4, true), (3, false)] {
        let frames = [(Text, false, &crab[..3]), (Continuation, true, &crab[3..])];
        assert_eq!(push(limit, &frames).is_ok(), is_ok);
    }
    assert!(push(0, &[(Text, false, b""), (Continuation, true, b"")]).is_ok());
    let too_large = push(0, &[(Binary, true, b"x")]);
    assert_eq!(too_large, Err(PeerMisbehaved::MessageTooLarge));
}

#[test]
fn a_message_over_the_limit_is_refused_before_it_is_copied() {
    let mut assembler = MessageAssembler::new(1000);
    let fragment = [7; 400];
    let (mut msg_type, mut pushed) = (Binary, 0);
    let error = loop {
        match assembler.push(&Frame::new(msg_type, &fragment).with_fin(false)) {
            Ok(None) => (msg_type, pushed) = (Continuation, pushed + 1),
            other => break other.unwrap_err(),
        }
        assert!(assembler.joined.capacity() < 2000);
    };
    assert_eq!((error, pushed), (PeerMisbehaved::MessageTooLarge, 2));
    assert_eq!(assembler.joined.capacity(), 0, "its memory is given back");
}

#[test]
fn text_fails_at_the_first_bad_byte_of_an_unfinished_message_rfc6455_8_1() {
    let crab = "🦀".as_bytes();
    let invalid = |frames: &[(MsgType, bool, &[u8])]| {
        let mut assembler = MessageAssembler::default();
        let (last, before) = frames.split_last().unwrap();
        push_all(&mut assembler, before).unwrap();
        assert_eq!(push_all(&mut assembler, &[*last]), Err(PeerMisbehaved::InvalidUtf8));
    };
    invalid(&[(Text, false, b"ok \xff")]);
    invalid(&[(Text, false, b"ok"), (Continuation, false, b"\x80")]);
    invalid(&[(Text, false, b"ok\xf4"), (Ping, true, b""), (Continuation, false, b"\x90")]);
    invalid(&[(Text, false, &crab[..2]), (Continuation, false, &crab[..1])]);
    invalid(&[(Text, true, &crab[..3])]);
    invalid(&[(Text, false, &crab[..3]), (Continuation, true, b"")]);
    let cut: Vec<_> = crab.iter().map(std::slice::from_ref).collect();
    let good = [
        (Text, false, cut[0]),
        (Continuation, false, cut[1]),
        (Continuation, false, cut[2]),
        (Continuation, true, cut[3]),
    ];
    assert_eq!(assemble(&good).unwrap(), [text("🦀")]);
}

#[test]
fn frames_out_of_order_are_refused_rfc6455_5_4() {
    let alone = assemble(&[(Continuation, true, b"x")]);
    assert_eq!(alone, Err(PeerMisbehaved::UnexpectedContinuation));
    for inside in [Text, Binary] {
        let mixed = assemble(&[(Text, false, b"x"), (inside, true, b"y")]);
        assert_eq!(mixed, Err(PeerMisbehaved::UnfinishedMessage));
    }
}

#[test]
fn an_error_stays() {
    let mut assembler = MessageAssembler::new(2);
    let error = Err(PeerMisbehaved::MessageTooLarge);
    for payload in [&b"abc"[..], b"a"] {
        assert_eq!(push_all(&mut assembler, &[(Binary, true, payload)]), error);
        assert_eq!(push_all(&mut assembler, &[(Ping, true, b"")]), error);
    }
}

#[test]
fn memory_is_used_again_whatever_the_type_and_given_back_when_it_is_much() {
    let mut assembler = MessageAssembler::default();
    let mut push = |first, payload: &[u8]| {
        push_all(&mut assembler, &[(first, false, payload), (Continuation, true, b"!")]).unwrap();
        assembler.trim();
        assembler.joined.capacity()
    };
    let capacity = push(Binary, &[b'x'; 5000]);
    for first in [Text, Binary, Text] {
        assert_eq!(push(first, b"short"), capacity);
    }
    assert_eq!(push(Text, &vec![b'x'; 100_000]), 0);
}

#[test]
fn a_large_message_under_way_is_not_trimmed() {
    let mut assembler = MessageAssembler::default();
    push_all(&mut assembler, &[(Binary, false, &vec![1; 100_000])]).unwrap();
    assembler.trim();
    let out = push_all(&mut assembler, &[(Continuation, true, b"")]).unwrap();
    assert_eq!(out, [Out::Binary(vec![1; 100_000])]);
}

#[test]
fn debug_shows_no_payload() {
    assert_eq!(format!("{:?}", Message::Text("secret")), "Message(Text, 6 bytes)");
    let mut assembler = MessageAssembler::default();
    push_all(&mut assembler, &[(Text, false, b"secret")]).unwrap();
    assert!(!format!("{assembler:?}").contains("secret"));
}

proptest! {
    #[test]
    fn whatever_the_cuts_the_message_is_the_same(
        is_text: bool,
        payload in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..80),
            ".{0,40}".prop_map(String::into_bytes),
        ],
        cuts in proptest::collection::vec(0..80_usize, 0..6),
        limit in 0..100_usize,
    ) {
        let first = if is_text { Text } else { Binary };
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(payload.len())).collect();
        cuts.extend([0, payload.len()]);
        cuts.sort_unstable();
        let mut frames = Vec::new();
        for pair in cuts.windows(2) {
            let msg_type = if frames.is_empty() { first } else { Continuation };
            frames.push((msg_type, false, &payload[pair[0]..pair[1]]));
        }
        frames.last_mut().unwrap().1 = true;
        let got = push_all(&mut MessageAssembler::new(limit), &frames);
        let is_small = payload.len() <= limit;
        match (is_text, String::from_utf8(payload.clone())) {
            (true, Ok(text)) if is_small => prop_assert_eq!(got, Ok(vec![Out::Text(text)])),
            (false, _) if is_small => prop_assert_eq!(got, Ok(vec![Out::Binary(payload)])),
            (true, Err(_)) if is_small => prop_assert_eq!(got, Err(PeerMisbehaved::InvalidUtf8)),
            (false, _) | (true, Ok(_)) => prop_assert_eq!(got, Err(PeerMisbehaved::MessageTooLarge)),
            (true, Err(_)) => prop_assert!(got.is_err(), "whichever comes first"),
        }
    }
}

#[test]
fn a_fragment_for_which_there_is_no_memory_is_refused() {
    for msg_type in [Text, Binary] {
        let mut assembler = MessageAssembler::default();
        let first = Frame::new(msg_type, b"a few").with_fin(false);
        let next = Frame::new(Continuation, &[b'x'; 1000]);
        with_no_more_than(100, || {
            assert_eq!(assembler.push(&first), Ok(None));
            for _ in 0..2 {
                assert_eq!(assembler.push(&next), Err(PeerMisbehaved::OutOfMemory));
            }
        });
        assert_eq!(assembler.capacity(), 0);
    }
}

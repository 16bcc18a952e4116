//! Text that has to be UTF-8, across fragments and before a frame is complete (RFC 6455 §8.1).

use super::*;

fn strict() -> FrameRules {
    FrameRules { validate_text: true, ..FrameRules::default() }
}

fn assert_text(frames: &[(u8, &[u8])], delivered: usize, error: Option<PeerMisbehaved>) {
    for role in ROLES {
        let got = frames_at_every_split(role, &strict(), &stream(role, frames));
        assert_eq!(got, Outcome { frames: seen(&frames[..delivered]), error }, "{role:?}");
    }
}

const INVALID: Option<PeerMisbehaved> = Some(PeerMisbehaved::InvalidUtf8);

#[test]
fn a_character_may_be_cut_by_a_fragment_rfc6455_5_6() {
    let [first, second, third, fourth] = *"🦀".as_bytes() else { unreachable!() };
    assert_text(&[(TEXT_BEGINS, &[first, second]), (ENDS, &[third, fourth])], 2, None);
    assert_text(
        &[
            (TEXT_BEGINS, &[b'x', first]),
            (PING, b"\xff is fine here"),
            (CONTINUES, &[second]),
            (CONTINUES, b""),
            (PONG, b"\xfe"),
            (CONTINUES, &[third]),
            (ENDS, &[fourth, b'y']),
            (TEXT, b"and on"),
        ],
        8,
        None,
    );
}

#[test]
fn text_may_not_end_inside_a_character_rfc6455_8_1() {
    let half = &"я".as_bytes()[..1];
    assert_text(&[(TEXT, half)], 0, INVALID);
    assert_text(&[(TEXT, b"good"), (TEXT, half)], 1, INVALID);
    assert_text(&[(TEXT_BEGINS, half), (ENDS, b"")], 1, INVALID);
    assert_text(&[(TEXT_BEGINS, b"a"), (CONTINUES, half), (PING, b""), (ENDS, b"")], 3, INVALID);
}

#[test]
fn broken_text_is_refused_in_any_fragment_rfc6455_8_1() {
    assert_text(&[(TEXT, b"\xc0\x80")], 0, INVALID);
    assert_text(&[(TEXT_BEGINS, b"\xed\xa0\x80"), (ENDS, b"")], 0, INVALID);
    assert_text(&[(TEXT_BEGINS, b"ok"), (CONTINUES, b"\xf4\x90"), (ENDS, b"")], 1, INVALID);
    assert_text(&[(TEXT_BEGINS, b"ok"), (PING, b""), (ENDS, b"\x80")], 2, INVALID);
}

#[test]
fn only_text_is_held_to_it() {
    assert_text(&[(BINARY, b"\xff"), (BINARY_BEGINS, b"\xc0"), (ENDS, b"\x80")], 3, None);
    assert_text(&[(PING, b"\xff"), (PONG, b"\xff\xfe"), (TEXT, b"ok")], 3, None);
}

#[test]
fn a_text_starts_afresh_after_the_one_before() {
    let (front, back) = "я".as_bytes().split_at(1);
    assert_text(&[(TEXT_BEGINS, front), (ENDS, back), (TEXT, back)], 2, INVALID);
    assert_text(&[(TEXT, "яя".as_bytes()), (TEXT, "я".as_bytes())], 2, None);
}

#[test]
fn broken_text_is_delivered_unless_validation_is_on() {
    for role in ROLES {
        let frames: [(u8, &[u8]); 2] = [(TEXT, b"\xff"), (TEXT, b"ok")];
        let got = frames_at_every_split(role, &FrameRules::default(), &stream(role, &frames));
        assert_eq!(got, Outcome { frames: seen(&frames), error: None });
    }
}

/// How many bytes of a stream are taken, one at a time, before it is refused.
fn bytes_until_refused(role: Role, bytes: &[u8]) -> Option<usize> {
    let mut reader = Reader::new(role, &strict());
    bytes.iter().position(|byte| {
        reader.feed(&[*byte]);
        reader.error.is_some()
    })
}

#[test]
fn fails_at_the_first_bad_byte_of_an_incomplete_frame_rfc6455_8_1() {
    for role in ROLES {
        // Header and key, then a payload whose byte 6 is the first that cannot be mended.
        let mut broken = b"text \xf4\x90".to_vec();
        broken.resize(1000, b'x');
        let bytes = frame(role, TEXT, &broken);
        let header_len = bytes.len() - broken.len();
        assert_eq!(bytes_until_refused(role, &bytes), Some(header_len + 6), "{role:?}");
        // The same in a continuation, with the character begun in the fragment before it.
        let front = stream(role, &[(TEXT_BEGINS, b"text \xf4"), (PING, b"")]);
        let header_len = front.len() + frame(role, CONTINUES, &[0; 200]).len() - 200;
        let bytes = [front, frame(role, CONTINUES, &[0x90; 200])].concat();
        assert_eq!(bytes_until_refused(role, &bytes), Some(header_len), "{role:?}");
    }
}

#[test]
fn a_cut_text_that_is_refused_leaves_nothing_in_the_stash() {
    for role in ROLES {
        let mut reader = Reader::new(role, &strict());
        let bytes = frame(role, TEXT, &[&[b'x'; 300][..], b"\xff", &[b'x'; 300]].concat());
        reader.feed(&bytes[..200]);
        assert!(!reader.stash.is_empty() && reader.error.is_none());
        reader.feed(&bytes[200..500]);
        assert_eq!(reader.error, INVALID);
        assert!(reader.stash.is_empty(), "another connection may get this stash");
    }
}

//! Each rule of RFC 6455 on receive, broken at each place, in both roles.

use super::*;

fn strict() -> FrameRules {
    FrameRules { validate_text: true, payload_bytes_max: 1000, ..FrameRules::default() }
}

/// Reads the violation first of all, after good frames, and inside a fragmented message; what
/// came before it is delivered, and then it is reported, at every split.
fn assert_refused(role: Role, broken: &[u8], error: PeerMisbehaved) {
    assert_refused_after(role, &[], broken, error);
    assert_refused_after(role, &[(BINARY, b"good"), (PING, b"")], broken, error);
    assert_refused_after(role, &[(TEXT_BEGINS, b"go"), (PING, b"o"), (ENDS, b"d")], broken, error);
    let opcode = broken[0] & 0x0F;
    let starts_message = opcode == 1 || opcode == 2;
    if !starts_message && error != PeerMisbehaved::UnexpectedContinuation {
        assert_refused_after(role, &[(BINARY_BEGINS, b"go")], broken, error);
        assert_refused_after(role, &[(TEXT_BEGINS, b"go"), (PONG, b"o")], broken, error);
    }
}

fn assert_refused_after(role: Role, before: &[(u8, &[u8])], broken: &[u8], error: PeerMisbehaved) {
    let bytes = [&stream(role, before)[..], broken].concat();
    let want = Outcome { frames: seen(before), error: Some(error) };
    assert_eq!(frames_at_every_split(role, &strict(), &bytes), want, "{role:?}");
    // What follows changes nothing, in the same input or in later ones.
    let more = frame(role, TEXT, b"and on it goes");
    let with_more = [&bytes[..], &more].concat();
    assert_eq!(frames_at_every_split(role, &strict(), &with_more), want, "{role:?}, more behind");
    let pieces = [&bytes[..], &[], &more, &[], &more];
    assert_eq!(read_in_pieces(role, &strict(), pieces), want, "{role:?}, more later");
}

#[test]
fn unmasked_from_client_is_refused_rfc6455_5_1() {
    for first in [TEXT, BINARY, CLOSE, PING, PONG] {
        let broken = frame(Role::Client, first, b"\x03\xe8");
        assert_refused(Role::Server, &broken, PeerMisbehaved::UnmaskedFrame);
    }
}

#[test]
fn masked_from_server_is_refused_rfc6455_5_1() {
    for first in [TEXT, BINARY, CLOSE, PING, PONG] {
        let broken = frame(Role::Server, first, b"\x03\xe8");
        assert_refused(Role::Client, &broken, PeerMisbehaved::MaskedFrame);
    }
}

#[test]
fn reserved_opcodes_are_refused_rfc6455_5_2() {
    for role in ROLES {
        for opcode in (0x3..=0x7).chain(0xB..=0xF) {
            let broken = frame(role, 0x80 | opcode, b"x");
            assert_refused(role, &broken, PeerMisbehaved::UnknownOpcode(opcode));
        }
    }
}

#[test]
fn rsv_bits_without_a_meaning_are_refused_rfc6455_5_2() {
    for role in ROLES {
        for rsv in [0x40, 0x20, 0x10, 0x70] {
            for first in [TEXT, BINARY, CLOSE, PING, PONG, ENDS] {
                let broken = frame(role, first | rsv, b"");
                assert_refused(role, &broken, PeerMisbehaved::UnexpectedRsv);
            }
        }
    }
}

#[test]
fn fragmented_control_frames_are_refused_rfc6455_5_5() {
    for role in ROLES {
        for first in [CLOSE, PING, PONG] {
            let broken = frame(role, first & 0x0F, b"");
            assert_refused(role, &broken, PeerMisbehaved::FragmentedControlFrame);
        }
    }
}

#[test]
fn control_frames_above_125_bytes_are_refused_rfc6455_5_5() {
    for role in ROLES {
        for first in [CLOSE, PING, PONG] {
            let broken = frame(role, first, &[0; 126]);
            assert_refused(role, &broken, PeerMisbehaved::ControlFrameTooLong);
            let broken = frame_with_len(role, first, &[127, 0, 0, 0, 0, 0, 1, 0, 0], b"");
            assert_refused(role, &broken, PeerMisbehaved::ControlFrameTooLong);
        }
    }
}

#[test]
fn lengths_not_in_the_shortest_form_are_refused_rfc6455_5_2() {
    for role in ROLES {
        for len in [[126, 0, 0], [126, 0, 125]] {
            let broken = frame_with_len(role, BINARY, &len, b"x");
            assert_refused(role, &broken, PeerMisbehaved::NonMinimalLength16);
        }
        for len in [[127, 0, 0, 0, 0, 0, 0, 0, 1], [127, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF]] {
            let broken = frame_with_len(role, BINARY, &len, b"x");
            assert_refused(role, &broken, PeerMisbehaved::NonMinimalLength64);
        }
    }
}

#[test]
fn a_length_with_the_top_bit_is_refused_rfc6455_5_2() {
    for role in ROLES {
        for len in [[127, 0x80, 0, 0, 0, 0, 0, 0, 0], [127; 9].map(|byte| byte | 0x80)] {
            let len = [&[127], &len[1..]].concat();
            let broken = frame_with_len(role, BINARY, &len, b"x");
            assert_refused(role, &broken, PeerMisbehaved::LengthOverflow);
        }
    }
}

#[test]
fn a_continuation_of_nothing_is_refused_rfc6455_5_4() {
    for role in ROLES {
        for first in [CONTINUES, ENDS] {
            let broken = frame(role, first, b"x");
            assert_refused(role, &broken, PeerMisbehaved::UnexpectedContinuation);
        }
    }
}

#[test]
fn a_message_inside_a_message_is_refused_rfc6455_5_4() {
    for role in ROLES {
        for first in [TEXT, BINARY, TEXT_BEGINS, BINARY_BEGINS] {
            let broken = frame(role, first, b"x");
            for begins in [TEXT_BEGINS, BINARY_BEGINS] {
                for before in [
                    &[(begins, &b"a"[..])][..],
                    &[(begins, b""), (PING, b"b")],
                    &[(begins, b"a"), (CONTINUES, b"b")],
                    &[(TEXT, b"whole"), (begins, b"a"), (ENDS, b"b"), (begins, b"c")],
                ] {
                    let error = PeerMisbehaved::UnfinishedMessage;
                    assert_refused_after(role, before, &broken, error);
                }
            }
        }
    }
}

#[test]
fn half_a_close_code_is_refused_rfc6455_5_5_1() {
    for role in ROLES {
        let broken = frame(role, CLOSE, b"\x03");
        assert_refused(role, &broken, PeerMisbehaved::TruncatedCloseCode);
    }
}

#[test]
fn close_codes_that_may_not_be_sent_are_refused_rfc6455_7_4() {
    let codes =
        [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 9999, 0x7FFF, 0xFFFF_u16];
    for role in ROLES {
        for code in codes {
            let [high, low] = code.to_be_bytes();
            let broken = frame(role, CLOSE, &[high, low, b'x']);
            assert_refused(role, &broken, PeerMisbehaved::InvalidCloseCode(code));
        }
    }
}

#[test]
fn every_close_code_is_judged_as_close_code_new_judges_rfc6455_7_4() {
    let rules = FrameRules::default();
    for code in 0..=u16::MAX {
        let got = read_in_pieces(
            Role::Client,
            &rules,
            [&frame(Role::Client, CLOSE, &code.to_be_bytes())[..]],
        );
        let valid = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
        let error = (!valid).then_some(PeerMisbehaved::InvalidCloseCode(code));
        assert_eq!(got.error, error, "code {code}");
    }
}

#[test]
fn a_close_reason_that_is_not_text_is_refused_rfc6455_5_5_1() {
    for role in ROLES {
        for reason in [&b"\xff"[..], b"ok\xc0\x80", "я".as_bytes().split_at(1).0] {
            let broken = frame(role, CLOSE, &[b"\x03\xe8", reason].concat());
            assert_refused(role, &broken, PeerMisbehaved::InvalidCloseReason);
        }
    }
}

#[test]
fn frames_above_the_limit_are_refused() {
    for role in ROLES {
        for len in [
            &[126, 0x03, 0xE9][..],
            &[127, 0, 0, 0, 0, 0, 1, 0, 0],
            &[127, 0x7F, 0, 0, 0, 0, 0, 0, 0],
        ] {
            let broken = frame_with_len(role, BINARY, len, b"the start");
            assert_refused(role, &broken, PeerMisbehaved::FrameTooLarge);
        }
        let broken = frame_with_len(role, ENDS, &[126, 0x03, 0xE9], b"the start");
        assert_refused_after(role, &[(TEXT_BEGINS, b"")], &broken, PeerMisbehaved::FrameTooLarge);
    }
}

#[test]
fn a_frame_of_exactly_the_limit_is_delivered() {
    for role in ROLES {
        for (len, is_refused) in [(1000, false), (1001, true)] {
            let got = read_in_pieces(role, &strict(), [&frame(role, BINARY, &vec![0; len])[..]]);
            assert_eq!(got.error, is_refused.then_some(PeerMisbehaved::FrameTooLarge));
            assert_eq!(got.frames.len(), usize::from(!is_refused));
        }
    }
}

#[test]
fn the_size_limit_is_not_for_control_frames() {
    let rules = FrameRules { payload_bytes_max: 10, ..FrameRules::default() };
    for role in ROLES {
        let frames: [(u8, &[u8]); 2] = [(PING, &[1; 125]), (CLOSE, b"\x03\xe8a reason of its own")];
        let got = frames_at_every_split(role, &rules, &stream(role, &frames));
        assert_eq!(got, Outcome { frames: seen(&frames), error: None });
    }
}

#[test]
fn every_violation_is_reported_to_the_peer_with_its_code_rfc6455_7_4_1() {
    for role in ROLES {
        for (first, payload, code) in [
            (0x83, &b""[..], 1002),
            (TEXT, b"\xff", 1007),
            (CLOSE, b"\x03\xe8\xff", 1007),
            (CLOSE, b"\x03\xee", 1002),
            (BINARY, &[0; 1001], 1009),
        ] {
            let got = read_in_pieces(role, &strict(), [&frame(role, first, payload)[..]]);
            assert_eq!(got.error.map(|error| error.close_code().get()), Some(code));
        }
    }
}

#[test]
fn text_with_rsv_bits_of_an_application_is_checked_as_text() {
    let rules = FrameRules { rsv_allowed: 7, ..strict() };
    let whole: &[(u8, &[u8])] = &[(TEXT | 0x40, b"\xff")];
    let cut: &[(u8, &[u8])] = &[(TEXT_BEGINS | 0x40, b"a"), (ENDS, b"\xff")];
    for role in [Role::Server, Role::Client] {
        for frames in [whole, cut] {
            let got = frames_at_every_split(role, &rules, &stream(role, frames));
            assert_eq!(got.error, Some(PeerMisbehaved::InvalidUtf8), "{frames:?}");
        }
    }
}

#[test]
fn any_order_lets_fragments_come_as_they_like() {
    let frames: &[(u8, &[u8])] = &[
        (ENDS, b"first"),
        (TEXT_BEGINS, b"\xFF"),
        (BINARY_BEGINS, b""),
        (PING, b"p"),
        (TEXT, b"\xFF"),
        (ENDS, b"x"),
        (ENDS, b"y"),
        (BINARY, b"z"),
    ];
    for role in [Role::Server, Role::Client] {
        let bytes = stream(role, frames);
        let rules = FrameRules { any_order: true, ..strict() };
        let want = Outcome { frames: seen(frames), error: None };
        assert_eq!(frames_at_every_split(role, &rules, &bytes), want, "{role:?}");
        let ordered = frames_at_every_split(role, &strict(), &bytes);
        assert_eq!(ordered.error, Some(PeerMisbehaved::UnexpectedContinuation));
        // Everything else holds.
        let broken = [&bytes[..], &frame(role, 0xB8, b"")].concat();
        let outcome = frames_at_every_split(role, &rules, &broken);
        assert!(outcome.error.is_some(), "{outcome:?}");
    }
}

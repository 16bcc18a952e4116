//! Frames, fragments, control frames and text (RFC 6455 §5, §6, §8, §10).

use super::*;
use crate::conversation::Phase;
use crate::header::Header;
use crate::limits::FrameRules;
use crate::misuse::ApiMisuse;

fn rules() -> Rules {
    Rules::default()
}

fn strict() -> Rules {
    let frames = FrameRules { validate_text: true, ..FrameRules::default() };
    Rules { frames, ..Rules::default() }
}

/// The headers of the frames in `bytes`, which `hearer` reads.
fn headers(hearer: Role, mut bytes: &[u8]) -> Vec<Header> {
    let mut headers = Vec::new();
    while !bytes.is_empty() {
        let (header, len) = Header::decode(bytes, hearer, &rules().frames).unwrap().unwrap();
        bytes = &bytes[len + header.payload_len as usize..];
        headers.push(header);
    }
    headers
}

/// What one end says when it sends a frame of each kind.
fn said_of_each_kind(by: Role) -> Vec<u8> {
    let mut pair = Pair::open(Delivery::Whole);
    let sender = &mut pair.end_mut(by).sender();
    sender.send_text("text");
    sender.send_frame(FrameHead::new(MsgType::Binary).with_fin(false), b"binary");
    sender.send_frame(FrameHead::new(MsgType::Ping), b"");
    sender.send_frame(FrameHead::new(MsgType::Continuation), &[7; 300]);
    sender.send_frame(FrameHead::new(MsgType::Pong), b"pong");
    sender.send_close_frame(&CloseFrame::empty());
    pair.said_by(by)
}

/// §5.1: a client MUST mask all frames that it sends, control frames too
#[test]
fn a_client_masks_every_frame_rfc6455_5_1() {
    let headers = headers(Role::Server, &said_of_each_kind(Role::Client));
    assert!(headers.len() == 6 && headers.iter().all(|header| header.mask.is_some()));
}

/// §5.1: a server MUST NOT mask any frames that it sends
#[test]
fn a_server_masks_no_frame_rfc6455_5_1() {
    let headers = headers(Role::Client, &said_of_each_kind(Role::Server));
    assert!(headers.len() == 6 && headers.iter().all(|header| header.mask.is_none()));
}

/// §5.1: the server MUST close the connection upon receiving a frame that is not masked
#[test]
fn a_server_fails_on_an_unmasked_frame_rfc6455_5_1() {
    for first in [TEXT, BINARY, PING, PONG, CLOSE] {
        let unmasked = frame(Role::Client, first, b"");
        assert_fails(Role::Server, &rules(), &unmasked, PeerMisbehaved::UnmaskedFrame);
    }
}

/// §5.1: a client MUST close the connection if it detects a masked frame
#[test]
fn a_client_fails_on_a_masked_frame_rfc6455_5_1() {
    for first in [TEXT, BINARY, PING, PONG, CLOSE] {
        let masked = frame(Role::Server, first, b"");
        assert_fails(Role::Client, &rules(), &masked, PeerMisbehaved::MaskedFrame);
    }
}

/// §5.2: RSV bits MUST be 0 unless an extension defines them; else the recipient MUST fail the connection
#[test]
fn reserved_bits_fail_rfc6455_5_2() {
    for role in ROLES {
        for first in [TEXT, BINARY, PING, PONG, CLOSE] {
            for rsv in [0x40, 0x20, 0x10, 0x70] {
                let bytes = frame(role, first | rsv, b"");
                assert_fails(role, &rules(), &bytes, PeerMisbehaved::UnexpectedRsv);
            }
        }
    }
}

/// §5.2: RSV bits that we send MUST be 0 as no extension was negotiated
#[test]
fn no_reserved_bit_is_sent_rfc6455_5_2() {
    for (by, hearer) in [(Role::Client, Role::Server), (Role::Server, Role::Client)] {
        assert!(headers(hearer, &said_of_each_kind(by)).iter().all(|header| header.rsv == 0));
    }
}

/// §5.2: if an unknown opcode is received, the recipient MUST fail the connection
#[test]
fn reserved_opcodes_fail_rfc6455_5_2() {
    for role in ROLES {
        for opcode in (0x3..=0x7).chain(0xB..=0xF) {
            let bytes = frame(role, 0x80 | opcode, b"");
            assert_fails(role, &rules(), &bytes, PeerMisbehaved::UnknownOpcode(opcode));
        }
    }
}

/// §5.2: the minimal number of bytes MUST be used to encode the length
#[test]
fn lengths_are_of_the_shortest_form_rfc6455_5_2() {
    for role in ROLES {
        let mask = if role == Role::Server { 0x80 } else { 0 };
        let short = [BINARY, 126 | mask, 0, 125];
        assert_fails(role, &rules(), &short, PeerMisbehaved::NonMinimalLength16);
        let medium = [BINARY, 127 | mask, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF];
        assert_fails(role, &rules(), &medium, PeerMisbehaved::NonMinimalLength64);
    }
    for (len, header_len) in [(0, 2), (125, 2), (126, 4), (0xFFFF, 4), (0x1_0000, 10)] {
        let mut out = Vec::new();
        FrameHead::new(MsgType::Binary).append_header(&mut out, len, None);
        assert_eq!(out.len(), header_len, "{len}");
    }
}

/// §5.2: the most significant bit of a 64-bit length MUST be 0
#[test]
fn lengths_of_64_bits_fail_rfc6455_5_2() {
    for role in ROLES {
        let mask = if role == Role::Server { 0x80 } else { 0 };
        let bytes = [BINARY, 127 | mask, 0x80, 0, 0, 0, 0, 0, 0, 0];
        assert_fails(role, &rules(), &bytes, PeerMisbehaved::LengthOverflow);
    }
}

/// §5.3: the payload MUST be masked with key byte i modulo 4, and §6.2: the server MUST remove that
#[test]
fn the_mask_is_that_of_the_rfc_rfc6455_5_3() {
    let hello = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"; // §5.7
    assert_hears(Role::Server, &rules(), hello, &[(MsgType::Text, true, b"Hello")]);
    let mut out = Vec::new();
    FrameHead::new(MsgType::Text).append(&mut out, b"Hello", Some(KEY));
    assert_eq!(out, hello);
}

/// §5.4: clients and servers MUST support receiving both fragmented and unfragmented messages
#[test]
fn fragments_are_received_rfc6455_5_4() {
    for role in ROLES {
        let parts = [(0x01, &b"Hel"[..]), (0x00, b""), (0x80, b"lo"), (TEXT, b"whole")];
        let bytes: Vec<_> =
            parts.iter().flat_map(|(first, payload)| frame(role, *first, payload)).collect();
        let frames = [
            (MsgType::Text, false, &b"Hel"[..]),
            (MsgType::Continuation, false, b""),
            (MsgType::Continuation, true, b"lo"),
            (MsgType::Text, true, b"whole"),
        ];
        assert_hears(role, &rules(), &bytes, &frames);
    }
}

/// §5.4: an endpoint MUST be capable of handling control frames in the middle of a fragmented message
#[test]
fn control_frames_are_handled_between_fragments_rfc6455_5_4() {
    for role in ROLES {
        let parts = [(0x02, &b"a"[..]), (PING, b"?"), (0x00, b"b"), (PONG, b"!"), (0x80, b"c")];
        let bytes: Vec<_> =
            parts.iter().flat_map(|(first, payload)| frame(role, *first, payload)).collect();
        let pair = hear(role, &rules(), &bytes);
        let frames = [
            (MsgType::Binary, false, &b"a"[..]),
            (MsgType::Continuation, false, b"b"),
            (MsgType::Pong, true, b"!"),
            (MsgType::Continuation, true, b"c"),
        ];
        assert_eq!(pair.end(role).frames(), frames);
        assert_eq!(pair.end(other(role)).frames(), [(MsgType::Pong, true, &b"?"[..])]);
    }
}

/// §5.4: the fragments of one message MUST NOT be interleaved with another message, received
#[test]
fn a_message_inside_a_message_fails_rfc6455_5_4() {
    for role in ROLES {
        for first in [TEXT, BINARY, 0x01, 0x02] {
            let bytes = [frame(role, 0x01, b"a"), frame(role, first, b"b")].concat();
            assert_fails(role, &rules(), &bytes, PeerMisbehaved::UnfinishedMessage);
        }
    }
}

/// §5.4: the fragments of one message MUST NOT be interleaved with another message, sent
#[test]
fn a_message_inside_a_message_is_not_sent_rfc6455_5_4() {
    let begins = FrameHead::new(MsgType::Text).with_fin(false);
    assert_eq!(begins.check_order(false), Ok(true));
    for inside in [MsgType::Text, MsgType::Binary] {
        let misuse = FrameHead::new(inside).check_order(true);
        assert_eq!(misuse, Err(ApiMisuse::MessageUnderWay));
    }
}

/// §5.4: a message begins with an opcode other than 0: a CONTINUATION of nothing MUST fail the connection
#[test]
fn a_continuation_of_nothing_fails_rfc6455_5_4() {
    for role in ROLES {
        for before in [vec![], frame(role, TEXT, b"whole")] {
            for first in [0x00, 0x80] {
                let bytes = [&before[..], &frame(role, first, b"")].concat();
                assert_fails(role, &rules(), &bytes, PeerMisbehaved::UnexpectedContinuation);
            }
        }
    }
}

/// §5.5: control frames MUST NOT be fragmented, received or sent
#[test]
fn fragmented_control_frames_fail_rfc6455_5_5() {
    for opcode in [MsgType::Close, MsgType::Ping, MsgType::Pong] {
        for role in ROLES {
            let bytes = frame(role, opcode.opcode(), b"");
            assert_fails(role, &rules(), &bytes, PeerMisbehaved::FragmentedControlFrame);
        }
        let misuse = FrameHead::new(opcode).with_fin(false).check(0);
        assert_eq!(misuse, Err(ApiMisuse::FragmentedControlFrame));
    }
}

/// §5.5: control frames MUST have a payload of 125 bytes or less, received or sent
#[test]
fn long_control_frames_fail_rfc6455_5_5() {
    for opcode in [MsgType::Close, MsgType::Ping, MsgType::Pong] {
        for role in ROLES {
            let mask = if role == Role::Server { 0x80 } else { 0 };
            let bytes = [0x80 | opcode.opcode(), 126 | mask, 0, 126];
            assert_fails(role, &rules(), &bytes, PeerMisbehaved::ControlFrameTooLong);
        }
        let misuse = FrameHead::new(opcode).check(126);
        assert_eq!(misuse, Err(ApiMisuse::ControlPayloadTooLong(126)));
    }
}

/// §5.5.2: an endpoint MUST send a PONG in response to a PING, §5.5.3: with identical application data
#[test]
fn a_ping_is_answered_with_the_same_payload_rfc6455_5_5_2() {
    for role in ROLES {
        for payload in [&b""[..], b"Hello", &[0xFF; 125]] {
            let pair = hear(role, &rules(), &frame(role, PING, payload));
            let answers = pair.end(other(role)).frames();
            assert_eq!(answers, [(MsgType::Pong, true, payload)]);
        }
    }
}

/// §5.5.2: a PING that comes after the peer's CLOSE MUST NOT be answered any more
#[test]
fn a_ping_after_close_is_not_answered_rfc6455_5_5_2() {
    for role in ROLES {
        let bytes = [frame(role, CLOSE, b""), frame(role, PING, b"late")].concat();
        let pair = hear(role, &rules(), &bytes);
        let answers = pair.end(other(role)).frames();
        assert_eq!(answers, [(MsgType::Close, true, &b""[..])]);
    }
}

/// §5.5.3: an unsolicited PONG is allowed, and SHOULD NOT be answered
#[test]
fn an_unsolicited_pong_is_taken_rfc6455_5_5_3() {
    for role in ROLES {
        let bytes = frame(role, PONG, b"unasked");
        assert_hears(role, &rules(), &bytes, &[(MsgType::Pong, true, b"unasked")]);
        assert!(hear(role, &rules(), &bytes).end(other(role)).frames().is_empty());
    }
}

/// §5.6: a fragment of a text may end inside a character, but the whole message MUST be UTF-8
#[test]
fn a_character_may_be_cut_by_a_fragment_rfc6455_5_6() {
    let (front, back) = "я".as_bytes().split_at(1);
    for role in ROLES {
        let cut = [frame(role, 0x01, front), frame(role, 0x80, back)].concat();
        let frames = [(MsgType::Text, false, front), (MsgType::Continuation, true, back)];
        assert_hears(role, &strict(), &cut, &frames);
        let unfinished = [frame(role, 0x01, front), frame(role, 0x80, b"")].concat();
        assert_fails(role, &strict(), &unfinished, PeerMisbehaved::InvalidUtf8);
    }
}

/// §6.1: data MUST be sent only while the connection is open
#[test]
fn nothing_is_sent_after_the_end_rfc6455_6_1() {
    for role in ROLES {
        let mut pair = Pair::open(Delivery::Whole);
        pair.end_mut(role).sender().finish();
        pair.deliver();
        assert_eq!(pair.end(role).phase(), Phase::Ended);
        pair.end_mut(role).sender().send_text("late");
        pair.end_mut(role).sender().send_close_frame(&CloseFrame::empty());
        assert_eq!(pair.said_by(role), b"");
    }
}

/// §6.2: the fragments of a message are concatenated, and MUST be delivered in the order they were sent (§5.4)
#[test]
fn a_message_is_its_fragments_in_order_rfc6455_6_2() {
    use crate::assembler::{Assembled, Message, MessageAssembler};
    for role in ROLES {
        let parts = [(0x01, &b"one "[..]), (PONG, b""), (0x00, b"two "), (0x80, b"three")];
        let bytes: Vec<_> =
            parts.iter().flat_map(|(first, payload)| frame(role, *first, payload)).collect();
        let pair = hear(role, &rules(), &bytes);
        let (mut assembler, mut messages) = (MessageAssembler::default(), Vec::new());
        for (msg_type, fin, payload) in pair.end(role).frames() {
            let frame = crate::frame::Frame::new(msg_type, payload).with_fin(fin);
            if let Some(Assembled::Message(Message::Text(text))) = assembler.push(&frame).unwrap() {
                messages.push(text.to_owned());
            }
        }
        assert_eq!(messages, ["one two three"]);
    }
}

/// §8.1: text that is not UTF-8 MUST fail the connection, with 1007 (§7.4.1)
#[test]
fn broken_text_fails_rfc6455_8_1() {
    let broken = [&b"\xff"[..], b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"ok \x80"];
    for role in ROLES {
        for text in broken {
            let bytes = frame(role, TEXT, text);
            assert_fails(role, &strict(), &bytes, PeerMisbehaved::InvalidUtf8);
        }
    }
}

/// §10.4: an endpoint with limits MUST protect itself against frames that exceed them, with 1009 (§7.4.1)
#[test]
fn large_frames_fail_by_their_header_rfc6455_10_4() {
    for role in ROLES {
        let mask = if role == Role::Server { 0x80 } else { 0 };
        for len in [[0, 0, 0, 0, 0, 0xA0, 0, 1], [0x7F, 0xFF, 0, 0, 0, 0, 0, 0]] {
            let bytes = [&[BINARY, 127 | mask][..], &len].concat();
            assert_fails(role, &rules(), &bytes, PeerMisbehaved::FrameTooLarge);
        }
    }
}

/// §10.4: an endpoint with limits MUST protect itself against messages that exceed them after reassembly
#[test]
fn large_messages_fail_before_they_are_joined_rfc6455_10_4() {
    use crate::assembler::MessageAssembler;
    let mut assembler = MessageAssembler::new(5);
    let fragment = |msg_type| crate::frame::Frame::new(msg_type, b"abc").with_fin(false);
    assert!(assembler.push(&fragment(MsgType::Binary)).is_ok());
    let error = assembler.push(&fragment(MsgType::Continuation)).unwrap_err();
    assert_eq!(error, PeerMisbehaved::MessageTooLarge);
}

use super::*;
use proptest::prelude::*;

const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

fn rules() -> FrameRules {
    FrameRules::default()
}

fn decode_as_server(input: &[u8]) -> Result<Option<(Header, usize)>, PeerMisbehaved> {
    Header::decode(input, Role::Server, &rules())
}

#[test]
fn two_bytes_are_needed_before_anything_is_known() {
    assert_eq!(decode_as_server(&[]), Ok(None));
    assert_eq!(decode_as_server(&[0x81]), Ok(None));
}

#[test]
fn decodes_each_length_form_rfc6455_5_2() {
    let unlimited = FrameRules { payload_bytes_max: u64::MAX, ..rules() };
    for len in [0, 1, 125, 126, 127, 0xFFFF, 0x1_0000, FRAME_PAYLOAD_BYTES_CLAIM_MAX] {
        for mask in [None, Some(KEY)] {
            let role = if mask.is_some() { Role::Server } else { Role::Client };
            let header =
                Header { payload_len: len, mask, msg_type: MsgType::Binary, fin: true, rsv: 0 };
            let (bytes, header_len) = header.encode();
            for cut in 0..header_len {
                assert_eq!(Header::decode(&bytes[..cut], role, &unlimited), Ok(None), "cut={cut}");
            }
            let decoded = Header::decode(&bytes, role, &unlimited);
            assert_eq!(decoded, Ok(Some((header, header_len))));
        }
    }
}

#[test]
fn reserved_opcodes_are_refused_rfc6455_5_2() {
    for opcode in [0x3, 0x4, 0x5, 0x6, 0x7, 0xB, 0xC, 0xD, 0xE, 0xF] {
        let got = decode_as_server(&[0x80 | opcode, 0x80]);
        assert_eq!(got, Err(PeerMisbehaved::UnknownOpcode(opcode)));
    }
}

#[test]
fn rsv_bits_need_permission_rfc6455_5_2() {
    for rsv in 1..=7_u8 {
        let input = [0x81 | (rsv << 4), 0x80, 0, 0, 0, 0];
        assert_eq!(decode_as_server(&input), Err(PeerMisbehaved::UnexpectedRsv));
        let allowed = FrameRules { rsv_allowed: rsv, ..rules() };
        let (header, _) = Header::decode(&input, Role::Server, &allowed).unwrap().unwrap();
        assert_eq!(header.rsv, rsv);
        let other = FrameRules { rsv_allowed: !rsv & 7, ..rules() };
        let got = Header::decode(&input, Role::Server, &other);
        assert_eq!(got, Err(PeerMisbehaved::UnexpectedRsv));
    }
}

#[test]
fn the_mask_direction_is_checked_rfc6455_5_1() {
    assert_eq!(decode_as_server(&[0x81, 0x00]), Err(PeerMisbehaved::UnmaskedFrame));
    let got = Header::decode(&[0x81, 0x80], Role::Client, &rules());
    assert_eq!(got, Err(PeerMisbehaved::MaskedFrame));
}

#[test]
fn control_frames_are_short_and_whole_rfc6455_5_5() {
    for opcode in [0x8, 0x9, 0xA] {
        let got = decode_as_server(&[opcode, 0x80]);
        assert_eq!(got, Err(PeerMisbehaved::FragmentedControlFrame));
        for len in [126, 127] {
            let got = decode_as_server(&[0x80 | opcode, 0x80 | len]);
            assert_eq!(got, Err(PeerMisbehaved::ControlFrameTooLong));
        }
        assert!(decode_as_server(&[0x80 | opcode, 0x80 | 125, 0, 0, 0, 0]).unwrap().is_some());
    }
}

#[test]
fn lengths_use_the_shortest_form_rfc6455_5_2() {
    for len in [0_u16, 1, 125] {
        let [high, low] = len.to_be_bytes();
        let got = decode_as_server(&[0x82, 0xFE, high, low]);
        assert_eq!(got, Err(PeerMisbehaved::NonMinimalLength16), "len={len}");
    }
    for len in [0_u64, 125, 126, 0xFFFF] {
        let mut input = vec![0x82, 0xFF];
        input.extend(len.to_be_bytes());
        assert_eq!(decode_as_server(&input), Err(PeerMisbehaved::NonMinimalLength64), "len={len}");
    }
    let mut input = vec![0x82, 0xFF];
    input.extend((1_u64 << 63).to_be_bytes());
    assert_eq!(decode_as_server(&input), Err(PeerMisbehaved::LengthOverflow));
}

#[test]
fn the_size_limit_is_exact_and_spares_control_frames() {
    let tight = FrameRules { payload_bytes_max: 100, ..rules() };
    let frame = |opcode: u8, len: u8| [0x80 | opcode, 0x80 | len, 1, 2, 3, 4];
    assert!(Header::decode(&frame(2, 100), Role::Server, &tight).unwrap().is_some());
    let got = Header::decode(&frame(2, 101), Role::Server, &tight);
    assert_eq!(got, Err(PeerMisbehaved::FrameTooLarge));
    assert!(Header::decode(&frame(9, 125), Role::Server, &tight).unwrap().is_some());
}

#[test]
fn a_length_too_large_is_refused_before_the_key_arrives() {
    let mut input = vec![0x82, 0xFF];
    input.extend((1_u64 << 62).to_be_bytes());
    assert_eq!(decode_as_server(&input), Err(PeerMisbehaved::FrameTooLarge));
}

proptest! {
    #[test]
    fn what_is_encoded_decodes_to_the_same(
        payload_len in prop_oneof![0..=200_u64, 65_000..=66_000_u64, 0..=FRAME_PAYLOAD_BYTES_CLAIM_MAX],
        mask in proptest::option::of(any::<[u8; 4]>()),
        opcode in prop_oneof![Just(MsgType::Continuation), Just(MsgType::Text), Just(MsgType::Binary)],
        fin in any::<bool>(),
        rsv in 0..=7_u8,
    ) {
        let header = Header { payload_len, mask, msg_type: opcode, fin, rsv };
        let (bytes, len) = header.encode();
        let rules = FrameRules { payload_bytes_max: u64::MAX, rsv_allowed: 7, ..rules() };
        let role = if mask.is_some() { Role::Server } else { Role::Client };
        prop_assert_eq!(Header::decode(&bytes[..len], role, &rules), Ok(Some((header, len))));
    }

    #[test]
    fn no_bytes_make_it_panic(input in proptest::collection::vec(any::<u8>(), 0..20)) {
        for role in [Role::Client, Role::Server] {
            if let Ok(Some((_, len))) = Header::decode(&input, role, &rules()) {
                prop_assert!(len <= input.len());
            }
        }
    }
}

//! The receiving half, driven as a runtime drives it.
//!
//! Every stream is read whole, byte by byte and cut at every place; what comes out must not
//! depend on it. Rules that one header breaks by itself are also tested in `header/tests.rs`.

use super::*;

mod buffering;
mod random;
mod text;
mod violations;

const ROLES: [Role; 2] = [Role::Server, Role::Client];

/// A key without equal bytes, so that a wrong position in it shows.
const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// FIN and opcode, the first byte of a frame.
const TEXT: u8 = 0x81;
const TEXT_BEGINS: u8 = 0x01;
const BINARY: u8 = 0x82;
const BINARY_BEGINS: u8 = 0x02;
const CONTINUES: u8 = 0x00;
const ENDS: u8 = 0x80;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8A;

/// A frame for us as `role`, put together byte by byte and not by the encoder.
fn frame(role: Role, first: u8, payload: &[u8]) -> Vec<u8> {
    let len = payload.len();
    match len {
        0..=125 => frame_with_len(role, first, &[len as u8], payload),
        126..=0xFFFF => {
            let [high, low] = (len as u16).to_be_bytes();
            frame_with_len(role, first, &[126, high, low], payload)
        }
        _ => {
            let len = [&[127][..], &(len as u64).to_be_bytes()].concat();
            frame_with_len(role, first, &len, payload)
        }
    }
}

/// The same with the length as given, right or wrong.
fn frame_with_len(role: Role, first: u8, len: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    bytes.extend_from_slice(len);
    match role {
        Role::Server => {
            bytes[1] |= 0x80;
            bytes.extend_from_slice(&KEY);
            bytes.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
        }
        Role::Client => bytes.extend_from_slice(payload),
    }
    bytes
}

/// Frames for us as `role`, one after the other.
fn stream(role: Role, frames: &[(u8, &[u8])]) -> Vec<u8> {
    frames.iter().flat_map(|(first, payload)| frame(role, *first, payload)).collect()
}

/// The parts of a frame that a listener could keep, whatever buffer it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    msg_type: MsgType,
    fin: bool,
    rsv: u8,
    payload: Vec<u8>,
}

impl Seen {
    fn new(first: u8, payload: &[u8]) -> Self {
        Self {
            msg_type: MsgType::from_opcode(first & 0x0F).unwrap(),
            fin: first & 0x80 != 0,
            rsv: (first >> 4) & 7,
            payload: payload.to_vec(),
        }
    }
}

impl From<&Frame<'_>> for Seen {
    fn from(frame: &Frame<'_>) -> Self {
        Self {
            msg_type: frame.msg_type(),
            fin: frame.fin(),
            rsv: frame.rsv(),
            payload: frame.payload().to_vec(),
        }
    }
}

fn seen(frames: &[(u8, &[u8])]) -> Vec<Seen> {
    frames.iter().map(|(first, payload)| Seen::new(*first, payload)).collect()
}

/// A decoder, the stash that its caller owns, and what came out.
struct Reader {
    decoder: Decoder,
    rules: FrameRules,
    stash: Stash,
    frames: Vec<Seen>,
    /// `last_in_buffer` and `tail_size` of each frame.
    tails: Vec<(bool, usize)>,
    error: Option<PeerMisbehaved>,
}

impl Reader {
    fn new(role: Role, rules: &FrameRules) -> Self {
        Self {
            decoder: Decoder::new(role),
            rules: rules.clone(),
            stash: Stash::new(),
            frames: Vec::new(),
            tails: Vec::new(),
            error: None,
        }
    }

    /// Hands in received bytes, and checks on the way what holds for every input.
    fn feed(&mut self, arrived: &[u8]) {
        let mut arrived = arrived.to_vec();
        let (mut consumed, mut calls) = (0, 0);
        loop {
            calls += 1;
            // A header takes two bytes; the first may have come before.
            assert!(calls <= arrived.len() / 2 + 3, "the loop ends");
            self.swap_stash();
            let rest = &mut arrived[consumed..];
            let rest_len = rest.len();
            match self.decoder.next_frame(&self.rules, &mut self.stash, rest) {
                Ok(Decoded { consumed: more, frame: Some(frame) }) => {
                    assert_eq!(self.error, None, "nothing is delivered after an error");
                    assert!(more <= rest_len);
                    consumed += more;
                    assert!(frame.tail_size() <= rest_len);
                    self.tails.push((frame.last_in_buffer(), frame.tail_size()));
                    self.frames.push(Seen::from(&frame));
                }
                Ok(Decoded { consumed: more, frame: None }) => {
                    assert_eq!(self.error, None, "an error stays");
                    assert_eq!(more, rest_len, "without a frame, all is consumed");
                    break;
                }
                Err(error) => {
                    assert!(self.error.is_none_or(|before| before == error), "an error stays");
                    self.error = Some(error);
                    break;
                }
            }
        }
        self.swap_stash();
    }

    /// Puts received bytes behind what is in the stash, without a look at them.
    fn fill(&mut self, arrived: &[u8], gap: usize) {
        assert!(arrived.len() as u64 <= self.decoder.bytes_missing(&self.stash));
        let bytes = self.stash.bytes_mut();
        bytes.resize(bytes.len() + gap, 0xDD);
        bytes.extend_from_slice(arrived);
        match self.decoder.next_filled(&self.rules, &mut self.stash, gap, arrived.len()) {
            Ok(None) => {}
            Ok(Some(frame)) => {
                assert!(frame.memory().is_some_and(|memory| ***memory == *frame.payload()));
                self.tails.push((frame.last_in_buffer(), frame.tail_size()));
                self.frames.push(Seen::from(&frame));
            }
            Err(error) => {
                assert_eq!(self.error, None);
                self.error = Some(error);
            }
        }
        self.feed(&[]);
    }

    /// What a runtime with a pool of stashes does.
    fn swap_stash(&mut self) {
        if !self.decoder.wants_stash() {
            assert!(self.stash.is_empty(), "a stash that is given back is empty");
            self.stash = Stash::new();
        }
    }

    fn outcome(self) -> Outcome {
        Outcome { frames: self.frames, error: self.error }
    }
}

/// All that a peer can bring about.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    frames: Vec<Seen>,
    error: Option<PeerMisbehaved>,
}

fn read_in_pieces<'a>(
    role: Role,
    rules: &FrameRules,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Outcome {
    let mut reader = Reader::new(role, rules);
    for piece in pieces {
        reader.feed(piece);
    }
    reader.outcome()
}

/// Reads `stream` whole, byte by byte and cut in two at every place, and returns what came out,
/// which is the same each time.
fn frames_at_every_split(role: Role, rules: &FrameRules, stream: &[u8]) -> Outcome {
    let whole = read_in_pieces(role, rules, [stream]);
    assert_eq!(read_in_pieces(role, rules, stream.chunks(1)), whole, "byte by byte");
    for cut in 0..=stream.len() {
        let (front, back) = stream.split_at(cut);
        assert_eq!(read_in_pieces(role, rules, [front, back]), whole, "{role:?}, cut={cut}");
    }
    whole
}

/// Reads valid frames in both roles, at every split.
fn assert_delivered(frames: &[(u8, &[u8])]) {
    for role in ROLES {
        let got = frames_at_every_split(role, &FrameRules::default(), &stream(role, frames));
        assert_eq!(got, Outcome { frames: seen(frames), error: None }, "{role:?}");
    }
}

#[test]
fn reads_the_samples_of_rfc6455_5_7() {
    let hello = Outcome { frames: seen(&[(TEXT, b"Hello")]), error: None };
    let masked = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
    assert_eq!(frames_at_every_split(Role::Server, &FrameRules::default(), masked), hello);
    let unmasked = b"\x81\x05Hello";
    assert_eq!(frames_at_every_split(Role::Client, &FrameRules::default(), unmasked), hello);
    let fragmented = b"\x01\x03Hel\x80\x02lo";
    let halves = Outcome { frames: seen(&[(TEXT_BEGINS, b"Hel"), (ENDS, b"lo")]), error: None };
    assert_eq!(frames_at_every_split(Role::Client, &FrameRules::default(), fragmented), halves);
}

#[test]
fn fragments_come_as_they_are_with_control_frames_between_rfc6455_5_4() {
    assert_delivered(&[
        (TEXT_BEGINS, b"one "),
        (PING, b"are you there"),
        (CONTINUES, b"two "),
        (PONG, b""),
        (PING, b""),
        (CONTINUES, b""),
        (ENDS, b"three"),
        (BINARY_BEGINS, b""),
        (ENDS, b""),
        (TEXT, b"a message of its own"),
    ]);
}

#[test]
fn a_control_frame_may_be_the_longest_allowed_rfc6455_5_5() {
    assert_delivered(&[(BINARY_BEGINS, b"x"), (PING, &[7; 125]), (ENDS, b"y"), (PONG, &[8; 125])]);
}

#[test]
fn each_length_form_is_read_rfc6455_5_2() {
    for len in [0, 1, 3, 4, 5, 125, 126, 127, 300] {
        let payload: Vec<u8> = (0..len).map(|index| index as u8).collect();
        assert_delivered(&[(BINARY, &payload), (TEXT, b"after")]);
    }
    for role in ROLES {
        for len in [0xFFFF, 0x1_0000] {
            let payload = vec![0xA5; len];
            let bytes = stream(role, &[(BINARY, &payload), (TEXT, b"after")]);
            for cut in (0..20).chain(bytes.len() - 20..bytes.len()) {
                let (front, back) = bytes.split_at(cut);
                let got = read_in_pieces(role, &FrameRules::default(), [front, back]);
                assert_eq!(got.frames, seen(&[(BINARY, &payload), (TEXT, b"after")]), "cut={cut}");
            }
        }
    }
}

#[test]
fn empty_frames_at_the_very_end_are_delivered() {
    assert_delivered(&[(TEXT, b"x"), (PING, b""), (BINARY, b"")]);
    assert_delivered(&[(TEXT, b"")]);
    assert_delivered(&[(BINARY, b""), (BINARY, b""), (CLOSE, b"")]);
}

#[test]
fn allowed_rsv_bits_reach_the_listener_rfc6455_5_2() {
    let rules = FrameRules { rsv_allowed: 0b101, ..FrameRules::default() };
    let frames: [(u8, &[u8]); 3] =
        [(TEXT_BEGINS | 0x40, b"a"), (PING | 0x10, b"b"), (ENDS | 0x50, b"c")];
    for role in ROLES {
        let got = frames_at_every_split(role, &rules, &stream(role, &frames));
        assert_eq!(got, Outcome { frames: seen(&frames), error: None });
        assert_eq!(got.frames.iter().map(|frame| frame.rsv).collect::<Vec<_>>(), [4, 1, 5]);
    }
}

#[test]
fn nothing_after_close_is_looked_at_rfc6455_5_5_1() {
    let close: (u8, &[u8]) = (CLOSE, b"\x03\xe8bye");
    for role in ROLES {
        let other = if role == Role::Server { Role::Client } else { Role::Server };
        for behind in [
            frame(role, TEXT, b"late"),
            frame(role, CLOSE, b"\x03\xe9again"),
            frame(other, TEXT, b"wrong mask"),
            vec![0xFF; 40],
        ] {
            let bytes = [frame(role, PING, b"1"), frame(role, close.0, close.1), behind].concat();
            let got = frames_at_every_split(role, &FrameRules::default(), &bytes);
            let frames = seen(&[(PING, b"1"), close]);
            assert_eq!(got, Outcome { frames, error: None }, "{role:?}");
        }
    }
}

#[test]
fn is_closed_once_close_was_delivered() {
    for role in ROLES {
        let bytes = frame(role, CLOSE, b"");
        let mut reader = Reader::new(role, &FrameRules::default());
        reader.feed(&bytes[..bytes.len() - 1]);
        assert!(!reader.decoder.is_closed());
        reader.feed(&bytes[bytes.len() - 1..]);
        assert!(reader.decoder.is_closed() && !reader.decoder.wants_stash());
        assert_eq!(reader.tails, [(true, 0)]);
    }
}

#[test]
fn close_codes_of_the_wire_are_delivered_rfc6455_7_4() {
    for code in [1000, 1001, 1002, 1003, 1007, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999_u16] {
        let payload = [&code.to_be_bytes()[..], "причина".as_bytes()].concat();
        assert_delivered(&[(CLOSE, &payload[..2])]);
        assert_delivered(&[(CLOSE, &payload)]);
    }
    let longest = [&b"\x03\xe8"[..], &[b'x'; 123]].concat();
    assert_delivered(&[(CLOSE, &longest)]);
}

#[test]
fn close_may_come_inside_a_fragmented_message_rfc6455_5_4() {
    assert_delivered(&[(TEXT_BEGINS, b"never fin"), (CLOSE, b"\x03\xe9")]);
}

#[test]
fn a_cut_header_is_under_way_and_new_once() {
    let (mut decoder, rules) = (Decoder::new(Role::Client), FrameRules::default());
    let mut stash = Stash::new();
    assert!(decoder.next_frame(&rules, &mut stash, &mut [0x81]).unwrap().frame.is_none());
    assert!(decoder.is_under_way());
    assert!(decoder.under_way(&stash).unwrap().is_new);
    assert!(decoder.next_frame(&rules, &mut stash, &mut [126]).unwrap().frame.is_none());
    assert!(!decoder.under_way(&stash).unwrap().is_new, "the same header goes on");
}

/// What is under way after each piece: its payload bytes, and whether it has begun since.
fn under_way_after(role: Role, pieces: &[&[u8]]) -> Vec<Option<(u64, bool)>> {
    let mut reader = Reader::new(role, &FrameRules::default());
    let mut look = |piece: &&[u8]| {
        reader.feed(piece);
        let found = reader.decoder.under_way(&reader.stash);
        found.map(|found| (found.bytes, found.is_new))
    };
    pieces.iter().map(&mut look).collect()
}

#[test]
fn a_frame_that_drips_is_new_with_its_first_part_only() {
    for role in ROLES {
        let bytes = frame(role, TEXT, b"Hello");
        let (front, back) = bytes.split_at(bytes.len() - 4);
        let pieces = [front, &back[..1], b"", &back[1..3], &back[3..]];
        let going_on = [Some((2, false)), Some((2, false)), Some((4, false)), None];
        let found = under_way_after(role, &pieces);
        assert_eq!((found[0], &found[1..]), (Some((1, true)), &going_on[..]));
    }
}

#[test]
fn a_message_is_new_with_its_first_fragment_only_rfc6455_5_4() {
    for role in ROLES {
        let (first, last) = (frame(role, TEXT_BEGINS, b"Hel"), frame(role, ENDS, b"lo"));
        let (header, payload) = last.split_at(last.len() - 2);
        let pieces = [&first, &header[..1], &header[1..], &payload[..1], &payload[1..]];
        let going_on = [Some((3, false)), Some((3, false)), Some((4, false)), None];
        let found = under_way_after(role, &pieces);
        assert_eq!((found[0], &found[1..]), (Some((3, true)), &going_on[..]));
    }
}

#[test]
#[expect(deprecated, reason = "the earlier names have to go on working")]
fn the_earlier_names_of_filling_the_stash_do_the_same() {
    let (mut decoder, rules) = (Decoder::new(Role::Client), FrameRules::default());
    let mut stash = Stash::new();
    assert!(decoder.next_frame(&rules, &mut stash, &mut b"\x81\x05Hel".to_vec()).is_ok());
    assert_eq!(decoder.missing(&stash), 2);
    stash.bytes_mut().extend_from_slice(b"lo");
    let frame = decoder.filled(&rules, &mut stash, 0, 2).unwrap().expect("complete");
    assert_eq!(frame.payload(), b"Hello");
}

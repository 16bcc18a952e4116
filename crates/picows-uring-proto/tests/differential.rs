//! The same bytes through our receiving half and tungstenite's: the same messages, or both refuse.
//!
//! Where they differ on purpose stands in [`Difference`], each with its reason and a test.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

use picows_uring_proto::{
    Assembled, CloseCode, CloseFrame, Decoder, FrameHead, FrameRules, Message, MessageAssembler,
    MsgType, PeerMisbehaved, Role, Stash,
};
use proptest::prelude::*;
use std::io::{self, Read, Write};
use tungstenite::protocol::frame::Frame as TheirFrame;
use tungstenite::protocol::frame::coding::{CloseCode as TheirCode, Data, OpCode};
use tungstenite::protocol::{Role as TheirRole, WebSocketConfig};
use tungstenite::{Error, Message as TheirMessage, WebSocket};

/// Where we refuse what tungstenite takes, or the other way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Difference {
    /// RFC 6455 §5.2: the minimal number of bytes MUST be used for a length. It takes any.
    LongLengths,
    /// A close code that may not be on the wire is a protocol error for us (§7.4). It answers with
    /// 1002, too, but delivers a CLOSE of its own making instead of an error.
    BadCloseCode,
    /// 1014 is in the IANA registry, so we take it. It does not know it.
    BadGateway,
}

impl Difference {
    fn of(error: PeerMisbehaved) -> Option<Self> {
        match error {
            PeerMisbehaved::NonMinimalLength16 | PeerMisbehaved::NonMinimalLength64 => {
                Some(Self::LongLengths)
            }
            PeerMisbehaved::InvalidCloseCode(_) => Some(Self::BadCloseCode),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

const FRAME_BYTES_MAX: usize = 0xFFFF;
const MESSAGE_BYTES_MAX: usize = 300;
/// Enough to complete any frame that is accepted by its header: tungstenite judges only those.
const FILLER: &[u8] = &[0; FRAME_BYTES_MAX + 14];
const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// What we make of it, up to CLOSE.
fn ours(role: Role, pieces: &[&[u8]]) -> (Vec<Seen>, Option<PeerMisbehaved>) {
    let rules = FrameRules {
        payload_bytes_max: FRAME_BYTES_MAX as u64,
        validate_text: true,
        ..FrameRules::default()
    };
    let (mut decoder, mut stash) = (Decoder::new(role), Stash::new());
    let mut assembler = MessageAssembler::new(MESSAGE_BYTES_MAX);
    let mut seen = Vec::new();
    for piece in pieces {
        let mut piece = piece.to_vec();
        let mut consumed = 0;
        loop {
            let decoded = match decoder.next_frame(&rules, &mut stash, &mut piece[consumed..]) {
                Ok(decoded) => decoded,
                Err(error) => return (seen, Some(error)),
            };
            consumed += decoded.consumed;
            let Some(frame) = decoded.frame else { break };
            match assembler.push(&frame) {
                Ok(Some(Assembled::Message(Message::Text(text)))) => {
                    seen.push(Seen::Text(text.to_owned()));
                }
                Ok(Some(Assembled::Message(Message::Binary(bytes)))) => {
                    seen.push(Seen::Binary(bytes.to_vec()));
                }
                Ok(Some(Assembled::Control(frame))) => seen.push(match frame.msg_type() {
                    MsgType::Ping => Seen::Ping(frame.payload().to_vec()),
                    MsgType::Pong => Seen::Pong(frame.payload().to_vec()),
                    _ => Seen::Close(frame.close_code().map(|code| {
                        (code.get(), frame.close_reason().unwrap_or_default().to_owned())
                    })),
                }),
                Ok(None) => {}
                Err(error) => return (seen, Some(error)),
            }
        }
        if !decoder.wants_stash() {
            stash.clear();
        }
    }
    (seen, None)
}

/// A socket that has received these pieces, and swallows what is sent.
struct Socket<'a>(Vec<&'a [u8]>);

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(piece) = self.0.first_mut() else {
                return Err(io::ErrorKind::WouldBlock.into());
            };
            if piece.is_empty() {
                self.0.remove(0);
                continue;
            }
            let len = piece.len().min(buffer.len());
            buffer[..len].copy_from_slice(&piece[..len]);
            *piece = &piece[len..];
            return Ok(len);
        }
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What tungstenite makes of it, up to CLOSE.
fn theirs(role: Role, pieces: &[&[u8]]) -> (Vec<Seen>, Option<Error>) {
    let config = WebSocketConfig::default()
        .max_frame_size(Some(FRAME_BYTES_MAX))
        .max_message_size(Some(MESSAGE_BYTES_MAX));
    let role = match role {
        Role::Client => TheirRole::Client,
        Role::Server => TheirRole::Server,
    };
    let mut socket = WebSocket::from_raw_socket(Socket(pieces.to_vec()), role, Some(config));
    let mut seen = Vec::new();
    loop {
        seen.push(match socket.read() {
            Ok(TheirMessage::Text(text)) => Seen::Text(text.as_str().to_owned()),
            Ok(TheirMessage::Binary(bytes)) => Seen::Binary(bytes.to_vec()),
            Ok(TheirMessage::Ping(bytes)) => Seen::Ping(bytes.to_vec()),
            Ok(TheirMessage::Pong(bytes)) => Seen::Pong(bytes.to_vec()),
            Ok(TheirMessage::Close(close)) => {
                let close = close.map(|it| (u16::from(it.code), it.reason.as_str().to_owned()));
                seen.push(Seen::Close(close));
                return (seen, None);
            }
            Ok(TheirMessage::Frame(_)) => unreachable!("not while reading"),
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                return (seen, None);
            }
            Err(error) => return (seen, Some(error)),
        });
    }
}

/// The CLOSE that tungstenite delivers in place of one with a code that it does not like.
fn stand_in() -> Seen {
    Seen::Close(Some((1002, "Protocol violation".to_owned())))
}

/// Compares both, and returns which listed difference was met.
fn compare(role: Role, pieces: &[&[u8]]) -> Result<Option<Difference>, TestCaseError> {
    let (our_seen, our_error) = ours(role, pieces);
    let Some(error) = our_error else {
        let (mut their_seen, their_error) = theirs(role, pieces);
        prop_assert!(their_error.is_none(), "they alone refuse: {:?}", their_error);
        if matches!(our_seen.last(), Some(Seen::Close(Some((1014, _))))) {
            prop_assert_eq!(their_seen.pop(), Some(stand_in()));
            prop_assert_eq!(&their_seen[..], &our_seen[..our_seen.len() - 1]);
            return Ok(Some(Difference::BadGateway));
        }
        prop_assert_eq!(their_seen, our_seen);
        return Ok(None);
    };
    // We may refuse a frame that has not arrived whole; they want to see its end.
    let (their_seen, their_error) = theirs(role, &[pieces, &[FILLER]].concat());
    prop_assert!(their_seen.starts_with(&our_seen), "{:?} {:?}", their_seen, our_seen);
    let difference = match error {
        // A short PING with a long length is refused by us for the form that it claims.
        PeerMisbehaved::ControlFrameTooLong if their_seen.len() > our_seen.len() => {
            Some(Difference::LongLengths)
        }
        error => Difference::of(error),
    };
    match difference {
        Some(Difference::LongLengths) => {}
        // With a reason that is no text, too, they refuse it as well.
        Some(_) if their_error.is_some() => prop_assert_eq!(their_seen, our_seen),
        Some(_) => prop_assert_eq!(&their_seen[our_seen.len()..], &[stand_in()]),
        None => {
            prop_assert_eq!(their_seen, our_seen, "refused for {:?}", error);
            prop_assert!(their_error.is_some(), "we alone refuse: {:?}", error);
        }
    }
    Ok(difference)
}

/// How a length is written.
#[derive(Clone, Copy, Debug)]
enum LengthForm {
    Shortest,
    Bits16,
    Bits64,
}

/// A frame as it arrives at `role`, put together by hand.
fn frame(role: Role, first: u8, payload: &[u8], form: LengthForm) -> Vec<u8> {
    let len = payload.len();
    let mut bytes = match (form, len) {
        (LengthForm::Shortest, 0..=125) => vec![first, len as u8],
        (LengthForm::Bits64, _) => [&[first, 127][..], &(len as u64).to_be_bytes()].concat(),
        (LengthForm::Shortest | LengthForm::Bits16, _) => {
            [&[first, 126][..], &(len as u16).to_be_bytes()].concat()
        }
    };
    if role == Role::Server {
        bytes[1] |= 0x80;
        bytes.extend_from_slice(&KEY);
        bytes.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    } else {
        bytes.extend_from_slice(payload);
    }
    bytes
}

fn bytes(len: impl Into<proptest::collection::SizeRange>) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), len)
}

fn text(regex: &'static str) -> impl Strategy<Value = Vec<u8>> {
    regex.prop_map(String::into_bytes)
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Server), Just(Role::Client)]
}

/// A frame that is valid by itself, most of the time.
fn any_frame(role: Role) -> impl Strategy<Value = Vec<u8>> {
    let data = (
        prop_oneof![4 => Just(0x81_u8), 2 => Just(0x01), 2 => Just(0x82), 1 => Just(0x02)],
        prop_oneof![6 => text(".{0,30}"), 2 => bytes(0..140), 1 => bytes(250..320)],
    );
    let more = (prop_oneof![Just(0x00_u8), Just(0x80)], prop_oneof![text(".{0,10}"), bytes(0..9)]);
    let control = (prop_oneof![Just(0x89_u8), Just(0x8A)], bytes(0..=125));
    let close = (Just(0x88_u8), close_payload());
    let odd = (any::<u8>(), bytes(0..130));
    let form = prop_oneof![
        40 => Just(LengthForm::Shortest),
        1 => Just(LengthForm::Bits16),
        1 => Just(LengthForm::Bits64),
    ];
    (prop_oneof![8 => data, 6 => more, 4 => control, 1 => close, 1 => odd], form)
        .prop_map(move |((first, payload), form)| frame(role, first, &payload, form))
}

fn close_payload() -> impl Strategy<Value = Vec<u8>> {
    let code = prop_oneof![4 => 1000..=1015_u16, 2 => 3000..=4999_u16, 1 => any::<u16>()];
    prop_oneof![
        1 => Just(vec![]),
        1 => Just(vec![3]),
        6 => (code, text(".{0,20}")).prop_map(|(code, reason)| {
            [&code.to_be_bytes()[..], &reason].concat()
        }),
        1 => bytes(0..9).prop_map(|reason| [&[0x03, 0xE8][..], &reason].concat()),
    ]
}

/// A message in fragments, with a PING between some: valid as it stands.
fn fragmented(role: Role) -> impl Strategy<Value = Vec<u8>> {
    let cuts = proptest::collection::vec((0..90_usize, any::<bool>()), 0..4);
    (any::<bool>(), text(".{0,60}"), cuts).prop_map(move |(is_text, text, mut cuts)| {
        cuts.sort_unstable();
        let (mut bytes, mut start, mut first) = (Vec::new(), 0, if is_text { 1 } else { 2 });
        for (cut, with_ping) in cuts {
            let end = cut.min(text.len());
            bytes.extend(frame(role, first, &text[start..end], LengthForm::Shortest));
            if with_ping {
                bytes.extend(frame(role, 0x89, b"?", LengthForm::Shortest));
            }
            (start, first) = (end, 0);
        }
        bytes.extend(frame(role, first | 0x80, &text[start..], LengthForm::Shortest));
        bytes
    })
}

/// A bit that is wrong, or a byte too few or too many.
#[derive(Clone, Debug)]
enum Change {
    Flip(prop::sample::Index, u8),
    Drop(prop::sample::Index),
    Insert(prop::sample::Index, u8),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<prop::sample::Index>();
    prop_oneof![
        4 => (at, 0..8_u8).prop_map(|(at, bit)| Change::Flip(at, 1 << bit)),
        1 => any::<prop::sample::Index>().prop_map(Change::Drop),
        1 => (any::<prop::sample::Index>(), any::<u8>())
            .prop_map(|(at, byte)| Change::Insert(at, byte)),
    ]
}

fn stream(role: Role) -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![any_frame(role), fragmented(role)];
    let changes = prop_oneof![
        2 => Just(vec![]),
        1 => proptest::collection::vec(change(), 1..4),
    ];
    (proptest::collection::vec(part, 0..8), changes).prop_map(|(parts, changes)| {
        let mut bytes = parts.concat();
        for change in changes {
            if bytes.is_empty() {
                break;
            }
            let len = bytes.len();
            match change {
                Change::Flip(at, bit) => bytes[at.index(len)] ^= bit,
                Change::Drop(at) => drop(bytes.remove(at.index(len))),
                Change::Insert(at, byte) => bytes.insert(at.index(len), byte),
            }
        }
        bytes
    })
}

/// `bytes` cut at the given places, in order.
fn pieces<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2048) })]

    #[test]
    fn both_see_the_same_or_both_refuse(
        (role, bytes) in role().prop_flat_map(|role| (Just(role), stream(role))),
        cuts in proptest::collection::vec(any::<usize>(), 0..8),
    ) {
        compare(role, &pieces(&bytes, &cuts))?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn they_read_what_we_write(
        role in role(),
        is_text: bool,
        text in ".{0,60}",
        fin: bool,
        control in bytes(0..=125),
        code in 3000..5000_u16,
        reason in ".{0,50}",
    ) {
        let key = (role == Role::Server).then_some(KEY);
        let mut out = Vec::new();
        let first = if is_text { MsgType::Text } else { MsgType::Binary };
        FrameHead::new(first).with_fin(fin).append(&mut out, text.as_bytes(), key);
        FrameHead::new(MsgType::Ping).append(&mut out, &control, key);
        if !fin {
            FrameHead::new(MsgType::Continuation).append(&mut out, b"", key);
        }
        FrameHead::new(MsgType::Pong).append(&mut out, &control, key);
        let close = CloseFrame::new(CloseCode::new(code).unwrap(), &reason);
        close.append(&mut out, key);
        let message = match is_text {
            true => Seen::Text(text),
            false => Seen::Binary(text.into_bytes()),
        };
        let mut want = vec![message, Seen::Ping(control.clone()), Seen::Pong(control)];
        if !fin {
            want.swap(0, 1);
        }
        want.push(Seen::Close(Some((code, close.reason().to_owned()))));
        let (seen, error) = theirs(role, &[&out]);
        prop_assert!(error.is_none(), "{:?}", error);
        prop_assert_eq!(&seen, &want);
        prop_assert_eq!(ours(role, &[&out]), (want, None), "and so do we");
    }

    #[test]
    fn we_read_what_they_write(
        role in role(),
        text in ".{0,60}",
        binary in bytes(0..300),
        control in bytes(0..=125),
        code in prop_oneof![1000..=1003_u16, 1007..=1013_u16, 3000..=4999_u16],
        reason in ".{0,30}",
    ) {
        let (front, back) = binary.split_at(binary.len() / 2);
        let close = tungstenite::protocol::CloseFrame {
            code: TheirCode::from(code),
            reason: reason.clone().into(),
        };
        let data =
            |bytes: &[u8], kind, fin| TheirFrame::message(bytes.to_vec(), OpCode::Data(kind), fin);
        let mut out = Vec::new();
        for their_frame in [
            data(text.as_bytes(), Data::Text, true),
            data(front, Data::Binary, false),
            TheirFrame::ping(control.clone()),
            data(back, Data::Continue, true),
            TheirFrame::pong(control.clone()),
            TheirFrame::close(Some(close)),
        ] {
            let payload = their_frame.payload().to_vec();
            let mut plain = Vec::new();
            their_frame.format(&mut plain).unwrap();
            match role {
                Role::Client => out.extend(plain),
                // Their masks are drawn when they send: the first byte is theirs, the mask ours.
                Role::Server => out.extend(frame(role, plain[0], &payload, LengthForm::Shortest)),
            }
        }
        let want = vec![
            Seen::Text(text),
            Seen::Ping(control.clone()),
            Seen::Binary(binary),
            Seen::Pong(control),
            Seen::Close(Some((code, reason))),
        ];
        prop_assert_eq!(ours(role, &[&out]), (want, None));
    }
}

#[test]
fn the_differences_are_there() {
    for role in [Role::Server, Role::Client] {
        let close = |code: u16| frame(role, 0x88, &code.to_be_bytes(), LengthForm::Shortest);
        for (bytes, difference) in [
            (frame(role, 0x81, b"x", LengthForm::Bits16), Difference::LongLengths),
            (frame(role, 0x82, b"x", LengthForm::Bits64), Difference::LongLengths),
            (frame(role, 0x89, b"x", LengthForm::Bits16), Difference::LongLengths),
            (close(1005), Difference::BadCloseCode),
            (close(2999), Difference::BadCloseCode),
            (close(1014), Difference::BadGateway),
        ] {
            assert_eq!(compare(role, &[&bytes]).unwrap(), Some(difference), "{role:?}");
        }
        assert_eq!(compare(role, &[&close(1000)]).unwrap(), None);
    }
}

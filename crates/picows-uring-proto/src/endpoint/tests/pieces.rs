//! Large frames in pieces: the same bytes, checks and limits as whole ones, at every cut.

use super::*;
use std::collections::HashSet;

/// A connection that wants pieces of frames above 200 bytes.
struct Pieced {
    receiver: Receiver,
    pieces: Pieces,
    rules: FrameRules,
    /// Of the large frame under way.
    open: Option<(MsgType, Vec<u8>)>,
    frames: Vec<(MsgType, bool, Vec<u8>)>,
}

impl Pieced {
    fn new(role: Role) -> Self {
        Self {
            receiver: Receiver::new(role),
            pieces: Pieces::of_frames_above(200),
            rules: FrameRules { validate_text: true, ..FrameRules::default() },
            open: None,
            frames: Vec::new(),
        }
    }

    fn feed(&mut self, input: &[u8]) -> Result<(), PeerMisbehaved> {
        let (mut input, mut consumed) = (input.to_vec(), 0);
        loop {
            let Self { receiver, pieces, rules, .. } = self;
            let (count, received) =
                receiver.next_in_pieces(rules, pieces, &mut input[consumed..])?;
            consumed += count;
            match received {
                None => break,
                Some(Received::Frame(frame)) => {
                    assert!(frame.payload().len() <= 200, "larger ones come in pieces");
                    let payload = frame.payload().to_vec();
                    self.frames.push((frame.msg_type(), frame.fin(), payload));
                }
                Some(Received::Piece(piece)) => {
                    assert!(!piece.payload().is_empty() && piece.frame_len() > 200);
                    let (msg_type, mut bytes) =
                        self.open.take().unwrap_or((piece.msg_type(), Vec::new()));
                    assert_eq!((msg_type, bytes.len() as u64), (piece.msg_type(), piece.offset()));
                    bytes.extend_from_slice(piece.payload());
                    if piece.is_last() {
                        assert_eq!(bytes.len() as u64, piece.frame_len());
                        self.frames.push((msg_type, piece.fin(), bytes));
                    } else {
                        self.open = Some((msg_type, bytes));
                    }
                }
            }
            assert_eq!(self.receiver.stash().capacity().max(200), 200, "nothing large is kept");
        }
        assert_eq!(consumed, input.len());
        Ok(())
    }
}

fn key(role: Role) -> Option<[u8; 4]> {
    (role == Role::Server).then_some(KEY)
}

#[test]
fn pieces_are_the_frame_at_every_cut() {
    let large = "größer ".repeat(60);
    let frames: [(MsgType, bool, &[u8]); 8] = [
        (MsgType::Text, true, b"small"),
        (MsgType::Text, true, large.as_bytes()),
        (MsgType::Text, false, &large.as_bytes()[..301]),
        (MsgType::Ping, true, b"between"),
        (MsgType::Continuation, false, b""),
        (MsgType::Continuation, true, &large.as_bytes()[301..]),
        (MsgType::Binary, true, &[0xFF; 201]),
        (MsgType::Binary, true, &[0xFE; 200]),
    ];
    for role in [Role::Server, Role::Client] {
        let mut wire = Vec::new();
        for (msg_type, fin, payload) in frames {
            FrameHead::new(msg_type).with_fin(fin).append(&mut wire, payload, key(role));
        }
        let wanted: Vec<_> =
            frames.iter().map(|(kind, fin, it)| (*kind, *fin, it.to_vec())).collect();
        for cut in 0..=wire.len() {
            let mut pieced = Pieced::new(role);
            pieced.feed(&wire[..cut]).unwrap();
            pieced.feed(&wire[cut..]).unwrap();
            assert!(pieced.frames == wanted, "{role:?} cut={cut}");
        }
        for step in [1, 2, 3, 7, 100, 333] {
            let mut pieced = Pieced::new(role);
            wire.chunks(step).for_each(|part| pieced.feed(part).unwrap());
            assert!(pieced.frames == wanted, "{role:?} step={step}");
        }
    }
}

#[test]
fn pieces_are_checked_as_they_come() {
    let text = [&[b'a'; 300][..], b"\xff", &[b'a'; 300]].concat();
    let wire = masked(MsgType::Text, &text);
    let mut pieced = Pieced::new(Role::Server);
    assert_eq!(pieced.feed(&wire[..300]), Ok(()));
    assert_eq!(pieced.feed(&wire[300..400]), Err(PeerMisbehaved::InvalidUtf8), "at its first byte");
    // A character that the end of the message cuts.
    let wire = masked(MsgType::Text, &[&[b'a'; 300][..], b"\xc3"].concat());
    let mut pieced = Pieced::new(Role::Server);
    let faults: HashSet<_> = wire.chunks(50).filter_map(|part| pieced.feed(part).err()).collect();
    assert_eq!(faults, HashSet::from([PeerMisbehaved::InvalidUtf8]));
    // The limit is on the whole frame, and known with its header.
    let wire = masked(MsgType::Binary, &[0; 1001]);
    let mut pieced = Pieced::new(Role::Server);
    pieced.rules.payload_bytes_max = 1000;
    assert_eq!(pieced.feed(&wire[..8]), Err(PeerMisbehaved::FrameTooLarge));
    // What is not allowed inside of a message.
    let mut pieced = Pieced::new(Role::Client);
    let mut wire = Vec::new();
    FrameHead::new(MsgType::Binary).with_fin(false).append(&mut wire, &[0; 300], None);
    wire.extend(plain(MsgType::Binary, &[0; 300]));
    assert_eq!(pieced.feed(&wire), Err(PeerMisbehaved::UnfinishedMessage));
}

#[test]
fn a_frame_in_pieces_is_under_way_until_its_end() {
    let mut pieced = Pieced::new(Role::Server);
    let wire = masked(MsgType::Binary, &[1; 1000]);
    assert!(!pieced.pieces.is_under_way());
    let (mut bytes, mut news) = (0, 0);
    for part in wire[..wire.len() - 1].chunks(10) {
        pieced.feed(part).unwrap();
        let under_way = pieced.receiver.under_way_in_pieces(&pieced.pieces).unwrap();
        assert!(under_way.bytes >= bytes, "it never shrinks");
        bytes = under_way.bytes;
        news += u32::from(under_way.is_new);
        assert!(pieced.pieces.is_under_way());
    }
    assert!((bytes, news) == (999, 1), "{bytes} bytes, begun {news} times");
    pieced.feed(&wire[wire.len() - 1..]).unwrap();
    assert_eq!(pieced.receiver.under_way_in_pieces(&pieced.pieces), None);
    assert_eq!(pieced.frames.len(), 1);
    assert!(!pieced.pieces.is_under_way());
}

#[test]
fn a_message_counts_its_fragments_whole_and_in_pieces() {
    let fragment = |msg_type, fin, payload: &[u8]| {
        let mut wire = Vec::new();
        FrameHead::new(msg_type).with_fin(fin).append(&mut wire, payload, None);
        wire
    };
    let mut pieced = Pieced::new(Role::Client);
    let mut feed = |wire: &[u8]| {
        pieced.feed(wire).unwrap();
        pieced.receiver.under_way_in_pieces(&pieced.pieces).map(|it| it.bytes)
    };
    for _ in 0..2 {
        let large = fragment(MsgType::Binary, false, &[1; 300]);
        let header_len = large.len() - 300;
        assert_eq!(feed(&large[..header_len + 250]), Some(250), "none of the message before");
        assert_eq!(feed(&large[header_len + 250..]), Some(300));
        assert_eq!(feed(&plain(MsgType::Ping, b"between")), Some(300));
        assert_eq!(feed(&fragment(MsgType::Continuation, false, &[2; 10])), Some(310));
        assert_eq!(feed(&fragment(MsgType::Continuation, true, &[3; 10])), None);
    }
}

#[test]
fn a_piece_has_the_head_of_its_frame() {
    let rules = FrameRules { rsv_allowed: 7, ..FrameRules::default() };
    for rsv in [0, 2, 5] {
        let mut wire = Vec::new();
        FrameHead::new(MsgType::Binary).with_rsv(rsv).append(&mut wire, &[1; 300], None);
        let mut receiver = Receiver::new(Role::Client);
        let mut pieces = Pieces::of_frames_above(200);
        let len = wire.len() - 200;
        let next = receiver.next_in_pieces(&rules, &mut pieces, &mut wire[..len]);
        let Ok((_, Some(Received::Piece(piece)))) = next else { panic!("{next:?}") };
        assert_eq!((piece.rsv(), piece.offset(), piece.frame_len()), (rsv, 0, 300));
        let text = format!("{piece:?}");
        assert!(text.contains("bytes: 100") && text.contains("frame_len: 300"), "{text}");
    }
}

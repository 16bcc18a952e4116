//! The receiving half, and what the sending half decides for each frame.

use super::*;
use crate::conversation::Conversation;
use crate::stash::Stash;

struct Half {
    receiver: Receiver,
    sender: Sender,
    frames: FrameRules,
    rules: ConversationRules,
}

type Seen = (MsgType, Vec<u8>, FrameAction);

impl Half {
    fn new(rules: ConversationRules) -> Self {
        let mut sender = Sender::new(Role::Server, &rules, START);
        sender.conversation_mut().opened();
        let frames = FrameRules { validate_text: true, ..FrameRules::default() };
        Self { receiver: Receiver::new(Role::Server), sender, frames, rules }
    }

    fn feed(&mut self, piece: &[u8]) -> Result<Vec<Seen>, PeerMisbehaved> {
        let (mut piece, mut consumed, mut seen) = (piece.to_vec(), 0, Vec::new());
        loop {
            let rest = &mut piece[consumed..];
            let decoded = self.receiver.next(&self.frames, rest)?;
            consumed += decoded.consumed;
            let Some(frame) = decoded.frame else { break };
            let action = self.sender.handle_frame(&self.rules, &frame);
            seen.push((frame.msg_type(), frame.payload().to_vec(), action));
        }
        assert_eq!(consumed, piece.len());
        Ok(seen)
    }

    fn fill(&mut self, gap: usize, piece: &[u8]) -> Result<Option<Seen>, PeerMisbehaved> {
        let bytes = self.receiver.stash_mut().bytes_mut();
        bytes.resize(bytes.len() + gap, 0);
        bytes.extend_from_slice(piece);
        let Self { receiver, sender, frames, rules } = self;
        let filled = receiver.next_filled(frames, gap, piece.len())?;
        Ok(filled.map(|frame| {
            let action = sender.handle_frame(rules, &frame);
            (frame.msg_type(), frame.payload().to_vec(), action)
        }))
    }

    fn conversation(&self) -> &Conversation {
        self.sender.conversation()
    }
}

#[test]
fn each_frame_comes_with_what_is_to_be_done_with_it_at_every_cut() {
    use FrameAction::{AnswerPing, Deliver};
    let wire = [
        masked(MsgType::Text, "ПРИВЕТ".as_bytes()),
        masked(MsgType::Ping, b"?"),
        masked(MsgType::Pong, b"!"),
        masked(MsgType::Close, b"\x03\xe8bye"),
        masked(MsgType::Text, b"after the end"),
    ]
    .concat();
    let expected = [
        (MsgType::Text, "ПРИВЕТ".into(), Deliver),
        (MsgType::Ping, b"?".to_vec(), AnswerPing),
        (MsgType::Pong, b"!".to_vec(), Deliver),
        (MsgType::Close, b"\x03\xe8bye".to_vec(), Deliver),
    ];
    for cut in 0..=wire.len() {
        let mut half = Half::new(ConversationRules::default());
        let mut seen = half.feed(&wire[..cut]).unwrap();
        seen.extend(half.feed(&wire[cut..]).unwrap());
        assert_eq!(seen, expected, "cut={cut}");
        let close = half.conversation().close_handshake().unwrap();
        assert_eq!(close.received, Some(CloseFrame::new(CloseCode::NORMAL, "bye")));
    }
}

#[test]
fn frames_after_the_end_of_the_conversation_are_ignored() {
    let mut half = Half::new(ConversationRules::default());
    half.sender.conversation_mut().end();
    let seen = half.feed(&masked(MsgType::Text, b"late")).unwrap();
    assert_eq!(seen, [(MsgType::Text, b"late".to_vec(), FrameAction::Ignore)]);
}

#[test]
fn a_violation_comes_after_the_frames_before_it_and_stays() {
    let mut half = Half::new(ConversationRules::default());
    let mut input = [masked(MsgType::Text, b"ok"), masked(MsgType::Text, b"\xff")].concat();
    let Half { receiver, frames, .. } = &mut half;
    let first = receiver.next(frames, &mut input).unwrap();
    let consumed = first.consumed;
    assert!(first.frame.is_some());
    for _ in 0..2 {
        let error = receiver.next(frames, &mut input[consumed..]).map(drop);
        assert_eq!(error, Err(PeerMisbehaved::InvalidUtf8));
    }
}

#[test]
fn a_cut_frame_may_be_completed_in_the_stash() {
    let payload = [0x5A; 40];
    let wire = masked(MsgType::Binary, &payload);
    for gap in [0, 14] {
        let mut half = Half::new(ConversationRules::default());
        assert!(half.receiver.needs_input() && !half.receiver.is_under_way());
        assert_eq!(half.receiver.bytes_missing(), 0);
        assert!(half.feed(&wire[..16]).unwrap().is_empty());
        assert!(half.receiver.is_collecting() && half.receiver.is_under_way());
        assert!(!half.receiver.needs_input());
        assert_eq!((half.receiver.bytes_missing(), half.receiver.stash().len()), (30, 10));
        let begun = half.receiver.under_way().unwrap();
        assert_eq!((begun.bytes, begun.is_new), (10, true));
        half.receiver.release_memory();
        assert_eq!(half.receiver.stash().len(), 10, "a part of a frame stays");
        assert_eq!(half.fill(gap, &wire[16..26]).unwrap(), None);
        assert_eq!(half.receiver.bytes_missing(), 20);
        let seen = half.fill(gap, &wire[26..]).unwrap();
        assert_eq!(seen, Some((MsgType::Binary, payload.to_vec(), FrameAction::Deliver)));
        assert!(half.feed(b"").unwrap().is_empty());
        assert!(half.receiver.needs_input() && !half.receiver.is_collecting());
        assert!(half.receiver.under_way().is_none());
        half.receiver.release_memory();
        assert_eq!(half.receiver.stash().capacity(), 0);
    }
}

#[test]
fn a_header_alone_keeps_no_memory() {
    let wire = masked(MsgType::Binary, &[0x5A; 40]);
    let mut half = Half::new(ConversationRules::default());
    *half.receiver.stash_mut() = Stash::with_memory(Vec::with_capacity(4096).into());
    assert!(half.feed(&wire[..6]).unwrap().is_empty());
    assert!(!half.receiver.is_collecting() && half.receiver.is_under_way());
    half.receiver.release_memory();
    assert_eq!(half.receiver.stash().capacity(), 0);
    let seen = half.feed(&wire[6..]).unwrap();
    assert_eq!(seen, [(MsgType::Binary, vec![0x5A; 40], FrameAction::Deliver)]);
}

#[test]
fn lent_memory_collects_a_cut_frame() {
    let wire = masked(MsgType::Binary, &[0x5A; 40]);
    let mut half = Half::new(ConversationRules::default());
    *half.receiver.stash_mut() = Stash::with_memory(Vec::with_capacity(4096).into());
    assert!(half.feed(&wire[..16]).unwrap().is_empty());
    assert_eq!(half.receiver.stash().capacity(), 4096);
}

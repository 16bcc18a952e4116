//! Cases around the frames: messages, text, the conversation, liveness, deadlines.

use super::Case;
use picows_uring_proto::internal::Utf8Stream;
use picows_uring_proto::{
    Conversation, ConversationRules, Frame, Liveness, LivenessRules, MessageAssembler, MsgType,
    Role, Tick, Wheel,
};
use std::hint::black_box;
use std::time::Duration;

pub(super) fn cases() -> Vec<Case> {
    let ascii = |len| "plain text ".repeat(len).into_bytes();
    let cyrillic = |len| "текст ".repeat(len).into_bytes();
    vec![
        conversation(),
        liveness(),
        assemble("assembler/whole/256-of-bytes", MsgType::Binary, 1),
        assemble("assembler/whole/256-of-text", MsgType::Text, 1),
        assemble("assembler/in-4-fragments/256-of-bytes", MsgType::Binary, 4),
        assemble("assembler/in-4-fragments/256-of-text", MsgType::Text, 4),
        utf8("utf8/ascii/256", &ascii(24)[..256], 256),
        utf8("utf8/ascii/16384", &ascii(1490)[..16_384], 16_384),
        utf8("utf8/cyrillic/11000", &cyrillic(1000), 11_000),
        utf8("utf8/cyrillic/in-pieces-of-33", &cyrillic(30), 33),
        wheel_idle(),
        wheel_insert_and_cancel(),
        wheel_rearm(),
        wheel_expire(),
    ]
}

fn conversation() -> Case {
    let rules = ConversationRules::default();
    let mut conversation = Conversation::new(Role::Server, &rules, Tick::ZERO);
    conversation.opened();
    let payload = [0x5a; 256];
    Case::new("conversation/data-frame", move || {
        let frame = Frame::new(MsgType::Binary, &payload);
        black_box(black_box(&mut conversation).handle_frame(&rules, black_box(&frame)));
    })
}

fn liveness() -> Case {
    let rules = LivenessRules::default();
    let (mut liveness, mut now) = (Liveness::new(&rules, Tick::ZERO, None), Tick::ZERO);
    Case::new("liveness/bytes-arrived", move || {
        now = now + Duration::from_nanos(1);
        black_box(&mut liveness).received(now);
    })
}

fn assemble(name: &str, msg_type: MsgType, fragments: usize) -> Case {
    let mut assembler = MessageAssembler::default();
    let payload = vec![b'a'; 256 / fragments];
    Case::new(name, move || {
        for index in 0..fragments {
            let msg_type = if index == 0 { msg_type } else { MsgType::Continuation };
            let frame = Frame::new(msg_type, black_box(&payload)).with_fin(index + 1 == fragments);
            let whole = assembler.push(&frame).expect("the fragments are in order");
            assert_eq!(whole.is_some(), index + 1 == fragments);
        }
        assembler.trim();
    })
}

fn utf8(name: &str, text: &[u8], piece_bytes: usize) -> Case {
    let (text, mut stream) = (text.to_vec(), Utf8Stream::new());
    Case::new(name, move || {
        for piece in black_box(&text).chunks(piece_bytes) {
            stream.feed(piece).expect("the text is UTF-8");
        }
        assert!(stream.is_complete());
    })
}

/// A wheel in which a thousand connections have deadlines half a minute to a minute away.
struct Armed {
    wheel: Wheel,
    now: Tick,
    delay_ms: u64,
}

impl Armed {
    fn new() -> Self {
        let mut armed = Self { wheel: Wheel::new(Tick::ZERO), now: Tick::ZERO, delay_ms: 0 };
        for token in 0..1000 {
            let deadline = armed.next_deadline();
            armed.wheel.insert(deadline, token);
        }
        armed
    }

    /// In no order, the same in every run.
    fn next_deadline(&mut self) -> Tick {
        self.delay_ms = (self.delay_ms + 7_919) % 30_000;
        self.now + Duration::from_millis(30_000 + self.delay_ms)
    }
}

fn wheel_idle() -> Case {
    let mut armed = Armed::new();
    Case::new("wheel/turn-with-nothing-due", move || {
        let wheel = black_box(&mut armed.wheel);
        black_box((wheel.expire(Tick::from_nanos(1_000_000_000)), wheel.next_deadline()));
    })
}

fn wheel_insert_and_cancel() -> Case {
    let mut armed = Armed::new();
    Case::new("wheel/insert-and-cancel", move || {
        let deadline = armed.next_deadline();
        let id = armed.wheel.insert(deadline, 7);
        black_box(armed.wheel.cancel(black_box(id)));
    })
}

/// The earliest timer is put off, and the next deadline has to be found.
fn wheel_rearm() -> Case {
    let mut armed = Armed::new();
    Case::new("wheel/put-off-the-earliest", move || {
        let id = armed.wheel.insert(armed.now + Duration::from_secs(1), 7);
        black_box(armed.wheel.next_deadline());
        armed.wheel.cancel(black_box(id));
        black_box(armed.wheel.next_deadline());
    })
}

/// The earliest timer fires and is armed anew.
fn wheel_expire() -> Case {
    let mut armed = Armed::new();
    Case::new("wheel/expire-and-insert", move || {
        let token = loop {
            if let Some(token) = armed.wheel.expire(armed.now) {
                break token;
            }
            armed.now = armed.wheel.next_deadline().expect("all timers are armed anew");
        };
        let deadline = armed.next_deadline();
        armed.wheel.insert(deadline, token);
    })
}

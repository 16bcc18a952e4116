//! Queue for a peer that does not keep up: what is dropped, replaced, kept, and counted.

use super::*;
use crate::status::SendStatus;
use crate::testing::ring::sim::Random;
use bytes::Bytes;
use picows_uring_proto::{Decoder, FrameHead, FrameRules, Role, Stash};

const POLICIES: [QueuePolicy; 3] =
    [QueuePolicy::Close, QueuePolicy::DropNewest, QueuePolicy::DropOldest];

impl Fixture {
    /// A peer that takes nothing, and a first message that is on its way to it for ever.
    fn stuck(policy: QueuePolicy, queue_bytes_max: usize) -> Self {
        let manner = Manner { tells_pauses: true, ..Manner::default() };
        let mut fixture = Self::new(manner, |config| {
            config.liveness.auto_ping = None;
            config.queue_bytes_max = queue_bytes_max;
            config.queue_policy = policy;
            config.high_watermark = queue_bytes_max / 2;
            config.low_watermark = queue_bytes_max / 8;
        });
        fixture.worker.ring.is_stuck = true;
        transport().send_text("first");
        fixture.turn();
        fixture
    }

    /// All that the peer gets to read when it begins to.
    pub(super) fn drain(&mut self) -> Vec<(MsgType, bool, Vec<u8>)> {
        self.worker.ring.is_stuck = false;
        self.worker.ring.take(usize::MAX);
        self.turn();
        assert_eq!(transport().buffered_amount(), 0);
        self.read()
    }

    /// What the peer has read since the last call, to the end of a frame.
    fn read(&mut self) -> Vec<(MsgType, bool, Vec<u8>)> {
        let mut bytes = std::mem::take(&mut self.worker.ring.sent);
        let (mut decoder, mut stash, mut at) = (Decoder::new(Role::Client), Stash::new(), 0);
        let mut frames = Vec::new();
        loop {
            let rules = FrameRules::default();
            let decoded = decoder.next_frame(&rules, &mut stash, &mut bytes[at..]);
            let decoded = decoded.expect("what is sent is RFC 6455");
            at += decoded.consumed;
            let Some(frame) = decoded.frame else { break };
            frames.push((frame.msg_type(), frame.fin(), frame.payload().to_vec()));
        }
        assert!(!decoder.wants_stash(), "it ends inside a frame");
        frames
    }
}

fn texts(frames: &[(MsgType, bool, Vec<u8>)]) -> Vec<&str> {
    frames.iter().map(|(_, _, payload)| std::str::from_utf8(payload).unwrap()).collect()
}

#[test]
fn the_oldest_make_room_for_the_newest() {
    let mut fixture = Fixture::stuck(QueuePolicy::DropOldest, 10_000);
    let (mut dropped, mut last) = (0, SendStatus::Queued);
    for number in 0..200 {
        last = transport().send_text(format!("{number:0>98}"));
        assert!(last.is_queued(), "{last:?}");
        dropped += u64::from(last == SendStatus::DroppedOldest);
        assert!(transport().buffered_amount() <= 10_000);
    }
    assert_eq!(last, SendStatus::DroppedOldest);
    assert!(transport().send_ping("alive?").is_queued());
    let got = fixture.drain();
    let got = texts(&got);
    // What was as good as on its way, then the ping, which does not wait, then what is new.
    let ping = got.iter().position(|text| *text == "alive?").unwrap();
    assert_eq!(got[0], "first");
    let numbers =
        |texts: &[&str]| -> Vec<u64> { texts.iter().map(|text| text.parse().unwrap()).collect() };
    let (before, after) = (numbers(&got[1..ping]), numbers(&got[ping + 1..]));
    assert_eq!(before, (0..24).collect::<Vec<_>>());
    assert_eq!(after, (24 + dropped..200).collect::<Vec<_>>());
    assert!(after.len() > 20 && dropped > 100, "{} {dropped}", after.len());
    assert_eq!(fixture.stats().frames_dropped, dropped);
}

#[test]
fn of_what_waits_only_a_little_is_on_its_way_at_a_time() {
    let mut fixture = Fixture::stuck(QueuePolicy::DropOldest, 100_000);
    for number in 0..1000 {
        transport().send_text(format!("{number:0>98}"));
    }
    fixture.turn();
    assert!(fixture.stats().queue_bytes >= 90_000, "what waits is counted");
    fixture.worker.ring.take(usize::MAX);
    fixture.turn();
    assert!(transport().in_flight_amount() <= 25_100 && transport().queued_amount() > 2000);
    fixture.drain();
    fixture.turn();
    assert_eq!(fixture.stats().queue_bytes, 0);
}

#[test]
fn a_message_is_dropped_with_all_its_fragments_or_not_at_all() {
    let mut fixture = Fixture::stuck(QueuePolicy::DropOldest, 10_000);
    // Its beginning is on its way, so it has to be told to its end.
    let mut begun = transport().message_writer(MsgType::Text);
    begun.write("a".repeat(2000));
    fixture.turn();
    assert!(begun.finish("a".repeat(2000)).is_queued());
    for command in ["b", "c", "d", "e"] {
        let fragments = (0..3).map(|_| command.repeat(800));
        assert!(transport().send_fragments(MsgType::Text, fragments).is_queued(), "{command}");
    }
    let got = fixture.drain();
    let commands: Vec<_> = texts(&got).iter().map(|text| &text[..1]).collect();
    assert_eq!(commands, ["f", "a", "a", "d", "d", "d", "e", "e", "e"]);
    assert_eq!(fixture.stats().frames_dropped, 6);
    // A message that fills the queue by itself cannot be dropped, as it is not complete.
    fixture.worker.ring.is_stuck = true;
    transport().send_text("first");
    fixture.turn();
    let mut endless = transport().message_writer(MsgType::Text);
    while endless.write("x".repeat(800)).is_queued() {}
    assert_eq!(transport().disconnect_cause(), Some(DisconnectCause::QueueFull));
}

#[test]
fn a_frame_for_which_nothing_could_make_room_is_dropped_itself() {
    let mut fixture = Fixture::stuck(QueuePolicy::DropOldest, 10_000);
    for _ in 0..5 {
        transport().send_text("x".repeat(1500));
    }
    assert_eq!(transport().send_text("y".repeat(9_990)), SendStatus::Dropped);
    assert_eq!(fixture.drain().len(), 6, "nothing was dropped in vain");
}

#[test]
fn a_sender_that_made_others_give_way_has_to_pause() {
    let mut fixture = Fixture::stuck(QueuePolicy::DropOldest, 10_000);
    // Full of what it takes to keep them apart: few bytes.
    let mut statuses = std::iter::repeat_with(|| transport().send_text("x"));
    let last = statuses.find(|status| *status != SendStatus::Queued);
    assert_eq!(last, Some(SendStatus::DroppedOldest));
    assert!(transport().buffered_amount() < 5000);
    fixture.turn();
    assert_eq!(seen(), ["pause"]);
    fixture.drain();
    assert_eq!(seen(), ["resume"]);
}

#[test]
fn the_latest_of_a_key_takes_the_place_of_the_one_that_waits() {
    let mut fixture = Fixture::stuck(QueuePolicy::Close, 10_000);
    let large = Bytes::from("c".repeat(2000));
    let head = FrameHead::new(MsgType::Text);
    assert_eq!(transport().send_latest(1, MsgType::Text, "a1"), SendStatus::Queued);
    assert_eq!(transport().send_latest(2, MsgType::Text, "b1"), SendStatus::Queued);
    assert_eq!(transport().send_text("between"), SendStatus::Queued);
    assert_eq!(transport().send_latest_bytes(3, head, &large), SendStatus::Queued);
    for number in 2..1000 {
        let status = transport().send_latest(1, MsgType::Text, format!("a{number}"));
        assert_eq!(status, SendStatus::Replaced);
        assert_eq!(transport().send_latest_bytes(3, head, &large), SendStatus::Replaced);
    }
    assert_eq!(transport().send_latest(3, MsgType::Text, "c"), SendStatus::Replaced);
    assert!(transport().send_ping("alive?").is_queued());
    let expected = ["first", "alive?", "a999", "b1", "between", "c"];
    let bytes = expected.iter().map(|text| 2 + text.len()).sum::<usize>();
    assert_eq!(transport().buffered_amount(), bytes);
    assert_eq!(texts(&fixture.drain()), expected);
    assert_eq!((fixture.stats().frames_conflated, fixture.stats().frames_dropped), (1997, 0));
}

#[test]
fn a_peer_that_keeps_up_gets_every_message_of_a_key() {
    let mut fixture = Fixture::stuck(QueuePolicy::DropOldest, 100_000);
    fixture.drain();
    for number in 0..50 {
        for _ in 0..3 {
            let status = transport().send_latest(1, MsgType::Text, number.to_string());
            assert_eq!(status, SendStatus::Queued);
        }
        fixture.turn();
        assert_eq!(fixture.read().len(), 3);
    }
    assert_eq!(fixture.stats().frames_conflated, 0);
}

#[test]
fn only_whole_messages_have_keys() {
    let _stage = Fixture::stuck(QueuePolicy::DropOldest, 10_000);
    let fragment = FrameHead::new(MsgType::Text).with_fin(false);
    let ping = FrameHead::new(MsgType::Ping);
    for head in [fragment, ping, FrameHead::new(MsgType::Continuation)] {
        let status = transport().send_latest_bytes(1, head, &Bytes::new());
        assert!(matches!(status, SendStatus::Refused(_)), "{head:?}");
    }
    transport().send_frame(fragment, b"begun");
    let status = transport().send_latest(1, MsgType::Text, "in the middle");
    assert!(matches!(status, SendStatus::Refused(_)));
}

#[test]
fn close_and_disconnect_follow_all_that_waits() {
    for policy in POLICIES {
        for closes in [false, true] {
            let mut fixture = Fixture::stuck(policy, 10_000);
            for number in 0..30 {
                transport().send_latest(number, MsgType::Text, [b'x'; 100]);
            }
            if closes {
                transport().send_close(CloseCode::NORMAL, "");
            } else {
                transport().disconnect();
            }
            fixture.turn();
            let got = fixture.drain();
            let last = got.last().unwrap().0;
            assert_eq!(last == MsgType::Close, closes);
            let count = got.iter().filter(|frame| frame.2.len() == 100).count();
            let stats = fixture.stats();
            assert_eq!(count as u64 + stats.frames_dropped, 30, "{policy:?}");
        }
    }
}

#[test]
fn a_peer_that_pings_without_reading_is_owed_one_pong() {
    for policy in POLICIES {
        let mut fixture = Fixture::stuck(policy, 10_000);
        for number in 0..10_000 {
            fixture.say(PING, format!("{number}").as_bytes());
            assert!(transport().buffered_amount() < 6000, "the high watermark and a bit");
        }
        transport().send_text("not behind it");
        let got = fixture.drain();
        let got = texts(&got);
        let last = got.iter().position(|text| *text == "9999").unwrap();
        assert!(got[last..].iter().all(|text| !text.starts_with('9') || *text == "9999"));
        assert!(got.len() < 1200, "{}", got.len());
        fixture.say(PING, b"again");
        assert_eq!(fixture.heard(), [(PONG, b"again".to_vec())]);
    }
}

/// Sends at random to a peer that takes what it likes, and compares with what arrives.
struct Course {
    fixture: Fixture,
    random: Random,
    number: u32,
    /// Control frames that were queued.
    control: Vec<Vec<u8>>,
    /// The last message of each key, while none was dropped.
    latest: [Option<Vec<u8>>; 4],
    dropped: bool,
    is_message_open: bool,
    got: Vec<(MsgType, bool, Vec<u8>)>,
}

impl Course {
    fn payload(&mut self) -> Vec<u8> {
        let longest = self.random.pick(&[10, 200, 2000]);
        let len = self.random.between(4, longest);
        self.number += 1;
        let mut payload = self.number.to_be_bytes().to_vec();
        payload.resize(len, b'x');
        payload
    }

    fn send(&mut self) {
        let mut payload = self.payload();
        let (msg_type, fin) = match (self.random.below(5), self.is_message_open) {
            (0, _) => {
                payload.truncate(100);
                let status = transport().send_ping(&payload);
                assert!(status.is_queued(), "{status:?}");
                return self.control.push(payload);
            }
            (_, true) => (MsgType::Continuation, self.random.chance(500)),
            (1, false) => (MsgType::Binary, false),
            (_, false) => (MsgType::Binary, true),
        };
        let head = FrameHead::new(msg_type).with_fin(fin);
        let bytes = Bytes::copy_from_slice(&payload);
        let status = match self.random.below(4) {
            0 => transport().send_frame(head, &payload),
            1 => transport().send_bytes(head, &bytes),
            2 => transport().send_headroom(head, [&[0; 14], &payload[..]].concat(), 14),
            _ if head == FrameHead::new(MsgType::Binary) => {
                let key = self.random.below(4);
                let status = transport().send_latest_bytes(key as u64, head, &bytes);
                if status.is_queued() {
                    self.latest[key] = Some(payload);
                }
                status
            }
            _ => return,
        };
        self.dropped |= status == SendStatus::DroppedOldest;
        if status.is_queued() {
            self.is_message_open = !fin;
        }
    }

    fn check(&mut self) {
        let transport = transport();
        let sending =
            self.fixture.worker.ring.sending().iter().map(|part| part.len()).sum::<usize>();
        assert_eq!(transport.in_flight_amount(), sending);
        let sum = transport.queued_amount() + transport.in_flight_amount();
        assert_eq!(transport.buffered_amount(), sum);
        // Which is exactly what is still to come.
        let mark = self.fixture.worker.ring.sent.len();
        let before = transport.buffered_amount();
        if self.random.chance(5) {
            self.fixture.worker.ring.is_stuck = false;
            self.fixture.worker.ring.take(usize::MAX);
            self.fixture.turn();
            assert_eq!(self.fixture.worker.ring.sent.len() - mark, before);
            self.fixture.worker.ring.is_stuck = true;
        }
    }

    fn judge(&mut self) {
        let got = &self.got;
        let control: Vec<_> =
            got.iter().filter(|frame| frame.0.is_control()).map(|frame| &frame.2).collect();
        assert_eq!(control, self.control.iter().collect::<Vec<_>>(), "control frames are kept");
        let data = got.iter().filter(|frame| !frame.0.is_control());
        for latest in self.latest.iter().flatten().filter(|_| !self.dropped) {
            assert!(data.clone().any(|frame| frame.2 == *latest), "the latest is lost");
        }
        let stats = self.fixture.stats();
        assert!(stats.frames_sent >= got.len() as u64 + stats.frames_conflated);
    }
}

#[test]
fn whatever_is_sent_what_arrives_is_whole_and_counted_to_the_byte() {
    let mut all = Stats::default();
    for seed in 0..300 {
        let policy = [QueuePolicy::DropNewest, QueuePolicy::DropOldest][seed as usize % 2];
        let mut course = Course {
            fixture: Fixture::stuck(policy, 16_000),
            random: Random::new(seed),
            number: 0,
            control: Vec::new(),
            latest: Default::default(),
            dropped: false,
            is_message_open: false,
            got: Vec::new(),
        };
        for _ in 0..300 {
            match course.random.below(6) {
                0 => {
                    let max = course.random.pick(&[1, 100, 5000]);
                    course.fixture.worker.ring.take(max);
                    course.fixture.turn();
                }
                1 => course.fixture.turn(),
                _ => course.send(),
            }
            if transport().is_close_frame_sent() {
                // A fragment for which there was no room.
                break;
            }
            course.check();
        }
        let is_closed = transport().is_close_frame_sent();
        if course.is_message_open && !is_closed {
            let end = FrameHead::new(MsgType::Continuation);
            transport().send_frame(end, b"");
        }
        course.got = course.fixture.drain();
        if !is_closed {
            course.judge();
        }
        all += course.fixture.stats();
    }
    assert!(all.frames_dropped > 500 && all.frames_conflated > 500, "{all:?}");
}

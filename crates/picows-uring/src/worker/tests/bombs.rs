//! Messages that expand to a thousand times their bytes: how much of them a turn expands and holds, and
//! how long their neighbours wait.

use super::*;
use crate::memory::MemoryBudget;
use picows_uring_proto::{
    Compressed, Compression, Deflate, Deflaters, FrameHead, HeadLimits, UpgradeRequest,
};

const MIB: usize = 1 << 20;
const LIMIT: usize = 8 * MIB;
/// What all connections together expand in a turn is a part of the limit, checked behind each frame;
/// what was deferred has as much by itself.
const EXPANDED_MAX: usize = 2 * MIB;
const PLAIN: i32 = 50;
const COMPRESSED: i32 = 51;
pub(super) const REQUEST: &str = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
pub(super) const OFFER: &str =
    "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";

thread_local! {
    /// Bytes of bombs since the last look.
    static EXPANDED: RefCell<usize> = const { RefCell::new(0) };
}

/// Counts bombs, and writes down anything else.
struct Counting;

impl Listener for Counting {
    fn on_frame(&mut self, _: &Transport, frame: &Frame<'_>) -> ListenerResult {
        let payload = frame.payload();
        match payload.first() {
            Some(0) => EXPANDED.with_borrow_mut(|expanded| *expanded += payload.len()),
            _ => see(String::from_utf8_lossy(payload)),
        }
        Ok(())
    }
}

/// A client that compresses.
pub(super) struct Peer(Compression, Deflaters);

impl Peer {
    pub(super) fn new() -> Self {
        let request = format!("{REQUEST}{OFFER}\r\n");
        let request = UpgradeRequest::parse(request.as_bytes(), &HeadLimits::default());
        let request = request.unwrap().unwrap().0;
        let agreed = Deflate::new().accept(&request).unwrap().0;
        let settings = Deflate::new().threshold(0);
        Self(Compression::new(&settings, &agreed), Deflaters::new(1))
    }

    /// The frame of a message, or a part of one, masked with zeros.
    pub(super) fn frame(&mut self, head: FrameHead, payload: &[u8]) -> Vec<u8> {
        let head = head.compressed(true);
        let compressed = self.0.compress(&mut self.1, head, payload).unwrap();
        let Compressed::Frame(head, data) = compressed else { panic!("it is compressed") };
        let mut wire = Vec::new();
        head.append(&mut wire, data, Some([0; 4]));
        wire
    }
}

/// How bombs come.
#[derive(Clone, Copy, Debug)]
enum Way {
    Frames,
    Fragments,
}

/// What one connection sends: so many frames of a MiB each.
fn bombs(way: Way, count: usize) -> Vec<u8> {
    let (mut peer, zeros) = (Peer::new(), vec![0; MIB]);
    let head = |number| match way {
        Way::Frames => FrameHead::new(MsgType::Binary),
        Way::Fragments if number == 0 => FrameHead::new(MsgType::Binary).with_fin(false),
        Way::Fragments => FrameHead::new(MsgType::Continuation).with_fin(false),
    };
    let wire: Vec<_> = (0..count).flat_map(|number| peer.frame(head(number), &zeros)).collect();
    assert!(wire.len() * 900 < count * MIB, "{} bytes", wire.len());
    wire
}

fn fixture(bombers: i32) -> Fixture {
    let mut config = Config { memory: MemoryBudget::new(Some(LIMIT)), ..Config::default() };
    config.frames.payload_bytes_max = MIB as u64;
    config.deflate = Some(Deflate::new());
    let mut fixture = Fixture::listening(Manner::default(), config);
    fixture.answer_with(Arc::new(|_: &_| Ok(Upgrade::accept(Counting))));
    for socket in (0..bombers).map(|it| 100 + it).chain([PLAIN, COMPRESSED]) {
        fixture.worker.ring.connect(socket);
        fixture.turn();
        let offer = if socket == PLAIN { "" } else { OFFER };
        fixture.worker.ring.deliver_to(socket, format!("{REQUEST}{offer}\r\n").as_bytes());
        fixture.turn();
    }
    fixture
}

#[test]
fn bombs_are_expanded_a_little_in_a_turn_and_their_neighbours_between() {
    for way in [Way::Frames, Way::Fragments] {
        for (bombers, count) in [(1, 40), (20, 3)] {
            let mut fixture = fixture(bombers);
            let wire = bombs(way, count);
            for socket in 100..100 + bombers {
                fixture.worker.ring.deliver_to(socket, &wire);
            }
            let (mut peer, mut said, mut turns) = (Peer::new(), 0, 0);
            // When the neighbour that compresses has said what was not heard.
            let mut waits_since = None;
            loop {
                fixture
                    .worker
                    .ring
                    .deliver_to(PLAIN, &frame(1, format!("plain {turns}").as_bytes()));
                if waits_since.is_none() {
                    let text = format!("compressed {said}").repeat(3);
                    let wire = peer.frame(FrameHead::new(MsgType::Text), text.as_bytes());
                    fixture.worker.ring.deliver_to(COMPRESSED, &wire);
                    waits_since = Some(turns);
                }
                let is_busy = fixture.worker.turn().unwrap() == Turn::Busy;
                let heard = seen();
                let case = format!("{way:?} of {bombers}, turn {turns}: {heard:?}");
                assert!(heard.contains(&format!("plain {turns}")), "{case}");
                if heard.contains(&format!("compressed {said}").repeat(3)) {
                    (waits_since, said) = (None, said + 1);
                }
                let waited = turns - waits_since.unwrap_or(turns);
                assert!(waited <= bombers as usize + 1, "{waited} turns: {case}");
                let expanded = EXPANDED.take();
                assert!(expanded <= EXPANDED_MAX, "{expanded} bytes: {case}");
                let held = fixture.worker.held_bytes();
                assert!(held <= LIMIT + 2 * MIB, "{held} bytes: {case}");
                turns += 1;
                if !is_busy && waits_since.is_none() {
                    break;
                }
                assert!(turns < 1000, "{case}");
            }
            let total = bombers as usize * count * MIB;
            assert!(turns >= total / EXPANDED_MAX, "{turns} turns for {total} bytes");
            assert!(fixture.stats().bytes_after_expansion >= total as u64);
        }
    }
}

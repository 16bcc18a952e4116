//! Each connection has its share of a turn: a flood of frames is served in slices, between which
//! its neighbours are.

use super::*;

const FLOOD: i32 = 7;
const NEIGHBOUR: i32 = 8;
/// Frames of a share.
const SHARE: usize = 1024;

impl Stage {
    /// Two connections to listeners that write down what they hear.
    fn of_two() -> Self {
        let mut stage = Self::new(Manner::default(), |config| config.liveness.auto_ping = None);
        stage.join(NEIGHBOUR);
        seen();
        stage
    }

    /// One turn, and what was heard in it.
    fn one_turn(&mut self) -> (Turn, Vec<String>) {
        let turn = self.worker.turn().unwrap();
        (turn, seen())
    }
}

/// Texts of a client, masked with zeros.
fn texts(texts: impl IntoIterator<Item = String>) -> Vec<u8> {
    let mut out = Vec::new();
    for text in texts {
        out.extend([0x80 | TEXT, 0x80 | text.len() as u8, 0, 0, 0, 0]);
        out.extend(text.bytes());
    }
    out
}

fn numbers(range: std::ops::Range<usize>) -> Vec<u8> {
    texts(range.map(|number| number.to_string()))
}

fn heard(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("Text {number}")).collect()
}

#[test]
fn a_flood_is_served_in_slices_and_its_neighbour_between_them() {
    let mut stage = Stage::of_two();
    // Two pieces, the second of which waits for the first.
    stage.worker.ring.deliver_to(FLOOD, &numbers(0..4000));
    stage.worker.ring.deliver_to(FLOOD, &numbers(4000..5000));
    let mut next = 0;
    for slice in 0..4 {
        stage.worker.ring.deliver_to(NEIGHBOUR, &texts([format!("neighbour {slice}")]));
        let (turn, mut told) = stage.one_turn();
        assert_eq!(turn, Turn::Busy);
        // Behind what came before it, and before what is held.
        let place = if slice == 0 { told.len() - 1 } else { 0 };
        assert_eq!(told.remove(place), format!("Text neighbour {slice}"));
        assert!(told.len() > SHARE - 100 && told.len() <= SHARE, "{}", told.len());
        assert_eq!(told, heard(next..next + told.len()));
        next += told.len();
        assert!(!stage.worker.ring.is_receiving(FLOOD), "TCP holds it back meanwhile");
        assert!(stage.worker.ring.is_receiving(NEIGHBOUR));
    }
    let (_, told) = stage.one_turn();
    assert_eq!(told, heard(next..5000));
    stage.turn();
    assert!(stage.worker.ring.is_receiving(FLOOD), "and no longer");
    assert_eq!(stage.worker.ring.lent(), 0);
}

#[test]
fn large_pieces_are_slices_as_well() {
    let mut stage = Stage::of_two();
    // 65,000 bytes each.
    for _ in 0..40 {
        stage.worker.ring.deliver_to(FLOOD, &texts((0..500).map(|_| "x".repeat(124))));
    }
    let mut slices = 0;
    while let (Turn::Busy, told) = stage.one_turn() {
        // A piece of 500 frames costs another 127 for its bytes.
        assert!(told.len() <= 1024, "{}", told.len());
        slices += 1;
    }
    assert!(slices >= 20 * 627 / 1024, "{slices}");
}

#[test]
fn an_empty_frame_at_the_end_of_a_slice_and_of_a_piece_is_not_forgotten() {
    for count in SHARE - 2..SHARE + 3 {
        let mut stage = Stage::of_two();
        let frames = (0..count).map(|_| String::new());
        stage.worker.ring.deliver_to(FLOOD, &texts(frames));
        stage.turn();
        assert_eq!(seen().len(), count);
    }
}

#[test]
fn what_is_held_comes_before_the_end() {
    type End = fn() -> Received;
    let ends: [(End, &str); 2] = [
        (|| Received::EndOfStream, "disconnected EndOfStream"),
        (
            || Received::Failed(io::Error::from_raw_os_error(libc::ECONNRESET)),
            "disconnected Io(ConnectionReset)",
        ),
    ];
    for (end, cause) in ends {
        let mut stage = Stage::of_two();
        stage.worker.ring.deliver_to(FLOOD, &numbers(0..3000));
        stage.worker.ring.end_of(Socket(FLOOD), end());
        stage.turn();
        let mut told = seen();
        assert_eq!(told.pop().as_deref(), Some(cause));
        assert_eq!(told, heard(0..3000));
        assert_eq!(stage.worker.ring.closed, [Socket(FLOOD)]);
        assert_eq!(stage.worker.ring.lent(), 0);
    }
}

#[test]
fn a_connection_that_ends_gives_back_what_it_held() {
    type Act = fn(&mut Stage);
    let ends: [Act; 4] = [
        |stage| stage.first().abort(),
        |stage| stage.first().disconnect(),
        |stage| stage.worker.stop(Duration::ZERO),
        // A frame that breaks the protocol, far behind.
        |_| {},
    ];
    for (index, end) in ends.into_iter().enumerate() {
        let mut stage = Stage::of_two();
        stage.worker.ring.deliver_to(FLOOD, &[numbers(0..3000), vec![0xFF; 10]].concat());
        stage.worker.ring.deliver_to(FLOOD, &numbers(3000..6000));
        stage.one_turn();
        assert_eq!(stage.worker.ring.lent(), 2);
        end(&mut stage);
        stage.turn();
        stage.worker.ring.end_of(Socket(FLOOD), Received::EndOfStream);
        stage.go(3600 * SECOND);
        assert_eq!(stage.worker.ring.lent(), 0, "{index}");
        let told = seen();
        let ends = told.iter().filter(|it| it.starts_with("disconnected")).count();
        assert_eq!(ends, if index == 2 { 2 } else { 1 }, "{told:?}");
        assert!(stage.worker.ring.closed.contains(&Socket(FLOOD)));
    }
}

#[test]
fn what_is_held_goes_with_its_connection() {
    let mut stage = Stage::of_two();
    // Its receive has ended, so its slot is free as soon as another one ends it.
    stage.worker.ring.deliver_to(NEIGHBOUR, &numbers(0..3000));
    stage.worker.ring.end_of(Socket(NEIGHBOUR), Received::NoBuffer);
    stage.worker.ring.deliver_to(FLOOD, &texts(["end the last".into()]));
    stage.one_turn();
    assert_eq!((stage.worker.slots.len(), stage.worker.ring.lent()), (1, 0));
    stage.turn();
    assert!(stage.worker.held.is_empty());
}

#[test]
fn a_pong_that_is_held_is_no_silence() {
    let mut stage = Stage::new(Manner::default(), |_| {});
    let nonce = stage.ping();
    let mut bytes = numbers(0..5000);
    bytes.extend([0x80 | PONG, 0x80 | nonce.len() as u8, 0, 0, 0, 0]);
    bytes.extend(nonce);
    stage.worker.ring.deliver(&bytes);
    stage.one_turn();
    // The worker comes late to its next turn.
    stage.worker.ring.now = 3600 * SECOND;
    stage.turn();
    assert!(!seen().iter().any(|it| it.starts_with("disconnected")) && !stage.is_gone());
}

impl Stage {
    /// The first connection's handle.
    fn first(&mut self) -> Transport {
        let connection = self.worker.slots.iter_mut().next().unwrap();
        connection.transport.clone()
    }
}

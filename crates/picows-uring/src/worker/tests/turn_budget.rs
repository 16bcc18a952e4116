//! Each connection has its share of a turn: a flood of frames is served in slices, between which
//! its neighbours are.

use super::*;

const FLOOD: i32 = 7;
const NEIGHBOUR: i32 = 8;
/// Frames of a share.
const SHARE: usize = 1024;

impl Fixture {
    /// Two connections to listeners that write down what they hear.
    fn of_two() -> Self {
        let mut fixture = Self::new(Manner::default(), |config| config.liveness.auto_ping = None);
        fixture.join(NEIGHBOUR);
        seen();
        fixture
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
    let mut fixture = Fixture::of_two();
    // Two pieces, the second of which waits for the first.
    fixture.worker.ring.deliver_to(FLOOD, &numbers(0..4000));
    fixture.worker.ring.deliver_to(FLOOD, &numbers(4000..5000));
    let mut next = 0;
    for slice in 0..4 {
        fixture.worker.ring.deliver_to(NEIGHBOUR, &texts([format!("neighbour {slice}")]));
        let (turn, mut told) = fixture.one_turn();
        assert_eq!(turn, Turn::Busy);
        // Behind what came before it, and before what is held.
        let place = if slice == 0 { told.len() - 1 } else { 0 };
        assert_eq!(told.remove(place), format!("Text neighbour {slice}"));
        assert!(told.len() > SHARE - 100 && told.len() <= SHARE, "{}", told.len());
        assert_eq!(told, heard(next..next + told.len()));
        next += told.len();
        assert!(!fixture.worker.ring.is_receiving(FLOOD), "TCP holds it back meanwhile");
        assert!(fixture.worker.ring.is_receiving(NEIGHBOUR));
    }
    let (_, told) = fixture.one_turn();
    assert_eq!(told, heard(next..5000));
    fixture.turn();
    assert!(fixture.worker.ring.is_receiving(FLOOD), "and no longer");
    assert_eq!(fixture.worker.ring.lent(), 0);
}

#[test]
fn large_pieces_are_slices_as_well() {
    let mut fixture = Fixture::of_two();
    // 65,000 bytes each.
    for _ in 0..40 {
        fixture.worker.ring.deliver_to(FLOOD, &texts((0..500).map(|_| "x".repeat(124))));
    }
    let mut slices = 0;
    while let (Turn::Busy, told) = fixture.one_turn() {
        // A piece of 500 frames costs another 127 for its bytes.
        assert!(told.len() <= 1024, "{}", told.len());
        slices += 1;
    }
    assert!(slices >= 20 * 627 / 1024, "{slices}");
}

#[test]
fn an_empty_frame_at_the_end_of_a_slice_and_of_a_piece_is_not_forgotten() {
    for count in SHARE - 2..SHARE + 3 {
        let mut fixture = Fixture::of_two();
        let frames = (0..count).map(|_| String::new());
        fixture.worker.ring.deliver_to(FLOOD, &texts(frames));
        fixture.turn();
        assert_eq!(seen().len(), count);
    }
}

#[test]
fn what_is_held_comes_before_the_end() {
    type End = fn() -> ReceiveResult;
    let ends: [(End, &str); 2] = [
        (|| ReceiveResult::EndOfStream, "disconnected EndOfStream"),
        (
            || ReceiveResult::Failed(io::Error::from_raw_os_error(libc::ECONNRESET)),
            "disconnected Io(ConnectionReset)",
        ),
    ];
    for (end, cause) in ends {
        let mut fixture = Fixture::of_two();
        fixture.worker.ring.deliver_to(FLOOD, &numbers(0..3000));
        fixture.worker.ring.end_of(Socket(FLOOD), end());
        fixture.turn();
        let mut told = seen();
        assert_eq!(told.pop().as_deref(), Some(cause));
        assert_eq!(told, heard(0..3000));
        assert_eq!(fixture.worker.ring.closed, [Socket(FLOOD)]);
        assert_eq!(fixture.worker.ring.lent(), 0);
    }
}

#[test]
fn a_connection_that_ends_gives_back_what_it_held() {
    type Act = fn(&mut Fixture);
    let ends: [Act; 4] = [
        |fixture| fixture.first().abort(),
        |fixture| fixture.first().disconnect(),
        |fixture| fixture.worker.stop(Duration::ZERO),
        // A frame that breaks the protocol, far behind.
        |_| {},
    ];
    for (index, end) in ends.into_iter().enumerate() {
        let mut fixture = Fixture::of_two();
        fixture.worker.ring.deliver_to(FLOOD, &[numbers(0..3000), vec![0xFF; 10]].concat());
        fixture.worker.ring.deliver_to(FLOOD, &numbers(3000..6000));
        fixture.one_turn();
        assert_eq!(fixture.worker.ring.lent(), 2);
        end(&mut fixture);
        fixture.turn();
        fixture.worker.ring.end_of(Socket(FLOOD), ReceiveResult::EndOfStream);
        fixture.go(3600 * SECOND);
        assert_eq!(fixture.worker.ring.lent(), 0, "{index}");
        let told = seen();
        let ends = told.iter().filter(|it| it.starts_with("disconnected")).count();
        assert_eq!(ends, if index == 2 { 2 } else { 1 }, "{told:?}");
        assert!(fixture.worker.ring.closed.contains(&Socket(FLOOD)));
    }
}

#[test]
fn what_is_held_goes_with_its_connection() {
    let mut fixture = Fixture::of_two();
    // Its receive has ended, so its slot is free as soon as another one ends it.
    fixture.worker.ring.deliver_to(NEIGHBOUR, &numbers(0..3000));
    fixture.worker.ring.end_of(Socket(NEIGHBOUR), ReceiveResult::NoBuffer);
    fixture.worker.ring.deliver_to(FLOOD, &texts(["end the last".into()]));
    fixture.one_turn();
    assert_eq!((fixture.worker.slots.len(), fixture.worker.ring.lent()), (1, 0));
    fixture.turn();
    assert!(fixture.worker.receive.deferred.is_empty());
}

#[test]
fn a_pong_that_is_held_is_no_silence() {
    let mut fixture = Fixture::new(Manner::default(), |_| {});
    let nonce = fixture.ping();
    let mut bytes = numbers(0..5000);
    bytes.extend([0x80 | PONG, 0x80 | nonce.len() as u8, 0, 0, 0, 0]);
    bytes.extend(nonce);
    fixture.worker.ring.deliver(&bytes);
    fixture.one_turn();
    // The worker comes late to its next turn.
    fixture.worker.ring.now = 3600 * SECOND;
    fixture.turn();
    assert!(!seen().iter().any(|it| it.starts_with("disconnected")) && !fixture.is_gone());
}

impl Fixture {
    /// The first connection's handle.
    fn first(&mut self) -> Transport {
        let connection = self.worker.slots.iter_mut().next().unwrap();
        connection.transport.clone()
    }
}

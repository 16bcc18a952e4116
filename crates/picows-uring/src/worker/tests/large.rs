//! Large frames, whose rest is taken from the socket straight into their memory.

use super::*;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const BINARY: u8 = 2;

impl Fixture {
    fn of_large() -> Self {
        Self::new(Manner::default(), |config| {
            config.liveness.auto_ping = None;
            config.frames.payload_bytes_max = 16 * MIB as u64;
        })
    }

    /// The beginning of a frame arrives as the kernel brings it, and the rest waits in the socket.
    fn begin(&mut self, payload: &[u8], arrived: usize) {
        let bytes = masked(payload);
        let (front, rest) = bytes.split_at(14 + arrived);
        self.worker.ring.waiting.push_back(Ok(rest.to_vec()));
        self.deliver(front);
    }

    fn taken(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.worker.ring.asked)
    }
}

/// A frame of a client, with a key that shows where its bytes are.
fn masked(payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x80 | BINARY, 0x80 | 127];
    bytes.extend((payload.len() as u64).to_be_bytes());
    bytes.extend([1, 2, 3, 4]);
    bytes.extend(payload.iter().zip([1, 2, 3, 4].iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index % 251) as u8).collect()
}

/// What an echo of it is.
fn echoed(payload: &[u8]) -> Vec<u8> {
    [&[0x80 | BINARY, 127][..], &(payload.len() as u64).to_be_bytes(), payload].concat()
}

#[test]
fn the_rest_of_a_large_frame_is_taken_at_once_and_in_pieces_that_grow_with_what_is_there() {
    let mut fixture = Fixture::of_large();
    let payload = payload(MIB);
    fixture.begin(&payload, 64 * KIB);
    assert!(fixture.worker.ring.sent == echoed(&payload), "it comes back as it was");
    assert_eq!(fixture.taken(), [64, 128, 256, 256, 256].map(|kib| kib * KIB));
    assert_eq!((fixture.stats().frames_received, fixture.stats().stash_bytes), (1, 0));
    assert_eq!(fixture.worker.ring.lent(), 0);
    // The next one has the memory of the first, as far as that is not still being sent.
    fixture.worker.ring.sent.clear();
    fixture.begin(&payload, 10);
    assert!(fixture.worker.ring.sent == echoed(&payload));
    assert_eq!(fixture.taken(), [256 * KIB, 256 * KIB, 256 * KIB, 256 * KIB - 10]);
}

#[test]
fn little_that_is_missing_comes_as_everything_does() {
    let mut fixture = Fixture::of_large();
    let payload = payload(128 * KIB);
    fixture.begin(&payload, 64 * KIB + 1);
    assert_eq!(fixture.taken(), []);
    assert!(fixture.worker.ring.is_receiving(7));
    let Some(Ok(rest)) = fixture.worker.ring.waiting.pop_front() else { panic!() };
    fixture.deliver(&rest);
    assert!(fixture.worker.ring.sent == echoed(&payload));
}

#[test]
fn a_header_that_claims_much_gets_no_more_memory_than_has_arrived() {
    let mut fixture = Fixture::of_large();
    let bytes = masked(&payload(10 * MIB));
    let mut arrived = 0;
    for piece in bytes[..MIB].chunks(40 * KIB) {
        // Whatever way it is asked for.
        if fixture.worker.ring.is_receiving(7) && arrived < 200 * KIB {
            fixture.deliver(piece);
        } else {
            fixture.worker.ring.waiting.push_back(Ok(piece.to_vec()));
            fixture.deliver(b"");
        }
        arrived += piece.len();
        let stashed = fixture.stats().stash_bytes as usize;
        assert!(stashed <= 2 * arrived + 64, "{stashed} for {arrived}");
    }
    assert!(!fixture.taken().is_empty());
    transport().abort();
    fixture.turn();
    assert_eq!((fixture.stats().slots, fixture.stats().stash_bytes), (0, 0));
}

#[test]
fn receives_are_single_ones_until_large_frames_have_not_come_for_a_while() {
    let mut fixture = Fixture::of_large();
    fixture.begin(&payload(MIB), 64 * KIB);
    for _ in 0..BULK_RECEIVES {
        assert!(fixture.worker.ring.is_single(7));
        fixture.say(TEXT, b"short");
    }
    assert!(fixture.worker.ring.is_receiving(7) && !fixture.worker.ring.is_single(7));
}

#[test]
fn a_connection_takes_its_share_of_a_turn_and_goes_on_in_the_next() {
    let mut fixture = Fixture::of_large();
    let payload = payload(10 * MIB);
    let bytes = masked(&payload);
    fixture.worker.ring.waiting.push_back(Ok(bytes[14 + 512 * KIB..].to_vec()));
    fixture.worker.ring.deliver(&bytes[..14 + 512 * KIB]);
    // The multishot receive ends first.
    fixture.worker.turn().unwrap();
    for _ in 0..4 {
        fixture.worker.turn().unwrap();
        let taken: usize = fixture.taken().iter().sum();
        assert!(taken > 0 && taken <= 2 * MIB + 256 * KIB, "{taken}");
        let Some(Ok(rest)) = fixture.worker.ring.waiting.front_mut() else { panic!() };
        let piece: Vec<u8> = rest.drain(..KIB).collect();
        fixture.worker.ring.deliver(&piece);
    }
    fixture.turn();
    assert!(fixture.worker.ring.sent == echoed(&payload));
}

#[test]
fn what_does_not_wait_is_waited_for() {
    let mut fixture = Fixture::of_large();
    let payload = payload(MIB);
    let bytes = masked(&payload);
    fixture.deliver(&bytes[..300 * KIB]);
    assert_eq!(fixture.taken().len(), 1, "asked once");
    assert!(fixture.worker.ring.is_single(7));
    fixture.worker.ring.waiting.push_back(Ok(bytes[310 * KIB..].to_vec()));
    fixture.deliver(&bytes[300 * KIB..310 * KIB]);
    assert!(fixture.worker.ring.sent == echoed(&payload));
}

/// A fixture where a frame of a MiB is under way, its payload, and how it goes on; the end waits in the
/// socket.
fn in_the_middle() -> (Fixture, Vec<u8>, Vec<u8>) {
    let mut fixture = Fixture::of_large();
    let payload = payload(MIB);
    let bytes = masked(&payload);
    fixture.deliver(&bytes[..300 * KIB]);
    fixture.taken();
    fixture.worker.ring.waiting.push_back(Ok(bytes[310 * KIB..].to_vec()));
    (fixture, payload, bytes[300 * KIB..310 * KIB].to_vec())
}

#[test]
fn a_pause_in_the_middle_is_kept() {
    let (mut fixture, payload, bytes) = in_the_middle();
    transport().pause_reading();
    fixture.turn();
    assert!(!fixture.worker.ring.is_receiving(7));
    assert_eq!(fixture.taken(), []);
    transport().resume_reading();
    fixture.turn();
    fixture.deliver(&bytes);
    assert!(fixture.worker.ring.sent == echoed(&payload));
}

#[test]
fn another_thread_ends_a_pause() {
    let (mut fixture, payload, bytes) = in_the_middle();
    transport().pause_reading();
    let remote = transport().remote();
    fixture.turn();
    assert!(!fixture.worker.ring.is_receiving(7));
    std::thread::spawn(move || remote.resume_reading().unwrap()).join().unwrap();
    assert!(transport().is_reading_paused(), "until the worker's next turn");
    fixture.turn();
    assert!(!transport().is_reading_paused());
    fixture.deliver(&bytes);
    assert!(fixture.worker.ring.sent == echoed(&payload));
}

#[test]
fn the_end_and_an_error_in_the_middle_end_the_connection() {
    for (end, cause) in [
        (Ok(Vec::new()), "disconnected EndOfStream"),
        (Err(io::Error::from(io::ErrorKind::ConnectionReset)), "disconnected Io(ConnectionReset)"),
    ] {
        let mut fixture = Fixture::of_large();
        fixture.worker.ring.waiting.push_back(Ok(payload(100 * KIB)));
        fixture.worker.ring.waiting.push_back(end);
        fixture.deliver(&masked(&payload(MIB))[..100 * KIB]);
        fixture.deliver(b"x");
        fixture.go(20 * SECOND);
        assert!(fixture.is_gone());
        assert_eq!(seen(), [cause]);
        assert_eq!(fixture.stats().stash_bytes, 0);
    }
}

#[test]
fn bytes_that_are_taken_are_a_sign_of_life() {
    let mut fixture = Fixture::new(Manner::default(), |_| {});
    let bytes = masked(&payload(MIB));
    fixture.deliver(&bytes[..200 * KIB]);
    fixture.go(9 * SECOND);
    let before = fixture.stats().bytes_received;
    fixture.worker.ring.waiting.push_back(Ok(bytes[200 * KIB + 1..300 * KIB].to_vec()));
    fixture.deliver(&bytes[200 * KIB..][..1]);
    assert_eq!(fixture.stats().bytes_received - before, 100 * KIB as u64);
    fixture.go(15 * SECOND);
    assert!(fixture.heard().is_empty(), "no ping before 19 s");
}

#[test]
fn bad_text_in_what_is_taken_is_a_violation() {
    let mut fixture = Fixture::new(Manner::default(), |config| config.frames.validate_text = true);
    let mut bytes = masked(&vec![b'a'; MIB]);
    bytes[0] = 0x80 | TEXT;
    bytes[700 * KIB] ^= 0x80;
    fixture.worker.ring.waiting.push_back(Ok(bytes[200 * KIB..].to_vec()));
    fixture.deliver(&bytes[..200 * KIB]);
    let [(CLOSE, payload)] = &fixture.heard()[..] else { panic!() };
    assert_eq!(payload[..2], 1007_u16.to_be_bytes());
    assert_eq!(fixture.stats().stash_bytes, 0);
}

/// As `link/direct.rs` has it.
const BULK_RECEIVES: usize = 16;

#[test]
fn memory_grows_by_doubling_while_a_frame_is_taken() {
    let mut fixture = Fixture::of_large();
    let bytes = masked(&payload(10 * MIB));
    fixture.deliver(&bytes[..200 * KIB]);
    let mut sizes = vec![fixture.stats().stash_bytes];
    for piece in bytes[200 * KIB..9 * MIB].chunks(100 * KIB) {
        fixture.worker.ring.waiting.push_back(Ok(piece[1..].to_vec()));
        fixture.deliver(&piece[..1]);
        assert!(fixture.worker.ring.waiting.is_empty(), "it is taken");
        let size = fixture.stats().stash_bytes;
        if sizes.last() != Some(&size) {
            sizes.push(size);
        }
    }
    assert!(sizes.len() <= 9, "{sizes:?}");
}

#[test]
fn many_that_send_large_frames_share_a_turn() {
    const SOCKETS: std::ops::Range<i32> = 7..19;
    let mut fixture = Fixture::of_large();
    SOCKETS.skip(1).for_each(|socket| fixture.join(socket));
    let begun = masked(&payload(8 * MIB));
    let mut left = 100;
    fixture.worker.ring.waiting.extend((0..left).map(|_| Ok(vec![0; 256 * KIB])));
    let (mut received, mut turns, mut most) = (fixture.stats().bytes_received, 0, 0);
    while left > 0 {
        SOCKETS.for_each(|socket| fixture.worker.ring.deliver_to(socket, &begun[..150 * KIB]));
        fixture.worker.turn().unwrap();
        let now = fixture.stats().bytes_received;
        most = most.max(now - received);
        received = now;
        left = fixture.worker.ring.waiting.len();
        turns += 1;
        assert!(turns < 100, "{left} are left");
    }
    // What comes through the buffers is bounded by them.
    let direct = most as usize - SOCKETS.len() * 150 * KIB;
    assert!((15 * MIB..=16 * MIB).contains(&direct), "{direct} bytes in one turn");
}

#[test]
fn answers_to_frames_of_some_size_leave_before_others_are_served() {
    let mut fixture = Fixture::of_large();
    let frame = [&[0x80 | BINARY, 0x80 | 126, 0x13, 0x88, 0, 0, 0, 0][..], &[b'x'; 5000]].concat();
    let echo = [&[0x80 | BINARY, 126, 0x13, 0x88][..], &[b'x'; 5000]].concat();
    for _ in 0..7 {
        fixture.deliver(&frame);
        assert!(std::mem::take(&mut fixture.worker.ring.sent) == echo);
    }
    assert_eq!(fixture.worker.ring.outlet.asked(), 0, "when the turn ends, as others");
    for taken in [usize::MAX, 10] {
        fixture.worker.ring.outlet.give([Ok(taken)]);
        fixture.deliver(&frame);
        assert!(fixture.worker.ring.outlet.asked() > 0, "at once");
        fixture.worker.ring.gather();
        assert!(std::mem::take(&mut fixture.worker.ring.sent) == echo, "the rest behind it");
        // Its receive begins again the other way.
        fixture.turn();
        fixture.turn();
        assert!(fixture.worker.ring.is_receiving(7));
    }
    assert_eq!((fixture.stats().frames_sent, fixture.worker.ring.lent()), (9, 0));
    for _ in 0..20 {
        fixture.say(1, b"small");
        fixture.turn();
    }
    assert!(fixture.worker.ring.is_receiving(7));
    assert_eq!((fixture.stats().frames_received, fixture.worker.ring.outlet.asked()), (29, 0));
}

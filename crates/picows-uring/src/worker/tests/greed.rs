//! What connections can take from their neighbours: buffers, and the time of a turn. All bounds are
//! in turns, frames and virtual time.

use super::*;

const FIRST: i32 = 100;
const FLOODERS: i32 = 64;
const NEIGHBOUR: i32 = 99;
/// Frames of a share.
const SHARE: u64 = 1024;
/// What all that hold something get in a turn. The last of them has its share whole.
const SHARES_OF_HELD: u64 = 16;

/// Frames of a client, masked with zeros.
fn frames(first_byte: u8, payload: &[u8], count: usize) -> Vec<u8> {
    let mut frame = vec![first_byte, 0x80 | payload.len() as u8, 0, 0, 0, 0];
    frame.extend_from_slice(payload);
    frame.repeat(count)
}

impl Stage {
    /// Connections that will flood, and a neighbour of theirs.
    fn of_flooders(count: i32) -> Self {
        let mut stage = Self::new(Manner::default(), |config| config.liveness.auto_ping = None);
        stage.join(NEIGHBOUR);
        for socket in FIRST..FIRST + count {
            stage.join(socket);
        }
        seen();
        stage
    }

    fn flood(&mut self, count: i32, bytes: &[u8]) {
        for socket in FIRST..FIRST + count {
            self.worker.ring.deliver_to(socket, bytes);
        }
    }

    /// Takes one turn; tells how many frames were handled in it.
    fn frames_of_a_turn(&mut self) -> u64 {
        let before = self.stats().frames_received;
        self.worker.turn().unwrap();
        self.stats().frames_received - before
    }
}

#[test]
fn a_neighbour_and_a_newcomer_are_served_in_each_turn_of_a_flood() {
    let mut stage = Stage::of_flooders(FLOODERS);
    stage.flood(FLOODERS, &frames(0x82, b"", 8000));
    assert!(stage.frames_of_a_turn() <= FLOODERS as u64 * SHARE, "a share each at first");
    for round in 0..12 {
        seen();
        stage.worker.ring.deliver_to(NEIGHBOUR, &frames(0x81, b"hello", 1));
        let newcomer = 1000 + round;
        stage.worker.ring.connect(newcomer);
        let handled = stage.frames_of_a_turn();
        assert!(handled > SHARE && handled <= (SHARES_OF_HELD + 1) * SHARE, "{handled}");
        assert_eq!(seen()[0], "Text hello", "before all others");
        stage.worker.ring.deliver_to(newcomer, REQUEST);
        let upgraded = stage.stats().upgraded;
        stage.worker.turn().unwrap();
        assert_eq!(stage.stats().upgraded, upgraded + 1);
    }
    stage.turn();
    assert_eq!(stage.stats().frames_received, FLOODERS as u64 * 8000 + 12);
    assert_eq!(stage.worker.ring.lent(), 0);
}

const REQUEST: &[u8] =
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
      Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

#[test]
fn those_that_hold_something_have_their_turns_one_after_the_other() {
    let mut stage = Stage::of_flooders(FLOODERS);
    for socket in FIRST..FIRST + FLOODERS {
        let text = format!("{socket}");
        stage.worker.ring.deliver_to(socket, &frames(0x81, text.as_bytes(), 8000));
    }
    stage.worker.turn().unwrap();
    for _ in 0..2 {
        seen();
        for _ in 0..FLOODERS as u64 / SHARES_OF_HELD {
            stage.worker.turn().unwrap();
        }
        let told = seen();
        for socket in FIRST..FIRST + FLOODERS {
            assert!(told.contains(&format!("Text {socket}")), "{socket} waits for its turn");
        }
    }
}

#[test]
fn frames_of_every_kind_are_paid_for() {
    let mut fragments = frames(0x02, b"x", 1);
    fragments.extend(frames(0x00, b"x", 4999));
    let kinds =
        [frames(0x82, b"", 5000), frames(0x89, b"", 5000), frames(0x8A, b"", 5000), fragments];
    for bytes in kinds {
        let mut stage = Stage::of_flooders(1);
        stage.flood(1, &bytes);
        for _ in 0..4 {
            assert!(stage.frames_of_a_turn() <= SHARE, "{:x}", bytes[0]);
        }
        stage.turn();
        assert_eq!(stage.stats().frames_received, 5000, "{:x}", bytes[0]);
    }
}

#[test]
fn what_is_held_in_too_many_buffers_is_copied_and_counted() {
    let mut stage = Stage::of_flooders(8);
    stage.worker.ring.keeps = Some(3);
    for part in 0..2 {
        for socket in FIRST..FIRST + 8 {
            let texts: Vec<_> =
                (0..2000).map(|number| format!("{socket} {part} {number}")).collect();
            let bytes: Vec<_> =
                texts.iter().flat_map(|text| frames(0x81, text.as_bytes(), 1)).collect();
            stage.worker.ring.deliver_to(socket, &bytes);
        }
    }
    stage.worker.turn().unwrap();
    assert_eq!((stage.worker.ring.kept, stage.worker.ring.lent()), (3, 3));
    assert!(stage.stats().stash_bytes > 13 * 20_000, "{:?}", stage.stats());
    stage.turn();
    assert_eq!((stage.worker.ring.kept, stage.worker.ring.lent()), (0, 0));
    assert_eq!(stage.stats().stash_bytes, 0);
    let told = seen();
    for socket in FIRST..FIRST + 8 {
        let prefix = format!("Text {socket} ");
        let own: Vec<_> = told.iter().filter_map(|it| it.strip_prefix(&prefix)).collect();
        let all = (0..2).flat_map(|part| (0..2000).map(move |number| format!("{part} {number}")));
        assert!(own.into_iter().eq(all), "{socket}: all of it, in order");
    }
}

#[test]
fn a_connection_that_ends_takes_its_copies_along() {
    let mut stage = Stage::of_flooders(2);
    stage.worker.ring.keeps = Some(0);
    stage.flood(2, &frames(0x82, b"", 5000));
    stage.worker.turn().unwrap();
    assert!(stage.stats().stash_bytes > 0);
    for connection in stage.worker.slots.iter_mut() {
        connection.transport.abort();
    }
    stage.turn();
    assert_eq!((stage.stats().stash_bytes, stage.stats().connections), (0, 0));
    assert!(stage.worker.held.is_empty());
}

#[test]
fn a_connection_that_has_fallen_behind_takes_a_share_at_a_time_from_its_socket() {
    let mut stage = Stage::of_flooders(1);
    let before = stage.stats().bytes_received;
    stage.flood(1, &frames(0x82, b"", 3000));
    // What waits in its socket meanwhile, without end.
    let flood = frames(0x82, b"", 1000);
    for _ in 0..100 {
        stage.worker.ring.waiting.push_back(Ok(flood.clone()));
    }
    stage.worker.ring.asked.clear();
    let mut turns = 0;
    while !stage.worker.ring.waiting.is_empty() {
        assert!(stage.frames_of_a_turn() <= SHARE);
        assert!(!stage.worker.ring.is_receiving(FIRST), "the kernel would fill buffers with it");
        assert!(stage.worker.ring.lent() <= 1);
        turns += 1;
    }
    assert!(turns > 90);
    let asked = std::mem::take(&mut stage.worker.ring.asked);
    assert!(asked.iter().all(|asked| (4096..=6 * 1024).contains(asked)), "{asked:?}");
    stage.turn();
    assert_eq!(stage.stats().frames_received, 3000 + 100_000);
    assert!(stage.worker.ring.is_receiving(FIRST), "it has caught up");
    assert_eq!(stage.stats().bytes_received - before, stage.stats().frames_received * 6);
}

#[test]
fn a_step_has_a_bound_whatever_a_share_covers() {
    let mut stage = Stage::of_flooders(1);
    let mut frame = vec![0x8A, 0xFD, 0, 0, 0, 0];
    frame.resize(6 + 125, 0);
    stage.worker.shared.shares.units.set(u16::MAX);
    // More than a share, of which each frame is paid for.
    stage.flood(1, &frame.repeat(70_000));
    stage.worker.ring.asked.clear();
    stage.worker.ring.waiting.push_back(Ok(frame.repeat(70_000)));
    stage.turn();
    assert_eq!(stage.stats().frames_received, 140_000);
    let asked = std::mem::take(&mut stage.worker.ring.asked);
    assert_eq!(asked.iter().max(), Some(&(256 * 1024)), "{asked:?}");
}

#[test]
fn connections_that_hold_little_are_paid_for_by_a_look_each() {
    const CROWD: i32 = 1100;
    let mut stage = Stage::of_flooders(CROWD);
    stage.worker.shared.shares.units.set(4);
    stage.flood(CROWD, &frames(0x82, b"", 40));
    // A turn takes in 512 pieces.
    for _ in 0..3 {
        stage.worker.turn().unwrap();
    }
    // A share is four frames now, and a look, which is a system call, costs as much as sixteen.
    let handled = stage.frames_of_a_turn();
    assert!((3200..=3300).contains(&handled), "{handled}");
    stage.turn();
    assert_eq!(stage.stats().frames_received, 40 * CROWD as u64);
}

#[test]
fn a_connection_that_holds_something_does_not_wait_for_a_buffer() {
    let mut stage = Stage::of_flooders(1);
    stage.flood(1, &frames(0x82, b"", 3000));
    stage.worker.ring.end_of(Socket(FIRST), Received::NoBuffer);
    stage.worker.turn().unwrap();
    assert!(!stage.worker.ring.is_receiving(FIRST), "what comes next would overtake the rest");
    stage.turn();
    assert_eq!(stage.stats().frames_received, 3000);
    assert!(stage.worker.ring.is_receiving(FIRST) && stage.worker.starved.is_empty());
}

#[test]
fn the_end_of_the_stream_is_found_behind_what_was_held() {
    let ends: [(io::Result<Vec<u8>>, &str); 2] = [
        (Ok(Vec::new()), "disconnected EndOfStream"),
        (Err(io::Error::from_raw_os_error(libc::ECONNRESET)), "disconnected Io(ConnectionReset)"),
    ];
    for (end, cause) in ends {
        let mut stage = Stage::of_flooders(1);
        stage.flood(1, &frames(0x82, b"", 3000));
        stage.worker.ring.waiting.push_back(end);
        stage.turn();
        assert_eq!(stage.stats().frames_received, 3000);
        assert_eq!(seen().last().unwrap(), cause);
        assert_eq!(stage.worker.ring.closed, [Socket(FIRST)]);
    }
}

#[test]
fn a_connection_that_stops_to_read_does_not_take_more() {
    let mut stage = Stage::of_flooders(1);
    stage.flood(1, &frames(0x82, b"", 3000));
    stage.worker.ring.waiting.push_back(Ok(frames(0x82, b"", 10)));
    stage.worker.turn().unwrap();
    transport().pause_reading();
    stage.turn();
    assert_eq!(stage.stats().frames_received, 3000);
    assert!(!stage.worker.ring.is_receiving(FIRST));
    transport().resume_reading();
    stage.turn();
    assert!(stage.worker.ring.is_receiving(FIRST));
}

#[test]
fn a_share_is_used_up_by_the_time_of_callbacks() {
    let mut stage = Stage::of_flooders(1);
    // 10 µs each: a millisecond, and what the looks at the clock leave out.
    stage.flood(1, &frames(0x81, b"work", 1000));
    assert_eq!(stage.frames_of_a_turn(), 128);
    stage.turn();
    assert_eq!(stage.stats().frames_received, 1000);
}

#[test]
fn slow_listeners_of_many_keep_no_turn_long() {
    let mut stage = Stage::of_flooders(FLOODERS);
    stage.flood(FLOODERS, &frames(0x81, b"work", 2000));
    let mut longest = Duration::ZERO;
    let mut turns = 0;
    loop {
        let begun = stage.worker.ring.now();
        let turn = stage.worker.turn().unwrap();
        longest = longest.max(stage.worker.ring.now() - begun);
        turns += 1;
        if turn == Turn::Idle {
            break;
        }
    }
    assert!(longest <= Duration::from_millis(25), "{longest:?}");
    assert_eq!(stage.stats().frames_received, FLOODERS as u64 * 2000);
    assert!(turns > 100, "{turns}");
}

#[test]
fn a_turn_that_lasts_takes_in_no_more() {
    let mut stage = Stage::of_flooders(8);
    for socket in FIRST..FIRST + 8 {
        stage.worker.ring.deliver_to(socket, &frames(0x81, b"stall 15", 1));
        stage.worker.ring.deliver_to(socket, &frames(0x81, b"next", 1));
    }
    let begun = stage.worker.ring.now();
    stage.worker.turn().unwrap();
    let took = stage.worker.ring.now() - begun;
    assert!(took <= Duration::from_millis(45), "{took:?}");
    let mut told = seen();
    // The next turn takes in again, before what is held.
    stage.worker.ring.deliver_to(NEIGHBOUR, &frames(0x81, b"hello", 1));
    stage.worker.turn().unwrap();
    let next = seen();
    assert_eq!(next[0], "Text hello");
    stage.turn();
    assert_eq!(stage.stats().frames_received, 17);
    told.extend(next.into_iter().chain(seen()));
    assert_eq!(told.iter().filter(|it| *it == "Text next").count(), 8);
}

#[test]
fn a_shortage_is_not_answered_before_a_buffer_is_there() {
    let mut stage = Stage::of_flooders(3);
    stage.worker.ring.receives = Some(0);
    for socket in FIRST..FIRST + 3 {
        stage.worker.ring.end_of(Socket(socket), Received::NoBuffer);
    }
    let receives = |stage: &Stage| {
        (FIRST..FIRST + 3).filter(|socket| stage.worker.ring.is_receiving(*socket)).count()
    };
    for _ in 0..10 {
        stage.worker.turn().unwrap();
        assert_eq!(receives(&stage), 0);
    }
    // Being looked at for another reason does not arm it.
    for connection in stage.worker.slots.iter_mut() {
        connection.session().touch();
    }
    stage.turn();
    assert_eq!(receives(&stage), 0);
    for count in 1..=3 {
        stage.worker.ring.receives = Some(1);
        stage.worker.turn().unwrap();
        assert_eq!(receives(&stage), count, "one for each buffer, in their order");
        assert!(stage.worker.ring.is_receiving(FIRST + count as i32 - 1));
    }
    assert_eq!(stage.stats().buffer_shortages, 3);
    assert!(stage.worker.starved.is_empty());
}

#[test]
fn whoever_waits_for_a_buffer_may_end_or_stop_to_read() {
    let mut stage = Stage::of_flooders(2);
    stage.worker.ring.receives = Some(0);
    for socket in FIRST..FIRST + 2 {
        stage.worker.ring.end_of(Socket(socket), Received::NoBuffer);
    }
    stage.turn();
    transport().abort();
    stage.turn();
    assert_eq!(stage.worker.ring.closed, [Socket(FIRST + 1)]);
    let first = stage.worker.slots.iter_mut().nth(2).unwrap().transport.clone();
    first.pause_reading();
    stage.worker.ring.receives = Some(1);
    stage.turn();
    assert!(!stage.worker.ring.is_receiving(FIRST) && stage.worker.starved.is_empty());
    first.resume_reading();
    stage.turn();
    assert!(stage.worker.ring.is_receiving(FIRST));
}

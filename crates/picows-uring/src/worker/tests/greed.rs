//! Greedy connections: the buffers and the time of a turn that they can take from neighbours. All
//! bounds are in turns, frames and virtual time.

use super::*;
use std::cell::Cell;

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

impl Fixture {
    /// Connections that will flood, and a neighbour of theirs.
    fn of_flooders(count: i32) -> Self {
        let mut fixture = Self::new(Manner::default(), |config| config.liveness.auto_ping = None);
        fixture.join(NEIGHBOUR);
        for socket in FIRST..FIRST + count {
            fixture.join(socket);
        }
        seen();
        fixture
    }

    fn flood(&mut self, count: i32, bytes: &[u8]) {
        for socket in FIRST..FIRST + count {
            self.worker.ring.deliver_to(socket, bytes);
        }
    }

    /// Takes one turn; returns how many frames were handled in it.
    fn frames_of_a_turn(&mut self) -> u64 {
        let before = self.stats().frames_received;
        self.worker.turn().unwrap();
        self.stats().frames_received - before
    }
}

#[test]
fn a_neighbour_and_a_newcomer_are_served_in_each_turn_of_a_flood() {
    let mut fixture = Fixture::of_flooders(FLOODERS);
    fixture.flood(FLOODERS, &frames(0x82, b"", 8000));
    assert!(fixture.frames_of_a_turn() <= FLOODERS as u64 * SHARE, "a share each at first");
    for round in 0..12 {
        seen();
        fixture.worker.ring.deliver_to(NEIGHBOUR, &frames(0x81, b"hello", 1));
        let newcomer = 1000 + round;
        fixture.worker.ring.connect(newcomer);
        let handled = fixture.frames_of_a_turn();
        assert!(handled > SHARE && handled <= (SHARES_OF_HELD + 1) * SHARE, "{handled}");
        assert_eq!(seen()[0], "Text hello", "before all others");
        fixture.worker.ring.deliver_to(newcomer, REQUEST);
        let upgraded = fixture.stats().upgraded;
        fixture.worker.turn().unwrap();
        assert_eq!(fixture.stats().upgraded, upgraded + 1);
    }
    fixture.turn();
    assert_eq!(fixture.stats().frames_received, FLOODERS as u64 * 8000 + 12);
    assert_eq!(fixture.worker.ring.lent(), 0);
}

const REQUEST: &[u8] =
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
      Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

#[test]
fn those_that_hold_something_have_their_turns_one_after_the_other() {
    let mut fixture = Fixture::of_flooders(FLOODERS);
    for socket in FIRST..FIRST + FLOODERS {
        let text = format!("{socket}");
        fixture.worker.ring.deliver_to(socket, &frames(0x81, text.as_bytes(), 8000));
    }
    fixture.worker.turn().unwrap();
    for _ in 0..2 {
        seen();
        for _ in 0..FLOODERS as u64 / SHARES_OF_HELD {
            fixture.worker.turn().unwrap();
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
        let mut fixture = Fixture::of_flooders(1);
        fixture.flood(1, &bytes);
        for _ in 0..4 {
            assert!(fixture.frames_of_a_turn() <= SHARE, "{:x}", bytes[0]);
        }
        fixture.turn();
        assert_eq!(fixture.stats().frames_received, 5000, "{:x}", bytes[0]);
    }
}

#[test]
fn what_is_held_in_too_many_buffers_is_copied_and_counted() {
    let mut fixture = Fixture::of_flooders(8);
    fixture.worker.ring.keeps = Some(3);
    for part in 0..2 {
        for socket in FIRST..FIRST + 8 {
            let texts: Vec<_> =
                (0..2000).map(|number| format!("{socket} {part} {number}")).collect();
            let bytes: Vec<_> =
                texts.iter().flat_map(|text| frames(0x81, text.as_bytes(), 1)).collect();
            fixture.worker.ring.deliver_to(socket, &bytes);
        }
    }
    fixture.worker.turn().unwrap();
    assert_eq!((fixture.worker.ring.kept, fixture.worker.ring.lent()), (3, 3));
    assert!(fixture.stats().stash_bytes > 13 * 20_000, "{:?}", fixture.stats());
    fixture.turn();
    assert_eq!((fixture.worker.ring.kept, fixture.worker.ring.lent()), (0, 0));
    assert_eq!(fixture.stats().stash_bytes, 0);
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
    let mut fixture = Fixture::of_flooders(2);
    fixture.worker.ring.keeps = Some(0);
    fixture.flood(2, &frames(0x82, b"", 5000));
    fixture.worker.turn().unwrap();
    assert!(fixture.stats().stash_bytes > 0);
    for connection in fixture.worker.slots.iter_mut() {
        connection.transport.abort();
    }
    fixture.turn();
    assert_eq!((fixture.stats().stash_bytes, fixture.stats().connections), (0, 0));
    assert!(fixture.worker.receive.deferred.is_empty());
}

#[test]
fn a_connection_that_has_fallen_behind_takes_a_share_at_a_time_from_its_socket() {
    let mut fixture = Fixture::of_flooders(1);
    let before = fixture.stats().bytes_received;
    fixture.flood(1, &frames(0x82, b"", 3000));
    // What waits in its socket meanwhile, without end.
    let flood = frames(0x82, b"", 1000);
    for _ in 0..100 {
        fixture.worker.ring.waiting.push_back(Ok(flood.clone()));
    }
    fixture.worker.ring.asked.clear();
    let mut turns = 0;
    while !fixture.worker.ring.waiting.is_empty() {
        assert!(fixture.frames_of_a_turn() <= SHARE);
        assert!(!fixture.worker.ring.is_receiving(FIRST), "the kernel would fill buffers with it");
        assert!(fixture.worker.ring.lent() <= 1);
        turns += 1;
    }
    assert!(turns > 90);
    let asked = std::mem::take(&mut fixture.worker.ring.asked);
    assert!(asked.iter().all(|asked| (4096..=6 * 1024).contains(asked)), "{asked:?}");
    fixture.turn();
    assert_eq!(fixture.stats().frames_received, 3000 + 100_000);
    assert!(fixture.worker.ring.is_receiving(FIRST), "it has caught up");
    assert_eq!(fixture.stats().bytes_received - before, fixture.stats().frames_received * 6);
}

/// What is deferred as its turn has lasted long, and not for its budget, has large steps: in small ones,
/// a connection of large frames would not get ahead of its peer.
#[test]
fn a_connection_that_is_deferred_for_the_time_takes_as_much_at_a_time_as_the_ring_brought() {
    let mut fixture = Fixture::of_flooders(1);
    let mut frame = vec![0x82, 0xFF, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    frame.resize(frame.len() + 65_536, 0);
    // A turn is spent with the first piece, which is the neighbour's.
    fixture.worker.local.callback_timer.clock.set(|| {
        thread_local!(static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) });
        NOW.set(NOW.get() + Duration::from_millis(30));
        NOW.get()
    });
    fixture.worker.ring.deliver_to(NEIGHBOUR, &frames(0x82, b"", 1));
    fixture.flood(1, &frame);
    // The kernel has ended the receive in flight before more comes, as it does where it was cancelled.
    fixture.worker.ring.end_of(Socket(FIRST), ReceiveResult::Cancelled);
    fixture.worker.ring.waiting.extend([Ok(frame.clone()), Ok(frame.clone())]);
    fixture.worker.ring.asked.clear();
    fixture.turn();
    assert_eq!(fixture.stats().frames_received, 4);
    let asked = std::mem::take(&mut fixture.worker.ring.asked);
    assert!(asked.iter().all(|asked| *asked == frame.len()) && asked.len() >= 3, "{asked:?}");
}

#[test]
fn a_step_has_a_bound_whatever_a_share_covers() {
    let mut fixture = Fixture::of_flooders(1);
    let mut frame = vec![0x8A, 0xFD, 0, 0, 0, 0];
    frame.resize(6 + 125, 0);
    fixture.worker.local.budget_rules.units.set(u16::MAX);
    // More than a share, of which each frame is paid for.
    fixture.flood(1, &frame.repeat(70_000));
    fixture.worker.ring.asked.clear();
    fixture.worker.ring.waiting.push_back(Ok(frame.repeat(70_000)));
    fixture.turn();
    assert_eq!(fixture.stats().frames_received, 140_000);
    let asked = std::mem::take(&mut fixture.worker.ring.asked);
    assert_eq!(asked.iter().max(), Some(&(256 * 1024)), "{asked:?}");
}

#[test]
fn connections_that_hold_little_are_paid_for_by_a_look_each() {
    const CROWD: i32 = 1100;
    let mut fixture = Fixture::of_flooders(CROWD);
    fixture.worker.local.budget_rules.units.set(4);
    fixture.flood(CROWD, &frames(0x82, b"", 40));
    // A turn takes in 512 pieces.
    for _ in 0..3 {
        fixture.worker.turn().unwrap();
    }
    // A share is four frames now, and a look, which is a system call, costs as much as sixteen.
    let handled = fixture.frames_of_a_turn();
    assert!((3200..=3300).contains(&handled), "{handled}");
    fixture.turn();
    assert_eq!(fixture.stats().frames_received, 40 * CROWD as u64);
}

#[test]
fn a_connection_that_holds_something_does_not_wait_for_a_buffer() {
    let mut fixture = Fixture::of_flooders(1);
    fixture.flood(1, &frames(0x82, b"", 3000));
    fixture.worker.ring.end_of(Socket(FIRST), ReceiveResult::NoBuffer);
    fixture.worker.turn().unwrap();
    assert!(!fixture.worker.ring.is_receiving(FIRST), "what comes next would overtake the rest");
    fixture.turn();
    assert_eq!(fixture.stats().frames_received, 3000);
    assert!(fixture.worker.ring.is_receiving(FIRST) && fixture.worker.receive.starved() == 0);
}

#[test]
fn the_end_of_the_stream_is_found_behind_what_was_held() {
    let ends: [(io::Result<Vec<u8>>, &str); 2] = [
        (Ok(Vec::new()), "disconnected EndOfStream"),
        (Err(io::Error::from_raw_os_error(libc::ECONNRESET)), "disconnected Io(ConnectionReset)"),
    ];
    for (end, cause) in ends {
        let mut fixture = Fixture::of_flooders(1);
        fixture.flood(1, &frames(0x82, b"", 3000));
        fixture.worker.ring.waiting.push_back(end);
        fixture.turn();
        assert_eq!(fixture.stats().frames_received, 3000);
        assert_eq!(seen().last().unwrap(), cause);
        assert_eq!(fixture.worker.ring.closed, [Socket(FIRST)]);
    }
}

#[test]
fn a_connection_that_stops_to_read_does_not_take_more() {
    let mut fixture = Fixture::of_flooders(1);
    fixture.flood(1, &frames(0x82, b"", 3000));
    fixture.worker.ring.waiting.push_back(Ok(frames(0x82, b"", 10)));
    fixture.worker.turn().unwrap();
    transport().pause_reading();
    fixture.turn();
    assert_eq!(fixture.stats().frames_received, 3000);
    assert!(!fixture.worker.ring.is_receiving(FIRST));
    transport().resume_reading();
    fixture.turn();
    assert!(fixture.worker.ring.is_receiving(FIRST));
}

#[test]
fn a_share_is_used_up_by_the_time_of_callbacks() {
    let mut fixture = Fixture::of_flooders(1);
    // 10 µs each: a millisecond, and what the looks at the clock leave out.
    fixture.flood(1, &frames(0x81, b"work", 1000));
    assert_eq!(fixture.frames_of_a_turn(), 128);
    fixture.turn();
    assert_eq!(fixture.stats().frames_received, 1000);
}

#[test]
fn slow_listeners_of_many_keep_no_turn_long() {
    let mut fixture = Fixture::of_flooders(FLOODERS);
    fixture.flood(FLOODERS, &frames(0x81, b"work", 2000));
    let mut longest = Duration::ZERO;
    let mut turns = 0;
    loop {
        let begun = fixture.worker.ring.now();
        let turn = fixture.worker.turn().unwrap();
        longest = longest.max(fixture.worker.ring.now() - begun);
        turns += 1;
        if turn == Turn::Idle {
            break;
        }
    }
    assert!(longest <= Duration::from_millis(25), "{longest:?}");
    assert_eq!(fixture.stats().frames_received, FLOODERS as u64 * 2000);
    assert!(turns > 100, "{turns}");
}

#[test]
fn a_turn_that_lasts_takes_in_no_more() {
    let mut fixture = Fixture::of_flooders(8);
    for socket in FIRST..FIRST + 8 {
        fixture.worker.ring.deliver_to(socket, &frames(0x81, b"stall 15", 1));
        fixture.worker.ring.deliver_to(socket, &frames(0x81, b"next", 1));
    }
    let begun = fixture.worker.ring.now();
    fixture.worker.turn().unwrap();
    let took = fixture.worker.ring.now() - begun;
    assert!(took <= Duration::from_millis(45), "{took:?}");
    let mut told = seen();
    // The next turn takes in again, before what is held.
    fixture.worker.ring.deliver_to(NEIGHBOUR, &frames(0x81, b"hello", 1));
    fixture.worker.turn().unwrap();
    let next = seen();
    assert_eq!(next[0], "Text hello");
    fixture.turn();
    assert_eq!(fixture.stats().frames_received, 17);
    told.extend(next.into_iter().chain(seen()));
    assert_eq!(told.iter().filter(|it| *it == "Text next").count(), 8);
}

#[test]
fn a_shortage_is_not_answered_before_a_buffer_is_there() {
    let mut fixture = Fixture::of_flooders(3);
    fixture.worker.ring.receives = Some(0);
    for socket in FIRST..FIRST + 3 {
        fixture.worker.ring.end_of(Socket(socket), ReceiveResult::NoBuffer);
    }
    let receives = |fixture: &Fixture| {
        (FIRST..FIRST + 3).filter(|socket| fixture.worker.ring.is_receiving(*socket)).count()
    };
    for _ in 0..10 {
        fixture.worker.turn().unwrap();
        assert_eq!(receives(&fixture), 0);
    }
    // Being looked at for another reason does not arm it.
    for connection in fixture.worker.slots.iter_mut() {
        connection.session().mark_dirty();
    }
    fixture.turn();
    assert_eq!(receives(&fixture), 0);
    for count in 1..=3 {
        fixture.worker.ring.receives = Some(1);
        fixture.worker.turn().unwrap();
        assert_eq!(receives(&fixture), count, "one for each buffer, in their order");
        assert!(fixture.worker.ring.is_receiving(FIRST + count as i32 - 1));
    }
    assert_eq!(fixture.stats().buffer_shortages, 3);
    assert!(fixture.worker.receive.starved() == 0);
}

#[test]
fn a_connection_that_waits_for_a_buffer_may_end_or_stop_to_read() {
    let mut fixture = Fixture::of_flooders(2);
    fixture.worker.ring.receives = Some(0);
    for socket in FIRST..FIRST + 2 {
        fixture.worker.ring.end_of(Socket(socket), ReceiveResult::NoBuffer);
    }
    fixture.turn();
    transport().abort();
    fixture.turn();
    assert_eq!(fixture.worker.ring.closed, [Socket(FIRST + 1)]);
    let first = fixture.worker.slots.iter_mut().nth(2).unwrap().transport.clone();
    first.pause_reading();
    fixture.worker.ring.receives = Some(1);
    fixture.turn();
    assert!(!fixture.worker.ring.is_receiving(FIRST) && fixture.worker.receive.starved() == 0);
    first.resume_reading();
    fixture.turn();
    assert!(fixture.worker.ring.is_receiving(FIRST));
}

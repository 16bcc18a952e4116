//! The watchdog: who blocks the loop, and for how long.

use super::log::warnings;
use super::*;

const LIMIT: Duration = Duration::from_millis(100);

#[test]
fn a_callback_that_blocks_the_loop_is_named_with_its_time() {
    let mut fixture = Fixture::new(Manner::default(), |_| {});
    let lines = warnings(|| {
        fixture.say(TEXT, b"stall 99");
        assert_eq!(fixture.stats().slow_turns, 0);
        fixture.say(TEXT, b"stall 250");
    });
    let [line] = &lines[..] else { panic!("{lines:?}") };
    for part in ["a callback blocks the loop", "on_frame", "took=250ms", "turn=250ms", "path=\"/\""]
    {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    let stats = fixture.stats();
    assert_eq!((stats.slow_turns, stats.slow_callbacks), (1, 1));
    assert_eq!(stats.longest_turn_micros, 250_000);
    fixture.say(TEXT, b"stall 150");
    assert_eq!((fixture.stats().slow_turns, fixture.stats().longest_turn_micros), (2, 250_000));
}

#[test]
fn each_callback_is_known_by_its_name() {
    let manner = Manner { going_away_takes: 3 * LIMIT, ..Manner::default() };
    let mut fixture = Fixture::new(manner, |_| {});
    let lines = warnings(|| {
        fixture.worker.ring.end(ReceiveResult::EndOfStream);
        fixture.turn();
    });
    assert!(lines[0].contains("on_disconnected"), "{lines:?}");
    let mut fixture = Fixture::new(Manner::default(), |_| {});
    let lines = warnings(|| {
        // In the same turn: first the frame, then the end.
        fixture
            .worker
            .ring
            .deliver(&[&b"\x81\x89\0\0\0\0stall 300"[..], b"\x83\x80\0\0\0\0"].concat());
        fixture.turn();
    });
    assert!(lines.iter().any(|line| line.contains("on_frame")), "{lines:?}");
}

#[test]
fn the_log_has_one_line_a_second() {
    let mut fixture = Fixture::new(Manner::default(), |_| {});
    let lines = warnings(|| {
        for _ in 0..30 {
            fixture.say(TEXT, b"stall 100");
        }
    });
    assert!((3..=4).contains(&lines.len()), "{} lines for 3 seconds", lines.len());
    assert_eq!(fixture.stats().slow_callbacks, 30);
}

#[test]
fn many_short_callbacks_are_a_long_turn_and_no_connections_fault() {
    let mut fixture = Fixture::new(Manner::default(), |_| {});
    let lines = warnings(|| {
        for _ in 0..12 {
            fixture.worker.ring.deliver(b"\x81\x88\0\0\0\0stall 50");
        }
        fixture.turn();
    });
    assert!(lines[0].contains("a long turn") && lines[0].contains("turn=100ms"), "{lines:?}");
    assert_eq!((fixture.stats().slow_turns, fixture.stats().slow_callbacks), (1, 0));
}

#[test]
fn without_a_limit_nothing_is_timed() {
    let mut fixture =
        Fixture::new(Manner::default(), |config| config.slow_callback = Duration::ZERO);
    let lines = warnings(|| fixture.say(TEXT, b"stall 5000"));
    assert!(lines.is_empty());
    assert_eq!((fixture.stats().slow_turns, fixture.stats().longest_turn_micros), (0, 0));
}

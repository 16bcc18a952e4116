//! Accepting that fails: it pauses, and never spins.

use super::log::warnings;
use super::*;

const PAUSE: Duration = Duration::from_millis(100);

fn fixture() -> Fixture {
    Fixture::listening_on(Manner::default(), Config::default(), &[3, 4])
}

#[test]
fn for_want_of_something_accepting_pauses_and_resumes() {
    for errno in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EAGAIN] {
        let mut fixture = fixture();
        assert_eq!(fixture.worker.ring.accepts, 2, "one for each listening socket");
        for pause in 1..=5_u32 {
            let begun = fixture.worker.ring.accepts;
            fixture.worker.ring.fail_accept(errno);
            fixture.turn();
            let now = fixture.worker.ring.now;
            assert_eq!(fixture.go(now + PAUSE - GRANULE), 0, "{errno}: nothing wakes it");
            assert_eq!(fixture.worker.ring.accepts, begun, "{errno}: it waits");
            assert_eq!(fixture.go(now + PAUSE + GRANULE), 1, "{errno}: one wake-up for a pause");
            assert_eq!(fixture.worker.ring.accepts, begun + 2, "{errno}: both resume");
            assert_eq!(fixture.stats().accept_pauses, u64::from(pause));
        }
        fixture.worker.ring.connect(7);
        fixture.turn();
        assert_eq!(fixture.stats().accepted, 1);
        // Nothing wakes it for an accept that waits for connections.
        assert!(fixture.go(fixture.worker.ring.now + SECOND) <= 1);
    }
}

#[test]
fn a_lack_that_lasts_is_logged_once_a_second_with_its_cure() {
    let mut fixture = fixture();
    let lines = warnings(|| {
        for _ in 0..25 {
            fixture.worker.ring.fail_accept(libc::EMFILE);
            fixture.turn();
            fixture.go(fixture.worker.ring.now + PAUSE + GRANULE);
        }
    });
    assert_eq!(fixture.stats().accept_pauses, 25);
    assert_eq!(lines.len(), 3, "of less than three seconds: {lines:?}");
    for line in &lines {
        assert!(line.contains("ulimit -n") && line.contains("max_connections"), "{line}");
    }
    let lines = warnings(|| {
        fixture.go(fixture.worker.ring.now + 2 * SECOND);
        fixture.worker.ring.fail_accept(libc::ENOMEM);
        fixture.turn();
    });
    assert!(lines.len() == 1 && !lines[0].contains("ulimit"), "{lines:?}");
}

#[test]
fn one_listening_socket_goes_on_while_the_other_pauses() {
    let mut fixture = fixture();
    fixture.worker.ring.fail_accept_on(0, libc::ENOMEM);
    fixture.turn();
    assert_eq!(fixture.worker.ring.accepts, 2);
    fixture.worker.ring.connect(7);
    fixture.turn();
    assert_eq!(fixture.stats().accepted, 1);
    fixture.go(PAUSE + GRANULE);
    assert_eq!(fixture.worker.ring.accepts, 3, "only the one that had paused is resumed");
}

#[test]
fn a_connection_that_goes_resumes_accepting_once() {
    let mut fixture = fixture();
    fixture.worker.ring.connect(7);
    fixture.turn();
    fixture.worker.ring.fail_accept(libc::EMFILE);
    fixture.turn();
    assert_eq!(fixture.worker.ring.accepts, 2);
    fixture.worker.ring.end(ReceiveResult::EndOfStream);
    fixture.turn();
    assert!(fixture.is_gone());
    assert_eq!(fixture.worker.ring.accepts, 4, "there is a descriptor again");
    // If there is not, it waits for the rest of its pause, and that only once.
    fixture.worker.ring.fail_accept(libc::EMFILE);
    fixture.turn();
    assert_eq!(fixture.worker.ring.accepts, 4);
    assert_eq!(fixture.go(PAUSE + GRANULE), 1);
    assert_eq!(fixture.worker.ring.accepts, 6);
    assert_eq!(fixture.go(SECOND), 0);
}

#[test]
fn what_happens_to_a_single_connection_is_no_pause() {
    for errno in [libc::ECONNABORTED, libc::EINTR, libc::EPROTO, libc::EPERM] {
        let mut fixture = fixture();
        fixture.worker.ring.fail_accept(errno);
        fixture.turn();
        assert_eq!((fixture.worker.ring.accepts, fixture.stats().accept_pauses), (4, 0), "{errno}");
    }
}

#[test]
fn an_unknown_error_is_tried_again_after_a_second() {
    let mut fixture = fixture();
    fixture.worker.ring.fail_accept(libc::EINVAL);
    fixture.turn();
    assert_eq!(fixture.go(SECOND - GRANULE), 0);
    assert_eq!(fixture.worker.ring.accepts, 2);
    assert_eq!(fixture.go(SECOND + GRANULE), 1);
    assert_eq!(fixture.worker.ring.accepts, 4);
}

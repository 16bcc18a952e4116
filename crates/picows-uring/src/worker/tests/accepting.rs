//! Accepting that fails: it pauses, and never spins.

use super::log::warnings;
use super::*;

const PAUSE: Duration = Duration::from_millis(100);

fn stage() -> Stage {
    Stage::listening_on(Manner::default(), Config::default(), &[3, 4])
}

#[test]
fn for_want_of_something_accepting_pauses_and_resumes() {
    for errno in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EAGAIN] {
        let mut stage = stage();
        assert_eq!(stage.worker.ring.accepts, 2, "one for each listening socket");
        for pause in 1..=5_u32 {
            let begun = stage.worker.ring.accepts;
            stage.worker.ring.fail_accept(errno);
            stage.turn();
            let now = stage.worker.ring.now;
            assert_eq!(stage.go(now + PAUSE - GRANULE), 0, "{errno}: nothing wakes it");
            assert_eq!(stage.worker.ring.accepts, begun, "{errno}: it waits");
            assert_eq!(stage.go(now + PAUSE + GRANULE), 1, "{errno}: one wake-up for a pause");
            assert_eq!(stage.worker.ring.accepts, begun + 2, "{errno}: both resume");
            assert_eq!(stage.stats().accept_pauses, u64::from(pause));
        }
        stage.worker.ring.connect(7);
        stage.turn();
        assert_eq!(stage.stats().accepted, 1);
        // Nothing wakes it for an accept that waits for connections.
        assert!(stage.go(stage.worker.ring.now + SECOND) <= 1);
    }
}

#[test]
fn a_lack_that_lasts_is_logged_once_a_second_with_its_cure() {
    let mut stage = stage();
    let lines = warnings(|| {
        for _ in 0..25 {
            stage.worker.ring.fail_accept(libc::EMFILE);
            stage.turn();
            stage.go(stage.worker.ring.now + PAUSE + GRANULE);
        }
    });
    assert_eq!(stage.stats().accept_pauses, 25);
    assert_eq!(lines.len(), 3, "of less than three seconds: {lines:?}");
    for line in &lines {
        assert!(line.contains("ulimit -n") && line.contains("max_connections"), "{line}");
    }
    let lines = warnings(|| {
        stage.go(stage.worker.ring.now + 2 * SECOND);
        stage.worker.ring.fail_accept(libc::ENOMEM);
        stage.turn();
    });
    assert!(lines.len() == 1 && !lines[0].contains("ulimit"), "{lines:?}");
}

#[test]
fn one_listening_socket_goes_on_while_the_other_pauses() {
    let mut stage = stage();
    stage.worker.ring.fail_accept_on(0, libc::ENOMEM);
    stage.turn();
    assert_eq!(stage.worker.ring.accepts, 2);
    stage.worker.ring.connect(7);
    stage.turn();
    assert_eq!(stage.stats().accepted, 1);
    stage.go(PAUSE + GRANULE);
    assert_eq!(stage.worker.ring.accepts, 3, "only the one that had paused is resumed");
}

#[test]
fn a_connection_that_goes_resumes_accepting_once() {
    let mut stage = stage();
    stage.worker.ring.connect(7);
    stage.turn();
    stage.worker.ring.fail_accept(libc::EMFILE);
    stage.turn();
    assert_eq!(stage.worker.ring.accepts, 2);
    stage.worker.ring.end(Received::EndOfStream);
    stage.turn();
    assert!(stage.is_gone());
    assert_eq!(stage.worker.ring.accepts, 4, "there is a descriptor again");
    // If there is not, it waits for the rest of its pause, and that only once.
    stage.worker.ring.fail_accept(libc::EMFILE);
    stage.turn();
    assert_eq!(stage.worker.ring.accepts, 4);
    assert_eq!(stage.go(PAUSE + GRANULE), 1);
    assert_eq!(stage.worker.ring.accepts, 6);
    assert_eq!(stage.go(SECOND), 0);
}

#[test]
fn what_happens_to_a_single_connection_is_no_pause() {
    for errno in [libc::ECONNABORTED, libc::EINTR, libc::EPROTO, libc::EPERM] {
        let mut stage = stage();
        stage.worker.ring.fail_accept(errno);
        stage.turn();
        assert_eq!((stage.worker.ring.accepts, stage.stats().accept_pauses), (4, 0), "{errno}");
    }
}

#[test]
fn an_error_that_nobody_knows_is_tried_again_after_a_second() {
    let mut stage = stage();
    stage.worker.ring.fail_accept(libc::EINVAL);
    stage.turn();
    assert_eq!(stage.go(SECOND - GRANULE), 0);
    assert_eq!(stage.worker.ring.accepts, 2);
    assert_eq!(stage.go(SECOND + GRANULE), 1);
    assert_eq!(stage.worker.ring.accepts, 4);
}

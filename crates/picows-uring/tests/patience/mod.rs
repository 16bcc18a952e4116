//! Bounds of what tests wait for: a hang is a failure with a name.
//!
//! Long enough for a machine that is busy with something else; no outcome depends on how long.

#![allow(dead_code, reason = "each test binary uses its own part of this module")]

use std::io;
use std::time::{Duration, Instant};

/// A wait that is longer than this has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// For all that a loop does, which is many such waits in some tests.
const LOOP_PATIENCE: Duration = Duration::from_secs(180);

/// Tries until there is an outcome, at intervals.
///
/// Also for what has a short limit of its own: on a busy machine it may be the test that was too
/// slow for it.
#[track_caller]
pub(crate) fn patiently<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(outcome) = attempt() {
            return outcome;
        }
        assert!(start.elapsed() < PATIENCE, "not in time: {what}");
        // Bounds the polling; no result depends on it.
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// [`patiently`], with the other tasks of the loop running meanwhile.
pub(crate) async fn until<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(outcome) = attempt() {
            return outcome;
        }
        assert!(start.elapsed() < PATIENCE, "not in time: {what}");
        tokio::task::yield_now().await;
    }
}

/// [`picows_uring::run`], bounded.
#[track_caller]
pub(crate) fn run<F: Future>(future: F) -> Result<F::Output, picows_uring::Error> {
    let bounded = async { tokio::time::timeout(LOOP_PATIENCE, future).await.ok() };
    picows_uring::run(bounded).map(|outcome| outcome.expect("the loop ends in time"))
}

/// Reads once more if the process was stopped meanwhile, which ends a read with a timeout on Linux
/// even if no handler ran (signal(7)).
pub(crate) fn uninterrupted(mut read: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match read() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

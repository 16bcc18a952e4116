//! Patience with what the kernel has not taken down yet.
//!
//! A process that was killed is gone before its rings are: the kernel ends those in the background,
//! and until then their sockets listen and their memory counts as locked. A server that is started
//! again at once finds addresses in use and no memory, for a moment.

use std::time::{Duration, Instant};

/// Tries `attempt` again for a while, as long as its failure may be what another process has left.
pub(crate) fn patiently<T, E>(
    may_pass: impl Fn(&E) -> bool,
    mut attempt: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    let start = Instant::now();
    loop {
        match attempt() {
            Err(error) if may_pass(&error) && start.elapsed() < WAIT => {
                std::thread::sleep(PAUSE);
            }
            outcome => return outcome,
        }
    }
}

/// How long something may be left behind before that is an error: with dozens of rings the kernel
/// was seen to take most of a second.
const WAIT: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_tried_again_and_what_may_not_is_not() {
        let mut attempts = 0;
        let outcome = patiently(
            |error| *error == "in use",
            || {
                attempts += 1;
                if attempts < 4 { Err("in use") } else { Ok(attempts) }
            },
        );
        assert_eq!(outcome, Ok(4));
        let mut attempts = 0;
        let outcome: Result<(), _> = patiently(
            |error| *error == "in use",
            || {
                attempts += 1;
                Err("forbidden")
            },
        );
        assert_eq!((outcome, attempts), (Err("forbidden"), 1));
    }

    #[test]
    fn patience_ends() {
        let start = Instant::now();
        assert_eq!(patiently(|_| true, || Err::<(), _>("in use")), Err("in use"));
        assert!(start.elapsed() >= WAIT);
    }
}

//! A process that sets up a ring in the place of this one, where a seccomp filter may end it.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Whether a filter ends a process for a call of io_uring. `false` if that cannot be found out.
pub(super) fn is_ended() -> bool {
    let Ok(program) = std::env::current_exe() else { return false };
    let mut command = Command::new(program);
    command.args(["doctor", "--canary", "--driver", "io-uring"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else { return false };
    let start = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.signal().is_some(),
            Ok(None) if start.elapsed() < PATIENCE => std::thread::sleep(PAUSE),
            Ok(None) => {
                // A filter that ends the thread alone leaves a process that never ends.
                let _ = child.kill();
                let _ = child.wait();
                return true;
            }
            Err(_) => return false,
        }
    }
}

/// Longer than a ring takes where memory is short (a second).
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(2);

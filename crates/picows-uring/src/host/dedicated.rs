//! Dedicated workers: the thread sleeps in the ring of its worker and does nothing else.

use super::{BusyPoll, Host, has_other_worker};
use crate::local::{HostKind, Hosting};
use crate::ring::{Ring, Wait, WaitMode};
use crate::worker::{Turn, Worker};
use std::io;

/// Runs `worker` on this thread, which does nothing else, until it is stopped. Its ring is that of a
/// dedicated worker.
///
/// # Errors
///
/// When the worker's ring is lost.
pub(crate) fn run_dedicated<R: Ring + Wait>(
    worker: Worker<R>,
    busy_poll: BusyPoll,
) -> io::Result<()> {
    let hosting = Hosting::begin(&worker.local, HostKind::Dedicated);
    let _hosting = hosting.ok_or_else(has_other_worker)?;
    let mut host = Host::new(worker, WaitMode::Dedicated, busy_poll);
    loop {
        match host.turn()? {
            Turn::Busy => {}
            Turn::Idle => {
                let mut spin = host.spin();
                while spin.lasts(&mut host) {}
                if host.before_sleep() {
                    let woken = host.worker.ring.wait();
                    host.after_sleep();
                    woken?;
                }
            }
            Turn::Done => return Ok(()),
        }
    }
}

//! Restrictions of a ring: the kernel refuses whatever the data path does not do.
//!
//! A ring is set up disabled. What is registered once for all is registered then; afterwards the
//! ring takes the operations of [`OPERATIONS`], few registrations and one flag, until it is closed.
//! So a fault in this process that reaches the queues in shared memory opens no file by them,
//! connects nowhere and starts nothing: each other operation completes with `EACCES`.

use super::{OPERATIONS, Uring, WaitMode};
use io_uring::register::Restriction;
use io_uring::squeue::Flags;
use std::io;

/// Restricts a ring that is disabled, and enables it. This thread is its submitter from here on.
pub(super) fn enable(ring: &Uring, waiting: WaitMode) -> io::Result<()> {
    let operations = OPERATIONS.iter().map(|(code, _)| Restriction::sqe_op(*code));
    let registrations = registrations(waiting).iter().map(|code| Restriction::register_op(*code));
    let flags = Restriction::sqe_flags_allowed(Flags::BUFFER_SELECT.bits());
    let mut all: Vec<_> = operations.chain(registrations).chain([flags]).collect();
    ring.submitter().register_restrictions(&mut all)?;
    ring.submitter().register_enable_rings()
}

/// What is registered after the start.
fn registrations(waiting: WaitMode) -> &'static [u8] {
    match waiting {
        WaitMode::Hosted => &[REGISTER_SYNC_CANCEL, UNREGISTER_EVENTFD],
        WaitMode::Dedicated => &[REGISTER_SYNC_CANCEL, REGISTER_NAPI],
    }
}

/// `IORING_REGISTER_SYNC_CANCEL` of linux/io_uring.h: a ring that is dropped ends its operations.
const REGISTER_SYNC_CANCEL: u8 = 24;
/// `IORING_UNREGISTER_EVENTFD` of linux/io_uring.h: a hosted worker becomes a dedicated one.
const UNREGISTER_EVENTFD: u8 = 5;
/// `IORING_REGISTER_NAPI` of linux/io_uring.h: a dedicated worker may have devices polled.
const REGISTER_NAPI: u8 = 27;

#[cfg(test)]
mod tests;

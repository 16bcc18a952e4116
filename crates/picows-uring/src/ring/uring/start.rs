//! Set-up of a ring, and the reason when there is none.

mod restrict;

use super::super::StartError;
use super::super::clock::Clock;
use super::{Buffers, Sends, Uring, UringRing, WaitMode, Watches, outcome};
use crate::foreign::log;
use io_uring::{IoUring, Probe, cqueue, opcode, squeue, types};
use rustix::event::{EventfdFlags, eventfd};
use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

/// Sets up a ring whose only user is this thread, and which can do only what the data path does.
pub(super) fn start(waiting: WaitMode) -> Result<UringRing, StartError> {
    match set_up(waiting, true) {
        // Every kernel that has the other features has restrictions; what imitates one may not.
        Err(StartError::TooOld(_)) => {
            let ring = set_up(waiting, false)?;
            log::debug!("the kernel refuses restrictions: the ring has none");
            Ok(ring)
        }
        result => result,
    }
}

fn set_up(waiting: WaitMode, is_restricted: bool) -> Result<UringRing, StartError> {
    let mut builder = IoUring::builder();
    builder
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        // A child of fork must not touch what the kernel and the parent share.
        .dontfork()
        .setup_clamp()
        .setup_cqsize(COMPLETIONS);
    if is_restricted {
        builder.setup_r_disabled();
    }
    let mut ring: Uring = builder.build(SUBMISSIONS)?;
    probe(&ring)?;
    let event = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)
        .map_err(|errno| StartError::from(io::Error::from(errno)))?;
    if waiting == WaitMode::Hosted {
        ring.submitter().register_eventfd(event.as_raw_fd())?;
    }
    let buffers = Buffers::register(&ring)?;
    if is_restricted {
        restrict::enable(&ring, waiting)?;
    }
    let enter_flags = enter_flags(ring.params().is_feature_no_iowait());
    try_out(&mut ring, enter_flags)?;
    Ok(UringRing {
        ring,
        buffers,
        sends: Sends::default(),
        watches: Watches::default(),
        overflow: VecDeque::new(),
        event: Arc::new(event),
        timespec: Box::new(types::Timespec::new()),
        deadline: None,
        clock: Clock::new(),
        in_flight: 0,
        is_event_watched: false,
        enter_flags,
        gathering: None,
        enters: 0,
        abandoned: Vec::new(),
        is_restricted,
        stamped: None,
    })
}

/// Flags of each call that enters the ring; one that waits is not taken for one that waits for a
/// disk, where the kernel can tell the two apart.
fn enter_flags(has_no_iowait: bool) -> u32 {
    if has_no_iowait { ENTER_GETEVENTS | ENTER_NO_IOWAIT } else { ENTER_GETEVENTS }
}

/// Checks that the kernel has each operation of the data path.
fn probe(ring: &Uring) -> Result<(), StartError> {
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    match OPERATIONS.iter().find(|(code, _)| !probe.is_supported(*code)) {
        Some((_, lacks)) => Err(StartError::Lacks(lacks)),
        None => Ok(()),
    }
}

/// Does with the ring what the data path will, as far as that needs no socket: a filter may allow a
/// ring to be set up and forbid to use it, and then that shows here and not with the first client.
fn try_out(ring: &mut Uring, enter_flags: u32) -> Result<(), StartError> {
    cancel_nothing(ring, enter_flags)?;
    match ring.submitter().register_sync_cancel(None, types::CancelBuilder::any()) {
        // There is nothing to cancel, which says that it can be done.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        done => Ok(done?),
    }
}

/// Sends an operation through both queues that finds nothing to do, which is its success here.
fn cancel_nothing(ring: &mut Uring, enter_flags: u32) -> Result<(), StartError> {
    let entry = opcode::AsyncCancel2::new(types::CancelBuilder::user_data(0)).build();
    match outcome(round_trip(ring, enter_flags, &entry)?.result()) {
        Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error.into()),
        _ => Ok(()),
    }
}

/// Submits an operation to a ring that has no other, and waits for its completion.
fn round_trip(
    ring: &mut Uring,
    enter_flags: u32,
    entry: &squeue::Entry,
) -> io::Result<cqueue::Entry> {
    // SAFETY: what the entry points to, if anything, outlives this call, as it ends with the
    // completion: the only operation that is passed here points to nothing.
    #[expect(unsafe_code)]
    let pushed = unsafe { ring.submission().push(entry) };
    debug_assert!(pushed.is_ok(), "the queue is empty");
    loop {
        let queued = ring.submission().len();
        // SAFETY: no argument is passed, so there is nothing to be valid.
        #[expect(unsafe_code)]
        let entered = unsafe { ring.submitter().enter::<()>(queued as u32, 1, enter_flags, None) };
        if let Some(entry) = ring.completion().next() {
            return Ok(entry);
        }
        match entered {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
    }
}

/// Operations that the data path submits, by code, with the name in the kernel's manual.
const OPERATIONS: [(u8, &str); 10] = [
    (opcode::AcceptMulti::CODE, "IORING_OP_ACCEPT"),
    (opcode::Recv::CODE, "IORING_OP_RECV"),
    (opcode::RecvMsgMulti::CODE, "IORING_OP_RECVMSG"),
    (opcode::Send::CODE, "IORING_OP_SEND"),
    (opcode::SendMsg::CODE, "IORING_OP_SENDMSG"),
    (opcode::Timeout::CODE, "IORING_OP_TIMEOUT"),
    (opcode::TimeoutUpdate::CODE, "IORING_OP_TIMEOUT_REMOVE"),
    (opcode::AsyncCancel2::CODE, "IORING_OP_ASYNC_CANCEL"),
    (opcode::PollAdd::CODE, "IORING_OP_POLL_ADD"),
    (opcode::Close::CODE, "IORING_OP_CLOSE"),
];

/// `IORING_ENTER_GETEVENTS`: with `DEFER_TASKRUN`, completions are made in such a call only.
pub(super) const ENTER_GETEVENTS: u32 = 1 << 0;
/// `IORING_ENTER_NO_IOWAIT` of linux/io_uring.h (Linux 6.15, `io_uring_enter(2)`).
const ENTER_NO_IOWAIT: u32 = 1 << 7;

/// Entries of the submission queue: as many operations leave with one call.
const SUBMISSIONS: u32 = 1024;
/// Entries of the completion queue: much larger, as one multishot operation makes many.
const COMPLETIONS: u32 = 8 * SUBMISSIONS;

#[cfg(test)]
pub(super) mod tests;

//! Setting the ring up, and saying what is wrong and what helps when it cannot be.

use super::super::StartError;
use super::{Buffers, ENTER_GETEVENTS, Sends, Uring, UringRing, WaitMode};
use io_uring::{IoUring, Probe, opcode, types};
use rustix::event::{EventfdFlags, eventfd};
use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Instant;

/// Sets up a ring whose only user is this thread.
pub(super) fn start(waiting: WaitMode) -> Result<UringRing, StartError> {
    let mut ring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_clamp()
        .setup_cqsize(COMPLETIONS)
        .build(SUBMISSIONS)?;
    prove(&mut ring)?;
    let event = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)
        .map_err(|errno| StartError::from(io::Error::from(errno)))?;
    if waiting == WaitMode::Hosted {
        ring.submitter().register_eventfd(event.as_raw_fd())?;
    }
    let buffers = Buffers::register(&ring)?;
    Ok(UringRing {
        ring,
        buffers,
        sends: Sends::default(),
        overflow: VecDeque::new(),
        event: Arc::new(event),
        timespec: Box::new(types::Timespec::new()),
        deadline: None,
        origin: Instant::now(),
        in_flight: 0,
        is_event_watched: false,
        enters: 0,
        abandoned: Vec::new(),
    })
}

/// Does with the ring what the data path will, as far as that needs no socket: a filter may allow a
/// ring to be set up and forbid to use it, and then that shows here and not with the first client.
fn prove(ring: &mut Uring) -> Result<(), StartError> {
    enter_with_nothing(ring)?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    if let Some((_, lacks)) = OPERATIONS.iter().find(|(code, _)| !probe.is_supported(*code)) {
        return Err(StartError::Lacks(lacks));
    }
    match ring.submitter().register_sync_cancel(None, types::CancelBuilder::any()) {
        // There is nothing to cancel, which says that it can be done.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        done => Ok(done?),
    }
}

/// Sends an operation that does nothing through both queues.
fn enter_with_nothing(ring: &mut Uring) -> Result<(), StartError> {
    // SAFETY: the operation points to nothing.
    #[expect(unsafe_code)]
    let pushed = unsafe { ring.submission().push(&opcode::Nop::new().build()) };
    debug_assert!(pushed.is_ok(), "the queue is empty");
    loop {
        let queued = ring.submission().len();
        // SAFETY: no argument is passed, so there is nothing to be valid.
        #[expect(unsafe_code)]
        let entered =
            unsafe { ring.submitter().enter::<()>(queued as u32, 1, ENTER_GETEVENTS, None) };
        if let Some(entry) = ring.completion().next() {
            return match entry.result() {
                0.. => Ok(()),
                errno => Err(io::Error::from_raw_os_error(-errno).into()),
            };
        }
        match entered {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
    }
}

/// What the data path asks of the kernel, and how the kernel's manual calls it.
const OPERATIONS: [(u8, &str); 9] = [
    (opcode::AcceptMulti::CODE, "IORING_OP_ACCEPT"),
    (opcode::Recv::CODE, "IORING_OP_RECV"),
    (opcode::Send::CODE, "IORING_OP_SEND"),
    (opcode::SendMsg::CODE, "IORING_OP_SENDMSG"),
    (opcode::Timeout::CODE, "IORING_OP_TIMEOUT"),
    (opcode::TimeoutUpdate::CODE, "IORING_OP_TIMEOUT_REMOVE"),
    (opcode::AsyncCancel2::CODE, "IORING_OP_ASYNC_CANCEL"),
    (opcode::PollAdd::CODE, "IORING_OP_POLL_ADD"),
    (opcode::Close::CODE, "IORING_OP_CLOSE"),
];

/// Entries of the submission queue: as many operations leave with one call.
const SUBMISSIONS: u32 = 1024;
/// Entries of the completion queue: much larger, as one multishot operation makes many.
const COMPLETIONS: u32 = 8 * SUBMISSIONS;

#[cfg(test)]
mod tests;

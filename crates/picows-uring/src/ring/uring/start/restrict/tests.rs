//! Operations and registrations that a restricted ring refuses, and those it takes.

use super::super::{ENTER_GETEVENTS, round_trip};
use super::*;
use crate::ring::uring::UringRing;
use crate::ring::{Ring, Wait};
use io_uring::{opcode, squeue, types};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::ptr::null;
use std::time::Duration;

fn ring(waiting: WaitMode) -> UringRing {
    UringRing::new(waiting).unwrap()
}

fn errno(result: io::Result<()>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

/// Whether the ring took an operation and ran it.
fn runs(ring: &mut UringRing, entry: &squeue::Entry) -> bool {
    match round_trip(&mut ring.ring, ENTER_GETEVENTS, entry).unwrap().result() {
        result if result == -libc::EACCES => false,
        result if result == -libc::ENOENT => true,
        result => panic!("neither refused nor in vain: {result}"),
    }
}

#[test]
fn operations_other_than_those_of_the_data_path_are_refused() {
    let file = File::open("/dev/zero").unwrap();
    let fd = types::Fd(file.as_raw_fd());
    let path = c"/dev/null".as_ptr();
    let mut bytes = [1; 4];
    let others = [
        opcode::Nop::new().build(),
        opcode::OpenAt::new(types::Fd(libc::AT_FDCWD), path).build(),
        opcode::Read::new(fd, bytes.as_mut_ptr(), 4).build(),
        opcode::Write::new(fd, bytes.as_ptr(), 4).build(),
        opcode::Readv::new(fd, null(), 0).build(),
        opcode::Fsync::new(fd).build(),
        opcode::UnlinkAt::new(types::Fd(libc::AT_FDCWD), c"/no/such/file".as_ptr()).build(),
        opcode::Socket::new(libc::AF_UNIX, libc::SOCK_STREAM, 0).build(),
        opcode::Connect::new(fd, null(), 0).build(),
        opcode::Shutdown::new(fd, libc::SHUT_RDWR).build(),
        opcode::SendZc::new(fd, bytes.as_ptr(), 4).build(),
        opcode::MsgRingData::new(fd, 0, 0, None).build(),
        opcode::PollRemove::new(0).build(),
        opcode::ProvideBuffers::new(bytes.as_mut_ptr(), 4, 1, 9, 0).build(),
    ];
    for waiting in [WaitMode::Hosted, WaitMode::Dedicated] {
        let mut ring = ring(waiting);
        for entry in &others {
            assert!(!runs(&mut ring, entry), "{entry:?}");
        }
        // Refused operations do not hold up those that the ring takes.
        let everywhere = types::CancelBuilder::user_data(7);
        assert!(runs(&mut ring, &opcode::AsyncCancel2::new(everywhere).build()));
    }
    assert_eq!(bytes, [1; 4]);
}

#[test]
fn flags_other_than_that_of_a_receive_are_refused() {
    let mut ring = ring(WaitMode::Dedicated);
    let cancel = || opcode::AsyncCancel2::new(types::CancelBuilder::user_data(7)).build();
    for flag in [Flags::IO_LINK, Flags::IO_DRAIN, Flags::ASYNC, Flags::FIXED_FILE] {
        assert!(!runs(&mut ring, &cancel().flags(flag)), "{flag:?}");
    }
    assert!(runs(&mut ring, &cancel()));
}

#[test]
fn registrations_of_the_start_are_refused_after_it() {
    let file = File::open("/dev/null").unwrap();
    let fd = file.as_raw_fd();
    for waiting in [WaitMode::Hosted, WaitMode::Dedicated] {
        let ring = ring(waiting);
        let submitter = ring.ring.submitter();
        let mut probe = io_uring::Probe::new();
        let refused = [
            submitter.register_files(&[fd]),
            submitter.register_eventfd(ring.event.as_raw_fd()),
            submitter.register_eventfd_async(ring.event.as_raw_fd()),
            submitter.register_probe(&mut probe),
            submitter.register_personality().map(drop),
            submitter.register_iowq_max_workers(&mut [1, 1]),
            submitter.register_enable_rings(),
            submitter.register_restrictions(&mut [Restriction::sqe_op(opcode::Nop::CODE)]),
            submitter.unregister_buf_ring(0),
        ];
        for (index, result) in refused.into_iter().enumerate() {
            let errno = errno(result);
            assert!(matches!(errno, Some(libc::EACCES)), "{index}: {errno:?}");
        }
    }
}

#[test]
fn a_hosted_ring_may_be_dedicated_and_no_other() {
    assert_eq!(errno(ring(WaitMode::Hosted).dedicate()), None);
    assert_eq!(errno(ring(WaitMode::Dedicated).dedicate()), Some(libc::EACCES));
}

/// Each ring is the same for its deadline, whichever way it came to be.
#[test]
fn a_restricted_ring_waits_for_its_deadline() {
    let mut ring = ring(WaitMode::Dedicated);
    ring.set_deadline(ring.now() + Duration::from_millis(1));
    // An earlier one: an update of the operation, which has a code of its own.
    ring.set_deadline(ring.now());
    while ring.deadline.is_some() {
        ring.wait().unwrap();
        ring.poll(10, &mut Vec::new()).unwrap();
    }
}

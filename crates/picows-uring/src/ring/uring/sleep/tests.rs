//! Sleeps that gather completions, and rings that poll network devices.

use super::*;
use crate::ring::uring::start::tests::{NUMBER, THIRD_ARGUMENT, forbid};
use crate::ring::{Completion, Ring, Socket, Token, Wait, WaitMode};
use std::io::Write;
use std::os::fd::IntoRawFd;
use std::os::unix::net::UnixStream;

fn ring(options: SleepOptions) -> UringRing {
    let mut ring = UringRing::new(WaitMode::Dedicated).unwrap();
    ring.set_sleep(options).unwrap();
    ring
}

fn gathering(min_wait: Duration) -> SleepOptions {
    SleepOptions { min_wait, ..SleepOptions::default() }
}

/// A ring that receives on so many sockets, and the peers.
fn receiving(mut ring: UringRing, count: u32) -> (UringRing, Vec<UnixStream>) {
    let mut peers = Vec::new();
    for slot in 0..count {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let socket = Socket(ours.into_raw_fd());
        ring.receive(socket, Token { slot, generation: 0 });
        peers.push(theirs);
    }
    ring.poll(1, &mut Vec::new()).unwrap();
    (ring, peers)
}

/// Takes what has completed, and returns how much that was.
fn take(ring: &mut UringRing) -> usize {
    let mut completions = Vec::new();
    ring.poll(usize::MAX, &mut completions).unwrap();
    let count = completions.len();
    for completion in completions {
        if let Completion::Received { result: crate::ring::ReceiveResult::Data(buffer), .. } =
            completion
        {
            ring.release(buffer);
        }
    }
    count
}

#[test]
fn a_sleep_that_gathers_ends_when_a_call_has_its_completions() {
    let count = TASK_WORK_PER_ENTER as u32;
    // Until then it would hang.
    let (mut ring, mut peers) = receiving(ring(gathering(Duration::from_secs(3600))), count);
    for peer in &mut peers {
        peer.write_all(b"x").unwrap();
    }
    ring.wait().unwrap();
    assert_eq!(take(&mut ring), TASK_WORK_PER_ENTER);
}

#[test]
fn a_sleep_that_gathers_ends_with_fewer_after_its_time_and_with_a_signal() {
    let (mut ring, mut peers) = receiving(ring(gathering(Duration::from_micros(50))), 2);
    peers[1].write_all(b"x").unwrap();
    ring.wait().unwrap();
    assert_eq!(take(&mut ring), 1);
    // Long after that time it waits for one more.
    let signal = ring.signal();
    let waker = std::thread::spawn(move || rustix::io::write(signal, &1_u64.to_ne_bytes()));
    ring.wait().unwrap();
    waker.join().unwrap().unwrap();
}

/// Calls as others make them are refused in the thread: there are none.
#[test]
fn a_call_that_waits_asks_for_the_completions_of_a_call() {
    let run = |min_wait, refused: u32| {
        let ran = std::thread::spawn(move || {
            let (mut ring, mut peers) = receiving(ring(gathering(min_wait)), 1);
            peers[0].write_all(b"x").unwrap();
            let enter = (NUMBER, libc::SYS_io_uring_enter as u32);
            forbid(&[enter, (THIRD_ARGUMENT, refused)], libc::EIO);
            ring.wait().map_err(|error| error.raw_os_error())
        });
        ran.join().unwrap()
    };
    assert_eq!(run(Duration::from_micros(50), 1), Ok(()));
    assert_eq!(run(Duration::from_micros(50), TASK_WORK_PER_ENTER as u32), Err(Some(libc::EIO)));
    assert_eq!(run(Duration::ZERO, TASK_WORK_PER_ENTER as u32), Ok(()));
    assert_eq!(run(Duration::ZERO, 1), Err(Some(libc::EIO)));
}

#[test]
fn an_old_kernel_is_named_with_the_setting() {
    let refused = std::thread::spawn(|| {
        let mut ring = UringRing::new(WaitMode::Dedicated).unwrap();
        let register = (NUMBER, libc::SYS_io_uring_register as u32);
        forbid(&[register], libc::EINVAL);
        let napi_busy_poll = Duration::from_micros(50);
        ring.set_sleep(SleepOptions { napi_busy_poll, ..SleepOptions::default() }).unwrap_err()
    });
    let refused = refused.join().unwrap();
    assert_eq!(refused.setting, "napi_busy_poll");
    assert!(refused.fault.contains("Linux 6.9"), "{}", refused.fault);
}

#[test]
fn a_ring_polls_devices_where_the_kernel_can() {
    let napi_busy_poll = Duration::from_micros(50);
    let (mut ring, mut peers) = receiving(UringRing::new(WaitMode::Dedicated).unwrap(), 1);
    if ring.features().napi != Some(true) {
        return;
    }
    ring.set_sleep(SleepOptions { napi_busy_poll, ..SleepOptions::default() }).unwrap();
    peers[0].write_all(b"x").unwrap();
    ring.wait().unwrap();
    assert_eq!(take(&mut ring), 1);
    let mut before = types::Napi::new();
    ring.ring.submitter().register_napi(&mut before).unwrap();
    assert_eq!((before.busy_poll_timeout(), before.prefer_busy_poll()), (50, true));
}

#[test]
fn other_drivers_refuse_settings_of_the_sleep() {
    let mut ring = crate::ring::epoll::EpollRing::new().unwrap();
    ring.set_sleep(SleepOptions::default()).unwrap();
    let refused = ring.set_sleep(gathering(Duration::from_micros(50))).unwrap_err();
    assert_eq!(refused.setting, "min_wait");
    assert!(refused.fault.contains("io_uring"), "{}", refused.fault);
}

//! Errors where there is no ring, or one that must not be used; rings without restrictions.

use super::*;
use crate::ring::refusal::Refuser;
use crate::ring::{Ring, Wait};

#[test]
fn each_cause_names_its_cure() {
    let text = |errno| StartError::from(io::Error::from_raw_os_error(errno)).to_string();
    for errno in [libc::EPERM, libc::EACCES, libc::ENOSYS, libc::EOPNOTSUPP] {
        // What refuses it depends on this machine (ring/refusal.rs).
        assert!(text(errno).starts_with("io_uring is disabled ("), "{}", text(errno));
    }
    assert!(text(libc::EINVAL).contains("Linux 6.1"));
    let short = text(libc::ENOMEM);
    assert!(short.contains("ulimit -l") && short.contains("about 220 KiB"), "{short}");
    assert!(text(libc::EMFILE).contains("ulimit -n"));
    assert!(text(libc::EIO).contains("cannot be set up"));
    assert!(StartError::Lacks("IORING_OP_CLOSE").to_string().contains("IORING_OP_CLOSE"));
}

/// Has system calls of this thread fail with `errno` from here on (seccomp(2)) of which each of
/// `words` holds: the word of `seccomp_data` at an offset, and its value.
pub(in crate::ring::uring) fn forbid(words: &[(u32, u32)], errno: i32) {
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut steps = Vec::new();
    for (index, (offset, value)) in words.iter().enumerate() {
        // Past the other words and the refusal.
        let to_allow = (2 * (words.len() - index - 1) + 1) as u8;
        let is_equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
        steps.push(step((libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, 0, 0, *offset));
        steps.push(step(is_equal, 0, to_allow, *value));
    }
    let results = [libc::SECCOMP_RET_ERRNO | errno as u32, libc::SECCOMP_RET_ALLOW];
    steps.extend(results.map(|it| step((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, it)));
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: the kernel copies the program, which outlives the calls. Both hold for this thread only.
    #[expect(unsafe_code)]
    let results = unsafe {
        [
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
            libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program),
        ]
    };
    assert_eq!(results, [0, 0], "{}", io::Error::last_os_error());
}

#[test]
fn a_filter_of_any_call_of_io_uring_shows_at_the_start() {
    let calls = [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];
    for number in calls {
        for errno in [libc::EPERM, libc::ENOSYS, libc::EACCES, libc::EOPNOTSUPP] {
            for waiting in [WaitMode::Hosted, WaitMode::Dedicated] {
                // The filter ends with its thread.
                let started = std::thread::spawn(move || {
                    forbid(&[(NUMBER, number as u32)], errno);
                    start(waiting).err()
                });
                let error = started.join().unwrap();
                assert!(
                    matches!(error, Some(StartError::Forbidden(_, Refuser::Filter))),
                    "{number}: {error:?}"
                );
            }
        }
    }
}

/// Result of a no-op, which the data path does not use, in a ring of a thread where the kernel
/// refuses the registration of restrictions with `errno`.
fn no_op_without_restrictions(errno: i32) -> Result<i32, StartError> {
    let registration = (SECOND_ARGUMENT, IORING_REGISTER_RESTRICTIONS);
    let ran = std::thread::spawn(move || {
        forbid(&[(NUMBER, libc::SYS_io_uring_register as u32), registration], errno);
        let mut ring = start(WaitMode::Dedicated)?;
        Ok(round_trip(&mut ring.ring, ENTER_GETEVENTS, &opcode::Nop::new().build())?.result())
    });
    ran.join().unwrap()
}

#[test]
fn a_ring_is_unrestricted_where_the_kernel_has_no_restrictions() {
    assert!(matches!(no_op_without_restrictions(libc::EINVAL), Ok(0)));
}

#[test]
fn a_filter_of_restrictions_is_no_old_kernel() {
    let result = no_op_without_restrictions(libc::EPERM);
    assert!(matches!(result, Err(StartError::Forbidden(..))), "{result:?}");
}

#[test]
fn a_ring_is_entered_without_iowait_where_the_kernel_knows_of_it() {
    assert_eq!(enter_flags(false), 0b1);
    assert_eq!(enter_flags(true), 0b1000_0001);
    let probe = Uring::builder().build(1).unwrap();
    let flags = enter_flags(probe.params().is_feature_no_iowait());
    let ran = std::thread::spawn(move || {
        // Calls with the flags of the other kind of kernel are refused: there are none.
        let other = flags ^ ENTER_NO_IOWAIT;
        forbid(&[(NUMBER, libc::SYS_io_uring_enter as u32), (FOURTH_ARGUMENT, other)], libc::EIO);
        let mut ring = start(WaitMode::Dedicated).unwrap();
        // The ring is entered, and its thread sleeps until it is woken.
        let signal = ring.signal();
        let waker = std::thread::spawn(move || rustix::io::write(signal, &1_u64.to_ne_bytes()));
        ring.wait().unwrap();
        ring.poll(1, &mut Vec::new()).unwrap();
        waker.join().unwrap().unwrap();
        ring.enters
    });
    assert!(ran.join().unwrap() > 0);
}

/// Where `seccomp_data` has the number of the call, and its arguments (their lower halves, as x86-64
/// and aarch64 are little-endian).
pub(in crate::ring::uring) const NUMBER: u32 = 0;
const SECOND_ARGUMENT: u32 = 24;
pub(in crate::ring::uring) const THIRD_ARGUMENT: u32 = 32;
const FOURTH_ARGUMENT: u32 = 40;
const IORING_REGISTER_RESTRICTIONS: u32 = 11;

//! What is said where there is no ring, or one that must not be used.

use super::*;

#[test]
fn each_cause_names_its_cure() {
    let text = |errno| StartError::from(io::Error::from_raw_os_error(errno)).to_string();
    assert!(text(libc::EPERM).contains("kernel.io_uring_disabled=0"));
    assert!(text(libc::ENOSYS).contains("seccomp"));
    assert!(text(libc::EINVAL).contains("Linux 6.1"));
    assert!(text(libc::ENOMEM).contains("ulimit -l"));
    assert!(text(libc::EMFILE).contains("ulimit -n"));
    assert!(text(libc::EIO).contains("cannot be set up"));
    assert!(StartError::Lacks("IORING_OP_CLOSE").to_string().contains("IORING_OP_CLOSE"));
}

/// Has the system call `number` of this thread fail with `errno` from here on (seccomp(2)).
fn forbid(number: i64, errno: i32) {
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut steps = [
        // The number of the call is the first word of what the filter is shown.
        step((libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, 0, 0, 0),
        step((libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, 0, 1, number as u32),
        step((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
        step((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
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
        for errno in [libc::EPERM, libc::ENOSYS, libc::EACCES] {
            for waiting in [WaitMode::Hosted, WaitMode::Dedicated] {
                // The filter ends with its thread.
                let started = std::thread::spawn(move || {
                    forbid(number, errno);
                    start(waiting).err()
                });
                let error = started.join().unwrap();
                assert!(matches!(error, Some(StartError::Forbidden(_))), "{number}: {error:?}");
            }
        }
    }
}

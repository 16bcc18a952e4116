//! Cause of a refusal of io_uring: the kernel's switch, a seccomp filter, a security module, or no
//! io_uring at all.
//!
//! Read from `/proc`, never guessed from the error alone: the same `EPERM` has three causes.

use std::fmt;

/// The part of the system that refuses io_uring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refuser {
    /// The sysctl `kernel.io_uring_disabled`, with its value.
    Switch(u8),
    /// A seccomp filter of this process.
    Filter,
    /// A security module such as SELinux; nothing else is left.
    Module,
    /// The kernel, or the sandbox in its place, has no io_uring.
    Absent,
}

impl Refuser {
    /// The name in the JSON of `picows doctor`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Switch(_) => "switch",
            Self::Filter => "filter",
            Self::Module => "module",
            Self::Absent => "absent",
        }
    }

    /// The one that made a call of io_uring fail with `errno`.
    pub(super) fn of_this_process(errno: i32) -> Self {
        Self::find(errno, |path| std::fs::read_to_string(path).ok())
    }

    fn find(errno: i32, read: impl Fn(&str) -> Option<String>) -> Self {
        let status = read("/proc/thread-self/status").unwrap_or_default();
        let field = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .map(str::trim)
        };
        let has_filter = field("Seccomp") == Some("2");
        if !matches!(errno, libc::EPERM | libc::EACCES) {
            // ENOSYS, EOPNOTSUPP: what is missing, or what a filter makes look so.
            return if has_filter { Self::Filter } else { Self::Absent };
        }
        let number = |path: &str| read(path)?.trim().parse::<i64>().ok();
        let switch = number("/proc/sys/kernel/io_uring_disabled").unwrap_or(0);
        if switch >= 2 {
            return Self::Switch(2);
        }
        if switch == 1 {
            let effective = field("CapEff").and_then(|set| u64::from_str_radix(set, 16).ok());
            let is_admin = effective.is_some_and(|set| set & CAP_SYS_ADMIN != 0);
            let group = number("/proc/sys/kernel/io_uring_group").filter(|group| *group >= 0);
            let groups = [field("Gid"), field("Groups")].into_iter().flatten();
            let mut groups = groups.flat_map(str::split_whitespace).map(str::parse::<i64>);
            let is_member = groups.any(|it| it.ok().is_some_and(|it| Some(it) == group));
            // In a user namespace the capability does not count.
            if !has_filter || !(is_admin || is_member) {
                return Self::Switch(1);
            }
        }
        if has_filter { Self::Filter } else { Self::Module }
    }
}

/// The cause with its cure.
impl fmt::Display for Refuser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Switch(1) => {
                "the sysctl kernel.io_uring_disabled is 1: set it to 0, or add this process to the \
                 group of kernel.io_uring_group"
            }
            Self::Switch(_) => {
                "the sysctl kernel.io_uring_disabled is 2, which forbids it to all processes: set it \
                 to 0"
            }
            Self::Filter => {
                "a seccomp filter forbids it: allow io_uring_setup, io_uring_enter and \
                 io_uring_register in the seccomp profile of the container (Docker, Podman and \
                 Kubernetes forbid them by default), or in SystemCallFilter= of the systemd unit"
            }
            Self::Module => {
                "neither the sysctl kernel.io_uring_disabled nor a seccomp filter forbids it: allow \
                 it in the policy of the security module (SELinux, AppArmor)"
            }
            Self::Absent => {
                "this kernel has none: it was built without CONFIG_IO_URING, or is a sandbox such as \
                 gVisor; use epoll there"
            }
        })
    }
}

/// Bit 21 of a set of capabilities (capabilities(7)).
const CAP_SYS_ADMIN: u64 = 1 << 21;

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found with this switch, group and status.
    fn found(errno: i32, switch: Option<&str>, group: &str, status: &str) -> Refuser {
        Refuser::find(errno, |path| match path {
            "/proc/thread-self/status" => Some(status.to_owned()),
            "/proc/sys/kernel/io_uring_disabled" => switch.map(str::to_owned),
            "/proc/sys/kernel/io_uring_group" => Some(group.to_owned()),
            _ => None,
        })
    }

    const FREE: &str =
        "Gid:\t7\t7\t7\t7\nGroups:\t20 30 \nCapEff:\t0000000000000000\nSeccomp:\t0\n";
    const FILTERED: &str =
        "Gid:\t7\t7\t7\t7\nGroups:\t20 30 \nCapEff:\t0000000000000000\nSeccomp:\t2\n";
    const FILTERED_ADMIN: &str = "Gid:\t0\t0\t0\t0\nCapEff:\t000001ffffffffff\nSeccomp:\t2\n";

    #[test]
    fn the_switch_a_filter_and_a_module_are_told_apart() {
        for errno in [libc::EPERM, libc::EACCES] {
            for (switch, group, status, expected) in [
                (Some("2\n"), "-1\n", FREE, Refuser::Switch(2)),
                (Some("2\n"), "-1\n", FILTERED, Refuser::Switch(2)),
                (Some("1\n"), "-1\n", FREE, Refuser::Switch(1)),
                (Some("1\n"), "-1\n", FILTERED, Refuser::Switch(1)),
                (Some("1\n"), "30\n", FILTERED, Refuser::Filter),
                (Some("1\n"), "7\n", FILTERED, Refuser::Filter),
                (Some("1\n"), "-1\n", FILTERED_ADMIN, Refuser::Filter),
                (Some("0\n"), "-1\n", FILTERED, Refuser::Filter),
                (None, "-1\n", FILTERED, Refuser::Filter),
                (Some("0\n"), "-1\n", FREE, Refuser::Module),
                (None, "-1\n", "", Refuser::Module),
            ] {
                assert_eq!(found(errno, switch, group, status), expected, "{switch:?} {status:?}");
            }
        }
    }

    #[test]
    fn what_is_missing_is_missing_unless_a_filter_makes_it_look_so() {
        for errno in [libc::ENOSYS, libc::EOPNOTSUPP] {
            assert_eq!(found(errno, Some("0"), "-1", FREE), Refuser::Absent);
            assert_eq!(found(errno, None, "-1", ""), Refuser::Absent);
            assert_eq!(found(errno, Some("0"), "-1", FILTERED), Refuser::Filter);
        }
    }

    #[test]
    fn each_refusal_names_its_own_cure_alone() {
        let cures =
            ["io_uring_disabled is", "seccomp profile", "security module", "CONFIG_IO_URING"];
        let all = [Refuser::Switch(2), Refuser::Filter, Refuser::Module, Refuser::Absent];
        for (index, refuser) in all.into_iter().enumerate() {
            for (of, cure) in cures.into_iter().enumerate() {
                assert_eq!(refuser.to_string().contains(cure), of == index, "{refuser}: {cure}");
            }
        }
        assert!(Refuser::Switch(1).to_string().contains("kernel.io_uring_group"));
    }
}

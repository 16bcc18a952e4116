//! Default memory limit of a process: half of the least that it may have.
//!
//! Read once. What cannot be read is left out.

use rustix::process::{Resource, getrlimit};

/// The bounds on the memory of a process, in bytes. `None` where there is none, or none can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryBounds {
    /// The memory limit of the cgroup, and of those around it.
    pub cgroup: Option<u64>,
    /// The memory of the machine.
    pub machine: Option<u64>,
    /// The limit of the address space.
    pub address_space: Option<u64>,
}

impl MemoryBounds {
    /// The bounds in these files, such as `/proc/meminfo`, and this limit of the address space.
    pub fn read(files: impl Fn(&str) -> Option<String>, address_space: Option<u64>) -> Self {
        Self { cgroup: cgroup_bytes(&files), machine: machine_bytes(&files), address_space }
    }

    /// The default memory limit: half of the least. The other half is for the application, the
    /// kernel's buffers of sockets, which a cgroup counts as well, and what the allocator keeps.
    ///
    /// `None` where there is no bound.
    pub fn default_limit(&self) -> Option<usize> {
        let bounds = [self.cgroup, self.machine, self.address_space];
        let least = bounds.into_iter().flatten().min()?;
        Some(usize::try_from(least / 2).unwrap_or(usize::MAX).max(1))
    }
}

/// The default memory limit of this process.
pub(super) fn of_process() -> Option<usize> {
    let files = |path: &str| std::fs::read_to_string(path).ok();
    MemoryBounds::read(files, getrlimit(Resource::As).current).default_limit()
}

/// The memory limit of the cgroup of this process (version 2 or 1) and of those that it is in.
fn cgroup_bytes(read: impl Fn(&str) -> Option<String>) -> Option<u64> {
    let groups = read("/proc/self/cgroup")?;
    // `hierarchy:controllers:path`, where version 2 has no controllers.
    let bounds = groups.lines().filter_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|it| it == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => return None,
        };
        // In a container the path may be that of the host, of which only the root is there.
        let ends = path.match_indices('/').map(|(index, _)| index).chain([path.len()]);
        ends.filter_map(|end| {
            let text = read(&format!("{root}{}/{file}", path[..end].trim_end_matches('/')))?;
            text.trim().parse::<u64>().ok()
        })
        .min()
    });
    bounds.min()
}

/// The memory of the machine.
fn machine_bytes(read: impl Fn(&str) -> Option<String>) -> Option<u64> {
    let text = read("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    /// A file system of these files.
    fn files<'a>(files: &'a [(&str, &str)]) -> impl Fn(&str) -> Option<String> + use<'a> {
        |path| files.iter().find(|(name, _)| *name == path).map(|(_, text)| (*text).to_owned())
    }

    #[test]
    fn the_default_is_half_of_the_least_that_is_known() {
        let half = |mib: u64| Some((mib * MIB / 2) as usize);
        for (bounds, expected) in [
            ([Some(512), Some(16_000), Some(4000)], half(512)),
            ([Some(9000), Some(8000), Some(7000)], half(7000)),
            ([None, Some(16_000), None], half(16_000)),
            ([None, None, Some(600)], half(600)),
            ([None, None, None], None),
        ] {
            let bounds = bounds.map(|mib: Option<u64>| mib.map(|mib| mib * MIB));
            let [cgroup, machine, address_space] = bounds;
            let bounds = MemoryBounds { cgroup, machine, address_space };
            assert_eq!(bounds.default_limit(), expected, "{bounds:?}");
        }
        let empty = MemoryBounds { cgroup: Some(0), machine: None, address_space: None };
        assert_eq!(empty.default_limit(), Some(1), "none at all is no limit");
    }

    #[test]
    fn a_cgroup_has_the_limit_of_those_around_it() {
        let in_service = ("/proc/self/cgroup", "0::/system.slice/echo.service\n");
        let own = "/sys/fs/cgroup/system.slice/echo.service/memory.max";
        let around = "/sys/fs/cgroup/system.slice/memory.max";
        for (own_max, around_max, expected) in [
            ("max\n", "max\n", None),
            ("300000\n", "max\n", Some(300_000)),
            ("max\n", "200000\n", Some(200_000)),
            ("300000\n", "200000\n", Some(200_000)),
            ("300000\n", "400000\n", Some(300_000)),
        ] {
            let all = [in_service, (own, own_max), (around, around_max)];
            assert_eq!(cgroup_bytes(files(&all)), expected, "{own_max:?} in {around_max:?}");
        }
    }

    #[test]
    fn a_cgroup_of_a_container_is_found_at_its_root() {
        let root = ("/sys/fs/cgroup/memory.max", "160000000\n");
        for path in ["0::/\n", "0::/docker/abc\n", "0::/../other\n"] {
            assert_eq!(
                cgroup_bytes(files(&[("/proc/self/cgroup", path), root])),
                Some(160_000_000)
            );
        }
        let groups = "12:cpu,cpuacct:/x\n7:memory:/docker/abc\n0::/docker/abc\n";
        let old = ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n");
        assert_eq!(cgroup_bytes(files(&[("/proc/self/cgroup", groups), old])), Some(536_870_912));
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        assert_eq!(cgroup_bytes(files(&[])), None);
        assert_eq!(cgroup_bytes(files(&[("/proc/self/cgroup", "rubbish\n0:\n::\n")])), None);
        assert_eq!(machine_bytes(files(&[])), None);
        for text in ["", "MemTotal: many kB\n", "MemTotal: 1 MB\n", "MemFree: 1 kB\n"] {
            assert_eq!(machine_bytes(files(&[("/proc/meminfo", text)])), None, "{text:?}");
        }
        let info = "MemTotal:       16384000 kB\nMemFree: 1 kB\n";
        assert_eq!(machine_bytes(files(&[("/proc/meminfo", info)])), Some(16_384_000 * 1024));
    }

    #[test]
    fn this_process_has_a_limit() {
        assert!(of_process().is_some());
    }
}

//! Memory, processors, and the container around them.

use super::files::{Files, Surroundings, count_of_set};
use super::limits::{Limit, limits};
use super::report::{Item, Level};
use bytesize::ByteSize;
use picows_uring::internal::preflight::MemoryBounds;
use serde_json::json;

pub(super) fn items(surroundings: &Surroundings) -> Vec<Item> {
    vec![memory(surroundings), cpu(surroundings), container(&surroundings.files)]
}

fn memory(surroundings: &Surroundings) -> Item {
    let address_space = limits(&surroundings.limits, "Max address space").map(|it| it.0);
    let address_space = address_space.and_then(Limit::number);
    let bounds = MemoryBounds::read(|path| surroundings.files.text(path), address_space);
    let limit = bounds.default_limit();
    // Version 1 has no word for "none", but a number that no machine has.
    let cgroup = bounds.cgroup.filter(|bytes| *bytes < CGROUP_BYTES_MAX);
    let values = json!({
        "cgroup": cgroup,
        "machine": bounds.machine,
        "address_space": address_space,
        "memory_limit": limit,
    });
    let shown = |bytes: Option<u64>, none: &str| {
        bytes.map_or(none.to_owned(), |bytes| ByteSize(bytes).display().iec().to_string())
    };
    let text = format!(
        "memory_limit is {} by default; cgroup {}, machine {}, address space {}",
        shown(limit.map(|bytes| bytes as u64), "none"),
        shown(cgroup, "no limit"),
        shown(bounds.machine, "unknown"),
        shown(address_space, "no limit"),
    );
    let item = Item::new("memory", text, values);
    match limit {
        None => item.with(Level::Note, "set --memory-limit, as no bound can be read"),
        Some(bytes) if bytes < MEMORY_BYTES_USUAL => {
            let cure =
                "give the control group more memory, or set --max-connections and --max-queue";
            item.with(Level::Note, cure)
        }
        Some(_) => item,
    }
}

fn cpu(surroundings: &Surroundings) -> Item {
    let files = &surroundings.files;
    let online = files.text("/sys/devices/system/cpu/online").as_deref().and_then(count_of_set);
    let allowed = files.status("Cpus_allowed_list").as_deref().and_then(count_of_set);
    let quota = cpu_quota(files);
    let workers = surroundings.workers;
    let values =
        json!({ "online": online, "allowed": allowed, "quota": quota, "workers": workers });
    let shown = |count: Option<u64>| count.map_or("unknown".to_owned(), |it| it.to_string());
    let text = format!(
        "workers by default: {workers}; cores: {}, allowed by the affinity: {}, quota of the cgroup: {}",
        shown(online),
        shown(allowed),
        quota.map_or("none".to_owned(), |cores| format!("{cores:.2} cores")),
    );
    let item = Item::new("cpu", text, values);
    if quota.is_some_and(|cores| cores < workers as f64) {
        let cure = "raise the quota to a core for each worker (cpu.max, CPUQuota= in systemd, limits \
                    of a container): workers stand still while it is used up";
        return item.with(Level::Note, cure);
    }
    item
}

/// The least processor quota of the cgroup of this process (version 2 or 1) and of those around it,
/// in cores.
fn cpu_quota(files: &Files) -> Option<f64> {
    let groups = files.text("/proc/self/cgroup")?;
    let quotas = groups.lines().filter_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let is_old = match controllers {
            "" => false,
            _ if controllers.split(',').any(|it| it == "cpu") => true,
            _ => return None,
        };
        // In a container the path may be that of the host, of which only the root is there.
        let ends = path.match_indices('/').map(|(index, _)| index).chain([path.len()]);
        let of_groups = ends.filter_map(|end| {
            let group = path[..end].trim_end_matches('/');
            if is_old {
                let number = |file| files.number(&format!("/sys/fs/cgroup/cpu{group}/{file}"));
                cores(number("cpu.cfs_quota_us")?, number("cpu.cfs_period_us")?)
            } else {
                let text = files.text(format!("/sys/fs/cgroup{group}/cpu.max"))?;
                let (quota, period) = text.trim().split_once(' ')?;
                cores(quota.parse().ok()?, period.parse().ok()?)
            }
        });
        of_groups.min_by(f64::total_cmp)
    });
    quotas.min_by(f64::total_cmp)
}

/// A quota of -1 is none.
fn cores(quota: i64, period: i64) -> Option<f64> {
    (quota > 0 && period > 0).then(|| quota as f64 / period as f64)
}

fn container(files: &Files) -> Item {
    let groups = files.text("/proc/self/cgroup").unwrap_or_default();
    let in_group = |word: &'static str| groups.contains(word);
    let hints: Vec<&str> = [
        ("/.dockerenv", files.exists("/.dockerenv")),
        ("/run/.containerenv", files.exists("/run/.containerenv")),
        (SERVICE_ACCOUNT, files.exists(SERVICE_ACCOUNT)),
        ("cgroup docker", in_group("docker")),
        ("cgroup libpod", in_group("libpod")),
        ("cgroup kubepods", in_group("kubepods")),
        ("cgroup containerd", in_group("containerd")),
        ("cgroup lxc", in_group("lxc")),
    ]
    .into_iter()
    .filter_map(|(hint, is_there)| is_there.then_some(hint))
    .collect();
    let is_any = |words: &[&str]| hints.iter().any(|hint| words.contains(hint));
    let kind = if is_any(&[SERVICE_ACCOUNT, "cgroup kubepods"]) {
        Some("kubernetes")
    } else if is_any(&["/run/.containerenv", "cgroup libpod"]) {
        Some("podman")
    } else if is_any(&["/.dockerenv", "cgroup docker"]) {
        Some("docker")
    } else {
        (!hints.is_empty()).then_some("other")
    };
    let text = match kind {
        None => "no sign of one".to_owned(),
        Some(kind) => format!("{kind} ({})", hints.join(", ")),
    };
    Item::new("container", text, json!({ "kind": kind, "hints": hints }))
}

/// Where Kubernetes mounts what a pod may ask of its API.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io";
/// Version 1 has the largest number of pages for "no limit".
const CGROUP_BYTES_MAX: u64 = 1 << 60;
/// Less than this is used up by a hundred queues of a megabyte.
const MEMORY_BYTES_USUAL: usize = 64 * 1024 * 1024;

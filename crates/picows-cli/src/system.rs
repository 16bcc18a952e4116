//! Limits and counters of the operating system: descriptors and processor time.

use rustix::process::{Resource, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Raises the limit of descriptors to its maximum, as each connection is a descriptor.
pub(crate) fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "cannot raise the limit of open files");
        }
    }
}

/// Returns the processor time of this process so far, of all threads.
pub(crate) fn own_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Returns the resident memory of a process.
///
/// # Errors
///
/// When there is no such process, or its `/proc` cannot be read.
pub(crate) fn resident_bytes(pid: u32) -> io::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, "its status holds no VmRSS");
    resident(&status).ok_or_else(wrong)
}

/// Reads the line `VmRSS:      1234 kB` of a process's status.
fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Checks that so many connections can be made, before any is.
///
/// `sources` is the number of addresses that they come from, or `None` where ports are no limit.
///
/// # Errors
///
/// The cause, with the numbers and the cure.
pub(crate) fn check_connections(
    connections: u64,
    threads: u64,
    sources: Option<u64>,
) -> Result<(), String> {
    if let (Some(sources), Some(ports)) = (sources, ephemeral_ports()) {
        check_ports(connections, sources, ports)?;
    }
    check_descriptors(connections, threads, getrlimit(Resource::Nofile).current)
}

fn check_descriptors(connections: u64, threads: u64, limit: Option<u64>) -> Result<(), String> {
    let spare = DESCRIPTORS_SPARE + threads * DESCRIPTORS_PER_THREAD;
    match limit {
        Some(limit) if connections + spare > limit => Err(format!(
            "{connections} connections need {} descriptors, and this process may have {limit}: raise the limit \
             (ulimit -Hn, LimitNOFILE= in systemd), or make at most {} connections",
            connections + spare,
            limit.saturating_sub(spare)
        )),
        _ => Ok(()),
    }
}

fn check_ports(connections: u64, sources: u64, ports: u64) -> Result<(), String> {
    if connections <= ports.saturating_mul(sources) {
        return Ok(());
    }
    let wanted = connections.div_ceil(ports.max(1));
    let from = if sources == 1 { "one address".to_owned() } else { format!("{sources} addresses") };
    Err(format!(
        "{connections} connections from {from} to one server: an address has {ports} ephemeral ports \
         (net.ipv4.ip_local_port_range). Give at least {wanted} addresses with --source, such as 127.0.0.0/8 on \
         loopback, or widen that range"
    ))
}

/// Ports that the kernel gives to outgoing connections.
fn ephemeral_ports() -> Option<u64> {
    port_range(&std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?)
}

fn port_range(text: &str) -> Option<u64> {
    let mut bounds = text.split_whitespace().map(str::parse::<u64>);
    let (first, last) = (bounds.next()?.ok()?, bounds.next()?.ok()?);
    last.checked_sub(first).map(|ports| ports + 1)
}

/// Meter of another process's processor time, in nanoseconds (`stat` counts in ticks of 10 ms).
#[derive(Debug)]
pub(crate) struct CpuMeter {
    tasks: PathBuf,
}

/// Processor time of each thread of a process.
#[derive(Debug)]
pub(crate) struct CpuReading {
    by_thread: HashMap<String, Duration>,
}

impl CpuMeter {
    pub(crate) fn new(pid: u32) -> Self {
        Self { tasks: PathBuf::from(format!("/proc/{pid}/task")) }
    }

    /// # Errors
    ///
    /// When there is no such process, or its `/proc` cannot be read.
    pub(crate) fn read(&self) -> io::Result<CpuReading> {
        let mut by_thread = HashMap::new();
        for entry in std::fs::read_dir(&self.tasks)? {
            let entry = entry?;
            // The thread may have ended since the listing.
            let Ok(text) = std::fs::read_to_string(entry.path().join("schedstat")) else {
                continue;
            };
            let name = entry.file_name().to_string_lossy().into_owned();
            by_thread.insert(name, on_cpu(&text)?);
        }
        Ok(CpuReading { by_thread })
    }
}

impl CpuReading {
    /// Returns the processor time since `before`, without threads that have ended meanwhile.
    pub(crate) fn since(&self, before: &Self) -> Duration {
        let spent = |(name, now): (&String, &Duration)| {
            now.saturating_sub(before.by_thread.get(name).copied().unwrap_or_default())
        };
        self.by_thread.iter().map(spent).sum()
    }
}

/// Parses the first number of `schedstat`: time on a processor, in nanoseconds.
fn on_cpu(schedstat: &str) -> io::Result<Duration> {
    let first = schedstat.split_whitespace().next().and_then(|it| it.parse().ok());
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, "schedstat holds no time");
    first.map(Duration::from_nanos).ok_or_else(wrong)
}

/// Standard streams, signals, files of reports, and what the resolver opens.
const DESCRIPTORS_SPARE: u64 = 32;
/// The ring or the set of epoll of a loop, its timers and its wake-up.
const DESCRIPTORS_PER_THREAD: u64 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_beyond_a_limit_are_refused_with_numbers_and_cure() {
        assert_eq!(check_descriptors(100, 1, None), Ok(()));
        assert_eq!(check_descriptors(976, 1, Some(1024)), Ok(()));
        let error = check_descriptors(977, 1, Some(1024)).unwrap_err();
        for part in ["977 connections need 1025", "may have 1024", "ulimit -Hn", "at most 976"] {
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(check_ports(28_232, 1, 28_232), Ok(()));
        assert_eq!(check_ports(56_464, 2, 28_232), Ok(()));
        let error = check_ports(28_233, 1, 28_232).unwrap_err();
        for part in
            ["28233 connections from one address", "28232 ephemeral", "at least 2", "--source"]
        {
            assert!(error.contains(part), "{error}");
        }
        assert!(check_ports(100_000, 3, 28_232).unwrap_err().contains("at least 4 addresses"));
        assert_eq!(port_range("32768\t60999\n"), Some(28_232));
        assert_eq!((port_range("9\t3\n"), port_range("")), (None, None));
    }

    #[test]
    fn resident_memory_is_read_in_bytes() {
        assert_eq!(
            resident("Name:\tpicows\nVmRSS:\t    1234 kB\nThreads:\t1\n"),
            Some(1234 * 1024)
        );
        assert_eq!((resident("Name:\tkthread\n"), resident("VmRSS: many kB")), (None, None));
        assert!(resident_bytes(std::process::id()).unwrap() > 1024);
        assert!(resident_bytes(u32::MAX).is_err());
    }

    #[test]
    fn schedstat_begins_with_nanoseconds() {
        assert_eq!(on_cpu("1500 20 3\n").unwrap(), Duration::from_nanos(1500));
        assert!(on_cpu("").is_err());
        assert!(on_cpu("soon").is_err());
    }

    #[test]
    fn time_is_summed_over_threads_and_counts_new_ones_whole() {
        let reading = |times: &[(&str, u64)]| CpuReading {
            by_thread: times
                .iter()
                .map(|(name, nanos)| ((*name).to_owned(), Duration::from_nanos(*nanos)))
                .collect(),
        };
        let before = reading(&[("1", 100), ("2", 50), ("gone", 9)]);
        let now = reading(&[("1", 130), ("2", 50), ("new", 5)]);
        assert_eq!(now.since(&before), Duration::from_nanos(35));
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        let own = CpuMeter::new(std::process::id()).read().unwrap();
        assert!(!own.by_thread.is_empty());
        assert!(CpuMeter::new(u32::MAX).read().is_err());
    }
}

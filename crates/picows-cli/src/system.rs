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

#[cfg(test)]
mod tests {
    use super::*;

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

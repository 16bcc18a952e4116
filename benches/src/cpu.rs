//! CPU time by process and thread, from `/proc`.
//!
//! Reads only; when to read, and what to divide by, is for the caller to know.

use std::fs;
use std::io;

/// Processor time that all threads of a process have used, in nanoseconds.
///
/// From `schedstat`, which counts nanoseconds; `stat` counts ticks of 10 ms, too coarse for windows
/// of a second. A thread that is running now is up to date to the last tick of the scheduler.
pub fn process_cpu_ns(pid: u32) -> io::Result<u64> {
    let mut cpu_ns = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end while we look.
        let Ok(schedstat) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
        cpu_ns += parse_schedstat(&schedstat)
            .ok_or_else(|| io::Error::other(format!("odd schedstat: {schedstat:?}")))?;
    }
    Ok(cpu_ns)
}

/// Ticks of one processor since the machine started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticks {
    /// All of them.
    pub total: u64,
    /// Those the hypervisor gave to other machines while this one wanted to run.
    pub steal: u64,
    /// Those in which nothing wanted to run.
    pub idle: u64,
}

/// Reads the ticks of each processor.
pub fn ticks_by_core() -> io::Result<Vec<Ticks>> {
    Ok(parse_stat(&fs::read_to_string("/proc/stat")?))
}

/// How much of the time between two readings was stolen from the core that suffered most, 0 to 1.
#[must_use]
pub fn steal_share(before: &[Ticks], after: &[Ticks]) -> f64 {
    let share = |(before, after): (&Ticks, &Ticks)| {
        let total = after.total.saturating_sub(before.total).max(1);
        after.steal.saturating_sub(before.steal) as f64 / total as f64
    };
    before.iter().zip(after).map(share).fold(0.0, f64::max)
}

/// Ticks of all cores between two readings in which something ran.
#[must_use]
pub fn busy_ticks(before: &[Ticks], after: &[Ticks]) -> u64 {
    let busy = |ticks: &Ticks| ticks.total - ticks.idle - ticks.steal;
    let busy_between = |(before, after): (&Ticks, &Ticks)| busy(after).saturating_sub(busy(before));
    before.iter().zip(after).map(busy_between).sum()
}

/// The first field of `schedstat`: nanoseconds on a processor.
fn parse_schedstat(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

/// The lines `cpu0`, `cpu1` … of `/proc/stat` (`proc_stat(5)`).
fn parse_stat(text: &str) -> Vec<Ticks> {
    let core_line = |line: &&str| {
        line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    text.lines().filter(core_line).map(parse_core).collect()
}

fn parse_core(line: &str) -> Ticks {
    let mut ticks = Ticks::default();
    // user, nice, system, idle, iowait, irq, softirq, steal; the guests behind them are part of
    // user and nice.
    let fields = line.split_ascii_whitespace().skip(1).take(8);
    for (index, field) in fields.enumerate() {
        let value = field.parse().unwrap_or(0);
        ticks.total += value;
        match index {
            3 | 4 => ticks.idle += value,
            7 => ticks.steal += value,
            _ => {}
        }
    }
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_by_core() {
        let text =
            "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 10 1 20 50 2 3 4 10 7 0\ncpu1 0 0 0 100\nctxt 5\n";
        let expected =
            [Ticks { total: 100, steal: 10, idle: 52 }, Ticks { total: 100, steal: 0, idle: 100 }];
        assert_eq!(parse_stat(text), expected);
    }

    #[test]
    fn the_worst_core_counts() {
        let before = [Ticks::default(); 2];
        let after =
            [Ticks { total: 100, steal: 5, idle: 60 }, Ticks { total: 100, steal: 2, idle: 98 }];
        assert!((steal_share(&before, &after) - 0.05).abs() < 1e-9);
        assert_eq!(busy_ticks(&before, &after), 35);
        assert!(steal_share(&after, &after).abs() < 1e-9, "no time, no steal");
    }

    #[test]
    fn schedstat_starts_with_the_time() {
        assert_eq!(parse_schedstat("2738174 12 3\n"), Some(2_738_174));
        assert_eq!(parse_schedstat(""), None);
    }

    #[test]
    fn our_own_time_grows() {
        let before = process_cpu_ns(std::process::id()).unwrap();
        let mut sum = 0_u64;
        while process_cpu_ns(std::process::id()).unwrap() == before {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(!ticks_by_core().unwrap().is_empty());
    }
}

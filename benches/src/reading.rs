//! The counters before and after a measurement, and what was spent in between.

use crate::cpu;
use hdrhistogram::Histogram;
use std::io;
use std::time::Instant;

/// The counters at one moment.
#[derive(Debug)]
pub struct Reading {
    at: Instant,
    server_cpu_ns: u64,
    load_cpu_ns: u64,
    cores: Vec<cpu::Ticks>,
}

impl Reading {
    /// Reads those of the server, of this process and of the machine.
    ///
    /// # Errors
    ///
    /// When the server is gone.
    pub fn take(server_pid: u32) -> io::Result<Self> {
        Ok(Self {
            cores: cpu::ticks_by_core()?,
            load_cpu_ns: cpu::process_cpu_ns(std::process::id())?,
            server_cpu_ns: cpu::process_cpu_ns(server_pid)?,
            at: Instant::now(),
        })
    }
}

/// What was spent between two readings.
#[derive(Clone, Copy, Debug)]
pub struct Spent {
    /// How long it took.
    pub window_s: f64,
    /// Processor time of the server.
    pub server_cpu_us: f64,
    /// Processor time of the load generator.
    pub load_cpu_us: f64,
    /// What was stolen of the core that suffered most, 0 to 1.
    pub steal_share: f64,
    /// What others used of the whole machine, 0 to 1.
    pub other_cpu_share: f64,
}

impl Spent {
    /// The difference.
    #[must_use]
    pub fn between(before: &Reading, after: &Reading) -> Self {
        let window_s = (after.at - before.at).as_secs_f64();
        let server_cpu_us = (after.server_cpu_ns - before.server_cpu_ns) as f64 / 1e3;
        let load_cpu_us = (after.load_cpu_ns - before.load_cpu_ns) as f64 / 1e3;
        let busy_us = cpu::busy_ticks(&before.cores, &after.cores) as f64 * TICK_US;
        let cores_us = window_s * 1e6 * before.cores.len() as f64;
        Self {
            window_s,
            server_cpu_us,
            load_cpu_us,
            steal_share: cpu::steal_share(&before.cores, &after.cores),
            other_cpu_share: ((busy_us - server_cpu_us - load_cpu_us) / cores_us).max(0.0),
        }
    }

    /// Names and values, with what each of `count` pieces of work cost: `one` is called so, and
    /// more of them `many`.
    #[must_use]
    pub fn fields(&self, [one, many]: [&str; 2], count: u64) -> Vec<(String, f64)> {
        let each = |us: f64| us / count.max(1) as f64;
        let share = |us: f64| us / 1e6 / self.window_s;
        [
            ("window_s".to_owned(), self.window_s),
            (many.to_owned(), count as f64),
            (format!("{many}_per_s"), count as f64 / self.window_s),
            (format!("server_cpu_us_per_{one}"), each(self.server_cpu_us)),
            ("server_cpu_share_of_core".to_owned(), share(self.server_cpu_us)),
            (format!("load_cpu_us_per_{one}"), each(self.load_cpu_us)),
            ("load_cpu_share_of_core".to_owned(), share(self.load_cpu_us)),
            ("steal_share_of_worst_core".to_owned(), self.steal_share),
            ("other_cpu_share_of_machine".to_owned(), self.other_cpu_share),
        ]
        .into()
    }
}

/// For latencies in nanoseconds, to three digits; what takes longer than a minute counts as one.
#[must_use]
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are fixed and right")
}

/// The quantiles that are reported of latencies.
#[must_use]
pub fn quantiles(latency_ns: &Histogram<u64>) -> Vec<(String, f64)> {
    [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)]
        .map(|(name, quantile)| {
            (format!("latency_{name}_us"), latency_ns.value_at_quantile(quantile) as f64 / 1e3)
        })
        .into()
}

/// One JSON object of numbers.
#[must_use]
pub fn json(fields: &[(String, f64)]) -> String {
    let fields: Vec<_> = fields
        .iter()
        .map(|(name, value)| {
            let value = format!("{value:.4}");
            let value = value.trim_end_matches('0').trim_end_matches('.');
            format!("\"{name}\": {value}")
        })
        .collect();
    format!("{{{}}}", fields.join(", "))
}

/// `/proc/stat` counts hundredths of a second, whatever the kernel's own tick (`time(7)`).
const TICK_US: f64 = 1e4;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn spent() -> Spent {
        let core = |total, steal| cpu::Ticks { total, steal, idle: 0 };
        let at = Instant::now();
        let before =
            Reading { at, server_cpu_ns: 5_000, load_cpu_ns: 0, cores: vec![core(0, 0); 2] };
        let after = Reading {
            at: at + Duration::from_secs(1),
            server_cpu_ns: 500_005_000,
            load_cpu_ns: 250_000_000,
            cores: vec![core(100, 4), core(100, 0)],
        };
        Spent::between(&before, &after)
    }

    fn value(fields: &[(String, f64)], name: &str) -> f64 {
        fields.iter().find(|(found, _)| found == name).map(|(_, value)| *value).unwrap()
    }

    #[test]
    fn costs_are_divided_by_what_was_done() {
        let fields = spent().fields(["message", "messages"], 100_000);
        let expected = [
            ("server_cpu_us_per_message", 5.0),
            ("load_cpu_us_per_message", 2.5),
            ("messages_per_s", 100_000.0),
            ("server_cpu_share_of_core", 0.5),
            ("steal_share_of_worst_core", 0.04),
            // 1.96 s busy of 2 s, 0.75 s of them ours.
            ("other_cpu_share_of_machine", 0.605),
        ];
        for (name, expected) in expected {
            assert!((value(&fields, name) - expected).abs() < 1e-9, "{name}: {fields:?}");
        }
    }

    #[test]
    fn quantiles_are_in_microseconds() {
        let mut latency_ns = histogram();
        for us in 1..=1000 {
            latency_ns.saturating_record(us * 1000);
        }
        let fields = quantiles(&latency_ns);
        for (name, expected) in
            [("latency_p50_us", 500.0), ("latency_p99_us", 990.0), ("latency_p99.9_us", 999.0)]
        {
            assert!((value(&fields, name) - expected).abs() < 1.0, "{name}: {fields:?}");
        }
    }

    #[test]
    fn json_has_short_numbers() {
        let fields = [("a".to_owned(), 5.0), ("b".to_owned(), 0.605)];
        assert_eq!(json(&fields), "{\"a\": 5, \"b\": 0.605}");
    }

    #[test]
    fn nothing_done_is_no_division_by_zero() {
        assert!(
            value(&spent().fields(["message", "messages"], 0), "server_cpu_us_per_message")
                .is_finite()
        );
    }
}

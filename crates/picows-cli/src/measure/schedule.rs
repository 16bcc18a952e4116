//! Schedule of an open loop: messages at even intervals, on the connections in turn.

/// Times in nanoseconds since the clock's origin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    pub(crate) start_ns: u64,
    pub(crate) interval_ns: f64,
    /// Of all threads together.
    pub(crate) connections: usize,
}

impl Schedule {
    pub(crate) fn new(start_ns: u64, rate_per_s: f64, connections: usize) -> Self {
        Self { start_ns, interval_ns: 1e9 / rate_per_s, connections }
    }

    /// Time at which message `sequence` of `connection` is due.
    pub(crate) fn due_ns(&self, connection: u64, sequence: u64) -> u64 {
        let index = sequence * self.connections as u64 + connection;
        self.start_ns.saturating_add((index as f64 * self.interval_ns) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_take_turns_at_even_intervals() {
        let schedule = Schedule::new(1000, 1e6, 3);
        let mut due: Vec<_> = (0..3).flat_map(|c| (0..4).map(move |s| (c, s))).collect::<Vec<_>>();
        due.sort_by_key(|&(c, s)| schedule.due_ns(c, s));
        let command: Vec<_> = due.iter().map(|&(c, s)| (s, c, schedule.due_ns(c, s))).collect();
        for (index, &(sequence, connection, due)) in command.iter().enumerate() {
            let index = index as u64;
            assert_eq!((sequence, connection, due), (index / 3, index % 3, 1000 + index * 1000));
        }
    }

    #[test]
    fn slow_rates_and_late_messages_stay_exact() {
        let schedule = Schedule::new(0, 0.5, 1);
        assert_eq!(schedule.due_ns(0, 3), 6_000_000_000);
        let schedule = Schedule::new(0, 1e6, 1);
        assert_eq!(schedule.due_ns(0, 3_600_000_000), 3_600_000_000_000);
    }
}

//! Schedule of an open loop: messages at even intervals, on the connections in turn.

use super::shape::RateStage;
use std::rc::Rc;

/// Times in nanoseconds since the clock's origin.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    start_ns: u64,
    /// Of all threads together.
    connections: usize,
    pace: Pace,
}

#[derive(Clone, Debug)]
enum Pace {
    Even {
        interval_ns: f64,
    },
    /// Ramps, one behind the other.
    Staged(Rc<[Ramp]>),
}

/// A time in which the rate changes evenly.
#[derive(Clone, Copy, Debug)]
struct Ramp {
    /// Seconds from the start of the schedule.
    from_s: f64,
    length_s: f64,
    /// Messages due before it.
    before: f64,
    begin_per_s: f64,
    end_per_s: f64,
}

impl Schedule {
    pub(crate) fn new(start_ns: u64, rate_per_s: f64, connections: usize) -> Self {
        Self { start_ns, connections, pace: Pace::Even { interval_ns: 1e9 / rate_per_s } }
    }

    /// A schedule of stages, the first of which begins with a rate of zero.
    pub(crate) fn staged(start_ns: u64, stages: &[RateStage], connections: usize) -> Self {
        let (mut from_s, mut before, mut begin_per_s) = (0.0, 0.0, 0.0);
        let ramp = |stage: &RateStage| {
            let (length_s, end_per_s) = (stage.duration.as_secs_f64(), stage.rate_per_s);
            let ramp = Ramp { from_s, length_s, before, begin_per_s, end_per_s };
            from_s += length_s;
            before += ramp.messages();
            begin_per_s = end_per_s;
            ramp
        };
        Self { start_ns, connections, pace: Pace::Staged(stages.iter().map(ramp).collect()) }
    }

    /// Time at which message `sequence` of `connection` is due.
    pub(crate) fn due_ns(&self, connection: u64, sequence: u64) -> u64 {
        let index = (sequence * self.connections as u64 + connection) as f64;
        let after_ns = match &self.pace {
            Pace::Even { interval_ns } => index * interval_ns,
            Pace::Staged(ramps) => {
                let at = ramps.partition_point(|ramp| ramp.before + ramp.messages() <= index);
                // Behind the last stage nothing is due.
                ramps.get(at).map_or(f64::INFINITY, |ramp| ramp.due_s(index) * 1e9)
            }
        };
        self.start_ns.saturating_add(after_ns as u64)
    }
}

impl Ramp {
    fn messages(&self) -> f64 {
        (self.begin_per_s + self.end_per_s) / 2.0 * self.length_s
    }

    /// Seconds from the start of the schedule at which message `index` of it is due.
    fn due_s(&self, index: f64) -> f64 {
        let count = index - self.before;
        let slope = (self.end_per_s - self.begin_per_s) / self.length_s;
        // count = begin * t + slope / 2 * t², solved for t without a difference of nearly equal numbers.
        let root = (self.begin_per_s * self.begin_per_s + 2.0 * slope * count).max(0.0).sqrt();
        let sum = self.begin_per_s + root;
        let t = if sum > 0.0 { 2.0 * count / sum } else { 0.0 };
        self.from_s + t.min(self.length_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

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
    fn stages_ramp_up_hold_and_ramp_down() {
        let stage =
            |seconds, rate_per_s| RateStage { duration: Duration::from_secs(seconds), rate_per_s };
        // 500 messages while it rises, 1000 while it holds, 250 while it falls to 0.
        let stages = [stage(1, 1000.0), stage(1, 1000.0), stage(1, 0.0)];
        let schedule = Schedule::staged(7, &stages, 1);
        let due_s = |sequence| (schedule.due_ns(0, sequence) - 7) as f64 / 1e9;
        let near = |sequence: u64, seconds: f64| {
            assert!((due_s(sequence) - seconds).abs() < 1e-6, "{sequence}: {}", due_s(sequence));
        };
        near(0, 0.0);
        // A quarter of the messages of a ramp that begins with zero are due in its first half.
        near(125, 0.5);
        near(500, 1.0);
        near(1000, 1.5);
        near(1500, 2.0);
        near(1875, 2.5);
        assert_eq!(schedule.due_ns(0, 2000), u64::MAX, "nothing is due behind the last stage");
        let due: Vec<_> = (0..2000).map(|sequence| schedule.due_ns(0, sequence)).collect();
        assert!(due.is_sorted() && due.iter().all(|&due| due <= 7 + 3_000_000_000));
        // A stage without messages is passed over.
        let schedule = Schedule::staged(0, &[stage(2, 0.0), stage(1, 10.0)], 1);
        assert!(schedule.due_ns(0, 0) >= 2_000_000_000);
    }

    #[test]
    fn slow_rates_and_late_messages_stay_exact() {
        let schedule = Schedule::new(0, 0.5, 1);
        assert_eq!(schedule.due_ns(0, 3), 6_000_000_000);
        let schedule = Schedule::new(0, 1e6, 1);
        assert_eq!(schedule.due_ns(0, 3_600_000_000), 3_600_000_000_000);
    }
}

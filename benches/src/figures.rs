//! Figures of several rounds: each one's share of a message, and what is printed of them.

use std::time::Duration;

/// Nanoseconds of a message, one entry a round.
#[derive(Clone, Debug, Default)]
pub struct Rounds(Vec<u64>);

impl Rounds {
    /// Adds a round that took `time` for so many messages.
    pub fn add(&mut self, time: Duration, messages: u64) {
        self.0.push(time.as_nanos() as u64 / messages.max(1));
    }

    /// The lowest and the median, once there is a round.
    #[must_use]
    pub fn lowest_and_median(&self) -> (u64, u64) {
        let mut values = self.0.clone();
        values.sort_unstable();
        (values[0], values[values.len() / 2])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_have_a_lowest_and_a_median_for_each_message() {
        let mut rounds = Rounds::default();
        for nanos in [700, 300, 500, 900] {
            rounds.add(Duration::from_nanos(nanos), 10);
        }
        rounds.add(Duration::from_nanos(40), 0);
        assert_eq!(rounds.lowest_and_median(), (30, 50));
    }
}

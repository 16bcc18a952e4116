//! Flags for what the connections of a load do, where they come from, and how its rate changes.

use super::Mode;
use crate::fault::Usage;
use crate::measure::{self, RateStage, Shape, SlowShape};
use crate::source::Sources;
use crate::units;
use std::time::Duration;

/// Flags of the shape of a load.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ShapeFlags {
    /// Where connections come from: addresses and networks of this machine, which take turns, such as
    /// 127.0.0.0/8 on loopback. One address has about 28000 ports for one server
    #[arg(long, value_name = "NETWORKS")]
    source: Option<Sources>,

    /// Connections begun per second, before the load [default: as fast as they are accepted]
    #[arg(long, value_name = "PER_SECOND", value_parser = units::rate)]
    connect_rate: Option<f64>,

    /// Rates of an open loop, one behind the other: DURATION:PER_SECOND,... Each stage goes evenly from the
    /// rate before it, the first one from 0, to its own. In place of --rate, --duration and --warmup
    #[arg(long, value_name = "STAGES", value_delimiter = ',', value_parser = stage)]
    stages: Vec<RateStage>,

    /// Messages that each connection has echoed [default: 1]
    #[arg(long, value_name = "N", help_heading = "With --mode churn",
          value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    messages: Option<u32>,

    /// Connections that hardly read, beside those that are measured [default: 10]
    #[arg(long, value_name = "N", help_heading = "With --mode slow",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    slow_connections: Option<u32>,

    /// Bytes that each of them reads in a second [default: 1KiB]
    #[arg(long, value_name = "BYTES", help_heading = "With --mode slow", value_parser = units::size)]
    slow_read: Option<u64>,
}

impl ShapeFlags {
    /// The shape of a load of `mode`.
    ///
    /// # Errors
    ///
    /// When a flag is for another mode.
    pub(super) fn shape(&self, mode: Mode) -> Result<Shape, Usage> {
        self.check(mode)?;
        Ok(Shape {
            mode: match mode {
                Mode::Echo | Mode::FanOut => measure::Mode::Echo,
                Mode::Idle => measure::Mode::Idle,
                Mode::Churn => measure::Mode::Churn,
                Mode::Slow => measure::Mode::Slow,
            },
            stages: self.stages.clone(),
            connect_rate: self.connect_rate,
            sources: self.source.clone(),
            messages: self.messages.unwrap_or(1),
            slow: SlowShape {
                connections: self.slow_connections.unwrap_or(SLOW_CONNECTIONS) as usize,
                bytes_per_s: self.slow_read.unwrap_or(SLOW_READ_BYTES),
            },
        })
    }

    fn check(&self, mode: Mode) -> Result<(), Usage> {
        let is_slow = mode == Mode::Slow;
        for (is_given, flag, is_right, cure) in [
            (self.messages.is_some(), "--messages", mode == Mode::Churn, "is for --mode churn"),
            (self.slow_connections.is_some(), "--slow-connections", is_slow, "is for --mode slow"),
            (self.slow_read.is_some(), "--slow-read", is_slow, "is for --mode slow"),
            (
                !self.stages.is_empty(),
                "--stages",
                mode != Mode::Idle,
                "is for modes that have a rate, and --mode idle sends no messages: write --connect-rate",
            ),
            (
                self.connect_rate.is_some(),
                "--connect-rate",
                !matches!(mode, Mode::Churn | Mode::FanOut),
                "is for connections that stay: write --rate for churn, and leave it out for fan-out",
            ),
        ] {
            if is_given && !is_right {
                return Err(Usage(format!("{flag} {cure}")));
            }
        }
        Ok(())
    }

    /// The length of all stages together; `None` without any.
    pub(super) fn staged_duration(&self) -> Option<Duration> {
        (!self.stages.is_empty()).then(|| self.stages.iter().map(|stage| stage.duration).sum())
    }
}

/// Parses a stage such as `60s:5000`.
fn stage(text: &str) -> Result<RateStage, String> {
    let wrong = "write a duration and a rate, such as 10s:1000,60s:1000,10s:0";
    let (duration, rate) = text.split_once(':').ok_or_else(|| wrong.to_owned())?;
    let duration =
        units::positive_duration(duration).map_err(|error| format!("{wrong}: {error}"))?;
    match rate.parse::<f64>() {
        Ok(rate_per_s) if rate_per_s.is_finite() && rate_per_s >= 0.0 => {
            Ok(RateStage { duration, rate_per_s })
        }
        _ => Err(wrong.to_owned()),
    }
}

const SLOW_CONNECTIONS: u32 = 10;
const SLOW_READ_BYTES: u64 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_a_duration_and_a_rate() {
        let read = stage("1m30s:2500").unwrap();
        assert_eq!((read.duration.as_secs(), read.rate_per_s), (90, 2500.0));
        assert_eq!(stage("10s:0").unwrap().rate_per_s, 0.0);
        for text in ["", "10s", "10s:", "10s:fast", "10s:-1", "0s:5", "x:5", "10s:inf", "10s:NaN"] {
            assert!(stage(text).unwrap_err().contains("10s:1000,60s:1000"), "{text}");
        }
    }
}

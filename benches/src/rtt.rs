//! Round trips of one connection, whatever client makes them.

use crate::course::Course;
use crate::reading::{histogram, json};
use clap::Parser;
use hdrhistogram::Histogram;
use std::io::{self, Write};
use std::time::Instant;

/// Measure round trips: one connection, one message in flight; prints them as JSON
#[derive(Debug, Parser)]
pub struct Args {
    /// Which server, and for how long.
    #[command(flatten)]
    pub course: Course,

    /// Payload of a message, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 256)]
    pub size: u32,
}

/// Counts round trips from the first to the last that fits into the time.
#[derive(Debug)]
pub struct Meter {
    begin: Instant,
    sent_at: Instant,
    course: Course,
    latency_ns: Histogram<u64>,
}

impl Meter {
    /// Starts the clock: the first message goes out now.
    #[must_use]
    pub fn start(args: &Args) -> Self {
        let begin = Instant::now();
        Self { begin, sent_at: begin, course: args.course, latency_ns: histogram() }
    }

    /// Takes an echo. Returns whether to send another message, which then goes out now.
    pub fn echoed(&mut self) -> bool {
        let now = Instant::now();
        if now - self.begin >= self.course.warmup {
            self.latency_ns.saturating_record((now - self.sent_at).as_nanos() as u64);
        }
        self.sent_at = now;
        now - self.begin < self.course.warmup + self.course.duration
    }

    /// Prints one JSON object, with the names of `picows rtt --json`.
    ///
    /// # Errors
    ///
    /// When its reader is gone.
    pub fn print(&self) -> io::Result<()> {
        let rate = self.latency_ns.len() as f64 / self.course.duration.as_secs_f64();
        let us = |quantile| self.latency_ns.value_at_quantile(quantile) as f64 / 1e3;
        let spread = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)];
        let spread = spread.map(|(name, quantile)| (name.to_owned(), us(quantile)));
        writeln!(io::stdout(), "{{\"rate_per_s\": {rate:.1}, \"latency_us\": {}}}", json(&spread))
    }
}

//! The latencies of a run as an HdrHistogram log, version 2: an interval for each part of the window.

use super::cannot_write;
use crate::fault::Fault;
use crate::measure::Measurement;
use crate::stdio::one_line;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Writes the log. Values are nanoseconds; the maxima of its lines are milliseconds, as tools expect it.
///
/// # Errors
///
/// When the file cannot be written.
pub(crate) fn write(path: &Path, url: &str, measured: &Measurement) -> Result<(), Fault> {
    let log = render(url, measured)?;
    std::fs::write(path, log).map_err(|error| cannot_write(path, &error))
}

fn render(url: &str, measured: &Measurement) -> Result<Vec<u8>, Fault> {
    let (mut log, mut serializer) = (Vec::new(), V2DeflateSerializer::new());
    let mut builder = IntervalLogWriterBuilder::new();
    builder
        .add_comment(&format!("picows {}: {}", env!("CARGO_PKG_VERSION"), one_line(url)))
        .with_start_time(measured.began)
        .with_base_time(measured.began)
        .with_max_value_divisor(NANOS_PER_MILLI);
    let mut writer = builder.begin_log_with(&mut log, &mut serializer)?;
    let mut begin_ns = 0;
    for part in &measured.tally.parts {
        let begin = Duration::from_nanos(begin_ns);
        if begin >= measured.duration {
            // A signal came before.
            break;
        }
        let length = Duration::from_nanos(part.end_ns - begin_ns);
        writer
            .write_histogram(&part.latencies, begin, length, None)
            .map_err(|error| io::Error::other(error.to_string()))?;
        begin_ns = part.end_ns;
    }
    Ok(log)
}

const NANOS_PER_MILLI: f64 = 1e6;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::{LoadPlan, Tally, tests::plan};
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;
    use hdrhistogram::Histogram;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
    use std::time::SystemTime;

    fn measured(plan: &LoadPlan) -> Measurement {
        let mut tally = Tally::new(plan);
        for (index, part) in tally.parts.iter_mut().enumerate() {
            part.latencies.record_n(1_000_000 * (index as u64 + 1), 5).unwrap();
        }
        Measurement {
            began: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000),
            duration: plan.duration,
            bin: plan.duration / 100,
            tally,
            rounds: Vec::new(),
            client_cpu: Duration::ZERO,
            server_cpu: None,
            server_memory: None,
            interrupted: None,
        }
    }

    #[test]
    fn the_log_reads_back_as_it_was_measured() {
        let plan = plan();
        let measured = measured(&plan);
        let log = render("ws://h/\n#[Forged: 1]", &measured).unwrap();
        let text = str::from_utf8(&log).unwrap();
        assert!(text.contains("#[BaseTime: 1000000000.000 "), "{text}");
        assert!(!text.lines().any(|line| line.starts_with("#[Forged")), "{text}");
        let mut end_s = 0.0;
        let mut intervals = 0;
        for entry in IntervalLogIterator::new(&log) {
            let LogEntry::Interval(interval) = entry.unwrap() else { continue };
            assert!((interval.start_timestamp().as_secs_f64() - end_s).abs() < 1e-6);
            end_s += interval.duration().as_secs_f64();
            let bytes = BASE64_STANDARD.decode(interval.encoded_histogram()).unwrap();
            let read: Histogram<u64> = Deserializer::new().deserialize(&mut &bytes[..]).unwrap();
            assert_eq!(read, measured.tally.parts[intervals].latencies);
            assert!((interval.max() - (intervals as f64 + 1.0)).abs() < 0.01, "milliseconds");
            intervals += 1;
        }
        assert_eq!(intervals, measured.tally.parts.len());
        assert!((end_s - plan.duration.as_secs_f64()).abs() < 1e-6);
    }

    #[test]
    fn a_run_that_was_cut_short_has_the_intervals_that_it_had() {
        let plan = plan();
        let measured = Measurement { duration: plan.duration / 4, ..measured(&plan) };
        let log = render("ws://h/", &measured).unwrap();
        let intervals = IntervalLogIterator::new(&log)
            .filter(|entry| matches!(entry, Ok(LogEntry::Interval(_))))
            .count();
        assert_eq!(intervals, measured.tally.parts.len() / 4);
    }
}

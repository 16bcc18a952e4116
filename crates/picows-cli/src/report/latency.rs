//! Distribution of latencies, and their curve by percentile.

use super::round;
use hdrhistogram::Histogram;
use serde::Serialize;

/// Distribution of times, in microseconds. All are zero if there are no samples.
#[derive(Debug, Serialize)]
pub(crate) struct Spread {
    pub(crate) samples: u64,
    pub(crate) min: f64,
    pub(crate) mean: f64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    #[serde(rename = "p99.9")]
    pub(crate) p99_9: f64,
    pub(crate) max: f64,
}

/// A point of the curve of latencies.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Point {
    pub(crate) percentile: f64,
    pub(crate) latency_us: f64,
}

impl Spread {
    pub(crate) fn new(times_ns: &Histogram<u64>) -> Self {
        let at = |quantile| micros(times_ns.value_at_quantile(quantile));
        Self {
            samples: times_ns.len(),
            min: micros(if times_ns.is_empty() { 0 } else { times_ns.min() }),
            mean: round(times_ns.mean() / 1e3),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            max: micros(times_ns.max()),
        }
    }
}

/// Returns the latencies at percentiles ever closer to 100, as far as there are samples.
pub(super) fn curve(latencies_ns: &Histogram<u64>) -> Vec<Point> {
    let point = |quantile: f64| Point {
        percentile: (quantile * 1e10).round() / 1e8,
        latency_us: micros(latencies_ns.value_at_quantile(quantile)),
    };
    let mut points: Vec<_> = (0..)
        .map(|step| 1.0 - 10_f64.powf(-f64::from(step) / STEPS_PER_DIGIT))
        .take_while(|quantile| (1.0 - quantile) * latencies_ns.len() as f64 >= 1.0)
        .map(point)
        .collect();
    points.extend((!latencies_ns.is_empty()).then(|| point(1.0)));
    points
}

fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1e3
}

/// Points of the curve from 0 to 90 %, from there to 99 %, and so on.
const STEPS_PER_DIGIT: f64 = 10.0;

#[cfg(test)]
mod tests {
    use super::super::tests::report_of;
    use crate::measure::tests::plan;

    #[test]
    fn the_curve_rises_to_the_maximum() {
        let report = report_of(&plan(), 100_000);
        let points = &report.latency_by_percentile;
        assert_eq!(points.first().unwrap().percentile, 0.0);
        assert_eq!(points.last().unwrap().percentile, 100.0);
        assert!(
            points.is_sorted_by(|a, b| a.percentile < b.percentile && a.latency_us <= b.latency_us)
        );
        assert!(points.len() > 40, "{}", points.len());
    }
}

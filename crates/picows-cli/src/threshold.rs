//! Thresholds of `--fail-if`: a figure, a comparison and a value, such as `p99>5ms`.

use crate::units::{grouped, time};
use serde::Serialize;
use serde_json::Value;
use std::fmt;
use std::str::FromStr;

/// A condition under which a load has failed.
#[derive(Clone, Debug)]
pub(crate) struct Threshold {
    text: String,
    figure: &'static Figure,
    is_above: bool,
    is_equal_included: bool,
    value: f64,
}

/// A threshold, and what the run had.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Verdict {
    /// The threshold, as it was given.
    pub(crate) fail_if: String,
    /// The figure; `null` if it was not measured, which fails.
    pub(crate) value: Option<f64>,
    pub(crate) failed: bool,
    #[serde(skip)]
    shown: String,
}

#[derive(Debug)]
struct Figure {
    name: &'static str,
    /// Where it is in a report; the first that is there.
    paths: &'static [&'static str],
    kind: Kind,
}

/// What the value of a figure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// In microseconds.
    Time,
    Number,
    Bytes,
}

const fn time_of(name: &'static str, paths: &'static [&'static str]) -> Figure {
    Figure { name, paths, kind: Kind::Time }
}

const fn number_of(name: &'static str, paths: &'static [&'static str]) -> Figure {
    Figure { name, paths, kind: Kind::Number }
}

const FIGURES: &[Figure] = &[
    time_of("p50", &["/latency_us/p50", "/latency_all_us/p50"]),
    time_of("p90", &["/latency_us/p90", "/latency_all_us/p90"]),
    time_of("p99", &["/latency_us/p99", "/latency_all_us/p99"]),
    time_of("p99.9", &["/latency_us/p99.9", "/latency_all_us/p99.9"]),
    time_of("max", &["/latency_us/max", "/latency_all_us/max"]),
    time_of("mean", &["/latency_us/mean", "/latency_all_us/mean"]),
    time_of("connect-p50", &["/connect_us/p50"]),
    time_of("connect-p99", &["/connect_us/p99"]),
    time_of("connect-max", &["/connect_us/max"]),
    number_of("rate", &["/rate_per_s", "/deliveries_per_s"]),
    number_of("errors", &["/errors"]),
    number_of("unsent", &["/unsent"]),
    number_of("client-cpu", &["/client_cpu_share"]),
    number_of("server-cpu", &["/server_cpu_share"]),
    Figure {
        name: "bytes-per-connection",
        paths: &["/server_memory/bytes_per_connection"],
        kind: Kind::Bytes,
    },
];

impl Threshold {
    /// The name of its figure.
    pub(crate) fn figure(&self) -> &'static str {
        self.figure.name
    }

    /// Whether it is about the count of errors, which then does not fail the run by itself.
    pub(crate) fn is_of_errors(&self) -> bool {
        self.figure.name == "errors"
    }

    /// Checks the threshold against a report.
    pub(crate) fn check(&self, report: &Value) -> Verdict {
        let value = self.value_in(report);
        let failed = value.is_none_or(|value| {
            let is_beyond = if self.is_above { value > self.value } else { value < self.value };
            is_beyond || (self.is_equal_included && value == self.value)
        });
        let name = self.figure.name;
        let shown = match value {
            Some(value) => format!("{}: {name} is {}", self.text, self.figure.kind.show(value)),
            None => format!("{}: {name} was not measured", self.text),
        };
        Verdict { fail_if: self.text.clone(), value, failed, shown }
    }

    fn value_in(&self, report: &Value) -> Option<f64> {
        let path = self.figure.paths.iter().find(|path| report.pointer(path).is_some())?;
        if self.figure.kind == Kind::Time {
            // Without samples the times are 0, and mean nothing.
            let spread = path.rsplit_once('/').map_or("", |(spread, _)| spread);
            let samples = report.pointer(&format!("{spread}/samples"))?.as_u64()?;
            if samples == 0 {
                return None;
            }
        }
        report.pointer(path)?.as_f64()
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Verdict {
    /// The threshold and the figure, for people.
    pub(crate) fn describe(&self) -> &str {
        &self.shown
    }
}

impl Kind {
    fn show(self, value: f64) -> String {
        match self {
            Self::Time => time(value),
            Self::Bytes => format!("{} B", grouped(value.round() as u64)),
            Self::Number if value.fract() == 0.0 => grouped(value as u64),
            Self::Number => format!("{value:.3}"),
        }
    }

    fn parse(self, text: &str, figure: &str) -> Result<f64, String> {
        let number =
            |text: &str| text.trim().parse::<f64>().ok().filter(|it| it.is_finite() && *it >= 0.0);
        match self {
            Self::Number => number(text)
                .ok_or_else(|| format!("{figure} is a number: write it as {figure}>100")),
            Self::Bytes => match text.trim().parse::<bytesize::ByteSize>() {
                Ok(size) => Ok(size.as_u64() as f64),
                Err(_) => Err(format!("{figure} is a size: write it as {figure}>4KiB")),
            },
            Self::Time => {
                let units = [("ns", 1e-3), ("us", 1.0), ("µs", 1.0), ("ms", 1e3), ("s", 1e6)];
                let parts = units.iter().find_map(|(unit, factor)| {
                    text.trim().strip_suffix(unit).and_then(number).map(|value| value * factor)
                });
                parts.ok_or_else(|| match number(text) {
                    Some(_) => format!("a unit is missing: write {text}us, {text}ms or {text}s"),
                    None => format!("{figure} is a time: write it as {figure}>5ms"),
                })
            }
        }
    }
}

impl FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let form = "write a figure, a comparison and a value, such as p99>5ms or 'rate<50000'";
        let at = text.find(['<', '>', '=']).ok_or_else(|| form.to_owned())?;
        let (name, rest) = (text[..at].trim(), &text[at..]);
        let (operator, value) = match rest.as_bytes() {
            [b'<' | b'>', b'=', ..] => rest.split_at(2),
            [b'<' | b'>', ..] => rest.split_at(1),
            _ => return Err(format!("compare with <, <=, > or >=: {form}")),
        };
        let figure = FIGURES.iter().find(|figure| figure.name == name).ok_or_else(|| {
            let names: Vec<_> = FIGURES.iter().map(|figure| figure.name).collect();
            format!("there is no figure {name:?}; there are {}", names.join(", "))
        })?;
        Ok(Self {
            text: text.to_owned(),
            figure,
            is_above: operator.starts_with('>'),
            is_equal_included: operator.ends_with('='),
            value: figure.kind.parse(value, name)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_threshold_is_a_figure_a_comparison_and_a_value() {
        let report = json!({
            "latency_us": {"p99": 5000.0, "p99.9": 9000.5, "samples": 9},
            "rate_per_s": 40_000.0,
            "errors": 0,
            "unsent": null,
            "server_memory": {"bytes_per_connection": 4096.0},
        });
        for (text, failed) in [
            ("p99>5ms", false),
            ("p99>=5ms", true),
            ("p99 > 4.9 ms", true),
            ("p99<5000us", false),
            ("p99<=5000µs", true),
            ("p99.9>9ms", true),
            ("p99.9>0.01s", false),
            ("rate<50000", true),
            ("rate<40000", false),
            ("errors>0", false),
            ("bytes-per-connection>4KiB", false),
            ("bytes-per-connection>4000", true),
            // What was not measured fails.
            ("unsent>5", true),
            ("connect-p99>5s", true),
        ] {
            let threshold: Threshold =
                text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            let verdict = threshold.check(&report);
            assert_eq!(verdict.failed, failed, "{text}: {verdict:?}");
            assert!(verdict.describe().starts_with(text), "{verdict:?}");
        }
        let none = json!({"latency_us": {"p99": 0.0, "samples": 0}});
        let verdict = "p99>5ms".parse::<Threshold>().unwrap().check(&none);
        assert!(verdict.failed && verdict.describe().contains("not measured"), "{verdict:?}");
        let fan_out =
            json!({"latency_all_us": {"p99": 7.0, "samples": 1}, "deliveries_per_s": 5.0});
        assert!("p99>6us".parse::<Threshold>().unwrap().check(&fan_out).failed);
        assert!(!"rate<5".parse::<Threshold>().unwrap().check(&fan_out).failed);
    }

    #[test]
    fn nonsense_is_refused_with_the_cure() {
        for (text, cure) in [
            ("", "p99>5ms"),
            ("p99", "p99>5ms"),
            ("p99=5ms", "<, <=, > or >="),
            ("p99==5ms", "<, <=, > or >="),
            ("p42>5ms", "there are p50, p90"),
            (">5ms", "there are p50, p90"),
            ("p99>5", "a unit is missing: write 5us, 5ms or 5s"),
            ("p99>fast", "write it as p99>5ms"),
            ("p99>-5ms", "write it as p99>5ms"),
            ("p99>", "write it as p99>5ms"),
            ("rate<5ms", "rate is a number"),
            ("rate<NaN", "rate is a number"),
            ("errors>", "errors is a number"),
            ("bytes-per-connection>much", "write it as bytes-per-connection>4KiB"),
        ] {
            let error = text.parse::<Threshold>().map(drop).unwrap_err();
            assert!(error.contains(cure), "{text}: {error}");
        }
    }
}

//! The report as one self-contained HTML page, with two charts.
//!
//! It is well-formed XML as well, so that any tool can read it.

use super::chart::{Chart, escape, even_ticks};
use super::table::{heading, rows};
use super::{Point, Report};
use crate::threshold::Verdict;
use crate::units::{grouped, time};
use std::fmt::Write;

/// What a page shows above its charts.
pub(crate) struct Page<'a> {
    pub(crate) command: &'a str,
    pub(crate) url: &'a str,
    pub(crate) heading: &'a str,
    pub(crate) thresholds: &'a [Verdict],
    pub(crate) warnings: &'a [String],
    pub(crate) first_error: Option<&'a str>,
    pub(crate) rows: &'a [(String, String)],
}

impl Page<'_> {
    /// Renders the page, with `charts` below the table.
    pub(crate) fn render(&self, charts: &str) -> String {
        let mut page = format!(
            "<!DOCTYPE html>\n<html lang=\"en\" xmlns=\"http://www.w3.org/1999/xhtml\">\n<head>\n\
             <meta charset=\"utf-8\"/>\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
             <title>picows {0} {1}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
             <h1>picows {0}</h1>\n<p>{2}</p>\n",
            self.command,
            escape(self.url),
            escape(self.heading)
        );
        for verdict in self.thresholds.iter().filter(|it| it.failed) {
            let text = escape(verdict.describe());
            let _ = writeln!(page, "<p class=\"warning\">Missed: {text}</p>");
        }
        for warning in self.warnings {
            let _ = writeln!(page, "<p class=\"warning\">Warning: {}</p>", escape(warning));
        }
        if let Some(error) = self.first_error {
            let _ = writeln!(page, "<p class=\"warning\">First error: {}</p>", escape(error));
        }
        page.push_str("<table>\n");
        for (name, value) in self.rows {
            let _ = writeln!(page, "<tr><th>{}</th><td>{}</td></tr>", escape(name), escape(value));
        }
        page.push_str("</table>\n");
        page.push_str(charts);
        page.push_str("</body>\n</html>\n");
        page
    }
}

/// Renders the page of a report.
pub(super) fn render(report: &Report) -> String {
    let mut charts = String::new();
    if report.mode != "idle" {
        charts.push_str("<h2>Latency by percentile</h2>\n");
        charts.push_str(&latencies(report).render());
        charts.push_str("<h2>Throughput over time</h2>\n");
        charts.push_str(&throughput(report).render());
    }
    let page = Page {
        command: report.command,
        url: &report.url,
        heading: &heading(report),
        thresholds: &report.thresholds,
        warnings: &report.warnings,
        first_error: report.first_error.as_deref(),
        rows: &rows(report),
    };
    page.render(&charts)
}

/// Spaces the nines evenly, as the rare latencies matter most.
fn latencies(report: &Report) -> Chart<'static> {
    let points = &report.latency_by_percentile;
    let nines = |point: &Point| -((100.0 - point.percentile) / 100.0).log10();
    let last = points.iter().rev().nth(1).map_or(1.0, nines);
    // 100 % would be infinitely far, so it is placed where the next point would be.
    let position = |point: &Point| {
        if point.percentile >= 100.0 { last + 0.1 } else { nines(point) }
    };
    let labels = ["0 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %", "99.9999 %"];
    let ticks = labels.iter().enumerate().map(|(nine, label)| (nine as f64, (*label).to_owned()));
    let highest = points.iter().map(|point| point.latency_us).fold(0.0, f64::max);
    Chart {
        title: "Latency by percentile",
        x_name: "percentile",
        y_name: "latency",
        points: points.iter().map(|point| (position(point), point.latency_us)).collect(),
        x_ticks: ticks.take_while(|(nine, _)| *nine <= last + 0.1).collect(),
        y_ticks: even_ticks(highest, time),
    }
}

fn throughput(report: &Report) -> Chart<'static> {
    let rates = &report.throughput.rate_per_s;
    let interval = report.throughput.interval_s;
    let highest = rates.iter().copied().fold(0.0, f64::max);
    // A rate belongs to its interval, so it is placed in the middle of it.
    let middle = |index: usize| (index as f64 + 0.5) * interval;
    Chart {
        title: "Throughput over time",
        x_name: "seconds",
        y_name: "messages/s",
        points: rates.iter().enumerate().map(|(index, rate)| (middle(index), *rate)).collect(),
        x_ticks: even_ticks(report.measured_s, |value| format!("{}", (value * 1e6).round() / 1e6)),
        y_ticks: even_ticks(highest, |value| grouped(value.round() as u64)),
    }
}

const STYLE: &str = "
:root { color-scheme: light dark; --line: #1f6feb; --grid: #8884; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 860px; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; }
th, td { padding: .15rem 1rem .15rem 0; border-bottom: 1px solid var(--grid); font-weight: normal; }
th { text-align: left; }
td { text-align: right; font-variant-numeric: tabular-nums; }
svg { width: 100%; height: auto; }
svg text { font-size: 12px; fill: currentColor; }
.grid { stroke: var(--grid); }
.curve { fill: none; stroke: var(--line); stroke-width: 2; }
.warning { color: #c60; }
";

#[cfg(test)]
mod tests {
    use super::super::tests::report_of;
    use super::*;
    use crate::measure::LoadPlan;
    use crate::measure::tests::plan;

    /// Asserts that every element that begins ends, in order, and that quotes and `&` are in place.
    fn assert_well_formed(page: &str) {
        let mut open = Vec::new();
        let mut rest = page.strip_prefix("<!DOCTYPE html>").unwrap();
        while let Some(start) = rest.find('<') {
            let text = &rest[..start];
            assert!(!text.contains('>'), "{text}");
            for reference in text.split('&').skip(1) {
                assert!(
                    reference.split_once(';').is_some_and(|(name, _)| name.len() < 6),
                    "{text}"
                );
            }
            let (tag, after) = rest[start + 1..].split_once('>').unwrap();
            assert!(!tag.contains('<') && tag.matches('"').count() % 2 == 0, "{tag}");
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name));
            } else if !tag.ends_with('/') {
                open.push(tag.split_whitespace().next().unwrap());
            }
            rest = after;
        }
        assert!(open.is_empty(), "{open:?}");
    }

    #[test]
    fn the_page_is_well_formed_and_needs_nothing_else() {
        for messages in [0, 1, 10, 100_000] {
            let plan = LoadPlan { url: "ws://h/?a=<b>&c='\"".into(), ..plan() };
            let mut report = report_of(&plan, messages);
            report.first_error = Some("<script>alert(1)</script>".into());
            let page = render(&report);
            assert_well_formed(&page);
            assert_eq!(page.matches("<svg").count(), 2);
            for foreign in ["<script", "src=", "href=", "url(", "@import", "NaN", "inf"] {
                assert!(!page.contains(foreign), "{foreign}, messages={messages}");
            }
        }
    }
}

//! A chart as SVG: one curve in a frame with labelled axes.

use std::fmt::Write;

/// One chart. The caller chooses positions and labels of the axes.
pub(super) struct Chart<'a> {
    pub(super) title: &'a str,
    pub(super) x_name: &'a str,
    pub(super) y_name: &'a str,
    pub(super) points: Vec<(f64, f64)>,
    pub(super) x_ticks: Vec<(f64, String)>,
    /// From zero to the top.
    pub(super) y_ticks: Vec<(f64, String)>,
}

impl Chart<'_> {
    /// Renders one `svg` element.
    pub(super) fn render(&self) -> String {
        let x_max = largest(self.points.iter().map(|point| point.0).chain(self.ticks_of_x()));
        let y_max = largest(
            self.points.iter().map(|it| it.1).chain(self.y_ticks.iter().map(|tick| tick.0)),
        );
        let x = |value: f64| LEFT + value / x_max * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| HEIGHT - BOTTOM - value / y_max * (HEIGHT - TOP - BOTTOM);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             role=\"img\"><title>{}</title>\n",
            escape(self.title)
        );
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        for (value, label) in &self.x_ticks {
            let at = x(*value);
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{bottom}\"/>\
                 <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                bottom + 18.0,
                escape(label)
            );
        }
        for (value, label) in &self.y_ticks {
            let at = y(*value);
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{right}\" y2=\"{at:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 8.0,
                at + 4.0,
                escape(label)
            );
        }
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
             <text x=\"{LEFT}\" y=\"{:.1}\">{}</text>",
            (LEFT + right) / 2.0,
            HEIGHT - 6.0,
            escape(self.x_name),
            TOP - 10.0,
            escape(self.y_name)
        );
        let line: Vec<_> =
            self.points.iter().map(|(px, py)| format!("{:.1},{:.1}", x(*px), y(*py))).collect();
        let _ = writeln!(svg, "<polyline class=\"curve\" points=\"{}\"/>\n</svg>", line.join(" "));
        svg
    }

    fn ticks_of_x(&self) -> impl Iterator<Item = f64> {
        self.x_ticks.iter().map(|tick| tick.0)
    }
}

/// Returns about five round positions from zero up to at least `max`.
pub(super) fn even_ticks(max: f64, label: impl Fn(f64) -> String) -> Vec<(f64, String)> {
    let rough = if max > 0.0 { max / 4.0 } else { 0.25 };
    let magnitude = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * magnitude)
        .find(|step| *step >= rough * 0.999)
        .unwrap_or(10.0 * magnitude);
    let count = (max / step - 1e-9).ceil().max(1.0) as u32;
    (0..=count).map(|index| (f64::from(index) * step, label(f64::from(index) * step))).collect()
}

/// Escapes text for XML.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // XML does not allow control characters, not even escaped.
            control if control.is_control() && !control.is_ascii_whitespace() => {}
            other => escaped.push(other),
        }
    }
    escaped
}

/// Returns the largest value, or 1 if none is positive, so that the caller can divide by it.
fn largest(values: impl Iterator<Item = f64>) -> f64 {
    let largest = values.fold(0.0, f64::max);
    if largest > 0.0 { largest } else { 1.0 }
}

const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 32.0;
const BOTTOM: f64 = 52.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_reach_the_top() {
        for max in [0.0, 0.3, 1.0, 7.0, 42.0, 99.0, 100.0, 123_456.0] {
            let ticks = even_ticks(max, |value| value.to_string());
            assert_eq!(ticks[0].0, 0.0);
            assert!(ticks.last().unwrap().0 >= max, "{max}: {ticks:?}");
            assert!((2..=6).contains(&ticks.len()), "{max}: {ticks:?}");
        }
    }

    #[test]
    fn text_cannot_break_out() {
        assert_eq!(escape("<a href='x'>&\u{1}"), "&lt;a href=&#39;x&#39;&gt;&amp;");
    }

    #[test]
    fn points_stay_within_the_frame() {
        let chart = Chart {
            title: "t",
            x_name: "x",
            y_name: "y",
            points: vec![(0.0, 0.0), (5.0, 10.0), (10.0, 3.0)],
            x_ticks: vec![],
            y_ticks: vec![],
        };
        let svg = chart.render();
        assert!(svg.contains("points=\"80.0,268.0 428.0,32.0 776.0,197.2\""), "{svg}");
    }
}

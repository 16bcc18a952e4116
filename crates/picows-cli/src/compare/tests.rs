//! Comparisons of synthetic runs: false alarms, and differences that are found.

use super::*;
use serde_json::json;

/// Seeded random numbers (`SplitMix64`).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Nearly normal, of variance 1.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }

    /// With a tail, as latencies have it.
    fn skewed(&mut self) -> f64 {
        -(1.0 - self.unit()).ln()
    }
}

/// The p50, p99 and rate of one run, or a part of one, whose latencies are `factor` times those of another.
fn sample(random: &mut Random, factor: f64) -> [f64; 3] {
    let (p50, tail) = (15.0 * (1.0 + 0.03 * random.normal()), 1.0 + 0.04 * random.skewed());
    let rate = 60_000.0 * (1.0 + 0.02 * random.normal());
    [rate / factor, factor * p50, factor * 40.0 * tail]
}

/// A report with twenty parts.
fn report(random: &mut Random, factor: f64) -> Run {
    let parts: Vec<_> = (0..20).map(|_| sample(random, factor)).collect();
    let mean = |of: usize| parts.iter().map(|it| it[of]).sum::<f64>() / 20.0;
    let json = json!({
        "command": "load",
        "mode": "echo",
        "settings": {"connections": 64},
        "rate_per_s": mean(0),
        "latency_us": {"p50": mean(1), "p99": mean(2)},
        "throughput": {"rate_per_s": parts.iter().map(|it| it[0]).collect::<Vec<_>>()},
        "parts": parts.iter().map(|it| json!({"p50": it[1], "p99": it[2]})).collect::<Vec<_>>(),
        "errors": 0,
        "interrupted": null,
    });
    Run::parse("run.json".to_owned(), &json.to_string()).unwrap()
}

/// Compares 1,000 pairs of so many values each. Returns how many differ in any figure, and in each.
fn differing(seed: u64, values: usize, factor: f64) -> (u64, [u64; 3]) {
    let (mut any, mut each) = (0, [0; 3]);
    for pair in 0..1000 {
        let mut random = Random(seed + pair);
        let mut several =
            |factor| (0..values).map(|_| sample(&mut random, factor)).collect::<Vec<_>>();
        let (a, b) = (several(1.0), several(factor));
        let of = |values: &[[f64; 3]], at: usize| values.iter().map(|it| it[at]).collect();
        let found: Vec<Values<'_>> =
            (0..3).map(|at| (&figures::ALL[at], of(&a, at), of(&b, at))).collect();
        let verdicts = judge(&found).unwrap();
        let differs = |it: &Compared| it.verdict != Verdict::NoDifference;
        any += u64::from(verdicts.iter().any(differs));
        for (count, verdict) in each.iter_mut().zip(&verdicts) {
            *count += u64::from(differs(verdict));
        }
    }
    (any, each)
}

#[test]
fn equal_loads_are_seldom_different_and_a_tenth_is_found() {
    for (seed, values) in [(1, 20), (1_000_000, 6)] {
        let (any, each) = differing(seed, values, 1.0);
        assert!(any <= 20, "{any} of 1000 with {values} values, seed {seed}: {each:?}");
    }
    for (seed, values) in [(2_000_000, 20), (3_000_000, 12)] {
        let (_, each) = differing(seed, values, 1.1);
        assert!(each.iter().all(|&found| found >= 950), "{each:?} with {values}, seed {seed}");
    }
}

#[test]
fn better_and_worse_go_by_the_figure() {
    let mut random = Random(5);
    let (a, b) = ([report(&mut random, 1.0)], [report(&mut random, 1.5)]);
    let verdicts = |a: &[Run], b: &[Run]| {
        let comparison = Comparison::new(a, b).unwrap();
        comparison.figures.iter().map(|it| (it.name, it.verdict)).collect::<Vec<_>>()
    };
    let all = |verdict| [("rate", verdict), ("latency p50", verdict), ("latency p99", verdict)];
    assert_eq!(verdicts(&a, &b), all(Verdict::Worse));
    assert_eq!(verdicts(&b, &a), all(Verdict::Better));
    let table = Comparison::new(&a, &a).unwrap().table();
    for text in
        ["1 run of A", "99 % intervals", "no difference", "by parts of a run", "warning: one run"]
    {
        assert!(table.contains(text), "{text} in {table}");
    }
    assert!(table.lines().next().unwrap().len() <= 100 && !table.contains("worse"), "{table}");
}

#[test]
fn rounds_are_compared_where_both_have_enough() {
    let run = |seed, factor, count: usize| {
        let mut random = Random(seed);
        let mut run = report(&mut random, factor);
        let round = |it: [f64; 3]| {
            json!({
                "rate_per_s": it[0],
                "latency_us": {"p50": it[1], "p99": it[2]},
                "server_cpu_us_per_message": it[1] / 2.0,
            })
        };
        let rounds: Vec<_> = (0..count).map(|_| round(sample(&mut random, factor))).collect();
        run.json["rounds"] = json!(rounds);
        [run]
    };
    let of = |a: &[Run], b: &[Run]| Comparison::new(a, b).unwrap();
    let comparison = of(&run(8, 1.0, 12), &run(9, 1.5, 12));
    assert_eq!((comparison.values, comparison.figures.len()), ("rounds of a run", 4));
    assert!(comparison.figures.iter().all(|it| it.verdict == Verdict::Worse), "{comparison:?}");
    assert!(comparison.table().contains("by rounds of a run"), "{}", comparison.table());
    let comparison = of(&run(8, 1.0, 12), &run(9, 1.0, 12));
    assert!(comparison.figures.iter().all(|it| it.verdict == Verdict::NoDifference));
    // Too few, or of one run only.
    for (a, b) in [(3, 3), (12, 0), (0, 12)] {
        let comparison = of(&run(8, 1.0, a), &run(9, 1.0, b));
        assert_eq!(comparison.values, "parts of a run", "{a} {b}");
    }
}

#[test]
fn reports_that_do_not_fit_are_named_with_the_cure() {
    let mut random = Random(6);
    let of = |json: serde_json::Value| Run::parse("x.json".to_owned(), &json.to_string());
    for (text, word) in [
        ("", "x.json is no report"),
        ("[]", "no report of a load"),
        (r#"{"command":"doctor"}"#, "no report of a load"),
        (r#"{"command":"load"}"#, "older version"),
    ] {
        let error = Run::parse("x.json".to_owned(), text).map(drop).unwrap_err();
        assert!(error.contains(word), "{error}");
    }
    let idle = of(json!({"command": "load", "mode": "idle"})).unwrap();
    let error = Comparison::new(&[report(&mut random, 1.0)], &[idle]).unwrap_err();
    assert!(error.0.contains("--mode echo") && error.0.contains("--mode idle"), "{error}");
    let idle = || of(json!({"command": "load", "mode": "idle"})).unwrap();
    let error = Comparison::new(&[idle()], &[idle()]).unwrap_err();
    assert!(error.0.contains("repeat the runs"), "{error}");
    let mut several = |count| (0..count).map(|_| report(&mut random, 1.0)).collect::<Vec<_>>();
    let error = Comparison::new(&several(3), &several(5)).unwrap_err();
    assert!(error.0.contains("at least 6 of each: repeat the runs"), "{error}");
    let mut other = report(&mut Random(7), 1.0);
    other.json["settings"]["connections"] = json!(65);
    let comparison = Comparison::new(&several(1), &[other]).unwrap();
    assert!(comparison.warnings[0].contains("different settings: connections"), "{comparison:?}");
}

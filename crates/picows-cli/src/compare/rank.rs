//! The ratio of two samples with an interval, by ranks: no assumption about how values are distributed.
//!
//! The interval belongs to the test of Mann and Whitney, and the estimate is that of Hodges and Lehmann: the
//! median of all ratios of a value of B to one of A. Both are computed on logarithms, so that the ratio of B to
//! A is the inverse of that of A to B.

/// A ratio, and the interval that holds the true one in all but `alpha` of cases.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Interval {
    pub(crate) ratio: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Interval {
    /// Whether 1, which is no difference, is outside of the interval.
    pub(crate) fn is_different(&self) -> bool {
        self.low > 1.0 || self.high < 1.0
    }
}

/// Returns the ratio of `b` to `a`, both of positive values; `None` if there are too few values for an interval
/// of this certainty.
pub(crate) fn interval(a: &[f64], b: &[f64], alpha: f64) -> Option<Interval> {
    let rank = critical_rank(a.len(), b.len(), alpha)?;
    let logs = |values: &[f64]| values.iter().map(|value| value.ln()).collect::<Vec<_>>();
    let (a, b) = (logs(a), logs(b));
    let mut ratios: Vec<f64> = a.iter().flat_map(|a| b.iter().map(move |b| b - a)).collect();
    ratios.sort_unstable_by(f64::total_cmp);
    let middle = ratios.len() / 2;
    let median = if ratios.len().is_multiple_of(2) {
        f64::midpoint(ratios[middle - 1], ratios[middle])
    } else {
        ratios[middle]
    };
    let (low, high) = (ratios[rank - 1], ratios[ratios.len() - rank]);
    Some(Interval { ratio: median.exp(), low: low.exp(), high: high.exp() })
}

/// Values that each of two equal samples needs for an interval.
pub(crate) fn values_needed(alpha: f64) -> usize {
    (1..).find(|&count| critical_rank(count, count, alpha).is_some()).unwrap_or(usize::MAX)
}

/// Returns the rank, from 1, of the ratio that is the lower end of the interval: the largest for which the
/// statistic of Mann and Whitney is below it with a probability of at most `alpha / 2`.
fn critical_rank(a: usize, b: usize, alpha: f64) -> Option<usize> {
    let pairs = a * b;
    if pairs > EXACT_PAIRS_MAX {
        // Nearly normal by far.
        let (mean, spread) = (pairs as f64 / 2.0, (pairs * (a + b + 1)) as f64 / 12.0);
        let rank = (mean - normal_quantile(alpha / 2.0) * spread.sqrt()).floor();
        return (rank >= 1.0).then_some(rank as usize);
    }
    // Orders of the values, by how many pairs have the value of B below that of A: the coefficients of a
    // Gaussian binomial. Only small ones are needed, which are exact.
    let mut orders = vec![0.0; pairs / 2 + 1];
    orders[0] = 1.0;
    let mut all = 1.0;
    for factor in 1..=a {
        for index in (b + factor..orders.len()).rev() {
            orders[index] -= orders[index - b - factor];
        }
        for index in factor..orders.len() {
            orders[index] += orders[index - factor];
        }
        all *= (b + factor) as f64 / factor as f64;
    }
    let mut below = 0.0;
    let rank = orders.iter().take_while(|count| {
        below += **count / all;
        below <= alpha / 2.0
    });
    Some(rank.count()).filter(|&rank| rank > 0)
}

/// Returns the value that a standard normal one exceeds with this probability, below a half: by bisection.
fn normal_quantile(probability: f64) -> f64 {
    let (mut low, mut high) = (0.0, 40.0);
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        if upper_tail(middle) > probability { low = middle } else { high = middle }
    }
    low
}

/// The probability that a standard normal value exceeds `x >= 0` (Abramowitz and Stegun 7.1.26, to 1e-7).
fn upper_tail(x: f64) -> f64 {
    let z = x / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let series = [1.061_405_429, -1.453_152_027, 1.421_413_741, -0.284_496_736, 0.254_829_592];
    let polynomial = series.iter().fold(0.0, |sum, factor| (sum + factor) * t);
    polynomial * (-z * z).exp() / 2.0
}

/// Pairs up to which the distribution is counted.
const EXACT_PAIRS_MAX: usize = 2500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_those_of_published_tables() {
        // The critical values of U at 1 %, two-sided, plus one.
        for (a, b, value) in
            [(5, 5, 0), (6, 6, 2), (7, 7, 4), (8, 8, 7), (10, 10, 16), (20, 20, 105), (5, 10, 4)]
        {
            assert_eq!(critical_rank(a, b, 0.01), Some(value + 1), "{a}, {b}");
        }
        for (a, b) in [(1, 1), (4, 4), (2, 10)] {
            assert_eq!(critical_rank(a, b, 0.01), None, "{a}, {b}");
        }
        assert_eq!((values_needed(0.01), values_needed(0.0025)), (5, 6));
    }

    #[test]
    fn counted_and_normal_ranks_meet() {
        let exact = critical_rank(50, 50, 0.01).unwrap() as f64;
        let (mean, spread) = (1250.0, (2500.0 * 101.0 / 12.0_f64).sqrt());
        let normal = mean - normal_quantile(0.005) * spread;
        assert!((exact - normal).abs() < 10.0, "{exact} {normal}");
        assert!((normal_quantile(0.005) - 2.575_829).abs() < 1e-3);
        assert!((normal_quantile(0.025) - 1.959_964).abs() < 1e-3);
    }

    #[test]
    fn the_ratio_is_exact_and_turns_around() {
        let a: Vec<f64> = (1..=20).map(f64::from).collect();
        let b: Vec<f64> = a.iter().map(|a| a * 4.0).collect();
        let there = interval(&a, &b, 0.01).unwrap();
        let back = interval(&b, &a, 0.01).unwrap();
        assert!((there.ratio - 4.0).abs() < 1e-9, "{there:?}");
        assert!((there.ratio * back.ratio - 1.0).abs() < 1e-9);
        assert!((there.low * back.high - 1.0).abs() < 1e-9);
        assert!(there.low <= there.ratio && there.ratio <= there.high);
        let same = interval(&a, &a, 0.01).unwrap();
        assert!(!same.is_different() && (same.ratio - 1.0).abs() < 1e-9);
    }
}

//! What is the middle of a few measurements, and how far do they lie apart?

/// Median, smallest and largest of a set of measurements.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Summary {
    /// The middle one, or the mean of the two in the middle.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Summary {
    /// Summarises the measurements; none if there are none. Values must be numbers, which measured ones are.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median =
            if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) };
        Some(Self { median, min, max })
    }

    /// In words, with so many digits behind the point: the form of all tables.
    pub fn spread(&self, digits: usize) -> String {
        let Self { median, min, max } = self;
        format!("{median:.digits$} [{min:.digits$} … {max:.digits$}]")
    }
}

/// The ratios of measurements made in the same round: noise that lasts longer than a round cancels out.
///
/// Each slice holds one entry per round, `None` where that measurement failed.
pub fn paired_ratios(values: &[Option<f64>], base: &[Option<f64>]) -> Vec<f64> {
    let pairs = values.iter().zip(base);
    pairs.filter_map(|(value, base)| Some(value.as_ref()? / base.as_ref().filter(|base| **base > 0.0)?)).collect()
}

/// Fewest rounds after which a difference can be certain at all, see [`verdict`].
pub const CERTAIN_ROUNDS: u32 = 8;
/// How often a verdict may be wrong where there is no difference.
const ERROR_MAX: f64 = 0.01;

/// What ratios of many rounds say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The median ratio is above 1.
    More,
    /// It is below 1.
    Less,
    /// Neither is certain, or the difference is too small to matter.
    Same,
    /// Not even ratios that all agree would be certain.
    TooFew,
}

/// Whether the true median of the ratios is certainly not 1, and at least `least` away from it. Nothing is assumed about how
/// they are distributed: the interval is that of the sign test.
pub fn verdict(ratios: &[f64], least: f64) -> Verdict {
    let (Some((low, high)), Some(summary)) = (median_interval(ratios), Summary::of(ratios)) else {
        return Verdict::TooFew;
    };
    if low > 1.0 && summary.median >= 1.0 + least {
        Verdict::More
    } else if high < 1.0 && summary.median <= 1.0 - least {
        Verdict::Less
    } else {
        Verdict::Same
    }
}

/// Bounds that hold the true median but for a share [`ERROR_MAX`] of cases; none if the values are too few for that.
fn median_interval(values: &[f64]) -> Option<(f64, f64)> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    // The chance that at most `skipped` of n values lie on one side of the median is binomial.
    let n = sorted.len();
    let mut outside = 0.5_f64.powi(n as i32);
    let mut term = outside;
    let mut skipped = None;
    for k in 0..n / 2 {
        if outside * 2.0 > ERROR_MAX {
            break;
        }
        skipped = Some(k);
        term *= (n - k) as f64 / (k + 1) as f64;
        outside += term;
    }
    let skipped = skipped?;
    Some((sorted[skipped], sorted[n - 1 - skipped]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_odd_even_one_and_none() {
        assert_eq!(Summary::of(&[3.0, 1.0, 9.0]), Some(Summary { median: 3.0, min: 1.0, max: 9.0 }));
        assert_eq!(Summary::of(&[4.0, 1.0, 9.0, 2.0]), Some(Summary { median: 3.0, min: 1.0, max: 9.0 }));
        assert_eq!(Summary::of(&[7.0]), Some(Summary { median: 7.0, min: 7.0, max: 7.0 }));
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn ratios_pair_rounds_and_leave_out_failed_ones() {
        let values = [Some(2.0), None, Some(9.0), Some(1.0)];
        let base = [Some(1.0), Some(1.0), Some(3.0), Some(0.0)];
        assert_eq!(paired_ratios(&values, &base), [2.0, 3.0]);
    }

    #[test]
    fn the_interval_is_that_of_the_sign_test() {
        assert_eq!(median_interval(&[1.0; 7]), None);
        let values: Vec<f64> = (1..=20).map(f64::from).collect();
        assert_eq!(median_interval(&values[..8]), Some((1.0, 8.0)));
        assert_eq!(median_interval(&values[..9]), Some((1.0, 9.0)));
        assert_eq!(median_interval(&values), Some((4.0, 17.0)));
    }

    #[test]
    fn a_verdict_needs_certainty_and_size() {
        assert_eq!(verdict(&[1.1; 7], 0.01), Verdict::TooFew);
        assert_eq!(verdict(&[1.1; 8], 0.01), Verdict::More);
        assert_eq!(verdict(&[0.9; 8], 0.01), Verdict::Less);
        assert_eq!(verdict(&[1.001; 8], 0.01), Verdict::Same);
        assert_eq!(verdict(&[1.2, 1.2, 1.2, 1.2, 1.2, 1.2, 1.2, 0.9], 0.01), Verdict::Same);
    }
}

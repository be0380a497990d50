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
}

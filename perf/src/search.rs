//! Which is the highest rate that passes? Binary search over trials of which some lie.

use anyhow::Result;

/// How finely is searched, as a share of the highest rate.
const RESOLUTION: f64 = 0.01;
/// A rate passes, or fails, when so many of its trials did: the majority of three.
const MAJORITY: u32 = 2;

/// The highest passing rate up to `highest`, or 0 if none passes; `passes` is one trial.
pub fn highest(highest: f64, mut passes: impl FnMut(f64) -> Result<bool>) -> Result<f64> {
    if majority(highest, &mut passes)? {
        return Ok(highest);
    }
    let (mut good, mut bad) = (0.0, highest);
    while bad - good > highest * RESOLUTION {
        let middle = f64::midpoint(good, bad);
        if majority(middle, &mut passes)? {
            good = middle;
        } else {
            bad = middle;
        }
    }
    Ok(good)
}

fn majority(rate: f64, passes: &mut impl FnMut(f64) -> Result<bool>) -> Result<bool> {
    let (mut passed, mut failed) = (0, 0);
    while passed < MAJORITY && failed < MAJORITY {
        if passes(rate)? {
            passed += 1;
        } else {
            failed += 1;
        }
    }
    Ok(passed == MAJORITY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edge_is_found_from_below() {
        for edge in [0.3, 37.0, 99.9] {
            let found = highest(100.0, |rate| Ok(rate <= edge)).expect("no trial fails to run");
            assert!(found <= edge && edge - found <= 1.0, "{found} instead of {edge}");
        }
        assert_eq!(highest(100.0, |_| Ok(true)).expect("no trial fails to run"), 100.0);
        assert_eq!(highest(100.0, |_| Ok(false)).expect("no trial fails to run"), 0.0);
    }

    #[test]
    fn one_trial_in_three_may_lie() {
        let mut count = 0;
        let lying = |rate: f64| {
            count += 1;
            Ok((rate <= 50.0) != (count % 3 == 0))
        };
        let found = highest(100.0, lying).expect("no trial fails to run");
        assert!((found - 50.0).abs() <= 1.0, "{found}");
    }
}

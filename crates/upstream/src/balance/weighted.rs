//! Weighted round robin: as often as the weights say, and never in clumps.
//!
//! The usual smooth variant (nginx) keeps a running number per endpoint under a lock. Here the turns are
//! multiples of the golden ratio, modulo one: the sequence whose points are spread most evenly over the
//! interval at every length (Weyl's equidistribution; the three-gap theorem). A weight is a stretch of that
//! interval, so after `n` turns each candidate was met as often as its share, give or take a few, with one
//! shared counter as the only state.

use super::Shares;

/// 2^64 divided by the golden ratio.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The candidate whose turn it is, `turn` being a number that grows by one with each pick.
pub(crate) fn pick(shares: &Shares, turn: u64) -> usize {
    shares.draw(turn.wrapping_mul(GOLDEN))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The discrepancy of the golden sequence is below 1 + log2(n) for an interval (Kuipers and Niederreiter,
        /// ch. 2.3, with all partial quotients 1; twice, since an interval has two ends).
        #[test]
        fn every_candidate_is_met_as_often_as_its_weight_says(
            weights in prop::collection::vec(1_u32..50, 1..20),
            start: u64,
            turns in 1_u64..3_000,
        ) {
            let shares = Shares::new(&weights);
            let mut seen = vec![0_u64; weights.len()];
            (0..turns).for_each(|turn| seen[pick(&shares, start.wrapping_add(turn))] += 1);
            let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
            let slack = 2.0 * (1.0 + (turns as f64).log2());
            for (weight, times) in weights.iter().zip(&seen) {
                let due = turns as f64 * f64::from(*weight) / total;
                prop_assert!((*times as f64 - due).abs() <= slack, "{} due {}", times, due);
            }
        }
    }

    #[test]
    fn a_heavy_candidate_is_not_met_in_clumps() {
        let shares = Shares::new(&[5, 5, 2]);
        let light: Vec<u64> = (0..600).filter(|turn| pick(&shares, *turn) == 2).collect();
        let gaps: Vec<u64> = light.windows(2).map(|pair| pair[1] - pair[0]).collect();
        // Its share is one in six; by the three-gap theorem its turns are three, five or eight apart.
        assert!(gaps.iter().all(|gap| [3, 5, 8].contains(gap)), "{gaps:?}");
    }
}

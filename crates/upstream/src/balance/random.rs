//! Random: each pick drawn by weight, knowing nothing.

use super::Shares;

/// A candidate drawn by weight.
pub(crate) fn pick(shares: &Shares, random: u64) -> usize {
    shares.draw(random)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    #[test]
    fn each_candidate_is_drawn_about_as_often_as_its_weight_says() {
        let (weights, mut random) = ([1, 2, 3, 4], Random::new(11));
        let (shares, mut seen) = (Shares::new(&weights), [0_i64; 4]);
        (0..100_000).for_each(|_| seen[pick(&shares, random.next())] += 1);
        for (weight, times) in weights.iter().zip(seen) {
            // Six standard deviations of a binomial of 100,000 are below 1,000.
            assert!((times - i64::from(*weight) * 10_000).abs() < 1_000, "{seen:?}");
        }
    }
}

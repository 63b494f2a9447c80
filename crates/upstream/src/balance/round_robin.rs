//! Round robin: each candidate in turn.

use super::{Shares, weighted};

/// The candidate whose turn it is, `turn` being a number that grows by one with each pick. While some
/// candidates are only starting, their smaller shares are respected as [`weighted`] does.
pub(crate) fn pick(shares: &Shares, turn: u64) -> usize {
    if shares.is_equal() { (turn % shares.len() as u64) as usize } else { weighted::pick(shares, turn) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_round_visits_each_candidate_once(count in 1_usize..100, start in 0_u64..u64::MAX / 2) {
            let shares = Shares::new(&vec![7; count]);
            let mut seen = vec![0; count];
            (0..count as u64).for_each(|turn| seen[pick(&shares, start + turn)] += 1);
            prop_assert!(seen.iter().all(|times| *times == 1));
        }
    }
}

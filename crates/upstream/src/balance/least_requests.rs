//! Least requests: of two drawn by weight, the one with less to do.
//!
//! Looking at two instead of all keeps the pick cheap and, since every core draws its own two, keeps them
//! from all running to the one that looked idlest a moment ago (Mitzenmacher, "The Power of Two Choices in
//! Randomized Load Balancing", 2001). The two are drawn by weight and the first wins a tie, so without load
//! the weights are met exactly; under load it is requests per weight that is made equal.

use super::Shares;

/// The less loaded of two candidates; `load` gives a candidate's requests in flight.
pub(crate) fn pick(shares: &Shares, random: (u64, u64), load: impl Fn(usize) -> u64) -> usize {
    let first = shares.draw(random.0);
    let second = shares.draw_other(first, random.1);
    let per_weight = |one: usize, other: usize| u128::from(load(one)) * u128::from(shares.weight(other));
    if per_weight(second, first) < per_weight(first, second) { second } else { first }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn of_two_the_less_loaded_is_taken(a in 0_u64..100, b in 0_u64..100, random: (u64, u64)) {
            prop_assume!(a != b);
            let picked = pick(&Shares::new(&[1, 1]), random, |index| [a, b][index]);
            prop_assert_eq!(picked, usize::from(b < a));
        }

        #[test]
        fn the_most_loaded_of_all_is_never_taken(loads in prop::collection::vec(0_u64..100, 2..20), random: (u64, u64)) {
            let most = loads.iter().max().copied().unwrap_or(0);
            prop_assume!(loads.iter().filter(|load| **load == most).count() == 1);
            let picked = pick(&Shares::new(&vec![1; loads.len()]), random, |index| loads[index]);
            prop_assert!(loads[picked] < most);
        }
    }

    #[test]
    fn without_load_the_weights_decide() {
        let (shares, mut random, mut seen) = (Shares::new(&[1, 3]), Random::new(5), [0_i64; 2]);
        (0..40_000).for_each(|_| seen[pick(&shares, (random.next(), random.next()), |_| 0)] += 1);
        assert!((seen[0] - 10_000).abs() < 600, "{seen:?}");
    }

    #[test]
    fn requests_that_never_end_gather_by_weight() {
        let (weights, mut random) = ([1_u32, 2, 5], Random::new(9));
        let (shares, mut loads) = (Shares::new(&weights), [0_u64; 3]);
        for _ in 0..8_000 {
            let picked = pick(&shares, (random.next(), random.next()), |index| loads[index]);
            loads[picked] += 1;
        }
        for (weight, load) in weights.iter().zip(loads) {
            assert!(load.abs_diff(u64::from(*weight) * 1_000) < 60, "{loads:?}");
        }
    }

    #[test]
    fn an_endpoint_that_hangs_is_left_alone() {
        let (shares, mut random, mut taken) = (Shares::new(&[1; 10]), Random::new(3), 0);
        for _ in 0..10_000 {
            // All others finish at once; number 4 keeps what it gets.
            let picked =
                pick(&shares, (random.next(), random.next()), |index| if index == 4 { taken } else { 0 });
            taken += u64::from(picked == 4);
        }
        assert_eq!(taken, 1);
    }
}

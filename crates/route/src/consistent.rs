//! A weighted choice by a key: the same key falls on the same target, and a change of weights moves no key that could stay.
//!
//! Each target runs a race for each key: it arrives after an exponentially distributed time whose rate is its weight, drawn
//! from the key and the target's name; the first one wins (weighted rendezvous hashing: Thaler and Ravishankar 1998, in the
//! logarithmic form of Schindelhauer and Schomaker 2005). A target wins with the probability of its share. When one weight
//! grows, only its own times get shorter, so keys move to it and nowhere else; when all weights grow alike nothing moves.
//! Between two targets the keys that move are exactly the share that moved; with more, and several weights changed at
//! once, at most twice that (Bavarian et al., "The Optimality of Correlated Sampling", 2016, which no scheme without a
//! memory beats).
//!
//! The cheaper designs fail one of the two: a number modulo the sum of weights, or a point on one line cut by the weights,
//! moves keys between targets whose weights nobody touched; a ring with points for each target holds shares only roughly.

use crate::split::SplitError;

/// Targets with weights, chosen by a key.
#[derive(Debug, Clone, PartialEq)]
pub struct Consistent<T> {
    /// Those that can be chosen: weights above zero.
    targets: Box<[Runner<T>]>,
}

#[derive(Debug, Clone, PartialEq)]
struct Runner<T> {
    target: T,
    seed: u64,
    weight: f64,
}

impl<T> Consistent<T> {
    /// A choice in proportion to the weights. A target is known by its name: where the same name stands in another list,
    /// of another route or after a reload, it is the same.
    ///
    /// # Errors
    /// [`SplitError`] when nothing could be chosen.
    pub fn new(targets: Vec<(T, &str, u32)>) -> Result<Self, SplitError> {
        if targets.is_empty() {
            return Err(SplitError::Empty);
        }
        let able = targets.into_iter().filter(|(_, _, weight)| *weight > 0);
        let runner = |(target, name, weight): (T, &str, u32)| Runner {
            target,
            seed: seed(name),
            weight: f64::from(weight),
        };
        let targets: Box<[Runner<T>]> = able.map(runner).collect();
        if targets.is_empty() { Err(SplitError::AllZero) } else { Ok(Self { targets }) }
    }

    /// The target of a key. Keys may be any numbers, also ones that follow each other.
    #[must_use]
    pub fn pick(&self, key: u64) -> &T {
        let mut best = &self.targets[0];
        let mut best_time = f64::INFINITY;
        for runner in &self.targets {
            let time = -uniform(key, runner.seed).ln() / runner.weight;
            if time < best_time {
                (best, best_time) = (runner, time);
            }
        }
        &best.target
    }
}

/// What a name adds to a key: FNV-1a (Fowler, Noll, Vo), the same on every machine and in every version.
pub(crate) fn seed(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// A number above 0 and below 1, evenly spread over keys and independent for each seed.
pub(crate) fn uniform(key: u64, seed: u64) -> f64 {
    // 53 bits are what the number can hold; the half keeps it off both ends.
    ((mix(mix(key) ^ seed) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): one-to-one, and every bit of the number counts for all.
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAMES: [&str; 5] = ["shop", "shop-next", "legacy", "a", "b"];
    const KEYS: u64 = 20_000;

    fn consistent(weights: &[u32]) -> Consistent<usize> {
        let targets = weights.iter().enumerate().map(|(index, weight)| (index, NAMES[index], *weight));
        Consistent::new(targets.collect()).expect("a weight above 0")
    }

    fn share(weights: &[u32], index: usize) -> f64 {
        f64::from(weights[index]) / weights.iter().copied().map(f64::from).sum::<f64>()
    }

    #[test]
    fn a_choice_among_nothing_is_refused() {
        assert_eq!(Consistent::<u8>::new(vec![]), Err(SplitError::Empty));
        assert_eq!(Consistent::new(vec![(1, "a", 0)]), Err(SplitError::AllZero));
    }

    #[test]
    fn a_target_is_known_by_its_name_and_not_by_its_place() {
        let ours = Consistent::new(vec![("a", "a", 1), ("b", "b", 2), ("c", "c", 0)]).expect("targets");
        let theirs = Consistent::new(vec![("b", "b", 200), ("a", "a", 100)]).expect("targets");
        assert!((0..1_000).all(|key| ours.pick(key) == theirs.pick(key)));
    }

    #[test]
    fn where_a_key_falls_is_the_same_in_every_version() {
        let split = consistent(&[9, 1]);
        let second: Vec<u64> = (0..40).filter(|key| *split.pick(*key) == 1).collect();
        assert_eq!(second, [9, 15, 16, 17, 20], "a release that changes this moves every client once");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn each_target_gets_its_share_of_keys(weights in prop::collection::vec(0_u32..10, 1..=5), from: u64) {
            prop_assume!(weights.iter().any(|weight| *weight > 0));
            let split = consistent(&weights);
            let mut counts = vec![0_u64; weights.len()];
            for step in 0..KEYS {
                counts[*split.pick(from.wrapping_add(step))] += 1;
            }
            for (index, count) in counts.iter().enumerate() {
                let expected = share(&weights, index) * KEYS as f64;
                // Five standard deviations of a binomial count: a fair draw misses them once in two million.
                let slack = 5.0 * (KEYS as f64 * 0.25).sqrt();
                prop_assert!((*count as f64 - expected).abs() < slack, "{counts:?} of {weights:?}");
            }
        }

        #[test]
        fn a_weight_that_grows_takes_keys_and_moves_no_other(
            weights in prop::collection::vec(0_u32..10, 2..=5), at in 0_usize..5, more in 1_u32..10, from: u64,
        ) {
            let at = at % weights.len();
            let mut grown = weights.clone();
            grown[at] += more;
            prop_assume!(weights.iter().any(|weight| *weight > 0));
            let (before, after) = (consistent(&weights), consistent(&grown));
            let mut moved = 0_u64;
            for key in (0..KEYS).map(|step| from.wrapping_add(step)) {
                let (old, new) = (*before.pick(key), *after.pick(key));
                if old != new {
                    prop_assert_eq!(new, at, "a key moved between targets whose weights nobody touched");
                    moved += 1;
                }
            }
            let must = (share(&grown, at) - share(&weights, at)) * KEYS as f64;
            let slack = 5.0 * (KEYS as f64 * 0.25).sqrt();
            prop_assert!((moved as f64 - must).abs() < slack, "{moved} moved, {must} had to");
        }

        #[test]
        fn any_change_moves_at_most_twice_what_must_move(
            (old, new) in (2_usize..=5).prop_flat_map(|count| {
                let weights = || prop::collection::vec(1_u32..10, count);
                (weights(), weights())
            }),
            from: u64,
        ) {
            let (before, after) = (consistent(&old), consistent(&new));
            let moved = (0..KEYS).filter(|step| {
                let key = from.wrapping_add(*step);
                before.pick(key) != after.pick(key)
            });
            let must: f64 =
                (0..old.len()).map(|index| (share(&new, index) - share(&old, index)).max(0.0)).sum();
            let slack = 5.0 * (KEYS as f64 * 0.25).sqrt();
            let most = 2.0 * must / (1.0 + must) * KEYS as f64;
            let moved = moved.count() as f64;
            prop_assert!(moved < most + slack, "{moved} moved, at most {most}");
        }
    }
}

//! A weighted choice between targets, such as nine parts old and one part new.
//!
//! The weights lie end to end on a line; a random number is scaled to the line's length and falls on one target. So
//! the shares are exact: of the 2^64 random numbers each unit of weight gets the same count, but for one more or less.

/// Targets with weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split<T> {
    /// Each target with the end of its part of the line; parts without length are never picked.
    targets: Box<[(T, u64)]>,
    total: u64,
}

/// A split that would choose nothing. The fault is the file's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// No targets.
    #[error("a split has no targets; name at least one")]
    Empty,
    /// All weights are zero.
    #[error("all weights of a split are zero; give at least one target a weight of 1 or more")]
    AllZero,
}

impl<T> Split<T> {
    /// A choice in proportion to the weights. A weight of zero is allowed: the target is there, but never picked.
    ///
    /// # Errors
    /// [`SplitError`] when nothing could be picked.
    pub fn new(targets: Vec<(T, u32)>) -> Result<Self, SplitError> {
        if targets.is_empty() {
            return Err(SplitError::Empty);
        }
        let mut total = 0;
        let mut placed = Vec::with_capacity(targets.len());
        for (target, weight) in targets {
            total += u64::from(weight);
            placed.push((target, total));
        }
        if total == 0 {
            return Err(SplitError::AllZero);
        }
        Ok(Self { targets: placed.into(), total })
    }

    /// The target on which a uniformly random number falls. The same number always falls on the same target.
    #[must_use]
    pub fn pick(&self, random: u64) -> &T {
        let scaled = (u128::from(random) * u128::from(self.total)) >> 64;
        let place = self.targets.partition_point(|(_, end)| u128::from(*end) <= scaled);
        &self.targets[place].0
    }

    /// The targets with their weights, in the order given.
    pub fn targets(&self) -> impl Iterator<Item = (&T, u64)> {
        let mut start = 0;
        self.targets.iter().map(move |(target, end)| {
            let weight = end - start;
            start = *end;
            (target, weight)
        })
    }

    /// The sum of all weights; at least 1.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_split_that_picks_nothing_is_refused() {
        assert_eq!(Split::<u8>::new(vec![]), Err(SplitError::Empty));
        assert_eq!(Split::new(vec![("a", 0), ("b", 0)]), Err(SplitError::AllZero));
    }

    #[test]
    fn the_ends_of_the_random_numbers_fall_on_targets_with_weight() {
        let split = Split::new(vec![("none", 0), ("a", 1), ("b", 9), ("last", 0)]).unwrap();
        assert_eq!(split.pick(0), &"a");
        assert_eq!(split.pick(u64::MAX), &"b");
        assert_eq!(split.pick(u64::MAX / 10), &"a");
        assert_eq!(split.pick(u64::MAX / 10 + 1), &"b");
    }

    #[test]
    fn weights_at_their_greatest_do_not_overflow() {
        let split = Split::new(vec![(0, u32::MAX), (1, u32::MAX), (2, u32::MAX)]).unwrap();
        assert_eq!(split.total(), 3 * u64::from(u32::MAX));
        assert_eq!((split.pick(0), split.pick(u64::MAX / 2), split.pick(u64::MAX)), (&0, &1, &2));
    }

    /// The smallest random number that falls on this unit of the line.
    fn first_of(unit: u64, total: u64) -> u64 {
        u64::try_from((u128::from(unit) << 64).div_ceil(u128::from(total))).unwrap()
    }

    proptest! {
        #[test]
        fn each_target_gets_exactly_its_share(weights in prop::collection::vec(0_u32..50, 1..8)) {
            let numbered: Vec<(usize, u32)> = weights.iter().copied().enumerate().collect();
            let Ok(split) = Split::new(numbered) else {
                prop_assert!(weights.iter().all(|weight| *weight == 0));
                return Ok(());
            };
            let mut counts = vec![0_u32; weights.len()];
            for unit in 0..split.total() {
                let first = first_of(unit, split.total());
                let last = if unit + 1 == split.total() { u64::MAX } else { first_of(unit + 1, split.total()) - 1 };
                prop_assert_eq!(split.pick(first), split.pick(last), "a unit of weight is not torn apart");
                counts[*split.pick(first)] += 1;
                let spread = (last - first).abs_diff(u64::MAX / split.total());
                prop_assert!(spread <= 1, "all units get the same count of random numbers");
            }
            prop_assert_eq!(counts, weights);
        }

        #[test]
        fn a_target_of_weight_zero_is_never_picked(random: u64, at in 0_usize..4) {
            let mut weights = vec![(0, 3), (1, 3), (2, 3), (3, 3)];
            weights[at].1 = 0;
            prop_assert_ne!(*Split::new(weights).unwrap().pick(random), at);
        }
    }
}

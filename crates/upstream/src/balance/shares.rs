//! The weights of the candidates, ready to be drawn from.

/// Weights as running sums, so that a draw is a binary search; equal weights need none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shares {
    count: usize,
    /// Empty when all weights are equal.
    sums: Box<[u64]>,
}

impl Shares {
    /// The weights of at least one candidate, each above zero.
    pub(crate) fn new(weights: &[u32]) -> Self {
        debug_assert!(weights.iter().all(|weight| *weight > 0), "a candidate has a weight");
        let is_equal = weights.windows(2).all(|pair| pair[0] == pair[1]);
        let mut total = 0;
        let sum = |weight: &u32| {
            total += u64::from(*weight);
            total
        };
        let sums = if is_equal { Box::default() } else { weights.iter().map(sum).collect() };
        Self { count: weights.len(), sums }
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn is_equal(&self) -> bool {
        self.sums.is_empty()
    }

    /// The weight of a candidate, in the unit it was given, or 1 where all are equal.
    pub(crate) fn weight(&self, index: usize) -> u64 {
        if self.is_equal() { 1 } else { self.sums[index] - self.start(index) }
    }

    /// The candidate at `fraction / 2^64` of the way through all weights.
    pub(crate) fn draw(&self, fraction: u64) -> usize {
        if self.is_equal() {
            return scale(self.count as u64, fraction) as usize;
        }
        self.at(scale(self.total(), fraction))
    }

    /// Another candidate than `first`, drawn by weight from the rest; `first` itself, when it is the only one.
    pub(crate) fn draw_other(&self, first: usize, fraction: u64) -> usize {
        if self.count < 2 {
            return first;
        }
        if self.is_equal() {
            let drawn = scale(self.count as u64 - 1, fraction) as usize;
            return drawn + usize::from(drawn >= first);
        }
        let drawn = scale(self.total() - self.weight(first), fraction);
        let skipped = if drawn >= self.start(first) { self.weight(first) } else { 0 };
        self.at(drawn + skipped)
    }

    fn at(&self, position: u64) -> usize {
        self.sums.partition_point(|sum| *sum <= position)
    }

    fn start(&self, index: usize) -> u64 {
        if index == 0 { 0 } else { self.sums[index - 1] }
    }

    fn total(&self) -> u64 {
        self.sums.last().copied().unwrap_or(0)
    }
}

/// `whole * fraction / 2^64`: below `whole`, and even to one part in 2^64 / `whole`.
fn scale(whole: u64, fraction: u64) -> u64 {
    ((u128::from(whole) * u128::from(fraction)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn naive(weights: &[u32], position: u64) -> usize {
        let mut owners = Vec::new();
        for (index, weight) in weights.iter().enumerate() {
            owners.extend(std::iter::repeat_n(index, *weight as usize));
        }
        owners[position as usize]
    }

    proptest! {
        /// Against the naive draw: a list in which each candidate stands as often as its weight.
        #[test]
        fn a_draw_is_one_from_a_list_with_each_as_often_as_its_weight(
            weights in prop::collection::vec(1_u32..20, 1..20),
            fraction: u64,
        ) {
            let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
            prop_assert_eq!(Shares::new(&weights).draw(fraction), naive(&weights, scale(total, fraction)));
        }

        #[test]
        fn the_other_one_is_never_the_first(weights in prop::collection::vec(1_u32..20, 2..20), first: u64, second: u64) {
            let shares = Shares::new(&weights);
            let first = shares.draw(first);
            let other = shares.draw_other(first, second);
            prop_assert!(other != first && other < weights.len());
        }
    }

    #[test]
    fn the_other_one_is_drawn_by_weight() {
        let shares = Shares::new(&[5, 1, 3]);
        let mut drawn = [0; 3];
        for step in 0..400_u64 {
            drawn[shares.draw_other(0, step * (u64::MAX / 400))] += 1;
        }
        assert_eq!(drawn[0], 0);
        assert!((95..=105).contains(&drawn[1]), "{drawn:?}");
    }
}

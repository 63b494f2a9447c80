//! A share between nothing and the whole, held exactly so that configurations can be compared.

/// A share of a whole, in millionths; never more than the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share(u32);

const WHOLE_PPM: u32 = 1_000_000;

impl Share {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The whole.
    pub const ALL: Self = Self(WHOLE_PPM);

    /// So many per cent; more than 100 counts as 100.
    pub const fn percent(percent: u32) -> Self {
        if percent >= 100 { Self::ALL } else { Self(percent * (WHOLE_PPM / 100)) }
    }

    /// A ratio from 0.0 to 1.0; what lies outside counts as the nearer bound, NaN as 0.
    pub fn from_ratio(ratio: f64) -> Self {
        // `as` saturates and takes NaN to 0, which is what this promises.
        Self(((ratio * f64::from(WHOLE_PPM)).round() as u32).min(WHOLE_PPM))
    }

    /// So many millionths; more than the whole counts as the whole.
    pub const fn from_ppm(ppm: u32) -> Self {
        if ppm >= WHOLE_PPM { Self::ALL } else { Self(ppm) }
    }

    /// In millionths.
    pub const fn ppm(self) -> u32 {
        self.0
    }

    /// From 0.0 to 1.0.
    pub fn ratio(self) -> f64 {
        f64::from(self.0) / f64::from(WHOLE_PPM)
    }

    /// This share of `count`, rounded down.
    pub const fn of(self, count: u64) -> u64 {
        (count as u128 * self.0 as u128 / WHOLE_PPM as u128) as u64
    }

    /// Whether `part` of `whole` is at least this share. No part of nothing is any share but zero.
    pub const fn is_reached_by(self, part: u64, whole: u64) -> bool {
        part as u128 * WHOLE_PPM as u128 >= self.0 as u128 * whole as u128 && (whole > 0 || self.0 == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_a_count_is_rounded_down() {
        assert_eq!(Share::percent(10).of(99), 9);
        assert_eq!(Share::percent(200).of(7), 7);
        assert_eq!(Share::ALL.of(u64::MAX), u64::MAX);
    }

    #[test]
    fn half_is_reached_by_half_and_by_nothing_less() {
        assert!(Share::percent(50).is_reached_by(5, 10));
        assert!(!Share::percent(50).is_reached_by(4, 10));
        assert!(!Share::percent(50).is_reached_by(0, 0));
        assert!(Share::ZERO.is_reached_by(0, 0));
    }

    #[test]
    fn odd_ratios_count_as_the_nearer_bound() {
        assert_eq!(Share::from_ratio(f64::NAN), Share::ZERO);
        assert_eq!(Share::from_ratio(-1.0), Share::ZERO);
        assert_eq!(Share::from_ratio(7.0), Share::ALL);
        assert_eq!(Share::from_ratio(0.5), Share::percent(50));
    }
}

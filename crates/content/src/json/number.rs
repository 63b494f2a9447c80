//! Numbers of JSON as what they are written: exact decimals of any size. A schema that says `multipleOf: 0.01` or
//! `maximum: 9007199254740993` means those, not the nearest binary fractions.

use std::cmp::Ordering;

/// Digits of an exponent that are read; nobody means more.
pub(super) const EXPONENT_DIGITS_MAX: usize = 9;
/// Digits of a divisor: what fits in 64 bits, so that a remainder is exact.
const DIVISOR_DIGITS_MAX: usize = 18;

/// A number: 0.d₁d₂d₃… × 10^magnitude, with neither leading nor trailing zeros; zero has no digits.
#[derive(Debug, Clone, Copy)]
pub struct Decimal<'a> {
    is_negative: bool,
    magnitude: i64,
    /// Its digits, one part after the other.
    whole: &'a [u8],
    fraction: &'a [u8],
}

impl<'a> Decimal<'a> {
    /// The number that `literal` is, which must be one by the grammar of JSON (RFC 8259 section 6).
    #[must_use]
    pub fn of(literal: &'a str) -> Self {
        let (is_negative, literal) = match literal.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, literal),
        };
        let (digits, exponent) = literal.split_once(['e', 'E']).unwrap_or((literal, "0"));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let exponent: i64 = exponent.parse().unwrap_or(0);
        Self::normal(is_negative, whole.as_bytes(), fraction.as_bytes(), exponent)
    }

    fn normal(is_negative: bool, whole: &'a [u8], fraction: &'a [u8], exponent: i64) -> Self {
        let zeros_before = |digits: &[u8]| digits.iter().take_while(|digit| **digit == b'0').count();
        let zeros_behind = |digits: &[u8]| digits.iter().rev().take_while(|digit| **digit == b'0').count();
        let mut whole = &whole[zeros_before(whole)..];
        let mut fraction = &fraction[..fraction.len() - zeros_behind(fraction)];
        let mut magnitude = exponent + whole.len() as i64;
        if whole.is_empty() {
            let skipped = zeros_before(fraction);
            fraction = &fraction[skipped..];
            magnitude -= skipped as i64;
        }
        if fraction.is_empty() {
            whole = &whole[..whole.len() - zeros_behind(whole)];
        }
        match whole.is_empty() && fraction.is_empty() {
            true => Self { is_negative: false, magnitude: 0, whole, fraction },
            false => Self { is_negative, magnitude, whole, fraction },
        }
    }

    fn digits(&self) -> impl Iterator<Item = u8> {
        self.whole.iter().chain(self.fraction).map(|digit| digit - b'0')
    }

    fn digit_count(&self) -> usize {
        self.whole.len() + self.fraction.len()
    }

    /// Whether it is zero.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.digit_count() == 0
    }

    /// Whether it is less than zero.
    #[must_use]
    pub fn is_negative(&self) -> bool {
        self.is_negative
    }

    /// Whether it has no fraction, however it is written: `1.0` and `10e-1` have none.
    #[must_use]
    pub fn is_integer(&self) -> bool {
        self.digit_count() as i64 <= self.magnitude.max(0)
    }

    /// Its value, where it is a natural number that fits.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        if self.is_negative || !self.is_integer() || self.magnitude > 20 {
            return None;
        }
        let zeros = usize::try_from(self.magnitude).ok()? - self.digit_count();
        let digits = self.digits().chain(std::iter::repeat_n(0, zeros));
        digits.into_iter().try_fold(0_u64, |sum, digit| sum.checked_mul(10)?.checked_add(u64::from(digit)))
    }

    /// Whether it can divide: more than zero, and of at most 18 digits.
    #[must_use]
    pub fn is_divisor(&self) -> bool {
        !self.is_negative && !self.is_zero() && self.digit_count() <= DIVISOR_DIGITS_MAX
    }

    /// Whether it is `divisor` times an integer, exactly. `divisor` must be one by [`Decimal::is_divisor`].
    #[must_use]
    pub fn is_multiple_of(&self, divisor: &Self) -> bool {
        // With m·10^a and n·10^b, where neither m nor n ends in a zero, m·10^(a-b) must be a multiple of n; with a < b
        // it would have to end in zeros.
        let power = |number: &Self| number.magnitude - number.digit_count() as i64;
        let Ok(shift) = u64::try_from(power(self) - power(divisor)) else { return self.is_zero() };
        let n = divisor.digits().fold(0_u64, |sum, digit| sum * 10 + u64::from(digit));
        let times = |a: u64, b: u64| (u128::from(a) * u128::from(b) % u128::from(n)) as u64;
        let m = self
            .digits()
            .fold(0_u64, |sum, digit| ((u128::from(sum) * 10 + u128::from(digit)) % u128::from(n)) as u64);
        times(m, power_of_ten(shift, n)) == 0
    }
}

/// 10^`exponent` modulo `n`.
fn power_of_ten(mut exponent: u64, n: u64) -> u64 {
    let times = |a: u64, b: u64| (u128::from(a) * u128::from(b) % u128::from(n)) as u64;
    let (mut power, mut square) = (1 % n, 10 % n);
    while exponent > 0 {
        if exponent & 1 == 1 {
            power = times(power, square);
        }
        square = times(square, square);
        exponent >>= 1;
    }
    power
}

impl PartialEq for Decimal<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Decimal<'_> {}

impl PartialOrd for Decimal<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Decimal<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let sign = |number: &Self| match (number.is_zero(), number.is_negative) {
            (true, _) => 0,
            (false, false) => 1,
            (false, true) => -1,
        };
        let signs = sign(self).cmp(&sign(other));
        if signs != Ordering::Equal || self.is_zero() {
            return signs;
        }
        let size = self.magnitude.cmp(&other.magnitude).then_with(|| self.digits().cmp(other.digits()));
        if self.is_negative { size.reverse() } else { size }
    }
}

impl std::hash::Hash for Decimal<'_> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.is_negative.hash(state);
        self.magnitude.hash(state);
        self.digits().for_each(|digit| state.write_u8(digit));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_number_is_what_it_is_however_it_is_written() {
        for (one, other) in
            [("1", "1.0"), ("1", "10e-1"), ("0", "-0.00e5"), ("120", "1.2E+2"), ("0.00120", "12e-4")]
        {
            assert_eq!(Decimal::of(one), Decimal::of(other), "{one} {other}");
        }
        assert_ne!(Decimal::of("9007199254740993"), Decimal::of("9007199254740992"));
        assert!(Decimal::of("1e400") > Decimal::of("1e399"));
        assert!(Decimal::of("-1e400") < Decimal::of("-1e399"));
        assert!(Decimal::of("0.1") > Decimal::of("0.09") && Decimal::of("-1") < Decimal::of("0"));
    }

    #[test]
    fn integers_are_told_by_value() {
        assert!(
            ["1", "1.0", "10e-1", "0", "0.0", "1e400", "-3"]
                .iter()
                .all(|text| Decimal::of(text).is_integer())
        );
        assert!(!["0.1", "1.5", "15e-1", "1e-400"].iter().any(|text| Decimal::of(text).is_integer()));
        assert_eq!(Decimal::of("18446744073709551615").as_u64(), Some(u64::MAX));
        assert_eq!(Decimal::of("18446744073709551616").as_u64(), None);
        assert_eq!(Decimal::of("1.20e2").as_u64(), Some(120));
        assert_eq!((Decimal::of("-1").as_u64(), Decimal::of("1e30").as_u64()), (None, None));
        assert_eq!((Decimal::of("0").as_u64(), Decimal::of("0.5").as_u64()), (Some(0), None));
    }

    #[test]
    fn multiples_are_exact() {
        let is = |number, of| Decimal::of(number).is_multiple_of(&Decimal::of(of));
        assert!(is("0.0075", "0.0001") && !is("0.00751", "0.0001"));
        assert!(is("4.35", "0.01") && is("1e308", "0.5") && is("0", "0.01") && is("-6", "3"));
        assert!(!is("1", "2") && !is("10", "100") && is("1e2", "100") && !is("1e-5", "1"));
        assert!(is("12391239123", "1e-8") && is("1e999999999", "7e-3") == is("1e1000000002", "7"));
    }

    proptest! {
        #[test]
        fn integers_compare_and_divide_as_the_machine_does(a in -100_000_i64..100_000, b in 1_i64..1000, e in 0_u32..5) {
            let (left, right) = (a.to_string(), b.to_string());
            prop_assert_eq!(Decimal::of(&left).cmp(&Decimal::of(&right)), a.cmp(&b));
            prop_assert_eq!(Decimal::of(&left).is_multiple_of(&Decimal::of(&right)), a % b == 0);
            let scaled = format!("{a}e{e}");
            let value = a * 10_i64.pow(e);
            prop_assert_eq!(Decimal::of(&scaled).is_multiple_of(&Decimal::of(&right)), value % b == 0);
            let value_text = value.to_string();
            prop_assert_eq!(Decimal::of(&scaled), Decimal::of(&value_text));
            prop_assert_eq!(Decimal::of(&scaled).as_u64(), u64::try_from(value).ok());
        }
    }
}

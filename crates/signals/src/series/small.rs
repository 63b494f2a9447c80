//! Numbers in sixteen bits, for points that are drawn and compared, never added up again.
//!
//! A sign, seven bits of exponent and eight of mantissa: what is finite and between 2⁻⁶² and 2⁶⁴ is off by at most
//! 2⁻⁹ (0.2 %), less than a pixel of any chart. IEEE's half precision would end at 65,504, and bfloat16 would be off by
//! 0.4 %. Smaller numbers become 0, larger ones the largest, so nothing turns into an infinity that a sum would keep.

/// What no number is.
const NAN: u16 = 0x7fff;
/// The largest: the code before it.
const LARGEST: u32 = 0x7ffe;
/// The difference of the two exponents' biases, 127 and 63.
const BIAS: u32 = 64;
const MANTISSA_BITS: u32 = 8;
/// Bits of an `f32`'s mantissa that are lost.
const LOST_BITS: u32 = 23 - MANTISSA_BITS;

/// The code of `value`, rounded to the nearest.
pub(crate) fn encode(value: f32) -> u16 {
    if value.is_nan() {
        return NAN;
    }
    let magnitude = value.to_bits() & 0x7fff_ffff;
    // Half of the lost bits is added, so that what overflows the mantissa raises the exponent, as it should.
    let rounded = (magnitude + (1 << (LOST_BITS - 1))) >> LOST_BITS;
    let lowest = (BIAS + 1) << MANTISSA_BITS;
    if rounded < lowest {
        return 0;
    }
    let sign = if value.is_sign_negative() { 0x8000 } else { 0 };
    sign | (rounded - (BIAS << MANTISSA_BITS)).min(LARGEST) as u16
}

/// The number that a code stands for.
pub(crate) fn decode(code: u16) -> f32 {
    let magnitude = u32::from(code & 0x7fff);
    if code == NAN {
        return f32::NAN;
    }
    if magnitude == 0 {
        return 0.0;
    }
    let sign = u32::from(code & 0x8000) << 16;
    f32::from_bits(sign | ((magnitude + (BIAS << MANTISSA_BITS)) << LOST_BITS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_nothing_stays_nothing_and_what_is_unknown_unknown() {
        assert_eq!(decode(encode(0.0)), 0.0);
        assert!(decode(encode(f32::NAN)).is_nan());
        assert_eq!(decode(encode(1.0)), 1.0);
        assert_eq!(decode(encode(-3.0)), -3.0);
    }

    #[test]
    fn what_is_too_large_is_the_largest_and_what_is_too_small_nothing() {
        assert!(decode(encode(f32::INFINITY)) > 1.8e19);
        assert_eq!(decode(encode(f32::NEG_INFINITY)), -decode(encode(f32::MAX)));
        assert_eq!(decode(encode(1e-30)), 0.0);
    }

    proptest! {
        #[test]
        fn a_number_is_off_by_two_thousandths_at_most(mantissa in 1.0_f32..2.0, exponent in -62..63, negative: bool) {
            let value = mantissa * 2.0_f32.powi(exponent) * if negative { -1.0 } else { 1.0 };
            let shown = decode(encode(value));
            prop_assert!((shown / value - 1.0).abs() <= 1.0 / 512.0, "{value} became {shown}");
            prop_assert_eq!(encode(shown), encode(value));
        }
    }
}

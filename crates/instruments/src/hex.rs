//! Sixteen hexadecimal digits at a time, in both directions (RFC 4648 section 8, in lower case).
//!
//! Each request that is traced writes a word of sixteen digits or two. Digit by digit that was 65 instructions a word; eight
//! digits in one register ("SIMD within a register") are 16.

/// A byte of 1 in each of eight lanes.
const ONES: u64 = 0x0101_0101_0101_0101;
/// The highest bit of each lane.
const HIGH: u64 = 0x80 * ONES;

/// The digits of `word`, the most significant first.
#[inline]
pub(crate) fn digits(word: u64) -> [u8; 16] {
    let mut out = [0; 16];
    out[..8].copy_from_slice(&eight((word >> 32) as u32).to_be_bytes());
    out[8..].copy_from_slice(&eight(word as u32).to_be_bytes());
    out
}

/// Each nibble into a lane of its own, and each lane into its digit.
#[inline]
fn eight(half: u32) -> u64 {
    let mut lanes = u64::from(half);
    lanes = (lanes | lanes << 16) & 0x0000_ffff_0000_ffff;
    lanes = (lanes | lanes << 8) & 0x00ff_00ff_00ff_00ff;
    lanes = (lanes | lanes << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    let is_letter = ((lanes + 6 * ONES) >> 4) & ONES;
    lanes + u64::from(b'0') * ONES + is_letter * u64::from(b'a' - b'0' - 10)
}

/// The number that sixteen digits in lower case stand for; `None` when one of them is no such digit.
#[inline]
pub(crate) fn number(digits: &[u8; 16]) -> Option<u64> {
    let (high, low) = digits.split_at(8);
    Some(u64::from(of_eight(high)?) << 32 | u64::from(of_eight(low)?))
}

#[inline]
fn of_eight(digits: &[u8]) -> Option<u32> {
    let lanes = u64::from_be_bytes(digits.try_into().ok()?);
    if lanes & HIGH != 0 {
        return None;
    }
    // With the highest bits clear no lane carries into the next, and a sum's highest bit says "at least".
    let at_least = |byte: u8| lanes + u64::from(0x80 - byte) * ONES;
    let is_digit = at_least(b'0') & !at_least(b'9' + 1) & HIGH;
    let is_letter = at_least(b'a') & !at_least(b'f' + 1) & HIGH;
    if is_digit | is_letter != HIGH {
        return None;
    }
    let mut nibbles = (lanes & (0x0f * ONES)) + (is_letter >> 7) * 9;
    nibbles = (nibbles | nibbles >> 4) & 0x00ff_00ff_00ff_00ff;
    nibbles = (nibbles | nibbles >> 8) & 0x0000_ffff_0000_ffff;
    Some((nibbles | nibbles >> 16) as u32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_word_is_written_as_the_standard_library_writes_it_and_read_back(word in any::<u64>()) {
            let written = digits(word);
            let expected = format!("{word:016x}");
            prop_assert_eq!(&written[..], expected.as_bytes());
            prop_assert_eq!(number(&written), Some(word));
        }

        #[test]
        fn only_digits_in_lower_case_are_a_number(word in any::<u64>(), at in 0_usize..16, byte in any::<u8>()) {
            let mut written = digits(word);
            written[at] = byte;
            let is_number = matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            prop_assert_eq!(number(&written).is_some(), is_number);
        }
    }
}

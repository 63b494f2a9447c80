//! Which traces can hold a text at all, without looking into them.
//!
//! A Bloom filter (Bloom 1970) over each trace's three-byte pieces, one hash function. A text can only be in a trace if all of
//! its pieces are, so that a search over thousands of traces reads some words of each and looks into few.

use std::fmt;

const BITS: usize = 4_096;
const WORDS: usize = BITS / 64;

/// The pieces of all texts of one trace; letters in lower case.
#[derive(Clone)]
pub(super) struct Trigrams(Box<[u64; WORDS]>);

impl Trigrams {
    /// Bytes of one filter.
    pub(super) const BYTES: usize = WORDS * size_of::<u64>();

    pub(super) fn new() -> Self {
        Self(Box::new([0; WORDS]))
    }

    pub(super) fn add(&mut self, text: &[u8]) {
        for piece in text.windows(3) {
            let bit = place(piece);
            self.0[bit / 64] |= 1 << (bit % 64);
        }
    }

    /// False only when the text is in none that were added.
    pub(super) fn may_hold(&self, text: &[u8]) -> bool {
        text.windows(3).all(|piece| {
            let bit = place(piece);
            self.0[bit / 64] & (1 << (bit % 64)) != 0
        })
    }
}

/// Fibonacci hashing (Knuth, TAOCP 6.4) of the three bytes.
fn place(piece: &[u8]) -> usize {
    let lower = |at: usize| u32::from(piece[at].to_ascii_lowercase());
    let packed = lower(0) << 16 | lower(1) << 8 | lower(2);
    (packed.wrapping_mul(0x9e37_79b1) >> (32 - BITS.trailing_zeros())) as usize
}

impl fmt::Debug for Trigrams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set: u32 = self.0.iter().map(|word| word.count_ones()).sum();
        write!(f, "Trigrams({set} of {BITS})")
    }
}

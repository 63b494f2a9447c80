//! A fuzzer for everybody: no coverage, no toolchain of its own, a second's work. Every file of the committed corpus is
//! shown to the entry as it is, then damaged and crossed with others. The same inputs in every run.

use std::path::Path;

/// Bytes that grammars turn on.
const TELLING: &[u8] = b"\0\t\n\r \"#%&'()*+,-./:;<=>?@[\\]^_`{|}~\x7f\x80\xc3\xff0159aAfFxX";

/// Runs `entry` over the corpus of `target` in the folder `fuzz`, and over `count` inputs that come of it; over so many
/// times more where `FUZZ_TIMES` names a number.
pub(crate) fn replay(fuzz: &str, target: &str, count: usize, entry: fn(&[u8])) {
    let folder = Path::new(fuzz).join("corpus").join(target);
    let mut corpus = vec![Vec::new()];
    for file in std::fs::read_dir(&folder).expect("a corpus is committed") {
        corpus.push(std::fs::read(file.expect("readable").path()).expect("readable"));
    }
    assert!(corpus.len() > 1, "{} is empty", folder.display());
    corpus.sort();
    corpus.iter().for_each(|input| entry(input));
    let times: usize = std::env::var("FUZZ_TIMES").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let mut random = Random(0x7e22_ace5);
    for _ in 0..count * times {
        entry(&damaged(&corpus, &mut random));
    }
}

fn damaged(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = random.pick(corpus).clone();
    for _ in 0..=random.below(4) {
        let (from, to) = (random.below(input.len() + 1), random.below(input.len() + 1));
        let range = from.min(to)..from.max(to);
        match random.below(7) {
            0 => drop(input.drain(range)),
            1 => input.insert(from, *random.pick(TELLING)),
            2 if from < input.len() => input[from] = *random.pick(TELLING),
            3 if from < input.len() => input[from] ^= 1 << random.below(8),
            4 => {
                let piece = input[range].to_vec();
                input.splice(to..to, piece);
            }
            5 => {
                let other = random.pick(corpus);
                let at = random.below(other.len() + 1);
                input.truncate(from);
                input.extend_from_slice(&other[at..]);
            }
            _ => input.truncate(from),
        }
    }
    input
}

/// SplitMix64 (Steele et al., 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap_or(0)
    }

    fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

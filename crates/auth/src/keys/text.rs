//! How a key is written: `tk_` and twelve characters of an id, then 43 of a secret and six of a checksum.
//!
//! The alphabets hold nothing that a shell, a URL or a double click cuts apart. What has the right prefix and a wrong
//! checksum was mistyped or cut off, and is told so without anything being looked up.

use std::fmt;

use ring::digest;
use ring::rand::{SecureRandom, SystemRandom};

/// Digits and letters: 43 of them hold 256 bits.
const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// What ids are made of, so that they can be read aloud.
const ID_LETTERS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

const PREFIX: &str = "tk_";
/// Characters of an id: 62 bits, so that none comes twice.
pub(super) const ID_BYTES: usize = 12;
const SECRET_BYTES: usize = 43;
const CHECKSUM_BYTES: usize = 6;
const SECRET_AT: usize = PREFIX.len() + ID_BYTES + 1;
const CHECKSUM_AT: usize = SECRET_AT + SECRET_BYTES;
const KEY_BYTES: usize = CHECKSUM_AT + CHECKSUM_BYTES;

/// The part of a key by which it is found; no secret.
pub(crate) type Id = [u8; ID_BYTES];
/// SHA-256 of a key's whole text.
pub(super) type Hash = [u8; digest::SHA256_OUTPUT_LEN];

/// A key's whole text; shown once, to whoever made it.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyText(String);

/// Why a text is no key of ours; nobody needs to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAKey {
    /// Something else altogether.
    #[error("it does not begin as a key does, with `tk_`")]
    Other,
    /// A key that was mistyped, cut off or cut out wrongly.
    #[error("its checksum is wrong: it was mistyped, or not copied whole")]
    Damaged,
}

impl KeyText {
    /// A new key. Its secret has 256 random bits of the system's.
    #[must_use]
    pub fn random() -> Self {
        let random = SystemRandom::new();
        let mut text = String::with_capacity(KEY_BYTES);
        text.push_str(PREFIX);
        push_random(&random, ID_LETTERS, ID_BYTES, &mut text);
        text.push('_');
        push_random(&random, LETTERS, SECRET_BYTES, &mut text);
        let checksum = checksum(text.as_bytes());
        text.extend(checksum.iter().copied().map(char::from));
        Self(text)
    }

    /// The whole text, to be shown to its owner.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0[PREFIX.len()..PREFIX.len() + ID_BYTES]
    }

    pub(super) fn hash(&self) -> Hash {
        hash(self.0.as_bytes())
    }
}

impl fmt::Debug for KeyText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "KeyText({}, redacted)", self.id())
    }
}

/// Whether it was meant to be a key, good or bad.
pub(super) fn looks_like_a_key(given: &[u8]) -> bool {
    given.starts_with(PREFIX.as_bytes())
}

/// Reads what somebody sent: the id by which to find the key.
pub(crate) fn read(given: &[u8]) -> Result<Id, NotAKey> {
    if !looks_like_a_key(given) {
        return Err(NotAKey::Other);
    }
    if given.len() != KEY_BYTES || given[SECRET_AT - 1] != b'_' {
        return Err(NotAKey::Damaged);
    }
    let (before, claimed) = given.split_at(CHECKSUM_AT);
    if checksum(before) != claimed {
        return Err(NotAKey::Damaged);
    }
    let id = Id::try_from(&given[PREFIX.len()..PREFIX.len() + ID_BYTES]);
    Ok(id.expect("invariant: the length was looked at above"))
}

/// Whether an id could be one of ours.
pub(super) fn read_id(text: &str) -> Option<Id> {
    let id = Id::try_from(text.as_bytes()).ok()?;
    id.iter().all(|letter| ID_LETTERS.contains(letter)).then_some(id)
}

pub(super) fn hash(text: &[u8]) -> Hash {
    let digest = digest::digest(&digest::SHA256, text);
    digest.as_ref().try_into().expect("invariant: SHA-256 has 32 bytes")
}

/// Characters of an alphabet, each as likely as any other: bytes beyond the last whole multiple of its size are thrown away.
fn push_random(random: &SystemRandom, letters: &[u8], count: usize, text: &mut String) {
    let even = 256 - 256 % letters.len();
    let end = text.len() + count;
    while text.len() < end {
        let mut bytes = [0; 64];
        random.fill(&mut bytes).expect("the system has random numbers once it has booted");
        let fair = bytes.iter().map(|byte| usize::from(*byte)).filter(|byte| *byte < even);
        text.extend(fair.take(end - text.len()).map(|byte| char::from(letters[byte % letters.len()])));
    }
}

/// CRC-32 in six digits of base 62.
fn checksum(text: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut rest = crc32(text) as usize;
    let mut digits = [b'0'; CHECKSUM_BYTES];
    for digit in digits.iter_mut().rev() {
        *digit = LETTERS[rest % LETTERS.len()];
        rest /= LETTERS.len();
    }
    digits
}

/// CRC-32 as Ethernet has it (ISO/IEC 8802-3), reflected, four bits at a time.
fn crc32(bytes: &[u8]) -> u32 {
    const NIBBLES: [u32; 16] = {
        let mut table = [0; 16];
        let mut index = 0;
        while index < 16 {
            let (mut rest, mut bit) = (index as u32, 0);
            while bit < 4 {
                rest = if rest & 1 == 1 { (rest >> 1) ^ 0xEDB8_8320 } else { rest >> 1 };
                bit += 1;
            }
            table[index] = rest;
            index += 1;
        }
        table
    };
    let step = |crc: u32, nibble: u32| (crc >> 4) ^ NIBBLES[((crc ^ nibble) & 15) as usize];
    let byte = |crc: u32, byte: &u8| step(step(crc, u32::from(*byte)), u32::from(*byte) >> 4);
    !bytes.iter().fold(!0, byte)
}

/// A text that is a key in all but that nobody made it.
#[cfg(test)]
pub(super) fn forged(id: &str) -> String {
    let key = KeyText::random();
    let text = format!("{PREFIX}{id}{}", &key.0[SECRET_AT - 1..CHECKSUM_AT]);
    let checksum = checksum(text.as_bytes());
    text + std::str::from_utf8(&checksum).expect("ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_the_shape_that_scanners_look_for() {
        for _ in 0..100 {
            let key = KeyText::random();
            let (id, secret) = key.reveal().strip_prefix("tk_").unwrap().split_once('_').unwrap();
            assert_eq!((id, id.len(), secret.len(), key.reveal().len()), (key.id(), 12, 49, 65));
            assert!(id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()));
            assert!(secret.bytes().all(|byte| byte.is_ascii_alphanumeric()));
            assert_eq!(read(key.reveal().as_bytes()).map(|id| id.to_vec()), Ok(id.as_bytes().to_vec()));
        }
        assert_ne!(KeyText::random(), KeyText::random());
    }

    #[test]
    fn the_checksum_is_the_one_that_others_can_compute() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        assert_eq!(&checksum(b""), b"000000");
    }

    #[test]
    fn every_letter_that_is_mistyped_and_every_cut_is_noticed() {
        let key = KeyText::random();
        let text = key.reveal().as_bytes();
        for at in 3..text.len() {
            let mut wrong = text.to_vec();
            wrong[at] = if wrong[at] == b'x' { b'y' } else { b'x' };
            assert_eq!(read(&wrong), Err(NotAKey::Damaged), "at {at}");
            assert_eq!(read(&text[..at]), Err(NotAKey::Damaged), "cut at {at}");
        }
        let mut swapped = text.to_vec();
        let at = (20..64).find(|at| text[*at] != text[at + 1]).unwrap();
        swapped.swap(at, at + 1);
        assert_eq!(read(&swapped), Err(NotAKey::Damaged), "neighbours in each other's place");
        for other in ["", "tk", "Tk_x", "eyJhbGciOiJSUzI1NiJ9.e30.x"] {
            assert_eq!(read(other.as_bytes()), Err(NotAKey::Other), "{other}");
        }
    }

    #[test]
    fn letters_are_evenly_spread() {
        let mut counts = [0_u32; 256];
        let mut text = String::new();
        push_random(&SystemRandom::new(), LETTERS, 62 * 400, &mut text);
        text.bytes().for_each(|byte| counts[usize::from(byte)] += 1);
        for letter in LETTERS {
            // Six standard deviations of 20 around 400.
            assert!((280..520).contains(&counts[usize::from(*letter)]), "{}", char::from(*letter));
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let key = KeyText::random();
        assert_eq!(format!("{key:?}"), format!("KeyText({}, redacted)", key.id()));
    }
}

//! base64 (RFC 4648 section 4) as a stream, which gRPC-Web's text form is: groups of four letters that may be padded in the
//! midst of it, wherever the one who writes had to let go of what he had.

const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const PAD: u8 = b'=';
/// In [`VALUES`]: no letter.
const NONE: u8 = u8::MAX;
const VALUES: [u8; 256] = values();

const fn values() -> [u8; 256] {
    let mut values = [NONE; 256];
    let mut index = 0;
    while index < LETTERS.len() {
        values[LETTERS[index] as usize] = index as u8;
        index += 1;
    }
    values
}

/// The text is not base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// A letter that base64 has not, or padding where none can be.
    #[error("a letter that is none of base64")]
    Letter,
    /// It ends in the midst of a group.
    #[error("it ends in the midst of a group of four letters")]
    Cut,
}

/// Reads base64 piece by piece; holds at most three letters.
#[derive(Debug, Clone, Default)]
pub struct TextDecoder {
    group: [u8; 4],
    filled: usize,
}

impl TextDecoder {
    /// Appends to `out` the bytes of all groups that are complete.
    ///
    /// # Errors
    /// [`TextError::Letter`].
    pub fn decode(&mut self, text: &[u8], out: &mut Vec<u8>) -> Result<(), TextError> {
        out.reserve(text.len() / 4 * 3 + 3);
        for letter in text {
            self.group[self.filled] = *letter;
            self.filled += 1;
            if self.filled == self.group.len() {
                self.filled = 0;
                decode_group(self.group, out)?;
            }
        }
        Ok(())
    }

    /// The end of the text.
    ///
    /// # Errors
    /// [`TextError::Cut`] in the midst of a group.
    pub fn finish(&self) -> Result<(), TextError> {
        if self.filled == 0 { Ok(()) } else { Err(TextError::Cut) }
    }
}

fn decode_group(group: [u8; 4], out: &mut Vec<u8>) -> Result<(), TextError> {
    let bytes = match group {
        [_, _, PAD, PAD] => 1,
        [_, _, _, PAD] => 2,
        _ => 3,
    };
    let mut bits = 0;
    for letter in &group[..=bytes] {
        let value = VALUES[usize::from(*letter)];
        if value == NONE {
            return Err(TextError::Letter);
        }
        bits = bits << 6 | u32::from(value);
    }
    bits <<= 6 * (3 - bytes);
    out.extend_from_slice(&bits.to_be_bytes()[1..=bytes]);
    Ok(())
}

/// Writes base64 piece by piece; holds at most two bytes.
#[derive(Debug, Clone, Default)]
pub struct TextEncoder {
    rest: [u8; 2],
    filled: usize,
}

impl TextEncoder {
    /// Appends to `out` the letters of all groups that are complete.
    pub fn encode(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        out.reserve(bytes.len() / 3 * 4 + 4);
        while self.filled > 0 {
            let Some((first, after)) = bytes.split_first() else { return };
            bytes = after;
            if self.filled == self.rest.len() {
                encode_group([self.rest[0], self.rest[1], *first], out);
                self.filled = 0;
            } else {
                self.rest[self.filled] = *first;
                self.filled += 1;
            }
        }
        let (groups, rest) = bytes.as_chunks::<3>();
        groups.iter().for_each(|group| encode_group(*group, out));
        self.rest[..rest.len()].copy_from_slice(rest);
        self.filled = rest.len();
    }

    /// Appends to `out` what is held, padded: its reader can decode every byte then.
    pub fn flush(&mut self, out: &mut Vec<u8>) {
        if self.filled == 0 {
            return;
        }
        let mut group = [0; 3];
        group[..self.filled].copy_from_slice(&self.rest[..self.filled]);
        encode_group(group, out);
        let padding = 3 - self.filled;
        let end = out.len();
        out[end - padding..].fill(PAD);
        self.filled = 0;
    }
}

fn encode_group(group: [u8; 3], out: &mut Vec<u8>) {
    let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
    let letter = |shift: u32| LETTERS[(bits >> shift & 63) as usize];
    out.extend_from_slice(&[letter(18), letter(12), letter(6), letter(0)]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(bytes: &[u8]) -> String {
        let (mut encoder, mut out) = (TextEncoder::default(), Vec::new());
        encoder.encode(bytes, &mut out);
        encoder.flush(&mut out);
        String::from_utf8(out).expect("letters")
    }

    fn decoded(text: &str) -> Result<Vec<u8>, TextError> {
        let (mut decoder, mut out) = (TextDecoder::default(), Vec::new());
        decoder.decode(text.as_bytes(), &mut out)?;
        decoder.finish()?;
        Ok(out)
    }

    #[test]
    fn rfc4648_10_test_vectors() {
        let vectors = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (bytes, text) in vectors {
            assert_eq!(encoded(bytes.as_bytes()), text);
            assert_eq!(decoded(text).as_deref(), Ok(bytes.as_bytes()));
        }
    }

    #[test]
    fn padding_may_stand_in_the_midst_and_nonsense_may_not() {
        assert_eq!(decoded("Zg==Zm8=Zm9v").as_deref(), Ok(&b"ffofoo"[..]));
        for text in ["Z===", "====", "=g==", "Zg=a", "Zm\n9", "Zm9-"] {
            assert_eq!(decoded(text), Err(TextError::Letter), "{text:?}");
        }
        assert_eq!(decoded("Zm9vY"), Err(TextError::Cut));
    }

    proptest! {
        #[test]
        fn what_is_written_in_any_pieces_is_read_in_any_pieces(
            pieces in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..20), any::<bool>()), 0..12),
            step in 1_usize..9,
        ) {
            let (mut encoder, mut text) = (TextEncoder::default(), Vec::new());
            for (piece, is_flushed) in &pieces {
                encoder.encode(piece, &mut text);
                if *is_flushed {
                    encoder.flush(&mut text);
                }
            }
            encoder.flush(&mut text);
            let (mut decoder, mut bytes) = (TextDecoder::default(), Vec::new());
            for piece in text.chunks(step) {
                decoder.decode(piece, &mut bytes).expect("letters");
            }
            prop_assert_eq!(decoder.finish(), Ok(()));
            let whole: Vec<u8> = pieces.into_iter().flat_map(|(piece, _)| piece).collect();
            prop_assert_eq!(bytes, whole);
        }
    }
}

//! Protocol Buffers on the wire (protobuf.dev, "Encoding"): a message is a row of fields, each a number and a value of one
//! of four shapes.
//!
//! Read by hand instead of into generated structs, since whoever sends two bytes for an empty span must not cost us the
//! two hundred of a struct before anybody has counted them.

use std::borrow::Cow;

use crate::DecodeError;

/// A value as it lies on the wire.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Raw<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

/// The fields of a message, in the order in which they lie there.
#[derive(Debug, Clone)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn field(&mut self) -> Result<(u32, Raw<'a>), DecodeError> {
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| DecodeError::Malformed)?;
        let raw = match tag & 7 {
            0 => Raw::Varint(self.varint()?),
            1 => Raw::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| DecodeError::Malformed)?;
                Raw::Bytes(self.take(length)?)
            }
            5 => Raw::Fixed32(u32::from_le_bytes(self.array()?)),
            // Groups, which OTLP never had, and what is no shape at all.
            _ => return Err(DecodeError::Malformed),
        };
        if number == 0 { Err(DecodeError::Malformed) } else { Ok((number, raw)) }
    }

    fn varint(&mut self) -> Result<u64, DecodeError> {
        let (value, rest) = varint(self.rest).ok_or(DecodeError::Malformed)?;
        self.rest = rest;
        Ok(value)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (array, rest) = self.rest.split_first_chunk().ok_or(DecodeError::Malformed)?;
        self.rest = rest;
        Ok(*array)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(DecodeError::Malformed)?;
        self.rest = rest;
        Ok(taken)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Raw<'a>), DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            // Nothing behind a broken field can be trusted.
            self.rest = &[];
        }
        Some(field)
    }
}

/// A number of seven bits a byte, lowest first, and what follows it.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (place, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f).checked_shl(7 * place as u32)?;
        if byte & 0x80 == 0 {
            return Some((value, &bytes[place + 1..]));
        }
    }
    None
}

/// The numbers of a packed field of eight bytes each; at most `max`.
pub(crate) fn packed_fixed64(bytes: &[u8], max: usize) -> impl Iterator<Item = u64> {
    bytes.chunks_exact(8).take(max).map(|chunk| {
        let mut array = [0; 8];
        array.copy_from_slice(chunk);
        u64::from_le_bytes(array)
    })
}

/// The numbers of a packed field of varints; at most `max`, and up to the first that is broken.
pub(crate) fn packed_varints(bytes: &[u8], max: usize) -> impl Iterator<Item = u64> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (value, behind) = varint(rest)?;
        rest = behind;
        Some(value)
    })
    .take(max)
}

/// A signed number as its zigzag form.
pub(crate) fn from_zigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

pub(crate) fn to_zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// A text of at most `max` bytes. Bytes that are no UTF-8 are replaced, for a wrong character is no reason to lose a span.
pub(crate) fn text(bytes: &[u8], max: usize) -> Cow<'_, str> {
    if bytes.len() <= max {
        return String::from_utf8_lossy(bytes);
    }
    // A character that the cut went through is left out whole.
    let cut = &bytes[..max];
    match std::str::from_utf8(cut) {
        Ok(whole) => Cow::Borrowed(whole),
        Err(error) if error.error_len().is_none() => String::from_utf8_lossy(&cut[..error.valid_up_to()]),
        Err(_) => String::from_utf8_lossy(cut),
    }
}

/// A message that is being written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Message(pub(crate) Vec<u8>);

impl Message {
    pub(crate) fn varint(&mut self, number: u32, value: u64) {
        self.tag(number, 0);
        self.raw_varint(value);
    }

    pub(crate) fn fixed64(&mut self, number: u32, value: u64) {
        self.tag(number, 1);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn fixed32(&mut self, number: u32, value: u32) {
        self.tag(number, 5);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn double(&mut self, number: u32, value: f64) {
        self.fixed64(number, value.to_bits());
    }

    pub(crate) fn bytes(&mut self, number: u32, value: &[u8]) {
        self.tag(number, 2);
        self.raw_varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    /// Nothing for an empty text, as it is the default.
    pub(crate) fn text(&mut self, number: u32, value: &str) {
        if !value.is_empty() {
            self.bytes(number, value.as_bytes());
        }
    }

    pub(crate) fn message(&mut self, number: u32, write: impl FnOnce(&mut Message)) {
        let mut inner = Message::default();
        write(&mut inner);
        self.bytes(number, &inner.0);
    }

    fn tag(&mut self, number: u32, shape: u64) {
        self.raw_varint(u64::from(number) << 3 | shape);
    }

    pub(crate) fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Result<Vec<(u32, Raw<'_>)>, DecodeError> {
        Fields::new(bytes).collect()
    }

    #[test]
    fn the_examples_of_the_encoding_guide_are_read() {
        // protobuf.dev, "Encoding": field 1 = 150; field 2 = "testing"; a packed field 6 = 3, 270, 86942.
        assert_eq!(read(&[0x08, 0x96, 0x01]), Ok(vec![(1, Raw::Varint(150))]));
        assert_eq!(read(b"\x12\x07testing"), Ok(vec![(2, Raw::Bytes(b"testing"))]));
        let packed = [0x03, 0x8e, 0x02, 0x9e, 0xa7, 0x05];
        assert_eq!(packed_varints(&packed, 9).collect::<Vec<_>>(), [3, 270, 86_942]);
        assert_eq!([0, 1, 2, 3, 4_294_967_294].map(from_zigzag), [0, -1, 1, -2, 2_147_483_647]);
    }

    #[test]
    fn a_message_that_breaks_off_is_malformed() {
        for broken in
            [&[0x08][..], &[0x08, 0x80], &[0x12, 5, 1], &[0x09, 0], &[0x0b], &[0x00, 1], &[0xff; 11]]
        {
            assert_eq!(read(broken), Err(DecodeError::Malformed), "{broken:?}");
        }
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(text("grün".as_bytes(), 3), "gr");
        assert_eq!(text(b"a\xffb", 3), "a\u{fffd}b");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(number in 1_u32..1 << 28, value: u64, bytes: Vec<u8>, signed: i64) {
            let mut message = Message::default();
            message.varint(number, value);
            message.fixed64(number, value);
            message.fixed32(number, value as u32);
            message.bytes(number, &bytes);
            let expected = [Raw::Varint(value), Raw::Fixed64(value), Raw::Fixed32(value as u32), Raw::Bytes(&bytes)];
            prop_assert_eq!(read(&message.0), Ok(expected.map(|raw| (number, raw)).to_vec()));
            prop_assert_eq!(from_zigzag(to_zigzag(signed)), signed);
        }
    }
}

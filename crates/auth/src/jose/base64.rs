//! base64url without padding, as JOSE writes bytes (RFC 7515 section 2): one text for each value, and no other is read.
//!
//! Two texts for one value would be two tokens for one signature; so loose bits at the end, padding, blanks and the other
//! alphabet's letters are all refused.

use data_encoding::BASE64URL_NOPAD;

/// The bytes that `text` stands for; nothing if it is not the one way to write them.
pub(crate) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    BASE64URL_NOPAD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc7515_c_the_example_reads_as_its_bytes() {
        assert_eq!(decode(b"A-z_4ME").as_deref(), Some(&[3, 236, 255, 224, 193][..]));
        assert_eq!(decode(b"").as_deref(), Some(&[][..]));
    }

    #[test]
    fn there_is_one_way_to_write_bytes() {
        for text in ["A-z_4MF", "A-z_4ME=", "A+z/4ME", "A-z_4ME\n", " A-z_4ME", "A-z_4", "A", "AB\0C"] {
            assert_eq!(decode(text.as_bytes()), None, "{text:?}");
        }
    }
}

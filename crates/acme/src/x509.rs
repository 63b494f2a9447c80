//! The little of a certificate that decides when it is renewed and how it is spoken of: from when to when it holds, its
//! number, and which key of its authority signed it. Whether it is any good is for clients to verify; here it is only
//! read, strictly enough that no bytes can lead astray (DER, ITU-T X.690; certificates, RFC 5280 section 4.1).

use std::time::Duration;

use crate::moment;

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OBJECT_ID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
/// `keyIdentifier [0]` of an authority key identifier.
const KEY_ID: u8 = 0x80;
/// 2.5.29.35, authorityKeyIdentifier (RFC 5280 section 4.2.1.1).
const AUTHORITY_KEY_ID: &[u8] = &[0x55, 0x1d, 0x23];

/// What is known of a certificate. Moments are since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    /// From when on it holds.
    pub(crate) not_before: Duration,
    /// Until when.
    pub(crate) not_after: Duration,
    /// Its number, as the bytes of the integer.
    pub(crate) serial: Vec<u8>,
    /// Which key of its authority signed it.
    pub(crate) authority_key: Option<Vec<u8>>,
}

impl Facts {
    /// How long it holds from beginning to end.
    pub(crate) fn lifetime(&self) -> Duration {
        self.not_after.saturating_sub(self.not_before)
    }

    /// What follows the first value.
    pub(crate) fn after(der: &[u8]) -> &[u8] {
        let mut rest = der;
        let _certificate = next(&mut rest);
        rest
    }

    /// Reads a certificate in DER; nothing when it is none.
    pub(crate) fn read(der: &[u8]) -> Option<Self> {
        let mut whole = der;
        let mut certificate = take(&mut whole, SEQUENCE)?;
        let mut signed = take(&mut certificate, SEQUENCE)?;
        if signed.first() == Some(&VERSION) {
            take(&mut signed, VERSION)?;
        }
        let serial = take(&mut signed, INTEGER)?.to_vec();
        let _algorithm = take(&mut signed, SEQUENCE)?;
        let _issuer = take(&mut signed, SEQUENCE)?;
        let mut validity = take(&mut signed, SEQUENCE)?;
        let (not_before, not_after) = (time(&mut validity)?, time(&mut validity)?);
        let _subject = take(&mut signed, SEQUENCE)?;
        let _key = take(&mut signed, SEQUENCE)?;
        Some(Self { not_before, not_after, serial, authority_key: authority_key(signed) })
    }
}

fn time(rest: &mut &[u8]) -> Option<Duration> {
    match next(rest)? {
        (UTC_TIME, text) => moment::utc_time(text),
        (GENERALIZED_TIME, text) => moment::generalized_time(text),
        _ => None,
    }
}

/// `rest`: what stands behind the key, up to two unique ids and the extensions.
fn authority_key(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut wrapped = loop {
        match next(&mut rest)? {
            (EXTENSIONS, extensions) => break extensions,
            _ => continue,
        }
    };
    let mut extensions = take(&mut wrapped, SEQUENCE)?;
    while let Some((SEQUENCE, mut extension)) = next(&mut extensions) {
        if take(&mut extension, OBJECT_ID)? != AUTHORITY_KEY_ID {
            continue;
        }
        // `critical` may stand between, false by default.
        let mut value = loop {
            match next(&mut extension)? {
                (OCTET_STRING, value) => break value,
                _ => continue,
            }
        };
        let mut parts = take(&mut value, SEQUENCE)?;
        return take(&mut parts, KEY_ID).map(<[u8]>::to_vec);
    }
    None
}

/// The content of the next value, if it is of that kind.
fn take<'d>(rest: &mut &'d [u8], tag: u8) -> Option<&'d [u8]> {
    match next(rest)? {
        (found, content) if found == tag => Some(content),
        _ => None,
    }
}

/// The next value: its tag and its content. Lengths are in the shortest form, as DER wants them (X.690 section 10.1).
fn next<'d>(rest: &mut &'d [u8]) -> Option<(u8, &'d [u8])> {
    let (&tag, after) = rest.split_first()?;
    let (&first, after) = after.split_first()?;
    let (length, after) = match first {
        0..=0x7f => (usize::from(first), after),
        0x81..=0x84 => {
            let (bytes, after) = after.split_at_checked(usize::from(first - 0x80))?;
            let length = bytes.iter().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
            let is_shortest = bytes[0] != 0 && length > 0x7f;
            (is_shortest.then_some(length)?, after)
        }
        _ => return None,
    };
    let (content, after) = after.split_at_checked(length)?;
    // Of a bit string nothing is asked here but that it has its first byte.
    if tag == BIT_STRING && content.is_empty() {
        return None;
    }
    *rest = after;
    Some((tag, content))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyIdMethod, KeyPair, SerialNumber};

    use super::*;

    /// Signed by an authority with that key id, if it says so.
    pub(crate) fn certificate(key_id: Option<&[u8]>) -> Vec<u8> {
        let authority_key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        if let Some(key_id) = key_id {
            params.key_identifier_method = KeyIdMethod::PreSpecified(key_id.to_vec());
        }
        let authority = Issuer::new(params, authority_key);
        let mut params = CertificateParams::new(["a.example".to_owned()]).expect("a name");
        params.serial_number = Some(SerialNumber::from_slice(&[0xca, 0xfe]));
        params.not_before = rcgen::date_time_ymd(2026, 1, 2);
        params.not_after = rcgen::date_time_ymd(2062, 3, 4);
        params.use_authority_key_identifier_extension = key_id.is_some();
        let key = KeyPair::generate().expect("a key");
        params.signed_by(&key, &authority).expect("a certificate").der().to_vec()
    }

    #[test]
    fn rfc5280_4_1_when_it_holds_and_who_signed_it_is_read() {
        let facts = Facts::read(&certificate(Some(&[0xc0, 0xff, 0xee]))).expect("readable");
        assert_eq!(facts.not_before, Duration::from_secs(1_767_312_000));
        assert_eq!(facts.not_after, Duration::from_secs(2_908_656_000), "as GeneralizedTime");
        assert_eq!(facts.authority_key.as_deref(), Some(&[0xc0, 0xff, 0xee][..]));
        assert_eq!(facts.serial, [0, 0xca, 0xfe], "a positive number, so a zero comes first");
        assert_eq!(Facts::read(&certificate(None)).expect("readable").authority_key, None);
    }

    #[test]
    fn what_is_no_certificate_is_read_as_none() {
        for bytes in [&b""[..], b"0", &[0x30, 0x80, 0, 0], &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff], b"hello"] {
            assert_eq!(Facts::read(bytes), None);
        }
        let whole = certificate(Some(&[1]));
        assert_eq!(whole[..2], [0x30, 0x82], "two bytes of length");
        let padded = [&[0x30, 0x83, 0][..], &whole[2..]].concat();
        assert_eq!(Facts::read(&padded), None, "X.690 section 10.1: a length that could be shorter");
        for length in 0..whole.len() {
            assert_eq!(Facts::read(&whole[..length]), None, "cut off after {length} bytes");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _read = Facts::read(&bytes);
        }

        #[test]
        fn no_broken_certificate_panics(breaks in prop::collection::vec((0_usize..700, any::<u8>()), 1..8)) {
            let mut bytes = certificate(Some(&[1, 2, 3]));
            for (at, byte) in breaks {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            let _read = Facts::read(&bytes);
        }
    }
}

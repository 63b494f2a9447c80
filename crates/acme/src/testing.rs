//! Certificates for tests, signed by nobody in particular.

use std::ops::Range;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};

/// The first of January 2026, in seconds since 1970: days of tests count from there.
pub(crate) const EPOCH: u64 = 1_767_225_600;

/// Moment of the wall clock, so many days after the first one of the tests.
pub(crate) fn day(day: u64) -> Duration {
    Duration::from_secs(EPOCH + day * 86_400)
}

/// Key and certificate in PEM, for these hosts, from the one day to the other.
pub(crate) fn certificate(hosts: &[String], days: Range<u64>) -> Vec<u8> {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(hosts.to_vec()).expect("names");
    let first = rcgen::date_time_ymd(2026, 1, 1);
    params.not_before = first + Duration::from_secs(days.start * 86_400);
    params.not_after = first + Duration::from_secs(days.end * 86_400);
    let certificate = params.self_signed(&key).expect("a certificate");
    format!("{}{}", key.serialize_pem(), certificate.pem()).into_bytes()
}

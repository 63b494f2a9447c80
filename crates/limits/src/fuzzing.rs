//! Entries for fuzzers: what comes from outside this process is read here. Not an interface.

use crate::{quotas, resp};

/// Reads answers of a Redis, or of whoever speaks in its place, one after the other.
///
/// # Panics
/// When an answer takes nothing, or more than there is.
pub fn resp(mut bytes: &[u8]) {
    while let Ok(Some((_, used))) = resp::parse(bytes) {
        assert!(used > 0 && used <= bytes.len());
        bytes = &bytes[used..];
    }
}

/// Reads what a file of quotas holds, as if a crash had left it like this; what was read reads the same when it is written.
///
/// # Panics
/// When it does not.
pub fn quota_log(bytes: &[u8]) {
    let records = quotas::read(bytes);
    assert_eq!(quotas::read(&quotas::write(&records)), records);
}

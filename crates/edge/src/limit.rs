//! How often and how many at once: each limit of a route has its say, and a request that one refuses costs the others
//! nothing.

use terrace_http::ResponseHead;

use crate::chain::{Ending, Request, Way};
use crate::journal::Journal;

/// One limit, and what its keys are made of.
#[derive(Debug, Clone, Default)]
pub struct Limit {}

/// What limits say of the client's next requests, and places held until the answer's end.
#[derive(Debug, Default)]
pub(crate) struct Taken {}

impl Taken {
    /// Tells the client how it stands.
    pub(crate) fn tell(&self, _head: &mut ResponseHead) {}
}

/// Takes from every limit, or from none.
pub(crate) async fn admit(
    _way: Way<'_>,
    _limits: &[Limit],
    _request: &mut Request<'_, '_>,
    _journal: &mut Journal<'_>,
) -> Result<(), Ending> {
    Ok(())
}

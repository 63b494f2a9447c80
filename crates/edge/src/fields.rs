//! Changes to a request's fields and query, and to an answer's fields and status. What frames a message or is between
//! neighbours cannot be changed here.

use terrace_http::{RequestHead, ResponseHead};

use crate::chain::{Ending, Request, Way};
use crate::journal::Journal;

/// What is changed, made ready.
#[derive(Debug, Clone, Default)]
pub struct Changes {}

/// Changes what the service is told.
pub(crate) fn change_request(
    _way: Way<'_>,
    _changes: &Changes,
    _request: &mut Request<'_, '_>,
    _journal: &mut Journal<'_>,
) -> Result<(), Ending> {
    Ok(())
}

/// Changes what the client is told.
pub(crate) fn change_response(_changes: &Changes, _request: &RequestHead, _head: &mut ResponseHead) {}

//! Requests held against a schema before the service sees them: the body is read within a bound, judged, and sent on byte
//! for byte.

use crate::chain::{Ending, Request};

/// What a request must look like.
#[derive(Debug, Clone, Default)]
pub struct Schema {}

/// Refuses a request that does not fit.
pub(crate) async fn admit(_schema: &Schema, _request: &mut Request<'_, '_>) -> Result<(), Ending> {
    Ok(())
}

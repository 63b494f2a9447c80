//! What becomes of metrics and events: exposition and logs.
#![forbid(unsafe_code)]

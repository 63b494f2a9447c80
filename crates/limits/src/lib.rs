//! Limits beyond one process: shared between machines through Redis, and quotas that survive a restart. The decisions
//! themselves are `policy`'s.
#![forbid(unsafe_code)]

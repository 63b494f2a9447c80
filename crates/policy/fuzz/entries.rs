//! What the fuzzers call, and what must hold of every input.

use std::time::Duration;

use terrace_policy::{
    format_grpc_timeout, format_request_deadline, parse_grpc_timeout, parse_request_deadline,
};

/// The first moment of 2026.
const WALL: Duration = Duration::from_secs(1_767_225_600);

/// Both fields: what is read and handed on is never more than was left.
pub(crate) fn deadline(data: &[u8]) {
    if let Some(left) = parse_grpc_timeout(data) {
        let mut out = Vec::new();
        format_grpc_timeout(left, &mut out);
        let handed_on = parse_grpc_timeout(&out).expect("what is written can be read");
        assert!(handed_on <= left && out.len() <= 9, "{left:?} became {handed_on:?}");
    }
    if let Some(left) = parse_request_deadline(data, WALL) {
        assert!(left <= Duration::from_secs(30 * 24 * 3600), "{left:?}");
        let mut out = Vec::new();
        format_request_deadline(WALL + left, &mut out);
        let handed_on = parse_request_deadline(&out, WALL).expect("what is written can be read");
        assert!(handed_on <= left, "{left:?} became {handed_on:?}");
    }
}

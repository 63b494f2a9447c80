//! `[trace]`: which requests leave a trace.

use std::time::Duration;

use super::read::{Read, Reader, Switch, table};
use super::tree::Node;
use super::values::Share;

table! {
    /// Traces: the way of single requests, step by step. Those of failed and of slow requests are always kept.
    pub(crate) struct TraceTable {
        /// Share of the traces begun here that is kept whatever becomes of the request. A caller's `traceparent` is
        /// taken over, with its decision. `false`: no tracing at all.
        "sample" sample: Switch<Share> = "1%";
        /// A request that takes longer than this keeps its trace.
        "slow" slow: Duration = "1s", within "1ms" to "1h";
    }
}

/// Which requests leave a trace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trace {
    /// Share (0 to 1) that is kept whatever becomes of them; `None`: no tracing at all.
    pub sample_share: Option<f64>,
    /// What takes longer is kept.
    pub slow: Duration,
}

pub(crate) fn resolve(node: &Node, reader: &mut Reader<'_>) -> Option<Trace> {
    let table = TraceTable::read(node, reader)?;
    Some(Trace { sample_share: table.sample.on().map(|share| share.0), slow: table.slow })
}

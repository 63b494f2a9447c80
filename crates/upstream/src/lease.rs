//! The right to use an endpoint for one request, and afterwards for one upgraded connection.
//!
//! A lease counts where it is used: as a request in flight from the pick until it is dropped, whichever way
//! the request ends. An upgraded connection turns its lease into a [`StreamLease`], because a drain waits
//! seconds for requests and minutes for streams.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::endpoint::Endpoint;

/// How an attempt failed, as far as the endpoint can be blamed. A client that went away is none of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// No connection could be established.
    Connect,
    /// The connection broke before the response was complete.
    Reset,
    /// A timeout passed.
    Timeout,
    /// What came back was not valid.
    Malformed,
    /// A status that counts as a failure.
    Status,
}

impl FailureKind {
    pub(crate) const ALL: [Self; 5] =
        [Self::Connect, Self::Reset, Self::Timeout, Self::Malformed, Self::Status];

    /// In lower case, as in labels and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Malformed => "malformed",
            Self::Status => "status",
        }
    }
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A response head came that counts as no failure.
    Success {
        /// From sending the request to the response head.
        latency: Duration,
    },
    /// It failed.
    Failure {
        /// How.
        kind: FailureKind,
        /// From sending the request until then.
        latency: Duration,
    },
}

/// One request at one endpoint. Dropped without [`Lease::done`] it says nothing about the endpoint.
pub struct Lease {
    endpoint: Arc<Endpoint>,
    is_stream: bool,
}

/// One upgraded connection to one endpoint.
pub struct StreamLease(Arc<Endpoint>);

impl Lease {
    /// Of an endpoint at which a request was begun.
    pub(crate) fn of_begun(endpoint: Arc<Endpoint>) -> Self {
        Self { endpoint, is_stream: false }
    }

    /// The endpoint to use.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Tells how the attempt ended, as soon as it is known, which for a success is at the response head; a response that
    /// breaks off afterwards is told as a failure too.
    /// The request stays in flight until the lease is dropped.
    pub fn done(&self, outcome: Outcome, now: Duration) {
        self.endpoint.record(outcome, now);
    }

    /// The request became an upgraded connection.
    pub fn into_stream(mut self) -> StreamLease {
        self.is_stream = true;
        self.endpoint.request_becomes_stream();
        StreamLease(Arc::clone(&self.endpoint))
    }
}

impl StreamLease {
    /// The endpoint in use.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.is_stream {
            self.endpoint.end_request();
        }
    }
}

impl Drop for StreamLease {
    fn drop(&mut self) {
        self.0.end_stream();
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lease").field(&self.endpoint.name()).finish()
    }
}

impl fmt::Debug for StreamLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StreamLease").field(&self.0.name()).finish()
    }
}

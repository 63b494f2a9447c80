//! The right to use an endpoint for one request, and afterwards for one upgraded connection.
//!
//! A lease counts where it is used: as a request in flight from the pick until it is dropped, whichever way
//! the request ends. An upgraded connection turns its lease into a [`StreamLease`], because a drain waits
//! seconds for requests and minutes for streams.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use terrace_policy::ProbeEnd;

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
    owes: Cell<Owes>,
    /// It is the one request that an endpoint which is out is probed with, and has not ended as such.
    is_probe: Cell<bool>,
}

/// What of a request is still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owes {
    /// Its own end, from the client.
    Request,
    /// The endpoint's answer.
    Answer,
    /// At most a body.
    Nothing,
    /// It goes on as a stream, which is counted as one.
    Stream,
}

/// One upgraded connection to one endpoint.
pub struct StreamLease(Arc<Endpoint>);

impl Lease {
    /// Of an endpoint at which a request was begun, `is_whole` or not.
    pub(crate) fn of_begun(endpoint: Arc<Endpoint>, is_whole: bool, is_probe: bool) -> Self {
        let owes = if is_whole { Owes::Answer } else { Owes::Request };
        Self { endpoint, owes: Cell::new(owes), is_probe: Cell::new(is_probe) }
    }

    /// The endpoint to use.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Whether the endpoint is out and this request is to find out whether it is well again: what becomes of it decides,
    /// and its client shall not suffer for it.
    pub fn is_probe(&self) -> bool {
        self.is_probe.get()
    }

    /// The request was sent whole: from here on the endpoint owes an answer. Not to be told of requests without a body,
    /// which are whole from the beginning ([`Ask::is_whole`](crate::Ask)).
    pub fn sent(&self, now: Duration) {
        if self.owes.get() == Owes::Request {
            self.owes.set(Owes::Answer);
            self.endpoint.request_is_whole(now);
        }
    }

    /// Tells how the attempt ended, as soon as it is known, which for a success is at the response head; a response that
    /// breaks off afterwards is told as a failure too.
    /// The request stays in flight until the lease is dropped.
    pub fn done(&self, outcome: Outcome, now: Duration) {
        let is_heard =
            !matches!(outcome, Outcome::Failure { kind: FailureKind::Timeout | FailureKind::Connect, .. });
        match self.owes.replace(Owes::Nothing) {
            Owes::Answer => self.endpoint.request_is_answered(is_heard),
            Owes::Request | Owes::Nothing | Owes::Stream => {}
        }
        self.endpoint.record(outcome, now);
        if self.is_probe.get() {
            let is_well = match outcome {
                Outcome::Success { latency } => self.endpoint.is_fast_enough(latency),
                Outcome::Failure { .. } => false,
            };
            self.end_probe(if is_well { ProbeEnd::Well } else { ProbeEnd::Ill }, now);
        }
    }

    /// Nobody waits for the answer any longer than for a moment: a probe that takes so long has failed, whatever comes.
    pub fn overdue(&self, now: Duration) {
        if self.is_probe.get() {
            self.end_probe(ProbeEnd::Ill, now);
        }
    }

    /// The request became an upgraded connection.
    pub fn into_stream(self) -> StreamLease {
        self.end_owing();
        self.owes.set(Owes::Stream);
        self.endpoint.request_becomes_stream();
        StreamLease(Arc::clone(&self.endpoint))
    }

    fn end_owing(&self) {
        if self.owes.replace(Owes::Nothing) == Owes::Answer {
            self.endpoint.request_is_answered(false);
        }
    }

    fn end_probe(&self, end: ProbeEnd, now: Duration) {
        self.is_probe.set(false);
        self.endpoint.end_probe(end, now);
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
        match self.owes.get() {
            Owes::Answer => self.endpoint.end_awaited_request(),
            Owes::Request | Owes::Nothing => self.endpoint.end_request(),
            Owes::Stream => {}
        }
        if self.is_probe.get() {
            // Without a verdict the moment does not matter: the next probe may begin at once.
            self.end_probe(ProbeEnd::Nothing, Duration::ZERO);
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

//! The state of endpoints as plain data, for whoever shows it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::endpoint::{Endpoint, Health};
use crate::live::Candidates;
use crate::roster::{MemberState, Seat};

/// One endpoint at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointReport {
    /// Its name.
    pub name: Arc<str>,
    /// Where it is.
    pub address: SocketAddr,
    /// Its configured weight.
    pub weight: u32,
    /// What its source says; none, when it was withdrawn and is still busy.
    pub state: Option<MemberState>,
    /// What active checks say.
    pub health: Health,
    /// Whether an operator took it out of rotation.
    pub is_drained: bool,
    /// It is out for failing, and for so much longer any request is kept away; then, or sooner where a request may be sent
    /// twice, the next one finds out whether it is well.
    pub ejected_for: Option<Duration>,
    /// Whether requests may go there now.
    pub is_candidate: bool,
    /// Requests in flight.
    pub in_flight: u32,
    /// Upgraded connections.
    pub streams: u32,
    /// Open connections, idle ones included.
    pub connections: u32,
    /// How long the last answer that was fine took to its head; none before the first.
    pub latency: Option<Duration>,
    /// Attempts that failed since then, or since it was let in again.
    pub failures_in_row: u32,
}

impl EndpointReport {
    pub(crate) fn published(seat: &Seat, candidates: &Candidates, now: Duration) -> Self {
        let is_candidate = candidates.contains(seat.endpoint.id());
        Self {
            weight: seat.weight,
            state: Some(seat.state),
            is_candidate,
            ..Self::withdrawn(&seat.endpoint, now)
        }
    }

    pub(crate) fn withdrawn(endpoint: &Endpoint, now: Duration) -> Self {
        let ends_at = endpoint.ejection().ends_at();
        Self {
            name: Arc::clone(endpoint.name()),
            address: endpoint.address(),
            weight: 0,
            state: None,
            health: endpoint.health(),
            is_drained: endpoint.is_drained(),
            ejected_for: ends_at.map(|ends_at| ends_at.saturating_sub(now)),
            is_candidate: false,
            in_flight: endpoint.in_flight(),
            streams: endpoint.streams(),
            connections: endpoint.connections(),
            latency: endpoint.latency(),
            failures_in_row: endpoint.failures_in_row(),
        }
    }
}

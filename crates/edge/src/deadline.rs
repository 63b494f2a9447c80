//! Until when a request must be answered, as its caller says and the route allows, and how the endpoint is told.
//!
//! A caller that is believed (a trusted proxy, or a neighbour on an internal listener) may leave less time than the route
//! does, never more. What cannot be answered by then is not begun. An endpoint is told in `X-Request-Deadline` until when it
//! is waited for, and a gRPC endpoint in `grpc-timeout` how much is left. A deadline that a caller set too short is not the
//! endpoint's failure.

use std::time::Duration;

use terrace_http::{Fields, Known};
use terrace_policy::{
    Timeouts, can_make_it, format_grpc_timeout, format_request_deadline, parse_grpc_timeout,
    parse_request_deadline,
};
use terrace_runtime::clock;

use crate::chain::{Request, Towards, Way};
use crate::config::Purpose;
use crate::journal::Journal;
use crate::metrics::Shed;
use crate::problem::{Fault, Problem};

/// How long a request may take in all its parts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Time {
    pub(crate) timeouts: Timeouts,
    /// The end of it all is the caller's doing.
    pub(crate) is_callers: bool,
    /// When it must be over.
    pub(crate) until: Option<Duration>,
    /// Endpoints are told.
    is_told: bool,
}

impl Time {
    /// How long the request may take; or that it cannot be answered in time.
    ///
    /// # Errors
    /// The answer, when less is left than the service's fastest answers take.
    pub(crate) fn of(
        way: Way<'_>,
        to: Towards<'_>,
        request: &mut Request<'_, '_>,
        journal: &mut Journal<'_>,
    ) -> Result<Self, Problem> {
        let mut timeouts = to.policy.timeouts;
        let fields = &mut request.exchange.head.fields;
        let asked = if to.policy.deadline { callers(way, fields, journal.began()) } else { None };
        let is_callers = asked.is_some_and(|asked| timeouts.total.is_none_or(|total| asked < total));
        timeouts.total = if is_callers { asked } else { timeouts.total };
        let until = timeouts.total.map(|total| journal.began() + total);
        let time = Self { timeouts, is_callers, until, is_told: to.policy.deadline };
        if is_callers {
            time.hold_against(to, request, journal)?;
        }
        Ok(time)
    }

    fn hold_against(
        &self,
        to: Towards<'_>,
        request: &Request<'_, '_>,
        journal: &mut Journal<'_>,
    ) -> Result<(), Problem> {
        let usual = to.service.upstream.usual();
        let fastest = usual.fastest.filter(|_| usual.is_known);
        let left = self.until.map_or(Duration::MAX, |until| until.saturating_sub(clock::now()));
        if can_make_it(left, Duration::ZERO, fastest) {
            return Ok(());
        }
        to.gate.shed(Shed::Deadline, request.passed.priority, journal);
        let detail = format!(
            "the caller leaves {} ms, and service {} has hardly ever answered so fast",
            left.as_millis(),
            to.service.name
        );
        Err(Problem::new(504, "http_response_timeout", Fault::Client, false, detail))
    }

    /// Whether anything can still be begun after such a wait.
    pub(crate) fn outlasts(&self, wait: Duration, now: Duration) -> bool {
        self.until.is_none_or(|until| now.saturating_add(wait) < until)
    }

    /// Tells an endpoint, at the beginning of an attempt, how much time there is.
    #[inline]
    pub(crate) fn tell(&self, way: Way<'_>, fields: &mut Fields) {
        if let (true, Some(until)) = (self.is_told, self.until) {
            self.tell_until(way, until, fields);
        }
    }

    fn tell_until(&self, way: Way<'_>, until: Duration, fields: &mut Fields) {
        let mut value = Vec::with_capacity(20);
        format_request_deadline(way.core.wall_since_1970(until), &mut value);
        fields.set(Known::XRequestDeadline, &value);
        if fields.get(Known::ContentType).is_some_and(|kind| kind.starts_with(b"application/grpc")) {
            value.clear();
            format_grpc_timeout(until.saturating_sub(clock::now()), &mut value);
            fields.set(Known::GrpcTimeout, &value);
        }
    }
}

/// How much time a caller that is believed leaves, from `began` on. What another says is taken out.
fn callers(way: Way<'_>, fields: &mut Fields, began: Duration) -> Option<Duration> {
    let deadline = fields.get(Known::XRequestDeadline);
    let timeout = fields.get(Known::GrpcTimeout);
    if deadline.is_none() && timeout.is_none() {
        return None;
    }
    let config = &way.listener.config;
    let is_internal = matches!(config.purpose, Purpose::Internal { .. });
    let peer = way.connected.peer.ip();
    if !is_internal && !config.trusted_proxies.iter().any(|network| network.contains(peer)) {
        // A gRPC client's timeout is between it and the service; a deadline in our name would be believed by it.
        fields.remove(Known::XRequestDeadline);
        return None;
    }
    told(way, fields, began)
}

/// The same without taking anything out, for whoever has to wait before it is known where the request goes.
pub(crate) fn callers_time(way: Way<'_>, fields: &Fields, began: Duration) -> Option<Duration> {
    let config = &way.listener.config;
    let peer = way.connected.peer.ip();
    let is_believed = matches!(config.purpose, Purpose::Internal { .. })
        || config.trusted_proxies.iter().any(|network| network.contains(peer));
    if is_believed { told(way, fields, began) } else { None }
}

fn told(way: Way<'_>, fields: &Fields, began: Duration) -> Option<Duration> {
    let wall = way.core.wall_since_1970(began);
    let deadline = fields.get(Known::XRequestDeadline).and_then(|value| parse_request_deadline(value, wall));
    let timeout = fields.get(Known::GrpcTimeout).and_then(parse_grpc_timeout);
    match (deadline, timeout) {
        (Some(deadline), Some(timeout)) => Some(deadline.min(timeout)),
        (deadline, timeout) => deadline.or(timeout),
    }
}

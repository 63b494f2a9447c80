//! A request sent to a service: an endpoint is picked, a link had, the exchange made; and where it fails before the client
//! has seen anything, and policy and budget allow, made again elsewhere.

use std::time::Duration;

use terrace_http::BodyLength;
use terrace_policy::{Attempt, AttemptOutcome, Phase, RetryPermit, TimeoutKind, Verdict};
use terrace_runtime::clock;
use terrace_runtime::timer::{Elapsed, NEVER};
use terrace_upstream::{
    Ask, ConnectError, EndpointId, FailureKind, Lease, Link, NoEndpoint, Outcome, Proxied, Settings,
};

use crate::chain::{Ending, Request, Towards, Way};
use crate::converse::{self, Broken};
use crate::exchange::After;
use crate::journal::Journal;
use crate::problem::{Fault, Problem};
use crate::sticky;

/// Why an attempt failed, and what may follow.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) outcome: AttemptOutcome,
    /// What the endpoint is blamed for; nothing when an idle connection just went away.
    pub(crate) blame: Option<FailureKind>,
    /// The error type of RFC 9209.
    pub(crate) error: &'static str,
    pub(crate) status: u16,
    pub(crate) detail: String,
    /// The retry that the budget was charged for already.
    pub(crate) permit: Option<RetryPermit>,
}

/// What is known of the attempts so far.
#[derive(Debug)]
struct Tries {
    tried: Vec<EndpointId>,
    number: u32,
    unsent: u32,
    is_method_allowed: bool,
    /// Held while a retry is under way, so that the budget counts it.
    permit: Option<RetryPermit>,
}

/// Sends the request to the service until it is answered or given up.
pub(crate) async fn forward<'a>(
    way: Way<'a>,
    request: &mut Request<'_, '_>,
    to: Towards<'a>,
    journal: &mut Journal<'a>,
) -> Result<After, Ending> {
    let is_method_allowed = to.policy.retry.allows_method(request.exchange.head.method.as_str());
    let mut tries = Tries { tried: Vec::new(), number: 1, unsent: 0, is_method_allowed, permit: None };
    to.budget.admit(clock::now());
    loop {
        let mut failure = match attempt(way, request, to, &mut tries, journal).await {
            Ok(after) => return Ok(after),
            Err(Broken::Gone(outcome)) => return Err(Ending::Gone(outcome)),
            Err(Broken::Client(problem)) => return Err(Ending::Problem(problem)),
            Err(Broken::Endpoint(failure)) => failure,
        };
        journal.failed(clock::now(), failure.error);
        let retry = decide(request, to, &mut tries, &mut failure);
        match retry {
            Some(wait) => pause(request, to, journal, wait).await?,
            None => return Err(problem(&failure, tries.is_method_allowed).into()),
        }
    }
}

/// How long to wait before the next attempt, if there is one.
fn decide(
    request: &Request<'_, '_>,
    to: Towards<'_>,
    tries: &mut Tries,
    failure: &mut Failure,
) -> Option<Duration> {
    let attempt = Attempt {
        number: tries.number,
        unsent: tries.unsent,
        is_method_allowed: tries.is_method_allowed,
        is_body_replayable: request.exchange.length == BodyLength::Empty || !was_begun(failure.outcome),
        is_response_started: false,
        is_marked: false,
        is_probe: false,
        outcome: failure.outcome,
    };
    match to.policy.retry.decide(&attempt, terrace_runtime::random::u64()) {
        Verdict::RetryUnsent => {
            tries.unsent += 1;
            Some(Duration::ZERO)
        }
        Verdict::Retry { wait } => {
            tries.permit = failure.permit.take();
            if tries.permit.is_none() {
                tries.permit = to.budget.try_begin_retry(clock::now());
                to.service.upstream.count_retry(tries.permit.is_some());
            }
            tries.number += 1;
            tries.permit.as_ref().map(|_| wait)
        }
        Verdict::GiveUp(_) => None,
    }
}

/// Whether a part of the request's body may be gone.
fn was_begun(outcome: AttemptOutcome) -> bool {
    !matches!(outcome, AttemptOutcome::ConnectFailed)
}

/// Waits out the backoff, within the request's own time.
async fn pause(
    request: &mut Request<'_, '_>,
    to: Towards<'_>,
    journal: &Journal<'_>,
    wait: Duration,
) -> Result<(), Problem> {
    if wait.is_zero() {
        return Ok(());
    }
    let now = clock::now();
    let deadline = to.policy.timeouts.next(journal.began(), now, Phase::Waiting);
    if deadline.is_some_and(|deadline| deadline.at <= now + wait) {
        return Err(problem(&timed_out(TimeoutKind::Total), true));
    }
    match request.exchange.reused.down.run(now + wait, std::future::pending::<()>()).await {
        Ok(()) | Err(Elapsed) => Ok(()),
    }
}

async fn attempt<'a>(
    way: Way<'a>,
    request: &mut Request<'_, '_>,
    to: Towards<'a>,
    tries: &mut Tries,
    journal: &mut Journal<'a>,
) -> Result<After, Broken> {
    let service = to.service;
    let began = clock::now();
    let lease = pick(request, service, tries, began)?;
    journal.tried(to, lease.endpoint(), began);
    journal.tell(request.exchange.head);
    // Also when no connection is had: a dead endpoint has the fewest requests in flight, and would be picked again.
    tries.tried.push(lease.endpoint().id());
    let settings = service.upstream.settings();
    // A request that met a connection being closed goes on a new one: whoever ends that too has failed for good, so that
    // a request which kills its endpoint kills no further ones for nothing.
    let kept = if tries.unsent == 0 { way.core.pool.reuse(&settings, lease.endpoint()) } else { None };
    let mut link = match kept {
        Some(link) => link,
        // On the heap, since it is large and rare.
        None => Box::pin(dial(way, request, to, &settings, &lease, journal)).await?,
    };
    let conversation = converse::Conversation {
        way,
        to,
        lease,
        admitted_at: journal.began(),
        attempt_at: began,
        is_reused: link.is_reused(),
        is_method_allowed: tries.is_method_allowed,
        is_body_replayable: request.exchange.length == BodyLength::Empty,
        may_retry: tries.number < to.policy.retry.attempts_max,
    };
    let held = conversation.hold(request, &mut link, journal).await;
    let ended = held.inspect_err(|broken| {
        if broken.is_timeout() {
            link.retire();
        }
    })?;
    if ended.is_link_reusable {
        way.core.pool.keep(&settings, link, ended.keep_alive);
    }
    Ok(ended.after)
}

fn pick(
    request: &Request<'_, '_>,
    service: &crate::config::Service,
    tries: &Tries,
    now: Duration,
) -> Result<Lease, Broken> {
    let head = &request.exchange.head;
    let ask = Ask {
        hash: sticky::hash(service, head, request.client),
        sticky: service.sticky.as_ref().and_then(|sticky| sticky::endpoint(sticky, &head.fields)),
        tried: &tries.tried,
        is_whole: request.exchange.length == BodyLength::Empty,
        is_repeatable: false,
    };
    service
        .upstream
        .pick(&ask, now, &mut terrace_runtime::random::u64)
        .map_err(|why| nobody(&service.name, why))
}

/// No endpoint: the answer is given at once, since waiting in a line would only make the line longer.
fn nobody(service: &str, why: NoEndpoint) -> Broken {
    let (error, fault) = match why {
        NoEndpoint::AllFull => ("connection_limit_reached", Fault::Terrace),
        NoEndpoint::AllDrained => ("destination_unavailable", Fault::Terrace),
        _ => ("destination_unavailable", Fault::Upstream),
    };
    let mut problem = Problem::new(503, error, fault, true, format!("service {service}: {why}"));
    problem.retry_after_s = Some(1);
    Broken::Client(problem)
}

async fn dial(
    way: Way<'_>,
    request: &mut Request<'_, '_>,
    to: Towards<'_>,
    settings: &Settings,
    lease: &Lease,
    journal: &mut Journal<'_>,
) -> Result<Link, Broken> {
    let began = clock::now();
    let proxied = Proxied {
        source: std::net::SocketAddr::new(request.client, way.connected.peer.port()),
        destination: way.connected.local,
    };
    let timeouts = &to.policy.timeouts;
    let deadline = timeouts.next(journal.began(), began, Phase::Connecting { since: began });
    let until = deadline.map_or(NEVER, |deadline| deadline.at);
    let reused = &mut *request.exchange.reused;
    let link = way.core.pool.dial(settings, lease.endpoint(), proxied, &mut reused.up);
    let dialled = reused.down.run(until, link).await;
    journal.dialled(began, clock::now());
    let error = match dialled {
        Ok(Ok(link)) => return Ok(link),
        Ok(Err(error)) => error,
        Err(Elapsed) => ConnectError::Timeout,
    };
    let failure = connect_failure(lease, &error);
    if let Some(kind) = failure.blame {
        let now = clock::now();
        lease.done(Outcome::Failure { kind, latency: now.saturating_sub(began) }, now);
    }
    Err(Broken::Endpoint(failure))
}

fn connect_failure(lease: &Lease, error: &ConnectError) -> Failure {
    let (error_type, status, blame) = match error {
        ConnectError::Full => ("connection_limit_reached", 503, None),
        ConnectError::Timeout => ("connection_timeout", 504, Some(FailureKind::Connect)),
        ConnectError::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            ("connection_refused", 502, Some(FailureKind::Connect))
        }
        ConnectError::Io(_) | ConnectError::Http2(_) => {
            ("destination_unavailable", 502, Some(FailureKind::Connect))
        }
        ConnectError::Tls(_) => ("tls_protocol_error", 502, Some(FailureKind::Connect)),
    };
    let detail = format!("endpoint {}: {error}", lease.endpoint().name());
    Failure { outcome: AttemptOutcome::ConnectFailed, blame, error: error_type, status, detail, permit: None }
}

/// The failure of a deadline of that kind.
pub(crate) fn timed_out(kind: TimeoutKind) -> Failure {
    let (error, what) = match kind {
        TimeoutKind::Connect => ("connection_timeout", "to connect"),
        TimeoutKind::FirstByte => ("http_response_timeout", "for the response to begin"),
        TimeoutKind::Idle => ("connection_read_timeout", "between two pieces of a body"),
        TimeoutKind::Attempt => ("http_response_timeout", "for one attempt"),
        TimeoutKind::Total => ("http_response_timeout", "for the whole request"),
    };
    Failure {
        outcome: AttemptOutcome::TimedOut,
        blame: Some(FailureKind::Timeout),
        error,
        status: 504,
        detail: format!("the endpoint took longer than the timeout {what} ({})", kind.as_str()),
        permit: None,
    }
}

fn problem(failure: &Failure, is_idempotent: bool) -> Problem {
    let is_retry_safe = is_idempotent || failure.outcome == AttemptOutcome::ConnectFailed;
    let fault = if failure.error == "connection_limit_reached" { Fault::Terrace } else { Fault::Upstream };
    let mut problem =
        Problem::new(failure.status, failure.error, fault, is_retry_safe, failure.detail.clone());
    if failure.status == 503 {
        problem.retry_after_s = Some(1);
    }
    problem
}

//! A request sent to a service: through the service's gate, then an endpoint is picked, a link had, the exchange made; and
//! where it fails before the client has seen anything, and policy and budget allow, made again elsewhere. What could not be
//! served in the end may be answered by something else ([`fallback`]).

use std::cell::{Cell, RefCell};
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rustc_hash::FxHasher;
use terrace_http::{BodyLength, Fields, Known};
use terrace_policy::{Attempt, AttemptOutcome, Phase, RetryPermit, TimeoutKind, Verdict};
use terrace_runtime::clock;
use terrace_runtime::timer::{Elapsed, NEVER};
use terrace_upstream::{
    Ask, ConnectError, EndpointId, FailureKind, Lease, Link, NoEndpoint, Outcome, Proxied, Settings,
};

use crate::bulkhead::Slot;
use crate::chain::{Ending, Request, Towards, Way};
use crate::config::Policy;
use crate::converse::{Broken, Conversation};
use crate::deadline::Time;
use crate::exchange::After;
use crate::fallback::{self, Cause};
use crate::hedge::Contender;
use crate::journal::Journal;
use crate::note::Note;
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
    /// It was to find out whether an endpoint is well again.
    pub(crate) is_probe: bool,
}

/// Why a service did not serve a request in the end.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) problem: Problem,
    pub(crate) cause: Cause,
    /// It can be sent whole once more.
    pub(crate) is_replayable: bool,
}

/// How forwarding ended without an answer.
#[derive(Debug)]
enum Unserved {
    /// There is nothing more to be said than this.
    Ending(Ending),
    /// The service could not.
    Failed(Failed),
}

/// What is known of the attempts so far.
#[derive(Debug)]
pub(crate) struct Tries {
    /// Endpoints asked before the present one.
    tried: RefCell<Vec<EndpointId>>,
    present: Cell<Option<EndpointId>>,
    /// Attempts begun, without those of which nothing was sent.
    pub(crate) number: Cell<u32>,
    unsent: Cell<u32>,
    pub(crate) is_method_allowed: bool,
    /// None of the body will be gone.
    pub(crate) is_bodyless: bool,
    /// Somebody before us tries the request again already, and would do so with each of ours.
    is_marked: bool,
    pub(crate) client: IpAddr,
    /// Held while a retry is under way, so that the budget counts it.
    permit: RefCell<Option<RetryPermit>>,
    /// The permit was had, and the attempt that it is for not begun.
    is_charged: Cell<bool>,
    /// The budget had none for it at some time.
    is_refused: Cell<bool>,
}

/// A request on its way to a service.
#[derive(Debug, Clone, Copy)]
struct Course<'a, 's> {
    way: Way<'a>,
    to: Towards<'a>,
    time: &'s Time,
    tries: &'s Tries,
    slot: &'s Slot<'a>,
}

impl Tries {
    fn new(request: &Request<'_, '_>, policy: &Policy) -> Self {
        let head = &request.exchange.head;
        Self {
            tried: RefCell::default(),
            present: Cell::new(None),
            number: Cell::new(1),
            unsent: Cell::new(0),
            is_method_allowed: policy.retry.allows_method(head.method.as_str()),
            is_bodyless: request.exchange.length == BodyLength::Empty,
            is_marked: is_marked(&head.fields),
            client: request.client,
            permit: RefCell::default(),
            is_charged: Cell::new(false),
            is_refused: Cell::new(false),
        }
    }

    /// Whether one more attempt may be made after the present one.
    pub(crate) fn may_retry(&self, policy: &Policy) -> bool {
        !self.is_marked && self.number.get() < policy.retry.attempts_max
    }

    /// Whether one more attempt may be made beside the present one.
    #[inline]
    pub(crate) fn may_hedge(&self, policy: &Policy) -> bool {
        let hedges = policy.hedge.map_or(0, |hedge| hedge.attempts);
        let attempts_max = policy.retry.attempts_max.max(hedges);
        self.is_bodyless && self.is_method_allowed && !self.is_marked && self.number.get() < attempts_max
    }

    /// Charges the budget for one more attempt, unless that was done; whether it may be made.
    pub(crate) fn charge(&self, to: Towards<'_>, now: Duration) -> bool {
        if self.is_charged.replace(false) {
            return true;
        }
        let permit = to.budget.try_begin_retry_from(client_key(self.client), now);
        let is_had = permit.is_some();
        // A request that waits asks again and again; that it was refused is counted once.
        if is_had || !self.is_refused.replace(true) {
            to.service.upstream.count_retry(is_had);
        }
        *self.permit.borrow_mut() = permit;
        is_had
    }

    /// Charges the budget for an attempt that may become necessary.
    pub(crate) fn reserve(&self, to: Towards<'_>, now: Duration) -> bool {
        let is_had = self.charge(to, now);
        self.is_charged.set(is_had);
        is_had
    }

    /// An endpoint was picked for an attempt.
    fn picked(&self, endpoint: EndpointId) {
        if let Some(before) = self.present.replace(Some(endpoint)) {
            self.tried.borrow_mut().push(before);
        }
    }

    /// One more attempt begins, at that endpoint, beside the present one.
    pub(crate) fn begin(&self, endpoint: EndpointId) {
        self.picked(endpoint);
        self.number.set(self.number.get() + 1);
    }

    /// The endpoints asked so far: all that were picked.
    pub(crate) fn tried_so_far(&self) -> Vec<EndpointId> {
        // Before the first nothing is allocated.
        let before = self.tried.borrow();
        before.iter().copied().chain(self.present.get()).collect()
    }

    /// Says in an attempt's fields which one it is, where it is not the first: whoever gets it shall not try it again.
    #[inline]
    pub(crate) fn mark(&self, fields: &mut Fields) {
        let number = self.number.get();
        if number > 1 {
            fields.set(Known::XTerraceAttempt, number.to_string().as_bytes());
        }
    }
}

/// Whether somebody before us said that this is not the first attempt.
#[inline]
fn is_marked(fields: &Fields) -> bool {
    let number = fields.text(Known::XTerraceAttempt).and_then(|value| value.parse::<u32>().ok());
    number.is_some_and(|number| number > 1)
}

/// What tells clients apart; one has a whole /64 of IPv6 for itself.
fn client_key(client: IpAddr) -> u64 {
    let mut hasher = FxHasher::default();
    match client.to_canonical() {
        IpAddr::V4(address) => address.to_bits().hash(&mut hasher),
        IpAddr::V6(address) => ((address.to_bits() >> 64) as u64).hash(&mut hasher),
    }
    let hash = hasher.finish();
    // The table takes the low bits, the hasher's best ones are the high ones.
    hash ^ hash >> 32
}

/// Sends the request to the service until it is answered or given up; and then, perhaps, to what answers in its place.
pub(crate) async fn forward<'a>(
    way: Way<'a>,
    request: &mut Request<'_, '_>,
    to: Towards<'a>,
    journal: &mut Journal<'a>,
) -> Result<After, Ending> {
    match serve(way, request, to, journal).await {
        Ok(after) => Ok(after),
        Err(Unserved::Ending(ending)) => Err(ending),
        // On the heap, since it is large and rare.
        Err(Unserved::Failed(failed)) => Box::pin(fallback::answer(way, request, to, failed, journal)).await,
    }
}

/// Sends the request to the service, in whose place nothing else answers.
pub(crate) async fn forward_once<'a>(
    way: Way<'a>,
    request: &mut Request<'_, '_>,
    to: Towards<'a>,
    journal: &mut Journal<'a>,
) -> Result<After, Ending> {
    match serve(way, request, to, journal).await {
        Ok(after) => Ok(after),
        Err(Unserved::Ending(ending)) => Err(ending),
        Err(Unserved::Failed(failed)) => Err(failed.problem.into()),
    }
}

async fn serve<'a>(
    way: Way<'a>,
    request: &mut Request<'_, '_>,
    to: Towards<'a>,
    journal: &mut Journal<'a>,
) -> Result<After, Unserved> {
    journal.headed(to);
    if let Some(withheld) = &to.service.withheld {
        withheld.check(request.exchange.head.path()).map_err(|problem| Unserved::Ending(problem.into()))?;
    }
    let time = match Time::of(way, to, request, journal) {
        Ok(time) => time,
        Err(problem) => return Err(unopened(problem)),
    };
    let slot = match to.gate.enter(request, to, time.until, journal).await {
        Ok(slot) => slot,
        Err(problem) => return Err(unopened(problem)),
    };
    let tries = Tries::new(request, to.policy);
    to.budget.admit_from(client_key(request.client), clock::now());
    let course = Course { way, to, time: &time, tries: &tries, slot: &slot };
    loop {
        let ended = attempt(course, request, journal).await;
        let (failure, is_over) = match ended {
            Ok(after) => return Ok(after),
            Err(Broken::Gone(outcome)) => return Err(Unserved::Ending(Ending::Gone(outcome))),
            Err(Broken::Client(problem)) => return Err(Unserved::Ending(Ending::Problem(problem))),
            Err(Broken::Nobody(problem)) => return Err(nobody_failed(problem, request)),
            Err(Broken::Overtaken(_)) => unreachable!("invariant: an attempt goes on with what overtook it"),
            Err(Broken::Endpoint(failure)) => (failure, false),
            Err(Broken::Over(failure)) => (failure, true),
        };
        journal.failed(clock::now(), failure.error);
        let wait = if is_over { None } else { decide(course, &failure) };
        // What went wrong is told, and not that there would be no time to try again.
        let Some(wait) = wait.filter(|wait| time.outlasts(*wait, clock::now())) else {
            return Err(given_up(course, request, failure, is_over));
        };
        pause(request, wait).await;
    }
}

/// The service was not even asked.
fn unopened(problem: Problem) -> Unserved {
    Unserved::Failed(Failed { problem, cause: Cause::Open, is_replayable: true })
}

/// There was no endpoint to ask.
fn nobody_failed(problem: Problem, request: &Request<'_, '_>) -> Unserved {
    let cause = Cause::Attempt(AttemptOutcome::ConnectFailed);
    let is_replayable = request.exchange.length == BodyLength::Empty;
    Unserved::Failed(Failed { problem, cause, is_replayable })
}

fn given_up(course: Course<'_, '_>, request: &Request<'_, '_>, failure: Failure, is_over: bool) -> Unserved {
    let is_callers = is_over && course.time.is_callers;
    if failure.blame.is_some() && !matches!(failure.outcome, AttemptOutcome::Status(_)) && !is_callers {
        course.slot.unanswered(clock::now());
    }
    let is_replayable = request.exchange.length == BodyLength::Empty || !was_begun(failure.outcome);
    let mut problem = problem(&failure, course.tries.is_method_allowed && !is_over);
    if is_callers {
        problem.fault = Fault::Client;
    }
    Unserved::Failed(Failed { problem, cause: Cause::Attempt(failure.outcome), is_replayable })
}

/// How long to wait before the next attempt, if there is one.
fn decide(course: Course<'_, '_>, failure: &Failure) -> Option<Duration> {
    let Course { to, tries, .. } = course;
    let attempt = Attempt {
        number: tries.number.get(),
        unsent: tries.unsent.get(),
        is_method_allowed: tries.is_method_allowed,
        is_body_replayable: tries.is_bodyless || !was_begun(failure.outcome),
        is_response_started: false,
        is_marked: tries.is_marked,
        is_probe: failure.is_probe,
        outcome: failure.outcome,
    };
    match to.policy.retry.decide(&attempt, terrace_runtime::random::u64()) {
        Verdict::RetryUnsent => {
            tries.unsent.set(tries.unsent.get() + 1);
            Some(Duration::ZERO)
        }
        Verdict::Retry { wait } if tries.charge(to, clock::now()) => {
            tries.number.set(tries.number.get() + 1);
            Some(wait)
        }
        Verdict::Retry { .. } | Verdict::GiveUp(_) => None,
    }
}

/// Whether a part of the request's body may be gone.
fn was_begun(outcome: AttemptOutcome) -> bool {
    !matches!(outcome, AttemptOutcome::ConnectFailed)
}

/// Waits out the backoff.
async fn pause(request: &mut Request<'_, '_>, wait: Duration) {
    if wait.is_zero() {
        return;
    }
    match request.exchange.reused.down.run(clock::now() + wait, std::future::pending::<()>()).await {
        Ok(()) | Err(Elapsed) => {}
    }
}

async fn attempt<'a>(
    course: Course<'a, '_>,
    request: &mut Request<'_, '_>,
    journal: &mut Journal<'a>,
) -> Result<After, Broken> {
    let Course { way, to, time, tries, .. } = course;
    let upstream = &to.service.upstream;
    let began = clock::now();
    let lease = pick(course, request, began)?;
    if lease.is_probe() {
        journal.note(Note::Probed);
    }
    journal.tried(lease.endpoint(), began);
    journal.tell(request.exchange.head);
    let fields = &mut request.exchange.head.fields;
    tries.mark(fields);
    time.tell(way, fields);
    // Also when no connection is had: a dead endpoint has the fewest requests in flight, and would be picked again.
    tries.picked(lease.endpoint().id());
    // A request that met a connection being closed goes on a new one: whoever ends that too has failed for good, so that
    // a request which kills its endpoint kills no further ones for nothing.
    let kept = match tries.unsent.get() {
        0 => upstream.with_settings(|settings| way.core.pool.reuse(settings, lease.endpoint())),
        _ => None,
    };
    let (mut link, linked_at) = match kept {
        Some(link) => (link, began),
        // On the heap, since it is large and rare.
        None => {
            let settings = upstream.settings();
            (Box::pin(dial(course, request, &settings, &lease, journal)).await?, clock::now())
        }
    };
    let conversation = course.conversation(lease, (began, linked_at), &link, journal);
    let held = conversation.hold(request, &mut link, journal).await;
    let ended = match held {
        Ok(ended) => ended,
        Err(Broken::Overtaken(contender)) => {
            if contender.leaves_first {
                link.retire();
            }
            drop(link);
            return Box::pin(go_on(course, request, *contender, journal)).await;
        }
        Err(broken) => {
            if broken.is_timeout() {
                link.retire();
            }
            return Err(broken);
        }
    };
    if ended.is_link_reusable {
        upstream.with_settings(|settings| way.core.pool.keep(settings, link, ended.keep_alive));
    }
    Ok(ended.after)
}

/// Goes on with the attempt whose answer came first.
async fn go_on<'a>(
    course: Course<'a, '_>,
    request: &mut Request<'_, '_>,
    contender: Contender,
    journal: &mut Journal<'a>,
) -> Result<After, Broken> {
    let Contender { lease, mut link, response, coming, aside, began, linked, .. } = contender;
    let conversation = course.conversation(lease, (began, linked), &link, journal);
    let ended = conversation.go_on(request, link.resume(aside), (response, coming), journal).await?;
    if ended.is_link_reusable {
        let upstream = &course.to.service.upstream;
        upstream.with_settings(|settings| course.way.core.pool.keep(settings, link, ended.keep_alive));
    }
    Ok(ended.after)
}

impl<'a, 's> Course<'a, 's> {
    fn conversation(
        self,
        lease: Lease,
        (attempt_at, linked_at): (Duration, Duration),
        link: &Link,
        journal: &Journal<'_>,
    ) -> Conversation<'a, 's> {
        Conversation {
            way: self.way,
            to: self.to,
            time: self.time,
            tries: self.tries,
            slot: self.slot,
            is_probe: lease.is_probe(),
            lease,
            admitted_at: journal.began(),
            attempt_at,
            linked_at,
            is_reused: link.is_reused(),
        }
    }
}

fn pick(course: Course<'_, '_>, request: &Request<'_, '_>, now: Duration) -> Result<Lease, Broken> {
    let Course { to, tries, .. } = course;
    let (service, head) = (to.service, &request.exchange.head);
    let tried = tries.tried_so_far();
    let mut ask = Ask {
        hash: sticky::hash(service, head, request.client),
        sticky: service.sticky.as_ref().and_then(|sticky| sticky::endpoint(sticky, &head.fields)),
        tried: &tried,
        is_whole: tries.is_bodyless,
        is_repeatable: tries.may_hedge(to.policy),
    };
    let lease = pick_one(course, &ask, now)?;
    // What may come of a probe is paid for beforehand; where it cannot be, the request is not risked.
    if !lease.is_probe() || !ask.is_repeatable || tries.reserve(to, now) {
        return Ok(lease);
    }
    drop(lease);
    ask.is_repeatable = false;
    pick_one(course, &ask, now)
}

fn pick_one(course: Course<'_, '_>, ask: &Ask<'_>, now: Duration) -> Result<Lease, Broken> {
    let service = course.to.service;
    let picked = service.upstream.pick(ask, now, &mut terrace_runtime::random::u64);
    picked.map_err(|why| nobody(&service.name, why))
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
    Broken::Nobody(problem)
}

async fn dial(
    course: Course<'_, '_>,
    request: &mut Request<'_, '_>,
    settings: &Settings,
    lease: &Lease,
    journal: &mut Journal<'_>,
) -> Result<Link, Broken> {
    let Course { way, time, .. } = course;
    let began = clock::now();
    let proxied = Proxied {
        source: SocketAddr::new(request.client, way.connected.peer.port()),
        destination: way.connected.local,
    };
    let deadline = time.timeouts.next(journal.began(), began, Phase::Connecting { since: began });
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

/// How an endpoint is called towards clients: an instance by its name, a host not by its address, which stands in the trace.
pub(crate) fn told(lease: &Lease) -> String {
    match &**lease.endpoint().name() {
        address if address.contains(':') => "an endpoint".to_owned(),
        instance => format!("endpoint {instance}"),
    }
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
    let detail = format!("{}: {error}", told(lease));
    Failure {
        outcome: AttemptOutcome::ConnectFailed,
        blame,
        error: error_type,
        status,
        detail,
        is_probe: lease.is_probe(),
    }
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
        is_probe: false,
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

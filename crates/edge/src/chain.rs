//! The way of one request, in order. Each step may answer in the place of those after it:
//!
//! 1. [`hop`] takes out what is between neighbours only
//! 2. [`client`] finds out who asks
//! 3. the question of an authority that issues certificates is answered ([`challenge`](crate::challenge))
//! 4. a redirect to HTTPS, where the listener is there for nothing else
//! 5. the pages of a login are answered by [`identity`]
//! 6. the table finds the route
//! 7. [`guards`] is the list of what stands before the route's action
//! 8. what operators broke on purpose goes wrong ([`fault`])
//! 9. the route's action: a redirect, a fixed answer, or a service, which [`choose`] may choose
//! 10. for a service, the body's declared length is held against its bound, the path changed, and [`forward`] sends it; and
//!     [`mirror`] a copy elsewhere

use std::borrow::Cow;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use terrace_http::{BodyLength, Known, Method, RequestHead, ResponseHead};
use terrace_instruments::Plate;
use terrace_policy::RetryBudget;
use terrace_route::{Match, Rewrite, Strip};
use terrace_wire::{Body, WireError};

use crate::bulkhead::Gate;
use crate::challenge::Question;
use crate::choose;
use crate::client::{self, Connected};
use crate::config::{Action, Policy, Purpose, Service, Target};
use crate::core::Core;
use crate::cors;
use crate::download;
use crate::exchange::{After, Exchange};
use crate::fault;
use crate::fields;
use crate::forward;
use crate::guards::{self, Guards, Passed};
use crate::hop::{self, Asked};
use crate::identity;
use crate::journal::Journal;
use crate::metrics::ServiceMetrics;
use crate::mirror::{self, Mirror};
use crate::overload;
use crate::problem::{Fault, Problem};
use crate::snapshot::{ListenerView, Route, Snapshot};

/// What a request meets on its way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way<'a> {
    pub(crate) core: &'a Rc<Core>,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) listener: &'a ListenerView,
    pub(crate) connected: &'a Connected,
    /// The connection was asked to end after this request.
    pub(crate) is_leaving: bool,
}

/// A request on its way.
#[derive(Debug)]
pub(crate) struct Request<'a, 'e> {
    pub(crate) exchange: &'e mut Exchange<'a>,
    pub(crate) asked: Asked,
    /// The client's address.
    pub(crate) client: IpAddr,
    /// What the route's guards found out.
    pub(crate) passed: Passed,
}

/// The outcome of a request whose client went away.
pub(crate) const CLIENT_GONE: &str = "client.gone";

/// Why a request's way ended without an answer of a service.
#[derive(Debug)]
pub(crate) enum Ending {
    /// Terrace answers in its place.
    Problem(Problem),
    /// A step answers in the place of what follows it, and nothing is wrong.
    Answer(Box<(ResponseHead, Bytes)>),
    /// The client went away, or can be told nothing any more.
    Gone(&'static str),
}

impl From<Problem> for Ending {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<WireError> for Ending {
    fn from(_: WireError) -> Self {
        Self::Gone(CLIENT_GONE)
    }
}

/// Serves one request from its head to the last byte of its answer.
pub(crate) async fn serve(way: Way<'_>, exchange: &mut Exchange<'_>) -> After {
    let mut journal = Journal::begin(way, exchange.head, exchange.length != BodyLength::Empty);
    let asked = hop::take_from_request(exchange.head);
    let trusted = &way.listener.config.trusted_proxies;
    let asker = client::identify(exchange.head, way.connected, trusted, journal.fresh_trace());
    journal.asked_by(asker, &exchange.head.fields);
    identity::remove_claims(way, &mut exchange.head.fields);
    let mut request = Request { exchange, asked, client: asker.0, passed: Passed::default() };
    let ended = walk(way, &mut request, &mut journal).await;
    let after = match ended {
        Ok(after) => after,
        Err(Ending::Problem(problem)) => say(way, &mut request, &problem, &mut journal).await,
        Err(Ending::Answer(given)) => {
            let (mut head, body) = *given;
            answer(way, &mut request, &mut journal, &mut head, body).await.unwrap_or_else(|_| {
                journal.ended(CLIENT_GONE);
                After::Gone
            })
        }
        Err(Ending::Gone(outcome)) => {
            journal.ended(outcome);
            if outcome == CLIENT_GONE { After::Gone } else { After::Close }
        }
    };
    journal.close(request.exchange.head);
    after
}

async fn walk<'a>(
    way: Way<'a>,
    request: &mut Request<'_, '_>,
    journal: &mut Journal<'a>,
) -> Result<After, Ending> {
    admit(way, request)?;
    if let Some(question) = Question::of(way, request.exchange.head)
        && let Some(text) = question.answer().await
    {
        return answer_authority(way, request, journal, text).await;
    }
    if let Some(port) = way.tls_port() {
        return redirect(way, request, journal, &tls_location(request.exchange.head, port), 308).await;
    }
    if let Some(login) = identity::login(way, request.exchange.head) {
        journal.not_routed();
        return Err(Box::pin(identity::login_page(way, login, request, journal)).await);
    }
    let (route, found) = find_route(way, request.exchange.head, journal)?;
    match &route.guards {
        Some(guards) => guards::pass(way, guards, found.as_ref(), request, journal).await?,
        None => overload::admit_one(way, request, journal)?,
    }
    if route.faults.is_set() {
        Box::pin(fault::inject_leased(&route.faults, request, journal)).await?;
    }
    match &route.action {
        Action::Redirect { to, status } => {
            let found = found.ok_or_else(no_template)?;
            let location = to.expand(&Seen(request.exchange.head), &found).map_err(|_| no_template())?;
            redirect(way, request, journal, &location, *status).await
        }
        Action::Respond { status, body, content_type } => {
            let mut head = ResponseHead::new(*status);
            head.fields.append_known(Known::ContentType, content_type.as_bytes());
            answer(way, request, journal, &mut head, body.clone()).await
        }
        Action::Forward { split, targets, choosing, mirror, strip, rewrite } => {
            let target = match choosing {
                None => *split.pick(terrace_runtime::random::u64()),
                Some(choosing) => choose::target(way, (choosing, &route.sides), request, journal),
            };
            let to = Towards::of(way.snapshot, route, targets, target);
            if let Some(changes) = to.guards.and_then(|guards| guards.fields.as_ref()) {
                let service = Some(to.service.name.as_str());
                let told = fields::Told { found: found.as_ref(), route: journal.route_name(), service };
                fields::name_service(told, changes, request)?;
            }
            hold_against_bound(&targets[target].policy, request.exchange.length)?;
            let head = &mut *request.exchange.head;
            identity::hide_proofs(way, to.guards, &request.passed.identity, &mut head.fields);
            if !targets[target].policy.request_id {
                head.fields.remove(Known::XRequestId);
            }
            if strip.is_some() || rewrite.is_some() {
                journal.keep_target(head);
                change_path(head, strip.as_ref(), rewrite.as_ref(), found.as_ref())?;
            }
            match (mirror, &route.mirror) {
                (Some(mirror), Some(ready)) => {
                    Box::pin(forward_mirrored(way, (mirror, ready), request, to, journal)).await
                }
                _ => forward::forward(way, request, to, journal).await,
            }
        }
    }
}

/// Sends the request to the service, and when that is over, if it was drawn, a copy of it elsewhere.
async fn forward_mirrored<'a>(
    way: Way<'a>,
    mirror: (&Mirror, &mirror::Ready),
    request: &mut Request<'_, '_>,
    to: Towards<'a>,
    journal: &mut Journal<'a>,
) -> Result<After, Ending> {
    let pending = mirror::prepare(mirror, journal.route_name(), request, journal);
    let ended = forward::forward(way, request, to, journal).await;
    if let Some(pending) = pending {
        mirror::send(way, mirror, *pending, request.client, journal);
    }
    ended
}

/// Tells an authority that a certificate may be issued for this host (RFC 8555 section 8.3).
async fn answer_authority(
    way: Way<'_>,
    request: &mut Request<'_, '_>,
    journal: &mut Journal<'_>,
    text: String,
) -> Result<After, Ending> {
    let mut head = ResponseHead::new(200);
    head.fields.append_known(Known::ContentType, b"application/octet-stream");
    answer(way, request, journal, &mut head, Bytes::from(text)).await
}

/// Refuses what is not served on any route.
fn admit(way: Way<'_>, request: &Request<'_, '_>) -> Result<(), Problem> {
    if way.connected.is_doubted() {
        // What a client may do about it is to show itself once more (RFC 9110 section 15.5.20).
        let detail = "the certificate of this connection is not taken any more; connect anew";
        return Err(Problem::client(421, "http_request_denied", detail));
    }
    if request.asked.names_too_many {
        return Err(Problem::client(400, "http_request_error", "Connection names too many options"));
    }
    if client::goes_in_circles(&request.exchange.head.fields) {
        return Err(Problem::new(508, "proxy_loop_detected", Fault::Terrace, false, CIRCLES));
    }
    if request.exchange.head.method == Method::Connect {
        return Err(Problem::client(501, "http_request_denied", "CONNECT is not served here"));
    }
    Ok(())
}

/// Where a request goes, and under which policies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Towards<'a> {
    pub(crate) policy: &'a Policy,
    pub(crate) budget: &'a Arc<RetryBudget>,
    pub(crate) service: &'a Service,
    pub(crate) gate: &'a Gate,
    /// The service's place among the snapshot's.
    pub(crate) number: u32,
    pub(crate) metrics: &'a ServiceMetrics,
    /// What an access line says of route and service.
    pub(crate) plate: &'a Plate,
    /// The same of the service that answers in its place.
    plate_instead: Option<&'a Plate>,
    pub(crate) guards: Option<&'a Guards>,
}

impl<'a> Towards<'a> {
    fn of(snapshot: &'a Snapshot, route: &'a Route, targets: &'a [Target], target: usize) -> Self {
        let number = targets[target].service;
        Self {
            policy: &targets[target].policy,
            budget: &route.budgets[target],
            service: &snapshot.services[number],
            gate: &snapshot.gates[number],
            number: number as u32,
            metrics: &snapshot.service_metrics[number],
            plate: &route.plates[target],
            plate_instead: route.plates_instead[target].as_ref(),
            guards: route.guards.as_deref(),
        }
    }
}

impl<'a> Towards<'a> {
    /// The way to the service that answers in the place of this one.
    pub(crate) fn instead(self, snapshot: &'a Snapshot, target: &'a Target) -> Self {
        let number = target.service;
        Self {
            policy: &target.policy,
            service: &snapshot.services[number],
            gate: &snapshot.gates[number],
            number: number as u32,
            metrics: &snapshot.service_metrics[number],
            plate: self.plate_instead.unwrap_or(self.plate),
            ..self
        }
    }
}

fn change_path(
    head: &mut RequestHead,
    strip: Option<&Strip>,
    rewrite: Option<&Rewrite>,
    found: Option<&Match>,
) -> Result<(), Problem> {
    if let Some(strip) = strip {
        let path = strip.apply(head.path()).to_owned();
        head.set_path(&path);
    }
    if let (Some(rewrite), Some(found)) = (rewrite, found) {
        let target = rewrite.expand(&Seen(head), found).map_err(|_| no_template())?;
        let (path, query) = split_target(&target);
        head.set_target(path, query);
    }
    Ok(())
}

const CIRCLES: &str =
    "the request has passed too many proxies; a service's address may lead back to this listener";

fn no_template() -> Problem {
    Problem::client(400, "http_request_error", "the path does not fit the route's template")
}

fn split_target(target: &str) -> (&str, Option<&str>) {
    match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    }
}

fn find_route<'a>(
    way: Way<'a>,
    head: &RequestHead,
    journal: &mut Journal<'a>,
) -> Result<(&'a Route, Option<Match>), Problem> {
    let snapshot = way.snapshot;
    if let Some(fixed) = snapshot.fixed_route(&way.listener.config) {
        let route = &snapshot.routes[fixed];
        journal.routed(route);
        return Ok((route, None));
    }
    let seen = Seen(head);
    if let Some(method) = cors::asked_method(head)
        && let Some((route, found)) =
            snapshot.find(way.listener.table, &Meant { method, path: head.path(), seen: &seen })
        && route.guards.as_ref().is_some_and(|guards| guards.cors.is_some())
    {
        journal.routed(route);
        return Ok((route, Some(found)));
    }
    if let Some((route, found)) = snapshot.find(way.listener.table, &seen) {
        journal.routed(route);
        hold_against_other_readings(way, &seen, route)?;
        return Ok((route, Some(found)));
    }
    journal.not_routed();
    let allowed = snapshot.allowed(way.listener.table, &seen);
    if allowed.is_empty() {
        return Err(Problem::client(404, "http_request_denied", "no route matches the request"));
    }
    let detail = format!("the route does not take the method {}", head.method);
    let mut problem = Problem::client(405, "http_request_denied", detail);
    problem.allow = Some(allowed.join(", ").into());
    Err(problem)
}

/// Refuses a path that the server behind may take for one of another route, where that route would have asked what this one does
/// not: a slash in code or too many, a backslash or a parameter must not be the way around it.
fn hold_against_other_readings(way: Way<'_>, seen: &Seen<'_>, route: &Route) -> Result<(), Problem> {
    if !way.snapshot.asks || !matches!(route.action, Action::Forward { .. }) {
        return Ok(());
    }
    for path in terrace_http::other_readings(seen.0.path()) {
        let meant = Meant { method: seen.0.method.as_str(), path: &path, seen };
        let other = way.snapshot.find(way.listener.table, &meant).map(|(other, _)| other);
        let is_around = other.is_some_and(|other| {
            other.number != route.number && guards::ask_more(route.guards.as_deref(), other.guards.as_deref())
        });
        if is_around {
            let detail = "the path may be read as another one, which is not served alike; send its slashes plain, and none at its end";
            return Err(Problem::client(400, "http_request_error", detail));
        }
    }
    Ok(())
}

fn hold_against_bound(policy: &Policy, length: BodyLength) -> Result<(), Problem> {
    match (length, policy.body_bytes_max) {
        (BodyLength::Known(bytes), Some(bytes_max)) if bytes > bytes_max => Err(body_too_large(bytes_max)),
        _ => Ok(()),
    }
}

pub(crate) fn body_too_large(bytes_max: u64) -> Problem {
    let detail = format!("the body is larger than {bytes_max} bytes (body-max of the route)");
    Problem::client(413, "http_request_error", detail)
}

fn tls_location(head: &RequestHead, port: u16) -> String {
    let port = if port == 443 { Cow::Borrowed("") } else { Cow::Owned(format!(":{port}")) };
    let target = if head.target() == "*" { "/" } else { head.target() };
    format!("https://{}{port}{target}", head.host())
}

async fn redirect(
    way: Way<'_>,
    request: &mut Request<'_, '_>,
    journal: &mut Journal<'_>,
    location: &str,
    status: u16,
) -> Result<After, Ending> {
    let mut head = ResponseHead::new(status);
    head.fields.append_known(Known::Location, location.as_bytes());
    answer(way, request, journal, &mut head, Bytes::new()).await
}

async fn say(
    way: Way<'_>,
    request: &mut Request<'_, '_>,
    problem: &Problem,
    journal: &mut Journal<'_>,
) -> After {
    journal.answered_with(problem);
    // A client that took too long over one request is not waited for with the rest of it (RFC 9110 section 15.5.9).
    request.asked.close |= problem.status == 408;
    let fields = &request.exchange.head.fields;
    let grpc_type = download::own_content_type(&request.passed, fields);
    let (mut head, body) = problem.answer((fields, grpc_type), client::request_id(fields), journal.trace());
    match answer(way, request, journal, &mut head, body).await {
        Ok(after) => after,
        Err(_) => {
            journal.ended(CLIENT_GONE);
            After::Gone
        }
    }
}

/// Gives an answer of our own.
async fn answer(
    way: Way<'_>,
    request: &mut Request<'_, '_>,
    journal: &mut Journal<'_>,
    head: &mut ResponseHead,
    body: Bytes,
) -> Result<After, Ending> {
    if let Some(guards) = journal.guards() {
        guards::dress(way, guards, request.exchange.head, &request.passed, head);
    }
    journal.status = head.status;
    journal.bytes_out = body.len() as u64;
    let wanted = way.wanted(request);
    Ok(request.exchange.answer(head, body, wanted).await?)
}

impl Way<'_> {
    /// The port of HTTPS, for a request that came in the clear to a listener that is not for that.
    fn tls_port(&self) -> Option<u16> {
        match self.listener.config.purpose {
            Purpose::RedirectToTls { port } => Some(port),
            _ if self.listener.config.tls.is_some() && !self.connected.is_tls => {
                Some(self.connected.local.port())
            }
            Purpose::Route | Purpose::Internal { .. } => None,
        }
    }

    /// What shall become of the connection after an answer of ours: kept where the client, the drain and a body that
    /// nobody reads let it.
    fn wanted(&self, request: &Request<'_, '_>) -> After {
        /// So much of a body is read over, rather than losing the connection.
        const LEFT_OVER_BYTES_MAX: u64 = 64 << 10;
        let is_small = match request.exchange.length {
            BodyLength::Empty => true,
            // What was held to be judged has been read.
            BodyLength::Known(_) if matches!(request.exchange.body, Body::Held(_)) => true,
            BodyLength::Known(bytes) => bytes <= LEFT_OVER_BYTES_MAX && !request.asked.expects_continue,
            BodyLength::Framed | BodyLength::UntilClose => request.exchange.body.is_done(),
        };
        // After CONNECT a client may speak another protocol without waiting (RFC 9110 section 9.3.6).
        let may_speak_on = request.exchange.head.method != Method::Connect;
        let may_keep = may_speak_on && request.exchange.may_keep(&request.asked) && !self.is_leaving;
        if may_keep && is_small { After::Keep } else { After::Close }
    }
}

/// A request's head as the route table reads it.
pub(crate) struct Seen<'a>(pub(crate) &'a RequestHead);

impl terrace_route::Request for Seen<'_> {
    fn method(&self) -> &str {
        self.0.method.as_str()
    }

    fn host(&self) -> &str {
        self.0.host()
    }

    fn path(&self) -> &str {
        self.0.path()
    }

    fn query(&self) -> Option<&str> {
        self.0.query()
    }

    fn header(&self, name_lower: &str) -> Option<&[u8]> {
        self.0.fields.named(name_lower.as_bytes())
    }
}

/// A request as another one than it seems: a browser's question beforehand as the request that it is about, or a path as it may
/// be read otherwise.
struct Meant<'a> {
    method: &'a str,
    path: &'a str,
    seen: &'a Seen<'a>,
}

impl terrace_route::Request for Meant<'_> {
    fn method(&self) -> &str {
        self.method
    }

    fn host(&self) -> &str {
        self.seen.host()
    }

    fn path(&self) -> &str {
        self.path
    }

    fn query(&self) -> Option<&str> {
        self.seen.query()
    }

    fn header(&self, name_lower: &str) -> Option<&[u8]> {
        self.seen.header(name_lower)
    }
}

/// Answers what is no request that could be walked: a malformed head, or one that came too late.
pub(crate) async fn refuse(way: Way<'_>, exchange: &mut Exchange<'_>, problem: &Problem) {
    let mut journal = Journal::begin(way, exchange.head, false);
    let asker = client::identify(exchange.head, way.connected, &[], journal.fresh_trace());
    journal.asked_by(asker, &exchange.head.fields);
    journal.not_routed();
    let asked = Asked { close: true, ..Asked::default() };
    let mut request = Request { exchange, asked, client: asker.0, passed: Passed::default() };
    say(way, &mut request, problem, &mut journal).await;
    journal.close(request.exchange.head);
}

//! Who asks, and whether they may. The proof is checked by `auth`; here its answer becomes an answer of HTTP, and what is
//! known of the client becomes fields that the client itself can never set.
//!
//! Those fields are taken out of every client's request on every route, as soon as any route asks who somebody is: a route
//! that asks nobody must not be the way in for whoever says it of himself. Neighbours are no clients; what one service says
//! to another on its internal listener is passed on.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use terrace_auth::{
    Asked, Decision, Gate, Identity, Login, Method, Moment, Now, Passed, Refusal, Reserved, Ticket,
};
use terrace_http::{Fields, Known as Name, RequestHead, ResponseHead};
use terrace_instruments::{Event, Level};
use terrace_runtime::clock;
use terrace_runtime::timer::Elapsed;

use crate::chain::{Ending, Request, Way};
use crate::client;
use crate::config::{LoginPages, Purpose, Route};
use crate::guards::Guards;
use crate::journal::Journal;
use crate::problem::{Fault, Problem};

/// A proof that takes longer to check is given up; whoever checks it has shorter bounds of its own.
const LATER_TIME_MAX: Duration = Duration::from_secs(60);

/// What a route asks of whoever uses it.
#[derive(Debug, Clone)]
pub struct Required {
    gate: Arc<Gate>,
}

impl Required {
    /// What that gate asks.
    #[must_use]
    pub fn new(gate: Arc<Gate>) -> Self {
        Self { gate }
    }

    /// Whether both ask the same.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.gate, &other.gate)
    }

    /// The ways in which somebody may prove who they are.
    pub(crate) fn methods(&self) -> impl Iterator<Item = Method> {
        self.gate.methods()
    }
}

/// What is known of who asks.
#[derive(Debug, Default)]
pub(crate) struct Known(Option<Arc<Passed>>);

impl Known {
    /// Who it is, where that was asked and somebody proved it.
    pub(crate) fn identity(&self) -> Option<&Identity> {
        self.0.as_deref().map(|passed| &*passed.identity)
    }

    /// What is claimed of them under that name, as text.
    pub(crate) fn claim(&self, name: &str) -> Option<Cow<'_, str>> {
        self.identity()?.claim_text(name)
    }

    /// Puts into an answer's head what the client is to keep, such as a session made anew.
    pub(crate) fn dress(&self, head: &mut ResponseHead) {
        let Some(passed) = self.0.as_deref().filter(|passed| !passed.answer.is_empty()) else { return };
        for (name, value) in &passed.answer {
            head.fields.append(name.as_bytes(), value.as_bytes());
        }
        // A session is one person's, whatever the service says of its answer: of two directives the stricter holds (RFC 9111
        // section 4.2.1).
        head.fields.append_known(Name::CacheControl, b"private");
    }
}

/// The names that no client may set: nothing where nobody is asked who they are.
pub(crate) fn reserved(routes: &[Route]) -> Option<Arc<Reserved>> {
    let required = |route: &Route| route.guards.as_ref().and_then(|guards| guards.identity.clone());
    let asked: Vec<Arc<Required>> = routes.iter().filter_map(required).collect();
    let names: BTreeSet<&str> = asked.iter().flat_map(|required| required.gate.header_names()).collect();
    (!asked.is_empty()).then(|| Arc::new(Reserved::new(names)))
}

/// Takes out of a client's fields what only Terrace may say of it.
#[inline]
pub(crate) fn remove_claims(way: Way<'_>, fields: &mut Fields) {
    if let Some(reserved) = removed(way) {
        fields.remove_unknown(|name| reserved.contains(name));
    }
}

/// What is taken out of clients' fields, also out of those after a body.
#[inline]
pub(crate) fn removed<'a>(way: Way<'a>) -> Option<&'a Reserved> {
    match way.listener.config.purpose {
        Purpose::Internal { .. } => None,
        Purpose::Route | Purpose::RedirectToTls { .. } => way.snapshot.reserved.as_deref(),
    }
}

/// Finds out who asks, and refuses who may not.
pub(crate) async fn admit(
    way: Way<'_>,
    required: &Required,
    request: &mut Request<'_, '_>,
    journal: &mut Journal<'_>,
) -> Result<(), Ending> {
    let decision = match check(way, required, request, journal) {
        Now::Decided(decision) => decision,
        // On the heap, since it is large and rare.
        Now::Later(ticket) => {
            request.passed.has_waited = true;
            Box::pin(wait(required, ticket, request)).await?
        }
    };
    match decision {
        Decision::Known(passed) => {
            journal.identified(&passed);
            let fields = &mut request.exchange.head.fields;
            fields.remove_all(passed.replaced);
            fields.append_all(&passed.forward);
            request.passed.identity = Known(Some(passed));
            Ok(())
        }
        Decision::Anonymous => {
            journal.anonymous();
            required.gate.hide_leftovers(&mut request.exchange.head.fields);
            Ok(())
        }
        Decision::Refused(refusal) => Err(refuse(way, &refusal, request, journal)),
    }
}

fn check(way: Way<'_>, required: &Required, request: &Request<'_, '_>, journal: &Journal<'_>) -> Now {
    required.gate.check_now(&asked(way, request), moment(way, journal))
}

/// What a request shows of who sends it.
fn asked<'r>(way: Way<'r>, request: &'r Request<'_, '_>) -> Asked<'r> {
    let head = &*request.exchange.head;
    // As the client came to whoever is in front, where that one is believed.
    let is_tls = match way.listener.config.trusted_proxies.is_empty() {
        true => way.connected.is_tls,
        false => head.fields.get(Name::XForwardedProto) == Some(b"https"),
    };
    let certificate = way.connected.certificate.as_ref().map(|shown| &shown.certificate);
    Asked { head, is_tls, client: request.client, certificate }
}

fn moment(way: Way<'_>, journal: &Journal<'_>) -> Moment {
    Moment { now: journal.began(), wall: way.core.wall_since_1970(journal.began()) }
}

/// Takes out of a request what is nobody's business behind Terrace: keys and passwords that Terrace itself keeps and has checked, and
/// sessions of logins, on every route, since a browser sends them wherever their host is asked.
#[inline]
pub(crate) fn hide_proofs(way: Way<'_>, guards: Option<&Guards>, known: &Known, fields: &mut Fields) {
    if let (Some(required), Some(identity)) =
        (guards.and_then(|guards| guards.identity.as_deref()), known.identity())
    {
        required.gate.hide_proof(identity.method, fields);
    }
    if !matches!(way.listener.config.purpose, Purpose::Internal { .. }) {
        way.snapshot.logins.iter().for_each(|pages| pages.login.hide_cookies(fields));
    }
}

/// The login among whose pages the request's is, if any.
pub(crate) fn login<'a>(way: Way<'a>, head: &RequestHead) -> Option<&'a Arc<Login>> {
    let is_below = |pages: &&LoginPages| {
        let rest = head.path().strip_prefix(pages.login.config().path.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) && pages.are_on(head.host())
    };
    match way.listener.config.purpose {
        Purpose::Internal { .. } => None,
        Purpose::Route | Purpose::RedirectToTls { .. } => {
            way.snapshot.logins.iter().find(is_below).map(|pages| &pages.login)
        }
    }
}

/// A page of a login.
pub(crate) async fn login_page(
    way: Way<'_>,
    login: &Arc<Login>,
    request: &Request<'_, '_>,
    journal: &Journal<'_>,
) -> Ending {
    match login.answer(&asked(way, request), moment(way, journal)).await {
        Ok(page) => {
            let mut head = ResponseHead::new(page.status);
            for (name, value) in &page.fields {
                head.fields.append(name.as_bytes(), value.as_bytes());
            }
            Ending::Answer(Box::new((head, Bytes::from(page.body))))
        }
        Err(refusal) => ending(&refusal),
    }
}

async fn wait(
    required: &Required,
    ticket: Ticket,
    request: &mut Request<'_, '_>,
) -> Result<Decision, Problem> {
    let until = clock::now() + LATER_TIME_MAX;
    match request.exchange.reused.down.run(until, required.gate.later(ticket)).await {
        Ok(decision) => Ok(decision),
        Err(Elapsed) => Err(unavailable("it took too long to check who is asking")),
    }
}

/// An answer in the place of the service's: a problem, the way to a login, or what somebody who was asked said.
fn refuse(way: Way<'_>, refusal: &Refusal, request: &Request<'_, '_>, journal: &mut Journal<'_>) -> Ending {
    journal.refused(refusal);
    if journal.may_tell_refusal(refusal.outcome) {
        tell(way, refusal, request.exchange.head, journal);
    }
    ending(refusal)
}

fn ending(refusal: &Refusal) -> Ending {
    if refusal.body.is_some() || (300..400).contains(&refusal.status) {
        return Ending::Answer(Box::new(answer(refusal)));
    }
    let mut problem = match refusal.status {
        503 => unavailable(refusal.reason),
        400 => Problem::client(400, "http_request_error", refusal.reason),
        status => {
            let wanted = refusal.wanted.as_ref().map(|wanted| format!("{}: {wanted}", refusal.reason));
            let detail = wanted.unwrap_or_else(|| refusal.reason.to_owned());
            Problem::client(status, "http_request_denied", detail)
        }
    };
    problem.retry_after_s = refusal.retry_after_s;
    let challenge = |challenge: &String| (Cow::Borrowed("www-authenticate"), challenge.clone());
    problem.fields.extend(refusal.challenges.iter().map(challenge));
    let field = |(name, value): &(String, String)| (Cow::Owned(name.clone()), value.clone());
    problem.fields.extend(refusal.fields.iter().map(field));
    Ending::Problem(problem)
}

/// What is no problem of ours: it is passed on as it is.
fn answer(refusal: &Refusal) -> (ResponseHead, Bytes) {
    let mut head = ResponseHead::new(refusal.status);
    for challenge in &refusal.challenges {
        head.fields.append(b"www-authenticate", challenge.as_bytes());
    }
    for (name, value) in &refusal.fields {
        head.fields.append(name.as_bytes(), value.as_bytes());
    }
    if !head.fields.has(Name::CacheControl) {
        head.fields.append_known(Name::CacheControl, b"no-store");
    }
    match &refusal.body {
        None => (head, Bytes::new()),
        Some((media_type, body)) => {
            head.fields.append_known(Name::ContentType, media_type.as_bytes());
            (head, body.clone())
        }
    }
}

/// Who is asking cannot be found out at the moment, which is not the client's fault.
fn unavailable(detail: &str) -> Problem {
    let mut problem = Problem::new(503, "proxy_internal_error", Fault::Terrace, true, detail);
    problem.retry_after_s = Some(1);
    problem
}

/// Tells whoever runs the app what the client is not told.
fn tell(way: Way<'_>, refusal: &Refusal, head: &RequestHead, journal: &Journal<'_>) {
    let mut event = Event::new(Level::Info, "edge.identity.refused")
        .request(client::request_id(&head.fields))
        .field("route", journal.route_name())
        .field("method", refusal.method.map_or("none", Method::as_str))
        .field("outcome", refusal.outcome)
        .field("reason", refusal.reason);
    if !refusal.detail.is_empty() {
        event = event.field("detail", refusal.detail.as_str());
    }
    if let Some(identity) = &refusal.identity {
        event = event.field("subject", identity.subject.as_str());
    }
    way.core.log.emit(event);
}

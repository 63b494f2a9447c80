//! What is noted of a request while it is served, for the access log, the metrics and the traces at its end.
//!
//! Notes are taken by value, without an allocation, and only where somebody will read them: a request whose line is not
//! wanted and which is not traced is only counted.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use terrace_auth::{Passed, Refusal};
use terrace_http::{Fields, Method, RequestHead, Version};
use terrace_instruments::{AccessRecord, AddressText, Gauge, Kept, Plate, RequestId, TraceId};
use terrace_runtime::clock;
use terrace_upstream::Endpoint;

use crate::chain::{Towards, Way};
use crate::client::{self, Digits};
use crate::flight::{Flight, Tries, Try};
use crate::guards::Guards;
use crate::metrics::{Class, RouteMetrics, RuleMetrics};
use crate::note::{Note, Notes};
use crate::problem::{Fault, Problem};
use crate::snapshot::Route;
use crate::spans::OTHER_METHOD;
use crate::trace::Place;

/// The outcome of a request that went well.
const OK: &str = "ok";

/// Notes on one request.
#[derive(Debug)]
pub(crate) struct Journal<'a> {
    way: Way<'a>,
    began: Duration,
    /// Whether the access log wants a line.
    is_logged: bool,
    trace: Option<Trace>,
    client: IpAddr,
    request_id: Id,
    asker: Option<Asker>,
    /// Path and query as they came, where the route changed them.
    target: Option<Box<str>>,
    has_body: bool,
    route: Option<&'a Route>,
    towards: Option<Towards<'a>>,
    metrics: Option<&'a RouteMetrics>,
    in_flight: Option<InFlight<'a>>,
    tries: u32,
    /// The try that is spoken of: the last one, unless it was one of two at the same time.
    current: u32,
    noted: Tries,
    notes: Notes,
    /// A copy of the request is compared with it later, so that it must be remembered.
    is_compared: bool,
    /// When an answer's head had come that goes on for as long as somebody listens: how long that is says nothing.
    streams_since: Option<Duration>,
    is_own: bool,
    is_fault: bool,
    pub(crate) status: u16,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    outcome: Cow<'static, str>,
}

/// A request's place in its trace, and the trace's id as every field and line has it.
#[derive(Debug)]
struct Trace {
    place: Place,
    digits: Digits,
}

/// A request's id.
#[derive(Debug)]
enum Id {
    Ours(Digits),
    Given(Box<str>),
}

/// Somebody who proved who they are.
#[derive(Debug)]
enum Asker {
    Passed(Arc<Passed>),
    Refused(Box<Plate>),
}

impl Asker {
    fn plate(&self) -> &Plate {
        match self {
            Self::Passed(passed) => &passed.plate,
            Self::Refused(plate) => plate,
        }
    }
}

/// Counts a request as being served until this is dropped, however its task ends.
#[derive(Debug)]
struct InFlight<'a>(&'a Gauge);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.sub(1);
    }
}

impl<'a> Journal<'a> {
    /// Begins the notes, and takes the request's trace out of its fields where requests are traced.
    pub(crate) fn begin(way: Way<'a>, head: &mut RequestHead, has_body: bool) -> Self {
        let (tracer, began) = (&way.core.tracer, clock::now());
        let trace = tracer.is_on().then(|| {
            let half = way.core.trace_half();
            let (place, digits) = Place::begin(tracer, &half, &mut head.fields, began);
            Trace { place, digits }
        });
        Self {
            way,
            began,
            is_logged: way.core.log.access_on(),
            trace,
            client: way.connected.peer_address,
            request_id: Id::Ours([b'0'; TraceId::DIGITS]),
            asker: None,
            target: None,
            has_body,
            route: None,
            towards: None,
            metrics: None,
            in_flight: None,
            tries: 0,
            current: 0,
            noted: Tries::default(),
            notes: Notes::default(),
            is_compared: false,
            streams_since: None,
            is_own: false,
            is_fault: false,
            status: 0,
            bytes_in: 0,
            bytes_out: 0,
            outcome: Cow::Borrowed(OK),
        }
    }

    /// When the request's head was complete.
    pub(crate) fn began(&self) -> Duration {
        self.began
    }

    /// What stands before the action of the request's route.
    pub(crate) fn guards(&self) -> Option<&'a Guards> {
        self.route.and_then(|route| route.guards.as_deref())
    }

    /// The figures of what the route's rules do.
    #[inline]
    pub(crate) fn rules(&self) -> Option<&'a RuleMetrics> {
        self.route.and_then(|route| route.rules.as_deref())
    }

    /// The route's name; empty before it is found.
    pub(crate) fn route_name(&self) -> &'a str {
        let name = |route: &'a Route| self.way.snapshot.names.route(route.number);
        self.route.and_then(name).map_or("", |route| &route.name)
    }

    /// Notes a decision for the request's trace.
    pub(crate) fn note(&mut self, note: Note) {
        if self.trace.is_some() {
            self.notes.push(note);
        }
    }

    /// Somebody proved who they are, and may pass.
    pub(crate) fn identified(&mut self, passed: &Arc<Passed>) {
        let method = passed.identity.method;
        self.count_identity(Some(method), "allowed");
        self.note(Note::Identified(method.as_str()));
        if self.is_logged {
            self.asker = Some(Asker::Passed(Arc::clone(passed)));
        }
    }

    /// Nobody proved who they are, and may pass all the same.
    pub(crate) fn anonymous(&mut self) {
        self.count_identity(None, "anonymous");
    }

    /// Nobody proved who they are who may pass.
    pub(crate) fn refused(&mut self, refusal: &Refusal) {
        self.count_identity(refusal.method, refusal.outcome);
        self.note(Note::Refused(refusal.outcome));
        if let (true, Some(identity)) = (self.is_logged, &refusal.identity) {
            self.asker = Some(Asker::Refused(Box::new(terrace_auth::plate(identity))));
        }
    }

    fn count_identity(&self, method: Option<terrace_auth::Method>, outcome: &str) {
        if let Some(metrics) = self.rules().and_then(|rules| rules.identity.as_ref()) {
            metrics.count(method, outcome);
        }
    }

    /// Whether a refusal is to be told in words: not what is in the course of things, and not without end.
    pub(crate) fn may_tell_refusal(&self, outcome: &str) -> bool {
        let metrics = self.rules().and_then(|rules| rules.identity.as_ref());
        !matches!(outcome, "missing" | "expired" | "login")
            && metrics.is_some_and(|metrics| metrics.may_tell(self.began))
    }

    /// A copy of the request goes to another service.
    pub(crate) fn mirrored(&mut self, is_compared: bool) {
        self.is_compared = is_compared;
        self.note(Note::Mirrored);
    }

    /// The request's place in its trace, where it has one.
    pub(crate) fn place(&self) -> Option<Place> {
        self.trace.as_ref().map(|trace| trace.place)
    }

    /// Tells in the fields of something that the request causes beside its tries that it is the part with that number.
    pub(crate) fn tell_part(&self, head: &mut RequestHead, number: u32) {
        if let Some(trace) = &self.trace {
            trace.place.tell(head, &trace.digits, number);
        }
    }

    /// The id of a trace that begins with this request.
    pub(crate) fn fresh_trace(&self) -> Option<&Digits> {
        match &self.trace {
            Some(trace) if trace.place.parent.is_none() => Some(&trace.digits),
            _ => None,
        }
    }

    /// The request's trace, where it has one.
    pub(crate) fn trace(&self) -> Option<TraceId> {
        self.trace.as_ref().map(|trace| trace.place.trace)
    }

    /// Whether anybody will read more than numbers.
    #[inline]
    fn is_noted(&self) -> bool {
        self.is_logged || self.trace.is_some()
    }

    /// Who asks, and by which id of ours, if it is one.
    pub(crate) fn asked_by(&mut self, (address, id): (IpAddr, Option<Digits>), fields: &Fields) {
        self.client = address;
        match id {
            Some(digits) => self.request_id = Id::Ours(digits),
            None if self.is_logged => self.request_id = Id::Given(client::request_id(fields).into()),
            None => {}
        }
    }

    pub(crate) fn routed(&mut self, route: &'a Route) {
        self.route = Some(route);
        self.counted(&route.metrics);
    }

    /// No route takes the request.
    pub(crate) fn not_routed(&mut self) {
        self.counted(&self.way.snapshot.no_route.metrics);
    }

    fn counted(&mut self, metrics: &'a RouteMetrics) {
        self.metrics = Some(metrics);
        metrics.in_flight.add(1);
        self.in_flight = Some(InFlight(&metrics.in_flight));
    }

    /// Path and query are about to be changed.
    pub(crate) fn keep_target(&mut self, head: &RequestHead) {
        if self.is_noted() && self.target.is_none() {
            self.target = Some(head.target().into());
        }
    }

    /// The request is for that service, whether any of its endpoints will be asked or not: whoever is told that it cannot answer
    /// has been failed by it.
    #[inline]
    pub(crate) fn headed(&mut self, to: Towards<'a>) {
        self.towards = Some(to);
    }

    /// A try begins.
    #[inline]
    pub(crate) fn tried(&mut self, endpoint: &Endpoint, now: Duration) {
        self.tries += 1;
        self.current = self.tries;
        if self.is_noted() {
            self.noted.begin(self.tries, endpoint.sign(), now);
        }
    }

    /// Tells the try's endpoint whom it is called by.
    #[inline]
    pub(crate) fn tell(&self, head: &mut RequestHead) {
        if let Some(trace) = &self.trace {
            trace.place.tell(head, &trace.digits, self.tries);
        }
    }

    /// A connection was dialled for the try.
    pub(crate) fn dialled(&mut self, from: Duration, to: Duration) {
        self.noting(|attempt| attempt.note_dialled(from, to));
    }

    /// The request's last byte was sent.
    #[inline]
    pub(crate) fn sent(&mut self, at: Duration) {
        if self.has_body {
            self.noting(|attempt| attempt.note_sent(at));
        }
    }

    /// The answer's head came.
    #[inline]
    pub(crate) fn answered(&mut self, at: Duration, status: u16) {
        self.noting(|attempt| attempt.note_head(at, status));
    }

    /// The try failed before the client had seen anything of it.
    pub(crate) fn failed(&mut self, at: Duration, error: &'static str) {
        self.noting(|attempt| attempt.note_failed(at, error));
    }

    /// How many tries there were.
    pub(crate) fn tries(&self) -> u32 {
        self.tries
    }

    /// What is noted from here on is of the try of that number, which was under way beside the last.
    pub(crate) fn turn_to(&mut self, number: u32) {
        self.current = number;
    }

    /// Of two tries at the same time the one of that number was not waited for any longer.
    pub(crate) fn overtaken(&mut self, number: u32, at: Duration) {
        if let Some(attempt) = self.noted.of_mut(number) {
            attempt.note_failed(at, "overtaken");
        }
    }

    #[inline]
    fn noting(&mut self, note: impl FnOnce(&mut Try)) {
        if let Some(attempt) = self.noted.of_mut(self.current) {
            note(attempt);
        }
    }

    /// The answer's head came, and its end is not Terrace's nor the service's to hurry.
    pub(crate) fn streams(&mut self) {
        self.streams_since = Some(clock::now());
    }

    /// Terrace answers itself.
    pub(crate) fn answered_with(&mut self, problem: &Problem) {
        self.is_own = true;
        self.is_fault = problem.fault != Fault::Client;
        self.status = problem.status;
        self.outcome = Cow::Owned(problem.outcome());
        if let Some(metrics) = self.metrics {
            metrics.faults[match problem.fault {
                Fault::Client => 0,
                Fault::Upstream => 1,
                Fault::Terrace => 2,
            }]
            .inc();
        }
    }

    /// It ended in another way than it should.
    pub(crate) fn ended(&mut self, outcome: &'static str) {
        self.is_fault = !outcome.starts_with("client.");
        self.outcome = Cow::Borrowed(outcome);
    }

    /// Tells metrics, log and traces. `head` is the request's, as far as it was not changed.
    pub(crate) fn close(&mut self, head: &RequestHead) {
        let ended = clock::now();
        let duration = ended.saturating_sub(self.began);
        let waited = self.waited(duration);
        let kept = self.kept(waited);
        self.count(waited, kept);
        if self.is_logged {
            self.log(head, duration);
        }
        if self.trace.is_some() {
            let (core, names) = (self.way.core, &self.way.snapshot.names);
            core.landed(kept, (ended, self.is_compared), names, |flight| {
                self.tell_flight(flight, head, ended);
            });
        }
    }

    fn is_error(&self) -> bool {
        self.is_fault || self.status >= 500
    }

    /// Whether the request's trace is kept, as far as this hop of it knows, and why.
    #[inline]
    fn kept(&self, waited: Duration) -> Option<Kept> {
        let place = &self.trace.as_ref()?.place;
        if place.is_in_sample {
            Some(Kept::Sampled)
        } else if place.is_asked {
            Some(Kept::Asked)
        } else if self.is_error() {
            Some(Kept::Error)
        } else if self.way.core.tracer.is_slow(waited) {
            Some(Kept::Slow)
        } else {
            None
        }
    }

    /// How long the client had to wait: for the whole answer, or for the head of a stream. A WebSocket that is open for
    /// an hour took no hour to be answered.
    fn waited(&self, duration: Duration) -> Duration {
        self.streams_since.map_or(duration, |at| at.saturating_sub(self.began))
    }

    fn count(&self, waited: Duration, kept: Option<Kept>) {
        let class = Class::of(self.status);
        if let Some(metrics) = self.metrics {
            metrics.answered(class, waited);
        }
        if let Some(to) = &self.towards {
            to.metrics.answered(class, waited);
        }
        if let (Some(_), Some(trace)) = (kept, &self.trace) {
            self.exemplify(trace, waited);
        }
    }

    /// Makes the request the example of its durations.
    #[cold]
    fn exemplify(&self, trace: &Trace, waited: Duration) {
        let at = self.way.core.wall_at(self.began + waited);
        if let Some(metrics) = self.metrics {
            metrics.duration.exemplify(waited, trace.place.trace, at);
        }
        if let Some(to) = &self.towards {
            to.metrics.duration.exemplify(waited, trace.place.trace, at);
        }
    }

    fn log(&self, head: &RequestHead, duration: Duration) {
        let (path, query) = self.target(head);
        let (core, connected) = (self.way.core, self.way.connected);
        let claimed = self.claimed();
        let (connection, host) = match claimed {
            Some(_) => (&self.way.listener.plate, head.host()),
            None => connected.opening(head.host()),
        };
        let way = match (&self.towards, self.route) {
            (Some(to), _) => to.plate,
            (None, Some(route)) => &route.plate,
            (None, None) => &self.way.snapshot.no_route.plate,
        };
        core.log.access(&AccessRecord {
            time: core.wall_since_1970(self.began),
            connection,
            client: claimed.as_ref(),
            asker: self.asker.as_ref().map(Asker::plate),
            method: head.method.as_str(),
            host,
            path,
            query,
            protocol: protocol(head.version),
            status: self.status,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            duration,
            way,
            instance: self.noted.of(self.current).map(|attempt| attempt.sign.plate()),
            tries: self.tries,
            request_id: match &self.request_id {
                Id::Ours(digits) => RequestId::Digits(digits),
                Id::Given(text) => RequestId::Text(text),
            },
            trace: self.trace.as_ref().map(|trace| &trace.digits),
            outcome: &self.outcome,
        });
    }

    /// The client's address, where a trusted proxy named it.
    #[inline]
    fn claimed(&self) -> Option<AddressText> {
        let is_peer = self.client == self.way.connected.peer_address;
        if is_peer { None } else { Some(AddressText::new(self.client)) }
    }

    /// Path and query as they came.
    fn target<'t>(&'t self, head: &'t RequestHead) -> (&'t str, Option<&'t str>) {
        match &self.target {
            None => (head.path(), head.query()),
            Some(target) => match target.split_once('?') {
                Some((path, query)) => (path, Some(query)),
                None => (target, None),
            },
        }
    }

    /// Writes all of it: what stood there before was another request.
    #[inline]
    fn tell_flight(&mut self, flight: &mut Flight, head: &RequestHead, ended: Duration) {
        let Some(trace) = &self.trace else { return };
        flight.place = trace.place;
        flight.names = self.way.snapshot.names.serial;
        flight.listener = self.way.listener.number;
        flight.route = self.route.map_or(u32::MAX, |route| route.number);
        flight.service = self.towards.as_ref().map(|to| to.number);
        flight.client = self.client;
        flight.is_tls = self.way.connected.is_tls;
        flight.method = method(&head.method);
        flight.version = head.version;
        flight.path.set_cut(self.target(head).0);
        flight.host.set_cut(head.host());
        flight.status = self.status;
        flight.is_error = self.is_error();
        flight.is_own = self.is_own;
        flight.outcome = std::mem::take(&mut self.outcome);
        flight.bytes_in = self.bytes_in;
        flight.bytes_out = self.bytes_out;
        flight.began = self.began;
        flight.ended = ended;
        flight.tries = std::mem::take(&mut self.noted);
        flight.notes = std::mem::take(&mut self.notes);
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
        Version::Http2 => "HTTP/2",
    }
}

/// Methods that everybody knows; a client may invent any number of others.
fn method(method: &Method) -> &'static str {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Connect => "CONNECT",
        Method::Options => "OPTIONS",
        Method::Trace => "TRACE",
        Method::Patch => "PATCH",
        Method::Other(_) => OTHER_METHOD,
    }
}

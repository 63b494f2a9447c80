//! One exchange with one endpoint: the request goes up while the response may already come down. Each direction is a
//! body that is moved from one connection to the other; neither waits for the other's end.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use terrace_http::{BodyLength, Known, Method, RequestHead, ResponseHead};
use terrace_policy::{AttemptOutcome, Deadline, Phase, TimeoutKind};
use terrace_runtime::clock;
use terrace_runtime::timer::{Elapsed, NEVER, Timer};
use terrace_upstream::{Answer, FailureKind, Lease, Link, Outcome, StreamLease, keeps_alive};
use terrace_wire::{Body, PumpError, Side, Sink, WireError, pump};

use crate::bulkhead::Slot;
use crate::chain::{CLIENT_GONE, Request, Towards, Way, body_too_large};
use crate::deadline::Time;
use crate::download;
use crate::exchange::{After, Exchange, Reply, Reused};
use crate::fallback::Cause;
use crate::forward::{Failure, Tries, timed_out, told};
use crate::guards::{self, Passed};
use crate::hedge::{Beside, Contender};
use crate::hop::{self, Asked};
use crate::identity;
use crate::journal::Journal;
use crate::lookout::Place;
use crate::pace::{BodyPace, Direction, Patience};
use crate::problem::Problem;
use crate::sticky;

/// An upgraded connection or a stream of events may say nothing for that long.
const STREAM_IDLE: Duration = Duration::from_secs(3600);
/// How long a client that waits for 100 is left waiting for the endpoint's word (RFC 9110 section 10.1.1).
const CONTINUE_AFTER: Duration = Duration::from_secs(1);
/// The outcome of a request whose answer's body stopped coming.
const READ_TIMEOUT: &str = "upstream.connection_read_timeout";
/// How long a response is waited for from an endpoint that stopped taking the request.
const LAST_WORD: Duration = Duration::from_secs(2);

/// Why an exchange broke.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The endpoint failed before the client had seen anything.
    Endpoint(Failure),
    /// The client is told of a problem, and nothing is tried again.
    Client(Problem),
    /// There was no endpoint to be had.
    Nobody(Problem),
    /// The time for the whole request is over, before the client had seen anything.
    Over(Failure),
    /// Another attempt was answered first.
    Overtaken(Box<Contender>),
    /// Nobody can be told anything any more; the word is for the access log.
    Gone(&'static str),
}

impl Broken {
    /// Whether the endpoint kept us waiting for too long.
    pub(crate) fn is_timeout(&self) -> bool {
        match self {
            Self::Endpoint(failure) => failure.outcome == AttemptOutcome::TimedOut,
            Self::Over(_) => true,
            Self::Client(_) | Self::Nobody(_) | Self::Overtaken(_) => false,
            Self::Gone(outcome) => *outcome == READ_TIMEOUT,
        }
    }
}

/// How an exchange ended that went well.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) after: After,
    pub(crate) is_link_reusable: bool,
    /// How long the endpoint says it keeps the connection.
    pub(crate) keep_alive: Option<Duration>,
}

/// One exchange with one endpoint.
#[derive(Debug)]
pub(crate) struct Conversation<'a, 's> {
    pub(crate) way: Way<'a>,
    pub(crate) to: Towards<'a>,
    pub(crate) time: &'s Time,
    pub(crate) tries: &'s Tries,
    pub(crate) slot: &'s Slot<'a>,
    pub(crate) lease: Lease,
    /// It is to find out whether the endpoint is well again.
    pub(crate) is_probe: bool,
    pub(crate) admitted_at: Duration,
    pub(crate) attempt_at: Duration,
    /// When there was a connection.
    pub(crate) linked_at: Duration,
    pub(crate) is_reused: bool,
}

/// The request on its way up, as far as it has got.
struct Upload<'f> {
    pump: Option<Pin<&'f mut (dyn Future<Output = Result<(), PumpError>> + 'f)>>,
    /// Whether it was sent whole.
    is_whole: bool,
    ended_at: Duration,
}

/// What came of waiting for a head.
enum Came {
    Head(Result<BodyLength, Interrupted>),
    /// Another attempt's came first.
    Other(Box<Contender>),
}

/// Why no final head came.
enum Interrupted {
    Client,
    Endpoint(WireError),
}

impl<'f> Upload<'f> {
    fn new(pump: Pin<&'f mut (dyn Future<Output = Result<(), PumpError>> + 'f)>) -> Self {
        Self { pump: Some(pump), is_whole: false, ended_at: Duration::ZERO }
    }

    fn done() -> Self {
        Self { pump: None, is_whole: true, ended_at: clock::now() }
    }

    /// Ready once, with how it ended; pending for ever after.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PumpError>> {
        let Some(pump) = &mut self.pump else { return Poll::Pending };
        let Poll::Ready(result) = pump.as_mut().poll(cx) else { return Poll::Pending };
        self.pump = None;
        self.is_whole = result.is_ok();
        self.ended_at = clock::now();
        Poll::Ready(result)
    }
}

impl<'a> Conversation<'a, '_> {
    /// Sends the request on `link` and the response to the client.
    pub(crate) async fn hold(
        self,
        request: &mut Request<'_, '_>,
        link: &mut Link,
        journal: &mut Journal<'a>,
    ) -> Result<Ended, Broken> {
        let may_keep = request.exchange.may_keep(&request.asked) && !self.way.is_leaving;
        let (mut sink, mut answer) = self.begin(request, link).await?;
        let Request { exchange, asked, passed, .. } = request;
        let Exchange { head, length, body, reply, reused } = &mut **exchange;
        let question = Question { head, passed };
        let Reused { up, down, response, place } = &mut **reused;
        if asked.upgrade.is_some() {
            let parts = UpgradeParts { body, reply, sink, answer, response };
            return Box::pin(self.hold_upgrade(parts, question, down, journal)).await;
        }
        if asked.expects_continue && *length != BodyLength::Empty {
            self.await_continue(&mut sink, &mut answer, reply, down).await?;
        }
        let removed = identity::removed(self.way);
        let mut pace = self
            .pace_up(up)
            .without(removed)
            .watched(passed.watch.as_deref(), Direction::Up)
            .holding(self.slot, Side::Source);
        let ended = {
            let mut pump = pin!(download::upload(passed, body, &mut sink, &mut pace));
            let mut upload = Upload::new(pump.as_mut());
            let place = self.place(place);
            let waits = Waits { head, response, reply, timer: down, place };
            match self.await_head(&mut upload, &mut answer, waits, journal).await {
                Ok(coming) => {
                    let after = self.after(asked, may_keep, *length, &upload);
                    let reply = Delivery { reply, response, coming, after };
                    self.deliver(question, upload, answer, reply, down, journal).await
                }
                Err(broken) => Err(broken),
            }
        };
        journal.bytes_in = pace.bytes();
        ended
    }

    /// Goes on with an attempt whose response's head has come already, while another was waited for.
    pub(crate) async fn go_on(
        self,
        request: &mut Request<'_, '_>,
        answer: Answer<'_>,
        (head, coming): (ResponseHead, BodyLength),
        journal: &mut Journal<'a>,
    ) -> Result<Ended, Broken> {
        let may_keep = request.exchange.may_keep(&request.asked) && !self.way.is_leaving;
        let Request { exchange, asked, passed, .. } = request;
        let upload = Upload::done();
        let after = self.after(asked, may_keep, exchange.length, &upload);
        let Exchange { head: asked_head, reply, reused, .. } = &mut **exchange;
        let Reused { down, response, .. } = &mut **reused;
        *response = head;
        let question = Question { head: asked_head, passed };
        let delivery = Delivery { reply, response, coming, after };
        self.deliver(question, upload, answer, delivery, down, journal).await
    }

    /// Where the request says from when on it wants to be looked after; nowhere, when that would help nobody.
    #[inline]
    fn place<'r>(&self, place: &'r mut Option<Rc<Place>>) -> Option<&'r Place> {
        if !self.tries.may_hedge(self.to.policy) {
            return None;
        }
        Some(place.get_or_insert_with(|| self.way.core.lookout.place()))
    }

    /// Begins the exchange; the head waits in the sink.
    async fn begin<'l>(
        &self,
        request: &mut Request<'_, '_>,
        link: &'l mut Link,
    ) -> Result<(Sink<'l>, Answer<'l>), Broken> {
        let exchange = &mut *request.exchange;
        if matches!(link, Link::Http2(_)) {
            // HTTP/2 has no Upgrade (RFC 9113 section 8.6): such an endpoint answers as if none were asked for.
            request.asked.upgrade = None;
        }
        if request.asked.expects_continue && matches!(link, Link::Http2(_)) {
            // HTTP/2 endpoints are not asked: their window bounds what comes anyway.
            exchange.head.fields.remove(Known::Expect);
            request.asked.expects_continue = false;
            self.say_continue(&mut exchange.reply).await?;
        }
        link.begin(exchange.head, exchange.length).await.map_err(|error| match error {
            WireError::Head(error) => {
                let detail = format!("the request cannot be said in HTTP/2: {error}");
                Broken::Client(Problem::client(400, "http_request_error", detail))
            }
            error => self.endpoint_failed(&error),
        })
    }

    async fn say_continue(&self, reply: &mut Reply<'_>) -> Result<(), Broken> {
        reply.interim(&ResponseHead::new(100)).await.map_err(|_| Broken::Gone(CLIENT_GONE))
    }

    /// Leaves the word on whether the body may come to the endpoint, but not for long.
    async fn await_continue(
        &self,
        sink: &mut Sink<'_>,
        answer: &mut Answer<'_>,
        reply: &mut Reply<'_>,
        timer: &mut Timer,
    ) -> Result<(), Broken> {
        sink.flush().await.map_err(|error| self.endpoint_failed(&error))?;
        let Answer::Http1(incoming) = answer else { return Ok(()) };
        let until = clock::now() + CONTINUE_AFTER;
        match timer.run(until, poll_fn(|cx| incoming.poll_has_bytes(cx))).await {
            // Whatever it is, 100 or a final answer, is read with the head.
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false) | Err(_)) => Err(self.endpoint_failed(&WireError::Closed)),
            Err(Elapsed) => self.say_continue(reply).await,
        }
    }

    /// Reads the response's head while the request still goes up, and looks after the request while it waits.
    async fn await_head(
        &self,
        upload: &mut Upload<'_>,
        answer: &mut Answer<'_>,
        waits: Waits<'_, '_>,
        journal: &mut Journal<'a>,
    ) -> Result<BodyLength, Broken> {
        let Waits { head: asked, response, reply, timer, place } = waits;
        let mut head = pin!(final_head(answer, &asked.method, response, reply));
        let mut refused = None;
        let mut failed = None;
        let mut beside = Beside::new(self, journal);
        if let Some(place) = place {
            place.watch_from(self.watched_from());
        }
        let came = poll_fn(|cx| {
            match upload.poll(cx) {
                Poll::Ready(Ok(())) => self.lease.sent(upload.ended_at),
                Poll::Ready(Err(error)) => match self.upload_failed(error) {
                    Ok(error) => refused = Some(error),
                    Err(broken) => return Poll::Ready(Err(broken)),
                },
                Poll::Pending => {}
            }
            if failed.is_none()
                && let Poll::Ready(result) = head.as_mut().poll(cx)
            {
                match result {
                    Err(Interrupted::Endpoint(error)) if beside.is_racing() => failed = Some(error),
                    result => return Poll::Ready(Ok(Came::Head(result))),
                }
            }
            let (until, kind) = self.head_deadline(upload, refused.is_some());
            let mut looks = place.is_some_and(|place| place.poll_due(cx).is_ready());
            if timer.poll_elapsed(cx, until.min(beside.policy_at())).is_ready() {
                if beside.policy_at() >= until {
                    return Poll::Ready(Err(self.too_slow(kind)));
                }
                looks = true;
            }
            if looks {
                beside.look(self, asked, journal);
                let _armed_anew = timer.poll_elapsed(cx, until);
            }
            if let Poll::Ready(contender) = beside.poll(cx, journal) {
                return Poll::Ready(Ok(Came::Other(contender)));
            }
            match failed.take() {
                Some(error) if !beside.is_racing() => {
                    Poll::Ready(Ok(Came::Head(Err(Interrupted::Endpoint(error)))))
                }
                still => {
                    failed = still;
                    Poll::Pending
                }
            }
        })
        .await;
        if let Some(place) = place {
            place.rest();
        }
        let result = match came? {
            Came::Other(contender) => return Err(Broken::Overtaken(contender)),
            Came::Head(result) => result,
        };
        beside.lost(journal);
        match (result, refused) {
            (Ok(length), _) => Ok(length),
            (Err(Interrupted::Client), _) => Err(Broken::Gone(CLIENT_GONE)),
            // What it said when it stopped taking the request says more than that nothing came after.
            (Err(Interrupted::Endpoint(_)), Some(error)) => Err(self.endpoint_failed(&error)),
            (Err(Interrupted::Endpoint(error)), None) => Err(self.endpoint_failed(&error)),
        }
    }

    /// By when the head must be there. While the request goes up its own pace is watched, not this.
    fn head_deadline(&self, upload: &Upload<'_>, is_refused: bool) -> (Duration, TimeoutKind) {
        if is_refused {
            return (upload.ended_at + LAST_WORD, TimeoutKind::FirstByte);
        }
        let phase = match upload.pump {
            Some(_) => Phase::Waiting,
            None => Phase::FirstByte { since: upload.ended_at },
        };
        let next = self.time.timeouts.next(self.admitted_at, self.attempt_at, phase);
        next.map_or((NEVER, TimeoutKind::Total), |Deadline { at, kind }| (at, kind))
    }

    /// How the upload's failure concerns the exchange: the endpoint's last word is waited for, the client's is not.
    fn upload_failed(&self, error: PumpError) -> Result<WireError, Broken> {
        match error {
            PumpError::Sink(error) => Ok(error),
            PumpError::Stalled(Side::Sink) => Err(self.too_slow(TimeoutKind::Idle)),
            PumpError::Source(WireError::Chunked(error)) => {
                let detail = format!("the body is not in the chunked coding: {error}");
                Err(Broken::Client(Problem::client(400, "http_request_error", detail)))
            }
            PumpError::Source(_) => Err(Broken::Gone(CLIENT_GONE)),
            PumpError::Stalled(Side::Source) => {
                let detail = "the body came slower than the listener's body-rate";
                Err(Broken::Client(Problem::client(408, "http_request_error", detail)))
            }
            PumpError::TooLarge => {
                let bytes_max = self.to.policy.body_bytes_max.unwrap_or(u64::MAX);
                Err(Broken::Client(body_too_large(bytes_max)))
            }
            PumpError::Change(error) => {
                let detail = format!("the body cannot be passed on: {error}");
                Err(Broken::Client(Problem::client(400, "http_request_error", detail)))
            }
        }
    }

    /// What becomes of the client's connection: it can stay when the request was read whole, or nearly. Of a client that
    /// was to wait for 100 nobody knows whether the rest still comes.
    fn after(&self, asked: &Asked, may_keep: bool, length: BodyLength, upload: &Upload<'_>) -> After {
        /// So much of a body that nobody wants is read over, rather than losing the connection.
        const LEFT_OVER_BYTES_MAX: u64 = 64 << 10;
        let is_small = matches!(length, BodyLength::Known(bytes) if bytes <= LEFT_OVER_BYTES_MAX);
        let comes_surely = is_small && !asked.expects_continue;
        if may_keep && (upload.is_whole || comes_surely) { After::Keep } else { After::Close }
    }
}

/// The parts of an exchange that may become two streams, borrowed apart.
struct UpgradeParts<'r, 'c, 'l> {
    body: &'r mut Body<'c>,
    reply: &'r mut Reply<'c>,
    sink: Sink<'l>,
    answer: Answer<'l>,
    response: &'r mut ResponseHead,
}

/// What is needed while a response's head is waited for, borrowed apart.
struct Waits<'r, 'c> {
    head: &'r RequestHead,
    response: &'r mut ResponseHead,
    reply: &'r mut Reply<'c>,
    timer: &'r mut Timer,
    place: Option<&'r Place>,
}

/// What was asked, and what the guards know of who asked, while it is answered.
#[derive(Clone, Copy)]
struct Question<'r> {
    head: &'r RequestHead,
    passed: &'r Passed,
}

/// A response's head on its way to the client.
struct Delivery<'r, 'c> {
    reply: &'r mut Reply<'c>,
    response: &'r mut ResponseHead,
    coming: BodyLength,
    after: After,
}

impl<'a> Conversation<'a, '_> {
    /// Sends the response to the client, while what is left of the request still goes up.
    async fn deliver(
        self,
        question: Question<'_>,
        mut upload: Upload<'_>,
        answer: Answer<'_>,
        delivery: Delivery<'_, '_>,
        timer: &mut Timer,
        journal: &mut Journal<'_>,
    ) -> Result<Ended, Broken> {
        let Delivery { reply, response, coming, after } = delivery;
        if response.status == 101 {
            return Err(self.malformed("it switched protocols without being asked to"));
        }
        self.judge(response, &upload, journal)?;
        let keep_alive = keep_alive_time(response);
        let link_stays = keeps_alive(response) && coming != BodyLength::UntilClose;
        if let Some(watch) = &question.passed.watch {
            watch.answered(response.status);
        }
        let (mut coming, mut download) = download::translate(question.passed, response, coming);
        self.dress(response, question);
        if let Some(guards) = self.to.guards {
            let Question { head, passed } = question;
            (coming, download) = download::code(guards, passed, head, response, (coming, download), journal);
        }
        journal.status = response.status;
        let begun = reply.begin(response, coming, after);
        let (mut sink, after) = begun.map_err(|_| Broken::Gone(CLIENT_GONE))?;
        let (mut body, _stream_count) = answer.into_body();
        let is_stream = is_stream(response);
        if is_stream {
            journal.streams();
            self.slot.release();
        }
        let watch = question.passed.watch.as_deref();
        let mut pace =
            self.pace_down(timer, is_stream).watched(watch, Direction::Down).holding(self.slot, Side::Sink);
        let held = Held::of(self.lease, is_stream);
        let mut given = 0;
        let result = {
            let mut going = pin!(download.run(&mut body, &mut sink, &mut pace, &mut given));
            poll_fn(|cx| {
                let _its_failure_does_not_stop_the_answer = upload.poll(cx);
                going.as_mut().poll(cx)
            })
            .await
        };
        journal.bytes_out = download.bytes_out(pace.bytes(), given, journal);
        if upload.is_whole {
            journal.sent(upload.ended_at);
        }
        if let Err(error) = result {
            held.blame_for(&error, self.attempt_at);
            abort(&mut sink).await;
            return Err(Broken::Gone(outcome_of_download(&error)));
        }
        Ok(Ended { after, is_link_reusable: upload.is_whole && link_stays && body.is_done(), keep_alive })
    }

    /// A request to switch protocols: on 101 the two connections are joined, each direction by itself; any other answer
    /// is an ordinary one.
    async fn hold_upgrade(
        self,
        parts: UpgradeParts<'_, '_, '_>,
        question: Question<'_>,
        timer: &mut Timer,
        journal: &mut Journal<'a>,
    ) -> Result<Ended, Broken> {
        let UpgradeParts { body, reply, mut sink, mut answer, response } = parts;
        sink.flush().await.map_err(|error| self.endpoint_failed(&error))?;
        let mut upload = Upload::done();
        let waits = Waits { head: question.head, response, reply, timer, place: None };
        let coming = self.await_head(&mut upload, &mut answer, waits, journal).await?;
        if response.status != 101 {
            let delivery = Delivery { reply, response, coming, after: After::Close };
            return self.deliver(question, upload, answer, delivery, timer, journal).await;
        }
        self.judge(response, &upload, journal)?;
        self.dress(response, question);
        journal.status = 101;
        journal.streams();
        self.slot.release();
        let begun = reply.begin(response, BodyLength::UntilClose, After::Close);
        let (mut to_client, _) = begun.map_err(|_| Broken::Gone(CLIENT_GONE))?;
        let (mut from_endpoint, _stream_count) = answer.into_body();
        from_endpoint.upgrade();
        body.upgrade();
        sink.upgrade();
        let _held = Held::of(self.lease, true);
        tunnel((body, &mut sink), (&mut from_endpoint, &mut to_client), journal).await;
        Ok(Ended { after: After::Close, is_link_reusable: false, keep_alive: None })
    }

    /// Tells the endpoint's record of the answer, and refuses one that policy wants tried again, or answered by something
    /// else.
    fn judge(
        &self,
        response: &ResponseHead,
        upload: &Upload<'_>,
        journal: &mut Journal<'_>,
    ) -> Result<(), Broken> {
        let now = clock::now();
        // What the client took to send its body is not the endpoint's.
        let sent_at = if upload.is_whole { upload.ended_at.max(self.linked_at) } else { self.linked_at };
        let latency = now.saturating_sub(sent_at);
        let status = response.status;
        journal.answered(now, status);
        let is_well = status < 500 || matches!(status, 501 | 505);
        match is_well {
            true => self.lease.done(Outcome::Success { latency }, now),
            false => self.lease.done(Outcome::Failure { kind: FailureKind::Status, latency }, now),
        }
        self.slot.answered(latency, &self.to.service.upstream, now);
        let is_wanted = self.to.policy.retry.on.statuses.contains(status) || (self.is_probe && !is_well);
        // Asked before the answer is given up: where nothing may be tried again, it is the best there is.
        let is_retried = is_wanted
            && self.tries.may_retry(self.to.policy)
            && self.tries.is_method_allowed
            && self.tries.is_bodyless
            && self.time.outlasts(self.longest_pause(), now)
            && self.tries.reserve(self.to, now);
        let cause = Cause::Attempt(AttemptOutcome::Status(status));
        let fallback = self.to.policy.fallback.as_ref();
        if !is_retried && fallback.is_none_or(|fallback| !fallback.is_for(cause, self.tries.is_bodyless)) {
            return Ok(());
        }
        Err(Broken::Endpoint(Failure {
            outcome: AttemptOutcome::Status(status),
            blame: None,
            error: "http_response_incomplete",
            status: 502,
            detail: format!("{} answered {status}", told(&self.lease)),
            is_probe: self.is_probe,
        }))
    }

    /// How long the next attempt may be waited with.
    fn longest_pause(&self) -> Duration {
        match self.is_probe {
            true => Duration::ZERO,
            false => self.to.policy.retry.backoff.bound(self.tries.number.get()),
        }
    }

    /// Makes the endpoint's head ours: without the fields between neighbours, with what Terrace adds.
    fn dress(&self, response: &mut ResponseHead, question: Question<'_>) {
        hop::take_from_response(response.status, &mut response.fields);
        if let Some(sticky) = &self.to.service.sticky {
            let id = self.lease.endpoint().id();
            if sticky::endpoint(sticky, &question.head.fields) != Some(id) {
                let cookie = sticky::set_cookie(sticky, id, self.way.connected.is_tls);
                response.fields.append_known(Known::SetCookie, cookie.as_bytes());
            }
        }
        if let Some(cookie) = &question.passed.side_cookie {
            response.fields.append_known(Known::SetCookie, cookie.as_bytes());
        }
        if let Some(guards) = self.to.guards {
            guards::dress_service(guards, response);
            guards::dress(self.way, guards, question.head, question.passed, response);
        }
    }

    fn pace_up<'t>(&self, timer: &'t mut Timer) -> BodyPace<'t> {
        let rate = Patience::Rate(self.way.listener.config.bounds.body_rate_min);
        let idle = Patience::Idle(self.time.timeouts.idle);
        BodyPace::new(timer, rate, idle, self.whole_until()).at_most(self.to.policy.body_bytes_max)
    }

    fn pace_down<'t>(&self, timer: &'t mut Timer, is_stream: bool) -> BodyPace<'t> {
        let idle = if is_stream { Some(STREAM_IDLE) } else { self.time.timeouts.idle };
        let rate = Patience::Rate(self.way.listener.config.bounds.body_rate_min);
        BodyPace::new(timer, Patience::Idle(idle), rate, self.whole_until()).ending_with_peer(is_stream)
    }

    /// When the whole request must be over.
    fn whole_until(&self) -> Duration {
        let next = self.time.timeouts.next(self.admitted_at, self.attempt_at, Phase::Waiting);
        next.map_or(NEVER, |deadline| deadline.at)
    }

    fn too_slow(&self, kind: TimeoutKind) -> Broken {
        let mut failure = timed_out(kind);
        failure.detail = format!("{}: {}", told(&self.lease), failure.detail);
        failure.is_probe = self.is_probe;
        if kind.allows_retry() {
            self.blame(FailureKind::Timeout);
            return Broken::Endpoint(failure);
        }
        // A caller that leaves too little time is no failure of the endpoint's.
        if !self.time.is_callers {
            self.blame(FailureKind::Timeout);
        }
        Broken::Over(failure)
    }

    fn endpoint_failed(&self, error: &WireError) -> Broken {
        // A connection that waited idle may be closed by the endpoint at the moment we use it. That is nobody's
        // failure; a request that may be sent twice goes again.
        let was_idle = self.is_reused && !error.is_protocol_violation();
        let is_unsent = error.was_not_processed() || (was_idle && self.tries.is_method_allowed);
        let (kind, error_type) = match error.is_protocol_violation() {
            true => (FailureKind::Malformed, "http_protocol_error"),
            false => (FailureKind::Reset, "connection_terminated"),
        };
        if !is_unsent {
            self.blame(kind);
        }
        Broken::Endpoint(Failure {
            outcome: if is_unsent { AttemptOutcome::NotSent } else { AttemptOutcome::Reset },
            blame: (!is_unsent).then_some(kind),
            error: error_type,
            status: 502,
            detail: format!("{}: {error}", told(&self.lease)),
            is_probe: self.is_probe,
        })
    }

    /// The endpoint broke the protocol in a way that no parser sees.
    fn malformed(&self, what: &str) -> Broken {
        self.blame(FailureKind::Malformed);
        Broken::Endpoint(Failure {
            outcome: AttemptOutcome::Reset,
            blame: Some(FailureKind::Malformed),
            error: "http_protocol_error",
            status: 502,
            detail: format!("{}: {what}", told(&self.lease)),
            is_probe: self.is_probe,
        })
    }

    fn blame(&self, kind: FailureKind) {
        let now = clock::now();
        self.lease.done(Outcome::Failure { kind, latency: now.saturating_sub(self.attempt_at) }, now);
    }
}

/// Keeps the endpoint counted as busy: as a request, or as a stream that drains wait for longer.
#[derive(Debug)]
enum Held {
    Request(Lease),
    Stream(#[expect(dead_code, reason = "held for its drop")] StreamLease),
}

impl Held {
    fn of(lease: Lease, is_stream: bool) -> Self {
        if is_stream { Self::Stream(lease.into_stream()) } else { Self::Request(lease) }
    }

    /// A response that breaks off is the endpoint's failure, although its head was none; of a stream that may be ended at
    /// any time nobody knows.
    fn blame_for(&self, error: &PumpError, attempt_at: Duration) {
        let kind = match error {
            PumpError::Source(error) if error.is_protocol_violation() => FailureKind::Malformed,
            PumpError::Source(_) => FailureKind::Reset,
            PumpError::Stalled(Side::Source) => FailureKind::Timeout,
            PumpError::Sink(_) | PumpError::Stalled(Side::Sink) => return,
            PumpError::TooLarge | PumpError::Change(_) => return,
        };
        if let Self::Request(lease) = self {
            let now = clock::now();
            lease.done(Outcome::Failure { kind, latency: now.saturating_sub(attempt_at) }, now);
        }
    }
}

/// Reads heads until a final one, passing interim ones on.
async fn final_head(
    answer: &mut Answer<'_>,
    method: &Method,
    head: &mut ResponseHead,
    reply: &mut Reply<'_>,
) -> Result<BodyLength, Interrupted> {
    loop {
        let length = {
            let mut next = pin!(answer.head(method, head));
            poll_fn(|cx| match next.as_mut().poll(cx) {
                Poll::Ready(result) => Poll::Ready(result.map_err(Interrupted::Endpoint)),
                Poll::Pending => reply.poll_gone(cx).map(|()| Err(Interrupted::Client)),
            })
            .await?
        };
        if !head.is_interim() {
            return Ok(length);
        }
        hop::take_from_response(head.status, &mut head.fields);
        reply.interim(head).await.map_err(|_| Interrupted::Client)?;
    }
}

/// Joins two upgraded connections until both directions have ended, or both have been silent for too long: an app may
/// speak for hours to a client that only listens.
async fn tunnel(
    (from_client, to_endpoint): (&mut Body<'_>, &mut Sink<'_>),
    (from_endpoint, to_client): (&mut Body<'_>, &mut Sink<'_>),
    journal: &mut Journal<'_>,
) {
    let (mut up_timer, mut down_timer) = (Timer::new(), Timer::new());
    let idle = Patience::Idle(Some(STREAM_IDLE));
    let last = Cell::new(clock::now());
    let mut up_pace = BodyPace::new(&mut up_timer, idle, idle, NEVER).beside(&last);
    let mut down_pace = BodyPace::new(&mut down_timer, idle, idle, NEVER).beside(&last);
    {
        let mut up = pin!(pump(from_client, to_endpoint, &mut up_pace));
        let mut down = pin!(pump(from_endpoint, to_client, &mut down_pace));
        let (mut up_ended, mut down_ended) = (false, false);
        poll_fn(|cx| {
            let poll = |ended: &mut bool, pump: Poll<Result<(), PumpError>>| match pump {
                Poll::Ready(Err(_)) => true,
                Poll::Ready(Ok(())) => {
                    *ended = true;
                    false
                }
                Poll::Pending => false,
            };
            let broke = (!up_ended && poll(&mut up_ended, up.as_mut().poll(cx)))
                || (!down_ended && poll(&mut down_ended, down.as_mut().poll(cx)));
            if broke || (up_ended && down_ended) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
    journal.bytes_in = up_pace.bytes();
    journal.bytes_out = down_pace.bytes();
}

/// Breaks off what cannot be completed, so that the client does not take it for whole.
async fn abort(sink: &mut Sink<'_>) {
    match sink {
        Sink::Http1(outgoing) => {
            // What came before is shown, as far as the client takes it at once.
            poll_fn(|cx| {
                let _as_far_as_it_goes = outgoing.poll_flush(cx);
                Poll::Ready(())
            })
            .await;
            outgoing.break_off();
        }
        Sink::Http2(outgoing) => outgoing.reset(h2::Reason::INTERNAL_ERROR),
    }
}

fn outcome_of_download(error: &PumpError) -> &'static str {
    match error {
        PumpError::Source(error) if error.is_protocol_violation() => "upstream.http_protocol_error",
        PumpError::Source(_) => "upstream.http_response_incomplete",
        PumpError::Stalled(Side::Source) => READ_TIMEOUT,
        PumpError::Stalled(Side::Sink) => "client.too_slow",
        PumpError::Change(_) => "terrace.body_not_changed",
        PumpError::Sink(_) | PumpError::TooLarge => CLIENT_GONE,
    }
}

/// Whether a response may last for as long as somebody listens: events and gRPC.
fn is_stream(response: &ResponseHead) -> bool {
    let content_type = response.fields.get(Known::ContentType).unwrap_or_default();
    content_type.starts_with(b"text/event-stream") || content_type.starts_with(b"application/grpc")
}

/// `Keep-Alive: timeout=5` (RFC 2068 section 19.7.1.1), less a second for the way.
fn keep_alive_time(response: &ResponseHead) -> Option<Duration> {
    let value = response.fields.text(Known::KeepAlive)?;
    let seconds = value.split(',').find_map(|part| part.trim().strip_prefix("timeout="))?;
    Some(Duration::from_secs(seconds.trim().parse::<u64>().ok()?.saturating_sub(1)))
}

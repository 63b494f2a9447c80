//! A request that waits for its answer is sent once more, to another endpoint, beside the first time; the first answer is
//! taken, and the other attempt given up.
//!
//! There are two reasons. The policy says so, after a time that most answers do not take. Or the endpoint was taken out
//! while the request waited for it, because it is silent or slow: then whoever waits there is sought out, without anybody
//! having asked for hedging, so that three silent endpoints do not hold the requests they had when they fell silent. The
//! first attempt is not given up for it: a report that takes a minute is still answered by whom it was asked of. Either
//! way the request has no body, may be sent twice, has attempts left, and the retry budget is charged.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use terrace_http::{BodyLength, RequestHead, ResponseHead};
use terrace_policy::Phase;
use terrace_runtime::clock;
use terrace_runtime::timer::{NEVER, Timer};
use terrace_upstream::{
    Answer, Aside, Ask, ConnectError, FailureKind, Lease, Link, Outcome, Proxied, Settings, Upstream,
};
use terrace_wire::WireError;

use crate::chain::{Towards, Way};
use crate::converse::Conversation;
use crate::journal::Journal;
use crate::note::Note;

/// An attempt beside the first whose answer's head has come.
#[derive(Debug)]
pub(crate) struct Contender {
    pub(crate) lease: Lease,
    pub(crate) link: Link,
    pub(crate) response: ResponseHead,
    pub(crate) coming: BodyLength,
    pub(crate) aside: Aside,
    pub(crate) began: Duration,
    /// When it had a connection.
    pub(crate) linked: Duration,
    /// The endpoint of the first attempt is not to be asked on that connection any more.
    pub(crate) leaves_first: bool,
}

/// Why a request is sent once more while it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It has waited for as long as the policy says.
    Policy,
    /// The endpoint it waits for is out.
    Out,
    /// It was to find out whether an endpoint is well, and takes too long for one that is.
    Probe,
}

impl Reason {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Out => "endpoint_out",
            Self::Probe => "probe",
        }
    }
}

/// An attempt under way, which ends with the head of its answer, or without one.
type Attempt<'a> = Pin<Box<dyn Future<Output = Option<Box<Contender>>> + 'a>>;

/// What goes on beside the first attempt while its answer is waited for.
pub(crate) struct Beside<'a> {
    rival: Option<Attempt<'a>>,
    reason: Reason,
    /// When the policy wants the next attempt.
    policy_at: Duration,
    /// The number of the first attempt in the journal.
    first: u32,
}

impl<'a> Beside<'a> {
    /// Nothing yet.
    pub(crate) fn new(conversation: &Conversation<'a, '_>, journal: &Journal<'_>) -> Self {
        let policy_at = conversation.hedge_at();
        Self { rival: None, reason: Reason::Policy, policy_at, first: journal.tries() }
    }

    /// Whether another attempt is under way.
    pub(crate) fn is_racing(&self) -> bool {
        self.rival.is_some()
    }

    /// When somebody is to look whether to send the request once more.
    pub(crate) fn policy_at(&self) -> Duration {
        if self.is_racing() { NEVER } else { self.policy_at }
    }

    /// Looks whether to send the request once more, and does.
    pub(crate) fn look(
        &mut self,
        conversation: &Conversation<'a, '_>,
        head: &RequestHead,
        journal: &mut Journal<'a>,
    ) {
        if self.is_racing() {
            return;
        }
        let now = clock::now();
        let reason = if now >= self.policy_at { Some(Reason::Policy) } else { conversation.reason(now) };
        let Some(reason) = reason else { return };
        self.policy_at = NEVER;
        if let Some(rival) = conversation.rival(head, journal, now) {
            journal.note(Note::Hedged(reason.as_str()));
            (self.rival, self.reason) = (Some(rival), reason);
        }
    }

    /// Ready when the other attempt's head came first.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, journal: &mut Journal<'_>) -> Poll<Box<Contender>> {
        let Some(rival) = &mut self.rival else { return Poll::Pending };
        let Poll::Ready(ended) = rival.as_mut().poll(cx) else { return Poll::Pending };
        self.rival = None;
        match ended {
            Some(mut contender) => {
                contender.leaves_first = self.reason != Reason::Policy;
                journal.overtaken(self.first, clock::now());
                Poll::Ready(contender)
            }
            None => {
                journal.failed(clock::now(), "hedge_failed");
                journal.turn_to(self.first);
                Poll::Pending
            }
        }
    }

    /// The first attempt's head came first.
    pub(crate) fn lost(&mut self, journal: &mut Journal<'_>) {
        if self.rival.take().is_some() {
            let rival = journal.tries();
            journal.overtaken(rival, clock::now());
            journal.turn_to(self.first);
        }
    }
}

impl<'a> Conversation<'a, '_> {
    /// From when on the request wants to be looked after while it waits.
    #[inline]
    pub(crate) fn watched_from(&self) -> Duration {
        match self.tries.may_hedge(self.to.policy) {
            true => self.attempt_at + self.to.service.upstream.patience(self.lease.is_probe()),
            false => NEVER,
        }
    }

    /// When the policy has the request sent once more.
    fn hedge_at(&self) -> Duration {
        let Some(law) = &self.to.policy.hedge else { return NEVER };
        if !self.tries.may_hedge(self.to.policy) {
            return NEVER;
        }
        let usual = self.to.service.upstream.usual();
        let wait = law.wait(self.tries.number.get(), |quantile| usual.at(quantile));
        wait.map_or(NEVER, |wait| self.attempt_at + wait)
    }

    /// Why the request ought to be sent once more now, apart from what the policy says.
    fn reason(&self, now: Duration) -> Option<Reason> {
        let upstream: &Upstream = &self.to.service.upstream;
        upstream.attend(now);
        if self.lease.is_probe() {
            let is_late = now >= self.attempt_at + upstream.patience(true);
            if is_late {
                self.lease.overdue(now);
            }
            return is_late.then_some(Reason::Probe);
        }
        self.lease.endpoint().is_out().then_some(Reason::Out)
    }

    /// The request sent to another endpoint, where there is one and the budget allows.
    fn rival(&self, head: &RequestHead, journal: &mut Journal<'a>, now: Duration) -> Option<Attempt<'a>> {
        // One may have failed before: whoever waits on is looked after ten times a second, and has its attempts all the same.
        if !self.tries.may_hedge(self.to.policy) {
            return None;
        }
        let tried = self.tries.tried_so_far();
        let ask = Ask { tried: &tried, is_whole: true, ..Ask::default() };
        let lease = self.to.service.upstream.pick(&ask, now, &mut terrace_runtime::random::u64).ok()?;
        // Charged last: where there is nobody else to ask, the others' retries are not used up for it.
        if tried.contains(&lease.endpoint().id()) || !self.tries.charge(self.to, now) {
            return None;
        }
        self.tries.begin(lease.endpoint().id());
        journal.tried(lease.endpoint(), now);
        let mut head = head.clone();
        journal.tell(&mut head);
        self.tries.mark(&mut head.fields);
        let peer = std::net::SocketAddr::new(self.tries.client, self.way.connected.peer.port());
        let proxied = Proxied { source: peer, destination: self.way.connected.local };
        let rival = Rival {
            way: self.way,
            to: self.to,
            timeouts: self.time.timeouts,
            admitted_at: self.admitted_at,
            began: now,
            lease,
            proxied,
        };
        Some(Box::pin(rival.run(head)))
    }
}

/// An attempt beside the first.
struct Rival<'a> {
    way: Way<'a>,
    to: Towards<'a>,
    timeouts: terrace_policy::Timeouts,
    admitted_at: Duration,
    began: Duration,
    lease: Lease,
    proxied: Proxied,
}

impl Rival<'_> {
    /// The attempt up to its answer's head. None when it failed; the endpoint is blamed then.
    async fn run(self, head: RequestHead) -> Option<Box<Contender>> {
        let settings = self.to.service.upstream.settings();
        let mut timer = Timer::new();
        let phase = Phase::FirstByte { since: self.began };
        let deadline = self.timeouts.next(self.admitted_at, self.began, phase);
        let until = deadline.map_or(NEVER, |deadline| deadline.at);
        match timer.run(until, self.exchange(&settings, &head)).await {
            Ok(Ok((link, (response, coming, aside, linked)))) => {
                let (lease, began) = (self.lease, self.began);
                let leaves_first = false;
                Some(Box::new(Contender {
                    lease,
                    link,
                    response,
                    coming,
                    aside,
                    began,
                    linked,
                    leaves_first,
                }))
            }
            Ok(Err(kind)) => self.blame(kind),
            Err(_) => self.blame(Some(FailureKind::Timeout)),
        }
    }

    async fn exchange(
        &self,
        settings: &Settings,
        head: &RequestHead,
    ) -> Result<(Link, (ResponseHead, BodyLength, Aside, Duration)), Option<FailureKind>> {
        let mut link = match self.way.core.pool.reuse(settings, self.lease.endpoint()) {
            Some(link) => link,
            None => self.dial(settings).await?,
        };
        let linked = clock::now();
        let is_reused = link.is_reused();
        let answered = ask(&mut link, head).await;
        match answered {
            Ok((response, coming, aside)) => Ok((link, (response, coming, aside, linked))),
            // An idle connection may be closed by the endpoint at the moment we use it: nobody is to blame.
            Err(error) if is_reused && !error.is_protocol_violation() => Err(None),
            Err(error) if error.is_protocol_violation() => Err(Some(FailureKind::Malformed)),
            Err(_) => Err(Some(FailureKind::Reset)),
        }
    }

    async fn dial(&self, settings: &Settings) -> Result<Link, Option<FailureKind>> {
        let began = clock::now();
        let (mut timer, mut within) = (Timer::new(), Timer::new());
        let deadline = self.timeouts.next(self.admitted_at, self.began, Phase::Connecting { since: began });
        let until = deadline.map_or(NEVER, |deadline| deadline.at);
        let link = self.way.core.pool.dial(settings, self.lease.endpoint(), self.proxied, &mut within);
        match timer.run(until, link).await {
            Ok(Ok(link)) => Ok(link),
            Ok(Err(ConnectError::Full)) => Err(None),
            Ok(Err(_)) | Err(_) => Err(Some(FailureKind::Connect)),
        }
    }

    fn blame(&self, kind: Option<FailureKind>) -> Option<Box<Contender>> {
        if let Some(kind) = kind {
            let now = clock::now();
            let latency = now.saturating_sub(self.began);
            self.lease.done(Outcome::Failure { kind, latency }, now);
        }
        None
    }
}

/// Sends a request without a body and reads the answer's head; interim ones are not passed on.
async fn ask(link: &mut Link, head: &RequestHead) -> Result<(ResponseHead, BodyLength, Aside), WireError> {
    let mut response = ResponseHead::new(0);
    let (mut sink, mut answer) = link.begin(head, BodyLength::Empty).await?;
    sink.end(None)?;
    sink.flush().await?;
    loop {
        let coming = Answer::head(&mut answer, &head.method, &mut response).await?;
        if !response.is_interim() {
            return Ok((response, coming, answer.put_aside()));
        }
    }
}

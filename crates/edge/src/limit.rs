//! How often and how many at once: each limit of a route has its say, and a request that one refuses costs the others
//! nothing.
//!
//! Limits are asked one after the other, those first that decide in memory, last the one that may have to wait in line. What
//! each of them gave is held until all have agreed; whoever is refused, or leaves while it waits, gives everything back by
//! dropping it. A place among those at once is held until the answer's end. The client is told how it stands with the
//! tightest of its limits, on every answer (draft-ietf-httpapi-ratelimit-headers).

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use terrace_auth::{Identity, Method};
use terrace_http::{Known as Name, RequestHead, ResponseHead};
use terrace_limits::{Hold, KEY_LIMIT, KeyHold, KeyLimits, KeyStep, Outcome, Step, Unsaved};
use terrace_policy::limit::{AddressKey, Decision, Material, Moment, Permit, Policy, Turn};
use terrace_runtime::clock;

use crate::chain::{CLIENT_GONE, Ending, Request, Way};
use crate::deadline;
use crate::exchange::Reply;
use crate::journal::Journal;
use crate::note::Note;
use crate::problem::Problem;

/// Nobody waits in line for longer, whatever the request's own time is.
const WAIT_MAX: Duration = Duration::from_secs(60);

thread_local! {
    /// What keys are put together in, one after the other.
    static MATERIAL: RefCell<Material> = const { RefCell::new(Material::new()) };
}

/// One part of what a limit's key is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LimitKey {
    /// The client's address.
    ClientAddress,
    /// A field's value.
    Field(String),
    /// What is claimed of who asks.
    Claim(String),
    /// The API key.
    ApiKey,
    /// The route.
    Route,
}

/// How one limit is asked.
#[derive(Debug, Clone)]
pub struct LimitRules {
    /// What its key is made of; nothing: all requests have one.
    pub key: Vec<LimitKey>,
    /// The field that says what a request costs.
    pub cost_field: Option<String>,
    /// Clients with IPv6 are counted by networks of this prefix.
    pub ipv6_prefix_bits: u8,
    /// It counts and refuses nobody.
    pub dry_run: bool,
}

/// One limit, and what its keys are made of.
#[derive(Debug, Clone)]
pub struct Limit {
    limit: Arc<terrace_limits::Limit>,
    rules: LimitRules,
    /// `RateLimit-Policy`, and how `RateLimit` begins.
    policy: Box<str>,
    standing: Box<str>,
}

/// The limits of one route.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    limits: Vec<Limit>,
    keys: Option<Arc<KeyLimits>>,
    total: Option<Duration>,
}

impl Limit {
    /// That limit, asked as the rules say. Names of fields in any case.
    #[must_use]
    pub fn new(limit: Arc<terrace_limits::Limit>, mut rules: LimitRules) -> Self {
        rules.cost_field = rules.cost_field.map(|name| name.to_ascii_lowercase());
        for part in &mut rules.key {
            if let LimitKey::Field(name) = part {
                name.make_ascii_lowercase();
            }
        }
        let policy = policy_text(limit.name(), limit.policy()).into();
        let standing = standing_text(limit.name()).into();
        Self { limit, rules, policy, standing }
    }

    fn take(&self, asker: &Asker<'_>, cost: u32, now: Moment, wait_max: Duration) -> Step<'_> {
        if let [LimitKey::ClientAddress] = self.rules.key[..] {
            let client = (asker.client, self.rules.ipv6_prefix_bits);
            return self.limit.take_of_address(client, asker.address_key, cost, now, wait_max);
        }
        MATERIAL.with_borrow_mut(|material| {
            material.clear();
            self.rules.key.iter().for_each(|part| asker.add(part, self.rules.ipv6_prefix_bits, material));
            self.limit.take(material, cost, now, wait_max)
        })
    }

    /// One, unless the request says more.
    fn cost(&self, head: &RequestHead) -> u32 {
        let Some(name) = &self.rules.cost_field else { return 1 };
        let value = head.fields.named(name.as_bytes()).and_then(|value| std::str::from_utf8(value).ok());
        match value.map(|value| value.trim().parse::<u64>()) {
            Some(Ok(cost)) => u32::try_from(cost).unwrap_or(u32::MAX).max(1),
            Some(Err(_)) | None => 1,
        }
    }
}

impl Limits {
    /// The limits of a route, and those of the API keys that it is used with. `total`: the time that its requests have, for
    /// those that wait in line.
    #[must_use]
    pub fn new(mut limits: Vec<Limit>, keys: Option<Arc<KeyLimits>>, total: Option<Duration>) -> Self {
        limits.sort_by_key(|limit| limit.limit.rank());
        Self { limits, keys, total }
    }
}

/// Who a request is counted as.
struct Asker<'a> {
    head: &'a RequestHead,
    client: std::net::IpAddr,
    identity: Option<&'a Identity>,
    route: &'a str,
    address_key: &'a Cell<Option<AddressKey>>,
}

impl Asker<'_> {
    /// Adds a part of a key. Who lacks it is counted by address, so that leaving something out is no way to share a count with
    /// many, nor to have many.
    fn add(&self, part: &LimitKey, ipv6_prefix_bits: u8, material: &mut Material) {
        let claim;
        let text = match part {
            LimitKey::ClientAddress => return material.address(self.client, ipv6_prefix_bits),
            LimitKey::Route => Some(self.route.as_bytes()),
            LimitKey::Field(name) => self.head.fields.named(name.as_bytes()),
            LimitKey::Claim(path) => {
                claim = self.identity.and_then(|identity| identity.claim_text(path));
                claim.as_ref().map(|claim| claim.as_bytes())
            }
            LimitKey::ApiKey => self.key_id().map(str::as_bytes),
        };
        match text {
            Some(text) => material.text(text),
            None => {
                material.absent();
                material.address(self.client, ipv6_prefix_bits);
            }
        }
    }

    fn key_id(&self) -> Option<&str> {
        let key = self.identity.filter(|identity| identity.method == Method::Key);
        key.map(|identity| identity.subject.as_str())
    }
}

/// What limits say of the client's next requests, and places held until the answer's end.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    told: Option<Told>,
    /// Given back when this is dropped.
    permits: Vec<Permit>,
}

/// How the client stands with one limit.
#[derive(Debug, Clone, Copy)]
struct Told {
    by: By,
    decision: Decision,
}

/// Whose word it is.
#[derive(Debug, Clone, Copy)]
enum By {
    /// The route's limit at this place.
    Limit(usize),
    /// The API key's own.
    Key(Policy),
}

impl Taken {
    /// Tells the client how it stands.
    pub(crate) fn tell(&self, limits: Option<&Limits>, head: &mut ResponseHead) {
        let (Some(Told { by, decision }), Some(limits)) = (&self.told, limits) else { return };
        match by {
            By::Limit(place) => {
                let Some(limit) = limits.limits.get(*place) else { return };
                head.fields.append_known(Name::RateLimitPolicy, limit.policy.as_bytes());
                append_standing(&limit.standing, decision, head);
            }
            By::Key(policy) => {
                let text = policy_text(KEY_LIMIT, *policy);
                head.fields.append_known(Name::RateLimitPolicy, text.as_bytes());
                append_standing(&standing_text(KEY_LIMIT), decision, head);
            }
        }
    }

    /// Keeps whichever leaves less of its limit; one that refuses leaves nothing.
    fn hear(&mut self, by: By, decision: Decision) {
        let left = |decision: &Decision| u128::from(decision.remaining) * u128::from(decision.allowed);
        let is_tighter = self.told.as_ref().is_none_or(|told| {
            left(&decision) * u128::from(told.decision.limit)
                < left(&told.decision) * u128::from(decision.limit)
        });
        if is_tighter {
            self.told = Some(Told { by, decision });
        }
    }
}

/// `"api";r=12;t=3`: what is left, and in how many seconds all of it is there again.
fn append_standing(begins: &str, decision: &Decision, head: &mut ResponseHead) {
    head.fields.append_with(Name::RateLimit, |value| {
        value.extend_from_slice(begins.as_bytes());
        push_number(value, decision.remaining);
        value.extend_from_slice(b";t=");
        push_number(value, seconds(decision.reset));
    });
}

/// `"api";r=`.
fn standing_text(name: &str) -> String {
    let mut value = Vec::new();
    push_name(&mut value, name);
    value.extend_from_slice(b";r=");
    String::from_utf8(value).unwrap_or_default()
}

/// `"api";q=100;w=60`.
fn policy_text(name: &str, policy: Policy) -> String {
    let mut value = Vec::new();
    push_name(&mut value, name);
    value.extend_from_slice(b";q=");
    push_number(&mut value, policy.quota);
    if policy.is_concurrency {
        value.extend_from_slice(b";qu=\"concurrent-requests\"");
    }
    if let Some(window) = policy.window {
        value.extend_from_slice(b";w=");
        push_number(&mut value, seconds(window));
    }
    String::from_utf8(value).unwrap_or_default()
}

/// A string of structured fields (RFC 9651 section 3.3.3).
fn push_name(value: &mut Vec<u8>, name: &str) {
    value.push(b'"');
    for byte in name.bytes().filter(|byte| matches!(byte, b' '..=b'~')) {
        if matches!(byte, b'"' | b'\\') {
            value.push(b'\\');
        }
        value.push(byte);
    }
    value.push(b'"');
}

/// Within what an integer of structured fields may be (RFC 9651 section 3.3.1).
fn push_number(value: &mut Vec<u8>, number: u64) {
    const NUMBER_MAX: u64 = 999_999_999_999_999;
    value.extend_from_slice(itoa::Buffer::new().format(number.min(NUMBER_MAX)).as_bytes());
}

/// Rounded up, so that who waits so long has waited long enough.
fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// Why a request does not pass.
#[derive(Debug, Clone, Copy)]
struct Refused {
    by: By,
    decision: Decision,
    cost: u32,
}

/// What was taken so far. Most routes have one limit, for which nothing is allocated.
#[derive(Debug, Default)]
struct Holds<'a> {
    key: Option<KeyHold<'a>>,
    first: Option<Hold<'a>>,
    further: Vec<Hold<'a>>,
}

impl<'a> Holds<'a> {
    fn push(&mut self, hold: Hold<'a>) {
        match self.first {
            None => self.first = Some(hold),
            Some(_) => self.further.push(hold),
        }
    }

    /// Uses up all of it; the places that are to be held longer.
    fn keep(self) -> Vec<Permit> {
        if let Some(key) = self.key {
            key.keep();
        }
        let mut permits = Vec::new();
        permits.extend(self.first.and_then(Hold::keep));
        if !self.further.is_empty() {
            self.further.into_iter().for_each(|hold| permits.extend(hold.keep()));
        }
        permits
    }
}

/// Takes from every limit, or from none.
pub(crate) async fn admit(
    way: Way<'_>,
    limits: &Limits,
    request: &mut Request<'_, '_>,
    journal: &mut Journal<'_>,
) -> Result<(), Ending> {
    let now = at(way, if request.passed.has_waited { clock::now() } else { journal.began() });
    let mut holds = Holds::default();
    match take_of_key(limits, request, now, &mut holds) {
        Ok(None) => {}
        Ok(Some(unsaved)) => saved(unsaved, request).await,
        Err(refused) => return Err(refuse(limits, refused, request, journal)),
    }
    for (place, limit) in limits.limits.iter().enumerate() {
        let cost = limit.cost(request.exchange.head);
        let step = {
            let head = &*request.exchange.head;
            let identity = request.passed.identity.identity();
            let (client, address_key) = (request.client, &way.connected.address_key);
            let asker = Asker { head, client, identity, route: journal.route_name(), address_key };
            limit.take(&asker, cost, now, wait_max(way, limits, limit, request, journal))
        };
        let (decision, hold, outcome) = match step {
            Step::Decided(decision, hold) => (decision, hold, Outcome::Allowed),
            // A line is not joined only to be counted.
            Step::Waits(decision, hold) if limit.rules.dry_run => {
                (Decision { allowed: false, ..decision }, hold, Outcome::Allowed)
            }
            // On the heap, since it is large and rare.
            other => Box::pin(settled(way, other, request, journal)).await?,
        };
        if limit.rules.dry_run {
            limit.limit.count(if decision.allowed { outcome } else { Outcome::WouldRefuse });
            if !decision.allowed {
                journal.note(Note::WouldLimit(limit.limit.name().into()));
                continue;
            }
        } else {
            limit.limit.count(if decision.allowed { outcome } else { Outcome::Refused });
            if !decision.allowed {
                let refused = Refused { by: By::Limit(place), decision, cost };
                return Err(refuse(limits, refused, request, journal));
            }
            request.passed.limits.hear(By::Limit(place), decision);
        }
        holds.push(hold);
    }
    request.passed.limits.permits = holds.keep();
    Ok(())
}

/// Takes from the limit that came with an API key. What it has to wait for, if anything.
fn take_of_key<'a>(
    limits: &'a Limits,
    request: &mut Request<'_, '_>,
    now: Moment,
    holds: &mut Holds<'a>,
) -> Result<Option<Unsaved>, Refused> {
    let identity = request.passed.identity.identity();
    let written = identity.and_then(|identity| Some((&identity.subject, identity.limit.as_ref()?)));
    let (Some(keys), Some((id, written))) = (&limits.keys, written) else { return Ok(None) };
    let Some(KeyStep { decision, policy, hold, unsaved }) = keys.take(id, written, now) else {
        return Ok(None);
    };
    if !decision.allowed {
        return Err(Refused { by: By::Key(policy), decision, cost: 1 });
    }
    holds.key = Some(hold);
    request.passed.limits.hear(By::Key(policy), decision);
    Ok(unsaved)
}

/// How long a request can wait in line: for as long as it may take in all, and as its caller leaves it.
fn wait_max(
    way: Way<'_>,
    limits: &Limits,
    limit: &Limit,
    request: &Request<'_, '_>,
    journal: &Journal<'_>,
) -> Duration {
    if !limit.limit.may_wait() {
        return Duration::ZERO;
    }
    let callers = deadline::callers_time(way, &request.exchange.head.fields, journal.began());
    let shortest = [limits.total, callers].into_iter().flatten().min().unwrap_or(WAIT_MAX);
    let until = journal.began() + shortest.min(WAIT_MAX);
    until.saturating_sub(clock::now())
}

/// Waits for what has to be waited for.
async fn settled<'a>(
    way: Way<'_>,
    mut step: Step<'a>,
    request: &mut Request<'_, '_>,
    journal: &mut Journal<'_>,
) -> Result<(Decision, Hold<'a>, Outcome), Ending> {
    loop {
        step = match step {
            Step::Decided(decision, hold) => return Ok((decision, hold, Outcome::Allowed)),
            Step::Asked(question, mut asked) => {
                let until = clock::now() + asked.within();
                let word = request.exchange.reused.down.run(until, asked.word()).await;
                terrace_limits::Limit::settle(question, word.ok().flatten(), moment(way))
            }
            Step::Unsaved(decision, hold, unsaved) => {
                saved(unsaved, request).await;
                Step::Decided(decision, hold)
            }
            Step::Waits(decision, mut hold) => {
                let since = clock::now();
                in_line(&mut hold, request).await?;
                journal.note(Note::Shaped(clock::now().saturating_sub(since)));
                return Ok((decision, hold, Outcome::Waited));
            }
        }
    }
}

/// Waits until what was taken of a quota is written down, or for long enough.
async fn saved(mut unsaved: Unsaved, request: &mut Request<'_, '_>) {
    let until = clock::now() + Unsaved::WITHIN;
    let _or_for_long_enough = request.exchange.reused.down.run(until, Box::pin(unsaved.written())).await;
}

/// Waits until it is the request's turn; a client that leaves meanwhile gives its place up.
async fn in_line(hold: &mut Hold<'_>, request: &mut Request<'_, '_>) -> Result<(), Ending> {
    let exchange = &mut *request.exchange;
    let (reply, timer) = (&mut exchange.reply, &mut exchange.reused.down);
    poll_fn(|cx| {
        loop {
            match hold.turn(clock::now(), cx.waker()) {
                Turn::Go => return Poll::Ready(Ok(())),
                Turn::At(moment) if timer.poll_elapsed(cx, moment).is_ready() => {}
                Turn::At(_) | Turn::Behind => break,
            }
        }
        poll_left(reply, cx).map(|()| Err(Ending::Gone(CLIENT_GONE)))
    })
    .await
}

/// Ready when the client broke off its stream, or closed its side of the connection. Whoever only stopped sending (RFC 9112
/// section 9.6) cannot be told from one who left, and of those who wait in line nearly all have left.
fn poll_left(reply: &mut Reply<'_>, cx: &mut Context<'_>) -> Poll<()> {
    match reply {
        Reply::Http1 { outgoing, .. } => outgoing.poll_peer_closed(cx),
        Reply::Http2(_) | Reply::Begun => reply.poll_gone(cx),
    }
}

/// 429 (RFC 6585 section 4).
#[cold]
fn refuse(
    limits: &Limits,
    refused: Refused,
    request: &mut Request<'_, '_>,
    journal: &mut Journal<'_>,
) -> Ending {
    let Refused { by, decision, cost } = refused;
    let name = match by {
        By::Limit(place) => limits.limits.get(place).map_or("", |limit| limit.limit.name()),
        By::Key(_) => KEY_LIMIT,
    };
    journal.note(Note::Limited(name.into()));
    request.passed.limits.told = Some(Told { by, decision });
    let detail = match decision.retry_after {
        Some(wait) => format!("limit {name} is used up; try again in {} s", seconds(wait).max(1)),
        None => {
            format!("the request costs {cost}, and limit {name} never allows more than {}", decision.limit)
        }
    };
    let mut problem = Problem::client(429, "http_request_denied", detail);
    problem.is_retry_safe = decision.retry_after.is_some();
    problem.retry_after_s = decision.retry_after.map(|wait| seconds(wait).max(1));
    problem.into()
}

fn moment(way: Way<'_>) -> Moment {
    at(way, clock::now())
}

fn at(way: Way<'_>, now: Duration) -> Moment {
    Moment { clock: now, wall: way.core.wall_since_1970(now) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(remaining: u64, limit: u64, allowed: bool) -> Decision {
        let reset = Duration::from_millis(2_500);
        Decision { allowed, limit, remaining, reset, retry_after: None }
    }

    #[test]
    fn the_client_is_told_of_the_limit_that_leaves_it_least() {
        let mut taken = Taken::default();
        let heard = |taken: &Taken| match taken.told.map(|told| told.by) {
            Some(By::Limit(place)) => place,
            other => panic!("{other:?}"),
        };
        taken.hear(By::Limit(0), decision(50, 100, true));
        taken.hear(By::Limit(1), decision(900, 1_000, true));
        assert_eq!(heard(&taken), 0);
        taken.hear(By::Limit(2), decision(3, 10, true));
        assert_eq!(heard(&taken), 2);
        taken.hear(By::Limit(3), decision(9, 10, false));
        assert_eq!(heard(&taken), 3);
    }

    #[test]
    fn what_is_told_is_a_list_of_structured_fields() {
        let policy = Policy { quota: 200, window: Some(Duration::from_millis(1_500)), is_concurrency: false };
        assert_eq!(policy_text("api", policy), r#""api";q=200;w=2"#);
        let policy = Policy { quota: 10, window: None, is_concurrency: true };
        assert_eq!(policy_text("a\"b\n", policy), r#""a\"b";q=10;qu="concurrent-requests""#);
        let mut head = ResponseHead::new(200);
        append_standing(&standing_text("api"), &decision(12, 100, true), &mut head);
        assert_eq!(head.fields.named(b"ratelimit"), Some(&br#""api";r=12;t=3"#[..]));
        let mut value = Vec::new();
        [0, 7, 1_234_567, u64::MAX].into_iter().for_each(|number| {
            push_number(&mut value, number);
            value.push(b' ');
        });
        assert_eq!(value, b"0 7 1234567 999999999999999 ");
    }
}

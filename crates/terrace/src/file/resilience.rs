//! What keeps the rest fast when a part is slow, broken or crowded: hedges, fallbacks and priorities as policies; the
//! breaker, the concurrency and the queue of a service; and `[overload]`, which watches this machine itself.

use std::time::Duration;

use super::issuer::ClaimPath;
use super::policy::Reason;
use super::problem::Finding;
use super::read::{Read, Reader, Switch, choice, table};
use super::route::{Known, RespondTable};
use super::spec::Shape;
use super::tree::{Node, Value};
use super::values::{OrAuto, Share, StatusRange, Token, Words};

table! {
    /// The answer that comes first wins. Only requests that may be repeated, and only within the budget of `retry`.
    pub(crate) struct HedgeTable {
        /// When the next attempt begins: `"p50"`, `"p90"`, `"p95"` or `"p99"` of the service's recent times, or a time.
        "after" after: HedgeAfter = "p95";
        /// Attempts under way at the same time, the first included.
        "attempts" attempts: u32 = 2, within 2 to 4;
    }
}

choice! {
    /// A quantile of a service's recent times to the first byte.
    pub enum HedgeQuantile {
        /// Half of the requests are faster.
        "p50" P50,
        /// Nine in ten are faster.
        "p90" P90,
        /// 95 in a hundred are faster.
        "p95" P95,
        /// 99 in a hundred are faster.
        "p99" P99,
    }
}

/// When another attempt begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HedgeAfter {
    /// After the time that so many of the recent ones took.
    Quantile(HedgeQuantile),
    /// After this time.
    Time(Duration),
}

impl Read for HedgeAfter {
    fn shape() -> Shape {
        Shape::Either(vec![HedgeQuantile::shape(), Duration::shape()])
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match node.text() {
            Some(text) if text.starts_with('p') => Some(Self::Quantile(HedgeQuantile::read(node, reader)?)),
            _ => {
                let time = Duration::read(node, reader)?;
                match time.is_zero() {
                    true => {
                        reader.refuse(Finding::new(node.origin, "at once, every request would be sent twice"))
                    }
                    false => Some(Self::Time(time)),
                }
            }
        }
    }
}

table! {
    /// Another service, or a fixed answer.
    pub(crate) struct FallbackTable one of "to" "respond", whole {
        /// The service that answers in its place; for that service itself there is no fallback then.
        "to" to: Option<Words>, example "catalog-copy";
        /// The answer.
        "respond" respond: Option<RespondTable>, example { body = "[]", type = "application/json" };
        /// When: `open` (the service's breaker is open, or its queue full), `connect`, `reset`, `timeout`, a status or a class of
        /// them. It comes after all retries.
        "on" on: Vec<FallbackReason> = ["open", "connect", "reset", "timeout", "5xx"];
    }
}

choice! {
    /// A failure without a response.
    pub(crate) enum FallbackCause {
        /// The service's breaker is open, or its queue full.
        "open" Open,
        /// No connection: the request was never sent.
        "connect" Connect,
        /// The connection broke before the first byte of the response.
        "reset" Reset,
        /// No answer in time.
        "timeout" Timeout,
    }
}

/// When something else answers, as written.
type FallbackReason = Reason<FallbackCause>;

choice! {
    /// How much a request matters when not all can be served.
    pub enum PriorityLevel {
        /// Kept as long as possible.
        "high" High,
        /// Between them.
        "normal" Normal,
        /// Given up first.
        "low" Low,
    }
}

table! {
    /// In the table: by what a request carries.
    pub(crate) struct PriorityTable one of "header" "claim", whole {
        /// A header that says `high`, `normal` or `low`. Only where a client cannot set it as it likes.
        "header" header: Option<Token>, example "X-Priority";
        /// For requests without that header.
        "default" default: PriorityLevel = "normal", with "header";
        /// A claim of who asks, see `auth`.
        "claim" claim: Option<ClaimPath>, example "tier";
        /// Its values that make a request `high`.
        "high" high: Vec<Words>, with "claim", example ["gold"];
        /// Its values that make a request `low`; all others are `normal`.
        "low" low: Vec<Words>, with "claim", example ["free"];
    }
}

/// `priority` as written.
#[derive(Clone, Debug)]
pub(crate) enum PrioritySetting {
    Level(PriorityLevel),
    By(PriorityTable),
}

impl Read for PrioritySetting {
    fn shape() -> Shape {
        Shape::Either(vec![PriorityLevel::shape(), PriorityTable::shape()])
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            Value::Table(_) => Some(Self::By(PriorityTable::read(node, reader)?)),
            _ => Some(Self::Level(PriorityLevel::read(node, reader)?)),
        }
    }
}

table! {
    /// The time of an answer is that to its first byte.
    pub(crate) struct SlowTable {
        /// What takes longer is slow. `"auto"`: for an endpoint three times what is usual for its neighbours and at least
        /// 100 ms, for a whole service ten times what is usual for it and at least a second.
        "over" over: OrAuto<Duration> = "auto", within "1ms" to "10m";
        /// Share of slow answers in the window.
        "share" share: Share = "50%";
    }
}

table! {
    /// After a while one is let through to see whether the service is well again. As long as some endpoints are well, `eject`
    /// deals with the others.
    pub(crate) struct BreakerTable {
        /// Failures in a row. `false`: however many.
        "consecutive" consecutive: Switch<u32> = 20, within 1 to 100000;
        /// Share of failures in the window. `false`: whatever it is.
        "errors" errors: Switch<Share> = "50%";
        /// Answers that come too late, which count as failures. `false`: however late.
        "slow" slow: Switch<SlowTable> = false, example { over = "2s", share = "80%" };
        /// Requests in the window below which a share says nothing.
        "requests" requests: u32 = 20, within 1 to 100000;
        /// The window.
        "window" window: Duration = "10s", within "1s" to "10m";
        /// How long it stays open at most before a request is let through; the first time it is an eighth of that, and it
        /// doubles as long as the service stays ill.
        "open" open: Duration = "2s", within "100ms" to "10m";
    }
}

choice! {
    /// How the number of requests under way at a service is found.
    pub(crate) enum ConcurrencyWord {
        /// By measuring: as many as do not make each other slow.
        "adaptive" Adaptive,
    }
}

/// `concurrency` as written, and as it is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concurrency {
    /// As many as do not make each other slow.
    Adaptive,
    /// So many.
    Fixed(u32),
    /// Without bound.
    Off,
}

/// More requests at once than this are no bound.
const CONCURRENCY_MAX: u32 = 1_000_000;

impl Read for Concurrency {
    fn shape() -> Shape {
        Shape::Either(vec![ConcurrencyWord::shape(), Shape::Integer, Shape::Off])
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            Value::Boolean(false) => Some(Self::Off),
            Value::Integer(_) => match u32::read(node, reader)? {
                fixed @ 1..=CONCURRENCY_MAX => Some(Self::Fixed(fixed)),
                _ => {
                    let finding = Finding::new(node.origin, "this many requests at once are no bound");
                    reader.refuse(finding.help(format!("from 1 to {CONCURRENCY_MAX}; `false` for none")))
                }
            },
            Value::Text(_) => {
                ConcurrencyWord::read(node, reader)?;
                Some(Self::Adaptive)
            }
            _ => reader.unexpected(node, "\"adaptive\", a whole number or `false`", None),
        }
    }
}

table! {
    /// Who came first is served first, until the line stands: until it does nothing but make every answer late.
    pub(crate) struct QueueTable {
        /// So many wait at most; one more is refused with 503. 0: none waits.
        "size" size: u32 = 1000, within 0 to 100000;
        /// How long one waits at most. `"auto"`: twenty times what an answer usually takes, from 1 to 2 s; once the line stands
        /// a quarter of that and less.
        "wait" wait: OrAuto<Duration> = "auto", within "1ms" to "10m";
        /// Whose turn is next once the line stands; who has waited for too long is sent away then.
        "order" order: QueueOrder = "lifo";
    }
}

choice! {
    /// Whose turn is next once a line stands.
    pub enum QueueOrder {
        /// The one that came last, whose client is the most likely to be still there.
        "lifo" Lifo,
        /// The one that came first, of those who are left (CoDel, RFC 8289).
        "codel" Codel,
    }
}

table! {
    /// When this machine itself has too much to do, requests are refused at once: of low `priority` first, then of normal,
    /// of high ones last.
    pub(crate) struct OverloadTable {
        /// Share of the memory that this process may use (its cgroup's, else the machine's). `false`: whatever it is.
        "memory" memory: Switch<Share> = "85%";
        /// How late a thread comes to what is due. `false`: however late.
        "lag" lag: Switch<Duration> = "100ms", within "1ms" to "10s";
        /// Share of a listener's `bounds.connections` that are open. `false`: whatever it is.
        "connections" connections: Switch<Share> = "90%";
    }
}

/// A second attempt beside the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hedge {
    /// When it begins.
    pub after: HedgeAfter,
    /// Attempts at the same time, the first included.
    pub attempts_max: u32,
}

/// What answers when the service cannot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// What.
    pub to: FallbackTo,
    /// When.
    pub on: FallbackOn,
}

/// What answers in a service's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FallbackTo {
    /// Another service.
    Service(String),
    /// A fixed answer.
    Respond {
        /// 200 to 599.
        status: u16,
        /// Its body.
        body: String,
        /// Its media type.
        media_type: String,
    },
}

/// When something else answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FallbackOn {
    /// The breaker is open, or the queue full.
    pub open: bool,
    /// The request was never sent.
    pub connect: bool,
    /// The connection broke before the response's first byte.
    pub reset: bool,
    /// No answer in time.
    pub timeout: bool,
    /// The response had one of these statuses.
    pub statuses: Vec<StatusRange>,
}

/// How much a request matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Always the same.
    Level(PriorityLevel),
    /// As a header says.
    Header {
        /// Its name.
        name: String,
        /// Where there is none.
        default: PriorityLevel,
    },
    /// By a claim; what is in neither list is normal.
    Claim {
        /// Its name, with dots on the way down into it.
        path: String,
        /// Values that matter more.
        high: Vec<String>,
        /// Values that matter less.
        low: Vec<String>,
    },
}

/// Answers that come too late.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slow {
    /// What takes longer is slow; `None`: found by measuring.
    pub over: Option<Duration>,
    /// Share of slow answers, 0 to 1.
    pub share: f64,
}

/// When requests to a service are refused at once. What is `None` does not count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Breaker {
    /// Failures in a row.
    pub consecutive: Option<u32>,
    /// Share of failures, 0 to 1.
    pub error_share: Option<f64>,
    /// Slow answers.
    pub slow: Option<Slow>,
    /// Requests in the window below which a share says nothing.
    pub requests_min: u32,
    /// The window.
    pub window: Duration,
    /// How long it stays open at most.
    pub open_time_max: Duration,
}

/// Requests that wait for a place at a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// So many at most.
    pub waiting_max: u32,
    /// How long at most; `None`: found by measuring.
    pub wait_max: Option<Duration>,
    /// Whose turn is next.
    pub order: QueueOrder,
}

/// When this machine has too much to do. What is `None` does not count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Overload {
    /// Share of the memory, 0 to 1.
    pub memory_share: Option<f64>,
    /// How late a thread comes.
    pub lag: Option<Duration>,
    /// Share of the connections, 0 to 1.
    pub connections_share: Option<f64>,
}

impl From<HedgeTable> for Hedge {
    fn from(table: HedgeTable) -> Self {
        Self { after: table.after, attempts_max: table.attempts }
    }
}

impl From<SlowTable> for Slow {
    fn from(table: SlowTable) -> Self {
        Self { over: table.over.fixed(), share: table.share.0 }
    }
}

impl From<PrioritySetting> for Priority {
    fn from(setting: PrioritySetting) -> Self {
        let texts = |words: Vec<Words>| words.into_iter().map(|word| word.0).collect();
        match setting {
            PrioritySetting::Level(level) => Self::Level(level),
            PrioritySetting::By(PriorityTable { claim: Some(claim), high, low, .. }) => {
                Self::Claim { path: claim.0, high: texts(high), low: texts(low) }
            }
            PrioritySetting::By(PriorityTable { header: Some(header), default, .. }) => {
                Self::Header { name: header.0, default }
            }
            // Invariant: `PriorityTable` has exactly one of the two.
            PrioritySetting::By(PriorityTable { default, .. }) => Self::Level(default),
        }
    }
}

impl From<OverloadTable> for Overload {
    fn from(table: OverloadTable) -> Self {
        Self {
            memory_share: table.memory.on().map(|share| share.0),
            lag: table.lag.on(),
            connections_share: table.connections.on().map(|share| share.0),
        }
    }
}

pub(crate) fn resolve_overload(node: &Node, reader: &mut Reader<'_>) -> Option<Overload> {
    Some(OverloadTable::read(node, reader)?.into())
}

/// `fallback` in `policies`, if it is on. `service`: the one that it stands in for.
pub(crate) fn resolve_fallback(
    switch: Switch<FallbackTable>,
    policies: &Node,
    service: Option<&str>,
    known: &Known<'_>,
    reader: &mut Reader<'_>,
) -> Option<Option<Fallback>> {
    let (Switch::On(table), Some(node)) = (switch, policies.get("fallback")) else { return Some(None) };
    let on = fallback_on(&table.on);
    let to = match (table.to, table.respond) {
        // `[defaults]` may name one service for all, and that one then has none.
        (Some(to), _) if Some(to.0.as_str()) == service => return Some(None),
        (Some(to), _) => {
            known.routed(&to.0, node.origin_of("to"), reader)?;
            FallbackTo::Service(to.0)
        }
        (None, Some(respond)) => FallbackTo::Respond {
            status: respond.status,
            body: respond.body.0,
            media_type: respond.media_type.0,
        },
        // Invariant: `FallbackTable` has exactly one of the two.
        (None, None) => return None,
    };
    Some(Some(Fallback { to, on }))
}

fn fallback_on(reasons: &[FallbackReason]) -> FallbackOn {
    let mut on = FallbackOn::default();
    for reason in reasons {
        match reason {
            FallbackReason::Cause(FallbackCause::Open) => on.open = true,
            FallbackReason::Cause(FallbackCause::Connect) => on.connect = true,
            FallbackReason::Cause(FallbackCause::Reset) => on.reset = true,
            FallbackReason::Cause(FallbackCause::Timeout) => on.timeout = true,
            FallbackReason::Status(range) => on.statuses.push(*range),
        }
    }
    on
}

/// `breaker` of a service, if it is on.
pub(crate) fn resolve_breaker(
    switch: Switch<BreakerTable>,
    service: &Node,
    reader: &mut Reader<'_>,
) -> Option<Option<Breaker>> {
    let Switch::On(table) = switch else { return Some(None) };
    let breaker = Breaker {
        consecutive: table.consecutive.on(),
        error_share: table.errors.on().map(|share| share.0),
        slow: table.slow.on().map(Slow::from),
        requests_min: table.requests,
        window: table.window,
        open_time_max: table.open,
    };
    if breaker.consecutive.is_none() && breaker.error_share.is_none() && breaker.slow.is_none() {
        let finding =
            Finding::new(service.origin_of("breaker"), "nothing is left that could open this breaker");
        return reader.refuse(finding.help("write breaker = false"));
    }
    Some(Some(breaker))
}

impl From<QueueTable> for Queue {
    fn from(table: QueueTable) -> Self {
        Self { waiting_max: table.size, wait_max: table.wait.fixed(), order: table.order }
    }
}

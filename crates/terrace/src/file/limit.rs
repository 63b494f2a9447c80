//! `[limit.NAME]` and the policy `limit`: how often, and how many at once.
//!
//! A limit that stands in a policy is written once and counts for each route that it reaches by itself; one with a name
//! counts for all who name it together.

use terrace_limits::RedisUrl;

use super::issuer::ClaimPath;
use super::problem::{Finding, nearest};
use super::read::{OneOrMany, Read, Reader, Scalar, Switch, Wrong, choice, table};
use super::route::Known;
use super::service::EnvValue;
use super::spec::{Form, Shape};
use super::tree::{Node, Value};
use super::values::{SecretSource, Words, is_token};

table! {
    /// How often something may be asked for, by `rate`, or how many at once, by `at-once`. What is beyond it is answered with
    /// 429, which says when to come back; every answer tells how much is left.
    pub(crate) struct LimitTable one of "rate" "at-once", whole {
        /// So many in a time: `"100/s"`, `"1000/m"`, `"5000/h"`, `"10000/d"`; with `algorithm = "quota"` also `"100000/month"`.
        "rate" rate: Option<Rate>, example "100/s";
        /// So many requests under way at the same time.
        "at-once" at_once: Option<u32>, within 1 to 1000000, example 10;
        /// So many at once after a pause; for `token-bucket`. Default: as many as `rate` allows in its time.
        "burst" burst: Option<u32>, within 1 to 1000000000, with "rate", example 200;
        /// Who shares a count: `"client-ip"`, `"header:NAME"`, `"claim:NAME"`, `"api-key"`, `"route"`, `"all"`, or a list of them
        /// for a count of each combination.
        "key" key: OneOrMany<LimitKey> = "client-ip", example ["client-ip", "header:X-Tenant"];
        /// How it is counted. Default: `token-bucket`, and `concurrency` with `at-once`.
        "algorithm" algorithm: Option<Algorithm>, example "sliding-window";
        /// So many wait for their turn; for `leaky-bucket`. Default: 100.
        "queue" queue: Option<u32>, within 0 to 100000, with "rate", example 100;
        /// What a request costs, as a whole number in a header; one where there is none.
        "cost" cost: Option<CostSource>, with "rate", example "header:X-Cost";
        /// Clients with IPv6 are counted by networks of this prefix, since each has one to itself.
        "ipv6-prefix" ipv6_prefix: u32 = 64, within 1 to 128;
        /// So many keys are remembered at least, and half as many again at most; beyond them the one that has used least is
        /// forgotten.
        "keys" keys: u32 = 100000, within 1 to 10000000;
        /// Where it is counted: here, or at a Redis that other machines share (`"redis://…"`, as a secret where it holds a
        /// password). While that one is away, each machine goes on with its share of what was left.
        "engine" engine: EngineSetting = "embedded";
        /// Count and tell, but refuse nobody.
        "dry-run" dry_run: bool = false;
    }
}

choice! {
    /// How a limit counts.
    pub(crate) enum Algorithm {
        /// Tokens come in at the rate, up to `burst`; each request takes one.
        "token-bucket" TokenBucket,
        /// Requests leave at the rate, evenly; what comes too soon waits in a queue, for as long as its own time allows.
        "leaky-bucket" LeakyBucket,
        /// So many in a second, minute, hour or day from a key's first request on, then anew; twice as many can come around its end.
        "fixed-window" FixedWindow,
        /// So many in any such time and never more; somebody may be refused for a tenth of it too long.
        "sliding-window" SlidingWindow,
        /// So many at the same time: `at-once`.
        "concurrency" Concurrency,
        /// So many in each day or month of the calendar (UTC); the count survives a restart.
        "quota" Quota,
    }
}

/// So many in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// At least 1, at most 1e9.
    pub count: u32,
    /// In this time.
    pub per: Period,
}

/// The time of a [`Rate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Period {
    /// A second.
    Second,
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// 24 hours; of the calendar, for a quota.
    Day,
    /// A month of the calendar; for a quota only.
    Month,
}

const RATE_MAX: u64 = 1_000_000_000;

impl Scalar for Rate {
    const FORM: Form = Form { noun: "a rate", example: "100/s", pattern: "^[0-9]+/(s|m|h|d|month)$" };

    fn parse(text: &str) -> Result<Self, Wrong> {
        let (number, per) = text.split_once('/').unwrap_or((text, ""));
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number {
            return Err(Wrong::form());
        }
        let count = match number.parse::<u64>() {
            Ok(0) => return Err(Wrong::because("lets nothing through")),
            Ok(count @ 1..=RATE_MAX) => count as u32,
            _ => return Err(Wrong::because(format!("is more than {RATE_MAX}"))),
        };
        let per = match per {
            "s" => Period::Second,
            "m" => Period::Minute,
            "h" => Period::Hour,
            "d" => Period::Day,
            "month" => Period::Month,
            "" => return Err(Wrong::write(format!("{number}/s"))),
            other => return Err(unknown_period(number, other)),
        };
        Ok(Self { count, per })
    }

    fn for_number(number: i64) -> Option<String> {
        (number > 0).then(|| format!("\"{number}/s\""))
    }
}

fn unknown_period(number: &str, per: &str) -> Wrong {
    let meant = match per.trim_end_matches('s') {
        "sec" | "second" | "1" => "s",
        "min" | "minute" => "m",
        "hr" | "hour" => "h",
        "day" => "d",
        "mo" | "mon" | "month" => "month",
        _ => return Wrong::because("ends in none of /s, /m, /h, /d, /month"),
    };
    Wrong::write(format!("{number}/{meant}"))
}

/// What requests have in common that share a count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimitKey {
    /// The client's address.
    ClientAddress,
    /// A header's value.
    Header(String),
    /// A claim, with dots on the way down into it.
    Claim(String),
    /// The API key.
    ApiKey,
    /// The route.
    Route,
    /// Everything.
    All,
}

const KEY_WORDS: [&str; 6] = ["client-ip", "header:X-Tenant", "claim:sub", "api-key", "route", "all"];

impl Scalar for LimitKey {
    const FORM: Form = Form {
        noun: "a key of a limit",
        example: "client-ip",
        pattern: "^(client-ip|api-key|route|all|header:[!#$%&'*+.^_`|~0-9A-Za-z-]+|claim:\\S+)$",
    };

    fn parse(text: &str) -> Result<Self, Wrong> {
        match text {
            "client-ip" => return Ok(Self::ClientAddress),
            "api-key" => return Ok(Self::ApiKey),
            "route" => return Ok(Self::Route),
            "all" => return Ok(Self::All),
            _ => {}
        }
        match text.split_once(':') {
            Some(("header", name)) if is_token(name) => Ok(Self::Header(name.to_owned())),
            Some(("claim", path)) if ClaimPath::parse(path).is_ok() => Ok(Self::Claim(path.to_owned())),
            Some(("header" | "claim", _)) => Err(Wrong::because("has no name behind the colon")),
            _ => Err(match nearest(text, KEY_WORDS) {
                Some(meant) => Wrong { why: "is not known here".to_owned(), write: Some(meant.to_owned()) },
                None => Wrong::because(
                    "is none of \"client-ip\", \"header:NAME\", \"claim:NAME\", \"api-key\", \"route\", \"all\"",
                ),
            }),
        }
    }
}

/// Where the cost of a request stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CostSource(String);

impl Scalar for CostSource {
    const FORM: Form =
        Form { noun: "a header", example: "header:X-Cost", pattern: "^header:[!#$%&'*+.^_`|~0-9A-Za-z-]+$" };

    fn parse(text: &str) -> Result<Self, Wrong> {
        match text.strip_prefix("header:") {
            Some(name) if is_token(name) => Ok(Self(name.to_owned())),
            Some(_) => Err(Wrong::because("has no name of HTTP behind the colon")),
            None if is_token(text) => Err(Wrong::write(format!("header:{text}"))),
            None => Err(Wrong::form()),
        }
    }
}

/// `engine` as written.
#[derive(Clone, Debug)]
pub(crate) enum EngineSetting {
    Embedded,
    Redis(String),
    Kept(SecretSource),
}

const ENGINE_FORM: Form = Form {
    noun: "an engine",
    example: "redis://127.0.0.1:6379",
    pattern: "^(embedded|rediss?://[^\\s@/]+(/[0-9]+)?)$",
};

/// An engine that is written down.
struct PlainEngine(EngineSetting);

impl Scalar for PlainEngine {
    const FORM: Form = ENGINE_FORM;

    fn parse(text: &str) -> Result<Self, Wrong> {
        match text {
            "embedded" => Ok(Self(EngineSetting::Embedded)),
            url if RedisUrl::parse(url).is_ok() => Ok(Self(EngineSetting::Redis(url.to_owned()))),
            text if text.contains("://") => Err(Wrong::because(
                "is no URL like \"redis://127.0.0.1:6379\" or \"rediss://redis.example.com/0\"",
            )),
            text => Err(match nearest(text, ["embedded"]) {
                Some(meant) => Wrong::write(meant),
                None => Wrong::because("is neither \"embedded\" nor a URL like \"redis://127.0.0.1:6379\""),
            }),
        }
    }

    fn secret_help(text: &str) -> Option<&'static str> {
        let has_password = text.contains("://") && text.contains('@');
        has_password.then_some("write { env = \"NAME\" } or { file = \"path\" }, which holds the whole URL")
    }
}

impl Read for EngineSetting {
    fn shape() -> Shape {
        Shape::Either(vec![Shape::Text(ENGINE_FORM), SecretSource::shape()])
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            Value::Table(_) => Some(Self::Kept(SecretSource::read(node, reader)?)),
            _ => Some(PlainEngine::read(node, reader)?.0),
        }
    }
}

/// An item of `limit` as written.
#[derive(Clone, Debug)]
pub(crate) enum LimitItem {
    Named(String),
    Own(Box<LimitTable>),
}

impl Read for LimitItem {
    fn shape() -> Shape {
        Shape::Either(vec![Words::shape(), LimitTable::shape()])
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            Value::Text(text) => match Rate::parse(text) {
                Ok(_) => {
                    let finding =
                        Finding::new(node.origin, format!("{text:?} is a rate, not the name of a limit"));
                    reader.refuse(finding.help(format!("write {{ rate = {text:?} }}")))
                }
                Err(_) => Some(Self::Named(text.clone())),
            },
            Value::Table(_) => Some(Self::Own(Box::new(LimitTable::read(node, reader)?))),
            _ => reader.unexpected(node, "the name of a limit, or { rate = \"100/s\" }", None),
        }
    }
}

/// A limit that a route is under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimitUse {
    /// That of `[limit.NAME]`, with all others who name it.
    Shared(String),
    /// Its own.
    Own(Limit),
}

/// How often, or how many at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// How it is counted, and how many there may be.
    pub law: LimitLaw,
    /// What requests have in common that share a count; never empty.
    pub key: Vec<LimitKey>,
    /// The header that says what a request costs; `None`: one.
    pub cost_header: Option<String>,
    /// Clients with IPv6 are counted by networks of this prefix, 1 to 128.
    pub ipv6_prefix_bits: u8,
    /// Keys that are remembered at most.
    pub keys_max: u32,
    /// Where it is counted.
    pub engine: LimitEngine,
    /// Whether it only counts and tells.
    pub dry_run: bool,
}

/// How a limit counts, and how many there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitLaw {
    /// Tokens come in at the rate.
    TokenBucket {
        /// So many come in.
        rate: Rate,
        /// So many lie there at most.
        burst: u32,
    },
    /// Requests leave at the rate.
    LeakyBucket {
        /// So many leave.
        rate: Rate,
        /// So many wait at most.
        queue: u32,
    },
    /// So many in each time by the clock.
    FixedWindow(Rate),
    /// So many in any such time.
    SlidingWindow(Rate),
    /// So many at once.
    Concurrency(u32),
    /// So many in each day or month.
    Quota(Rate),
}

/// Where a limit is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimitEngine {
    /// Here.
    Embedded,
    /// At a Redis, by its URL.
    Redis(EnvValue),
}

/// Limits on one route at most.
const LIMITS_MAX: usize = 16;
const QUEUE_DEFAULT: u32 = 100;

/// The limit called `name`.
pub(crate) fn resolve_named(_name: &str, node: &Node, reader: &mut Reader<'_>) -> Option<Limit> {
    resolve_limit(LimitTable::read(node, reader)?, node, reader)
}

/// `limit` in `policies`.
pub(crate) fn resolve(
    switch: Switch<OneOrMany<LimitItem>>,
    policies: &Node,
    reader: &mut Reader<'_>,
) -> Option<Vec<LimitUse>> {
    let Switch::On(OneOrMany(items)) = switch else { return Some(Vec::new()) };
    let nodes = OneOrMany::<LimitItem>::nodes(policies.get("limit"));
    if items.len() > LIMITS_MAX {
        return reader
            .refuse(Finding::new(policies.origin_of("limit"), format!("more than {LIMITS_MAX} limits")));
    }
    let mut limits = Vec::new();
    let mut all_good = true;
    for (item, node) in items.into_iter().zip(nodes) {
        match item {
            LimitItem::Named(name) => limits.push(LimitUse::Shared(name)),
            LimitItem::Own(table) => match resolve_limit(*table, node, reader) {
                Some(limit) => limits.push(LimitUse::Own(limit)),
                None => all_good = false,
            },
        }
    }
    all_good.then_some(limits)
}

fn resolve_limit(table: LimitTable, node: &Node, reader: &mut Reader<'_>) -> Option<Limit> {
    let law = resolve_law(&table, node, reader)?;
    check_keys(&table.key.0, node, reader)?;
    Some(Limit {
        law,
        key: table.key.0,
        cost_header: table.cost.map(|cost| cost.0),
        // Invariant: the table's bound is 128.
        ipv6_prefix_bits: u8::try_from(table.ipv6_prefix).unwrap_or(128),
        keys_max: table.keys,
        engine: resolve_engine(table.engine, law, node, reader)?,
        dry_run: table.dry_run,
    })
}

fn resolve_law(table: &LimitTable, node: &Node, reader: &mut Reader<'_>) -> Option<LimitLaw> {
    match (table.rate, table.at_once) {
        (Some(rate), _) => {
            let algorithm = table.algorithm.unwrap_or(Algorithm::TokenBucket);
            only_with(table, algorithm, node, reader)?;
            check_period(rate, algorithm, node, reader)?;
            law_of_rate(rate, algorithm, table, node, reader)
        }
        (None, Some(at_once)) => match table.algorithm {
            None | Some(Algorithm::Concurrency) => Some(LimitLaw::Concurrency(at_once)),
            Some(_) => {
                let finding = Finding::new(node.origin_of("algorithm"), "this algorithm counts by `rate`");
                let finding = finding.help("leave it out, or write `rate` in place of `at-once`");
                reader.refuse(finding.other(node.key_origin_of("at-once"), "how many at once"))
            }
        },
        // Invariant: `LimitTable` has exactly one of the two.
        (None, None) => None,
    }
}

fn law_of_rate(
    rate: Rate,
    algorithm: Algorithm,
    table: &LimitTable,
    node: &Node,
    reader: &mut Reader<'_>,
) -> Option<LimitLaw> {
    Some(match algorithm {
        Algorithm::TokenBucket => LimitLaw::TokenBucket { rate, burst: table.burst.unwrap_or(rate.count) },
        Algorithm::LeakyBucket => LimitLaw::LeakyBucket { rate, queue: table.queue.unwrap_or(QUEUE_DEFAULT) },
        Algorithm::FixedWindow => LimitLaw::FixedWindow(rate),
        Algorithm::SlidingWindow => LimitLaw::SlidingWindow(rate),
        Algorithm::Quota => LimitLaw::Quota(rate),
        Algorithm::Concurrency => {
            let finding =
                Finding::new(node.origin_of("rate"), "`concurrency` counts requests under way, not a rate");
            let finding = finding.help(format!("write at-once = {}", rate.count.min(1_000_000)));
            return reader.refuse(finding.other(node.origin_of("algorithm"), "the algorithm"));
        }
    })
}

/// Reports a key that another algorithm gives a meaning to.
fn only_with(table: &LimitTable, algorithm: Algorithm, node: &Node, reader: &mut Reader<'_>) -> Option<()> {
    let others = [
        ("burst", table.burst.is_some(), Algorithm::TokenBucket, "token-bucket"),
        ("queue", table.queue.is_some(), Algorithm::LeakyBucket, "leaky-bucket"),
    ];
    let mut good = Some(());
    for (key, is_there, wanted, name) in others {
        if is_there && algorithm != wanted {
            let message = format!("`{key}` has a meaning for the algorithm {name:?} only");
            good = reader.refuse(Finding::new(node.key_origin_of(key), message));
        }
    }
    good
}

/// Months are of the calendar, and a quota is for what a calendar knows.
fn check_period(rate: Rate, algorithm: Algorithm, node: &Node, reader: &mut Reader<'_>) -> Option<()> {
    let origin = node.origin_of("rate");
    let is_calendar = matches!(rate.per, Period::Day | Period::Month);
    match (algorithm, rate.per) {
        (Algorithm::Quota, _) if !is_calendar => {
            let finding = Finding::new(origin, "a quota is for a day or a month of the calendar");
            let day = format!("write \"{}/d\" or \"{}/month\", or another algorithm", rate.count, rate.count);
            reader.refuse(finding.help(day))
        }
        (Algorithm::Quota, _) => Some(()),
        (_, Period::Month) => {
            let finding = Finding::new(origin, "months differ in length, so only a quota counts by them");
            reader.refuse(finding.help("add algorithm = \"quota\""))
        }
        _ => Some(()),
    }
}

fn check_keys(keys: &[LimitKey], node: &Node, reader: &mut Reader<'_>) -> Option<()> {
    let nodes = OneOrMany::<LimitKey>::nodes(node.get("key"));
    for (at, key) in keys.iter().enumerate() {
        let origin = nodes.get(at).map_or(node.origin, |node| node.origin);
        if keys[..at].contains(key) {
            return reader.refuse(Finding::new(origin, "this key stands there twice"));
        }
        if *key == LimitKey::All && keys.len() > 1 {
            let finding =
                Finding::new(origin, "\"all\" is one count for everything, so nothing can be added to it");
            return reader.refuse(finding.help("leave it out"));
        }
    }
    Some(())
}

fn resolve_engine(
    setting: EngineSetting,
    law: LimitLaw,
    node: &Node,
    reader: &mut Reader<'_>,
) -> Option<LimitEngine> {
    let origin = node.origin_of("engine");
    let url = match setting {
        EngineSetting::Embedded => return Some(LimitEngine::Embedded),
        EngineSetting::Redis(url) => EnvValue::Plain(url),
        EngineSetting::Kept(source) => {
            let secret = reader.secret(&source, origin)?;
            if RedisUrl::parse(secret.reveal()).is_err() {
                let finding = Finding::new(origin, "this secret holds no URL of a Redis");
                return reader
                    .refuse(finding.help("it must hold the URL alone: redis://:PASSWORD@HOST:6379/0"));
            }
            EnvValue::Secret(secret)
        }
    };
    if let LimitLaw::Concurrency(_) | LimitLaw::LeakyBucket { .. } = law {
        let message = "what is under way or waits here is counted here: no Redis can know when it ends";
        return reader.refuse(Finding::new(origin, message).help("leave `engine` out"));
    }
    Some(LimitEngine::Redis(url))
}

impl LimitKey {
    /// Whether it is known only of somebody who proved who they are.
    fn needs_identity(&self) -> bool {
        matches!(self, Self::Claim(_) | Self::ApiKey)
    }
}

/// Reports a limit by who somebody is where nobody is asked.
pub(crate) fn check_identity(
    limits: &[LimitUse],
    policies: &Node,
    known: &Known<'_>,
    reader: &mut Reader<'_>,
) -> Option<()> {
    let nodes = OneOrMany::<LimitItem>::nodes(policies.get("limit"));
    let mut good = Some(());
    for (limit, node) in limits.iter().zip(nodes) {
        if needs_identity(limit, known) {
            let message = "this limit counts by who somebody is, and there is no `auth` here that asks";
            let finding = Finding::new(node.origin, message);
            good = reader.refuse(finding.help("add auth = { … }, or count by \"client-ip\" or a header"));
        }
    }
    good
}

/// Whether a limit counts by who somebody is.
pub(crate) fn needs_identity(limit: &LimitUse, known: &Known<'_>) -> bool {
    match limit {
        LimitUse::Own(limit) => limit.key.iter().any(LimitKey::needs_identity),
        LimitUse::Shared(name) => known.get("limit", name).is_some_and(is_by_identity),
    }
}

/// Whether the limit that is written in `node` counts by who somebody is.
fn is_by_identity(node: &Node) -> bool {
    let texts = OneOrMany::<LimitKey>::nodes(node.get("key")).iter().filter_map(Node::text);
    texts.filter_map(|text| LimitKey::parse(text).ok()).any(|key| key.needs_identity())
}

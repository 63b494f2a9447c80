//! `[policy.NAME]`, `[defaults]` and the policy keys of services and routes: how patient, how persistent, how much.
//!
//! One merge law for every key: built-in < `[defaults]` < service < policy < route. A table of keys (`timeout`,
//! `retry`) is merged key by key; `false` switches off, and a later table switches on again.

use std::time::Duration;

use super::problem::Finding;
use super::read::{Read, Reader, Switch, choice, table};
use super::spec::{Form, Shape, fill_table, lay_over};
use super::tree::{Layer, Node, Table, Value};
use super::values::{Method, Share, Size, StatusRange};

table! {
    /// Policies: how patient, how persistent and how generous Terrace is. A policy is a key; each may stand in
    /// `[defaults]`, in a service, in a named policy and in a route, and the last of these wins, key by key.
    pub(crate) struct PolicyTable {
        /// How long each part of a request may take.
        "timeout" timeout: TimeoutTable = {};
        /// When a failed request is tried again, at another endpoint where there is one.
        "retry" retry: Switch<RetryTable> = {};
        /// Largest request body; a larger one is answered with 413. `false`: no bound.
        "body-max" body_max: Switch<Size> = "100MiB";
        /// Give each request an `X-Request-Id`, unless a trusted proxy has set one.
        "request-id" request_id: bool = true;
    }
}

table! {
    /// Each can be switched off with `false`.
    pub(crate) struct TimeoutTable {
        /// Until a connection to an endpoint stands, TLS included.
        "connect" connect: Switch<Duration> = "1s", within "1ms" to "10m";
        /// From the request's end to the response's first byte.
        "first-byte" first_byte: Switch<Duration> = "30s", within "1ms" to "1d";
        /// Between two pieces of a body that flows.
        "idle" idle: Switch<Duration> = "60s", within "1ms" to "1d";
        /// One attempt, up to the response's head.
        "try" attempt: Switch<Duration> = false, within "1ms" to "1d";
        /// The whole request with all attempts and bodies. Off by default, so that event streams live.
        "total" total: Switch<Duration> = false, within "1ms" to "1d";
    }
}

table! {
    /// A retry never exceeds the budget, so a failing service is not buried under them.
    pub(crate) struct RetryTable {
        /// How often a request is sent at most; the first time counts.
        "attempts" attempts: u32 = 2, within 1 to 10;
        /// What is tried again: `connect` (the request was never sent), `reset` (the connection broke before the
        /// first byte), `timeout` (of one attempt), a status or a class of them.
        "on" on: Vec<RetryReason> = ["connect", "reset"], example ["connect", "503", "5xx"];
        /// Retries under way at most, as a share of the requests admitted lately; those that wait count too.
        "budget" budget: Share = "10%";
        /// Methods that may be repeated once they were sent; what was never sent is repeated whatever the method.
        "methods" methods: Vec<Method> = ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"];
        /// Pause before a retry: random, doubling from the first to the second value.
        "backoff" backoff: BackoffTable = {};
    }
}

table! {
    /// Pause before a retry: random, doubling from the first to the second value.
    pub(crate) struct BackoffTable {
        /// The first pause.
        "from" from: Duration = "25ms", within "0s" to "10m";
        /// The longest pause.
        "to" to: Duration = "1s", within "1ms" to "1h";
    }
}

/// What is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RetryReason {
    Cause(RetryCause),
    Status(StatusRange),
}

choice! {
    /// A failure without a response.
    pub(crate) enum RetryCause {
        /// No connection: the request was never sent.
        "connect" Connect,
        /// The connection broke before the first byte of the response.
        "reset" Reset,
        /// An attempt took longer than `timeout.try` or `timeout.first-byte`.
        "timeout" Timeout,
    }
}

const STATUS_FORM: Form = Form { noun: "a status", example: "503", pattern: "^[1-5]([0-9]{2}|xx)$" };

impl Read for RetryReason {
    fn shape() -> Shape {
        Shape::Either(vec![RetryCause::shape(), Shape::Text(STATUS_FORM)])
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            Value::Text(text) if text.starts_with(|first: char| first.is_ascii_digit()) => {
                Some(Self::Status(StatusRange::read(node, reader)?))
            }
            Value::Integer(number) => reader.unexpected(
                node,
                "a text like \"connect\" or \"503\"",
                Some(format!("write \"{number}\"")),
            ),
            _ => Some(Self::Cause(RetryCause::read(node, reader)?)),
        }
    }
}

/// The policies of one way through Terrace, all layers merged.
#[derive(Clone, Debug, PartialEq)]
pub struct Policies {
    /// How long each part of a request may take.
    pub timeout: Timeouts,
    /// When a failed request is tried again; `None`: never.
    pub retry: Option<Retry>,
    /// Largest request body in bytes; `None`: no bound.
    pub body_bytes_max: Option<u64>,
    /// Whether each request gets an `X-Request-Id`.
    pub request_id: bool,
}

/// How long each part of a request may take; `None`: without bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until a connection to an endpoint stands.
    pub connect: Option<Duration>,
    /// From the request's end to the response's first byte.
    pub first_byte: Option<Duration>,
    /// Between two pieces of a body that flows.
    pub idle: Option<Duration>,
    /// One attempt, up to the response's head.
    pub attempt: Option<Duration>,
    /// The whole request with all attempts and bodies.
    pub total: Option<Duration>,
}

/// When and how often a failed request is tried again.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// How often a request is sent at most, the first time included.
    pub attempts_max: u32,
    /// What is tried again.
    pub on: RetryOn,
    /// Retries at most, as a share (0 to 1) of the requests admitted.
    pub budget_share: f64,
    /// Methods that may be repeated once sent.
    pub methods: Vec<String>,
    /// The first pause.
    pub backoff_from: Duration,
    /// The longest pause; not below the first.
    pub backoff_to: Duration,
}

/// Failures that are tried again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetryOn {
    /// The request was never sent.
    pub connect: bool,
    /// The connection broke before the response's first byte.
    pub reset: bool,
    /// An attempt timed out.
    pub timeout: bool,
    /// The response had one of these statuses.
    pub statuses: Vec<StatusRange>,
}

impl PolicyTable {
    /// Reports what is wrong with the policy keys in `node`, which may be some of them only.
    pub(crate) fn check(node: &Node, reader: &mut Reader<'_>) {
        // Only the findings count: the value is read again when the layers are merged.
        let _partial = reader.partially(|reader| Self::fields(node, reader));
    }
}

/// A table with policy keys, some of them at most.
pub(crate) struct PolicyLayer;

impl Read for PolicyLayer {
    fn shape() -> Shape {
        PolicyTable::shape()
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        reader.table(node, PolicyTable::SPEC)?;
        PolicyTable::check(node, reader);
        Some(Self)
    }
}

/// The policy keys of `node`, and no others, as one layer.
pub(crate) fn layer(node: &Node, layer: Layer) -> Node {
    let mut keys = Table::new();
    for (name, entry) in node.table().into_iter().flatten() {
        if PolicyTable::SPEC.key(name).is_some() {
            keys.insert(name.clone(), entry.clone());
        }
    }
    let mut node = Node { value: Value::Table(keys), origin: node.origin, layer };
    node.set_layer(layer);
    node
}

/// Lays the layers over each other, the weakest first, and the built-in defaults under them all.
pub(crate) fn merge(layers: Vec<Node>, origin: super::source::Origin) -> Node {
    let mut merged = Node { value: Value::Table(Table::new()), origin, layer: Layer::Own };
    for layer in layers {
        lay_over(&mut merged, layer, &PolicyTable::shape());
    }
    if let Value::Table(table) = &mut merged.value {
        fill_table(table, PolicyTable::SPEC);
    }
    merged
}

/// The policies that `merged` holds.
pub(crate) fn resolve(merged: &Node, reader: &mut Reader<'_>) -> Option<Policies> {
    let table = reader.only_new(|reader| PolicyTable::fields(merged, reader))?;
    let retry = match table.retry {
        Switch::On(retry) => Some(resolve_retry(retry, merged, reader)?),
        Switch::Off => None,
    };
    let timeout = Timeouts {
        connect: table.timeout.connect.on(),
        first_byte: table.timeout.first_byte.on(),
        idle: table.timeout.idle.on(),
        attempt: table.timeout.attempt.on(),
        total: table.timeout.total.on(),
    };
    let body_bytes_max = table.body_max.on().map(|size| size.0);
    Some(Policies { timeout, retry, body_bytes_max, request_id: table.request_id })
}

fn resolve_retry(table: RetryTable, merged: &Node, reader: &mut Reader<'_>) -> Option<Retry> {
    let mut on = RetryOn::default();
    for reason in table.on {
        match reason {
            RetryReason::Cause(RetryCause::Connect) => on.connect = true,
            RetryReason::Cause(RetryCause::Reset) => on.reset = true,
            RetryReason::Cause(RetryCause::Timeout) => on.timeout = true,
            RetryReason::Status(range) => on.statuses.push(range),
        }
    }
    let backoff = table.backoff;
    let written = merged.get("retry").and_then(|retry| retry.get("backoff"));
    ordered(written, ("from", backoff.from), ("to", backoff.to), reader)?;
    Some(Retry {
        attempts_max: table.attempts,
        on,
        budget_share: table.budget.0,
        methods: table.methods.into_iter().map(|method| method.0).collect(),
        backoff_from: backoff.from,
        backoff_to: backoff.to,
    })
}

/// Reports when the first of two durations is longer than the second.
pub(crate) fn ordered(
    node: Option<&Node>,
    (low_key, low): (&str, Duration),
    (high_key, high): (&str, Duration),
    reader: &mut Reader<'_>,
) -> Option<()> {
    let Some(node) = node else { return Some(()) };
    if low <= high {
        return Some(());
    }
    // Point at what somebody wrote, not at the built-in value that it does not go with.
    let (low_origin, high_origin) = (node.origin_of(low_key), node.origin_of(high_key));
    let show = super::values::show_duration;
    let message = format!("`{low_key}` ({}) is longer than `{high_key}` ({})", show(low), show(high));
    reader.refuse(Finding::new(low_origin.max(high_origin), message))
}

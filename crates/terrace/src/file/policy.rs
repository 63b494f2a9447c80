//! `[policy.NAME]`, `[defaults]` and the policy keys of services and routes: who, how often, how patient, how persistent.
//!
//! One merge law for every key: built-in < `[defaults]` < service < policy < route. A table of keys (`timeout`,
//! `retry`) is merged key by key; `false` switches off, and a later table switches on again. What is a list, or says one
//! whole thing (a limit, a fallback), replaces what was there.
//!
//! What comes of it is in two halves: [`Guards`] stand before a route's action and are the same wherever it leads;
//! [`Policies`] are of the way to one service.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use terrace_route::Pattern;

use super::auth::{self, Auth, AuthTable};
use super::body::{self, Compress, CompressTable, Validate, ValidateTable};
use super::cors::{self, Addresses, AddressesTable, Cors, CorsTable, SecurityHeaders, SecurityHeadersTable};
use super::limit::{self, LimitItem, LimitUse};
use super::print::policy_values;
use super::problem::Finding;
use super::read::{OneOrMany, Read, Reader, Switch, Toggle, choice, table};
use super::resilience::{
    self, Fallback, FallbackTable, Hedge, HedgeTable, Priority, PriorityLevel, PrioritySetting,
};
use super::route::Known;
use super::spec::{Form, Shape, fill_table, lay_over};
use super::traffic::{self, Fault, FaultTable, RequestChange, RequestTable, ResponseChange, ResponseTable};
use super::tree::{Layer, Node, Table, Value};
use super::values::{Method, Share, Size, StatusRange};

table! {
    /// Policies: who may use what, how often, how patient and how persistent Terrace is. A policy is a key; each may stand in
    /// `[defaults]`, in a service, in a named policy and in a route, and the last of these wins, key by key. Calls from other
    /// services, which come in at a service's internal address, meet its policies too, but for `auth`, `cors`,
    /// `security-headers`, `addresses`, `compress` and `grpc-web`.
    pub(crate) struct PolicyTable {
        /// Who may use the route. `false`: everybody.
        "auth" auth: Switch<AuthTable> = false, example { issuer = "main", roles = ["customer"] };
        /// Which other websites' pages may call the route from a browser. `false`: the app says so itself, or none may.
        "cors" cors: Switch<CorsTable> = false, example { origins = ["https://shop.example.com"] };
        /// Headers that make browsers careful: `true`, or a table to choose.
        "security-headers" security_headers: Toggle<SecurityHeadersTable> = false;
        /// Which clients are let in, by address. `false`: all.
        "addresses" addresses: Switch<AddressesTable> = false, example { allow = ["10.0.0.0/8"] };
        /// How often, and how many at once: a limit, the name of a `[limit.*]`, or a list of these, which must all agree. Each
        /// route that it reaches counts for itself; a `[limit.*]` counts for all who name it together. A limit replaces
        /// another whole. `false`: none.
        "limit" limit: Switch<OneOrMany<LimitItem>> = false, example { rate = "100/s" };
        /// How much requests matter when not all can be served: `"high"`, `"normal"` or `"low"`, or by a header or a claim.
        "priority" priority: PrioritySetting = "normal";
        /// How long each part of a request may take.
        "timeout" timeout: TimeoutTable = {};
        /// When a failed request is tried again, at another endpoint where there is one.
        "retry" retry: Switch<RetryTable> = {};
        /// A second attempt beside the first when that one is slow. `false`: never.
        "hedge" hedge: Switch<HedgeTable> = false, example { after = "p95" };
        /// What answers when the service cannot. `false`: an error.
        "fallback" fallback: Switch<FallbackTable> = false, example { to = "catalog-copy" };
        /// Largest request body; a larger one is answered with 413. `false`: no bound.
        "body-max" body_max: Switch<Size> = "100MiB";
        /// Give each request an `X-Request-Id`, unless a trusted proxy has set one.
        "request-id" request_id: bool = true;
        /// What the service is told differently. `false`: nothing.
        "request" request: Switch<RequestTable> = false, example { set = { X-Tenant = "{tenant}" } };
        /// What the client is told differently. `false`: nothing.
        "response" response: Switch<ResponseTable> = false, example { remove = ["Server"] };
        /// What goes wrong on purpose: a fault, or a list of them. `false`: nothing.
        "fault" fault: Switch<OneOrMany<FaultTable>> = false, example { delay = "500ms", share = "10%", until = "2027-01-31T18:00:00Z" };
        /// Compress answers for clients that take it: `true`, or a table to choose.
        "compress" compress: Toggle<CompressTable> = false;
        /// Let browsers speak gRPC-Web to a service that speaks gRPC.
        "grpc-web" grpc_web: bool = false;
        /// Hold requests against a schema before the service sees them. `false`: as they are.
        "validate" validate: Switch<ValidateTable> = false, example { schema = "order.json" };
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
        /// Tell the service how much of it is left (`X-Request-Deadline`, `grpc-timeout`), and take over what a trusted caller
        /// has left. What cannot be done in time is not begun.
        "deadline" deadline: bool = true;
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
        /// Retries of one client at most, as a share of its own requests; where it is not written, at least what `budget`
        /// says. `false`: as many as the budget has.
        "per-client" per_client: Switch<Share> = "20%";
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

/// Why something is done about a request, as written: a failure that has a name, or a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason<C> {
    Cause(C),
    Status(StatusRange),
}

/// What is tried again.
type RetryReason = Reason<RetryCause>;

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

impl<C: Read> Read for Reason<C> {
    fn shape() -> Shape {
        Shape::Either(vec![C::shape(), Shape::Text(STATUS_FORM)])
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            Value::Text(text) if text.starts_with(|first: char| first.is_ascii_digit()) => {
                Some(Self::Status(StatusRange::read(node, reader)?))
            }
            Value::Integer(number) => {
                let word = match C::shape() {
                    Shape::Choice([first, ..]) => first.name,
                    _ => "…",
                };
                let expected = format!("a text like {word:?} or \"503\"");
                reader.unexpected(node, &expected, Some(format!("write \"{number}\"")))
            }
            _ => Some(Self::Cause(C::read(node, reader)?)),
        }
    }
}

/// What stands before a route's action, all layers merged, in the order in which a request meets it.
#[derive(Clone, Debug, PartialEq)]
pub struct Guards {
    /// How much requests matter when not all can be served.
    pub priority: Priority,
    /// Which clients are let in; `None`: all.
    pub addresses: Option<Addresses>,
    /// Which other websites' pages may call.
    pub cors: Option<Cors>,
    /// Who may; `None`: everybody.
    pub auth: Option<Auth>,
    /// How often, and how many at once.
    pub limits: Vec<LimitUse>,
    /// What requests are held against.
    pub validate: Option<Arc<Validate>>,
    /// What the service is told differently.
    pub request: Option<RequestChange>,
    /// What goes wrong on purpose.
    pub faults: Vec<Fault>,
    /// What the client is told differently.
    pub response: Option<ResponseChange>,
    /// Headers that make browsers careful.
    pub security_headers: Option<SecurityHeaders>,
    /// How answers are compressed.
    pub compress: Option<Compress>,
    /// Whether browsers may speak gRPC-Web.
    pub grpc_web: bool,
}

impl Guards {
    /// Whether nothing stands there.
    pub fn are_none(&self) -> bool {
        let nothing = Self {
            priority: Priority::Level(PriorityLevel::Normal),
            addresses: None,
            cors: None,
            auth: None,
            limits: Vec::new(),
            validate: None,
            request: None,
            faults: Vec::new(),
            response: None,
            security_headers: None,
            compress: None,
            grpc_web: false,
        };
        *self == nothing
    }
}

/// The policies of the way to one service, all layers merged.
#[derive(Clone, Debug, PartialEq)]
pub struct Policies {
    /// How long each part of a request may take.
    pub timeout: Timeouts,
    /// When a failed request is tried again; `None`: never.
    pub retry: Option<Retry>,
    /// A second attempt beside the first; `None`: never.
    pub hedge: Option<Hedge>,
    /// What answers when the service cannot; `None`: an error.
    pub fallback: Option<Fallback>,
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
    /// Whether what is left goes on to the service, and a trusted caller's word on it is taken.
    pub deadline: bool,
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
    /// Retries of one client at most, as a share (0 to 1) of its own requests; `None`: as the budget has.
    pub client_share: Option<f64>,
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

/// Where policies take effect.
pub(crate) struct Place<'a> {
    /// The patterns of the route; none at a service's internal address.
    pub(crate) at: &'a [Pattern],
    /// The service that the requests go to, if that is certain.
    pub(crate) service: Option<&'a str>,
    pub(crate) known: &'a Known<'a>,
}

impl Place<'_> {
    /// Hosts of the route; a pattern for any host has none.
    fn hosts(&self) -> Vec<String> {
        let hosts: Option<Vec<String>> = self.at.iter().map(Pattern::host).collect();
        hosts.unwrap_or_default()
    }
}

fn read_merged(merged: &Node, reader: &mut Reader<'_>) -> Option<PolicyTable> {
    reader.only_new(|reader| PolicyTable::fields(merged, reader))
}

/// The policies of the way to a service that `merged` holds.
pub(crate) fn resolve(merged: &Node, place: &Place<'_>, reader: &mut Reader<'_>) -> Option<Policies> {
    let table = read_merged(merged, reader)?;
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
        deadline: table.timeout.deadline,
    };
    let hedge = table.hedge.on().map(Hedge::from);
    let fallback = resilience::resolve_fallback(table.fallback, merged, place.service, place.known, reader)?;
    let body_bytes_max = table.body_max.on().map(|size| size.0);
    Some(Policies { timeout, retry, hedge, fallback, body_bytes_max, request_id: table.request_id })
}

/// The guards that `merged` holds.
pub(crate) fn resolve_guards(merged: &Node, place: &Place<'_>, reader: &mut Reader<'_>) -> Option<Guards> {
    let table = read_merged(merged, reader)?;
    let addresses = cors::resolve_addresses(table.addresses, merged, reader);
    let cors = cors::resolve(table.cors, merged, reader);
    let auth = auth::resolve(table.auth, merged, &place.hosts(), reader);
    let limits = limit::resolve(table.limit, merged, reader);
    let validate = body::resolve_validate(table.validate, merged, reader);
    let request = traffic::resolve_request(table.request, merged, place.at, reader);
    let faults = traffic::resolve_faults(table.fault, merged, reader);
    let response = traffic::resolve_response(table.response, merged, place.at, reader);
    let compress = body::resolve_compress(table.compress, merged, reader);
    Some(Guards {
        priority: table.priority.into(),
        addresses: addresses?,
        cors: cors?,
        auth: auth?,
        limits: limits?,
        validate: validate?,
        request: request?,
        faults: faults?,
        response: response?,
        security_headers: cors::resolve_security_headers(table.security_headers),
        compress: compress?,
        grpc_web: table.grpc_web,
    })
}

/// Keys that have no meaning for calls from other services: nobody is asked there who they are, and no browser comes.
const NOT_INSIDE: [&str; 6] = ["auth", "cors", "security-headers", "addresses", "compress", "grpc-web"];

/// The guards that `merged` holds for calls from other services, at a service's internal address.
pub(crate) fn resolve_guards_inside(
    merged: &Node,
    place: &Place<'_>,
    reader: &mut Reader<'_>,
) -> Option<Guards> {
    let mut inside = merged.clone();
    if let Value::Table(table) = &mut inside.value {
        table.retain(|key, _| !NOT_INSIDE.contains(&key));
    }
    let mut guards = resolve_guards(&inside, place, reader)?;
    guards.limits.retain(|limit| !limit::needs_identity(limit, place.known));
    if let Priority::Claim { .. } = guards.priority {
        guards.priority = Priority::Level(PriorityLevel::Normal);
    }
    Some(guards)
}

/// Reports guards that ask for something that others must find out first.
pub(crate) fn check_guards(
    guards: &Guards,
    merged: &Node,
    known: &Known<'_>,
    reader: &mut Reader<'_>,
) -> Option<()> {
    if guards.auth.is_some() {
        return Some(());
    }
    let limits = limit::check_identity(&guards.limits, merged, known, reader);
    if let Priority::Claim { .. } = guards.priority {
        let finding = Finding::new(
            merged.origin_of("priority"),
            "nobody has a claim where no `auth` asks who they are",
        );
        return reader.refuse(finding.help("add auth = { … }, or say it by a header"));
    }
    limits
}

/// Keys of policies that are guards: a route with several services must have the same for each.
const GUARDS: [&str; 12] = [
    "auth",
    "cors",
    "security-headers",
    "addresses",
    "limit",
    "priority",
    "request",
    "response",
    "fault",
    "compress",
    "grpc-web",
    "validate",
];

/// The dotted keys below each policy key, with their values.
type Written = BTreeMap<String, Vec<(String, String)>>;

fn written_by_key(merged: &Node) -> Written {
    let mut written = Written::new();
    for (key, value) in policy_values(merged) {
        let first = key.split('.').next().unwrap_or_default().to_owned();
        written.entry(first).or_default().push((key, value));
    }
    written
}

/// Reports a guard that one service of a route sets otherwise than another: a client could slip past it by being sent to the
/// other. `services`: each with its merged policies.
pub(crate) fn check_same_guards(
    services: &[(&str, Node)],
    route: &Node,
    reader: &mut Reader<'_>,
) -> Option<()> {
    let [(first, one), others @ ..] = services else { return Some(()) };
    if others.is_empty() {
        return Some(());
    }
    let wanted = written_by_key(one);
    let others: Vec<(&str, &Node, Written)> =
        others.iter().map(|(name, node)| (*name, node, written_by_key(node))).collect();
    let mut good = Some(());
    for key in GUARDS {
        let differs = |(_, _, written): &&(&str, &Node, Written)| written.get(key) != wanted.get(key);
        let Some((second, other, _)) = others.iter().find(differs) else { continue };
        let message = format!(
            "`{key}` of `{first}` and of `{second}` differ, but it is decided before one of them is chosen"
        );
        let finding = Finding::new(route.origin_of("to"), message);
        let finding = finding.help(format!("write `{key}` in the route or its policy"));
        let set = one.origin_of(key).max(other.origin_of(key));
        good = reader.refuse(finding.other(set, "set here"));
    }
    good
}

/// Reports names in the policies of `node` that do not exist, even of a policy that no route uses.
pub(crate) fn check_names(node: &Node, known: &Known<'_>, reader: &mut Reader<'_>) {
    let auth = node.get("auth");
    let ways = [("issuer", "issuer"), ("users", "users"), ("login", "login")];
    let in_auth = ways.map(|(key, kind)| (auth.and_then(|auth| auth.get(key)), kind));
    let ask = auth.and_then(|auth| auth.get("ask")?.get("to"));
    let fallback = node.get("fallback").and_then(|fallback| fallback.get("to"));
    let others = [(ask, "service"), (fallback, "service"), (node.get("limit"), "limit")];
    for (node, kind) in in_auth.into_iter().chain(others) {
        for node in OneOrMany::<LimitItem>::nodes(node) {
            match node.text() {
                // A URL is no name, and a rate in the place of a limit is told elsewhere.
                Some(name) if name.contains('/') => {}
                Some(name) => known.check(kind, name, node.origin, reader),
                None => {}
            }
        }
    }
}

fn resolve_retry(table: RetryTable, merged: &Node, reader: &mut Reader<'_>) -> Option<Retry> {
    let mut on = RetryOn::default();
    let client_share = client_share(&table, merged);
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
        client_share,
        methods: table.methods.into_iter().map(|method| method.0).collect(),
        backoff_from: backoff.from,
        backoff_to: backoff.to,
    })
}

/// Whoever gives more to all and says nothing of one client means it for a crowd of one, too.
fn client_share(table: &RetryTable, merged: &Node) -> Option<f64> {
    let written = merged.get("retry").and_then(|retry| retry.get("per-client"));
    let is_written = written.is_some_and(|node| matches!(node.origin, super::source::Origin::Text(_)));
    let Switch::On(share) = table.per_client else { return None };
    if is_written { Some(share.0) } else { Some(share.0.max(table.budget.0)) }
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

//! What becomes of a request and its answer on their way (`request`, `response`, `fault`), and which service it goes to
//! beyond the weights of `to` (`choose`, `stick`, `mirror`).

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use terrace_policy::Share as Millionths;
use terrace_route::{HeaderMatch, Pattern, QueryEdit, ValueTemplate};

use super::auth::check_header_name;
use super::contact::is_authority;
use super::issuer::ClaimPath;
use super::problem::Finding;
use super::read::{OneOrMany, Read, Reader, Scalar, Switch, Wrong, table};
use super::route::{HeaderSetting, Known, template_finding};
use super::source::Origin;
use super::spec::{Form, Shape};
use super::tree::{Node, Value};
use super::values::{Share, Token, Words, is_token};

table! {
    /// Values may hold captures of `at`, `{client-ip}`, `{request-id}`, `{host}`, `{path}`, `{query}`, `{route}`, `{service}` and
    /// `{claim:NAME}`; `{{` stands for a brace. What is not there is empty, and an empty value leaves its header out.
    pub(crate) struct RequestTable {
        /// Headers that get this value, whatever they had. `Host` can be set to a fixed one.
        "set" set: BTreeMap<String, ValueText>, example { X-Tenant = "{tenant}" };
        /// Headers that get this value beside those they have.
        "add" add: BTreeMap<String, ValueText>, example { X-Via = "{route}" };
        /// Headers that are taken out.
        "remove" remove: Vec<Token>, example ["X-Debug"];
        /// Changes to the query.
        "query" query: QueryTable = {};
    }
}

table! {
    /// Changes to the query; values are encoded as they must be.
    pub(crate) struct QueryTable {
        /// Parameters that get this value, whatever they had.
        "set" set: BTreeMap<String, ValueText>, example { api-version = "2" };
        /// Parameters that are taken out.
        "remove" remove: Vec<Words>, example ["utm_source"];
    }
}

table! {
    /// Answers of Terrace's own included. Values are those of `request`.
    pub(crate) struct ResponseTable {
        /// Headers that get this value, whatever they had.
        "set" set: BTreeMap<String, ValueText>, example { Cache-Control = "no-store" };
        /// Headers that get this value beside those they have.
        "add" add: BTreeMap<String, ValueText>, example { X-Served-By = "{service}" };
        /// Headers that are taken out.
        "remove" remove: Vec<Token>, example ["Server"];
        /// Statuses that become others.
        "status" status: BTreeMap<String, u16>, example { 404 = 200 };
    }
}

table! {
    /// For a share of the requests and for a while: a delay, an answer in place of the service's, or one after the other.
    pub(crate) struct FaultTable, whole {
        /// So much later it goes on.
        "delay" delay: Option<Duration>, within "1ms" to "5m", example "500ms";
        /// This status is the answer.
        "abort" abort: Option<u16>, within 400 to 599, example 503;
        /// Share of the requests.
        "share" share: Share = "100%";
        /// Only requests with these headers, as in `headers` of a route.
        "header" header: BTreeMap<String, HeaderSetting>, example { X-Test = "chaos" };
        /// When it ends by itself: nothing that goes wrong on purpose is forgotten.
        "until" until: Moment, example "2027-01-31T18:00:00Z";
    }
}

table! {
    /// All that an item names must be so.
    pub(crate) struct ChooseTable {
        /// The service.
        "to" to: Words, example "orders-next";
        /// Headers, as in `headers` of a route.
        "header" header: BTreeMap<String, HeaderSetting>, example { X-Beta = "1" };
        /// Cookies, in the same way.
        "cookie" cookie: BTreeMap<String, HeaderSetting>, example { beta = "1" };
        /// Claims of who asks, in the same way.
        "claim" claim: BTreeMap<String, HeaderSetting>, example { tier = "gold" };
        /// A share of those; with `stick` always the same clients.
        "share" share: Option<Share>, example "10%";
    }
}

table! {
    /// By something that the requests of one client have in common, or by a cookie.
    pub(crate) struct StickTable one of "key" "cookie", whole {
        /// `"client-ip"`, `"header:NAME"`, `"cookie:NAME"` or `"claim:NAME"`: nothing is stored, and a change of the weights moves
        /// as few as possible.
        "key" key: Option<StickKey>, example "claim:sub";
        /// A cookie that Terrace sets.
        "cookie" cookie: Option<Token>, example "terrace_side";
        /// How long it lasts.
        "lasts" lasts: Duration = "1d", within "1m" to "400d", with "cookie";
    }
}

table! {
    /// Its answer is thrown away, and the client notices nothing, whatever becomes of it.
    pub(crate) struct MirrorTable {
        /// The service.
        "to" to: Words, example "orders-next";
        /// Share of the requests.
        "share" share: Share = "100%";
        /// Count answers that differ from the true ones in status or body.
        "compare" compare: bool = false;
    }
}

/// Value of a header or a parameter, perhaps with names in braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ValueText(String);

const VALUE_FORM: Form = Form { noun: "a value", example: "{client-ip}", pattern: "^[ -~]*$" };

impl Read for ValueText {
    fn shape() -> Shape {
        Shape::Text(VALUE_FORM)
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let Some(text) = node.text() else {
            return reader.unexpected(node, &Self::shape().noun(), None);
        };
        // Which captures there are is known where the value takes effect; all else can be told here.
        match ValueTemplate::parse(text, &[]) {
            Ok(_) => Some(Self(text.to_owned())),
            Err(error) => {
                let finding = template_finding(node.origin, text, error, reader);
                reader.refuse(finding)
            }
        }
    }
}

/// When something ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment(SystemTime);

impl Scalar for Moment {
    const FORM: Form = Form {
        noun: "a time",
        example: "2027-01-31T18:00:00Z",
        pattern: "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{8,}(Z|[+-][0-9]{2}:[0-9]{2})$",
    };

    fn parse(text: &str) -> Result<Self, Wrong> {
        match terrace_signals::records::rfc3339(text) {
            Some(moment) => Ok(Self(moment)),
            None if terrace_signals::records::rfc3339(&format!("{text}Z")).is_some() => {
                Err(Wrong { why: "says not in which time zone".to_owned(), write: Some(format!("{text}Z")) })
            }
            None => Err(Wrong::form()),
        }
    }
}

/// What requests of one client have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StickKey {
    /// The client's address.
    ClientAddress,
    /// A header's value.
    Header(String),
    /// A cookie's value.
    Cookie(String),
    /// A claim, with dots on the way down into it.
    Claim(String),
}

impl Scalar for StickKey {
    const FORM: Form = Form {
        noun: "what a client is known by",
        example: "client-ip",
        pattern: "^(client-ip|(header|cookie):[!#$%&'*+.^_`|~0-9A-Za-z-]+|claim:\\S+)$",
    };

    fn parse(text: &str) -> Result<Self, Wrong> {
        match text.split_once(':') {
            None if text == "client-ip" => Ok(Self::ClientAddress),
            Some(("header", name)) if is_token(name) => Ok(Self::Header(name.to_owned())),
            Some(("cookie", name)) if is_token(name) => Ok(Self::Cookie(name.to_owned())),
            Some(("claim", path)) if ClaimPath::parse(path).is_ok() => Ok(Self::Claim(path.to_owned())),
            _ => Err(Wrong::because(
                "is none of \"client-ip\", \"header:NAME\", \"cookie:NAME\", \"claim:NAME\"",
            )),
        }
    }
}

/// What one message's fields become.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldChange {
    /// Headers that get this value alone. `Host` has a fixed one.
    pub set: Vec<(String, ValueTemplate)>,
    /// Headers that get this value too.
    pub add: Vec<(String, ValueTemplate)>,
    /// Headers that are taken out; none of them is set or added.
    pub remove: Vec<String>,
}

/// What the service is told differently; never without effect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestChange {
    /// Headers.
    pub fields: FieldChange,
    /// The query.
    pub query: QueryEdit,
}

/// What the client is told differently; never without effect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseChange {
    /// Headers.
    pub fields: FieldChange,
    /// Statuses that become others, all from 200 to 599 and with content.
    pub statuses: BTreeMap<u16, u16>,
}

/// Something that goes wrong on purpose: a delay, an answer, or both.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// So much later it goes on.
    pub delay: Option<Duration>,
    /// This status is the answer, 400 to 599.
    pub abort: Option<u16>,
    /// Share of the requests, 0 to 1.
    pub share: f64,
    /// What they must carry.
    pub headers: Vec<(String, HeaderMatch)>,
    /// When it ends.
    pub until: SystemTime,
}

/// What a request must carry to go to another service; something at least.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// Headers.
    pub headers: Vec<(String, HeaderMatch)>,
    /// Cookies.
    pub cookies: Vec<(String, HeaderMatch)>,
    /// Claims of who asks.
    pub claims: Vec<(String, HeaderMatch)>,
    /// Share of those, 0 to 1; `None`: all.
    pub share: Option<f64>,
}

/// What keeps a client on the same side of a split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stick {
    /// Something that its requests have in common.
    Key(StickKey),
    /// A cookie.
    Cookie {
        /// Its name.
        name: String,
        /// How long it lasts.
        lasts: Duration,
    },
}

/// Where a copy of each request goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Mirror {
    /// Name of the service.
    pub service: String,
    /// Share of the requests, 0 to 1.
    pub share: f64,
    /// Whether answers that differ are counted.
    pub compare: bool,
}

/// `request` in `policies`, if it changes anything. `at`: the route's patterns, for their captures.
pub(crate) fn resolve_request(
    switch: Switch<RequestTable>,
    policies: &Node,
    at: &[Pattern],
    reader: &mut Reader<'_>,
) -> Option<Option<RequestChange>> {
    let (Switch::On(table), Some(node)) = (switch, policies.get("request")) else { return Some(None) };
    let fields = resolve_fields((&table.set, &table.add, &table.remove), node, at, reader);
    let query = resolve_query(&table.query, node.get("query"), at, reader);
    let change = RequestChange { fields: fields?, query: query? };
    Some(Some(change).filter(|change| *change != RequestChange::default()))
}

/// `response` in `policies`, if it changes anything.
pub(crate) fn resolve_response(
    switch: Switch<ResponseTable>,
    policies: &Node,
    at: &[Pattern],
    reader: &mut Reader<'_>,
) -> Option<Option<ResponseChange>> {
    let (Switch::On(table), Some(node)) = (switch, policies.get("response")) else { return Some(None) };
    let fields = resolve_fields((&table.set, &table.add, &table.remove), node, at, reader);
    let host = node
        .get("set")
        .filter(|set| set.table().is_some_and(|set| set.keys().any(|name| is_host_field(name))));
    if let Some(set) = host {
        reader.report(Finding::new(set.origin, "an answer has no `Host`"));
    }
    let statuses = resolve_statuses(&table.status, node, reader);
    let change = ResponseChange { fields: fields?, statuses: statuses? };
    Some(Some(change).filter(|change| *change != ResponseChange::default()))
}

type Values = BTreeMap<String, ValueText>;

/// Headers that one message's rules may name.
const FIELDS_MAX: usize = 64;

/// `set`, `add` and `remove` of the table `node`.
fn resolve_fields(
    (set, add, remove): (&Values, &Values, &[Token]),
    node: &Node,
    at: &[Pattern],
    reader: &mut Reader<'_>,
) -> Option<FieldChange> {
    if set.len() + add.len() + remove.len() > FIELDS_MAX {
        return reader.refuse(Finding::new(node.origin, format!("more than {FIELDS_MAX} headers")));
    }
    let names = check_field_names(node, reader);
    let set = templates(set, node.get("set"), at, reader);
    let add = templates(add, node.get("add"), at, reader);
    names?;
    let change =
        FieldChange { set: set?, add: add?, remove: remove.iter().map(|name| name.0.clone()).collect() };
    check_host(&change, node, reader)?;
    check_both(&change, node, reader)?;
    Some(change)
}

/// Reports names of headers that cannot be changed.
fn check_field_names(node: &Node, reader: &mut Reader<'_>) -> Option<()> {
    let mut good = Some(());
    let mut check = |name: &str, origin: Origin| {
        // Of all that carries a message, only `Host` may be said otherwise, see `check_host`.
        if !is_host_field(name) {
            let checked = check_header_name(name, origin, reader);
            good = good.and(checked);
        }
    };
    for key in ["set", "add"] {
        for (name, entry) in node.get(key).and_then(Node::table).into_iter().flatten() {
            check(name, entry.key);
        }
    }
    for node in OneOrMany::<Token>::nodes(node.get("remove")) {
        check(node.text().unwrap_or_default(), node.origin);
    }
    good
}

fn is_host_field(name: &str) -> bool {
    name.eq_ignore_ascii_case("host")
}

/// A request has exactly one `Host`, and one that the client could choose would let it choose where it is sent.
fn check_host(change: &FieldChange, node: &Node, reader: &mut Reader<'_>) -> Option<()> {
    let is_there =
        change.add.iter().map(|(name, _)| name).chain(&change.remove).any(|name| is_host_field(name));
    if is_there {
        return reader
            .refuse(Finding::new(node.origin, "a request has exactly one `Host`; it can only be `set`"));
    }
    let Some((name, value)) = change.set.iter().find(|(name, _)| is_host_field(name)) else {
        return Some(());
    };
    match value.literal() {
        Some(host) if is_authority(host) => Some(()),
        _ => {
            let origin = node.get("set").map_or(node.origin, |set| set.origin_of(name));
            let finding = Finding::new(origin, "`Host` is set to a fixed host, which no client can choose");
            reader.refuse(finding.help("write it like \"api.example.com\""))
        }
    }
}

fn check_both(change: &FieldChange, node: &Node, reader: &mut Reader<'_>) -> Option<()> {
    let put = change.set.iter().map(|put| (put, "set")).chain(change.add.iter().map(|put| (put, "add")));
    for ((name, _), key) in put {
        if change.remove.iter().any(|removed| reads_as(removed, name)) {
            let origin = node.get(key).map_or(node.origin, |table| table.key_origin_of(name));
            let finding = Finding::new(origin, format!("`{name}` is removed as well"));
            return reader.refuse(finding.other(node.origin_of("remove"), "here"));
        }
    }
    Some(())
}

/// Whether a server may take one header for the other: without case, and `_` for `-`.
fn reads_as(one: &str, other: &str) -> bool {
    let plain = |name: &str| name.to_ascii_lowercase().replace('_', "-");
    plain(one) == plain(other)
}

fn templates(
    values: &Values,
    node: Option<&Node>,
    at: &[Pattern],
    reader: &mut Reader<'_>,
) -> Option<Vec<(String, ValueTemplate)>> {
    let mut found = Vec::new();
    for (name, text) in values {
        match ValueTemplate::parse(&text.0, at) {
            Ok(template) => found.push((name.clone(), template)),
            Err(error) => {
                let origin = node.map_or(Origin::BuiltIn, |node| node.origin_of(name));
                let finding = template_finding(origin, &text.0, error, reader);
                reader.report(finding);
            }
        }
    }
    (found.len() == values.len()).then_some(found)
}

fn resolve_query(
    table: &QueryTable,
    node: Option<&Node>,
    at: &[Pattern],
    reader: &mut Reader<'_>,
) -> Option<QueryEdit> {
    let set = templates(&table.set, node.and_then(|node| node.get("set")), at, reader)?;
    let remove = table.remove.iter().map(|name| name.0.clone()).collect();
    match QueryEdit::new(set, remove) {
        Ok(edit) => Some(edit),
        Err(error) => {
            let origin = node.map_or(Origin::BuiltIn, |node| node.origin);
            reader.refuse(Finding::new(origin, error.to_string()))
        }
    }
}

fn resolve_statuses(
    statuses: &BTreeMap<String, u16>,
    node: &Node,
    reader: &mut Reader<'_>,
) -> Option<BTreeMap<u16, u16>> {
    let Some(written) = node.get("status") else { return Some(BTreeMap::new()) };
    // Those without content (RFC 9110 section 6.4.1) would be left with somebody else's.
    let is_status = |status: &u16| matches!(status, 200..=599) && !matches!(status, 204 | 205 | 304);
    let mut found = BTreeMap::new();
    for (from, to) in statuses {
        let wrong = match (from.parse().ok().filter(is_status), is_status(to)) {
            (Some(from), true) => {
                found.insert(from, *to);
                continue;
            }
            (Some(_), false) => (written.origin_of(from), to.to_string()),
            (None, _) => (written.key_origin_of(from), format!("{from:?}")),
        };
        let message = format!("{} is no status from 200 to 599 whose answers have content", wrong.1);
        reader.report(Finding::new(wrong.0, message));
    }
    (found.len() == statuses.len()).then_some(found)
}

/// `fault` in `policies`.
pub(crate) fn resolve_faults(
    switch: Switch<OneOrMany<FaultTable>>,
    policies: &Node,
    reader: &mut Reader<'_>,
) -> Option<Vec<Fault>> {
    let Switch::On(OneOrMany(tables)) = switch else { return Some(Vec::new()) };
    let mut faults = Vec::new();
    for (table, node) in tables.iter().zip(OneOrMany::<FaultTable>::nodes(policies.get("fault"))) {
        if table.delay.is_none() && table.abort.is_none() {
            let finding = Finding::new(node.origin, "this fault does nothing");
            return reader.refuse(finding.help("add delay = \"500ms\" or abort = 503"));
        }
        if Millionths::from_ratio(table.share.0) == Millionths::ZERO {
            let finding = Finding::new(node.origin_of("share"), "a fault for none of the requests is none");
            return reader.refuse(finding.help("leave it out until it is wanted"));
        }
        faults.push(Fault {
            delay: table.delay,
            abort: table.abort,
            share: table.share.0,
            headers: matches(&table.header),
            until: table.until.0,
        });
    }
    Some(faults)
}

fn matches(settings: &BTreeMap<String, HeaderSetting>) -> Vec<(String, HeaderMatch)> {
    settings.iter().map(|(name, setting)| (name.clone(), setting.0.clone())).collect()
}

/// What the requests of an item of `choose` must carry.
pub(crate) fn condition(table: &ChooseTable, node: &Node, reader: &mut Reader<'_>) -> Option<Condition> {
    let condition = Condition {
        headers: matches(&table.header),
        cookies: matches(&table.cookie),
        claims: matches(&table.claim),
        share: table.share.map(|share| share.0),
    };
    let is_empty =
        condition.headers.is_empty() && condition.cookies.is_empty() && condition.claims.is_empty();
    if is_empty && condition.share.is_none() {
        let finding =
            Finding::new(node.origin, "this takes every request, so those after it and `to` get none");
        return reader.refuse(finding.help("add `header`, `cookie`, `claim` or `share`"));
    }
    Some(condition)
}

pub(crate) fn stick(table: StickTable) -> Option<Stick> {
    match (table.key, table.cookie) {
        (Some(key), _) => Some(Stick::Key(key)),
        (None, Some(cookie)) => Some(Stick::Cookie { name: cookie.0, lasts: table.lasts }),
        // Invariant: `StickTable` has exactly one of the two.
        (None, None) => None,
    }
}

/// `mirror` of a route.
pub(crate) fn resolve_mirror(
    table: &MirrorTable,
    route: &Node,
    known: &Known<'_>,
    reader: &mut Reader<'_>,
) -> Option<Mirror> {
    let node = route.get("mirror")?;
    known.routed(&table.to.0, node.origin_of("to"), reader)?;
    if matches!(route.get("to").map(|to| &to.value), Some(Value::Text(to)) if *to == table.to.0) {
        let finding = Finding::new(node.origin_of("to"), "the service would get each request twice");
        return reader.refuse(finding.other(route.origin_of("to"), "it gets it already"));
    }
    Some(Mirror { service: table.to.0.clone(), share: table.share.0, compare: table.compare })
}

//! What becomes of a request and its answer on their way (`request`, `response`, `fault`), and which service it goes to
//! beyond the weights of `to` (`choose`, `stick`, `mirror`).

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use terrace_route::{HeaderMatch, Pattern, QueryMatch};

use super::auth::{check_header_name, check_header_names};
use super::issuer::ClaimPath;
use super::problem::{Finding, listed, nearest};
use super::read::{OneOrMany, Reader, Scalar, Switch, Wrong, choice, table};
use super::route::{HeaderSetting, Known, QuerySetting};
use super::source::Origin;
use super::spec::Form;
use super::tree::{Node, Value};
use super::values::{Share, Token, Words, is_token};

table! {
    /// Values may hold captures of `at` and `{client-ip}`, `{request-id}`, `{host}`,
    /// `{path}`, `{route}` and `{service}`; `{{` stands for a brace.
    pub(crate) struct RequestTable {
        /// Headers that get this value, whatever they had.
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
        /// Cookies: a text (equal) or `true` (there).
        "cookie" cookie: BTreeMap<String, QuerySetting>, example { beta = "1" };
        /// Claims of who asks: a text (equal, or one of several) or `true` (there).
        "claim" claim: BTreeMap<String, QuerySetting>, example { tier = "gold" };
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

impl Scalar for ValueText {
    const FORM: Form = Form { noun: "a value", example: "{client-ip}", pattern: "" };

    fn parse(text: &str) -> Result<Self, Wrong> {
        if text.chars().any(char::is_control) {
            return Err(Wrong::because("holds a character that no header may have"));
        }
        if text.len() > VALUE_BYTES_MAX {
            return Err(Wrong::because(format!("is longer than {VALUE_BYTES_MAX} bytes")));
        }
        match pieces(text) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(_) => Err(Wrong::because("has a brace without its other; `{{` and `}}` stand for braces")),
        }
    }
}

/// Longer values are no values of a header.
const VALUE_BYTES_MAX: usize = 4096;

/// A piece of a value before its names are looked up: text, or a name with the byte it begins at.
enum RawPiece<'t> {
    Text(String),
    Name(&'t str, usize),
}

/// An unmatched brace.
struct Unmatched;

fn pieces(text: &str) -> Result<Vec<RawPiece<'_>>, Unmatched> {
    let mut found = Vec::new();
    let mut plain = String::new();
    let mut at = 0;
    while let Some(offset) = text[at..].find(['{', '}']) {
        plain.push_str(&text[at..at + offset]);
        at += offset;
        let rest = &text[at..];
        if rest.starts_with("{{") || rest.starts_with("}}") {
            plain.push_str(&rest[..1]);
            at += 2;
            continue;
        }
        let name = rest.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        let Some((name, _)) = name.filter(|(name, _)| !name.is_empty() && !name.contains('{')) else {
            return Err(Unmatched);
        };
        if !plain.is_empty() {
            found.push(RawPiece::Text(std::mem::take(&mut plain)));
        }
        found.push(RawPiece::Name(name, at));
        at += name.len() + 2;
    }
    plain.push_str(&text[at..]);
    if !plain.is_empty() {
        found.push(RawPiece::Text(plain));
    }
    Ok(found)
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

/// What the service is told differently; never without effect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestChange {
    /// Headers that get this value alone.
    pub set: Vec<(String, ValueTemplate)>,
    /// Headers that get this value too.
    pub add: Vec<(String, ValueTemplate)>,
    /// Headers that are taken out.
    pub remove: Vec<String>,
    /// Parameters that get this value alone, neither of the two encoded.
    pub query_set: Vec<(String, ValueTemplate)>,
    /// Parameters that are taken out.
    pub query_remove: Vec<String>,
}

/// What the client is told differently; never without effect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseChange {
    /// Headers that get this value alone.
    pub set: Vec<(String, ValueTemplate)>,
    /// Headers that get this value too.
    pub add: Vec<(String, ValueTemplate)>,
    /// Headers that are taken out.
    pub remove: Vec<String>,
    /// Statuses that become others.
    pub statuses: BTreeMap<u16, u16>,
}

/// A value that is put together for each request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueTemplate(pub Vec<ValuePiece>);

/// A piece of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValuePiece {
    /// As it stands there.
    Text(String),
    /// What every pattern of the route captures under this name.
    Capture(String),
    /// The client's address.
    ClientAddress,
    /// The request's id.
    RequestId,
    /// The host that was asked for.
    Host,
    /// The path that was asked for.
    Path,
    /// The route's name.
    Route,
    /// The service's name.
    Service,
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
    pub cookies: Vec<(String, QueryMatch)>,
    /// Claims of who asks.
    pub claims: Vec<(String, QueryMatch)>,
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

choice! {
    /// Names that a value may hold beside captures.
    enum ValueName {
        /// The client's address.
        "client-ip" ClientAddress,
        /// The request's id.
        "request-id" RequestId,
        /// The host that was asked for.
        "host" Host,
        /// The path that was asked for.
        "path" Path,
        /// The route's name.
        "route" Route,
        /// The service's name.
        "service" Service,
    }
}

impl ValueName {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "client-ip" => Self::ClientAddress,
            "request-id" => Self::RequestId,
            "host" => Self::Host,
            "path" => Self::Path,
            "route" => Self::Route,
            "service" => Self::Service,
            _ => return None,
        })
    }
}

/// `request` in `policies`, if it changes anything. `at`: the route's patterns, for their captures.
pub(crate) fn resolve_request(
    switch: Switch<RequestTable>,
    policies: &Node,
    at: &[Pattern],
    reader: &mut Reader<'_>,
) -> Option<Option<RequestChange>> {
    let (Switch::On(table), Some(node)) = (switch, policies.get("request")) else { return Some(None) };
    let headers = check_headers(node, reader);
    let set = templates(&table.set, node.get("set"), at, reader);
    let add = templates(&table.add, node.get("add"), at, reader);
    let query = node.get("query").and_then(|query| query.get("set"));
    let query_set = templates(&table.query.set, query, at, reader);
    headers?;
    let change = RequestChange {
        set: set?,
        add: add?,
        remove: names(table.remove),
        query_set: query_set?,
        query_remove: table.query.remove.into_iter().map(|name| name.0).collect(),
    };
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
    let headers = check_headers(node, reader);
    let set = templates(&table.set, node.get("set"), at, reader);
    let add = templates(&table.add, node.get("add"), at, reader);
    let statuses = resolve_statuses(&table.status, node, reader);
    headers?;
    let change = ResponseChange { set: set?, add: add?, remove: names(table.remove), statuses: statuses? };
    Some(Some(change).filter(|change| *change != ResponseChange::default()))
}

fn names(tokens: Vec<Token>) -> Vec<String> {
    tokens.into_iter().map(|token| token.0).collect()
}

/// Reports names of headers that cannot be changed in `set`, `add` and `remove`.
fn check_headers(node: &Node, reader: &mut Reader<'_>) -> Option<()> {
    let mut good = Some(());
    for key in ["set", "add"] {
        if let Some(table) = node.get(key) {
            good = good.and(check_header_names(table, reader));
        }
    }
    for node in OneOrMany::<Token>::nodes(node.get("remove")) {
        if let Some(name) = node.text() {
            good = good.and(check_header_name(name, node.origin, reader));
        }
    }
    good
}

fn templates(
    values: &BTreeMap<String, ValueText>,
    node: Option<&Node>,
    at: &[Pattern],
    reader: &mut Reader<'_>,
) -> Option<Vec<(String, ValueTemplate)>> {
    let mut found = Vec::new();
    for (name, value) in values {
        let origin = node.map_or(Origin::BuiltIn, |node| node.origin_of(name));
        let template = template(&value.0, origin, at, reader);
        found.extend(template.map(|template| (name.clone(), template)));
    }
    (found.len() == values.len()).then_some(found)
}

fn template(text: &str, origin: Origin, at: &[Pattern], reader: &mut Reader<'_>) -> Option<ValueTemplate> {
    // Invariant: a `ValueText` has all its braces.
    let raw = pieces(text).ok()?;
    let mut found = Vec::new();
    for piece in raw {
        found.push(match piece {
            RawPiece::Text(text) => ValuePiece::Text(text),
            RawPiece::Name(name, offset) => match named(name, at) {
                Some(piece) => piece,
                None => {
                    let origin = reader.sources.inside(origin, text, offset);
                    return unknown_name(name, origin, at, reader);
                }
            },
        });
    }
    Some(ValueTemplate(found))
}

fn named(name: &str, at: &[Pattern]) -> Option<ValuePiece> {
    if !at.is_empty() && at.iter().all(|pattern| pattern.position(name).is_some()) {
        return Some(ValuePiece::Capture(name.to_owned()));
    }
    Some(match ValueName::of(name)? {
        ValueName::ClientAddress => ValuePiece::ClientAddress,
        ValueName::RequestId => ValuePiece::RequestId,
        ValueName::Host => ValuePiece::Host,
        ValueName::Path => ValuePiece::Path,
        ValueName::Route => ValuePiece::Route,
        ValueName::Service => ValuePiece::Service,
    })
}

fn unknown_name<T>(name: &str, origin: Origin, at: &[Pattern], reader: &mut Reader<'_>) -> Option<T> {
    let words = ValueName::WORDS.iter().map(|word| word.name);
    let captures = at.first().into_iter().flat_map(Pattern::names);
    let known: Vec<&str> = captures.chain(words).collect();
    let message = match at.iter().find(|pattern| pattern.position(name).is_none()) {
        Some(pattern) => format!("`{pattern}` captures no `{name}`"),
        None => format!("nothing captures a `{name}` here"),
    };
    let help = match nearest(name, known.iter().copied()) {
        Some(meant) if meant != name => format!("did you mean `{{{meant}}}`?"),
        _ => format!("known: {}", listed(known, "and")),
    };
    reader.refuse(Finding::new(origin, message).help(help))
}

fn resolve_statuses(
    statuses: &BTreeMap<String, u16>,
    node: &Node,
    reader: &mut Reader<'_>,
) -> Option<BTreeMap<u16, u16>> {
    let Some(written) = node.get("status") else { return Some(BTreeMap::new()) };
    let is_status = |status: &u16| (200..=599).contains(status);
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
        reader.report(Finding::new(wrong.0, format!("{} is no status from 200 to 599", wrong.1)));
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
        faults.push(Fault {
            delay: table.delay,
            abort: table.abort,
            share: table.share.0,
            headers: headers(&table.header),
            until: table.until.0,
        });
    }
    Some(faults)
}

fn headers(settings: &BTreeMap<String, HeaderSetting>) -> Vec<(String, HeaderMatch)> {
    settings.iter().map(|(name, setting)| (name.clone(), setting.0.clone())).collect()
}

fn queries(settings: &BTreeMap<String, QuerySetting>) -> Vec<(String, QueryMatch)> {
    settings.iter().map(|(name, setting)| (name.clone(), setting.0.clone())).collect()
}

/// What the requests of an item of `choose` must carry.
pub(crate) fn condition(table: &ChooseTable, node: &Node, reader: &mut Reader<'_>) -> Option<Condition> {
    let condition = Condition {
        headers: headers(&table.header),
        cookies: queries(&table.cookie),
        claims: queries(&table.claim),
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

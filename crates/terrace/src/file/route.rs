//! `[route.NAME]`: which requests go where.

use std::collections::BTreeMap;

use terrace_route::{Conditions, HeaderMatch, Pattern, QueryMatch, Redirect, Rewrite, Rule, Strip};

use super::diff::noun;
use super::policy::{Policies, PolicyTable};
use super::problem::{Finding, listed, nearest};
use super::read::{OneOrMany, Read, Reader, Scalar, Wrong, table};
use super::source::Origin;
use super::spec::{Form, Shape};
use super::tree::{Node, Table, Value};
use super::values::{Method, UrlPath, Words, is_token};

table! {
    /// Which requests go where: exactly one of `to`, `redirect` and `respond`. Of several routes that match, the
    /// more specific wins, whatever their order; two that tie are an error. Without any `[route.*]` all requests
    /// go to the one service that there is.
    pub(crate) struct RouteTable also PolicyTable one of "to" "redirect" "respond" {
        /// Host and path, or a list of them: `"shop.example.com/orders/*"`, `"*.example.com/*"`, `"/health"` (any
        /// host). `/orders/*` matches `/orders` and all below it, `/orders` only itself. `{name}` captures a
        /// segment, `{name*}` the rest; what a final `*` matches is captured as `rest`.
        "at" at: OneOrMany<At>, example "shop.example.com/orders/*";
        /// Only requests with one of these methods.
        "methods" methods: Vec<Method>, example ["GET", "POST"];
        /// Only requests with these headers: a text (equal), `true` (there), `false` (not there), `{ prefix = "…" }`
        /// or `{ suffix = "…" }`.
        "headers" headers: BTreeMap<String, HeaderSetting>, example { X-Env = "beta", X-Debug = true };
        /// Only requests with these query parameters: a text (equal) or `true` (there).
        "query" query: BTreeMap<String, QuerySetting>, example { v = "2" };
        /// The service that answers, or several with weights.
        "to" to: Option<ToSetting>, example { orders = 9, orders-next = 1 };
        /// Only requests that come in there: a listener, or a list of them. Default: all.
        "listen" listen: Option<OneOrMany<Words>>, example "public";
        /// Prefix that is removed from the path.
        "strip" strip: Option<UrlPath>, with "to", example "/api";
        /// New path, with captures of `at`.
        "rewrite" rewrite: Option<Words>, with "to", example "/v2/{rest}";
        /// Answer with a redirect.
        "redirect" redirect: Option<RedirectTable>, example { to = "https://www.example.com/{rest}" };
        /// Answer with a fixed response.
        "respond" respond: Option<RespondTable>, example { status = 404, body = "Not here." };
        /// A `[policy.NAME]`, whose keys win over the service's.
        "policy" policy: Option<Words>, example "public";
    }
}

table! {
    /// The request's query is kept, unless the address has one of its own.
    pub(crate) struct RedirectTable {
        /// Where to, with captures of `at`.
        "to" to: Words, example "https://www.example.com/{rest}";
        /// 301, 302, 303, 307 or 308.
        "status" status: u16 = 308;
    }
}

table! {
    /// No service is asked.
    pub(crate) struct RespondTable {
        /// 200 to 599.
        "status" status: u16 = 200, within 200 to 599;
        /// The body.
        "body" body: Words = "";
        /// Its media type.
        "type" media_type: MediaType = "text/plain; charset=utf-8";
    }
}

/// A pattern of host and path.
#[derive(Clone, Debug)]
pub(crate) struct At(Pattern);

const AT_FORM: Form = Form { noun: "a pattern", example: "shop.example.com/orders/*", pattern: "/" };

impl Read for At {
    fn shape() -> Shape {
        Shape::Text(AT_FORM)
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let Some(text) = node.text() else {
            return reader.unexpected(node, &Self::shape().noun(), None);
        };
        match Pattern::parse(text) {
            Ok(pattern) => Some(Self(pattern)),
            Err(error) => {
                let origin = reader.sources.inside(node.origin, text, error.offset);
                let mut finding = Finding::new(origin, error.fault.to_string());
                finding.help = error.suggestion.map(|suggestion| format!("write {suggestion:?}"));
                reader.refuse(finding)
            }
        }
    }
}

/// What is asked of a header, as written.
#[derive(Clone, Debug)]
pub(crate) struct HeaderSetting(HeaderMatch);

table! {
    /// A part of a header's value.
    pub(crate) struct AffixTable one of "prefix" "suffix", whole {
        /// How it begins.
        "prefix" prefix: Option<Words>, example "beta-";
        /// How it ends.
        "suffix" suffix: Option<Words>, example "-eu";
    }
}

impl Read for HeaderSetting {
    fn shape() -> Shape {
        Shape::Either(vec![Words::shape(), Shape::Boolean, AffixTable::shape()])
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let wanted = match &node.value {
            Value::Text(text) => HeaderMatch::Exact(text.clone()),
            Value::Boolean(true) => HeaderMatch::Present,
            Value::Boolean(false) => HeaderMatch::Absent,
            Value::Table(_) => {
                let table = AffixTable::read(node, reader)?;
                match (table.prefix, table.suffix) {
                    (Some(prefix), _) => HeaderMatch::Prefix(prefix.0),
                    (None, suffix) => HeaderMatch::Suffix(suffix?.0),
                }
            }
            _ => return reader.unexpected(node, "a text, `true`, `false` or { prefix = \"…\" }", None),
        };
        Some(Self(wanted))
    }
}

/// What is asked of a query parameter, as written.
#[derive(Clone, Debug)]
pub(crate) struct QuerySetting(QueryMatch);

impl Read for QuerySetting {
    fn shape() -> Shape {
        Shape::Either(vec![Words::shape(), Shape::Boolean])
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            Value::Text(text) => Some(Self(QueryMatch::Exact(text.clone()))),
            Value::Boolean(true) => Some(Self(QueryMatch::Present)),
            Value::Integer(number) => {
                reader.unexpected(node, "a text or `true`", Some(format!("write \"{number}\"")))
            }
            _ => reader.unexpected(node, "a text or `true`", None),
        }
    }
}

/// `to` as written: services with their weights.
#[derive(Clone, Debug)]
pub(crate) struct ToSetting(Vec<(String, u32)>);

/// A weight above this says nothing that a smaller one could not.
const WEIGHT_MAX: u32 = 1_000_000;

impl Read for ToSetting {
    fn shape() -> Shape {
        let weights = Shape::Map { key: "SERVICE", value: Box::new(u32::shape()), whole: true };
        Shape::Either(vec![Words::shape(), weights])
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            Value::Text(service) => Some(Self(vec![(service.clone(), 1)])),
            Value::Table(table) => Some(Self(read_weights(table, node, reader)?)),
            _ => reader.unexpected(node, "a service, or services with weights", None),
        }
    }
}

fn read_weights(table: &Table, node: &Node, reader: &mut Reader<'_>) -> Option<Vec<(String, u32)>> {
    let mut weights = Vec::new();
    for (service, entry) in table {
        let weight = u32::read(&entry.node, reader)?;
        if weight > WEIGHT_MAX {
            let finding = Finding::new(entry.node.origin, "this weight is too large");
            return reader.refuse(finding.help(format!("at most {WEIGHT_MAX}")));
        }
        weights.push((service.clone(), weight));
    }
    if weights.iter().all(|(_, weight)| *weight == 0) {
        return reader.refuse(Finding::new(node.origin, "at least one service needs a weight of 1 or more"));
    }
    Some(weights)
}

/// A media type as it stands in `Content-Type`.
#[derive(Clone, Debug)]
pub(crate) struct MediaType(String);

impl Scalar for MediaType {
    const FORM: Form = Form { noun: "a media type", example: "text/plain", pattern: "^[^/\\s]+/[^/]+$" };

    fn parse(text: &str) -> Result<Self, Wrong> {
        let printable = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        match text.split_once('/') {
            Some((kind, rest)) if printable && !kind.is_empty() && !rest.is_empty() => {
                Ok(Self(text.to_owned()))
            }
            _ => Err(Wrong::form()),
        }
    }
}

/// Which requests go where.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Its name in the file.
    pub name: String,
    /// Where it is found; never empty.
    pub at: Vec<Pattern>,
    /// What else a request must carry.
    pub conditions: Conditions,
    /// The listeners it is limited to; empty: all.
    pub listeners: Vec<String>,
    /// What is done with a request.
    pub action: Action,
}

/// What is done with a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// A service answers.
    Forward {
        /// Never empty; at least one has a weight above 0.
        to: Vec<Target>,
        /// What becomes of the path.
        path: PathChange,
    },
    /// Terrace answers with a redirect.
    Redirect {
        /// Where to.
        to: Redirect,
        /// 301, 302, 303, 307 or 308.
        status: u16,
        /// Built-in < `[defaults]` < policy < route.
        policies: Policies,
    },
    /// Terrace answers with a fixed response.
    Respond {
        /// 200 to 599.
        status: u16,
        /// The body.
        body: String,
        /// Its media type.
        media_type: String,
        /// Built-in < `[defaults]` < policy < route.
        policies: Policies,
    },
}

/// What becomes of a request's path on its way to the service.
#[derive(Clone, Debug, PartialEq)]
pub enum PathChange {
    /// Nothing.
    Keep,
    /// A prefix is removed.
    Strip(Strip),
    /// It is made anew from what the pattern captured.
    Rewrite(Rewrite),
}

/// A service that a route leads to.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Name of the service.
    pub service: String,
    /// Share of the requests, relative to the others'; 0: none.
    pub weight: u32,
    /// Built-in < `[defaults]` < service < policy < route.
    pub policies: Policies,
}

impl Route {
    /// The route as the table of routes sees it.
    pub fn rule(&self) -> Rule {
        Rule {
            name: self.name.clone(),
            at: self.at.clone(),
            conditions: self.conditions.clone(),
            listeners: self.listeners.clone(),
        }
    }
}

/// The other tables that a route names.
pub(crate) struct Known<'a> {
    pub(crate) root: &'a Node,
}

impl<'a> Known<'a> {
    /// The names in `[kind.*]`.
    fn names(&self, kind: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        self.root.get(kind).and_then(Node::table).into_iter().flatten().map(|(name, _)| name.as_str())
    }

    /// Reports when there is no `[kind.name]`; `origin`: where it is named.
    pub(crate) fn find(
        &self,
        kind: &str,
        name: &str,
        origin: Origin,
        reader: &mut Reader<'_>,
    ) -> Option<&'a Node> {
        if let Some(node) = self.root.get(kind).and_then(|table| table.get(name)) {
            return Some(node);
        }
        if reader.is_full() {
            return None;
        }
        let finding = Finding::new(origin, format!("{} `{name}` does not exist", noun(kind)));
        let help = match nearest(name, self.names(kind)) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None if self.names(kind).next().is_none() => format!("there is no [{kind}.*] at all"),
            None => format!("known: {}", listed(self.names(kind).take(20), "and")),
        };
        reader.refuse(finding.help(help))
    }
}

/// The route called `name`. `merged` gives the policies for a service, or for an answer of Terrace's own.
pub(crate) fn resolve(
    name: &str,
    node: &Node,
    known: &Known<'_>,
    merged: &dyn Fn(Option<&str>, &mut Reader<'_>) -> Option<Policies>,
    reader: &mut Reader<'_>,
) -> Option<Route> {
    check_names(node, known, reader);
    check_headers(node, reader)?;
    let table = RouteTable::read(node, reader)?;
    let at: Vec<Pattern> = table.at.0.iter().map(|at| at.0.clone()).collect();
    if let Some(policy) = &table.policy {
        known.find("policy", &policy.0, node.origin_of("policy"), reader)?;
    }
    let listeners = resolve_listeners(&table, node, known, reader);
    let action = resolve_action(&table, &at, node, known, merged, reader);
    Some(Route {
        name: name.to_owned(),
        at,
        conditions: conditions(table),
        listeners: listeners?,
        action: action?,
    })
}

/// Reports names that do not exist, even when another fault keeps the rest of the route from being read.
fn check_names(node: &Node, known: &Known<'_>, reader: &mut Reader<'_>) {
    for (key, kind) in [("policy", "policy"), ("listen", "listen"), ("to", "service")] {
        for node in OneOrMany::<Words>::nodes(node.get(key)) {
            if let Some(name) = node.text() {
                let _found = known.find(kind, name, node.origin, reader);
            }
        }
    }
}

fn check_headers(node: &Node, reader: &mut Reader<'_>) -> Option<()> {
    let mut good = Some(());
    for (name, entry) in node.get("headers").and_then(Node::table).into_iter().flatten() {
        if !is_token(name) {
            good = reader.refuse(Finding::new(entry.key, format!("{name:?} is no name of a header")));
        }
    }
    good
}

fn resolve_listeners(
    table: &RouteTable,
    node: &Node,
    known: &Known<'_>,
    reader: &mut Reader<'_>,
) -> Option<Vec<String>> {
    let nodes = OneOrMany::<Words>::nodes(node.get("listen"));
    let mut names = Vec::new();
    for (name, node) in table.listen.iter().flat_map(|names| &names.0).zip(nodes) {
        known.find("listen", &name.0, node.origin, reader)?;
        names.push(name.0.clone());
    }
    Some(names)
}

fn conditions(table: RouteTable) -> Conditions {
    Conditions {
        methods: table.methods.into_iter().map(|method| method.0).collect(),
        headers: table.headers.into_iter().map(|(name, setting)| (name, setting.0)).collect(),
        query: table.query.into_iter().map(|(name, setting)| (name, setting.0)).collect(),
    }
}

fn resolve_action(
    table: &RouteTable,
    at: &[Pattern],
    node: &Node,
    known: &Known<'_>,
    merged: &dyn Fn(Option<&str>, &mut Reader<'_>) -> Option<Policies>,
    reader: &mut Reader<'_>,
) -> Option<Action> {
    match (&table.to, &table.redirect, &table.respond) {
        (Some(to), _, _) => {
            let path = resolve_path(table, at, node, reader);
            let to = resolve_targets(to, node, known, merged, reader);
            Some(Action::Forward { to: to?, path: path? })
        }
        (None, Some(redirect), _) => {
            let to = resolve_redirect(redirect, at, node, reader)?;
            Some(Action::Redirect { to, status: redirect.status, policies: merged(None, reader)? })
        }
        (None, None, Some(respond)) => Some(Action::Respond {
            status: respond.status,
            body: respond.body.0.clone(),
            media_type: respond.media_type.0.clone(),
            policies: merged(None, reader)?,
        }),
        // Invariant: `RouteTable` has exactly one of the three.
        (None, None, None) => None,
    }
}

fn resolve_targets(
    to: &ToSetting,
    node: &Node,
    known: &Known<'_>,
    merged: &dyn Fn(Option<&str>, &mut Reader<'_>) -> Option<Policies>,
    reader: &mut Reader<'_>,
) -> Option<Vec<Target>> {
    let written = node.get("to")?;
    let mut targets = Vec::new();
    for (service, weight) in &to.0 {
        // A single service is the value itself; with weights it is a key.
        let origin = written.key_origin_of(service);
        let Some(found) = known.find("service", service, origin, reader) else { continue };
        if is_worker(found) {
            let finding =
                Finding::new(origin, format!("`{service}` is a worker: it has no port to send requests to"));
            reader.report(finding.other(found.key_origin_of("worker"), "here"));
            continue;
        }
        let policies = merged(Some(service), reader);
        targets.extend(policies.map(|policies| Target {
            service: service.clone(),
            weight: *weight,
            policies,
        }));
    }
    (targets.len() == to.0.len()).then_some(targets)
}

/// Whether the service in `node` says that it is a worker.
pub(crate) fn is_worker(node: &Node) -> bool {
    matches!(node.get("worker").map(|node| &node.value), Some(Value::Boolean(true)))
}

fn resolve_path(
    table: &RouteTable,
    at: &[Pattern],
    node: &Node,
    reader: &mut Reader<'_>,
) -> Option<PathChange> {
    match (&table.strip, &table.rewrite) {
        (None, None) => Some(PathChange::Keep),
        (Some(_), Some(_)) => {
            let message = "a route takes either `strip` or `rewrite`, not both";
            let finding = Finding::new(node.key_origin_of("strip"), message);
            reader.refuse(finding.other(node.key_origin_of("rewrite"), "the other one"))
        }
        (Some(prefix), None) => match Strip::new(&prefix.0, at) {
            Ok(strip) => Some(PathChange::Strip(strip)),
            Err(error) => reader.refuse(Finding::new(node.origin_of("strip"), error.to_string())),
        },
        (None, Some(template)) => match Rewrite::parse(&template.0, at) {
            Ok(rewrite) => Some(PathChange::Rewrite(rewrite)),
            Err(error) => {
                let finding = template_finding(node.origin_of("rewrite"), &template.0, error, reader);
                reader.refuse(finding)
            }
        },
    }
}

const REDIRECT_STATUSES: [u16; 5] = [301, 302, 303, 307, 308];

fn resolve_redirect(
    table: &RedirectTable,
    at: &[Pattern],
    node: &Node,
    reader: &mut Reader<'_>,
) -> Option<Redirect> {
    let written = node.get("redirect")?;
    let to = match Redirect::parse(&table.to.0, at) {
        Ok(to) => to,
        Err(error) => {
            let finding = template_finding(written.origin_of("to"), &table.to.0, error, reader);
            return reader.refuse(finding);
        }
    };
    if at.iter().any(|pattern| pattern.as_str() == table.to.0) {
        return reader
            .refuse(Finding::new(written.origin_of("to"), "this redirect leads back to its own route"));
    }
    if !REDIRECT_STATUSES.contains(&table.status) {
        let message = format!("{} is no status of a redirect", table.status);
        let finding = Finding::new(written.origin_of("status"), message);
        return reader.refuse(finding.help("one of 301, 302, 303, 307, 308"));
    }
    Some(to)
}

fn template_finding(
    origin: Origin,
    text: &str,
    error: terrace_route::TemplateError,
    reader: &Reader<'_>,
) -> Finding {
    let origin = reader.sources.inside(origin, text, error.offset);
    let mut finding = Finding::new(origin, error.fault.to_string());
    finding.help = error.suggestion.map(|name| format!("did you mean `{{{name}}}`?"));
    finding
}

/// Reports what is wrong with the routes together: two that tie, above all.
pub(crate) fn check_together(routes: &[Route], root: &Node, reader: &mut Reader<'_>) {
    let rules = routes.iter().map(Route::rule).collect();
    let Err(problems) = terrace_route::Table::build(rules) else { return };
    for problem in problems {
        let Some(node) = root.get("route").and_then(|routes| routes.get(&problem.name)) else { continue };
        let finding = match &problem.fault {
            terrace_route::Fault::Tie { at, other_name, other_at, .. } => {
                let message = format!(
                    "routes `{other_name}` and `{}` tie: both match some requests, neither is more specific",
                    problem.name
                );
                let other = root.get("route").and_then(|routes| routes.get(other_name));
                let finding = Finding::new(pattern_origin(node, at), message);
                let finding = finding.help("make one more specific: a longer path, a method, a header");
                match other {
                    Some(other) => finding.other(pattern_origin(other, other_at), "ties with this"),
                    None => finding,
                }
            }
            fault => Finding::new(node.key_origin_of("at"), fault.to_string()),
        };
        reader.report(finding);
    }
}

/// Where the pattern `at` of a route is written.
fn pattern_origin(node: &Node, at: &str) -> Origin {
    let nodes = OneOrMany::<At>::nodes(node.get("at"));
    match nodes.iter().find(|node| node.text() == Some(at)) {
        Some(node) => node.origin,
        None => node.origin,
    }
}

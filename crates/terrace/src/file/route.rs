//! `[route.NAME]`: which requests go where.

use std::collections::BTreeMap;

use terrace_route::{
    CHOICE_RULES_MAX, Conditions, HeaderMatch, Pattern, QueryMatch, Redirect, Rewrite, Rule, Strip,
};

use super::diff::noun;
use super::policy::{self, Guards, Place, Policies, PolicyTable};
use super::problem::{Finding, listed, nearest};
use super::read::{OneOrMany, Read, Reader, Scalar, Wrong, table};
use super::source::Origin;
use super::spec::{Form, Shape};
use super::traffic::{self, ChooseTable, Condition, Mirror, MirrorTable, Stick, StickKey, StickTable};
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
        /// Requests that go to another service than `to` says; the first item that fits decides.
        "choose" choose: Vec<ChooseTable>, with "to", example [{ to = "orders-next", header = { X-Beta = "1" } }];
        /// Keep each client on the same side of a split, see `to` with weights, and of a `share` in `choose`.
        "stick" stick: Option<StickTable>, with "to", example { key = "claim:sub" };
        /// Send a copy of each request to another service too.
        "mirror" mirror: Option<MirrorTable>, with "to", example { to = "orders-next", share = "10%" };
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
pub(crate) struct HeaderSetting(pub(crate) HeaderMatch);

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
pub(crate) struct MediaType(pub(crate) String);

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
    /// What stands before that: [`policy`](super::Policies) keys that are decided before a service is chosen.
    pub guards: Guards,
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
        /// Requests that go elsewhere; the first that fits decides.
        choose: Vec<Choice>,
        /// What keeps a client on the same side.
        stick: Option<Stick>,
        /// Where a copy goes.
        mirror: Option<Mirror>,
        /// What becomes of the path.
        path: PathChange,
    },
    /// Terrace answers with a redirect.
    Redirect {
        /// Where to.
        to: Redirect,
        /// 301, 302, 303, 307 or 308.
        status: u16,
    },
    /// Terrace answers with a fixed response.
    Respond {
        /// 200 to 599.
        status: u16,
        /// The body.
        body: String,
        /// Its media type.
        media_type: String,
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

/// Requests that go to another service than the weights say.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// What they carry.
    pub condition: Condition,
    /// Name of the service.
    pub service: String,
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

    /// The table `[kind.name]`.
    pub(crate) fn get(&self, kind: &str, name: &str) -> Option<&'a Node> {
        self.root.get(kind)?.get(name)
    }

    /// [`Self::find`] for the sake of the report.
    pub(crate) fn check(&self, kind: &str, name: &str, origin: Origin, reader: &mut Reader<'_>) {
        let _reported = self.find(kind, name, origin, reader);
    }

    /// Reports when there is no service called `name` that requests can be sent to.
    pub(crate) fn routed(&self, name: &str, origin: Origin, reader: &mut Reader<'_>) -> Option<&'a Node> {
        let found = self.find("service", name, origin, reader)?;
        if !is_worker(found) {
            return Some(found);
        }
        let finding =
            Finding::new(origin, format!("`{name}` is a worker: it has no port to send requests to"));
        reader.refuse(finding.other(found.key_origin_of("worker"), "here"))
    }

    /// Reports when there is no `[kind.name]`; `origin`: where it is named.
    pub(crate) fn find(
        &self,
        kind: &str,
        name: &str,
        origin: Origin,
        reader: &mut Reader<'_>,
    ) -> Option<&'a Node> {
        if let Some(node) = self.get(kind, name) {
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

/// What a route is resolved with.
struct Ground<'a> {
    node: &'a Node,
    at: &'a [Pattern],
    known: &'a Known<'a>,
    /// The merged policies for each service that it may lead to.
    services: Vec<(&'a str, Node)>,
    /// Those for an answer of Terrace's own.
    own: Option<Node>,
}

impl<'a> Ground<'a> {
    fn place<'p>(&'p self, service: Option<&'p str>) -> Place<'p> {
        Place { at: self.at, service, known: self.known }
    }

    fn policies(&self, service: &str, reader: &mut Reader<'_>) -> Option<Policies> {
        let (_, merged) = self.services.iter().find(|(name, _)| *name == service)?;
        policy::resolve(merged, &self.place(Some(service)), reader)
    }

    /// The policies for every service that the route may lead to, by way of `merged`.
    fn merge(mut self, table: &'a RouteTable, merged: &dyn Fn(Option<&str>) -> Node) -> Self {
        let split = table.to.iter().flat_map(|to| to.0.iter().map(|(service, _)| service.as_str()));
        for service in split.chain(table.choose.iter().map(|choice| choice.to.0.as_str())) {
            let is_new = self.services.iter().all(|(known, _)| *known != service);
            if is_new && self.known.get("service", service).is_some() {
                self.services.push((service, merged(Some(service))));
            }
        }
        if self.services.is_empty() {
            self.own = Some(merged(None));
        }
        self
    }
}

/// The route called `name`. `merged` gives the policies for a service, or for an answer of Terrace's own.
pub(crate) fn resolve(
    name: &str,
    node: &Node,
    known: &Known<'_>,
    merged: &dyn Fn(Option<&str>) -> Node,
    reader: &mut Reader<'_>,
) -> Option<Route> {
    check_names(node, known, reader);
    check_headers(node, reader)?;
    let table = RouteTable::read(node, reader)?;
    let at: Vec<Pattern> = table.at.0.iter().map(|at| at.0.clone()).collect();
    if let Some(policy) = &table.policy {
        known.find("policy", &policy.0, node.origin_of("policy"), reader)?;
    }
    let ground = Ground { node, at: &at, known, services: Vec::new(), own: None }.merge(&table, merged);
    let listeners = resolve_listeners(&table, node, known, reader);
    let guards = resolve_guards(&ground, reader);
    let action = resolve_action(&table, &ground, reader);
    let guards = guards?;
    check_claims(&table, &guards, node, reader)?;
    Some(Route {
        name: name.to_owned(),
        conditions: conditions(&table),
        listeners: listeners?,
        guards,
        action: action?,
        at,
    })
}

/// What stands before the route's action: the same for every service it may lead to.
fn resolve_guards(ground: &Ground<'_>, reader: &mut Reader<'_>) -> Option<Guards> {
    let first = ground.services.first().map(|(_, merged)| merged).or(ground.own.as_ref())?;
    policy::check_same_guards(&ground.services, ground.node, reader)?;
    let guards = policy::resolve_guards(first, &ground.place(None), reader)?;
    policy::check_guards(&guards, first, ground.known, reader)?;
    Some(guards)
}

/// Reports a choice by who somebody is where nobody is asked.
fn check_claims(table: &RouteTable, guards: &Guards, node: &Node, reader: &mut Reader<'_>) -> Option<()> {
    if guards.auth.is_some() {
        return Some(());
    }
    let sticks = matches!(&table.stick, Some(StickTable { key: Some(StickKey::Claim(_)), .. }));
    let chooses = table.choose.iter().any(|choice| !choice.claim.is_empty());
    let key = match (sticks, chooses) {
        (true, _) => "stick",
        (false, true) => "choose",
        (false, false) => return Some(()),
    };
    let finding = Finding::new(node.origin_of(key), "nobody has a claim where no `auth` asks who they are");
    reader.refuse(finding.help("add auth = { … }"))
}

/// Reports names that do not exist, even when another fault keeps the rest of the route from being read.
fn check_names(node: &Node, known: &Known<'_>, reader: &mut Reader<'_>) {
    for (key, kind) in [("policy", "policy"), ("listen", "listen"), ("to", "service")] {
        for node in OneOrMany::<Words>::nodes(node.get(key)) {
            if let Some(name) = node.text() {
                known.check(kind, name, node.origin, reader);
            }
        }
    }
    let chosen = OneOrMany::<ChooseTable>::nodes(node.get("choose")).iter();
    for to in chosen.chain(node.get("mirror")).filter_map(|node| node.get("to")) {
        if let Some(name) = to.text() {
            known.check("service", name, to.origin, reader);
        }
    }
}

fn check_headers(node: &Node, reader: &mut Reader<'_>) -> Option<()> {
    let chosen = OneOrMany::<ChooseTable>::nodes(node.get("choose")).iter();
    let tables = chosen.filter_map(|choice| choice.get("header")).chain(node.get("headers"));
    let mut good = Some(());
    for (name, entry) in tables.filter_map(Node::table).flatten() {
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

fn conditions(table: &RouteTable) -> Conditions {
    Conditions {
        methods: table.methods.iter().map(|method| method.0.clone()).collect(),
        headers: table.headers.iter().map(|(name, setting)| (name.clone(), setting.0.clone())).collect(),
        query: table.query.iter().map(|(name, setting)| (name.clone(), setting.0.clone())).collect(),
    }
}

fn resolve_action(table: &RouteTable, ground: &Ground<'_>, reader: &mut Reader<'_>) -> Option<Action> {
    match (&table.to, &table.redirect, &table.respond) {
        (Some(to), _, _) => resolve_forward(to, table, ground, reader),
        (None, Some(redirect), _) => {
            let to = resolve_redirect(redirect, ground.at, ground.node, reader)?;
            Some(Action::Redirect { to, status: redirect.status })
        }
        (None, None, Some(respond)) => Some(Action::Respond {
            status: respond.status,
            body: respond.body.0.clone(),
            media_type: respond.media_type.0.clone(),
        }),
        // Invariant: `RouteTable` has exactly one of the three.
        (None, None, None) => None,
    }
}

fn resolve_forward(
    to: &ToSetting,
    table: &RouteTable,
    ground: &Ground<'_>,
    reader: &mut Reader<'_>,
) -> Option<Action> {
    let path = resolve_path(table, ground.at, ground.node, reader);
    let mirror = match &table.mirror {
        Some(mirror) => traffic::resolve_mirror(mirror, ground.node, ground.known, reader).map(Some),
        None => Some(None),
    };
    let choose = resolve_choices(table, ground, reader);
    let stick = resolve_stick(table, to, ground.node, reader);
    let to = resolve_targets(to, ground, reader);
    Some(Action::Forward { to: to?, choose: choose?, stick: stick?, mirror: mirror?, path: path? })
}

fn resolve_targets(to: &ToSetting, ground: &Ground<'_>, reader: &mut Reader<'_>) -> Option<Vec<Target>> {
    let written = ground.node.get("to")?;
    let mut targets = Vec::new();
    for (service, weight) in &to.0 {
        // A single service is the value itself; with weights it is a key.
        let origin = written.key_origin_of(service);
        let Some(_found) = ground.known.routed(service, origin, reader) else { continue };
        let policies = ground.policies(service, reader);
        targets.extend(policies.map(|policies| Target {
            service: service.clone(),
            weight: *weight,
            policies,
        }));
    }
    (targets.len() == to.0.len()).then_some(targets)
}

fn resolve_choices(table: &RouteTable, ground: &Ground<'_>, reader: &mut Reader<'_>) -> Option<Vec<Choice>> {
    if table.choose.len() > CHOICE_RULES_MAX {
        let message = format!("more than {CHOICE_RULES_MAX} items in one `choose`");
        return reader.refuse(Finding::new(ground.node.origin_of("choose"), message));
    }
    let nodes = OneOrMany::<ChooseTable>::nodes(ground.node.get("choose"));
    let mut choices = Vec::new();
    for (choice, node) in table.choose.iter().zip(nodes) {
        let service = &choice.to.0;
        let condition = traffic::condition(choice, node, reader);
        let found = ground.known.routed(service, node.origin_of("to"), reader);
        let (Some(condition), Some(_)) = (condition, found) else { continue };
        let policies = ground.policies(service, reader);
        choices.extend(policies.map(|policies| Choice { condition, service: service.clone(), policies }));
    }
    (choices.len() == table.choose.len()).then_some(choices)
}

fn resolve_stick(
    table: &RouteTable,
    to: &ToSetting,
    node: &Node,
    reader: &mut Reader<'_>,
) -> Option<Option<Stick>> {
    let Some(stick) = &table.stick else { return Some(None) };
    let by_share = table.choose.iter().any(|choice| choice.share.is_some());
    if to.0.len() > 1 || by_share {
        return Some(traffic::stick(stick.clone()));
    }
    let finding =
        Finding::new(node.key_origin_of("stick"), "there is only one side here, so everybody stays on it");
    let help = format!("write to = {{ {} = 9, OTHER = 1 }}, or leave it out", to.0[0].0);
    reader.refuse(finding.help(help))
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

/// What is wrong with a template that is written at `origin`.
pub(crate) fn template_finding(
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

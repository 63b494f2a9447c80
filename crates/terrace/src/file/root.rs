//! The file as a whole: which tables there are, and how they become one [`Resolved`].

use std::collections::BTreeMap;
use std::net::SocketAddr;

use terrace_signals::alerts::{Objective, Threshold};

use super::acme::{self, Acme, AcmeTable};
use super::admin::{self, Admin, AdminTable, DEFAULT_ADDRESS};
use super::alert::{self, AlertTable};
use super::issuer::{self, IssuerTable};
use super::limit::{self, Limit, LimitTable};
use super::listen::{self, Claim, ListenTable, Listener};
use super::log::{self, Log, LogTable};
use super::login::{self, LoginTable};
use super::notify::{self, NotifyTable, Receiver};
use super::objective::{self, ObjectiveTable};
use super::otlp::{self, Otlp, OtlpTable};
use super::policy::{self, PolicyLayer};
use super::problem::{Finding, nearest};
use super::read::{Read, Reader};
use super::resilience::{self, Overload, OverloadTable};
use super::route::{self, Known, Route, RouteTable, is_worker};
use super::service::{self, Service, ServiceTable, Source};
use super::source::Origin;
use super::spec::{Key, Shape, Spec};
use super::terrace::{self, Terrace, TerraceTable};
use super::trace::{self, Trace, TraceTable};
use super::tree::{Entry, Layer, Node, Table, Value};
use super::users::{self, KeysTable, UsersTable};
use super::values::FilePath;
use super::{Identity, Resolved};

/// Every table of the file, in the order in which the reference shows them.
pub(crate) static SPEC: Spec = Spec {
    doc: "The file of Terrace. All paths in it are relative to its folder.\n",
    keys: &[
        key(
            "include",
            "Further files, whose tables are added to this one's: `*` and `?` stand for characters within a name.",
            Vec::<FilePath>::shape,
            Some("[\"routes/*.toml\"]"),
        ),
        key("listen", "Listeners by name.", BTreeMap::<String, ListenTable>::shape, None),
        key("acme", "Certificates from an authority.", AcmeTable::shape, None),
        key("service", "Services by name.", BTreeMap::<String, ServiceTable>::shape, None),
        key("route", "Routes by name.", BTreeMap::<String, RouteTable>::shape, None),
        key(
            "policy",
            "Policies by name, for the routes that ask for them.",
            BTreeMap::<String, PolicyLayer>::shape,
            None,
        ),
        key("defaults", "Policies for all services and routes.", PolicyLayer::shape, None),
        key(
            "issuer",
            "Authorities whose tokens are believed, by name.",
            BTreeMap::<String, IssuerTable>::shape,
            None,
        ),
        key(
            "login",
            "Logins of people with their browser, by name.",
            BTreeMap::<String, LoginTable>::shape,
            None,
        ),
        key("users", "People with passwords, by name.", BTreeMap::<String, UsersTable>::shape, None),
        key("keys", "Keys for programs.", KeysTable::shape, None),
        key("limit", "Limits that several share, by name.", BTreeMap::<String, LimitTable>::shape, None),
        key("overload", "What this machine can bear.", OverloadTable::shape, None),
        key(
            "objective",
            "What users are promised, by name.",
            BTreeMap::<String, ObjectiveTable>::shape,
            None,
        ),
        key("alert", "Alerts on any metric, by name.", BTreeMap::<String, AlertTable>::shape, None),
        key("notify", "Whom alerts are told, by name.", BTreeMap::<String, NotifyTable>::shape, None),
        key("terrace", "The program itself.", TerraceTable::shape, None),
        key("log", "Where the logs go.", LogTable::shape, None),
        key("trace", "Which requests leave a trace.", TraceTable::shape, None),
        key("otlp", "OpenTelemetry: what is taken in and sent on.", OtlpTable::shape, None),
        key("admin", "Probes, metrics, the dashboard and the admin API.", AdminTable::shape, None),
    ],
    also: None,
    one_of: &[],
    whole: false,
};

const fn key(
    name: &'static str,
    doc: &'static str,
    shape: fn() -> Shape,
    example: Option<&'static str>,
) -> Key {
    Key { name, doc, shape, default: None, optional: || true, range: None, with: None, example }
}

/// The shape of the file.
pub(crate) fn shape() -> Shape {
    Shape::Table(&SPEC)
}

/// Tables of one kind at most; far more than a machine serves.
const NAMES_MAX: usize = 10_000;
/// Addresses of all listeners together.
const ADDRESSES_MAX: usize = 1_000;
/// As in the file: `[a-z][a-z0-9-]{0,39}`.
const NAME_CHARS_MAX: usize = 40;

/// Reports what is wrong with the form of any table, and nothing that one table says about another.
pub(crate) fn check_form(root: &Node, reader: &mut Reader<'_>) {
    let _is_table = reader.table(root, &SPEC);
    check_tables(root, reader);
}

/// [`check_form`] but for the names of the tables themselves.
pub(crate) fn check_tables(root: &Node, reader: &mut Reader<'_>) {
    each::<ListenTable>("listen", root, reader);
    each::<ServiceTable>("service", root, reader);
    each::<RouteTable>("route", root, reader);
    each::<PolicyLayer>("policy", root, reader);
    each::<IssuerTable>("issuer", root, reader);
    each::<LoginTable>("login", root, reader);
    each::<UsersTable>("users", root, reader);
    each::<LimitTable>("limit", root, reader);
    each::<ObjectiveTable>("objective", root, reader);
    each::<AlertTable>("alert", root, reader);
    each::<NotifyTable>("notify", root, reader);
    one::<AcmeTable>("acme", root, reader);
    one::<PolicyLayer>("defaults", root, reader);
    one::<KeysTable>("keys", root, reader);
    one::<OverloadTable>("overload", root, reader);
    one::<TerraceTable>("terrace", root, reader);
    one::<LogTable>("log", root, reader);
    one::<TraceTable>("trace", root, reader);
    one::<OtlpTable>("otlp", root, reader);
    one::<AdminTable>("admin", root, reader);
}

fn each<T: Read>(kind: &str, root: &Node, reader: &mut Reader<'_>) {
    let Some(node) = root.get(kind) else { return };
    let Some(table) = node.table() else {
        let _refused: Option<()> = reader.unexpected(node, &format!("tables like [{kind}.NAME]"), None);
        return;
    };
    if table.len() > NAMES_MAX {
        reader.report(Finding::new(node.origin, format!("more than {NAMES_MAX} tables [{kind}.*]")));
    }
    for (name, entry) in table.iter().take(NAMES_MAX) {
        if entry.node.table().is_none() {
            // `[service]` with the keys of one service.
            let example = match kind {
                "policy" => "public",
                "notify" => "oncall",
                "issuer" => "main",
                "users" => "staff",
                "limit" => "api",
                _ => "web",
            };
            let finding = Finding::new(entry.key, format!("`{name}` stands in [{kind}], where names are"));
            reader.report(finding.help(format!("give it a name: [{kind}.{example}]")));
            continue;
        }
        check_name(name, entry, reader);
        reader.below(kind, |reader| reader.below(name, |reader| T::read(&entry.node, reader)));
    }
}

fn one<T: Read>(name: &str, root: &Node, reader: &mut Reader<'_>) {
    if let Some(node) = root.get(name) {
        reader.below(name, |reader| T::read(node, reader));
    }
}

fn check_name(name: &str, entry: &Entry, reader: &mut Reader<'_>) {
    if is_name(name) {
        return;
    }
    let shown: String = name.chars().take(60).collect();
    let message = format!("{shown:?} is no name: up to {NAME_CHARS_MAX} of a-z, 0-9 and -, a letter first");
    let finding = Finding::new(entry.key, message);
    let better = name.to_lowercase().replace(['_', ' ', '.'], "-");
    reader.report(if is_name(&better) { finding.help(format!("write `{better}`")) } else { finding });
}

fn is_name(text: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let starts_well = text.starts_with(|first: char| first.is_ascii_lowercase());
    starts_well && text.len() <= NAME_CHARS_MAX && text.bytes().all(known)
}

/// Puts in what is understood when it is not said: one listener, and one route to the only service.
pub(crate) fn complete(root: &mut Node) {
    let Value::Table(tables) = &mut root.value else { return };
    let is_empty =
        |kind: &str| tables.get(kind).is_none_or(|entry| entry.node.table().is_some_and(Table::is_empty));
    let routed: Vec<String> = match tables.get("service").and_then(|entry| entry.node.table()) {
        Some(services) => services
            .iter()
            .filter(|(_, entry)| !is_worker(&entry.node))
            .map(|(name, _)| name.clone())
            .collect(),
        None => Vec::new(),
    };
    let (no_listener, no_route) = (is_empty("listen"), is_empty("route"));
    if no_listener {
        understood(tables, "listen", "public", "{ address = \"0.0.0.0:8080\" }");
    }
    if let ([service], true) = (routed.as_slice(), no_route) {
        understood(tables, "route", service, &format!("{{ at = \"/*\", to = {service:?} }}"));
    }
}

fn understood(tables: &mut Table, kind: &str, name: &str, literal: &str) {
    let mut named = Table::new();
    named.insert(name.to_owned(), Entry { key: Origin::BuiltIn, node: super::tree::understood(literal) });
    let node = Node { value: Value::Table(named), origin: Origin::BuiltIn, layer: Layer::Own };
    tables.insert(kind.to_owned(), Entry { key: Origin::BuiltIn, node });
}

/// The whole file. `None`: the findings say why.
pub(crate) fn resolve(root: &Node, reader: &mut Reader<'_>) -> Option<Resolved> {
    check_form(root, reader);
    let known = Known { root };
    check_names_of_policies(&known, reader);
    let process = resolve_process(root, reader);
    let seeing = resolve_seeing(&known, reader);
    let mut found = find(&known, reader);
    check_together(&found, root, reader);
    make_way_for_others(&mut found);
    let process = process?;
    Some(Resolved {
        terrace: process.terrace,
        listeners: found.listeners,
        acme: found.acme,
        services: found.services,
        routes: found.routes,
        identity: found.identity?,
        limits: found.limits,
        overload: process.overload,
        objectives: seeing.objectives,
        alerts: seeing.alerts,
        receivers: seeing.receivers,
        log: process.log,
        trace: process.trace,
        otlp: found.otlp?,
        admin: found.admin?,
        watch: Vec::new(),
        written: BTreeMap::new(),
    })
}

/// What the process itself does.
struct Process {
    terrace: Terrace,
    overload: Overload,
    log: Log,
    trace: Trace,
}

fn resolve_process(root: &Node, reader: &mut Reader<'_>) -> Option<Process> {
    let terrace = only("terrace", root, reader, terrace::resolve);
    let overload = only("overload", root, reader, resilience::resolve_overload);
    let log = only("log", root, reader, log::resolve);
    let trace = only("trace", root, reader, trace::resolve);
    Some(Process { terrace: terrace?, overload: overload?, log: log?, trace: trace? })
}

/// What is watched, and whom it calls.
struct Seeing {
    objectives: BTreeMap<String, Objective>,
    alerts: BTreeMap<String, Threshold>,
    receivers: BTreeMap<String, Receiver>,
}

fn resolve_seeing(known: &Known<'_>, reader: &mut Reader<'_>) -> Seeing {
    let objectives = named("objective", known.root, reader, |name, node, reader| {
        objective::resolve(name, node, known, reader)
    });
    let alerts =
        named("alert", known.root, reader, |name, node, reader| alert::resolve(name, node, known, reader));
    Seeing { objectives, alerts, receivers: named("notify", known.root, reader, notify::resolve) }
}

/// What is good by itself, to be checked together: a fault in one table must not hide those between others.
struct Found {
    listeners: BTreeMap<String, Listener>,
    /// Nothing also where there is no such table.
    acme: Option<Acme>,
    services: BTreeMap<String, Service>,
    routes: BTreeMap<String, Route>,
    identity: Option<Identity>,
    limits: BTreeMap<String, Limit>,
    otlp: Option<Otlp>,
    admin: Option<Admin>,
}

fn find(known: &Known<'_>, reader: &mut Reader<'_>) -> Found {
    let root = known.root;
    Found {
        otlp: only("otlp", root, reader, otlp::resolve),
        admin: only("admin", root, reader, admin::resolve),
        listeners: named("listen", root, reader, listen::resolve),
        acme: root.get("acme").and_then(|node| reader.below("acme", |reader| acme::resolve(node, reader))),
        services: named("service", root, reader, |name, node, reader| {
            service::resolve(name, node, &merged(root, Some(name), None), known, reader)
        }),
        routes: named("route", root, reader, |name, node, reader| {
            let merged = |service: Option<&str>| merged(root, service, Some(node));
            route::resolve(name, node, known, &merged, reader)
        }),
        identity: resolve_identity(known, reader),
        limits: named("limit", root, reader, limit::resolve_named),
    }
}

fn resolve_identity(known: &Known<'_>, reader: &mut Reader<'_>) -> Option<Identity> {
    let issuers =
        named("issuer", known.root, reader, |name, node, reader| issuer::resolve(name, node, known, reader));
    let logins =
        named("login", known.root, reader, |name, node, reader| login::resolve(name, node, known, reader));
    let users = named("users", known.root, reader, users::resolve);
    Some(Identity { issuers, logins, users, keys: only("keys", known.root, reader, users::resolve_keys)? })
}

/// The table of that name, of which there is one.
fn only<T>(
    name: &str,
    root: &Node,
    reader: &mut Reader<'_>,
    resolve: impl Fn(&Node, &mut Reader<'_>) -> Option<T>,
) -> Option<T> {
    let empty = Node { value: Value::Table(Table::new()), origin: Origin::BuiltIn, layer: Layer::Own };
    reader.below(name, |reader| resolve(root.get(name).unwrap_or(&empty), reader))
}

/// Where the dashboard would be by default, another program or a listener of this file may be: nobody asked for that
/// port, so it takes a free one.
fn make_way_for_others(found: &mut Found) {
    let listeners = found
        .listeners
        .values()
        .flat_map(|listener| listener.addresses.iter().chain(&listener.redirect_from));
    let hosts = found.services.values().flat_map(|service| match &service.source {
        Source::Hosts(endpoints) => endpoints.as_slice(),
        Source::Run(_) | Source::Dns { .. } => &[],
    });
    let internal = found.services.values().map(|service| service.internal);
    let probes = found.admin.iter().filter_map(|admin| admin.probes);
    let otlp = found.otlp.iter().filter_map(|otlp| otlp.receive);
    let mut taken =
        listeners.copied().chain(hosts.map(|host| host.address)).chain(internal).chain(probes).chain(otlp);
    let is_taken = taken.any(|address| listen::clashes(address, DEFAULT_ADDRESS));
    if let Some(api) = found.admin.as_mut().and_then(|admin| admin.api.as_mut())
        && api.address.is_none()
        && is_taken
    {
        api.address = Some(SocketAddr::new(DEFAULT_ADDRESS.ip(), 0));
    }
}

fn named<T>(
    kind: &str,
    root: &Node,
    reader: &mut Reader<'_>,
    resolve: impl Fn(&str, &Node, &mut Reader<'_>) -> Option<T>,
) -> BTreeMap<String, T> {
    let tables = root.get(kind).and_then(Node::table);
    let mut found = BTreeMap::new();
    for (name, entry) in tables.into_iter().flatten().take(NAMES_MAX) {
        if entry.node.table().is_some() {
            let resolved =
                reader.below(kind, |reader| reader.below(name, |reader| resolve(name, &entry.node, reader)));
            found.extend(resolved.map(|resolved| (name.clone(), resolved)));
        }
    }
    found
}

/// The layers for a service and a route, laid over each other: the one place where the merge law is written.
pub(crate) fn merged(root: &Node, service: Option<&str>, route: Option<&Node>) -> Node {
    let service = service.and_then(|name| root.get("service")?.get(name));
    let policy = route.and_then(|route| root.get("policy")?.get(route.get("policy")?.text()?));
    let layers = [
        (root.get("defaults"), Layer::Defaults),
        (service, Layer::Service),
        (policy, Layer::Policy),
        (route, Layer::Own),
    ];
    let present = layers.into_iter().filter_map(|(node, layer)| Some(policy::layer(node?, layer)));
    policy::merge(present.collect(), route.or(service).map_or(Origin::BuiltIn, |node| node.origin))
}

/// Reports names in policies that do not exist, wherever policies may stand.
fn check_names_of_policies(known: &Known<'_>, reader: &mut Reader<'_>) {
    if let Some(defaults) = known.root.get("defaults") {
        policy::check_names(defaults, known, reader);
    }
    for kind in ["service", "policy", "route"] {
        for (_, entry) in known.root.get(kind).and_then(Node::table).into_iter().flatten() {
            policy::check_names(&entry.node, known, reader);
        }
    }
}

/// Reports what is wrong between tables that are each good by themselves.
fn check_together(found: &Found, root: &Node, reader: &mut Reader<'_>) {
    let claims = check_addresses(found, root, reader);
    check_loops(found, root, &claims, reader);
    let routes: Vec<_> = found.routes.values().cloned().collect();
    route::check_together(&routes, root, reader);
    listen::check_client_certificates(&found.listeners, &found.routes, root, reader);
    acme::check_together(found.acme.as_ref(), &found.listeners, &found.routes, root, reader);
    check_logins(found, root, reader);
    check_names_of_alerts(root, reader);
    check_purpose(root, reader);
}

/// Reports logins that are in each other's way.
fn check_logins(found: &Found, root: &Node, reader: &mut Reader<'_>) {
    let Some(identity) = &found.identity else { return };
    let mut users = Vec::new();
    for route in found.routes.values() {
        if let Some(login) = route.guards.auth.as_ref().and_then(|auth| auth.login.as_deref()) {
            users.extend(route.at.iter().map(|pattern| (login, pattern.host())));
        }
    }
    login::check_together(&identity.logins, &users, root, reader);
}

/// Every address that Terrace listens at; two that clash are reported.
fn check_addresses(found: &Found, root: &Node, reader: &mut Reader<'_>) -> Vec<Claim> {
    let mut claims = Vec::new();
    for (name, entry) in root.get("listen").and_then(Node::table).into_iter().flatten() {
        let listener = found.listeners.get(name);
        claims.extend(listener.into_iter().flat_map(|listener| listen::claims(listener, &entry.node)));
    }
    if let Some(admin) = &found.admin {
        let node = root.get("admin");
        let address = admin.api.as_ref().and_then(|api| api.address);
        claims.extend(address.map(|address| claim(address, "address", "[admin]", node)));
        claims.extend(admin.probes.map(|address| claim(address, "probes", "[admin]", node)));
    }
    if let Some(address) = found.otlp.as_ref().and_then(|otlp| otlp.receive) {
        claims.push(claim(address, "receive", "[otlp]", root.get("otlp")));
    }
    for (name, service) in &found.services {
        let node = root.get("service").and_then(|services| services.get(name));
        claims.push(claim(service.internal, "internal", &format!("[service.{name}]"), node));
    }
    claims.retain(|claim| claim.address.port() != 0);
    if claims.len() > ADDRESSES_MAX {
        reader.report(Finding::new(root.origin, format!("more than {ADDRESSES_MAX} addresses to listen at")));
        return Vec::new();
    }
    listen::check_addresses(&claims, reader);
    claims
}

fn claim(address: SocketAddr, key: &str, table: &str, node: Option<&Node>) -> Claim {
    let origin = node.and_then(|node| node.get(key)).map_or(Origin::BuiltIn, |node| node.origin);
    Claim { address, origin, owner: format!("`{key}` of {table}") }
}

/// Reports hosts that are Terrace itself: a request would go round until something breaks.
fn check_loops(found: &Found, root: &Node, claims: &[Claim], reader: &mut Reader<'_>) {
    for (name, service) in &found.services {
        let Source::Hosts(endpoints) = &service.source else { continue };
        let items = root.get("service").and_then(|services| services.get(name)?.get("hosts"));
        let Some(Node { value: Value::List(items), .. }) = items else { continue };
        for (endpoint, node) in endpoints.iter().zip(items) {
            let own = claims.iter().find(|claim| listen::reaches(endpoint.address, claim.address));
            if let Some(claim) = own {
                let message =
                    format!("{} is Terrace itself: requests would go round in a circle", endpoint.address);
                reader.report(Finding::new(node.origin, message).other(claim.origin, "it listens here"));
            }
        }
    }
}

/// Reports an alert that is called as an objective is: a silence could not tell them apart.
fn check_names_of_alerts(root: &Node, reader: &mut Reader<'_>) {
    let Some(objectives) = root.get("objective").and_then(Node::table) else { return };
    for (name, alert) in root.get("alert").and_then(Node::table).into_iter().flatten() {
        if let Some(objective) = objectives.get(name) {
            let message =
                format!("an objective is called `{name}` too, and a silence could not tell them apart");
            reader.report(Finding::new(alert.key, message).other(objective.key, "this one"));
        }
    }
}

/// Reports a file that serves nothing, or leaves open what it serves.
fn check_purpose(root: &Node, reader: &mut Reader<'_>) {
    let named = |kind: &str| root.get(kind).and_then(Node::table).map_or(0, Table::len);
    if named("service") == 0 && named("route") == 0 {
        let finding = Finding::new(root.origin, "there is nothing to serve: no [service.*] and no [route.*]");
        let kinds = SPEC.keys.iter().map(|key| key.name);
        let unknown = root.table().into_iter().flatten().find(|(name, _)| SPEC.key(name).is_none());
        // `[services.web]` was told already; that it leaves no service would be told twice.
        if unknown.is_none_or(|(name, _)| nearest(name, kinds).is_none()) {
            reader.report(finding.help("add [service.web] with run = \"…\""));
        }
    }
    let services = root.get("service").and_then(Node::table).into_iter().flatten();
    let routed = services.filter(|(_, entry)| !is_worker(&entry.node)).count();
    if routed > 1 && named("route") == 0 {
        let finding = Finding::new(
            root.origin,
            format!("there are {routed} services, and no [route.*] says which one answers"),
        );
        reader.report(finding.help("add [route.NAME] with at = \"/*\" and to = \"SERVICE\""));
    }
}

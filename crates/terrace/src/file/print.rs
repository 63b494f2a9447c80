//! The configuration written out: every layer merged, every default there, and where each value comes from.
//!
//! What is printed is valid TOML: `[defaults]` and policies are merged into the services and routes that they reach, and secrets
//! stay references. Printed whole it means the same again; to be shown, it leaves out what looks like a secret in plain
//! ([`super::private`]).

use std::fmt::Write as _;

use serde_json::json;

use super::diff::Written;
use super::policy::{self, PolicyTable};
use super::private;
use super::problem::Paint;
use super::read::Read as _;
use super::root::{self, merged};
use super::source::{Origin, Sources};
use super::spec::{Shape, fill, lay_over};
use super::tree::{Entry, Layer, Node, Table, Value};

/// A value of the configuration with its whole name.
pub(crate) struct Line {
    /// `listen`, `service`, … and the name of the table, if it has one.
    pub(crate) table: (String, Option<String>),
    /// Dotted, below the table.
    pub(crate) key: String,
    /// As TOML on one line.
    pub(crate) value: String,
    origin: Origin,
    layer: Layer,
}

/// Tables that are merged into others, so that nothing is left of them.
const MERGED_AWAY: [&str; 3] = ["include", "policy", "defaults"];

/// `root` with all layers merged and all defaults filled in.
pub(crate) fn written_out(root: &Node) -> Node {
    let mut tables = Table::new();
    for key in root::SPEC.keys.iter().filter(|key| !MERGED_AWAY.contains(&key.name)) {
        let mut entry = match root.table().and_then(|tables| tables.get(key.name)) {
            Some(entry) => entry.clone(),
            None if asks_for_something(&(key.shape)()) => continue,
            None => empty_entry(),
        };
        if let Value::Table(named) = &mut entry.node.value {
            match key.name {
                "service" => {
                    named.iter_mut().for_each(|(name, entry)| merge_service(root, name, &mut entry.node))
                }
                "route" => named.iter_mut().for_each(|(_, entry)| merge_route(root, &mut entry.node)),
                _ => {}
            }
        }
        fill(&mut entry.node, &(key.shape)());
        tables.insert(key.name.to_owned(), entry);
    }
    Node { value: Value::Table(tables), origin: root.origin, layer: root.layer }
}

/// Whether a table cannot be empty, so that it is not there unless somebody writes it.
fn asks_for_something(shape: &Shape) -> bool {
    let Shape::Table(spec) = shape else { return false };
    spec.keys.iter().any(|key| key.default.is_none() && !(key.optional)())
}

fn empty_entry() -> Entry {
    let node = Node { value: Value::Table(Table::new()), origin: Origin::BuiltIn, layer: Layer::Own };
    Entry { key: Origin::BuiltIn, node }
}

fn merge_service(root: &Node, name: &str, node: &mut Node) {
    put_policies(node, merged(root, Some(name), None));
    own(node);
}

/// In a service's own table, its own layer is nothing to mention.
fn own(node: &mut Node) {
    if node.layer == Layer::Service {
        node.layer = Layer::Own;
    }
    if let Value::Table(table) = &mut node.value {
        table.iter_mut().for_each(|(_, entry)| own(&mut entry.node));
    }
}

fn merge_route(root: &Node, node: &mut Node) {
    let policies = match node.get("to").map(|to| &to.value) {
        Some(Value::Text(service)) => merged(root, Some(service), Some(node)),
        Some(Value::Table(weights)) => merge_split(root, weights, node),
        _ => merged(root, None, Some(node)),
    };
    put_policies(node, policies);
}

/// Policies of a route to several services: where these differ, what the route itself does not say stays theirs.
fn merge_split(root: &Node, weights: &Table, route: &Node) -> Node {
    let mut all = weights.iter().map(|(service, _)| merged(root, Some(service), Some(route)));
    let Some(first) = all.next() else { return merged(root, None, Some(route)) };
    let wanted = policy_values(&first);
    if all.all(|other| policy_values(&other) == wanted) {
        return first;
    }
    let mut said = Node { value: Value::Table(Table::new()), origin: route.origin, layer: Layer::Own };
    let named = route.get("policy").and_then(|name| root.get("policy")?.get(name.text()?));
    let layers = [(named, Layer::Policy), (Some(route), Layer::Own)];
    for (node, layer) in layers {
        if let Some(node) = node {
            lay_over(&mut said, policy::layer(node, layer), &PolicyTable::shape());
        }
    }
    said
}

/// The values of policies with their dotted keys, in an order that does not depend on the layers they come from.
pub(crate) fn policy_values(policies: &Node) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    collect(policies, &PolicyTable::shape(), &(String::new(), None), "", &mut lines);
    lines.into_iter().map(|line| (line.key, line.value)).collect()
}

fn put_policies(node: &mut Node, policies: Node) {
    let (Value::Table(table), Value::Table(policies)) = (&mut node.value, policies.value) else { return };
    for (name, entry) in policies {
        table.insert(name, entry);
    }
}

/// The values of a tree that was written out, in the order of the reference.
pub(crate) fn lines(tree: &Node) -> Vec<Line> {
    let mut lines = Vec::new();
    for key in root::SPEC.keys {
        let Some(node) = tree.get(key.name) else { continue };
        match (key.shape)() {
            Shape::Map { value, .. } => {
                for (name, entry) in node.table().into_iter().flatten() {
                    let table = (key.name.to_owned(), Some(name.clone()));
                    collect(&entry.node, &value, &table, "", &mut lines);
                }
            }
            shape => collect(node, &shape, &(key.name.to_owned(), None), "", &mut lines),
        }
    }
    lines
}

/// The values of a tree that was written out, by table.
pub(crate) fn by_table(tree: &Node) -> Written {
    let mut tables = Written::new();
    for line in lines(tree) {
        tables.entry(line.table).or_default().insert(line.key, line.value);
    }
    tables
}

fn collect(node: &Node, shape: &Shape, table: &(String, Option<String>), key: &str, lines: &mut Vec<Line>) {
    let Some(entries) = node.table() else { return push(node, table, key, lines) };
    let below = |name: &str| match key {
        "" => bare_or_quoted(name),
        key => format!("{key}.{}", bare_or_quoted(name)),
    };
    match shape.decide(&node.value) {
        Some(Shape::Table(spec)) if !spec.whole || spec.keys.len() > ON_ONE_LINE_KEYS_MAX => {
            // The policy that a route names is merged into it.
            for known in spec.all_keys().filter(|known| known.name != "policy") {
                if let Some(entry) = entries.get(known.name) {
                    collect(&entry.node, &(known.shape)(), table, &below(known.name), lines);
                }
            }
        }
        Some(Shape::Map { value, whole: false, .. }) => {
            for (name, entry) in entries {
                collect(&entry.node, value, table, &below(name), lines);
            }
        }
        _ => push(node, table, key, lines),
    }
}

/// A table of alternatives with no more keys than this is printed on one line.
const ON_ONE_LINE_KEYS_MAX: usize = 5;

fn push(node: &Node, table: &(String, Option<String>), key: &str, lines: &mut Vec<Line>) {
    let line = Line {
        table: table.clone(),
        key: key.to_owned(),
        value: inline(node),
        origin: node.origin,
        layer: node.layer,
    };
    lines.push(line);
}

impl Line {
    /// Takes out what is not to be shown.
    fn hide(&mut self) {
        if !private::is_shown(&self.table.0, &self.key, &self.value) {
            self.value = private::NOT_SHOWN.to_owned();
        }
    }

    /// `[service.web]`.
    fn header(&self) -> String {
        match &self.table {
            (kind, Some(name)) => format!("[{kind}.{}]", bare_or_quoted(name)),
            (kind, None) => format!("[{kind}]"),
        }
    }

    /// Where the value comes from: the layer, when it is not this table's own, and the place.
    fn from(&self, tree: &Node, sources: &Sources) -> String {
        let place = sources.label(self.origin);
        match (self.origin, self.layer) {
            (Origin::BuiltIn, _) | (_, Layer::Own) => place,
            (_, Layer::Defaults) => format!("{place} [defaults]"),
            (_, Layer::Policy) => self.named(tree, "policy", "policy", place),
            (_, Layer::Service) => self.named(tree, "to", "service", place),
        }
    }

    /// `place` with the table that the route of this line names by `key`.
    fn named(&self, tree: &Node, key: &str, kind: &str, place: String) -> String {
        let route = self.table.1.as_ref().and_then(|name| tree.get("route")?.get(name));
        match route.and_then(|route| route.get(key)?.text()) {
            Some(name) => format!("{place} [{kind}.{name}]"),
            None => format!("{place} [{kind}]"),
        }
    }
}

/// How a configuration is printed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Look {
    /// Behind each value stands where it comes from.
    pub(crate) explain: bool,
    /// For a terminal.
    pub(crate) colour: bool,
    /// With what looks like a secret in plain: not to be shown.
    pub(crate) whole: bool,
}

/// The tree as TOML.
pub(crate) fn print(tree: &Node, sources: &Sources, Look { explain, colour, whole }: Look) -> String {
    let mut lines = lines(tree);
    if !whole {
        lines.iter_mut().for_each(Line::hide);
    }
    let paint = Paint { colour };
    let mut out = String::new();
    for section in lines.chunk_by(|one, other| one.table == other.table) {
        let Some(first) = section.first() else { continue };
        if !out.is_empty() {
            out.push('\n');
        }
        let _ = writeln!(out, "{}", paint.bold(&first.header()));
        let keys = widest(section, |line| &line.key, usize::MAX);
        let values = widest(section, |line| &line.value, VALUE_ALIGNED_CHARS_MAX);
        for line in section {
            let _ = match explain {
                false => writeln!(out, "{:keys$} = {}", line.key, line.value),
                true => {
                    let from = paint.grey(&format!("# {}", line.from(tree, sources)));
                    writeln!(out, "{:keys$} = {:values$}  {from}", line.key, line.value)
                }
            };
        }
    }
    out
}

/// A value longer than this does not push the explanations of all others to the right.
const VALUE_ALIGNED_CHARS_MAX: usize = 40;

fn widest(section: &[Line], text: fn(&Line) -> &str, most: usize) -> usize {
    let widths = section.iter().map(|line| text(line).chars().count());
    widths.filter(|width| *width <= most).max().unwrap_or(0)
}

/// The values with their places, for a program that shows them.
pub(crate) fn to_json(tree: &Node, sources: &Sources) -> serde_json::Value {
    let values = lines(tree).into_iter().map(|mut line| {
        line.hide();
        let place = match line.origin {
            Origin::BuiltIn => json!(null),
            Origin::Text(place) => json!({ "file": sources.path(place.file), "line": sources.line(place) }),
        };
        let (kind, name) = &line.table;
        json!({ "table": kind, "name": name, "key": line.key, "value": line.value, "written": place })
    });
    json!({ "valid": true, "values": values.collect::<Vec<_>>() })
}

/// A value as TOML on one line.
pub(crate) fn inline(node: &Node) -> String {
    match &node.value {
        Value::Text(text) => quoted(text),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => format!("{number:?}"),
        Value::Boolean(flag) => flag.to_string(),
        Value::Moment(moment) => moment.clone(),
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(inline).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Table(table) if table.is_empty() => "{}".to_owned(),
        Value::Table(table) => {
            let entry = |(name, entry): (&String, &Entry)| {
                format!("{} = {}", bare_or_quoted(name), inline(&entry.node))
            };
            let entries: Vec<String> = table.iter().map(entry).collect();
            format!("{{ {} }}", entries.join(", "))
        }
    }
}

/// A basic string of TOML.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            control if control.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(control));
            }
            plain => out.push(plain),
        }
    }
    out.push('"');
    out
}

fn bare_or_quoted(key: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !key.is_empty() && key.bytes().all(bare) { key.to_owned() } else { quoted(key) }
}

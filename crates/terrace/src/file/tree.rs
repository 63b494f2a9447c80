//! The file as a tree in which every value knows where it was written.
//!
//! The readers do not go through serde, which stops at the first thing it does not like: they walk this tree and
//! collect everything. Merging (an overlay file, the layers of a policy, the built-in defaults) happens on the
//! tree too, so that each value keeps its origin whatever it was laid over.

use std::cell::RefCell;
use std::collections::HashMap;

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};
use toml::map::Map;

use super::problem::Finding;
use super::source::{Origin, Place};

/// Keys in the order of the file.
pub(crate) type Table = Map<String, Entry>;

/// A key with its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Where the key itself is written.
    pub(crate) key: Origin,
    pub(crate) node: Node,
}

/// A value, where it is written and in which layer.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) origin: Origin,
    pub(crate) layer: Layer,
}

/// Whose word a value is, from the weakest to the strongest after the built-in ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Layer {
    /// From `[defaults]`.
    Defaults,
    /// From the service that answers.
    Service,
    /// From the named policy.
    Policy,
    /// Written in the table itself.
    Own,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    /// TOML has them; no key of ours takes one.
    Moment(String),
    List(Vec<Node>),
    Table(Table),
}

impl Value {
    /// What it is, for the sentence "expected …, found …".
    pub(crate) fn noun(&self) -> String {
        match self {
            Self::Text(text) if text.chars().count() <= 40 => format!("the text {text:?}"),
            Self::Text(_) => "a text".to_owned(),
            Self::Integer(number) => format!("the number {number}"),
            Self::Float(number) => format!("the number {number}"),
            Self::Boolean(flag) => format!("`{flag}`"),
            Self::Moment(moment) => format!("the date {moment}"),
            Self::List(_) => "a list".to_owned(),
            Self::Table(_) => "a table".to_owned(),
        }
    }
}

impl Node {
    pub(crate) fn table(&self) -> Option<&Table> {
        match &self.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The value below `key`, when this is a table that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        match self.table()?.get(key) {
            Some(entry) => Some(&entry.node),
            None => None,
        }
    }

    /// Where the value below `key` is written, else where this one is.
    pub(crate) fn origin_of(&self, key: &str) -> Origin {
        match self.get(key) {
            Some(node) => node.origin,
            None => self.origin,
        }
    }

    /// Where the key `key` is written, else where this value is.
    pub(crate) fn key_origin_of(&self, key: &str) -> Origin {
        match self.table().and_then(|table| table.get(key)) {
            Some(entry) => entry.key,
            None => self.origin,
        }
    }

    /// Puts everything in it into `layer`.
    pub(crate) fn set_layer(&mut self, layer: Layer) {
        self.layer = layer;
        match &mut self.value {
            Value::List(items) => items.iter_mut().for_each(|item| item.set_layer(layer)),
            Value::Table(table) => table.iter_mut().for_each(|(_, entry)| entry.node.set_layer(layer)),
            _ => {}
        }
    }
}

/// A file with what could be read of it, and every fault of syntax.
pub(crate) fn parse(text: &str, file: u32, findings: &mut Vec<Finding>) -> Table {
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let span = error.span().unwrap_or_default();
        let origin = Origin::Text(place(file, span.start..span.end.max(span.start)));
        let message = error.message().trim().replace('\n', ", ").replace(", expected nothing", "");
        let mut finding = Finding::new(origin, format!("not valid TOML: {message}"));
        finding.help = unquoted(text, span.start).map(|value| match value.to_lowercase().as_str() {
            flag @ ("true" | "false") => format!("write {flag}"),
            _ => format!("a text needs quotes: {value:?}"),
        });
        findings.push(finding);
    }
    Planter { text, file, findings }.table(document.into_inner())
}

/// The value on the line of byte `at`, when it is a word or an address or the like that only lacks its quotes.
fn unquoted(text: &str, at: usize) -> Option<&str> {
    let before = text.get(..at)?;
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    let line = text[line_start..].lines().next()?;
    let (_, value) = line.split_once('=')?;
    let value = value.split('#').next()?.trim();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:%*".contains(&byte);
    let is_number = value.parse::<f64>().is_ok();
    (!value.is_empty() && !is_number && value.len() <= 60 && value.bytes().all(is_plain)).then_some(value)
}

thread_local! {
    /// Every literal of the definitions, read once: a route has a hundred defaults, and there may be thousands of routes.
    static LITERALS: RefCell<HashMap<&'static str, Node>> = RefCell::default();
}

/// The value of a default as it is written in a definition.
///
/// # Panics
/// When a definition holds a literal that is no TOML: a fault of the definition, which the test
/// `every_default_is_valid` finds.
pub(crate) fn built_in(literal: &'static str) -> Node {
    LITERALS
        .with_borrow_mut(|literals| literals.entry(literal).or_insert_with(|| understood(literal)).clone())
}

/// A value that is put in without anybody having written it.
///
/// # Panics
/// As [`built_in`].
pub(crate) fn understood(literal: &str) -> Node {
    let parsed =
        DeValue::parse(literal).unwrap_or_else(|error| panic!("the default {literal} is no TOML: {error}"));
    let mut findings = Vec::new();
    let mut node = Planter { text: literal, file: 0, findings: &mut findings }.node(parsed);
    node.unplace();
    node
}

impl Node {
    fn unplace(&mut self) {
        self.origin = Origin::BuiltIn;
        match &mut self.value {
            Value::List(items) => items.iter_mut().for_each(Self::unplace),
            Value::Table(table) => table.iter_mut().for_each(|(_, entry)| {
                entry.key = Origin::BuiltIn;
                entry.node.unplace();
            }),
            _ => {}
        }
    }
}

struct Planter<'a> {
    text: &'a str,
    file: u32,
    findings: &'a mut Vec<Finding>,
}

impl Planter<'_> {
    fn table(&mut self, parsed: DeTable<'_>) -> Table {
        let mut table = Table::new();
        for (key, value) in parsed {
            let key_origin = Origin::Text(place(self.file, key.span()));
            let mut node = self.node(value);
            if matches!(node.value, Value::Table(_)) && !self.is_inline(node.origin) {
                // A `[table]` has no text of its own: its header is the place to point at.
                node.origin = key_origin;
            }
            table.insert(key.into_inner().into_owned(), Entry { key: key_origin, node });
        }
        table
    }

    fn is_inline(&self, origin: Origin) -> bool {
        match origin {
            Origin::Text(place) => self.text.as_bytes().get(place.start as usize) == Some(&b'{'),
            Origin::BuiltIn => false,
        }
    }

    fn node(&mut self, parsed: Spanned<DeValue<'_>>) -> Node {
        let origin = Origin::Text(place(self.file, parsed.span()));
        let value = match parsed.into_inner() {
            DeValue::String(text) => Value::Text(text.into_owned()),
            DeValue::Integer(number) => Value::Integer(self.integer(&number, origin)),
            DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(flag) => Value::Boolean(flag),
            DeValue::Datetime(moment) => Value::Moment(moment.to_string()),
            DeValue::Array(items) => Value::List(items.into_iter().map(|item| self.node(item)).collect()),
            DeValue::Table(table) => Value::Table(self.table(table)),
        };
        Node { value, origin, layer: Layer::Own }
    }

    fn integer(&mut self, number: &DeInteger<'_>, origin: Origin) -> i64 {
        match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => number,
            Err(_) => {
                self.findings.push(Finding::new(origin, "this number is too large"));
                0
            }
        }
    }
}

fn place(file: u32, span: std::ops::Range<usize>) -> Place {
    let narrow = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    Place { file, start: narrow(span.start), end: narrow(span.end) }
}

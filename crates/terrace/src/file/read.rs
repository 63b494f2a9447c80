//! From the tree to typed values, collecting what is wrong instead of stopping at it.
//!
//! A type says how it is read by [`Read`]; a table is defined with the macro [`table!`], which makes its struct,
//! its reader and its [`Spec`](super::spec::Spec) at one stroke. `None` from a reader means: the reason is among
//! the findings already.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::body::{Validate, ValidateKind};
use super::print::inline;
use super::problem::{Finding, listed, nearest};
use super::source::{Origin, Sources};
use super::spec::{Form, Key, Shape, Spec};
use super::surroundings::Surroundings;
use super::tree::{Node, Table, Value, built_in};
use super::values::{Secret, SecretSource};

/// A value that can stand in the file.
pub(crate) trait Read: Sized {
    /// What it may look like.
    fn shape() -> Shape;
    /// Reads it; what is wrong goes to the reader's findings.
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self>;
    /// What an absent key without default means, where that is allowed.
    fn absent() -> Option<Self> {
        None
    }
    /// Whether it lies between two values, both included.
    fn is_within(&self, _low: &Self, _high: &Self) -> bool {
        true
    }
}

/// A text of a certain form.
pub(crate) trait Scalar: Sized {
    const FORM: Form;
    /// Reads the text; else says what is wrong with it and perhaps what to write.
    fn parse(text: &str) -> Result<Self, Wrong>;
    /// What to write instead of a number without quotes.
    fn for_number(number: i64) -> Option<String> {
        Some(format!("\"{number}\""))
    }
    /// What to write instead of a number with a point.
    fn for_fraction(_number: f64) -> Option<String> {
        None
    }
    /// What to do instead when the text holds a secret, which is then not shown.
    fn secret_help(_text: &str) -> Option<&'static str> {
        None
    }
    /// Whether it lies between two values, both included.
    fn between(&self, _low: &Self, _high: &Self) -> bool {
        true
    }
}

/// Why a text does not have the form.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// Follows the text in the sentence: `"5" …`; empty: "is not a duration".
    pub(crate) why: String,
    /// What to write instead.
    pub(crate) write: Option<String>,
}

impl Wrong {
    /// Not of that form at all.
    pub(crate) fn form() -> Self {
        Self { why: String::new(), write: None }
    }

    pub(crate) fn because(why: impl Into<String>) -> Self {
        Self { why: why.into(), write: None }
    }

    pub(crate) fn write(text: impl Into<String>) -> Self {
        Self { why: String::new(), write: Some(text.into()) }
    }
}

/// Everything a read needs and leaves behind.
pub(crate) struct Reader<'a> {
    pub(crate) sources: Sources,
    pub(crate) findings: Vec<Finding>,
    /// Files and folders whose change means that the configuration may have changed.
    pub(crate) watch: BTreeSet<PathBuf>,
    /// Folder of the main file, to which all paths are relative.
    pub(crate) folder: PathBuf,
    /// Lines (file, number) with a fault of syntax.
    pub(crate) misread: BTreeSet<(u32, usize)>,
    /// What requests are held against, read once however many routes name it.
    pub(crate) validators: BTreeMap<(ValidateKind, String), Result<Arc<Validate>, String>>,
    surroundings: &'a dyn Surroundings,
    /// Names of the tables entered.
    path: Vec<String>,
    /// The key whose value is being read.
    key: Option<&'static Key>,
    /// Reading one layer of several: what is missing may come from another.
    partial: bool,
    /// Reading what faults of syntax have left: what is missing may have been there.
    damaged: bool,
}

/// Findings kept: the search for a name that was meant must not be paid for a hundred thousand times.
const FINDINGS_MAX: usize = 200;
/// Longer lists of names help nobody.
const NAMES_LISTED_MAX: usize = 12;
/// Bytes read of a secret, a certificate or an env-file at most.
const SIDE_FILE_BYTES_MAX: u64 = 1 << 20;

impl<'a> Reader<'a> {
    pub(crate) fn new(folder: &Path, surroundings: &'a dyn Surroundings) -> Self {
        Self {
            sources: Sources::default(),
            findings: Vec::new(),
            watch: BTreeSet::new(),
            misread: BTreeSet::new(),
            validators: BTreeMap::new(),
            folder: folder.to_owned(),
            surroundings,
            path: Vec::new(),
            key: None,
            partial: false,
            damaged: false,
        }
    }

    pub(crate) fn surroundings(&self) -> &'a dyn Surroundings {
        self.surroundings
    }

    pub(crate) fn report(&mut self, finding: Finding) {
        if !self.is_full() {
            self.findings.push(finding);
        }
    }

    /// Whether no further finding is kept, so that none needs to be worded with care.
    pub(crate) fn is_full(&self) -> bool {
        self.findings.len() >= FINDINGS_MAX
    }

    /// Reports a fault of syntax: what comes after it in its file may be misread, so less is said about the rest.
    pub(crate) fn report_syntax(&mut self, finding: Finding) {
        if let Origin::Text(place) = finding.origin {
            self.misread.insert((place.file, self.sources.line(place)));
        }
        self.report(finding);
    }

    /// What to write in place of `true` for the key that is being read.
    fn how_to_switch_on(&self) -> Option<String> {
        let key = self.key?;
        match (key.default, key.example) {
            (Some("false"), Some(example)) => Some(format!("write it like {example}")),
            (Some("false"), None) => None,
            _ => Some("it is on unless switched off".to_owned()),
        }
    }

    /// Reports and gives the `None` that a reader returns.
    pub(crate) fn refuse<T>(&mut self, finding: Finding) -> Option<T> {
        self.report(finding);
        None
    }

    /// Reports that `node` is of another kind than asked for.
    pub(crate) fn unexpected<T>(&mut self, node: &Node, expected: &str, help: Option<String>) -> Option<T> {
        let message = format!("expected {expected}, found {}", node.value.noun());
        let mut finding = Finding::new(node.origin, message);
        finding.help = help;
        self.refuse(finding)
    }

    /// Shows no excerpt of `node` in any finding, whatever is pointed at.
    pub(crate) fn hide(&mut self, node: &Node) {
        if let Origin::Text(place) = node.origin {
            self.sources.hide(place);
        }
    }

    /// Reads as one layer of several: no complaint about what is missing.
    pub(crate) fn partially<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> T {
        let before = std::mem::replace(&mut self.partial, true);
        let value = read(self);
        self.partial = before;
        value
    }

    /// Reads what faults of syntax have left: no complaint about what is missing, however it belongs together.
    pub(crate) fn damaged<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> T {
        self.damaged = true;
        self.partially(read)
    }

    /// Reads what no other layer adds anything to: what is missing in it is missing.
    pub(crate) fn wholly<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> T {
        let before = std::mem::replace(&mut self.partial, self.damaged);
        let value = read(self);
        self.partial = before;
        value
    }

    /// Reads again what was read before in parts: only findings at places without one are kept.
    pub(crate) fn only_new<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.findings.len();
        let value = read(self);
        let new = self.findings.split_off(before);
        let known: BTreeSet<Origin> = self.findings.iter().map(|finding| finding.origin).collect();
        self.findings.extend(new.into_iter().filter(|finding| !known.contains(&finding.origin)));
        value
    }

    /// Reads what lies below `name`, which appears in the words of findings.
    pub(crate) fn below<T>(&mut self, name: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(name.to_owned());
        let value = read(self);
        self.path.pop();
        value
    }

    /// The table being read, as a person calls it.
    pub(crate) fn here(&self) -> String {
        match self.path.as_slice() {
            [] => "the file".to_owned(),
            path => format!("[{}]", path.join(".")),
        }
    }

    /// Reports what is wrong with `node` as a table: that it is none, unknown keys, keys that do not go together.
    /// `Some(false)`: it is a table, but without exactly one of those keys that exclude each other.
    pub(crate) fn table(&mut self, node: &Node, spec: &'static Spec) -> Option<bool> {
        let Some(table) = node.table() else {
            return self.unexpected(node, "a table", None);
        };
        let is_one = self.partial || spec.one_of.is_empty() || self.exactly_one(node, spec.one_of);
        for (name, entry) in table {
            match spec.key(name) {
                Some(key) => self.alone(key, entry.key, table, spec),
                None => self.unknown_key(name, entry.key, spec),
            }
        }
        Some(is_one)
    }

    /// Reports a key without the one that gives it a meaning; not where the alternatives are told to be missing.
    fn alone(&mut self, key: &'static Key, origin: Origin, table: &Table, spec: &'static Spec) {
        let Some(with) = key.with else { return };
        let is_undecided =
            spec.one_of.contains(&with) && spec.one_of.iter().all(|key| !table.contains_key(*key));
        if !table.contains_key(with) && !is_undecided && !self.partial {
            let message = format!("`{}` has no meaning in {} without `{with}`", key.name, self.here());
            self.report(Finding::new(origin, message));
        }
    }

    fn unknown_key(&mut self, name: &str, origin: Origin, spec: &'static Spec) {
        let finding =
            Finding::new(origin, format!("unknown key {name:?} in {}", self.here()).replace('"', "`"));
        let help = match nearest(name, spec.all_keys().map(|key| key.name)) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None if spec.all_keys().count() > NAMES_LISTED_MAX => {
                "all keys: `terrace schema --markdown`".to_owned()
            }
            None => format!("known here: {}", listed(spec.all_keys().map(|key| key.name), "and")),
        };
        self.report(finding.help(help));
    }

    /// The value of `key` in the table `node`: as written, else its default, else what its absence means.
    pub(crate) fn field<T: Read>(&mut self, node: &Node, key: &'static Key) -> Option<T> {
        match (node.get(key.name), key.default) {
            (Some(child), _) => {
                let around = self.key.replace(key);
                let value = self.below(key.name, |reader| T::read(child, reader));
                self.key = around;
                self.within(value?, child, key)
            }
            (None, _) if self.partial => None,
            (None, Some(default)) => T::read(&built_in(default), self),
            (None, None) => match T::absent() {
                Some(value) => Some(value),
                None => self.missing(node, key),
            },
        }
    }

    fn missing<T>(&mut self, node: &Node, key: &'static Key) -> Option<T> {
        let finding = Finding::new(node.origin, format!("{} needs `{}`", self.here(), key.name));
        self.refuse(match key.example {
            Some(example) => finding.help(format!("add {} = {example}", key.name)),
            None => finding,
        })
    }

    fn within<T: Read>(&mut self, value: T, node: &Node, key: &'static Key) -> Option<T> {
        let Some((low, high)) = key.range else { return Some(value) };
        let (Some(from), Some(to)) = (T::read(&built_in(low), self), T::read(&built_in(high), self)) else {
            return Some(value);
        };
        if value.is_within(&from, &to) {
            return Some(value);
        }
        let message = format!("`{}` is {}, which is out of range", key.name, inline(node));
        self.refuse(Finding::new(node.origin, message).help(format!("from {low} to {high}")))
    }

    /// Whether exactly one of `keys` stands in the table `node`; otherwise reports.
    pub(crate) fn exactly_one(&mut self, node: &Node, keys: &[&str]) -> bool {
        let present: Vec<&str> = keys.iter().copied().filter(|key| node.get(key).is_some()).collect();
        match present.as_slice() {
            [_] => true,
            [] => {
                let message = format!("{} needs one of {}", self.here(), listed(keys.iter().copied(), "or"));
                self.report(Finding::new(node.origin, message));
                false
            }
            [first, second, ..] => {
                let message = format!("{} takes either `{first}` or `{second}`, not both", self.here());
                let finding = Finding::new(node.key_origin_of(second), message);
                self.report(finding.other(node.key_origin_of(first), "the other one"));
                false
            }
        }
    }

    /// A path as written in the file, made relative to the main file's folder.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        let whole = self.folder.join(path);
        // `./a` and `a` are the same file, and shall look the same.
        let plain: PathBuf = whole.components().filter(|part| *part != Component::CurDir).collect();
        if plain.as_os_str().is_empty() { PathBuf::from(".") } else { plain }
    }

    /// The content of a file that the configuration names; from now on it is watched.
    pub(crate) fn side_file(&mut self, path: &str, origin: Origin) -> Option<Vec<u8>> {
        let path = self.path(path);
        self.watch.insert(path.clone());
        match self.surroundings.read(&path, SIDE_FILE_BYTES_MAX) {
            Ok(content) => Some(content),
            Err(error) => {
                let why = io_reason(&error);
                self.refuse(Finding::new(origin, format!("cannot read {}: {why}", path.display())))
            }
        }
    }

    /// [`Self::side_text`] that leaves it to the caller to say what is wrong.
    pub(crate) fn side_text_quietly(&mut self, path: &str) -> Result<String, String> {
        let path = self.path(path);
        self.watch.insert(path.clone());
        let content =
            self.surroundings.read(&path, SIDE_FILE_BYTES_MAX).map_err(|error| io_reason(&error))?;
        String::from_utf8(content).map_err(|_| "it is no UTF-8 text".to_owned())
    }

    /// [`Self::side_file`] for text.
    pub(crate) fn side_text(&mut self, path: &str, origin: Origin) -> Option<String> {
        match String::from_utf8(self.side_file(path, origin)?) {
            Ok(text) => Some(text),
            Err(_) => {
                let path = self.path(path);
                self.refuse(Finding::new(origin, format!("{} is no UTF-8 text", path.display())))
            }
        }
    }

    /// The secret that `source` points to.
    pub(crate) fn secret(&mut self, source: &SecretSource, origin: Origin) -> Option<Secret> {
        let value = match source {
            SecretSource::File(path) => {
                let text = self.side_text(path, origin)?;
                let text = text.strip_suffix('\n').unwrap_or(&text);
                text.strip_suffix('\r').unwrap_or(text).to_owned()
            }
            SecretSource::Env(name) => match self.surroundings.variable(name) {
                Some(value) => value,
                None => {
                    let message = format!("the environment variable {name} is not set");
                    let help = "set it where Terrace is started, or use { file = \"…\" }";
                    return self.refuse(Finding::new(origin, message).help(help));
                }
            },
        };
        if value.is_empty() {
            return self.refuse(Finding::new(origin, "this secret is empty"));
        }
        Some(Secret::new(value, source.clone()))
    }
}

/// Why reading failed, in a person's words.
pub(crate) fn io_reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "permission denied; the user who runs Terrace must be able to read it".to_owned()
        }
        io::ErrorKind::FileTooLarge => "it is too large".to_owned(),
        io::ErrorKind::InvalidInput => "it is no regular file".to_owned(),
        _ => error.to_string(),
    }
}

impl<T: Scalar> Read for T {
    fn shape() -> Shape {
        Shape::Text(T::FORM)
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let text = match &node.value {
            Value::Text(text) => text,
            Value::Integer(number) => {
                let help = T::for_number(*number).map(|write| format!("write {write}"));
                return reader.unexpected(node, &Self::shape().noun(), help);
            }
            Value::Float(number) => {
                let help = T::for_fraction(*number).map(|write| format!("write {write}"));
                return reader.unexpected(node, &Self::shape().noun(), help);
            }
            Value::Moment(moment) => {
                let help = T::parse(moment).is_ok().then(|| format!("write {moment:?}"));
                return reader.unexpected(node, &Self::shape().noun(), help);
            }
            _ => return reader.unexpected(node, &Self::shape().noun(), None),
        };
        if let Some(help) = T::secret_help(text) {
            reader.hide(node);
            let message =
                format!("{} with a password in it: a secret is not written in this file", T::FORM.noun);
            return reader.refuse(Finding::new(node.origin, message).help(help));
        }
        match T::parse(text) {
            Ok(value) => Some(value),
            Err(wrong) => reader.refuse(wrong.finding::<T>(text, node.origin)),
        }
    }

    fn is_within(&self, low: &Self, high: &Self) -> bool {
        self.between(low, high)
    }
}

impl Wrong {
    fn finding<T: Scalar>(self, text: &str, origin: Origin) -> Finding {
        let shown: String = text.chars().take(60).collect();
        let message = match self.why.as_str() {
            "" => format!("{shown:?} is not {}", T::FORM.noun),
            why => format!("{shown:?} {why}"),
        };
        let finding = Finding::new(origin, message);
        match self.write {
            Some(write) => finding.help(format!("write {write:?}")),
            None if self.why.is_empty() && !T::FORM.example.is_empty() => {
                finding.help(format!("write it like {:?}", T::FORM.example))
            }
            None => finding,
        }
    }
}

impl Read for bool {
    fn shape() -> Shape {
        Shape::Boolean
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            Value::Boolean(flag) => Some(*flag),
            Value::Text(text) if text == "true" || text == "false" => {
                reader.unexpected(node, "`true` or `false`", Some("without the quotes".to_owned()))
            }
            _ => reader.unexpected(node, "`true` or `false`", None),
        }
    }
}

macro_rules! integers {
    ($($type:ty),*) => {$(
        impl Read for $type {
            fn shape() -> Shape {
                Shape::Integer
            }

            fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
                match &node.value {
                    Value::Integer(number) => match Self::try_from(*number) {
                        Ok(number) => Some(number),
                        Err(_) => reader.refuse(Finding::new(node.origin, "this number is out of range")),
                    },
                    Value::Text(text) if text.parse::<Self>().is_ok() => {
                        reader.unexpected(node, "a whole number", Some("without the quotes".to_owned()))
                    }
                    _ => reader.unexpected(node, "a whole number", None),
                }
            }

            fn is_within(&self, low: &Self, high: &Self) -> bool {
                (low..=high).contains(&self)
            }
        }
    )*};
}
integers!(u16, u32);

impl Read for f64 {
    fn shape() -> Shape {
        Shape::Number
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            // Whole numbers beyond 2^53 lose their last digits, which no threshold has.
            Value::Integer(number) => Some(*number as Self),
            Value::Float(number) if number.is_finite() => Some(*number),
            Value::Float(_) => {
                reader.refuse(Finding::new(node.origin, "this is no number that can be reached"))
            }
            Value::Text(text) if text.parse::<Self>().is_ok() => {
                reader.unexpected(node, "a number", Some("without the quotes".to_owned()))
            }
            _ => reader.unexpected(node, "a number", None),
        }
    }

    fn is_within(&self, low: &Self, high: &Self) -> bool {
        (low..=high).contains(&self)
    }
}

impl<T: Read> Read for Option<T> {
    fn shape() -> Shape {
        T::shape()
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        Some(Some(T::read(node, reader)?))
    }

    fn absent() -> Option<Self> {
        Some(None)
    }

    fn is_within(&self, low: &Self, high: &Self) -> bool {
        match (self, low, high) {
            (Some(value), Some(low), Some(high)) => value.is_within(low, high),
            _ => true,
        }
    }
}

/// A policy or another thing that `false` switches off.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Switch<T> {
    Off,
    On(T),
}

impl<T> Switch<T> {
    pub(crate) fn on(self) -> Option<T> {
        match self {
            Self::On(value) => Some(value),
            Self::Off => None,
        }
    }
}

impl<T: Read> Read for Switch<T> {
    fn shape() -> Shape {
        Shape::Either(vec![T::shape(), Shape::Off])
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            Value::Boolean(false) => Some(Self::Off),
            Value::Boolean(true) if !T::shape().fits(&node.value) => {
                reader.unexpected(node, &Self::shape().noun(), reader.how_to_switch_on())
            }
            _ => Some(Self::On(T::read(node, reader)?)),
        }
    }

    fn is_within(&self, low: &Self, high: &Self) -> bool {
        match (self, low, high) {
            (Self::On(value), Self::On(low), Self::On(high)) => value.is_within(low, high),
            _ => true,
        }
    }
}

/// A policy that `true` switches on as it is, `false` off, and a table says more about.
#[derive(Clone, Debug)]
pub(crate) enum Toggle<T> {
    Off,
    On(T),
}

impl<T> Toggle<T> {
    pub(crate) fn on(self) -> Option<T> {
        match self {
            Self::On(value) => Some(value),
            Self::Off => None,
        }
    }
}

impl<T: Read> Read for Toggle<T> {
    fn shape() -> Shape {
        Shape::Either(vec![Shape::Boolean, T::shape()])
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            Value::Boolean(false) => Some(Self::Off),
            Value::Boolean(true) => Some(Self::On(T::read(&built_in("{}"), reader)?)),
            Value::Table(_) => Some(Self::On(T::read(node, reader)?)),
            _ => reader.unexpected(node, "`true`, `false` or a table", None),
        }
    }
}

impl<T: Read> Read for Vec<T> {
    fn shape() -> Shape {
        Shape::List(Box::new(T::shape()))
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let Value::List(items) = &node.value else {
            return reader.unexpected(node, &format!("a list of {}", plural(&T::shape())), None);
        };
        let read: Vec<Option<T>> = items.iter().map(|item| T::read(item, reader)).collect();
        read.into_iter().collect()
    }

    fn absent() -> Option<Self> {
        Some(Self::new())
    }

    fn is_within(&self, low: &Self, high: &Self) -> bool {
        match (low.first(), high.first()) {
            (Some(low), Some(high)) => self.iter().all(|item| item.is_within(low, high)),
            _ => true,
        }
    }
}

fn plural(shape: &Shape) -> String {
    match shape {
        Shape::Text(form) => format!("texts, each {}", form.noun),
        shape => format!("items, each {}", shape.noun()),
    }
}

/// One, or a list of them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OneOrMany<T>(pub(crate) Vec<T>);

impl<T: Read> Read for OneOrMany<T> {
    fn shape() -> Shape {
        Shape::Either(vec![T::shape(), Shape::List(Box::new(T::shape()))])
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            Value::List(items) if items.is_empty() => {
                reader.refuse(Finding::new(node.origin, "this list is empty").help("leave the key out"))
            }
            Value::List(_) => Some(Self(Vec::read(node, reader)?)),
            _ => Some(Self(vec![T::read(node, reader)?])),
        }
    }
}

/// The values of a key that may be absent.
pub(crate) fn any<T>(values: Option<OneOrMany<T>>) -> Vec<T> {
    match values {
        Some(OneOrMany(values)) => values,
        None => Vec::new(),
    }
}

impl<T> OneOrMany<T> {
    /// The nodes of the single value or of each item of the list.
    pub(crate) fn nodes(node: Option<&Node>) -> &[Node] {
        match node {
            Some(Node { value: Value::List(items), .. }) => items,
            Some(node) => std::slice::from_ref(node),
            None => &[],
        }
    }
}

/// A table whose keys are the user's own names.
impl<T: Read> Read for BTreeMap<String, T> {
    fn shape() -> Shape {
        Shape::Map { key: "NAME", value: Box::new(T::shape()), whole: false }
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let Some(table) = node.table() else {
            return reader.unexpected(node, "a table", None);
        };
        let read = table.iter().map(|(name, entry)| {
            let value = reader.below(name, |reader| T::read(&entry.node, reader));
            value.map(|value| (name.clone(), value))
        });
        let read: Vec<Option<(String, T)>> = read.collect();
        read.into_iter().collect()
    }

    fn absent() -> Option<Self> {
        Some(Self::new())
    }
}

/// Defines a table of the file: a struct, how it is read, and what is known about each key.
///
/// ```text
/// table! {
///     /// What the table is for.
///     pub(crate) struct Health {
///         /// What the key does.
///         "every" every: Duration = "2s", within "10ms" to "1h";
///     }
/// }
/// ```
/// After the type: `= DEFAULT`, `within LOW to HIGH`, `with "OTHER KEY"` (without which it has no meaning) and
/// `example VALUE`, in that order, each if wanted and each as TOML. A key without default is required unless its
/// type says what absence means. `one of "A" "B"` before the braces: exactly one of these keys. `whole` before the braces:
/// a later such table replaces an earlier one, so each must be complete. `also T`: keys of the table `T` may stand here too.
macro_rules! table {
    (
        $(#[doc = $doc:literal])+
        $vis:vis struct $name:ident $(also $also:ident)? $(one of $($one:literal)+)? $(, $whole:ident)? {
            $(
                $(#[doc = $key_doc:literal])+
                $key:literal $field:ident: $type:ty
                    $(= $default:tt)? $(, within $low:tt to $high:tt)? $(, with $with:literal)?
                    $(, example $example:tt)?;
            )*
        }
    ) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug)]
        $vis struct $name {
            $($(#[doc = $key_doc])+ pub(crate) $field: $type,)*
        }

        impl $name {
            /// What is known about the table.
            pub(crate) const SPEC: &'static $crate::file::spec::Spec = &$crate::file::spec::Spec {
                doc: concat!($($doc, "\n"),+),
                keys: &[$($crate::file::spec::Key {
                    name: $key,
                    doc: concat!($($key_doc, "\n"),+),
                    shape: <$type as $crate::file::read::Read>::shape,
                    default: $crate::file::read::literal!($($default)?),
                    optional: || <$type as $crate::file::read::Read>::absent().is_some(),
                    range: $crate::file::read::literal!($($low, $high)?),
                    with: $crate::file::read::some!($($with)?),
                    example: $crate::file::read::literal!($($example)?),
                }),*],
                also: $crate::file::read::some!($($crate::file::spec::Also {
                    spec: $also::SPEC,
                    check: $also::check,
                })?),
                one_of: &[$($($one),+)?],
                whole: $crate::file::read::is_whole!($($whole)?),
            };

            /// Reads the keys that are known, whatever else stands in the table.
            pub(crate) fn fields(
                node: &$crate::file::tree::Node,
                reader: &mut $crate::file::read::Reader<'_>,
            ) -> Option<Self> {
                let mut keys = Self::SPEC.keys.iter();
                // All are read before any is asked for, so that every one can say what is wrong with it.
                $(let $field = match keys.next() {
                    Some(key) => reader.field::<$type>(node, key),
                    None => None,
                };)*
                Some(Self { $($field: $field?),* })
            }

            fn read_table(
                node: &$crate::file::tree::Node,
                reader: &mut $crate::file::read::Reader<'_>,
            ) -> Option<Self> {
                let is_one = reader.table(node, Self::SPEC)?;
                if let Some(also) = &Self::SPEC.also {
                    (also.check)(node, reader);
                }
                let read = Self::fields(node, reader)?;
                is_one.then_some(read)
            }
        }

        impl $crate::file::read::Read for $name {
            fn shape() -> $crate::file::spec::Shape {
                $crate::file::spec::Shape::Table(Self::SPEC)
            }

            fn read(
                node: &$crate::file::tree::Node,
                reader: &mut $crate::file::read::Reader<'_>,
            ) -> Option<Self> {
                if Self::SPEC.whole {
                    return reader.wholly(|reader| Self::read_table(node, reader));
                }
                Self::read_table(node, reader)
            }
        }
    };
}

/// `Some` of the TOML text of what stands in a definition; `None` of nothing.
macro_rules! literal {
    () => {
        None
    };
    ($value:tt) => {
        Some(stringify!($value))
    };
    ($low:tt, $high:tt) => {
        Some((stringify!($low), stringify!($high)))
    };
}

macro_rules! some {
    () => {
        None
    };
    ($value:expr) => {
        Some($value)
    };
}

macro_rules! is_whole {
    () => {
        false
    };
    (whole) => {
        true
    };
}

/// Defines an enum whose variants are words in the file.
macro_rules! choice {
    (
        $(#[doc = $doc:literal])+
        $vis:vis enum $name:ident { $($(#[doc = $word_doc:literal])+ $word:literal $variant:ident,)+ }
    ) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $vis enum $name { $($(#[doc = $word_doc])+ $variant,)+ }

        impl $name {
            const WORDS: &'static [$crate::file::spec::Choice] =
                &[$($crate::file::spec::Choice { name: $word, doc: concat!($($word_doc, "\n"),+) }),+];
        }

        impl $crate::file::read::Read for $name {
            fn shape() -> $crate::file::spec::Shape {
                $crate::file::spec::Shape::Choice(Self::WORDS)
            }

            fn read(
                node: &$crate::file::tree::Node,
                reader: &mut $crate::file::read::Reader<'_>,
            ) -> Option<Self> {
                match node.text() {
                    $(Some($word) => Some(Self::$variant),)+
                    _ => reader.not_a_choice(node, Self::WORDS),
                }
            }
        }
    };
}

pub(crate) use {choice, is_whole, literal, some, table};

impl Reader<'_> {
    /// Reports a word that is none of those allowed.
    pub(crate) fn not_a_choice<T>(
        &mut self,
        node: &Node,
        words: &'static [super::spec::Choice],
    ) -> Option<T> {
        let names = || words.iter().map(|word| word.name);
        let Some(text) = node.text() else {
            return self.unexpected(node, &Shape::Choice(words).noun(), None);
        };
        let help = match nearest(text, names()) {
            Some(meant) => format!("did you mean {meant:?}?"),
            None => format!("one of {}", listed(names(), "or").replace('`', "\"")),
        };
        let shown: String = text.chars().take(60).collect();
        self.refuse(Finding::new(node.origin, format!("{shown:?} is not known here")).help(help))
    }
}

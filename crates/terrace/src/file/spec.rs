//! The grammar as data: what tables there are, which keys they have, of which shape, with which default.
//!
//! Each table is defined once, in the module named after it, by the macro [`table!`](super::read::table). From that definition come
//! the reader, the built-in defaults ([`fill`]), `terrace schema` ([`super::schema`]) and `docs/reference.md`
//! ([`super::reference`]). Nothing about a key is said twice.

use super::read::Reader;
use super::tree::{Entry, Node, Table, Value, built_in};

/// A table: its purpose and its keys.
#[derive(Debug)]
pub(crate) struct Spec {
    /// What it is for: Markdown, as written above the definition.
    pub(crate) doc: &'static str,
    pub(crate) keys: &'static [Key],
    /// Keys of another table that may stand here too: policies in a service, say. They are merged later.
    pub(crate) also: Option<Also>,
    /// Keys of which exactly one must be there; empty: no such rule.
    pub(crate) one_of: &'static [&'static str],
    /// A table of alternatives (`{ env = … }` or `{ file = … }`): a later one replaces it whole.
    pub(crate) whole: bool,
}

/// Keys that a table accepts on behalf of another.
#[derive(Debug)]
pub(crate) struct Also {
    pub(crate) spec: &'static Spec,
    /// Reads those keys that are there, for the sake of what is wrong with them.
    pub(crate) check: fn(&Node, &mut Reader<'_>),
}

/// A key of a table.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    /// What it does: Markdown, as written above the definition.
    pub(crate) doc: &'static str,
    pub(crate) shape: fn() -> Shape,
    /// What holds when nobody writes it, as TOML.
    pub(crate) default: Option<&'static str>,
    /// Whether it may be absent without a default.
    pub(crate) optional: fn() -> bool,
    /// Smallest and largest value allowed, as TOML.
    pub(crate) range: Option<(&'static str, &'static str)>,
    /// The key without which this one has no meaning.
    pub(crate) with: Option<&'static str>,
    /// A value to show in the reference, as TOML.
    pub(crate) example: Option<&'static str>,
}

/// What a value may look like.
#[derive(Debug)]
pub(crate) enum Shape {
    /// `true` or `false`.
    Boolean,
    /// `false`, which switches off.
    Off,
    /// A whole number.
    Integer,
    /// Any number.
    Number,
    /// A text of a certain form.
    Text(Form),
    /// One of a few words.
    Choice(&'static [Choice]),
    List(Box<Shape>),
    /// A table whose keys are the user's names. `whole`: a later one replaces it instead of adding to it.
    Map {
        key: &'static str,
        value: Box<Shape>,
        whole: bool,
    },
    Table(&'static Spec),
    Either(Vec<Shape>),
}

/// The form of a text: a duration, say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form {
    /// With its article: `a duration`.
    pub(crate) noun: &'static str,
    pub(crate) example: &'static str,
    /// Regular expression (ECMA 262) for editors; empty: any text.
    pub(crate) pattern: &'static str,
}

/// A word that a key takes.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) name: &'static str,
    pub(crate) doc: &'static str,
}

impl Spec {
    /// The key of that name, of its own or accepted for another.
    pub(crate) fn key(&self, name: &str) -> Option<&'static Key> {
        let own = self.keys.iter().find(|key| key.name == name);
        match (own, &self.also) {
            (Some(key), _) => Some(key),
            (None, Some(also)) => also.spec.key(name),
            (None, None) => None,
        }
    }

    /// All keys, its own first.
    pub(crate) fn all_keys(&self) -> impl Iterator<Item = &'static Key> {
        let also: &'static [Key] = match &self.also {
            Some(also) => also.spec.keys,
            None => &[],
        };
        self.keys.iter().chain(also)
    }
}

impl Shape {
    /// With its article, for the sentence "expected …".
    pub(crate) fn noun(&self) -> String {
        match self {
            Self::Boolean => "`true` or `false`".to_owned(),
            Self::Off => "`false`".to_owned(),
            Self::Integer => "a whole number".to_owned(),
            Self::Number => "a number".to_owned(),
            Self::Text(form) if form.example.is_empty() => form.noun.to_owned(),
            Self::Text(form) => format!("{} like {:?}", form.noun, form.example),
            Self::Choice(choices) => {
                let words: Vec<String> = choices.iter().map(|choice| format!("{:?}", choice.name)).collect();
                words.join(" or ")
            }
            Self::List(_) => "a list".to_owned(),
            Self::Map { .. } | Self::Table(_) => "a table".to_owned(),
            Self::Either(shapes) => shapes.iter().map(Self::noun).collect::<Vec<_>>().join(" or "),
        }
    }

    /// Whether a value of this kind can have this shape.
    pub(crate) fn fits(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Boolean, Value::Boolean(_)) | (Self::Off, Value::Boolean(false)) => true,
            (Self::Integer, Value::Integer(_)) => true,
            (Self::Number, Value::Integer(_) | Value::Float(_)) => true,
            (Self::Text(_) | Self::Choice(_), Value::Text(_)) => true,
            (Self::List(_), Value::List(_)) => true,
            (Self::Map { .. } | Self::Table(_), Value::Table(_)) => true,
            (Self::Either(shapes), value) => shapes.iter().any(|shape| shape.fits(value)),
            _ => false,
        }
    }

    /// The shape that a value of this kind has, alternatives decided.
    pub(crate) fn decide(&self, value: &Value) -> Option<&Self> {
        match self {
            Self::Either(shapes) => shapes.iter().find(|shape| shape.fits(value))?.decide(value),
            shape if shape.fits(value) => Some(shape),
            _ => None,
        }
    }
}

/// Lays the built-in defaults under `node`: every key that nobody wrote appears with its default.
pub(crate) fn fill(node: &mut Node, shape: &Shape) {
    match (shape.decide(&node.value), &mut node.value) {
        (Some(Shape::Table(spec)), Value::Table(table)) => fill_table(table, spec),
        (Some(Shape::Map { value, .. }), Value::Table(table)) => {
            table.iter_mut().for_each(|(_, entry)| fill(&mut entry.node, value));
        }
        (Some(Shape::List(item)), Value::List(items)) => items.iter_mut().for_each(|node| fill(node, item)),
        _ => {}
    }
}

/// [`fill`] for a table; keys that it accepts on behalf of another are left alone.
pub(crate) fn fill_table(table: &mut Table, spec: &Spec) {
    for key in spec.keys {
        let applies = key.with.is_none_or(|with| table.contains_key(with));
        if let (Some(default), true, false) = (key.default, applies, table.contains_key(key.name)) {
            let node = built_in(default);
            table.insert(key.name.to_owned(), Entry { key: node.origin, node });
        }
        if let Some(entry) = table.get_mut(key.name) {
            fill(&mut entry.node, &(key.shape)());
        }
    }
}

/// Lays `over` over `base`, key by key as the grammar says: tables are merged, all else is replaced.
pub(crate) fn lay_over(base: &mut Node, over: Node, shape: &Shape) {
    let merge = match base.table() {
        Some(_) => shape.decide(&over.value).and_then(Merge::of),
        None => None,
    };
    match (merge, &mut base.value, over.value) {
        (Some(merge), Value::Table(base), Value::Table(over)) => {
            for (name, entry) in over {
                merge.entry(base, name, entry);
            }
        }
        (_, _, value) => *base = Node { value, origin: over.origin, layer: over.layer },
    }
}

/// How the entries of two tables come together.
enum Merge<'s> {
    Keys(&'static Spec),
    Names(&'s Shape),
}

impl<'s> Merge<'s> {
    fn of(shape: &'s Shape) -> Option<Self> {
        match shape {
            Shape::Table(spec) if !spec.whole => Some(Self::Keys(spec)),
            Shape::Map { value, whole: false, .. } => Some(Self::Names(value)),
            _ => None,
        }
    }

    fn entry(&self, base: &mut Table, name: String, over: Entry) {
        let Some(under) = base.get_mut(&name) else {
            base.insert(name, over);
            return;
        };
        match self {
            Self::Names(shape) => lay_over(&mut under.node, over.node, shape),
            Self::Keys(spec) => match spec.key(&name) {
                Some(key) => lay_over(&mut under.node, over.node, &(key.shape)()),
                None => under.node = over.node,
            },
        }
        under.key = over.key;
    }
}

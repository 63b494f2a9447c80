//! JSON (RFC 8259), read strictly and within bounds, without building a tree of it.
//!
//! What stands between a client and a service must not read a text differently than the service will. So what
//! readers are known to differ in is refused, though the grammar lets it pass: a name that stands twice in an object, half of
//! a surrogate pair, an exponent of a thousand million. The text stays where it is; beside it stands a list of its values in
//! order, some twenty bytes each.

mod number;
mod read;
mod value;

use std::borrow::Cow;
use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

pub use number::Decimal;
pub(crate) use value::{DOCUMENT, Data, Key, Place, Value, pointer_steps, push_step};

/// What a text may have at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JsonBounds {
    /// Arrays and objects within one another.
    pub depth_max: u16,
    /// Values, names of members included.
    pub values_max: u32,
}

impl Default for JsonBounds {
    fn default() -> Self {
        Self { depth_max: 64, values_max: 1_000_000 }
    }
}

/// Why a text is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// It is not JSON, or what readers differ in.
    #[error("{what} at line {line}, column {column}")]
    Malformed {
        /// What is wrong.
        what: &'static str,
        /// The line, from 1.
        line: u32,
        /// The column, in characters, from 1.
        column: u32,
    },
    /// It goes over a bound.
    #[error("{what}, of which at most {max} are read")]
    TooMuch {
        /// Of what there is too much.
        what: &'static str,
        /// The bound.
        max: u32,
    },
}

/// Appends `text` as a string of JSON.
pub fn push_quoted(out: &mut String, text: &str) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            letter if letter.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(letter))),
            letter => out.push(letter),
        }
    }
    out.push('"');
}

/// A text of JSON and its values.
#[derive(Debug)]
pub struct Json<'a> {
    text: &'a str,
    /// All values and names, each container before what is in it.
    nodes: Vec<Node>,
    /// The names of each object in order, by their places among the nodes.
    names: Vec<u32>,
}

/// The kinds of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `false`
    False,
    /// `true`
    True,
    /// A number.
    Number,
    /// A string, or a member's name.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    kind: Kind,
    /// Whether a string has escapes.
    is_escaped: bool,
    /// Where it begins in the text; of a string, behind its quote.
    at: u32,
    /// Bytes of a scalar, or how many items or members there are.
    count: u32,
    /// The place of the next value that is not part of it.
    next: u32,
    /// Of an object: where its names in order begin.
    names_at: u32,
}

/// A value in a text.
#[derive(Debug, Clone, Copy)]
pub struct Item<'j> {
    json: &'j Json<'j>,
    index: u32,
}

impl<'a> Json<'a> {
    /// Reads `text`.
    ///
    /// # Errors
    /// [`JsonError`], the sender's fault.
    pub fn read(text: &'a [u8], bounds: &JsonBounds) -> Result<Self, JsonError> {
        read::read(text, bounds)
    }

    /// The value that the text is.
    #[must_use]
    pub fn root(&self) -> Item<'_> {
        Item { json: self, index: 0 }
    }
}

impl<'j> Item<'j> {
    fn node(&self) -> &'j Node {
        &self.json.nodes[self.index as usize]
    }

    fn at(&self, index: u32) -> Self {
        Self { json: self.json, index }
    }

    /// Of which kind it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.node().kind
    }

    /// How many items or members it has; of a scalar 0.
    #[must_use]
    pub fn len(&self) -> usize {
        match self.kind() {
            Kind::Array | Kind::Object => self.node().count as usize,
            _ => 0,
        }
    }

    /// Whether it has no items and no members.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How a scalar is written, a string without its quotes; of an array or object nothing.
    #[must_use]
    pub fn literal(&self) -> &'j str {
        let node = self.node();
        if matches!(node.kind, Kind::Array | Kind::Object) {
            return "";
        }
        &self.json.text[node.at as usize..(node.at + node.count) as usize]
    }

    /// The text of a string; `None` for anything else.
    #[must_use]
    pub fn text(&self) -> Option<Cow<'j, str>> {
        (self.kind() == Kind::String).then(|| self.decoded())
    }

    /// The text of a string or name.
    pub(crate) fn decoded(&self) -> Cow<'j, str> {
        match self.node().is_escaped {
            true => Cow::Owned(read::unescape(self.literal())),
            false => Cow::Borrowed(self.literal()),
        }
    }

    /// The number that it is.
    #[must_use]
    pub fn number(&self) -> Option<Decimal<'j>> {
        (self.kind() == Kind::Number).then(|| Decimal::of(self.literal()))
    }

    /// The items of an array, in order.
    pub fn items(&self) -> impl Iterator<Item = Self> + use<'j> {
        let (count, first) = match self.kind() {
            Kind::Array => (self.len(), self.index + 1),
            _ => (0, 0),
        };
        let start = *self;
        let mut next = first;
        std::iter::repeat_with(move || {
            let item = start.at(next);
            next = item.node().next;
            item
        })
        .take(count)
    }

    /// The members of an object, as they stand: names, which are strings, and values.
    pub fn members(&self) -> impl Iterator<Item = (Self, Self)> + use<'j> {
        let (count, first) = match self.kind() {
            Kind::Object => (self.len(), self.index + 1),
            _ => (0, 0),
        };
        let start = *self;
        let mut next = first;
        std::iter::repeat_with(move || {
            let (name, value) = (start.at(next), start.at(next + 1));
            next = value.node().next;
            (name, value)
        })
        .take(count)
    }

    /// The member of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Self> {
        let names = self.names();
        let found = names.binary_search_by(|at| self.at(*at).compare_name(name)).ok()?;
        Some(self.at(names[found] + 1))
    }

    fn names(&self) -> &'j [u32] {
        let node = self.node();
        match node.kind {
            Kind::Object => &self.json.names[node.names_at as usize..(node.names_at + node.count) as usize],
            _ => &[],
        }
    }

    fn compare_name(&self, name: &str) -> Ordering {
        match self.node().is_escaped {
            true => (*self.decoded()).cmp(name),
            false => self.literal().cmp(name),
        }
    }

    /// How many values it consists of, itself and names included: what comparing it costs.
    #[must_use]
    pub fn weight(&self) -> u32 {
        self.node().next - self.index
    }
}

/// Values are the same whatever letters they are written with: numbers by value, objects whatever the order of their members.
impl PartialEq for Item<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self.kind(), other.kind()) {
            (Kind::Number, Kind::Number) => self.number() == other.number(),
            (Kind::String, Kind::String) => self.decoded() == other.decoded(),
            (Kind::Array, Kind::Array) => self.len() == other.len() && self.items().eq(other.items()),
            (Kind::Object, Kind::Object) => {
                let are_equal = |(one, another): (&u32, &u32)| {
                    self.at(*one).decoded() == other.at(*another).decoded()
                        && self.at(one + 1) == other.at(another + 1)
                };
                self.len() == other.len() && self.names().iter().zip(other.names()).all(are_equal)
            }
            (one, another) => one == another,
        }
    }
}

impl Eq for Item<'_> {}

impl Hash for Item<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u8(self.kind() as u8);
        match self.kind() {
            Kind::Number => Decimal::of(self.literal()).hash(state),
            Kind::String => self.decoded().hash(state),
            Kind::Array => {
                state.write_usize(self.len());
                self.items().for_each(|item| item.hash(state));
            }
            Kind::Object => {
                state.write_usize(self.len());
                for name in self.names() {
                    self.at(*name).decoded().hash(state);
                    self.at(*name + 1).hash(state);
                }
            }
            Kind::Null | Kind::False | Kind::True => {}
        }
    }
}

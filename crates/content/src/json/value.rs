//! Documents that are read once, when a file is loaded: schemas and descriptions of APIs, as a tree that knows the place
//! of each of its values, for whoever has to mend them.

use std::fmt;

use super::{Item, Json, JsonBounds, JsonError, Kind};

/// Where something stands in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Place {
    /// From 1; 0 where it is not known.
    pub(crate) line: u32,
    /// In characters, from 1.
    pub(crate) column: u32,
}

/// A value, and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Value {
    pub(crate) data: Data,
    pub(crate) place: Place,
}

/// A member's name, and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) name: Box<str>,
    pub(crate) place: Place,
}

#[derive(Debug, Clone)]
pub(crate) enum Data {
    Null,
    Bool(bool),
    /// As it is written in JSON.
    Number(Box<str>),
    String(Box<str>),
    Array(Vec<Value>),
    /// No name stands twice.
    Object(Vec<(Key, Value)>),
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "line {}, column {}", self.line, self.column)
    }
}

/// What a document may have at most.
pub(crate) const DOCUMENT: JsonBounds = JsonBounds { depth_max: 128, values_max: 1_000_000 };

impl Value {
    /// Reads a document of JSON.
    pub(crate) fn read(text: &str) -> Result<Self, JsonError> {
        let json = Json::read(text.as_bytes(), &DOCUMENT)?;
        let lines: Vec<usize> =
            std::iter::once(0).chain(text.match_indices('\n').map(|(end, _)| end + 1)).collect();
        Ok(Tree { text, lines }.of(json.root()))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        self.members().find(|(key, _)| &*key.name == name).map(|(_, value)| value)
    }

    /// The members of an object; of anything else there are none.
    pub(crate) fn members(&self) -> impl Iterator<Item = (&Key, &Self)> {
        let members = match &self.data {
            Data::Object(members) => &members[..],
            _ => &[],
        };
        members.iter().map(|(key, value)| (key, value))
    }

    /// The items of an array; of anything else there are none.
    pub(crate) fn items(&self) -> &[Self] {
        match &self.data {
            Data::Array(items) => items,
            _ => &[],
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match &self.data {
            Data::String(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn truth(&self) -> Option<bool> {
        match &self.data {
            Data::Bool(truth) => Some(*truth),
            _ => None,
        }
    }

    pub(crate) fn is_object(&self) -> bool {
        matches!(self.data, Data::Object(_))
    }

    /// The value at a JSON Pointer (RFC 6901).
    pub(crate) fn at(&self, pointer: &str) -> Option<&Self> {
        pointer_steps(pointer).try_fold(self, |value, step| value.step(&step))
    }

    pub(crate) fn step(&self, step: &str) -> Option<&Self> {
        match &self.data {
            Data::Object(_) => self.get(step),
            Data::Array(items) => items.get(step.parse::<usize>().ok()?),
            _ => None,
        }
    }

    /// Whether `item` is this value.
    pub(crate) fn is(&self, item: &Item<'_>) -> bool {
        match &self.data {
            Data::Null => item.kind() == Kind::Null,
            Data::Bool(truth) => item.kind() == if *truth { Kind::True } else { Kind::False },
            Data::Number(literal) => item.number() == Some(super::Decimal::of(literal)),
            Data::String(text) => item.text().is_some_and(|other| *other == **text),
            Data::Array(items) => {
                item.kind() == Kind::Array
                    && item.len() == items.len()
                    && items.iter().zip(item.items()).all(|(one, other)| one.is(&other))
            }
            Data::Object(members) => {
                let has =
                    |(key, value): &(Key, Self)| item.get(&key.name).is_some_and(|other| value.is(&other));
                item.kind() == Kind::Object && item.len() == members.len() && members.iter().all(has)
            }
        }
    }
}

/// The steps of a JSON Pointer, with `~1` and `~0` undone.
pub(crate) fn pointer_steps(pointer: &str) -> impl Iterator<Item = String> {
    pointer.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~"))
}

/// Appends a step to a JSON Pointer.
pub(crate) fn push_step(pointer: &mut String, step: &str) {
    pointer.push('/');
    for letter in step.chars() {
        match letter {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            letter => pointer.push(letter),
        }
    }
}

struct Tree<'a> {
    text: &'a str,
    /// Where each line begins.
    lines: Vec<usize>,
}

impl Tree<'_> {
    fn of(&self, item: Item<'_>) -> Value {
        let data = match item.kind() {
            Kind::Null => Data::Null,
            Kind::False => Data::Bool(false),
            Kind::True => Data::Bool(true),
            Kind::Number => Data::Number(item.literal().into()),
            Kind::String => Data::String(item.decoded().into()),
            Kind::Array => Data::Array(item.items().map(|item| self.of(item)).collect()),
            Kind::Object => Data::Object(self.members(item)),
        };
        Value { data, place: self.place(item) }
    }

    fn members(&self, item: Item<'_>) -> Vec<(Key, Value)> {
        let member = |(name, value): (Item<'_>, Item<'_>)| {
            (Key { name: name.decoded().into(), place: self.place(name) }, self.of(value))
        };
        item.members().map(member).collect()
    }

    fn place(&self, item: Item<'_>) -> Place {
        // A string's place is behind its quote.
        let at = item.node().at as usize - usize::from(item.kind() == Kind::String);
        let line = self.lines.partition_point(|start| *start <= at);
        let column = self.text[self.lines[line - 1]..at].chars().count() + 1;
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Place { line: count(line), column: count(column) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_knows_its_place() {
        let document = Value::read("{\n  \"é\": [1,\n \"x\"]\n}").expect("JSON");
        let list = document.get("é").expect("é");
        assert_eq!(list.place, Place { line: 2, column: 8 });
        assert_eq!(list.items()[1].place.to_string(), "line 3, column 2");
        assert_eq!(document.members().next().expect("a member").0.place, Place { line: 2, column: 3 });
    }

    #[test]
    fn rfc6901_pointers_lead_to_values() {
        let document = Value::read(r#"{"a/b":[{"~":1}],"":{"x":2}}"#).expect("JSON");
        assert!(document.at("/a~1b/0/~0").is_some());
        assert!(document.at("//x").is_some());
        assert!(document.at("").is_some_and(Value::is_object));
        assert!(document.at("/a~1b/1").is_none() && document.at("/a~1b/x").is_none());
        let mut pointer = String::new();
        push_step(&mut pointer, "a/b~c");
        assert_eq!(pointer, "/a~1b~0c");
    }

    #[test]
    fn a_value_is_the_same_in_a_document_and_in_a_text() {
        let same = |document: &str, text: &str| {
            let json = Json::read(text.as_bytes(), &JsonBounds::default()).expect("JSON");
            Value::read(document).expect("JSON").is(&json.root())
        };
        assert!(same(r#"{"a":[1,null,"x"],"b":{}}"#, r#"{"b":{},"a":[1.0,null,"\u0078"]}"#));
        assert!(!same(r#"{"a":1}"#, r#"{"a":1,"b":2}"#) && !same("[1]", "[2]") && !same("0", "false"));
    }
}

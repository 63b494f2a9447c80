//! JSON from strangers: objects in which each name stands once, within bounds of depth and size.
//!
//! RFC 8259 leaves open what an object with a name twice means, so that two readers may see two users in one token. RFC 7515
//! section 4 and RFC 7519 section 4 leave readers the choice to refuse such; we take it. A document is read once, into values, and
//! each value costs one of a bounded number, so that a small text cannot become a large tree.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// How much of it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Values within values; an object of plain values has depth 1.
    pub(crate) depth_max: usize,
    /// Values in all.
    pub(crate) values_max: usize,
}

/// The object in `text`; nothing for what is none, is not UTF-8, names something twice, or goes beyond the bounds.
pub(crate) fn object(text: &[u8], bounds: Bounds) -> Option<Map<String, Value>> {
    let mut left = bounds.values_max;
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = Strict { depth: bounds.depth_max, left: &mut left }.deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    match value {
        Value::Object(object) => Some(object),
        _ => None,
    }
}

/// Reads one value, at most `depth` further levels of lists and objects.
struct Strict<'b> {
    depth: usize,
    left: &'b mut usize,
}

impl Strict<'_> {
    /// What is in a list or object: a level less.
    fn inner<E: serde::de::Error>(&mut self) -> Result<Strict<'_>, E> {
        match self.depth.checked_sub(1) {
            Some(depth) => Ok(Strict { depth, left: self.left }),
            None => Err(E::custom("too deep")),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        match self.left.checked_sub(1) {
            Some(left) => *self.left = left,
            None => return Err(D::Error::custom("too many values")),
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut access: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = access.next_element_seed(self.inner()?)? {
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut access: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = access.next_key::<String>()? {
            let value = access.next_value_seed(self.inner()?)?;
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("a name stands twice"));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { depth_max: 3, values_max: 8 };

    fn read(text: &str) -> Option<Map<String, Value>> {
        object(text.as_bytes(), BOUNDS)
    }

    #[test]
    fn rfc7519_4_a_name_stands_once_however_it_is_written() {
        assert!(read(r#"{"alg":"RS256","kid":"a"}"#).is_some());
        for twice in [
            r#"{"alg":"RS256","alg":"none"}"#,
            r#"{"alg":"RS256","\u0061lg":"none"}"#,
            r#"{"a":{"b":1,"b":1}}"#,
            r#"{"a":[{"b":1,"b":2}]}"#,
        ] {
            assert_eq!(read(twice), None, "{twice}");
        }
    }

    #[test]
    fn what_is_no_object_and_nothing_else_is_not_read() {
        for text in [
            "",
            "[]",
            "1",
            "\"{}\"",
            "{}x",
            "{} {}",
            "{",
            "{\"a\":}",
            "{'a':1}",
            "\u{feff}{}",
            "{\"a\":1,}",
            "null",
        ] {
            assert_eq!(read(text), None, "{text:?}");
        }
        assert_eq!(object(b"{\"a\":\"\xff\"}", BOUNDS), None);
        assert_eq!(read(r#"{"a":"\ud800"}"#), None, "half a pair");
        assert_eq!(read(r#"{"a":1e999}"#), None, "a number beyond numbers");
        assert!(read(" {\n} ").is_some());
    }

    #[test]
    fn depth_and_number_of_values_are_bounded() {
        assert!(read(r#"{"a":{"b":[1]}}"#).is_some());
        assert_eq!(read(r#"{"a":{"b":[[1]]}}"#), None);
        assert!(read(r#"{"a":[1,2,3,4,5,6]}"#).is_some());
        assert_eq!(read(r#"{"a":[1,2,3,4,5,6,7]}"#), None);
        let bomb = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(read(&format!("{{\"a\":{bomb}}}")), None);
    }
}

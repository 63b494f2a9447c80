//! OTLP's JSON, turned into protobuf while it is read: names are looked up in a table of field numbers, numbers may come as
//! texts, ids are hexadecimal. No tree of values is built on the way, so a body costs no more memory than its own size.
//! How deep it may go is bounded by the table, and where the table is a ring by the parser (128).

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::schema::{Field, Shape, Table, request};
use crate::wire::{Message, to_zigzag};
use crate::{DecodeError, Signal, base64};

pub(crate) fn transcode(signal: Signal, body: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut message = Message::default();
    let mut json = serde_json::Deserializer::from_slice(body);
    let read = Object { table: request(signal), message: &mut message }.deserialize(&mut json);
    let wrong = |error: serde_json::Error| DecodeError::Json { line: error.line(), column: error.column() };
    read.and_then(|()| json.end()).map_err(wrong)?;
    Ok(message.0)
}

/// An object whose fields are added to a message.
struct Object<'a> {
    table: &'static Table,
    message: &'a mut Message,
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<Cow<'_, str>>()? {
            match self.table.find(&name) {
                Some(field) => {
                    map.next_value_seed(Filled { field, message: self.message, is_inner: false })?
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// A value, or a list of them, that is added to a message as one of its fields. `null` adds nothing.
struct Filled<'a> {
    field: &'static Field,
    message: &'a mut Message,
    /// Within a list already; lists of lists there are none.
    is_inner: bool,
}

impl<'de> DeserializeSeed<'de> for Filled<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Filled<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a value of the field {}", self.field.name)
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        match self.field.shape {
            Shape::Bool => self.message.varint(self.field.number, u64::from(value)),
            _ => return Err(self.wrong()),
        }
        Ok(())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        match (self.field.shape, i64::try_from(value)) {
            (Shape::Varint, _) => self.message.varint(self.field.number, value),
            (Shape::Fixed64, _) => self.message.fixed64(self.field.number, value),
            (Shape::Double, _) => self.message.double(self.field.number, value as f64),
            (Shape::Zigzag, Ok(value)) => self.message.varint(self.field.number, to_zigzag(value)),
            _ => return Err(self.wrong()),
        }
        Ok(())
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<(), E> {
        match self.field.shape {
            Shape::Varint => self.message.varint(self.field.number, value as u64),
            Shape::Fixed64 => self.message.fixed64(self.field.number, value as u64),
            Shape::Double => self.message.double(self.field.number, value as f64),
            Shape::Zigzag => self.message.varint(self.field.number, to_zigzag(value)),
            _ => return Err(self.wrong()),
        }
        Ok(())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<(), E> {
        match self.field.shape {
            Shape::Double => self.message.double(self.field.number, value),
            // 1e3 is a whole number too.
            _ if value.fract() == 0.0 && value.abs() < 9e15 => return self.visit_i64(value as i64),
            _ => return Err(self.wrong()),
        }
        Ok(())
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<(), E> {
        let bytes = match self.field.shape {
            Shape::Text => Cow::Borrowed(value.as_bytes()),
            Shape::Hex => Cow::Owned(hex(value).ok_or_else(|| self.wrong())?),
            Shape::Bytes => Cow::Owned(base64::decode(value).ok_or_else(|| self.wrong())?),
            _ => return self.number(value),
        };
        self.message.bytes(self.field.number, &bytes);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        if self.is_inner {
            return Err(self.wrong());
        }
        loop {
            let next = Filled { field: self.field, message: self.message, is_inner: true };
            if list.next_element_seed(next)?.is_none() {
                return Ok(());
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let Shape::Message(table) = self.field.shape else { return Err(self.wrong()) };
        let mut message = Message::default();
        Object { table, message: &mut message }.visit_map(map)?;
        self.message.bytes(self.field.number, &message.0);
        Ok(())
    }
}

impl Filled<'_> {
    /// A number that is written as a text, as those of 64 bits are.
    fn number<E: de::Error>(self, text: &str) -> Result<(), E> {
        if let Ok(value) = text.parse::<u64>() {
            return self.visit_u64(value);
        }
        if let Ok(value) = text.parse::<i64>() {
            return self.visit_i64(value);
        }
        // Rust reads `NaN`, `Infinity` and `-Infinity` as protobuf writes them.
        match (self.field.shape, text.parse::<f64>()) {
            (Shape::Double, Ok(value)) => self.visit_f64(value),
            _ => Err(self.wrong()),
        }
    }

    fn wrong<E: de::Error>(&self) -> E {
        E::custom(format_args!("no value of the field {}", self.field.name))
    }
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some((digit(pair[0])? << 4 | digit(*pair.get(1)?)?) as u8)).collect()
}

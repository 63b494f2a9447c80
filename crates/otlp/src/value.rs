//! Attributes: names with values of any shape, of which we keep plain ones. Lists and maps become JSON text, bytes base 64,
//! as OpenTelemetry has it for systems that know only texts ("Representing non-string values", common/README).

use std::borrow::Cow;
use std::sync::Arc;

use terrace_instruments::{Value, push_json_string, push_json_value};

use crate::wire::{Fields, Message, Raw, text};
use crate::{ATTRIBUTES_MAX, DEPTH_MAX, DecodeError, NAME_BYTES_MAX, TEXT_BYTES_MAX, base64};

/// Names and values.
pub type Attributes = Vec<(Cow<'static, str>, Value)>;

/// Who sent something: `service.name` and `service.instance.id` of its resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The service; `unknown_service` when it does not say.
    pub service: Arc<str>,
    /// The instance; empty when it does not say.
    pub instance: Arc<str>,
}

impl Default for Origin {
    fn default() -> Self {
        Self { service: Arc::from("unknown_service"), instance: Arc::from("") }
    }
}

/// Reads a Resource (resource/v1 `Resource`: 1 attributes).
pub(crate) fn read_origin(resource: &[u8]) -> Result<Origin, DecodeError> {
    let mut origin = Origin::default();
    for field in Fields::new(resource) {
        let (1, Raw::Bytes(pair)) = field? else { continue };
        let Some((name, Value::Text(value))) = read_pair(pair)? else { continue };
        let value: &str = &text(value.as_bytes(), NAME_BYTES_MAX);
        match &*name {
            "service.name" if !value.is_empty() => origin.service = Arc::from(value),
            "service.instance.id" => origin.instance = Arc::from(value),
            _ => {}
        }
    }
    Ok(origin)
}

/// Adds a KeyValue (common/v1 `KeyValue`: 1 key, 2 value), unless there are enough of them or it has no value.
pub(crate) fn push_pair(attributes: &mut Attributes, pair: &[u8]) -> Result<(), DecodeError> {
    if attributes.len() < ATTRIBUTES_MAX {
        attributes.extend(read_pair(pair)?);
    }
    Ok(())
}

fn read_pair(pair: &[u8]) -> Result<Option<(Cow<'static, str>, Value)>, DecodeError> {
    let (mut name, mut value) = (Cow::Borrowed(""), None);
    for field in Fields::new(pair) {
        match field? {
            (1, Raw::Bytes(bytes)) => name = text(bytes, NAME_BYTES_MAX),
            (2, Raw::Bytes(bytes)) => value = read_value(bytes)?,
            _ => {}
        }
    }
    Ok(value.filter(|_| !name.is_empty()).map(|value| (Cow::Owned(name.into_owned()), value)))
}

/// Reads an AnyValue (common/v1 `AnyValue`); none when it holds nothing.
pub(crate) fn read_value(any: &[u8]) -> Result<Option<Value>, DecodeError> {
    let mut value = None;
    for field in Fields::new(any) {
        let found = match field? {
            (1, Raw::Bytes(bytes)) => Value::Text(Cow::Owned(text(bytes, TEXT_BYTES_MAX).into_owned())),
            (2, Raw::Varint(bool)) => Value::Bool(bool != 0),
            (3, Raw::Varint(int)) => Value::Int(int as i64),
            (4, Raw::Fixed64(bits)) => Value::Float(f64::from_bits(bits)),
            // What is in hand, never the whole again: a sender could have it looked at a million times.
            (5, Raw::Bytes(list)) => json_text(list, push_list)?,
            (6, Raw::Bytes(map)) => json_text(map, push_map)?,
            (7, Raw::Bytes(bytes)) => {
                let cut = &bytes[..bytes.len().min(TEXT_BYTES_MAX * 3 / 4)];
                Value::Text(Cow::Owned(base64::encode(cut)))
            }
            _ => continue,
        };
        value = Some(found);
    }
    Ok(value)
}

/// Writes a list or a map, at a depth, as JSON text.
type Push = fn(&mut Vec<u8>, &[u8], usize) -> Result<(), DecodeError>;

/// The JSON that `push` makes of a list or a map.
fn json_text(bytes: &[u8], push: Push) -> Result<Value, DecodeError> {
    let mut json = Vec::new();
    push(&mut json, bytes, 0)?;
    Ok(Value::Text(Cow::Owned(text(&json, TEXT_BYTES_MAX).into_owned())))
}

/// An AnyValue as JSON text. What is nested too deeply is `null`, what comes after enough text is left out.
fn push_json(json: &mut Vec<u8>, any: &[u8], depth: usize) -> Result<(), DecodeError> {
    if depth > DEPTH_MAX {
        json.extend_from_slice(b"null");
        return Ok(());
    }
    for field in Fields::new(any) {
        match field? {
            (5, Raw::Bytes(list)) => return push_list(json, list, depth),
            (6, Raw::Bytes(map)) => return push_map(json, map, depth),
            _ => {}
        }
    }
    match read_value(any)? {
        Some(value) => push_json_value(json, &value),
        None => json.extend_from_slice(b"null"),
    }
    Ok(())
}

/// ArrayValue: 1 values.
fn push_list(json: &mut Vec<u8>, list: &[u8], depth: usize) -> Result<(), DecodeError> {
    json.push(b'[');
    let mut is_first = true;
    for field in Fields::new(list) {
        let (1, Raw::Bytes(any)) = field? else { continue };
        if json.len() > TEXT_BYTES_MAX {
            break;
        }
        if !std::mem::take(&mut is_first) {
            json.push(b',');
        }
        push_json(json, any, depth + 1)?;
    }
    json.push(b']');
    Ok(())
}

/// KeyValueList: 1 values.
fn push_map(json: &mut Vec<u8>, map: &[u8], depth: usize) -> Result<(), DecodeError> {
    json.push(b'{');
    let mut is_first = true;
    for field in Fields::new(map) {
        let (1, Raw::Bytes(pair)) = field? else { continue };
        if json.len() > TEXT_BYTES_MAX {
            break;
        }
        if !std::mem::take(&mut is_first) {
            json.push(b',');
        }
        let (mut name, mut any): (Cow<'_, str>, &[u8]) = (Cow::Borrowed(""), &[]);
        for field in Fields::new(pair) {
            match field? {
                (1, Raw::Bytes(bytes)) => name = text(bytes, NAME_BYTES_MAX),
                (2, Raw::Bytes(bytes)) => any = bytes,
                _ => {}
            }
        }
        push_json_string(json, &name);
        json.push(b':');
        push_json(json, any, depth + 1)?;
    }
    json.push(b'}');
    Ok(())
}

/// Writes a Resource as field 1.
pub(crate) fn write_resource(message: &mut Message, origin: &Origin, others: &[(&str, &str)]) {
    message.message(1, |resource| {
        write_text(resource, 1, "service.name", &origin.service);
        if !origin.instance.is_empty() {
            write_text(resource, 1, "service.instance.id", &origin.instance);
        }
        for (name, value) in others {
            write_text(resource, 1, name, value);
        }
    });
}

fn write_text(message: &mut Message, number: u32, name: &str, value: &str) {
    message.message(number, |pair| {
        pair.text(1, name);
        pair.message(2, |any| any.bytes(1, value.as_bytes()));
    });
}

/// Writes attributes as KeyValues in field `number`.
pub(crate) fn write_attributes(
    message: &mut Message,
    number: u32,
    attributes: &[(Cow<'static, str>, Value)],
) {
    for (name, value) in attributes {
        message.message(number, |pair| {
            pair.text(1, name);
            pair.message(2, |any| write_value(any, value));
        });
    }
}

/// Writes the one field of an AnyValue. What is larger than its signed number becomes a text.
pub(crate) fn write_value(any: &mut Message, value: &Value) {
    match value {
        Value::Text(text) => any.bytes(1, text.as_bytes()),
        Value::Bool(value) => any.varint(2, u64::from(*value)),
        Value::Int(value) => any.varint(3, *value as u64),
        Value::Uint(value) => match i64::try_from(*value) {
            Ok(value) => any.varint(3, value as u64),
            Err(_) => any.bytes(1, value.to_string().as_bytes()),
        },
        Value::Float(value) => any.double(4, *value),
        Value::Duration(value) => any.double(4, value.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_a_million_fields_is_looked_at_once() {
        let mut any = Message::default();
        (0..400_000).for_each(|_| any.varint(3, 1));
        // Each of them used to have all of the above looked at again: for an hour.
        (0..400_000).for_each(|_| any.bytes(5, b""));
        any.message(6, |map| {
            map.message(1, |pair| {
                pair.text(1, "last");
                pair.message(2, |any| any.varint(3, 7));
            });
        });
        assert_eq!(read_value(&any.0), Ok(Some(Value::from("{\"last\":7}"))));
    }
}

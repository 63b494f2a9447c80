//! `terrace schema`: the grammar as JSON Schema (draft 2020-12), for completion and checks in an editor.

use serde_json::{Map, Value as Json, json};

use super::root;
use super::spec::{Key, Shape, Spec};
use super::tree::{Node, Value, built_in};

/// The JSON Schema of `terrace.toml`.
pub fn schema() -> Json {
    let mut schema = of_table(&root::SPEC);
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("terrace.toml");
    schema
}

fn of_table(spec: &Spec) -> Json {
    let mut properties = Map::new();
    for key in spec.all_keys() {
        properties.insert(key.name.to_owned(), of_key(key));
    }
    let required = spec.keys.iter().filter(|key| key.default.is_none() && !(key.optional)());
    let required: Vec<&str> = required.map(|key| key.name).collect();
    let mut schema = json!({
        "type": "object",
        "description": plain(spec.doc),
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    });
    if !spec.one_of.is_empty() {
        schema["oneOf"] = spec.one_of.iter().map(|key| json!({ "required": [key] })).collect();
    }
    schema
}

fn of_key(key: &Key) -> Json {
    let mut schema = of_shape(&(key.shape)());
    schema["description"] = json!(plain(key.doc));
    if let Some(default) = key.default {
        schema["default"] = literal(default);
    }
    if let Some(example) = key.example {
        schema["examples"] = json!([literal(example)]);
    }
    if let (Some((low, high)), Shape::Integer) = (key.range, (key.shape)()) {
        schema["minimum"] = literal(low);
        schema["maximum"] = literal(high);
    }
    schema
}

fn of_shape(shape: &Shape) -> Json {
    match shape {
        Shape::Boolean => json!({ "type": "boolean" }),
        Shape::Off => json!({ "const": false }),
        Shape::Integer => json!({ "type": "integer" }),
        Shape::Number => json!({ "type": "number" }),
        Shape::Text(form) if form.pattern.is_empty() => json!({ "type": "string" }),
        Shape::Text(form) => json!({ "type": "string", "pattern": form.pattern }),
        Shape::Choice(choices) => {
            let words = choices
                .iter()
                .map(|choice| json!({ "const": choice.name, "description": plain(choice.doc) }));
            json!({ "oneOf": words.collect::<Vec<_>>() })
        }
        Shape::List(item) => json!({ "type": "array", "items": of_shape(item) }),
        Shape::Map { value, .. } => json!({ "type": "object", "additionalProperties": of_shape(value) }),
        Shape::Table(spec) => of_table(spec),
        Shape::Either(shapes) => json!({ "anyOf": shapes.iter().map(of_shape).collect::<Vec<_>>() }),
    }
}

fn literal(toml: &'static str) -> Json {
    to_json(&built_in(toml))
}

fn to_json(node: &Node) -> Json {
    match &node.value {
        Value::Text(text) | Value::Moment(text) => json!(text),
        Value::Integer(number) => json!(number),
        Value::Float(number) => json!(number),
        Value::Boolean(flag) => json!(flag),
        Value::List(items) => Json::Array(items.iter().map(to_json).collect()),
        Value::Table(table) => table
            .iter()
            .map(|(name, entry)| (name.clone(), to_json(&entry.node)))
            .collect::<Map<_, _>>()
            .into(),
    }
}

/// A doc comment as one paragraph.
pub(crate) fn plain(doc: &str) -> String {
    let lines: Vec<&str> = doc.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join(" ")
}

//! `terrace schema --markdown`: the grammar as a page to read, which is `docs/reference.md`.

use std::fmt::Write as _;

use super::root;
use super::schema::plain;
use super::spec::{Key, Shape, Spec};

/// The reference of `terrace.toml` as Markdown.
pub fn reference() -> String {
    let mut out = String::from(INTRODUCTION);
    for key in root::SPEC.keys {
        match (key.shape)() {
            Shape::Map { value, .. } => section(key, ".NAME", &value, &mut out),
            shape @ Shape::Table(_) => section(key, "", &shape, &mut out),
            shape => {
                let _ = write!(out, "\n## `{}`\n\n{}\n", key.name, sentence(key, &shape));
            }
        }
    }
    out
}

const INTRODUCTION: &str = "\
# terrace.toml

Every key of the file. This page is made from the definitions that the file is read with
(`terrace schema --markdown`); `terrace schema` prints the same for editors, as JSON Schema.

| a value | is written |
|---|---|
| duration | `\"250ms\"`: a whole number with `us`, `ms`, `s`, `m`, `h` or `d` |
| size | `\"1MiB\"`: with `B`, `KB`, `MB`, `GB`, `TB` (thousands) or `KiB`, `MiB`, `GiB`, `TiB` (1024) |
| rate of bytes | `\"256B/s\"`: a size per `s`, `m`, `h` or `d` |
| share | `\"60%\"` |
| address | `\"127.0.0.1:8080\"`, `\"[::]:8080\"`: an IP address with a port |
| secret | `{ env = \"NAME\" }` or `{ file = \"path\" }`, never the secret itself |
| path | relative to the folder of `terrace.toml` |
| name (the `NAME` of a table) | up to 40 of `a`–`z`, `0`–`9` and `-`, a letter first |

Policies are merged key by key: built-in < `[defaults]` < service < policy < route. `false` switches off.
`--env production` lays `terrace.production.toml` over `terrace.toml`, key by key. `terrace check` prints what came of
it all, `terrace check --explain` where each value comes from.

Without any `[listen.*]` there is the listener `public` at `0.0.0.0:8080`. Without any `[route.*]` and with one service
that is no worker, all requests go there.
";

fn section(key: &Key, suffix: &str, shape: &Shape, out: &mut String) {
    let Shape::Table(spec) = shape else { return };
    let _ = write!(out, "\n## `[{}{suffix}]`\n\n", key.name);
    // The policy keys stand in one place, and are named in the others.
    if key.name == "defaults" {
        let _ = writeln!(out, "{} The keys are those of [`[policy.NAME]`](#policyname).", plain(key.doc));
        return;
    }
    let _ = writeln!(out, "{}", plain(spec.doc));
    if spec.also.is_some() {
        let _ = writeln!(out, "\nAll keys of [`[policy.NAME]`](#policyname) may stand here too.");
    }
    out.push_str("\n| key | value | default | |\n|---|---|---|---|\n");
    rows(spec, "", out);
}

fn rows(spec: &Spec, prefix: &str, out: &mut String) {
    for key in spec.keys {
        let name = format!("{prefix}{}", key.name);
        let shape = (key.shape)();
        let default = match (key.default, key.range) {
            (Some(default), _) if default != "{}" => format!("`{default}`"),
            (None, _) if !(key.optional)() => "required".to_owned(),
            _ => String::new(),
        };
        let text = sentence(key, &shape);
        let _ = writeln!(out, "| `{name}` | {} | {} | {} |", kind(&shape), cell(&default), cell(&text));
        nested(&shape, &name, out);
    }
}

/// The keys of a table within the table.
fn nested(shape: &Shape, name: &str, out: &mut String) {
    match shape {
        Shape::Table(spec) if !is_secret(spec) => rows(spec, &format!("{name}."), out),
        Shape::List(item) => nested(item, &format!("{name}[]"), out),
        Shape::Either(shapes) => shapes.iter().for_each(|shape| match shape {
            // A list beside a single value has the same items.
            Shape::List(_) => {}
            shape => nested(shape, name, out),
        }),
        _ => {}
    }
}

/// A secret is explained once, at the top of the page.
fn is_secret(spec: &Spec) -> bool {
    spec.key("env").is_some() && spec.key("file").is_some()
}

fn sentence(key: &Key, shape: &Shape) -> String {
    let mut text = purpose(plain(key.doc), shape);
    words(shape, &mut text);
    if let Some((low, high)) = key.range {
        let _ = write!(text, " From `{low}` to `{high}`.");
    }
    if let Some(with) = key.with {
        let _ = write!(text, " With `{with}` only.");
    }
    match key.example {
        Some(example) if key.default.is_none_or(|default| default == "false" || default == "{}") => {
            let _ = write!(text, " Example: `{example}`");
        }
        _ => {}
    }
    text
}

/// What a key does, with what its table says about itself beyond that.
fn purpose(doc: String, shape: &Shape) -> String {
    let table = match shape {
        Shape::Either(shapes) => shapes.iter().find_map(as_table),
        shape => as_table(shape),
    };
    let Some(spec) = table else { return doc };
    let more = plain(spec.doc);
    match (is_secret(spec), more.starts_with(doc.trim_end_matches('.'))) {
        (true, _) => doc,
        (false, true) => more,
        (false, false) => format!("{doc} {more}"),
    }
}

fn as_table(shape: &Shape) -> Option<&'static Spec> {
    match shape {
        Shape::Table(spec) => Some(spec),
        _ => None,
    }
}

/// The words that a key takes, with what they mean.
fn words(shape: &Shape, text: &mut String) {
    match shape {
        Shape::Choice(choices) => {
            for choice in *choices {
                let _ = write!(text, " `\"{}\"`: {}", choice.name, plain(choice.doc));
            }
        }
        Shape::Either(shapes) => shapes.iter().for_each(|shape| words(shape, text)),
        _ => {}
    }
}

fn kind(shape: &Shape) -> String {
    match shape {
        Shape::Boolean => "`true`, `false`".to_owned(),
        Shape::Off => "`false`".to_owned(),
        Shape::Integer => "whole number".to_owned(),
        Shape::Number => "number".to_owned(),
        Shape::Text(form) => form.noun.trim_start_matches("a ").trim_start_matches("an ").to_owned(),
        Shape::Choice(_) => "word".to_owned(),
        Shape::List(item) => format!("list of: {}", kind(item)),
        Shape::Map { key, value, .. } => format!("table of {key} = {}", kind(value)),
        Shape::Table(spec) if is_secret(spec) => "secret".to_owned(),
        Shape::Table(_) => "table".to_owned(),
        Shape::Either(shapes) => {
            let mut kinds: Vec<String> = Vec::new();
            for shape in shapes {
                let kind = match (shape, kinds.first()) {
                    (Shape::List(item), Some(first)) if kind(item) == *first => "list".to_owned(),
                    _ => kind(shape),
                };
                if !kinds.contains(&kind) {
                    kinds.push(kind);
                }
            }
            kinds.join(", ")
        }
    }
}

/// Text in a cell of a Markdown table, where a bar would end it.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

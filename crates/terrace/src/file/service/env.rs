//! The environment of a program: `env`, and the files of `env-file`.

use std::collections::BTreeMap;

use super::ServiceTable;
use crate::file::problem::Finding;
use crate::file::read::{OneOrMany, Read, Reader};
use crate::file::source::Origin;
use crate::file::spec::Shape;
use crate::file::tree::{Node, Value};
use crate::file::values::{FilePath, Secret, SecretSource, Words, is_variable};

/// A text for others, such as the value of an environment variable or of a header: written in the file, or kept elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnvValue {
    /// Written in the file.
    Plain(String),
    /// Kept elsewhere, env-files included; never shown.
    Secret(Secret),
}

impl EnvValue {
    /// The value itself, for the one who needs it and nobody else.
    pub fn reveal(&self) -> &str {
        match self {
            Self::Plain(text) => text,
            Self::Secret(secret) => secret.reveal(),
        }
    }

    /// The secret, when it is one.
    pub fn as_secret(&self) -> Option<&Secret> {
        match self {
            Self::Plain(_) => None,
            Self::Secret(secret) => Some(secret),
        }
    }
}

/// `env` as written.
#[derive(Clone, Debug)]
pub(crate) struct EnvTable(BTreeMap<String, Setting>);

/// A value of `env` as written.
#[derive(Clone, Debug)]
enum Setting {
    Plain(String),
    Secret(SecretSource),
}

impl Read for Setting {
    fn shape() -> Shape {
        Shape::Either(vec![Words::shape(), SecretSource::shape()])
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            Value::Table(_) => Some(Self::Secret(SecretSource::read(node, reader)?)),
            Value::Text(text) if text.contains('\0') => {
                reader.refuse(Finding::new(node.origin, "an environment variable cannot hold a zero byte"))
            }
            Value::Text(text) => {
                // People put passwords here: a message about something else on the line must not show them.
                if let Origin::Text(place) = node.origin {
                    reader.sources.hide(place);
                }
                Some(Self::Plain(text.clone()))
            }
            Value::Integer(number) => {
                reader.unexpected(node, "a text or a secret", Some(format!("write \"{number}\"")))
            }
            Value::Boolean(flag) => {
                reader.unexpected(node, "a text or a secret", Some(format!("write \"{flag}\"")))
            }
            _ => reader.unexpected(node, "a text, { file = \"…\" } or { env = \"…\" }", None),
        }
    }
}

impl Read for EnvTable {
    fn shape() -> Shape {
        Shape::Map { key: "VARIABLE", value: Box::new(Setting::shape()), whole: false }
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        for (name, entry) in node.table().into_iter().flatten() {
            if !is_variable(name) {
                let message =
                    format!("{name:?} is no name of an environment variable (letters, digits and _)");
                reader.report(Finding::new(entry.key, message));
            }
        }
        Some(Self(BTreeMap::read(node, reader)?))
    }
}

/// All variables of a service: env-files in their order, then `env` over them.
pub(super) fn resolve(
    table: &ServiceTable,
    node: &Node,
    reader: &mut Reader<'_>,
) -> Option<BTreeMap<String, EnvValue>> {
    let mut variables = BTreeMap::new();
    let mut complete = true;
    let nodes = OneOrMany::<FilePath>::nodes(node.get("env-file"));
    for (path, node) in table.env_file.iter().flat_map(|paths| &paths.0).zip(nodes) {
        complete &= add_file(&path.0, node.origin, &mut variables, reader).is_some();
    }
    let env = node.get("env");
    for (name, setting) in &table.env.0 {
        let value = match setting {
            Setting::Plain(text) => Some(EnvValue::Plain(text.clone())),
            Setting::Secret(source) => {
                let origin = env.map_or(Origin::BuiltIn, |env| env.origin_of(name));
                reader.secret(source, origin).map(EnvValue::Secret)
            }
        };
        complete &= value.is_some();
        variables.extend(value.map(|value| (name.clone(), value)));
    }
    complete.then_some(variables)
}

fn add_file(
    path: &str,
    origin: Origin,
    variables: &mut BTreeMap<String, EnvValue>,
    reader: &mut Reader<'_>,
) -> Option<()> {
    let text = reader.side_text(path, origin)?;
    for (at, line) in text.lines().enumerate() {
        match parse_line(line) {
            Ok(None) => {}
            Ok(Some((name, value))) => {
                let secret = Secret::new(value, SecretSource::File(path.to_owned()));
                variables.insert(name.to_owned(), EnvValue::Secret(secret));
            }
            // The line itself is not shown: env-files hold secrets.
            Err(()) => {
                let message = format!("line {} of {path} is not NAME=value", at + 1);
                return reader.refuse(Finding::new(origin, message));
            }
        }
    }
    Some(())
}

/// One line of an env-file: nothing, or a variable. `export` in front and quotes around the value are taken off.
fn parse_line(line: &str) -> Result<Option<(&str, String)>, ()> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let line = line.strip_prefix("export ").unwrap_or(line);
    let Some((name, value)) = line.split_once('=') else { return Err(()) };
    let (name, value) = (name.trim_end(), value.trim());
    if !is_variable(name) || value.contains('\0') {
        return Err(());
    }
    Ok(Some((name, unquoted(value)?)))
}

fn unquoted(value: &str) -> Result<String, ()> {
    let inner = |quote| value.strip_prefix(quote).map(|rest| rest.strip_suffix(quote).ok_or(()));
    if let Some(inner) = inner('\'') {
        return inner.map(str::to_owned);
    }
    if let Some(inner) = inner('"') {
        return inner.map(|text| text.replace("\\n", "\n").replace("\\\"", "\""));
    }
    // A comment needs a space before it, so that a `#` in a password stays.
    let end = value.find(" #").unwrap_or(value.len());
    Ok(value[..end].trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::parse_line;

    #[test]
    fn an_env_file_is_read_as_people_write_it() {
        let parse = |line| parse_line(line).unwrap();
        assert_eq!(parse("  # nothing"), None);
        assert_eq!(parse("A=1"), Some(("A", "1".to_owned())));
        assert_eq!(parse("export A = 'a b' "), Some(("A", "a b".to_owned())));
        assert_eq!(parse(r#"A="x\ny""#), Some(("A", "x\ny".to_owned())));
        assert_eq!(parse("A=p#ss word # comment"), Some(("A", "p#ss word".to_owned())));
        assert_eq!(parse("A="), Some(("A", String::new())));
    }

    #[test]
    fn what_is_no_variable_is_refused() {
        for line in ["A", "1A=2", "A B=2", "A='x", "=2"] {
            assert_eq!(parse_line(line), Err(()), "{line}");
        }
    }
}

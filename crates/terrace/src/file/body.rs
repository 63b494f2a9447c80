//! The policies of bodies: `compress`, `grpc-web` and `validate`.

use std::collections::BTreeMap;
use std::sync::Arc;

use terrace_content::{JsonSchema, Load, MediaRange, OpenApi, SchemaError, Validator};

use super::problem::Finding;
use super::read::{Reader, Scalar, Switch, Toggle, Wrong, choice, table};
use super::spec::Form;
use super::tree::Node;
use super::values::{FilePath, Size};

table! {
    /// Never what is compressed already, too small, an event stream, or marked
    /// `no-transform`.
    pub(crate) struct CompressTable {
        /// Codings, the most wanted first; the client's own preference comes before.
        "codings" codings: Vec<Coding> = ["zstd", "br", "gzip"];
        /// Media types that are compressed; `text/*` stands for all that begin so, `application/*+json` for all that end so.
        /// Default: text, JSON, XML, JavaScript, WebAssembly, and what is not compressed by itself among pictures and fonts.
        "types" types: Vec<MediaTypes>, example ["text/*", "application/json"];
        /// Smaller answers go as they are.
        "from" from: Size = "1KiB", within "0B" to "1GiB";
        /// How much time is spent for how much less to send.
        "level" level: CompressLevel = "medium";
    }
}

choice! {
    /// A content coding.
    pub enum Coding {
        /// Zstandard (RFC 8878).
        "zstd" Zstd,
        /// Brotli (RFC 7932).
        "br" Brotli,
        /// gzip (RFC 1952).
        "gzip" Gzip,
    }
}

choice! {
    /// How much time is spent for how much less to send.
    pub enum CompressLevel {
        /// The least.
        "low" Low,
        /// What suits answers that are made anew for each request.
        "medium" Medium,
        /// More than most would spend on each request.
        "high" High,
    }
}

table! {
    /// A JSON Schema for the body, or an OpenAPI 3.1
    /// description for method, path, parameters and body. What does not fit is answered with 400, 413, 415 or 422, and told
    /// where.
    pub(crate) struct ValidateTable one of "schema" "openapi", whole {
        /// File with a JSON Schema (draft 2020-12).
        "schema" schema: Option<FilePath>, example "order.json";
        /// File with an OpenAPI 3.1 description, as JSON or YAML.
        "openapi" openapi: Option<FilePath>, example "api.yaml";
    }
}

/// Media types: one, or all that begin or end alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MediaTypes(String);

impl Scalar for MediaTypes {
    const FORM: Form =
        Form { noun: "a media type", example: "application/json", pattern: "^[^/\\s;]+/[^/\\s;]+$" };

    fn parse(text: &str) -> Result<Self, Wrong> {
        match (MediaRange::parse(text), text.split_once(';')) {
            (Ok(_), Some((plain, _))) => Err(Wrong::write(plain.trim_end())),
            (Ok(_), None) => Ok(Self(text.to_ascii_lowercase())),
            (Err(_), _) => Err(Wrong::form()),
        }
    }
}

/// How answers are compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compress {
    /// The most wanted first; never empty.
    pub codings: Vec<Coding>,
    /// Media types in lower case, perhaps with a star; empty: what is usual.
    pub types: Vec<String>,
    /// Smaller answers go as they are.
    pub bytes_min: u64,
    /// How much time is spent.
    pub level: CompressLevel,
}

/// What requests are held against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validate {
    /// What kind of description it is.
    pub kind: ValidateKind,
    /// The file with it, as written in the file of Terrace.
    pub file: String,
    /// What is in that file, and in all that it refers to, by their paths.
    pub texts: BTreeMap<String, String>,
}

/// What requests are described by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ValidateKind {
    /// A JSON Schema for the body.
    JsonSchema,
    /// An OpenAPI description.
    OpenApi,
}

/// `compress` in `policies`, if it is on.
pub(crate) fn resolve_compress(
    toggle: Toggle<CompressTable>,
    policies: &Node,
    reader: &mut Reader<'_>,
) -> Option<Option<Compress>> {
    let (Some(table), Some(node)) = (toggle.on(), policies.get("compress")) else { return Some(None) };
    if table.codings.is_empty() {
        let finding = Finding::new(node.origin_of("codings"), "without any coding nothing is compressed");
        return reader.refuse(finding.help("write compress = false"));
    }
    Some(Some(Compress {
        codings: table.codings,
        types: table.types.into_iter().map(|range| range.0).collect(),
        bytes_min: table.from.0,
        level: table.level,
    }))
}

/// `validate` in `policies`, if it is on.
pub(crate) fn resolve_validate(
    switch: Switch<ValidateTable>,
    policies: &Node,
    reader: &mut Reader<'_>,
) -> Option<Option<Arc<Validate>>> {
    let (Switch::On(table), Some(node)) = (switch, policies.get("validate")) else { return Some(None) };
    let (kind, key, file) = match (table.schema, table.openapi) {
        (Some(file), _) => (ValidateKind::JsonSchema, "schema", file),
        (None, Some(file)) => (ValidateKind::OpenApi, "openapi", file),
        // Invariant: `ValidateTable` has exactly one of the two.
        (None, None) => return None,
    };
    let known = reader.validators.get(&(kind, file.0.clone())).cloned();
    let read = known.unwrap_or_else(|| Validate::read(kind, &file.0, reader).map(Arc::new));
    reader.validators.insert((kind, file.0), read.clone());
    match read {
        Ok(validate) => Some(Some(validate)),
        Err(problem) => reader.refuse(Finding::new(node.origin_of(key), problem)),
    }
}

/// The description in the file at `path`, made ready; `load` reads files.
fn validator(kind: ValidateKind, path: &str, load: &mut Load<'_>) -> Result<Validator, SchemaError> {
    Ok(match kind {
        ValidateKind::JsonSchema => Validator::Schema(JsonSchema::load(path, load)?),
        ValidateKind::OpenApi => Validator::OpenApi(OpenApi::load(path, load)?),
    })
}

impl Validate {
    fn read(kind: ValidateKind, path: &str, reader: &mut Reader<'_>) -> Result<Self, String> {
        let mut texts = BTreeMap::new();
        let mut load = |path: &str| {
            let text = reader.side_text_quietly(path)?;
            texts.insert(path.to_owned(), text.clone());
            Ok(text)
        };
        validator(kind, path, &mut load).map_err(|error| error.to_string())?;
        Ok(Self { kind, file: path.to_owned(), texts })
    }

    /// It made ready.
    pub fn validator(&self) -> Validator {
        let mut load = |path: &str| self.texts.get(path).cloned().ok_or_else(|| "it was not read".to_owned());
        validator(self.kind, &self.file, &mut load)
            .expect("invariant: the file's check has read it from the same texts")
    }
}

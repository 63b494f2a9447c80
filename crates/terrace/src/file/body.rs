//! The policies of bodies: `compress`, `grpc-web` and `validate`.

use std::path::PathBuf;

use super::problem::Finding;
use super::read::{Reader, Scalar, Switch, Toggle, Wrong, choice, table};
use super::spec::Form;
use super::tree::Node;
use super::values::{FilePath, Size, is_token};

table! {
    /// Never what is compressed already, too small, an event stream, or marked
    /// `no-transform`.
    pub(crate) struct CompressTable {
        /// Codings, the most wanted first; the client's own preference comes before.
        "codings" codings: Vec<Coding> = ["zstd", "br", "gzip"];
        /// Media types that are compressed; `text/*` stands for all that begin so.
        "types" types: Vec<MediaRange> = ["text/*", "application/json", "application/problem+json", "application/javascript", "application/xml", "application/wasm", "image/svg+xml"];
        /// Smaller answers go as they are.
        "from" from: Size = "1KiB", within "0B" to "1GiB";
        /// How much time is spent for how much less to send.
        "level" level: CompressLevel = "fast";
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
        /// Little time.
        "fast" Fast,
        /// More.
        "balanced" Balanced,
        /// As much as it takes.
        "best" Best,
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

/// Media types: one, or all that begin alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MediaRange(String);

impl Scalar for MediaRange {
    const FORM: Form =
        Form { noun: "a media type", example: "application/json", pattern: "^[^/\\s;]+/[^/\\s;]+$" };

    fn parse(text: &str) -> Result<Self, Wrong> {
        if let Some((plain, _)) = text.split_once(';') {
            return Err(Wrong::write(plain.trim_end()));
        }
        let is_part = |part: &str| is_token(part);
        match text.split_once('/') {
            Some((kind, rest)) if is_part(kind) && is_part(rest) && kind != "*" => {
                Ok(Self(text.to_ascii_lowercase()))
            }
            _ => Err(Wrong::form()),
        }
    }
}

/// How answers are compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compress {
    /// The most wanted first; never empty.
    pub codings: Vec<Coding>,
    /// Media types in lower case, perhaps with `*` as their second part.
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
    /// The file it was read from.
    pub file: PathBuf,
    /// Its content.
    pub text: String,
}

/// What requests are described by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    for (key, is_empty) in [("codings", table.codings.is_empty()), ("types", table.types.is_empty())] {
        if is_empty {
            let finding =
                Finding::new(node.origin_of(key), format!("without any `{key}` nothing is compressed"));
            return reader.refuse(finding.help("write compress = false"));
        }
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
) -> Option<Option<Validate>> {
    let (Switch::On(table), Some(node)) = (switch, policies.get("validate")) else { return Some(None) };
    let (kind, key, file) = match (table.schema, table.openapi) {
        (Some(file), _) => (ValidateKind::JsonSchema, "schema", file),
        (None, Some(file)) => (ValidateKind::OpenApi, "openapi", file),
        // Invariant: `ValidateTable` has exactly one of the two.
        (None, None) => return None,
    };
    let text = reader.side_text(&file.0, node.origin_of(key))?;
    Some(Some(Validate { kind, file: reader.path(&file.0), text }))
}

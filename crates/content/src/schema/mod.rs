//! JSON Schema 2020-12 (json-schema.org/draft/2020-12), compiled once and then held against texts of strangers.
//!
//! Those that there are hold a tree of the text against a tree of the schema, and take what time, memory and depth that
//! takes. Here a schema of the operator's meets a body of anybody's, so all is bounded: each schema held against each value
//! counts as a step, and steps, depth and flaws told have their ends. Patterns run in linear time. No reference is fetched
//! from a network: files refer to files, when they are loaded, and nothing is resolved later.
//!
//! Dialects of before are refused, for they use the same words for other things. Keywords that nobody defined say nothing.

mod check;
mod compile;
mod format;
mod library;
mod pattern;
mod seen;
mod shape;
mod uri;

use std::fmt;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::json::{Item, Place, Value};

pub(crate) use compile::{Compiler, Dialect, Types};
pub(crate) use library::{Library, Spot};
pub(crate) use uri::decoded as percent_decoded;

/// What is wrong with a file that says what bodies must look like, and where. The operator's to mend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct SchemaError {
    /// The file.
    pub file: String,
    /// From 1; 0 where the file as a whole is meant.
    pub line: u32,
    /// In characters, from 1.
    pub column: u32,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for SchemaError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(formatter, "{}: {}", self.file, self.what),
            line => write!(formatter, "{}: line {line}, column {}: {}", self.file, self.column, self.what),
        }
    }
}

impl SchemaError {
    pub(crate) fn new(file: &str, place: Place, what: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line: place.line, column: place.column, what: what.into() }
    }
}

/// Reads a file by its path; the error is what there is to be said of it.
pub type Load<'a> = dyn FnMut(&str) -> Result<String, String> + 'a;

/// Something that a value is not as the schema wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// Which value: a JSON Pointer as the fragment of a URI (RFC 6901 section 6), `#/items/0`.
    pub pointer: String,
    /// The keyword of the schema that it breaks.
    pub keyword: &'static str,
    /// What is wrong, without the value: it may be a secret.
    pub detail: String,
    /// The parameter whose value it is; nothing for the body.
    pub parameter: Option<(ParameterPlace, String)>,
}

/// Where a request has a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each variant is the place of that name")]
pub enum ParameterPlace {
    Path,
    Query,
    Header,
    Cookie,
}

impl ParameterPlace {
    /// Its name, as OpenAPI writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Query => "query",
            Self::Header => "header",
            Self::Cookie => "cookie",
        }
    }
}

/// Why a value was not found to fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfit {
    /// It does not; the first flaws of it.
    Flaws(Vec<Flaw>),
    /// To find out would take more than it may.
    TooCostly,
}

/// What one check may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckBounds {
    /// Schemas held against values, and values compared.
    pub steps_max: u64,
    /// Flaws that are told; the search ends with the last.
    pub flaws_max: usize,
}

impl Default for CheckBounds {
    fn default() -> Self {
        Self { steps_max: 4_000_000, flaws_max: 16 }
    }
}

/// A schema among those of its set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SchemaId(u32);

/// Compiled schemas that refer to one another.
#[derive(Debug, Default)]
pub(crate) struct SchemaSet {
    schemas: Vec<compile::Schema>,
    /// For each resource that has it, the schema that a dynamic anchor names, by the number of its name.
    dynamic: FxHashMap<(u32, u32), SchemaId>,
}

impl SchemaSet {
    /// Holds `item` against a schema.
    pub(crate) fn check(&self, schema: SchemaId, item: Item<'_>, bounds: &CheckBounds) -> Result<(), Unfit> {
        check::check(self, schema, item, bounds)
    }
}

/// One schema, ready.
#[derive(Debug, Clone)]
pub struct JsonSchema {
    set: Arc<SchemaSet>,
    root: SchemaId,
}

impl JsonSchema {
    /// Reads the schema in the file at `path`, and those that it refers to.
    ///
    /// # Errors
    /// [`SchemaError`] for the first thing that is wrong.
    pub fn load(path: &str, load: &mut Load<'_>) -> Result<Self, SchemaError> {
        Self::load_knowing(path, &[], load)
    }

    /// As [`JsonSchema::load`], with further documents that are known by their URIs and so need not be files.
    ///
    /// # Errors
    /// [`SchemaError`] for the first thing that is wrong.
    pub fn load_knowing(
        path: &str,
        known: &[(String, String)],
        load: &mut Load<'_>,
    ) -> Result<Self, SchemaError> {
        let (library, root) = Library::gather(path, known, load)?;
        let mut compiler = Compiler::new(&library, Dialect::Schema);
        let root = compiler.add(library.root_of(root));
        let set = compiler.finish()?;
        Ok(Self { set: Arc::new(set), root })
    }

    /// Holds a value against it.
    ///
    /// # Errors
    /// [`Unfit`]: the sender's fault.
    pub fn check(&self, item: Item<'_>, bounds: &CheckBounds) -> Result<(), Unfit> {
        self.set.check(self.root, item, bounds)
    }
}

/// Reads a document: YAML by its ending, JSON otherwise.
pub(crate) fn read_document(file: &str, text: &str) -> Result<Value, SchemaError> {
    let is_yaml = [".yaml", ".yml"].iter().any(|ending| file.to_ascii_lowercase().ends_with(ending));
    if is_yaml {
        return crate::yaml::read(text).map_err(|error| SchemaError::new(file, error.place, error.what));
    }
    Value::read(text).map_err(|error| match error {
        crate::json::JsonError::Malformed { what, line, column } => {
            SchemaError::new(file, Place { line, column }, what)
        }
        error @ crate::json::JsonError::TooMuch { .. } => {
            SchemaError::new(file, Place::default(), error.to_string())
        }
    })
}

//! OpenAPI 3.1 descriptions (spec.openapis.org/oas/v3.1): which operation a request asks for, and what its parameters and its
//! body must look like.
//!
//! A request whose path or method the description does not have is refused: what nobody described, nobody checked. Bodies
//! are held against a schema where they are JSON or a form; of others the media type alone is.

mod load;
mod parameter;
mod query;
mod template;

use std::sync::Arc;

use rustc_hash::FxHashMap;
use terrace_http::{Known, RequestHead};

use crate::json::{Json, JsonBounds, push_quoted};
use crate::media::{MediaRange, essence, is_json};
use crate::schema::{CheckBounds, Flaw, Load, SchemaError, SchemaId, SchemaSet, Unfit};
use parameter::{Given, Parameter};
use template::Template;

/// A description, ready.
#[derive(Debug, Clone)]
pub struct OpenApi(Arc<Description>);

#[derive(Debug)]
struct Description {
    set: SchemaSet,
    /// What paths begin with: the paths of its servers.
    bases: Vec<String>,
    /// By how many segments they have; those that say more by themselves first.
    paths: FxHashMap<usize, Vec<Path>>,
    operations: Vec<Operation>,
}

#[derive(Debug)]
struct Path {
    template: Template,
    /// By method, in capitals.
    operations: Vec<(Box<str>, usize)>,
}

#[derive(Debug, Default)]
struct Operation {
    parameters: Vec<Parameter>,
    body: Option<RequestBody>,
}

#[derive(Debug, Default)]
struct RequestBody {
    is_required: bool,
    /// The most particular first.
    content: Vec<Media>,
}

#[derive(Debug)]
struct Media {
    range: MediaRange,
    schema: Option<SchemaId>,
}

/// Why a request does not fit the description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Misfit {
    NoPath,
    /// The methods that there are.
    NoMethod(Vec<Box<str>>),
    /// The media types that there are.
    MediaType(Vec<String>),
    NoBody,
    Unfit(Unfit),
}

/// The names of a path's template, and what stands in their places.
type Named<'d> = Vec<(&'d str, &'d str)>;

/// What a request's body is held against, once it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyKind {
    Json(SchemaId),
    /// `application/x-www-form-urlencoded`
    Form(SchemaId),
}

impl OpenApi {
    /// Reads the description in the file at `path`, JSON or YAML, and what it refers to.
    ///
    /// # Errors
    /// [`SchemaError`] for the first thing that is wrong.
    pub fn load(path: &str, load: &mut Load<'_>) -> Result<Self, SchemaError> {
        Ok(Self(Arc::new(load::load(path, load)?)))
    }

    /// How many operations it describes.
    #[must_use]
    pub fn operation_count(&self) -> usize {
        self.0.operations.len()
    }

    pub(crate) fn set(&self) -> &SchemaSet {
        &self.0.set
    }

    /// Holds a request's head against the description, and says what its body is to be held against.
    pub(crate) fn check_head(
        &self,
        head: &RequestHead,
        has_body: bool,
        bounds: &CheckBounds,
    ) -> Result<Option<BodyKind>, Misfit> {
        let description = &*self.0;
        let (operation, path) = description.find(head.method.as_str(), head.path())?;
        let query = head.query().map(query::pairs).unwrap_or_default();
        let given = Given { head, path, query };
        let mut flaws = Vec::new();
        for parameter in &operation.parameters {
            let checked = parameter.check(&description.set, &given, bounds, &mut flaws);
            checked.map_err(Misfit::Unfit)?;
        }
        if !flaws.is_empty() {
            flaws.truncate(bounds.flaws_max);
            return Err(Misfit::Unfit(Unfit::Flaws(flaws)));
        }
        match &operation.body {
            Some(body) => body.kind(head, has_body),
            None => Ok(None),
        }
    }
}

impl Description {
    fn find<'d>(&'d self, method: &str, path: &'d str) -> Result<(&'d Operation, Named<'d>), Misfit> {
        let mut allowed: Vec<Box<str>> = Vec::new();
        for base in &self.bases {
            let Some(rest) = path.strip_prefix(base.as_str()).and_then(|rest| rest.strip_prefix('/')) else {
                continue;
            };
            let segments: Vec<&str> = rest.split('/').collect();
            for candidate in self.paths.get(&segments.len()).into_iter().flatten() {
                let Some(values) = candidate.template.values(&segments) else { continue };
                if let Some((_, operation)) =
                    candidate.operations.iter().find(|(known, _)| **known == *method)
                {
                    let names = candidate.template.names().zip(values).collect();
                    return Ok((&self.operations[*operation], names));
                }
                allowed.extend(candidate.operations.iter().map(|(method, _)| method.clone()));
            }
        }
        allowed.sort_unstable();
        allowed.dedup();
        Err(if allowed.is_empty() { Misfit::NoPath } else { Misfit::NoMethod(allowed) })
    }
}

impl RequestBody {
    fn kind(&self, head: &RequestHead, has_body: bool) -> Result<Option<BodyKind>, Misfit> {
        if !has_body {
            return if self.is_required { Err(Misfit::NoBody) } else { Ok(None) };
        }
        let content_type = head.fields.get(Known::ContentType).unwrap_or_default();
        let Some(media) = self.content.iter().find(|media| media.range.matches(content_type)) else {
            return Err(Misfit::MediaType(
                self.content.iter().map(|media| media.range.to_string()).collect(),
            ));
        };
        let Some(schema) = media.schema else { return Ok(None) };
        let is_form = essence(content_type).eq_ignore_ascii_case(b"application/x-www-form-urlencoded");
        match () {
            () if is_json(content_type) => Ok(Some(BodyKind::Json(schema))),
            () if is_form => Ok(Some(BodyKind::Form(schema))),
            () => Ok(None),
        }
    }
}

/// A form's body as the JSON object that its schema speaks of: names that stand more than once are arrays, and so are those
/// that the schema has for one. `None` when it is no form.
pub(crate) fn form_as_json(set: &SchemaSet, schema: SchemaId, body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    let mut members: Vec<(String, Vec<String>)> = Vec::new();
    let mut places: FxHashMap<String, usize> = FxHashMap::default();
    for (name, value) in query::pairs(text) {
        let value = query::form_decoded(value)?;
        let place = *places.entry(name.clone()).or_insert_with(|| {
            members.push((name, Vec::new()));
            members.len() - 1
        });
        members[place].1.push(value);
    }
    let mut object = String::from("{");
    for (name, values) in members {
        if object.len() > 1 {
            object.push(',');
        }
        push_quoted(&mut object, &name);
        object.push(':');
        let member = set.member(schema, &name);
        let types = member.map(|id| set.types(id));
        let is_list = values.len() > 1 || types.is_some_and(crate::schema::Types::is_array_only);
        let inner = if is_list { member.and_then(|id| set.items(id)).map(|id| set.types(id)) } else { types };
        let list: Vec<String> = values.iter().map(|value| parameter::typed(value, inner)).collect();
        match is_list {
            true => object.push_str(&format!("[{}]", list.join(","))),
            false => object.push_str(&list[0]),
        }
    }
    object.push('}');
    Some(object)
}

/// Holds a text of JSON against a schema; the caller knows that it is one.
pub(crate) fn check_text(
    set: &SchemaSet,
    schema: SchemaId,
    text: &str,
    bounds: &CheckBounds,
) -> Result<(), Unfit> {
    match Json::read(text.as_bytes(), &JsonBounds::default()) {
        Ok(json) => set.check(schema, json.root(), bounds),
        Err(_) => Err(Unfit::Flaws(vec![Flaw {
            pointer: "#".to_owned(),
            keyword: "format",
            detail: "it cannot be read".to_owned(),
            parameter: None,
        }])),
    }
}

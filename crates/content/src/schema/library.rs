//! The documents that belong together, and what in them can be referred to: by a URI (`$id`), by a name (`$anchor`), by a
//! place (a JSON Pointer). All files are read here, before anything is compiled.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::{Load, SchemaError, read_document, uri};
use crate::json::{Data, Place, Value, pointer_steps, push_step};

/// Files that may belong together.
const DOCUMENTS_MAX: usize = 256;

/// A file, read.
#[derive(Debug)]
struct Document {
    uri: String,
    file: String,
    root: Value,
}

/// What has a URI of its own: a document, or a schema in one that has an `$id`.
#[derive(Debug)]
struct Resource {
    uri: String,
    document: usize,
    pointer: String,
}

#[derive(Debug)]
struct Anchor {
    /// In its document.
    pointer: String,
    is_dynamic: bool,
}

/// A place in a document, and the resource that it belongs to.
#[derive(Debug, Clone)]
pub(crate) struct Spot<'l> {
    pub(crate) resource: usize,
    pub(crate) document: usize,
    pub(crate) pointer: String,
    pub(crate) value: &'l Value,
}

/// All documents that one refers to, directly or not.
#[derive(Debug, Default)]
pub(crate) struct Library {
    documents: Vec<Document>,
    resources: Vec<Resource>,
    by_uri: FxHashMap<String, usize>,
    by_place: FxHashMap<(usize, String), usize>,
    anchors: FxHashMap<(usize, String), Anchor>,
    /// URIs that could not be had, and why.
    absent: FxHashMap<String, String>,
}

/// A reference that was met, and by which document.
#[derive(Debug)]
struct Wanted {
    uri: String,
    document: usize,
    reference: String,
}

impl Library {
    /// Reads the file at `path` and all that it refers to; says which resource it is.
    pub(crate) fn gather(
        path: &str,
        known: &[(String, String)],
        load: &mut Load<'_>,
    ) -> Result<(Self, usize), SchemaError> {
        let mut library = Self::default();
        let mut wanted = VecDeque::new();
        let text = load(path).map_err(|error| SchemaError::new(path, Place::default(), error))?;
        let root = library.add(uri::of_file(path), path, &text, &mut wanted)?;
        while let Some(next) = wanted.pop_front() {
            match known.iter().find(|(uri, _)| *uri == next.uri && !library.by_uri.contains_key(uri)) {
                Some((uri, text)) => drop(library.add(uri.clone(), uri, text, &mut wanted)?),
                None => library.fetch(&next, load, &mut wanted)?,
            }
        }
        Ok((library, root))
    }

    fn add(
        &mut self,
        uri: String,
        file: &str,
        text: &str,
        wanted: &mut VecDeque<Wanted>,
    ) -> Result<usize, SchemaError> {
        if self.documents.len() >= DOCUMENTS_MAX {
            let what = format!("more than {DOCUMENTS_MAX} files belong together");
            return Err(SchemaError::new(file, Place::default(), what));
        }
        let root = read_document(file, text)?;
        let document = self.documents.len();
        let resource = self.add_resource(uri.clone(), document, String::new());
        let mut walk = Walk { library: self, document, wanted };
        match root.get("openapi") {
            Some(_) => walk.anything(&root, resource, &mut String::new()),
            None => {
                walk.schema(&root, resource, &mut String::new());
                walk.references(&root, resource);
            }
        }
        self.documents.push(Document { uri, file: file.to_owned(), root });
        Ok(resource)
    }

    fn add_resource(&mut self, uri: String, document: usize, pointer: String) -> usize {
        let resource = self.resources.len();
        self.by_uri.entry(uri.clone()).or_insert(resource);
        self.by_place.insert((document, pointer.clone()), resource);
        self.resources.push(Resource { uri, document, pointer });
        resource
    }

    /// Reads the document that a reference leads to. That it cannot be had is an error where the reference is used.
    fn fetch(
        &mut self,
        wanted: &Wanted,
        load: &mut Load<'_>,
        more: &mut VecDeque<Wanted>,
    ) -> Result<(), SchemaError> {
        if self.by_uri.contains_key(&wanted.uri) || self.absent.contains_key(&wanted.uri) {
            return Ok(());
        }
        // Schemas name themselves by addresses at which nothing need be; their files lie beside one another as their
        // names do.
        let beside = uri::resolve(&self.documents[wanted.document].uri, &wanted.reference).0;
        let Some(path) = uri::to_file(&wanted.uri).or_else(|| uri::to_file(&beside)) else {
            let why = "it is no file, and nothing is fetched from a network".to_owned();
            self.absent.insert(wanted.uri.clone(), why);
            return Ok(());
        };
        let file_uri = uri::of_file(&path);
        let resource = match self.by_uri.get(&file_uri) {
            Some(resource) => *resource,
            None => match load(&path) {
                Ok(text) => self.add(file_uri, &path, &text, more)?,
                Err(why) => {
                    self.absent.insert(wanted.uri.clone(), why);
                    return Ok(());
                }
            },
        };
        self.by_uri.entry(wanted.uri.clone()).or_insert(resource);
        Ok(())
    }

    pub(crate) fn file(&self, document: usize) -> &str {
        &self.documents[document].file
    }

    /// The place where a resource begins.
    pub(crate) fn root_of(&self, resource: usize) -> Spot<'_> {
        let Resource { document, pointer, .. } = &self.resources[resource];
        let value = self.documents[*document].root.at(pointer);
        let value = value.expect("invariant: a resource is registered where its value stands");
        // An `$id` at the very top is another name of the document itself.
        let inner = self.by_place.get(&(*document, pointer.clone())).copied().unwrap_or(resource);
        Spot { resource: inner, document: *document, pointer: pointer.clone(), value }
    }

    /// What `reference` means in that resource; the error says why it leads nowhere.
    pub(crate) fn find(&self, resource: usize, reference: &str) -> Result<Spot<'_>, String> {
        let (target, fragment) = uri::resolve(&self.resources[resource].uri, reference);
        let Some(found) = self.by_uri.get(&target) else {
            let why = self.absent.get(&target).map_or("nothing has that URI", String::as_str);
            return Err(format!("\"{reference}\" leads nowhere: {why}"));
        };
        let root = self.root_of(*found);
        let fragment = uri::decoded(&fragment).ok_or_else(|| format!("\"{reference}\" is no reference"))?;
        let leads_nowhere = || format!("\"{reference}\" leads nowhere: nothing stands there");
        if fragment.is_empty() || fragment.starts_with('/') {
            return pointer_steps(&fragment)
                .try_fold(root, |spot, step| self.child(&spot, &step))
                .ok_or_else(leads_nowhere);
        }
        let anchor = self.anchors.get(&(root.resource, fragment)).ok_or_else(leads_nowhere)?;
        let value = self.documents[root.document].root.at(&anchor.pointer).ok_or_else(leads_nowhere)?;
        Ok(Spot { pointer: anchor.pointer.clone(), value, ..root })
    }

    /// One step further down.
    pub(crate) fn child<'l>(&self, spot: &Spot<'l>, step: &str) -> Option<Spot<'l>> {
        let value = spot.value.step(step)?;
        let mut pointer = spot.pointer.clone();
        push_step(&mut pointer, step);
        let own = self.by_place.get(&(spot.document, pointer.clone()));
        Some(Spot {
            resource: own.copied().unwrap_or(spot.resource),
            document: spot.document,
            pointer,
            value,
        })
    }

    /// The places that dynamic anchors name: resource, name, place.
    pub(crate) fn dynamic_anchors(&self) -> impl Iterator<Item = (usize, &str, Spot<'_>)> {
        self.anchors.iter().filter(|(_, anchor)| anchor.is_dynamic).filter_map(
            |((resource, name), anchor)| {
                let document = self.resources[*resource].document;
                let value = self.documents[document].root.at(&anchor.pointer)?;
                let spot = Spot { resource: *resource, document, pointer: anchor.pointer.clone(), value };
                Some((*resource, name.as_str(), spot))
            },
        )
    }
}

struct Walk<'w> {
    library: &'w mut Library,
    document: usize,
    wanted: &'w mut VecDeque<Wanted>,
}

/// Keywords whose value is a schema, or an array or object of schemas.
const HOLDS_SCHEMA: &[&str] = &[
    "items",
    "contains",
    "additionalProperties",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
    "not",
    "if",
    "then",
    "else",
    "contentSchema",
];
const HOLDS_SCHEMA_LIST: &[&str] = &["allOf", "anyOf", "oneOf", "prefixItems"];
const HOLDS_SCHEMA_MAP: &[&str] =
    &["properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"];
/// What holds values that only look like schemas.
const HOLDS_DATA: &[&str] = &["enum", "const", "default", "example", "examples"];

impl Walk<'_> {
    /// Notes what a schema and those in it are called, and what they refer to.
    fn schema(&mut self, value: &Value, mut resource: usize, pointer: &mut String) {
        if !value.is_object() {
            return;
        }
        if let Some(id) = value.get("$id").and_then(Value::text) {
            let (uri, _) = uri::resolve(&self.library.resources[resource].uri, id);
            resource = self.library.add_resource(uri, self.document, pointer.clone());
        }
        for (keyword, is_dynamic) in [("$anchor", false), ("$dynamicAnchor", true)] {
            if let Some(name) = value.get(keyword).and_then(Value::text) {
                let anchor = Anchor { pointer: pointer.clone(), is_dynamic };
                self.library.anchors.entry((resource, name.to_owned())).or_insert(anchor);
            }
        }
        for (key, inner) in value.members() {
            let length = pointer.len();
            push_step(pointer, &key.name);
            match &*key.name {
                "$ref" | "$dynamicRef" => self.want(inner, resource),
                name if HOLDS_SCHEMA.contains(&name) => self.schema(inner, resource, pointer),
                name if HOLDS_SCHEMA_LIST.contains(&name) => {
                    self.each(inner.items().iter().enumerate(), resource, pointer);
                }
                name if HOLDS_SCHEMA_MAP.contains(&name) => {
                    let members = inner.members().map(|(key, value)| (&key.name, value));
                    self.each(members, resource, pointer);
                }
                _ => {}
            }
            pointer.truncate(length);
        }
    }

    fn each<'v, S: ToString>(
        &mut self,
        schemas: impl Iterator<Item = (S, &'v Value)>,
        resource: usize,
        pointer: &mut String,
    ) {
        let length = pointer.len();
        for (step, schema) in schemas {
            push_step(pointer, &step.to_string());
            self.schema(schema, resource, pointer);
            pointer.truncate(length);
        }
    }

    fn want(&mut self, reference: &Value, resource: usize) {
        let Some(reference) = reference.text() else { return };
        let (uri, _) = uri::resolve(&self.library.resources[resource].uri, reference);
        let wanted = Wanted { uri, document: self.document, reference: reference.to_owned() };
        self.wanted.push_back(wanted);
    }

    /// The description of an API: schemas stand where it says `schema`, or under `schemas`.
    fn anything(&mut self, value: &Value, resource: usize, pointer: &mut String) {
        let length = pointer.len();
        for (place, item) in value.items().iter().enumerate() {
            push_step(pointer, &place.to_string());
            self.anything(item, resource, pointer);
            pointer.truncate(length);
        }
        for (key, inner) in value.members() {
            push_step(pointer, &key.name);
            match &*key.name {
                "$ref" => self.want(inner, resource),
                "schema" => self.schema(inner, resource, pointer),
                "schemas" => {
                    let members = inner.members().map(|(key, value)| (&key.name, value));
                    self.each(members, resource, pointer);
                }
                name if HOLDS_DATA.contains(&name) => {}
                _ => self.anything(inner, resource, pointer),
            }
            pointer.truncate(length);
        }
    }

    /// References anywhere: a file of parts that others refer to need not be a schema as a whole.
    fn references(&mut self, value: &Value, resource: usize) {
        match &value.data {
            Data::Array(items) => items.iter().for_each(|item| self.references(item, resource)),
            Data::Object(members) => {
                for (key, inner) in members {
                    match &*key.name {
                        "$ref" if inner.text().is_some() => self.want(inner, resource),
                        name if HOLDS_DATA.contains(&name) => {}
                        _ => self.references(inner, resource),
                    }
                }
            }
            _ => {}
        }
    }
}

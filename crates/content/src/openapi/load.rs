//! Reading a description: every operation with its parameters and bodies, all references followed, all schemas compiled. What
//! is wrong is told with its place.

use rustc_hash::FxHashMap;

use super::parameter::{Make, Parameter, Style};
use super::template::Template;
use super::{Description, Media, Operation, Path, RequestBody};
use crate::json::Value;
use crate::media::MediaRange;
use crate::schema::{Compiler, Dialect, Library, Load, ParameterPlace, SchemaError, Spot};

/// References that lead to references.
const HOPS_MAX: usize = 16;
const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

pub(super) fn load(path: &str, load: &mut Load<'_>) -> Result<Description, SchemaError> {
    let (library, root) = Library::gather(path, &[], load)?;
    let root = library.root_of(root);
    let mut reader = Reader {
        library: &library,
        compiler: Compiler::new(&library, Dialect::OpenApi),
        operations: Vec::new(),
    };
    reader.version(&root)?;
    let bases = reader.bases(&root)?;
    let mut paths: FxHashMap<usize, Vec<Path>> = FxHashMap::default();
    for path in reader.paths(&root)? {
        paths.entry(path.template.segment_count()).or_default().push(path);
    }
    paths.values_mut().for_each(|paths| paths.sort_by_key(|path| path.template.order()));
    let Reader { compiler, operations, .. } = reader;
    Ok(Description { set: compiler.finish()?, bases, paths, operations })
}

struct Reader<'l> {
    library: &'l Library,
    compiler: Compiler<'l>,
    operations: Vec<Operation>,
}

type Read<T> = Result<T, SchemaError>;

impl<'l> Reader<'l> {
    fn wrong(&self, spot: &Spot<'_>, value: &Value, what: impl Into<String>) -> SchemaError {
        SchemaError::new(self.library.file(spot.document), value.place, what)
    }

    fn version(&self, root: &Spot<'_>) -> Read<()> {
        let version = root.value.get("openapi");
        match version.and_then(Value::text) {
            Some(text) if text == "3.1" || text.starts_with("3.1.") => Ok(()),
            _ => {
                let at = version.unwrap_or(root.value);
                Err(self.wrong(root, at, "openapi is to be \"3.1.…\": other versions mean other things"))
            }
        }
    }

    /// The paths of the servers, without a slash at their end; where none is named, nothing.
    fn bases(&self, root: &Spot<'_>) -> Read<Vec<String>> {
        let mut bases = Vec::new();
        for server in root.value.get("servers").map(Value::items).unwrap_or_default() {
            let Some(url) = server.get("url").and_then(Value::text) else {
                return Err(self.wrong(root, server, "a server has a url"));
            };
            let url = with_defaults(url, server.get("variables"));
            let path = match url.split_once("://") {
                Some((_, rest)) => rest.find('/').map_or("", |at| &rest[at..]),
                None => &url,
            };
            let path = path.strip_suffix('/').unwrap_or(path);
            let normal = match path {
                "" => String::new(),
                path if path.starts_with('/') => terrace_http::normalise(path)
                    .map_err(|error| self.wrong(root, server, error.to_string()))?
                    .into_owned(),
                _ => return Err(self.wrong(root, server, "a server's url is absolute, or a path from /")),
            };
            bases.push(normal);
        }
        // The longest first, so that `/v1/x` is not taken for `/x` below `/v1` of another server.
        bases.sort_by_key(|base| std::cmp::Reverse(base.len()));
        bases.dedup();
        if bases.is_empty() {
            bases.push(String::new());
        }
        Ok(bases)
    }

    fn paths(&mut self, root: &Spot<'l>) -> Read<Vec<Path>> {
        let Some(all) = self.library.child(root, "paths") else { return Ok(Vec::new()) };
        let mut paths = Vec::new();
        for (key, value) in all.value.members() {
            if key.name.starts_with("x-") {
                continue;
            }
            let template = Template::parse(&key.name).map_err(|why| {
                SchemaError::new(
                    self.library.file(all.document),
                    key.place,
                    format!("the path {}: {why}", key.name),
                )
            })?;
            let item = self.library.child(&all, &key.name);
            let item = item.ok_or_else(|| self.wrong(&all, value, "a path has an object of operations"))?;
            let item = self.followed(item)?;
            let operations = self.operations_of(&item, &template)?;
            paths.push(Path { template, operations });
        }
        Ok(paths)
    }

    /// Where a reference leads, if it is one.
    fn followed(&self, mut spot: Spot<'l>) -> Read<Spot<'l>> {
        for _ in 0..HOPS_MAX {
            let Some(reference) = spot.value.get("$ref") else { return Ok(spot) };
            let text =
                reference.text().ok_or_else(|| self.wrong(&spot, reference, "a reference is a text"))?;
            let found = self.library.find(spot.resource, text);
            spot = found.map_err(|why| self.wrong(&spot, reference, why))?;
        }
        Err(self.wrong(&spot, spot.value, "references lead in a circle"))
    }

    fn operations_of(&mut self, item: &Spot<'l>, template: &Template) -> Read<Vec<(Box<str>, usize)>> {
        let shared = self.parameters(item)?;
        let mut operations = Vec::new();
        for method in METHODS {
            let Some(spot) = self.library.child(item, method) else { continue };
            let mut parameters = self.parameters(&spot)?;
            let is_new = |one: &Parameter| {
                !parameters.iter().any(|other| other.place == one.place && other.name == one.name)
            };
            let inherited: Vec<Parameter> = shared.iter().filter(|one| is_new(one)).cloned().collect();
            parameters.extend(inherited);
            self.hold_against_template(&spot, &parameters, template)?;
            let body = self.body(&spot)?;
            operations.push((method.to_ascii_uppercase().into(), self.operations.len()));
            self.operations.push(Operation { parameters, body });
        }
        Ok(operations)
    }

    fn hold_against_template(
        &self,
        spot: &Spot<'_>,
        parameters: &[Parameter],
        template: &Template,
    ) -> Read<()> {
        let of_path = parameters.iter().filter(|parameter| parameter.place == ParameterPlace::Path);
        for parameter in of_path {
            if !template.names().any(|name| name == parameter.name) {
                let what = format!("the path has no {{{}}} for this parameter", parameter.name);
                return Err(self.wrong(spot, spot.value, what));
            }
        }
        Ok(())
    }

    fn parameters(&mut self, owner: &Spot<'l>) -> Read<Vec<Parameter>> {
        let Some(list) = self.library.child(owner, "parameters") else { return Ok(Vec::new()) };
        let mut parameters = Vec::new();
        for place in 0..list.value.items().len() {
            let Some(spot) = self.library.child(&list, &place.to_string()) else { continue };
            let spot = self.followed(spot)?;
            parameters.extend(self.parameter(&spot)?);
        }
        Ok(parameters)
    }

    fn parameter(&mut self, spot: &Spot<'l>) -> Read<Option<Parameter>> {
        let text = |name: &str| spot.value.get(name).and_then(Value::text);
        let truth = |name: &str| spot.value.get(name).and_then(Value::truth).unwrap_or(false);
        let place = match text("in") {
            Some("path") => ParameterPlace::Path,
            Some("query") => ParameterPlace::Query,
            Some("header") => ParameterPlace::Header,
            Some("cookie") => ParameterPlace::Cookie,
            _ => return Err(self.wrong(spot, spot.value, "in is one of path, query, header, cookie")),
        };
        let Some(name) = text("name") else {
            return Err(self.wrong(spot, spot.value, "a parameter has a name"));
        };
        // What these hold is said elsewhere in the description (section 4.8.12.1).
        let is_said_elsewhere =
            ["accept", "content-type", "authorization"].contains(&&*name.to_ascii_lowercase());
        if place == ParameterPlace::Header && is_said_elsewhere {
            return Ok(None);
        }
        let (make, schema) = self.make(spot, place)?;
        Ok(Some(Parameter {
            place,
            name: name.to_owned(),
            is_required: truth("required") || place == ParameterPlace::Path,
            may_be_empty: truth("allowEmptyValue"),
            make,
            schema: self.compiler.add(schema),
        }))
    }

    /// How a parameter's value is written, and where its schema stands.
    fn make(&self, spot: &Spot<'l>, place: ParameterPlace) -> Read<(Make, Spot<'l>)> {
        if let Some(content) = self.library.child(spot, "content") {
            let mut members = content.value.members();
            let only = match (members.next(), members.next()) {
                (Some((key, _)), None) if crate::media::is_json(key.name.as_bytes()) => &key.name,
                _ => {
                    return Err(self.wrong(
                        &content,
                        content.value,
                        "a parameter's content is one type of JSON",
                    ));
                }
            };
            let schema =
                self.library.child(&content, only).and_then(|media| self.library.child(&media, "schema"));
            let schema =
                schema.ok_or_else(|| self.wrong(&content, content.value, "its content has a schema"))?;
            return Ok((Make::Json, schema));
        }
        let schema = self.library.child(spot, "schema");
        let schema =
            schema.ok_or_else(|| self.wrong(spot, spot.value, "a parameter has a schema or a content"))?;
        let usual = match place {
            ParameterPlace::Query | ParameterPlace::Cookie => "form",
            ParameterPlace::Path | ParameterPlace::Header => "simple",
        };
        let value = spot.value.get("style");
        let name = value.and_then(Value::text).unwrap_or(usual);
        let style = match (place, name) {
            (ParameterPlace::Query, "spaceDelimited") => Style::Spaces,
            (ParameterPlace::Query, "pipeDelimited") => Style::Pipes,
            (ParameterPlace::Query, "deepObject") => Style::DeepObject,
            _ if name == usual => Style::Commas,
            _ => {
                let what = format!("the style {name} is not understood in a {}", place.name());
                return Err(self.wrong(spot, value.unwrap_or(spot.value), what));
            }
        };
        let explode = spot.value.get("explode").and_then(Value::truth);
        Ok((Make::Text { style, is_exploded: explode.unwrap_or(name == "form") }, schema))
    }

    fn body(&mut self, operation: &Spot<'l>) -> Read<Option<RequestBody>> {
        let Some(spot) = self.library.child(operation, "requestBody") else { return Ok(None) };
        let spot = self.followed(spot)?;
        let is_required = spot.value.get("required").and_then(Value::truth).unwrap_or(false);
        let mut content = Vec::new();
        if let Some(all) = self.library.child(&spot, "content") {
            for (key, value) in all.value.members() {
                let range = MediaRange::parse(&key.name);
                let range =
                    range.map_err(|error| self.wrong(&all, value, format!("{}: {error}", key.name)))?;
                let media = self.library.child(&all, &key.name);
                let schema = media.and_then(|media| self.library.child(&media, "schema"));
                content.push(Media { range, schema: schema.map(|schema| self.compiler.add(schema)) });
            }
        }
        content.sort_by_key(|media| std::cmp::Reverse(media.range.precision()));
        Ok(Some(RequestBody { is_required, content }))
    }
}

/// A server's URL with its variables' defaults in their places (section 4.8.6).
fn with_defaults(url: &str, variables: Option<&Value>) -> String {
    let mut url = url.to_owned();
    for (key, variable) in variables.into_iter().flat_map(Value::members) {
        if let Some(default) = variable.get("default").and_then(Value::text) {
            url = url.replace(&format!("{{{}}}", key.name), default);
        }
    }
    url
}

//! From a document to checks: every keyword read, every reference led to its schema, every pattern compiled. What is wrong
//! shows here, with its place, and not when the first request comes.

use rustc_hash::{FxHashMap, FxHashSet};

use super::format::Format;
use super::library::{Library, Spot};
use super::pattern::Pattern;
use super::{SchemaError, SchemaId, SchemaSet};
use crate::json::{Data, Decimal, Kind, Value};

/// Schemas that belong together.
const SCHEMAS_MAX: usize = 100_000;

/// Which words a document uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// JSON Schema 2020-12.
    Schema,
    /// OpenAPI 3.1, which is that and a little more.
    OpenApi,
}

/// A schema: everything a value is held against.
#[derive(Debug, Default)]
pub(super) struct Schema {
    pub(super) checks: Vec<Check>,
    pub(super) resource: u32,
    /// Whether it asks what others looked at.
    pub(super) has_unevaluated: bool,
}

/// One thing that a value is held against.
#[derive(Debug)]
pub(super) enum Check {
    Never,
    Type(Types),
    Enum(Vec<Value>),
    Const(Box<Value>),
    Minimum(Box<str>),
    Maximum(Box<str>),
    ExclusiveMinimum(Box<str>),
    ExclusiveMaximum(Box<str>),
    MultipleOf(Box<str>),
    MinLength(u64),
    MaxLength(u64),
    Pattern(Box<Pattern>),
    Format(Format),
    MinItems(u64),
    MaxItems(u64),
    UniqueItems,
    MinProperties(u64),
    MaxProperties(u64),
    Required(Vec<Box<str>>),
    DependentRequired(Vec<(Box<str>, Vec<Box<str>>)>),
    Ref(SchemaId),
    /// The schema that the name has in the outermost resource on the way that has it, or this one.
    DynamicRef(SchemaId, u32),
    PropertyNames(SchemaId),
    Members(Box<Members>),
    Items(Box<Items>),
    Contains(Contains),
    DependentSchemas(Vec<(Box<str>, SchemaId)>),
    All(Vec<SchemaId>),
    Any(Vec<SchemaId>),
    One(Vec<SchemaId>),
    Not(SchemaId),
    If(If),
    UnevaluatedItems(SchemaId),
    UnevaluatedProperties(SchemaId),
}

#[derive(Debug, Default)]
pub(super) struct Members {
    pub(super) named: FxHashMap<Box<str>, SchemaId>,
    pub(super) patterns: Vec<(Pattern, SchemaId)>,
    pub(super) additional: Option<SchemaId>,
}

#[derive(Debug, Default)]
pub(super) struct Items {
    pub(super) prefix: Vec<SchemaId>,
    pub(super) rest: Option<SchemaId>,
}

#[derive(Debug)]
pub(super) struct Contains {
    pub(super) schema: SchemaId,
    pub(super) min: u64,
    pub(super) max: Option<u64>,
}

#[derive(Debug)]
pub(super) struct If {
    pub(super) condition: SchemaId,
    pub(super) then: Option<SchemaId>,
    pub(super) otherwise: Option<SchemaId>,
}

/// A set of the kinds that `type` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Types(u8);

const TYPES: [&str; 7] = ["null", "boolean", "object", "array", "number", "string", "integer"];

impl Types {
    pub(super) const fn all() -> Self {
        Self((1 << TYPES.len()) - 1)
    }

    fn add(&mut self, name: &str) -> bool {
        match TYPES.iter().position(|known| *known == name) {
            Some(place) => {
                self.0 |= 1 << place;
                true
            }
            None => false,
        }
    }

    pub(super) fn has(self, name: &str) -> bool {
        TYPES.iter().position(|known| *known == name).is_some_and(|place| self.0 >> place & 1 == 1)
    }

    pub(super) fn admits_kind(self, kind: Kind) -> bool {
        self.has(kind_name(kind)) || (kind == Kind::Number && self.has("integer"))
    }

    pub(super) fn admits(self, item: &crate::json::Item<'_>) -> bool {
        self.has(kind_name(item.kind()))
            || (self.has("integer") && item.number().is_some_and(|number| number.is_integer()))
    }

    /// `a string or null`
    pub(super) fn names(self) -> String {
        let names: Vec<&str> = TYPES.into_iter().filter(|name| self.has(name)).collect();
        match names.split_last() {
            Some((last, [])) => (*last).to_owned(),
            Some((last, before)) => format!("{} or {last}", before.join(", ")),
            None => "nothing".to_owned(),
        }
    }
}

pub(super) fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Null => "null",
        Kind::False | Kind::True => "boolean",
        Kind::Number => "number",
        Kind::String => "string",
        Kind::Array => "array",
        Kind::Object => "object",
    }
}

/// Compiles schemas of one library into one set.
#[derive(Debug)]
pub(crate) struct Compiler<'l> {
    library: &'l Library,
    dialect: Dialect,
    ids: FxHashMap<(usize, String), SchemaId>,
    schemas: Vec<Schema>,
    /// What is still to be compiled, by its id.
    pending: Vec<(SchemaId, Spot<'l>)>,
    /// Where each schema stands.
    spots: Vec<Spot<'l>>,
    /// The names of dynamic anchors; a name's number is its place.
    names: Vec<Box<str>>,
}

impl<'l> Compiler<'l> {
    pub(crate) fn new(library: &'l Library, dialect: Dialect) -> Self {
        Self {
            library,
            dialect,
            ids: FxHashMap::default(),
            schemas: Vec::new(),
            pending: Vec::new(),
            spots: Vec::new(),
            names: Vec::new(),
        }
    }

    /// The id of the schema at `spot`, which is compiled later.
    pub(crate) fn add(&mut self, spot: Spot<'l>) -> SchemaId {
        let key = (spot.document, spot.pointer.clone());
        if let Some(id) = self.ids.get(&key) {
            return *id;
        }
        let id = SchemaId(self.schemas.len() as u32);
        self.ids.insert(key, id);
        self.schemas.push(Schema::default());
        self.spots.push(spot.clone());
        self.pending.push((id, spot));
        id
    }

    /// Compiles all that was added and all that it refers to.
    pub(crate) fn finish(mut self) -> Result<SchemaSet, SchemaError> {
        let mut dynamic = FxHashMap::default();
        loop {
            while let Some((id, spot)) = self.pending.pop() {
                if self.schemas.len() > SCHEMAS_MAX {
                    return Err(self.wrong(&spot, spot.value, format!("more than {SCHEMAS_MAX} schemas")));
                }
                self.schemas[id.0 as usize] = self.compile(&spot)?;
            }
            self.add_dynamic(&mut dynamic);
            if self.pending.is_empty() {
                break;
            }
        }
        self.refuse_circles()?;
        Ok(SchemaSet { schemas: self.schemas, dynamic })
    }

    /// The dynamic anchors of every resource that a value may come to.
    fn add_dynamic(&mut self, dynamic: &mut FxHashMap<(u32, u32), SchemaId>) {
        let used: FxHashSet<u32> = self.schemas.iter().map(|schema| schema.resource).collect();
        for (resource, name, spot) in self.library.dynamic_anchors() {
            if used.contains(&(resource as u32)) {
                let name = self.number_of(name);
                dynamic.insert((resource as u32, name), self.add(spot));
            }
        }
    }

    fn number_of(&mut self, name: &str) -> u32 {
        let known = self.names.iter().position(|known| **known == *name);
        known.unwrap_or_else(|| {
            self.names.push(name.into());
            self.names.len() - 1
        }) as u32
    }

    fn wrong(&self, spot: &Spot<'_>, value: &Value, what: impl Into<String>) -> SchemaError {
        SchemaError::new(self.library.file(spot.document), value.place, what)
    }

    fn compile(&mut self, spot: &Spot<'l>) -> Result<Schema, SchemaError> {
        let mut schema = Schema { resource: spot.resource as u32, ..Schema::default() };
        match &spot.value.data {
            Data::Bool(true) => {}
            Data::Bool(false) => schema.checks.push(Check::Never),
            Data::Object(members) => {
                for (key, value) in members {
                    if let Some(check) = self.keyword(spot, &key.name, value)? {
                        schema.has_unevaluated |= check.is_unevaluated();
                        schema.checks.push(check);
                    }
                }
            }
            _ => return Err(self.wrong(spot, spot.value, "a schema is an object, true or false")),
        }
        schema.checks.sort_by_key(Check::rank);
        Ok(schema)
    }

    fn keyword(
        &mut self,
        spot: &Spot<'l>,
        name: &str,
        value: &'l Value,
    ) -> Result<Option<Check>, SchemaError> {
        let check = match name {
            "$schema" => return self.dialect_of(spot, value).map(|()| None),
            "$id" => return self.id(spot, value).map(|()| None),
            "$ref" => Check::Ref(self.reference(spot, value)?.0),
            "$dynamicRef" => self.dynamic_reference(spot, value)?,
            "type" => Check::Type(self.types(spot, value)?),
            "enum" => Check::Enum(self.list(spot, name, value)?.to_vec()),
            "const" => Check::Const(Box::new(value.clone())),
            "minimum" => Check::Minimum(self.number(spot, name, value)?),
            "maximum" => Check::Maximum(self.number(spot, name, value)?),
            "exclusiveMinimum" => Check::ExclusiveMinimum(self.number(spot, name, value)?),
            "exclusiveMaximum" => Check::ExclusiveMaximum(self.number(spot, name, value)?),
            "multipleOf" => Check::MultipleOf(self.divisor(spot, value)?),
            "minLength" => Check::MinLength(self.count(spot, name, value)?),
            "maxLength" => Check::MaxLength(self.count(spot, name, value)?),
            "pattern" => Check::Pattern(Box::new(self.pattern(spot, value, value.text())?)),
            "format" => return self.format(spot, value),
            "minItems" => Check::MinItems(self.count(spot, name, value)?),
            "maxItems" => Check::MaxItems(self.count(spot, name, value)?),
            "uniqueItems" => match self.truth(spot, name, value)? {
                true => Check::UniqueItems,
                false => return Ok(None),
            },
            "minProperties" => Check::MinProperties(self.count(spot, name, value)?),
            "maxProperties" => Check::MaxProperties(self.count(spot, name, value)?),
            "required" => Check::Required(self.required(spot, value)?),
            "nullable" if self.dialect == Dialect::OpenApi => {
                let what = "nullable is of OpenAPI 3.0; here it is type: [\"string\", \"null\"], say";
                return Err(self.wrong(spot, value, what));
            }
            _ => return self.applicator(spot, name, value),
        };
        Ok(Some(check))
    }

    /// Keywords that hold a value, or what is in it, against further schemas.
    fn applicator(
        &mut self,
        spot: &Spot<'l>,
        name: &str,
        value: &'l Value,
    ) -> Result<Option<Check>, SchemaError> {
        let has = |earlier: &[&str]| earlier.iter().any(|name| spot.value.get(name).is_some());
        let check = match name {
            "allOf" => Check::All(self.schemas_of(spot, name, value)?),
            "anyOf" => Check::Any(self.schemas_of(spot, name, value)?),
            "oneOf" => Check::One(self.schemas_of(spot, name, value)?),
            "not" => Check::Not(self.within(spot, name)),
            "if" => Check::If(If {
                condition: self.within(spot, name),
                then: self.maybe(spot, "then"),
                otherwise: self.maybe(spot, "else"),
            }),
            "prefixItems" => self.items(spot)?,
            "items" if !has(&["prefixItems"]) => self.items(spot)?,
            "contains" => self.contains(spot)?,
            "properties" => self.members(spot)?,
            "patternProperties" if !has(&["properties"]) => self.members(spot)?,
            "additionalProperties" if !has(&["properties", "patternProperties"]) => self.members(spot)?,
            "propertyNames" => Check::PropertyNames(self.within(spot, name)),
            "dependentRequired" => self.dependent_required(spot, name, value)?,
            "dependentSchemas" => self.dependent_schemas(spot, name, value)?,
            "dependencies" => return self.dependencies(spot, value),
            "unevaluatedItems" => Check::UnevaluatedItems(self.within(spot, name)),
            "unevaluatedProperties" => Check::UnevaluatedProperties(self.within(spot, name)),
            _ => return Ok(None),
        };
        Ok(Some(check))
    }

    fn dialect_of(&self, spot: &Spot<'_>, value: &Value) -> Result<(), SchemaError> {
        const KNOWN: &str = "https://json-schema.org/draft/2020-12/schema";
        const OPENAPI: &str = "https://spec.openapis.org/oas/3.1/dialect/";
        let uri = value.text().unwrap_or_default();
        let bare = uri.strip_suffix('#').unwrap_or(uri);
        match bare == KNOWN || (self.dialect == Dialect::OpenApi && bare.starts_with(OPENAPI)) {
            true => Ok(()),
            false => {
                let what = format!("the only dialect of JSON Schema understood is 2020-12, {KNOWN}");
                Err(self.wrong(spot, value, what))
            }
        }
    }

    fn id(&self, spot: &Spot<'_>, value: &Value) -> Result<(), SchemaError> {
        match value.text() {
            Some(id) if id.split_once('#').is_none_or(|(_, fragment)| fragment.is_empty()) => Ok(()),
            _ => Err(self.wrong(spot, value, "$id is a URI without a fragment")),
        }
    }

    fn reference(&mut self, spot: &Spot<'l>, value: &'l Value) -> Result<(SchemaId, Spot<'l>), SchemaError> {
        let Some(reference) = value.text() else {
            return Err(self.wrong(spot, value, "a reference is a text"));
        };
        let found = self.library.find(spot.resource, reference);
        let found = found.map_err(|why| self.wrong(spot, value, why))?;
        Ok((self.add(found.clone()), found))
    }

    /// JSON Schema 2020-12, Core, section 8.2.3.2: it moves only when it leads to a dynamic anchor at first.
    fn dynamic_reference(&mut self, spot: &Spot<'l>, value: &'l Value) -> Result<Check, SchemaError> {
        let (id, found) = self.reference(spot, value)?;
        let reference = value.text().unwrap_or_default();
        let name = reference.split_once('#').map_or("", |(_, fragment)| fragment);
        let anchor = found.value.get("$dynamicAnchor").and_then(Value::text);
        match anchor == Some(name) {
            true => Ok(Check::DynamicRef(id, self.number_of(name))),
            false => Ok(Check::Ref(id)),
        }
    }

    fn types(&self, spot: &Spot<'_>, value: &Value) -> Result<Types, SchemaError> {
        let mut types = Types::default();
        let names = match &value.data {
            Data::Array(names) => &names[..],
            _ => std::slice::from_ref(value),
        };
        for name in names {
            if !name.text().is_some_and(|name| types.add(name)) {
                let what = format!("type is one of {}, or a list of them", TYPES.join(", "));
                return Err(self.wrong(spot, name, what));
            }
        }
        Ok(types)
    }

    fn list<'v>(&self, spot: &Spot<'_>, name: &str, value: &'v Value) -> Result<&'v [Value], SchemaError> {
        match &value.data {
            Data::Array(items) => Ok(items),
            _ => Err(self.wrong(spot, value, format!("{name} is an array"))),
        }
    }

    fn number(&self, spot: &Spot<'_>, name: &str, value: &Value) -> Result<Box<str>, SchemaError> {
        match &value.data {
            Data::Number(literal) => Ok(literal.clone()),
            _ => Err(self.wrong(spot, value, format!("{name} is a number"))),
        }
    }

    fn divisor(&self, spot: &Spot<'_>, value: &Value) -> Result<Box<str>, SchemaError> {
        let literal = self.number(spot, "multipleOf", value)?;
        match Decimal::of(&literal).is_divisor() {
            true => Ok(literal),
            false => Err(self.wrong(spot, value, "multipleOf is more than 0, with 18 digits at most")),
        }
    }

    fn count(&self, spot: &Spot<'_>, name: &str, value: &Value) -> Result<u64, SchemaError> {
        let literal = self.number(spot, name, value)?;
        let count = Decimal::of(&literal).as_u64();
        count.ok_or_else(|| self.wrong(spot, value, format!("{name} is a natural number")))
    }

    fn truth(&self, spot: &Spot<'_>, name: &str, value: &Value) -> Result<bool, SchemaError> {
        value.truth().ok_or_else(|| self.wrong(spot, value, format!("{name} is true or false")))
    }

    fn pattern(&self, spot: &Spot<'_>, value: &Value, pattern: Option<&str>) -> Result<Pattern, SchemaError> {
        let Some(pattern) = pattern else { return Err(self.wrong(spot, value, "a pattern is a text")) };
        Pattern::compile(pattern)
            .map_err(|why| self.wrong(spot, value, format!("the pattern {pattern}: {why}")))
    }

    fn format(&self, spot: &Spot<'_>, value: &Value) -> Result<Option<Check>, SchemaError> {
        match value.text() {
            Some(name) => Ok(Format::named(name).map(Check::Format)),
            None => Err(self.wrong(spot, value, "format is a text")),
        }
    }

    fn names(&self, spot: &Spot<'_>, name: &str, value: &Value) -> Result<Vec<Box<str>>, SchemaError> {
        let text = |item: &Value| match item.text() {
            Some(text) => Ok(text.into()),
            None => Err(self.wrong(spot, item, format!("{name} is an array of names"))),
        };
        self.list(spot, name, value)?.iter().map(text).collect()
    }

    /// What OpenAPI calls read-only only the service says, so a request need not have it.
    fn required(&self, spot: &Spot<'_>, value: &Value) -> Result<Vec<Box<str>>, SchemaError> {
        let mut names = self.names(spot, "required", value)?;
        if self.dialect == Dialect::OpenApi {
            names.retain(|name| !self.is_read_only(spot, name));
        }
        Ok(names)
    }

    fn is_read_only(&self, spot: &Spot<'_>, name: &str) -> bool {
        let says = |value: &Value| value.get("readOnly").and_then(Value::truth) == Some(true);
        let Some(property) = spot.value.get("properties").and_then(|properties| properties.get(name)) else {
            return false;
        };
        let referred = property.get("$ref").and_then(Value::text);
        let referred = referred.and_then(|reference| self.library.find(spot.resource, reference).ok());
        says(property) || referred.is_some_and(|spot| says(spot.value))
    }

    /// The schema that the keyword `name` holds.
    fn within(&mut self, spot: &Spot<'l>, name: &str) -> SchemaId {
        let child = self.library.child(spot, name);
        self.add(child.expect("invariant: the keyword was met in this schema"))
    }

    fn maybe(&mut self, spot: &Spot<'l>, name: &str) -> Option<SchemaId> {
        let child = self.library.child(spot, name)?;
        Some(self.add(child))
    }

    fn schemas_of(
        &mut self,
        spot: &Spot<'l>,
        name: &str,
        value: &Value,
    ) -> Result<Vec<SchemaId>, SchemaError> {
        let count = self.list(spot, name, value)?.len();
        if count == 0 {
            return Err(self.wrong(spot, value, format!("{name} is an array of at least one schema")));
        }
        let list = self.library.child(spot, name).expect("invariant: the keyword was met in this schema");
        let library = self.library;
        let children = (0..count).filter_map(|place| library.child(&list, &place.to_string()));
        Ok(children.map(|child| self.add(child)).collect())
    }

    /// The schemas that an object of them has, by their names.
    fn named_schemas(
        &mut self,
        spot: &Spot<'l>,
        name: &str,
    ) -> Result<Vec<(Box<str>, SchemaId)>, SchemaError> {
        let Some(map) = self.library.child(spot, name) else { return Ok(Vec::new()) };
        if !map.value.is_object() {
            return Err(self.wrong(spot, map.value, format!("{name} is an object of schemas")));
        }
        let library = self.library;
        let children = map
            .value
            .members()
            .filter_map(|(key, _)| library.child(&map, &key.name).map(|child| (key.name.clone(), child)));
        Ok(children.map(|(name, child)| (name, self.add(child))).collect())
    }

    fn members(&mut self, spot: &Spot<'l>) -> Result<Check, SchemaError> {
        let named = self.named_schemas(spot, "properties")?.into_iter().collect();
        let mut patterns = Vec::new();
        for (pattern, id) in self.named_schemas(spot, "patternProperties")? {
            let at = spot.value.get("patternProperties").unwrap_or(spot.value);
            patterns.push((self.pattern(spot, at, Some(&pattern))?, id));
        }
        let additional = self.maybe(spot, "additionalProperties");
        Ok(Check::Members(Box::new(Members { named, patterns, additional })))
    }

    fn items(&mut self, spot: &Spot<'l>) -> Result<Check, SchemaError> {
        let prefix = match spot.value.get("prefixItems") {
            Some(value) => self.schemas_of(spot, "prefixItems", value)?,
            None => Vec::new(),
        };
        if let Some(value @ Value { data: Data::Array(_), .. }) = spot.value.get("items") {
            let what = "items is one schema; schemas for the first items are prefixItems since 2020-12";
            return Err(self.wrong(spot, value, what));
        }
        Ok(Check::Items(Box::new(Items { prefix, rest: self.maybe(spot, "items") })))
    }

    fn contains(&mut self, spot: &Spot<'l>) -> Result<Check, SchemaError> {
        let bound = |name: &str| {
            let value = spot.value.get(name);
            value.map(|value| self.count(spot, name, value)).transpose()
        };
        let (min, max) = (bound("minContains")?, bound("maxContains")?);
        Ok(Check::Contains(Contains { schema: self.within(spot, "contains"), min: min.unwrap_or(1), max }))
    }

    fn dependent_required(&self, spot: &Spot<'l>, name: &str, value: &Value) -> Result<Check, SchemaError> {
        if !value.is_object() {
            return Err(self.wrong(spot, value, format!("{name} is an object of arrays of names")));
        }
        let each = value.members().map(|(key, names)| Ok((key.name.clone(), self.names(spot, name, names)?)));
        Ok(Check::DependentRequired(each.collect::<Result<_, _>>()?))
    }

    fn dependent_schemas(
        &mut self,
        spot: &Spot<'l>,
        name: &str,
        value: &Value,
    ) -> Result<Check, SchemaError> {
        if !value.is_object() {
            return Err(self.wrong(spot, value, format!("{name} is an object of schemas")));
        }
        Ok(Check::DependentSchemas(self.named_schemas(spot, name)?))
    }

    /// The word of before 2019-09 for both, which many still write.
    fn dependencies(&mut self, spot: &Spot<'l>, value: &'l Value) -> Result<Option<Check>, SchemaError> {
        let are_names = value.members().all(|(_, value)| matches!(value.data, Data::Array(_)));
        let are_schemas = !value.members().any(|(_, value)| matches!(value.data, Data::Array(_)));
        match (are_names, are_schemas) {
            (true, _) => self.dependent_required(spot, "dependencies", value).map(Some),
            (_, true) => self.dependent_schemas(spot, "dependencies", value).map(Some),
            _ => {
                let what =
                    "dependencies holds names or schemas; both take dependentRequired and dependentSchemas";
                Err(self.wrong(spot, value, what))
            }
        }
    }

    /// A schema that holds a value against itself, without going deeper into the value, would never end.
    fn refuse_circles(&self) -> Result<(), SchemaError> {
        #[derive(Clone, Copy, PartialEq)]
        enum Mark {
            New,
            Open,
            Done,
        }
        let mut marks = vec![Mark::New; self.schemas.len()];
        for start in 0..self.schemas.len() {
            let mut way = vec![(start, 0)];
            while let Some((at, next)) = way.pop() {
                let beside = self.schemas[at].in_place();
                if next == 0 && marks[at] == Mark::Done {
                    continue;
                }
                marks[at] = Mark::Open;
                let Some(SchemaId(to)) = beside.get(next) else {
                    marks[at] = Mark::Done;
                    continue;
                };
                way.push((at, next + 1));
                match marks[*to as usize] {
                    Mark::New => way.push((*to as usize, 0)),
                    Mark::Done => {}
                    Mark::Open => {
                        let spot = &self.spots[at];
                        let what = "this leads back to itself without going deeper into the value";
                        return Err(self.wrong(spot, spot.value, what));
                    }
                }
            }
        }
        Ok(())
    }
}

impl Schema {
    /// The schemas that the same value is held against because of this one.
    fn in_place(&self) -> Vec<SchemaId> {
        let mut ids = Vec::new();
        for check in &self.checks {
            match check {
                Check::Ref(id) | Check::Not(id) | Check::DynamicRef(id, _) => ids.push(*id),
                Check::All(list) | Check::Any(list) | Check::One(list) => ids.extend(list),
                Check::If(If { condition, then, otherwise }) => {
                    ids.push(*condition);
                    ids.extend(then.iter().chain(otherwise));
                }
                Check::DependentSchemas(list) => ids.extend(list.iter().map(|(_, id)| id)),
                _ => {}
            }
        }
        ids
    }
}

impl Check {
    fn is_unevaluated(&self) -> bool {
        matches!(self, Self::UnevaluatedItems(_) | Self::UnevaluatedProperties(_))
    }

    /// Those that cost little and say much come first; those that ask what others looked at last.
    fn rank(&self) -> u8 {
        match self {
            Self::Never | Self::Type(_) => 0,
            Self::UnevaluatedItems(_) | Self::UnevaluatedProperties(_) => 3,
            Self::All(_) | Self::Any(_) | Self::One(_) | Self::Not(_) | Self::If(_) => 2,
            _ => 1,
        }
    }
}

impl SchemaSet {
    pub(super) fn schema(&self, id: SchemaId) -> &Schema {
        &self.schemas[id.0 as usize]
    }

    /// Whether a value of that kind could fit, by the types that the schema names.
    pub(super) fn may_be(&self, id: SchemaId, kind: Kind) -> bool {
        const HOPS_MAX: usize = 8;
        let mut id = id;
        for _ in 0..HOPS_MAX {
            let mut next = None;
            for check in &self.schema(id).checks {
                match check {
                    Check::Never => return false,
                    Check::Type(types) => return types.admits_kind(kind),
                    Check::Ref(to) => next = Some(*to),
                    _ => {}
                }
            }
            match next {
                Some(to) => id = to,
                None => return true,
            }
        }
        true
    }
}

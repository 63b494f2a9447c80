//! Parameters (OpenAPI 3.1, section 4.8.12): bare text in a path, query, field or cookie, made the JSON that its schema speaks
//! of, and held against it.

use terrace_http::{Known, RequestHead};

use super::query::{cookies, form_decoded};
use crate::json::{Item, Json, JsonBounds, Kind, push_quoted};
use crate::schema::{CheckBounds, Flaw, ParameterPlace, SchemaId, SchemaSet, Types, Unfit, percent_decoded};

/// How the values of a list or object are written beside one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// `a=1,2`, or `a=1&a=2` exploded; in paths and fields `1,2`.
    Commas,
    /// `a=1%202`
    Spaces,
    /// `a=1|2`
    Pipes,
    /// `a[b]=1`
    DeepObject,
}

#[derive(Debug, Clone)]
pub(super) struct Parameter {
    pub(super) place: ParameterPlace,
    pub(super) name: String,
    pub(super) is_required: bool,
    pub(super) may_be_empty: bool,
    pub(super) make: Make,
    pub(super) schema: SchemaId,
}

/// What the text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Make {
    /// A document of JSON.
    Json,
    /// One or more values in a style.
    Text { style: Style, is_exploded: bool },
}

/// A request, as far as it has parameters.
#[derive(Debug)]
pub(super) struct Given<'r> {
    pub(super) head: &'r RequestHead,
    /// The names of the path's template, and what stands there.
    pub(super) path: Vec<(&'r str, &'r str)>,
    pub(super) query: Vec<(String, &'r str)>,
}

/// What is wrong with a parameter beside its value.
type Wrong = (&'static str, String);

impl Parameter {
    /// Holds what the request has against the schema, and tells what is wrong.
    pub(super) fn check(
        &self,
        set: &SchemaSet,
        given: &Given<'_>,
        bounds: &CheckBounds,
        flaws: &mut Vec<Flaw>,
    ) -> Result<(), Unfit> {
        let texts = match self.texts(set, given) {
            Ok(Some(texts)) => texts,
            Ok(None) if self.is_required => {
                let place = self.place.name();
                self.tell(flaws, ("required", format!("the {place} parameter is missing")));
                return Ok(());
            }
            Ok(None) => return Ok(()),
            Err(wrong) => {
                self.tell(flaws, wrong);
                return Ok(());
            }
        };
        let mut told = Vec::new();
        for text in texts {
            let Ok(json) = Json::read(text.as_bytes(), &JsonBounds::default()) else {
                told = vec![self.flaw(("format", "it cannot be read".to_owned()))];
                continue;
            };
            match set.check(self.schema, json.root(), bounds) {
                Ok(()) => return Ok(()),
                Err(Unfit::Flaws(found)) => told = found,
                Err(Unfit::TooCostly) => return Err(Unfit::TooCostly),
            }
        }
        let parameter = Some((self.place, self.name.clone()));
        flaws.extend(told.into_iter().map(|flaw| Flaw { parameter: parameter.clone(), ..flaw }));
        Ok(())
    }

    fn flaw(&self, (keyword, detail): Wrong) -> Flaw {
        let parameter = Some((self.place, self.name.clone()));
        Flaw { pointer: "#".to_owned(), keyword, detail, parameter }
    }

    fn tell(&self, flaws: &mut Vec<Flaw>, wrong: Wrong) {
        flaws.push(self.flaw(wrong));
    }

    /// What the value may be, as JSON: several where the schema leaves open whether it is a number. `None` without one.
    fn texts(&self, set: &SchemaSet, given: &Given<'_>) -> Result<Option<Vec<String>>, Wrong> {
        let types = set.types(self.schema);
        let (style, is_exploded) = match self.make {
            Make::Text { style, is_exploded } => (style, is_exploded),
            Make::Json => return Ok(self.only(given)?.map(|text| vec![text])),
        };
        match () {
            () if types.is_object_only() => {
                Ok(self.object(set, given, style, is_exploded)?.map(|text| vec![text]))
            }
            () if types.is_array_only() => {
                Ok(self.array(set, given, style, is_exploded)?.map(|text| vec![text]))
            }
            () => match self.only(given)? {
                Some(text) if text.is_empty() && self.may_be_empty => Ok(None),
                Some(text) => Ok(Some(candidates(&text, types))),
                None => Ok(None),
            },
        }
    }

    /// The values under this name, not decoded.
    fn raw<'g>(&self, given: &'g Given<'_>) -> Result<Vec<&'g str>, Wrong> {
        let name = self.name.as_str();
        let fields = &given.head.fields;
        let no_text = || ("format", "it is no text".to_owned());
        match self.place {
            ParameterPlace::Path => {
                Ok(given.path.iter().filter(|(known, _)| *known == name).map(|(_, value)| *value).collect())
            }
            ParameterPlace::Query => {
                Ok(given.query.iter().filter(|(known, _)| known == name).map(|(_, value)| *value).collect())
            }
            ParameterPlace::Header => {
                let named = fields.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name.as_bytes()));
                let texts = named.map(|(_, value)| std::str::from_utf8(value).ok());
                texts.collect::<Option<Vec<_>>>().ok_or_else(no_text)
            }
            ParameterPlace::Cookie => {
                let all = fields.all(Known::Cookie).filter_map(|value| std::str::from_utf8(value).ok());
                Ok(all
                    .flat_map(cookies)
                    .filter(|(known, _)| *known == name)
                    .map(|(_, value)| value)
                    .collect())
            }
        }
    }

    fn decoded(&self, text: &str) -> Result<String, Wrong> {
        let decoded = match self.place {
            ParameterPlace::Query => form_decoded(text),
            ParameterPlace::Path => percent_decoded(text),
            ParameterPlace::Header | ParameterPlace::Cookie => Some(text.to_owned()),
        };
        decoded.ok_or_else(|| ("format", "its percent-encoding gives no text".to_owned()))
    }

    /// The one value. Of two nobody knows which one the service takes.
    fn only(&self, given: &Given<'_>) -> Result<Option<String>, Wrong> {
        match self.raw(given)?[..] {
            [] => Ok(None),
            [value] => self.decoded(value).map(Some),
            _ => Err(("maxItems", "it stands there more than once".to_owned())),
        }
    }

    /// The values in a list, decoded one by one.
    fn split(&self, text: &str, style: Style) -> Result<Vec<String>, Wrong> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let parts: Vec<&str> = match style {
            Style::Commas | Style::DeepObject => text.split(',').collect(),
            Style::Spaces => text.split("%20").flat_map(|part| part.split('+')).collect(),
            Style::Pipes => text
                .split("%7C")
                .flat_map(|part| part.split("%7c"))
                .flat_map(|part| part.split('|'))
                .collect(),
        };
        // Beside a comma in a field there may be space (RFC 9110 section 5.6.1).
        let is_field = self.place == ParameterPlace::Header;
        parts.into_iter().map(|part| self.decoded(if is_field { part.trim() } else { part })).collect()
    }

    fn array(
        &self,
        set: &SchemaSet,
        given: &Given<'_>,
        style: Style,
        is_exploded: bool,
    ) -> Result<Option<String>, Wrong> {
        let raw = self.raw(given)?;
        if raw.is_empty() {
            return Ok(None);
        }
        let is_repeated = is_exploded && matches!(self.place, ParameterPlace::Query | ParameterPlace::Cookie);
        let mut values = Vec::new();
        match is_repeated {
            true => {
                for value in raw {
                    values.push(self.decoded(value)?);
                }
            }
            false if raw.len() > 1 && self.place != ParameterPlace::Header => {
                return Err(("maxItems", "it stands there more than once".to_owned()));
            }
            false => {
                for value in raw {
                    values.extend(self.split(value, style)?);
                }
            }
        }
        let types = set.items(self.schema).map(|id| set.types(id));
        let list: Vec<String> = values.iter().map(|value| typed(value, types)).collect();
        Ok(Some(format!("[{}]", list.join(","))))
    }

    fn object(
        &self,
        set: &SchemaSet,
        given: &Given<'_>,
        style: Style,
        is_exploded: bool,
    ) -> Result<Option<String>, Wrong> {
        let members = match (style, self.place) {
            (Style::DeepObject, _) => self.deep_members(given)?,
            (_, ParameterPlace::Query) if is_exploded => self.loose_members(set, given)?,
            _ => match self.raw(given)?[..] {
                [] => Vec::new(),
                [value] => self.listed_members(value, style, is_exploded)?,
                _ => return Err(("maxItems", "it stands there more than once".to_owned())),
            },
        };
        if members.is_empty() {
            return Ok(None);
        }
        let mut object = String::from("{");
        for (name, value) in &members {
            if object.len() > 1 {
                object.push(',');
            }
            push_quoted(&mut object, name);
            object.push(':');
            let types = set.member(self.schema, name).map(|id| set.types(id));
            object.push_str(&typed(value, types));
        }
        object.push('}');
        Ok(Some(object))
    }

    /// `filter[name]=value`
    fn deep_members(&self, given: &Given<'_>) -> Result<Vec<(String, String)>, Wrong> {
        let mut members = Vec::new();
        for (name, value) in &given.query {
            let inner = name.strip_prefix(self.name.as_str()).and_then(|rest| rest.strip_prefix('['));
            if let Some(inner) = inner.and_then(|rest| rest.strip_suffix(']')) {
                members.push((inner.to_owned(), self.decoded(value)?));
            }
        }
        Ok(members)
    }

    /// Members that stand in the query as if they were parameters themselves.
    fn loose_members(&self, set: &SchemaSet, given: &Given<'_>) -> Result<Vec<(String, String)>, Wrong> {
        let names = set.member_names(self.schema);
        let mut members = Vec::new();
        for (name, value) in
            given.query.iter().filter(|(name, _)| names.iter().any(|known| **known == **name))
        {
            members.push((name.clone(), self.decoded(value)?));
        }
        Ok(members)
    }

    /// `a,1,b,2`, or `a=1,b=2` exploded.
    fn listed_members(
        &self,
        text: &str,
        style: Style,
        is_exploded: bool,
    ) -> Result<Vec<(String, String)>, Wrong> {
        let odd = || ("format", "a name without a value".to_owned());
        if is_exploded {
            let parts = text.split(',').map(|part| part.split_once('=').ok_or_else(odd));
            let member =
                |(name, value): (&str, &str)| Ok((self.decoded(name.trim())?, self.decoded(value.trim())?));
            return parts.map(|part| part.and_then(member)).collect();
        }
        let values = self.split(text, style)?;
        let (pairs, rest) = values.as_chunks::<2>();
        match rest {
            [] => Ok(pairs.iter().map(|[name, value]| (name.clone(), value.clone())).collect()),
            _ => Err(odd()),
        }
    }
}

/// Whether the text by itself is a number, true or false in JSON.
fn is_literal(text: &str, is_wanted: impl Fn(Item<'_>) -> bool) -> bool {
    Json::read(text.as_bytes(), &JsonBounds::default()).is_ok_and(|json| {
        // Space around it is JSON's, and no part of a parameter.
        json.root().literal() == text && is_wanted(json.root())
    })
}

fn is_number(text: &str) -> bool {
    is_literal(text, |item| item.kind() == Kind::Number)
}

fn is_truth(text: &str) -> bool {
    matches!(text, "true" | "false")
}

fn quoted(text: &str) -> String {
    let mut quoted = String::new();
    push_quoted(&mut quoted, text);
    quoted
}

/// What a bare text may be, the likeliest last: what is wrong is told of that one.
fn candidates(text: &str, types: Types) -> Vec<String> {
    let mut candidates = Vec::new();
    if types.admits_string() {
        candidates.push(quoted(text));
    }
    if types.admits_boolean() && is_truth(text) || types.admits_number() && is_number(text) {
        candidates.push(text.to_owned());
    }
    if candidates.is_empty() {
        candidates.push(quoted(text));
    }
    candidates
}

/// What a bare text within a list or object is; a text where its schema lets it be one.
pub(super) fn typed(text: &str, types: Option<Types>) -> String {
    let types = types.unwrap_or_default();
    let is_bare = !types.admits_string()
        && (types.admits_boolean() && is_truth(text) || types.admits_number() && is_number(text));
    if is_bare { text.to_owned() } else { quoted(text) }
}

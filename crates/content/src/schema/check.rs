//! A value held against a schema, within bounds on work, depth and what is told.

use std::borrow::Cow;
use std::hash::{Hash as _, Hasher as _};

use rustc_hash::FxHasher;

use super::compile::{Check, Contains, If, Items, Members, Schema, kind_name};
use super::seen::Seen;
use super::{CheckBounds, Flaw, SchemaId, SchemaSet, Unfit};
use crate::json::{Data, Decimal, Item, Kind, Value};

/// Schemas within one another, while one value is held against them: some 500 bytes of stack each.
const DEPTH_MAX: u16 = 512;
/// A pointer that is told is no longer, in bytes: names may be of any length.
const POINTER_BYTES_MAX: usize = 256;
/// So many letters of a text that is looked through count as one step.
const LETTERS_PER_STEP: usize = 8;

pub(super) fn check(
    set: &SchemaSet,
    schema: SchemaId,
    item: Item<'_>,
    bounds: &CheckBounds,
) -> Result<(), Unfit> {
    let mut run = Run {
        set,
        bounds: *bounds,
        steps: 0,
        depth: 0,
        scope: Vec::new(),
        path: Vec::new(),
        flaws: Vec::new(),
        is_telling: true,
    };
    match run.schema(schema, item, None) {
        Ok(true) => Ok(()),
        Ok(false) | Err(Stop::Enough) => Err(Unfit::Flaws(run.flaws)),
        Err(Stop::TooCostly) => Err(Unfit::TooCostly),
    }
}

/// Why the search ends before its end.
enum Stop {
    /// As many flaws are known as are told.
    Enough,
    TooCostly,
}

type Fits = Result<bool, Stop>;

enum Step<'j> {
    Name(Cow<'j, str>),
    Place(usize),
}

struct Run<'s, 'j> {
    set: &'s SchemaSet,
    bounds: CheckBounds,
    steps: u64,
    depth: u16,
    /// The resources whose schemas are being applied, the outermost first.
    scope: Vec<u32>,
    path: Vec<Step<'j>>,
    flaws: Vec<Flaw>,
    /// Whether flaws are told, or only whether there are any is asked.
    is_telling: bool,
}

impl<'s, 'j> Run<'s, 'j> {
    fn spend(&mut self, steps: u64) -> Result<(), Stop> {
        self.steps += steps;
        if self.steps > self.bounds.steps_max { Err(Stop::TooCostly) } else { Ok(()) }
    }

    fn schema(&mut self, id: SchemaId, item: Item<'j>, seen: Option<&mut Seen>) -> Fits {
        self.spend(1)?;
        if self.depth >= DEPTH_MAX {
            return Err(Stop::TooCostly);
        }
        let schema = self.set.schema(id);
        let is_entered = self.scope.last() != Some(&schema.resource);
        if is_entered {
            self.scope.push(schema.resource);
        }
        self.depth += 1;
        let fits = match schema.has_unevaluated {
            true => self.with_own_view(schema, item, seen)?,
            false => self.all(schema, item, seen)?,
        };
        self.depth -= 1;
        if is_entered {
            self.scope.pop();
        }
        Ok(fits)
    }

    /// What the schema itself looked at counts for it; what those around it did, does not.
    fn with_own_view(&mut self, schema: &'s Schema, item: Item<'j>, seen: Option<&mut Seen>) -> Fits {
        let mut own = Seen::default();
        let fits = self.all(schema, item, Some(&mut own))?;
        if let Some(seen) = seen {
            seen.add_those_of(&own);
        }
        Ok(fits)
    }

    fn all(&mut self, schema: &'s Schema, item: Item<'j>, mut seen: Option<&mut Seen>) -> Fits {
        let mut fits = true;
        for check in &schema.checks {
            fits &= self.one(check, item, seen.as_deref_mut())?;
            if !fits && !self.is_telling {
                return Ok(false);
            }
        }
        Ok(fits)
    }

    fn one(&mut self, check: &'s Check, item: Item<'j>, seen: Option<&mut Seen>) -> Fits {
        match check {
            Check::Ref(id) => self.schema(*id, item, seen),
            Check::DynamicRef(id, name) => {
                let outermost =
                    self.scope.iter().find_map(|resource| self.set.dynamic.get(&(*resource, *name)));
                self.schema(outermost.copied().unwrap_or(*id), item, seen)
            }
            Check::All(list) => self.all_of(list, item, seen),
            Check::Any(list) => self.any_of(list, item, seen),
            Check::One(list) => self.one_of(list, item, seen),
            Check::Not(id) => match self.quietly(*id, item, None)? {
                true => self.flaw("not", || "it is what it must not be".to_owned()),
                false => Ok(true),
            },
            Check::If(condition) => self.if_then_else(condition, item, seen),
            _ => match item.kind() {
                Kind::Object => self.object(check, item, seen),
                Kind::Array => self.array(check, item, seen),
                _ => self.scalar(check, item),
            },
        }
    }

    /// What every value is held against, and then what numbers and texts are.
    fn scalar(&mut self, check: &'s Check, item: Item<'j>) -> Fits {
        match check {
            Check::Never => self.flaw("false", || "nothing is allowed here".to_owned()),
            Check::Type(types) if types.admits(&item) => Ok(true),
            Check::Type(types) => {
                let kind = kind_name(item.kind());
                self.flaw("type", || format!("it is to be of type {}, not {kind}", types.names()))
            }
            Check::Enum(values) => self.is_one_of(values, item),
            Check::Const(value) => self.is_one_of(std::slice::from_ref(value), item),
            _ => match item.kind() {
                Kind::Number => self.number(check, item),
                Kind::String => self.text(check, item),
                _ => Ok(true),
            },
        }
    }

    fn is_one_of(&mut self, values: &[Value], item: Item<'j>) -> Fits {
        self.spend(values.len() as u64 + u64::from(item.weight()))?;
        if values.iter().any(|value| value.is(&item)) {
            return Ok(true);
        }
        self.flaw("enum", || match listed(values) {
            Some(list) => format!("it is to be {list}"),
            None => "it is none of the values that are allowed".to_owned(),
        })
    }

    fn number(&mut self, check: &Check, item: Item<'j>) -> Fits {
        let Some(number) = item.number() else { return Ok(true) };
        let (is_fine, keyword, wanted, literal) = match check {
            Check::Minimum(least) => (number >= Decimal::of(least), "minimum", "at least", least),
            Check::Maximum(most) => (number <= Decimal::of(most), "maximum", "at most", most),
            Check::ExclusiveMinimum(least) => {
                (number > Decimal::of(least), "exclusiveMinimum", "more than", least)
            }
            Check::ExclusiveMaximum(most) => {
                (number < Decimal::of(most), "exclusiveMaximum", "less than", most)
            }
            Check::MultipleOf(divisor) => {
                (number.is_multiple_of(&Decimal::of(divisor)), "multipleOf", "a multiple of", divisor)
            }
            Check::Format(format) => {
                return match format.fits(&item) {
                    true => Ok(true),
                    false => self.flaw("format", || format!("it is to be {}", format.wanted())),
                };
            }
            _ => return Ok(true),
        };
        if is_fine { Ok(true) } else { self.flaw(keyword, || format!("it is to be {wanted} {literal}")) }
    }

    fn text(&mut self, check: &Check, item: Item<'j>) -> Fits {
        let text = item.decoded();
        self.spend((text.len() / LETTERS_PER_STEP) as u64)?;
        match check {
            Check::MinLength(least) if (text.chars().count() as u64) < *least => {
                self.flaw("minLength", || format!("it is to have at least {least} characters"))
            }
            Check::MaxLength(most) if text.chars().count() as u64 > *most => {
                self.flaw("maxLength", || format!("it is to have at most {most} characters"))
            }
            Check::Pattern(pattern) if !pattern.is_match(&text) => {
                self.flaw("pattern", || "it does not fit the pattern".to_owned())
            }
            Check::Format(format) if !format.fits(&item) => {
                self.flaw("format", || format!("it is to be {}", format.wanted()))
            }
            _ => Ok(true),
        }
    }

    fn array(&mut self, check: &'s Check, item: Item<'j>, seen: Option<&mut Seen>) -> Fits {
        let count = item.len() as u64;
        match check {
            Check::MinItems(least) if count < *least => {
                self.flaw("minItems", || format!("it is to have at least {least} items"))
            }
            Check::MaxItems(most) if count > *most => {
                self.flaw("maxItems", || format!("it is to have at most {most} items"))
            }
            Check::UniqueItems => self.are_unique(item),
            Check::Items(items) => self.items(items, item, seen),
            Check::Contains(contains) => self.contains(contains, item, seen),
            Check::UnevaluatedItems(id) => self.unevaluated_items(*id, item, seen),
            Check::MinItems(_) | Check::MaxItems(_) => Ok(true),
            _ => self.scalar(check, item),
        }
    }

    fn at<T>(&mut self, step: Step<'j>, go: impl FnOnce(&mut Self) -> Result<T, Stop>) -> Result<T, Stop> {
        self.path.push(step);
        let result = go(self)?;
        self.path.pop();
        Ok(result)
    }

    fn items(&mut self, items: &Items, item: Item<'j>, seen: Option<&mut Seen>) -> Fits {
        let mut fits = true;
        for (place, inner) in item.items().enumerate() {
            let Some(id) = items.prefix.get(place).or(items.rest.as_ref()) else { break };
            fits &= self.at(Step::Place(place), |run| run.schema(*id, inner, None))?;
            if !fits && !self.is_telling {
                return Ok(false);
            }
        }
        match (seen, items.rest) {
            (Some(seen), Some(_)) => seen.add_all(),
            (Some(seen), None) => (0..items.prefix.len().min(item.len())).for_each(|place| seen.add(place)),
            (None, _) => {}
        }
        Ok(fits)
    }

    fn contains(&mut self, contains: &Contains, item: Item<'j>, mut seen: Option<&mut Seen>) -> Fits {
        let mut count = 0;
        for (place, inner) in item.items().enumerate() {
            if self.quietly(contains.schema, inner, None)? {
                count += 1;
                if let Some(seen) = &mut seen {
                    seen.add(place);
                }
            }
        }
        let Contains { min, max, .. } = contains;
        if count < *min {
            return self.flaw("contains", || format!("fewer than {min} of its items are as one is to be"));
        }
        match max {
            Some(max) if count > *max => {
                self.flaw("maxContains", || format!("more than {max} of its items are as one is to be"))
            }
            _ => Ok(true),
        }
    }

    fn are_unique(&mut self, item: Item<'j>) -> Fits {
        self.spend(u64::from(item.weight()))?;
        let sum = |item: Item<'j>| {
            let mut hasher = FxHasher::default();
            item.hash(&mut hasher);
            hasher.finish()
        };
        let mut sums: Vec<(u64, Item<'j>)> = item.items().map(|item| (sum(item), item)).collect();
        sums.sort_unstable_by_key(|(sum, _)| *sum);
        for same in sums.chunk_by(|(one, _), (other, _)| one == other) {
            for (place, (_, one)) in same.iter().enumerate() {
                for (_, other) in &same[place + 1..] {
                    // Sums that are the same for different values can be made on purpose.
                    self.spend(u64::from(one.weight()))?;
                    if one == other {
                        return self.flaw("uniqueItems", || "two of its items are the same".to_owned());
                    }
                }
            }
        }
        Ok(true)
    }

    fn unevaluated_items(&mut self, id: SchemaId, item: Item<'j>, seen: Option<&mut Seen>) -> Fits {
        self.spend(item.len() as u64)?;
        let mut fits = true;
        for (place, inner) in item.items().enumerate() {
            if !seen.as_ref().is_some_and(|seen| seen.has(place)) {
                fits &= self.at(Step::Place(place), |run| run.schema(id, inner, None))?;
            }
        }
        if let Some(seen) = seen {
            seen.add_all();
        }
        Ok(fits)
    }

    fn object(&mut self, check: &'s Check, item: Item<'j>, seen: Option<&mut Seen>) -> Fits {
        let count = item.len() as u64;
        match check {
            Check::MinProperties(least) if count < *least => {
                self.flaw("minProperties", || format!("it is to have at least {least} members"))
            }
            Check::MaxProperties(most) if count > *most => {
                self.flaw("maxProperties", || format!("it is to have at most {most} members"))
            }
            Check::MinProperties(_) | Check::MaxProperties(_) => Ok(true),
            Check::Required(names) => self.required(names, item),
            Check::DependentRequired(list) => {
                let mut fits = true;
                for (name, names) in list {
                    fits &= item.get(name).is_none() || self.required(names, item)?;
                }
                Ok(fits)
            }
            Check::DependentSchemas(list) => self.dependent_schemas(list, item, seen),
            Check::PropertyNames(id) => self.property_names(*id, item),
            Check::Members(members) => self.members(members, item, seen),
            Check::UnevaluatedProperties(id) => self.unevaluated_members(*id, item, seen),
            _ => self.scalar(check, item),
        }
    }

    fn required(&mut self, names: &[Box<str>], item: Item<'j>) -> Fits {
        self.spend(names.len() as u64)?;
        let mut fits = true;
        for name in names {
            if item.get(name).is_none() {
                fits &= self.flaw("required", || format!("the member \"{name}\" is missing"))?;
            }
        }
        Ok(fits)
    }

    fn dependent_schemas(
        &mut self,
        list: &[(Box<str>, SchemaId)],
        item: Item<'j>,
        mut seen: Option<&mut Seen>,
    ) -> Fits {
        let mut fits = true;
        for (name, id) in list {
            if item.get(name).is_some() {
                fits &= self.schema(*id, item, seen.as_deref_mut())?;
            }
        }
        Ok(fits)
    }

    fn property_names(&mut self, id: SchemaId, item: Item<'j>) -> Fits {
        let mut fits = true;
        for (name, _) in item.members() {
            fits &= self.at(Step::Name(name.decoded()), |run| run.schema(id, name, None))?;
            if !fits && !self.is_telling {
                return Ok(false);
            }
        }
        Ok(fits)
    }

    fn members(&mut self, members: &Members, item: Item<'j>, mut seen: Option<&mut Seen>) -> Fits {
        self.spend(item.len() as u64)?;
        let mut fits = true;
        for (place, (name, value)) in item.members().enumerate() {
            let name = name.decoded();
            let named = members.named.get(&*name).copied();
            let mut is_known = named.is_some();
            let mut fits_here = match named {
                Some(id) => self.at(Step::Name(name.clone()), |run| run.schema(id, value, None))?,
                None => true,
            };
            for (pattern, id) in &members.patterns {
                self.spend((name.len() / LETTERS_PER_STEP) as u64 + 1)?;
                if pattern.is_match(&name) {
                    is_known = true;
                    fits_here &= self.at(Step::Name(name.clone()), |run| run.schema(*id, value, None))?;
                }
            }
            if let (false, Some(id)) = (is_known, members.additional) {
                is_known = true;
                fits_here &= self.at(Step::Name(name), |run| run.schema(id, value, None))?;
            }
            if let (true, Some(seen)) = (is_known, &mut seen) {
                seen.add(place);
            }
            fits &= fits_here;
            if !fits && !self.is_telling {
                return Ok(false);
            }
        }
        Ok(fits)
    }

    fn unevaluated_members(&mut self, id: SchemaId, item: Item<'j>, seen: Option<&mut Seen>) -> Fits {
        self.spend(item.len() as u64)?;
        let mut fits = true;
        for (place, (name, value)) in item.members().enumerate() {
            if !seen.as_ref().is_some_and(|seen| seen.has(place)) {
                fits &= self.at(Step::Name(name.decoded()), |run| run.schema(id, value, None))?;
            }
        }
        if let Some(seen) = seen {
            seen.add_all();
        }
        Ok(fits)
    }

    fn all_of(&mut self, list: &[SchemaId], item: Item<'j>, mut seen: Option<&mut Seen>) -> Fits {
        let mut fits = true;
        for id in list {
            fits &= self.schema(*id, item, seen.as_deref_mut())?;
            if !fits && !self.is_telling {
                return Ok(false);
            }
        }
        Ok(fits)
    }

    fn any_of(&mut self, list: &[SchemaId], item: Item<'j>, mut seen: Option<&mut Seen>) -> Fits {
        let mut fits = false;
        for id in list {
            if self.tried(*id, item, &mut seen)? {
                fits = true;
                // Who asks what was looked at wants it of every schema that fits.
                if seen.is_none() {
                    return Ok(true);
                }
            }
        }
        match fits {
            true => Ok(true),
            false => self.none_fits("anyOf", list, item),
        }
    }

    fn one_of(&mut self, list: &[SchemaId], item: Item<'j>, mut seen: Option<&mut Seen>) -> Fits {
        let mut count = 0;
        for id in list {
            if self.tried(*id, item, &mut seen)? {
                count += 1;
                if count > 1 {
                    return self.flaw("oneOf", || "it fits more than one of what it is to be".to_owned());
                }
            }
        }
        match count {
            0 => self.none_fits("oneOf", list, item),
            _ => Ok(true),
        }
    }

    /// Whether the value fits a schema that it need not fit; what that looked at counts only then.
    fn tried(&mut self, id: SchemaId, item: Item<'j>, seen: &mut Option<&mut Seen>) -> Fits {
        let mut own = seen.is_some().then(Seen::default);
        let fits = self.quietly(id, item, own.as_mut())?;
        if let (true, Some(seen), Some(own)) = (fits, seen, own) {
            seen.add_those_of(&own);
        }
        Ok(fits)
    }

    fn quietly(&mut self, id: SchemaId, item: Item<'j>, seen: Option<&mut Seen>) -> Fits {
        let was_telling = std::mem::replace(&mut self.is_telling, false);
        let fits = self.schema(id, item, seen)?;
        self.is_telling = was_telling;
        Ok(fits)
    }

    /// Where only one of several was possible, by type, what is wrong is what that one says.
    fn none_fits(&mut self, keyword: &'static str, list: &[SchemaId], item: Item<'j>) -> Fits {
        if !self.is_telling {
            return Ok(false);
        }
        let mut possible = list.iter().filter(|id| self.set.may_be(**id, item.kind()));
        match (possible.next(), possible.next()) {
            (Some(only), None) => self.schema(*only, item, None),
            _ => self.flaw(keyword, || format!("it fits none of the {} that it may be", list.len())),
        }
    }

    fn if_then_else(&mut self, check: &If, item: Item<'j>, mut seen: Option<&mut Seen>) -> Fits {
        let holds = self.tried(check.condition, item, &mut seen)?;
        match if holds { check.then } else { check.otherwise } {
            Some(id) => self.schema(id, item, seen),
            None => Ok(true),
        }
    }

    fn flaw(&mut self, keyword: &'static str, detail: impl FnOnce() -> String) -> Fits {
        if self.is_telling {
            let (pointer, detail) = (self.pointer(), detail());
            self.flaws.push(Flaw { pointer, keyword, detail, parameter: None });
            if self.flaws.len() >= self.bounds.flaws_max {
                return Err(Stop::Enough);
            }
        }
        Ok(false)
    }

    /// The way to the value as the fragment of a URI (RFC 6901 section 6).
    fn pointer(&self) -> String {
        let mut pointer = String::from("#");
        for step in &self.path {
            match step {
                Step::Name(name) => push_name(&mut pointer, name),
                Step::Place(place) => pointer.push_str(&format!("/{place}")),
            }
            if pointer.len() > POINTER_BYTES_MAX {
                // All of it is ASCII: names are percent-encoded.
                pointer.truncate(POINTER_BYTES_MAX);
                pointer.push('…');
                break;
            }
        }
        pointer
    }
}

fn push_name(pointer: &mut String, name: &str) {
    pointer.push('/');
    for byte in name.bytes() {
        match byte {
            b'~' => pointer.push_str("~0"),
            b'/' => pointer.push_str("~1"),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => pointer.push(char::from(byte)),
            byte if b"-._!$&'()*+,;=:@".contains(&byte) => pointer.push(char::from(byte)),
            byte => pointer.push_str(&format!("%{byte:02X}")),
        }
        if pointer.len() > 2 * POINTER_BYTES_MAX {
            return;
        }
    }
}

/// Values that are allowed, where they are few and short.
fn listed(values: &[Value]) -> Option<String> {
    const BYTES_MAX: usize = 160;
    let shown = |value: &Value| match &value.data {
        Data::String(text) => Some(format!("{text:?}")),
        Data::Number(literal) => Some(literal.to_string()),
        Data::Bool(truth) => Some(truth.to_string()),
        Data::Null => Some("null".to_owned()),
        Data::Array(_) | Data::Object(_) => None,
    };
    let names: Vec<String> = values.iter().take(32).map(shown).collect::<Option<_>>()?;
    let list = match names.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, before)) => format!("{} or {last}", before.join(", ")),
        None => return None,
    };
    (values.len() <= 32 && list.len() <= BYTES_MAX).then_some(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{Json, JsonBounds};
    use crate::schema::{JsonSchema, SchemaError};

    fn load(schema: &str) -> Result<JsonSchema, SchemaError> {
        JsonSchema::load("/s.json", &mut |path| match path {
            "/s.json" => Ok(schema.to_owned()),
            _ => Err("no such file".to_owned()),
        })
    }

    fn verdict(schema: &str, text: &str) -> Result<(), Unfit> {
        let json = Json::read(text.as_bytes(), &JsonBounds::default()).expect("JSON");
        load(schema).expect("a schema").check(json.root(), &CheckBounds::default())
    }

    fn told(schema: &str, text: &str) -> Vec<String> {
        match verdict(schema, text) {
            Err(Unfit::Flaws(flaws)) => {
                flaws.into_iter().map(|flaw| format!("{} {}", flaw.pointer, flaw.detail)).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_flaw_is_told_with_its_place() {
        let schema = r##"{"type":"object","required":["id","items"],"properties":{
            "id":{"type":"integer","minimum":1},
            "items":{"type":"array","minItems":1,"items":{"$ref":"#/$defs/item"}}},
            "$defs":{"item":{"properties":{"a/b":{"enum":["x","y"]}},"additionalProperties":false}}}"##;
        assert_eq!(
            told(schema, r#"{"id":0,"items":[{"a/b":"z"},{"ü":1}]}"#),
            [
                "#/id it is to be at least 1",
                r##"#/items/0/a~1b it is to be "x" or "y""##,
                "#/items/1/%C3%BC nothing is allowed here",
            ]
        );
        assert_eq!(
            told(schema, r#"{"id":"secret","items":{}}"#)[0],
            "#/id it is to be of type integer, not string"
        );
        assert_eq!(
            told(schema, "{}"),
            [r##"# the member "id" is missing"##, r##"# the member "items" is missing"##]
        );
    }

    #[test]
    fn of_alternatives_the_one_that_was_possible_is_told() {
        let schema = r#"{"oneOf":[{"type":"null"},{"type":"object","required":["a"]}]}"#;
        assert_eq!(told(schema, "{}"), [r##"# the member "a" is missing"##]);
        assert_eq!(told(schema, "1"), ["# it fits none of the 2 that it may be"]);
        assert_eq!(
            told(r#"{"anyOf":[{"minimum":5},{"maximum":1}]}"#, "3"),
            ["# it fits none of the 2 that it may be"]
        );
    }

    #[test]
    fn no_more_flaws_are_told_than_are_read() {
        let text = format!("[{}0]", "0,".repeat(1000));
        assert_eq!(told(r#"{"items":{"type":"string"}}"#, &text).len(), 16);
    }

    #[test]
    fn a_body_cannot_make_a_schema_work_for_ever() {
        // Each level doubles the work: 2^60 without a bound.
        let schema = r##"{"anyOf":[{"properties":{"a":{"$ref":"#"}},"required":["b"]},
            {"properties":{"a":{"$ref":"#"}},"required":["c"]}]}"##;
        let text = "{\"a\":".repeat(60) + "1" + &"}".repeat(60);
        assert_eq!(verdict(schema, &text), Err(Unfit::TooCostly));
        let many = format!("[{}{{}}]", "{},".repeat(200_000));
        let wide: Vec<String> =
            (0..100).map(|least| format!(r#"{{"minProperties":{}}}"#, least + 1)).collect();
        let schema = format!(r#"{{"items":{{"anyOf":[{},{{}}]}}}}"#, wide.join(","));
        assert_eq!(verdict(&schema, &many), Err(Unfit::TooCostly));
    }

    #[test]
    fn unique_items_are_told_apart_in_a_large_list() {
        let numbers: Vec<String> = (0..100_000).map(|number| number.to_string()).collect();
        let list = format!("[{}]", numbers.join(","));
        assert_eq!(verdict(r#"{"uniqueItems":true}"#, &list), Ok(()));
        assert_eq!(
            told(r#"{"uniqueItems":true}"#, r#"[{"a":1,"b":2},3,{"b":2.0,"a":1}]"#),
            ["# two of its items are the same"]
        );
    }

    #[test]
    fn a_schema_that_leads_to_itself_on_the_spot_is_refused_and_one_that_goes_deeper_is_not() {
        let why = |schema: &str| load(schema).expect_err(schema).what;
        assert!(why(r##"{"$ref":"#"}"##).contains("leads back to itself"));
        let round = r##"{"$defs":{"a":{"allOf":[{"$ref":"#/$defs/b"}]},"b":{"not":{"$ref":"#/$defs/a"}}},"$ref":"#/$defs/a"}"##;
        assert!(why(round).contains("leads back to itself"));
        let list = r##"{"type":"object","properties":{"next":{"$ref":"#"}},"required":["value"]}"##;
        assert_eq!(verdict(list, r#"{"value":1,"next":{"value":2}}"#), Ok(()));
        assert_eq!(told(list, r#"{"value":1,"next":{}}"#), [r##"#/next the member "value" is missing"##]);
    }

    #[test]
    fn depth_ends_before_the_stack_does() {
        // Each level of the value goes through eight levels of the schema.
        let mut schema = String::from(r##"{"properties":{"a":{"$ref":"#/$defs/s0"}},"$defs":{"##);
        for level in 0..8 {
            let next = if level == 7 { "#".to_owned() } else { format!("#/$defs/s{}", level + 1) };
            schema.push_str(&format!(
                r#"{}"s{level}":{{"allOf":[{{"$ref":"{next}"}}]}}"#,
                if level == 0 { "" } else { "," }
            ));
        }
        schema.push_str("}}");
        let text = "{\"a\":".repeat(60) + "1" + &"}".repeat(60);
        // A thread of the data plane has two mebibytes.
        let on_a_small_stack = std::thread::Builder::new().stack_size(2 << 20);
        let run = on_a_small_stack.spawn(move || verdict(&schema, &text)).expect("a thread");
        assert_eq!(run.join().expect("it does not overflow"), Err(Unfit::TooCostly));
    }

    #[test]
    fn what_is_wrong_with_a_schema_is_told_with_its_place() {
        let why = |schema: &str| load(schema).expect_err(schema).to_string();
        assert_eq!(
            why("{\n \"type\": \"text\"}"),
            "/s.json: line 2, column 10: type is one of null, boolean, object, array, number, string, integer, or a list of them"
        );
        assert_eq!(why("{\"minLength\": -1}"), "/s.json: line 1, column 15: minLength is a natural number");
        assert_eq!(
            why("{\"properties\": {\"a\": 1}}"),
            "/s.json: line 1, column 22: a schema is an object, true or false"
        );
        assert!(why("{\"pattern\": \"(?=a)\"}").contains("column 13: the pattern (?=a): looking ahead"));
        assert!(
            why("{\"$ref\": \"https://example.com/a.json\"}").contains("nothing is fetched from a network")
        );
        assert!(why("{\"$ref\": \"b.json\"}").contains("\"b.json\" leads nowhere: no such file"));
        assert!(why("{\"$ref\": \"#/$defs/x\"}").contains("leads nowhere: nothing stands there"));
        assert!(why("{\"$schema\": \"http://json-schema.org/draft-07/schema#\"}").contains("2020-12"));
        assert!(why("{\"items\": [{}]}").contains("prefixItems"));
        assert!(why("{\"exclusiveMinimum\": true}").contains("exclusiveMinimum is a number"));
        assert!(why("{").contains("line 1, column 2"));
        let absent = JsonSchema::load("/s.json", &mut |_| Err("cannot be read".to_owned()));
        assert_eq!(absent.expect_err("no file").to_string(), "/s.json: cannot be read");
    }

    #[test]
    fn files_refer_to_files_by_path_and_by_the_names_that_they_give_themselves() {
        let mut files = |path: &str| {
            match path {
            "/dir/order.json" => Ok(r#"{"$id":"https://example.com/schemas/order.json","properties":{
                "to":{"$ref":"common.json#/$defs/address"},"tags":{"$ref":"../tags.yaml"}}}"#
                .to_owned()),
            "/dir/common.json" => Ok(r#"{"$id":"https://example.com/schemas/common.json","$defs":{"address":{"required":["city"]}}}"#.to_owned()),
            "/tags.yaml" => Ok("type: array\nitems: {type: string}\n".to_owned()),
            other => Err(format!("{other} was asked for")),
        }
        };
        let schema = JsonSchema::load("/dir/order.json", &mut files).expect("all files are there");
        let json = Json::read(br#"{"to":{},"tags":[1]}"#, &JsonBounds::default()).expect("JSON");
        let Err(Unfit::Flaws(flaws)) = schema.check(json.root(), &CheckBounds::default()) else {
            panic!("flaws")
        };
        let pointers: Vec<&str> = flaws.iter().map(|flaw| &*flaw.pointer).collect();
        assert_eq!(pointers, ["#/to", "#/tags/0"]);
    }
}

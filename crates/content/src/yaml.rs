//! YAML 1.2 as another way to write a document of JSON, which is how most descriptions of APIs come.
//!
//! Plain scalars mean what the core schema says (YAML 1.2.2 section 10.3.2): `no` is a text, `0o17` is 15. What has no
//! place in JSON is refused: tags of an application's own, mappings as names, merge keys, a second document. An alias is a
//! copy, and copies count against the bound on values, so that a short text cannot become a large tree.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag};

use crate::json::{DOCUMENT, Data, Key, Place, Value};

/// Why a text is no document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} at {place}")]
pub(crate) struct YamlError {
    pub(crate) what: String,
    pub(crate) place: Place,
}

/// Reads the one document of `text`.
pub(crate) fn read(text: &str) -> Result<Value, YamlError> {
    let mut reader = Reader {
        events: Parser::new_from_str(text),
        anchors: HashMap::new(),
        values: 0,
        last: Place::default(),
    };
    let mut document = None;
    loop {
        let (event, place) = reader.next()?;
        match event {
            Event::StreamEnd => break,
            Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
            _ if document.is_some() => return Err(error("a second document", place)),
            event => document = Some(reader.value(event, place, 0)?),
        }
    }
    document.ok_or_else(|| error("nothing stands in it", Place { line: 1, column: 1 }))
}

fn error(what: impl Into<String>, place: Place) -> YamlError {
    YamlError { what: what.into(), place }
}

fn too_deep(place: Place) -> YamlError {
    error(format!("more than {} levels", DOCUMENT.depth_max), place)
}

fn levels(value: &Value) -> u16 {
    let within = value.items().iter().chain(value.members().map(|(_, value)| value));
    within.map(|value| levels(value) + 1).max().unwrap_or(0)
}

fn place(span: Span) -> Place {
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    Place { line: count(span.start.line()), column: count(span.start.col() + 1) }
}

struct Reader<'a> {
    events: Parser<'a, StrInput<'a>>,
    anchors: HashMap<usize, Anchored>,
    values: u32,
    last: Place,
}

/// What an alias stands for.
struct Anchored {
    value: Value,
    /// Of how many values it consists.
    values: u32,
    /// How many levels it has.
    levels: u16,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Place), YamlError> {
        match self.events.next() {
            Some(Ok((event, span))) => {
                self.last = place(span);
                Ok((event, self.last))
            }
            Some(Err(problem)) => {
                let marker = problem.marker();
                Err(error(problem.info(), place(Span::new(*marker, *marker))))
            }
            None => Err(error("it ends too soon", self.last)),
        }
    }

    fn count(&mut self, values: u32, place: Place) -> Result<(), YamlError> {
        self.values = self.values.saturating_add(values);
        match self.values <= DOCUMENT.values_max {
            true => Ok(()),
            false => {
                let what = format!("more than {} values, aliases written out", DOCUMENT.values_max);
                Err(error(what, place))
            }
        }
    }

    fn value(&mut self, event: Event<'a>, place: Place, depth: u16) -> Result<Value, YamlError> {
        if depth > DOCUMENT.depth_max {
            return Err(too_deep(place));
        }
        let before = self.values;
        self.count(1, place)?;
        let (data, anchor) = match event {
            Event::Alias(anchor) => return self.alias(anchor, place, depth),
            Event::Scalar(text, style, anchor, tag) => (scalar(&text, style, tag.as_deref(), place)?, anchor),
            Event::SequenceStart(anchor, tag) => {
                no_tag(tag.as_deref(), "seq", place)?;
                (self.sequence(depth)?, anchor)
            }
            Event::MappingStart(anchor, tag) => {
                no_tag(tag.as_deref(), "map", place)?;
                (self.mapping(depth)?, anchor)
            }
            _ => return Err(error("a value is due", place)),
        };
        let value = Value { data, place };
        if anchor != 0 {
            let anchored =
                Anchored { values: self.values - before, levels: levels(&value), value: value.clone() };
            self.anchors.insert(anchor, anchored);
        }
        Ok(value)
    }

    fn alias(&mut self, anchor: usize, place: Place, depth: u16) -> Result<Value, YamlError> {
        let Some(anchored) = self.anchors.get(&anchor) else {
            return Err(error("an alias within what it stands for", place));
        };
        if depth + anchored.levels > DOCUMENT.depth_max {
            return Err(too_deep(place));
        }
        self.count(anchored.values, place)?;
        Ok(self.anchors[&anchor].value.clone())
    }

    fn sequence(&mut self, depth: u16) -> Result<Data, YamlError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Data::Array(items)),
                (event, place) => items.push(self.value(event, place, depth + 1)?),
            }
        }
    }

    fn mapping(&mut self, depth: u16) -> Result<Data, YamlError> {
        let mut members: Vec<(Key, Value)> = Vec::new();
        let mut names = std::collections::HashSet::new();
        loop {
            let (name, place) = match self.next()? {
                (Event::MappingEnd, _) => return Ok(Data::Object(members)),
                (Event::Scalar(name, style, ..), place) => {
                    if name == "<<" && style == ScalarStyle::Plain {
                        return Err(error("merge keys (<<) are not part of YAML 1.2", place));
                    }
                    (name, place)
                }
                (_, place) => return Err(error("a name must be a scalar", place)),
            };
            if !names.insert(name.clone()) {
                return Err(error("a name that stands twice in one mapping", place));
            }
            let (event, value_place) = self.next()?;
            let value = self.value(event, value_place, depth + 1)?;
            members.push((Key { name: name.into(), place }, value));
        }
    }
}

fn no_tag(tag: Option<&Tag>, usual: &str, place: Place) -> Result<(), YamlError> {
    match tag {
        Some(tag) if !(tag.is_yaml_core_schema() && tag.suffix == usual) => {
            Err(error(format!("the tag {tag} is not understood"), place))
        }
        _ => Ok(()),
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>, place: Place) -> Result<Data, YamlError> {
    let is_plain = style == ScalarStyle::Plain;
    match tag {
        Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => Ok(Data::String(text.into())),
        Some(tag) if tag.handle.is_empty() && tag.suffix == "!" => Ok(Data::String(text.into())),
        Some(tag) => Err(error(format!("the tag {tag} is not understood"), place)),
        None if is_plain => plain(text).ok_or_else(|| error("JSON has no such number", place)),
        None => Ok(Data::String(text.into())),
    }
}

/// What a plain scalar means; `None` for a number that JSON does not have.
fn plain(text: &str) -> Option<Data> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Some(Data::Null),
        "true" | "True" | "TRUE" => return Some(Data::Bool(true)),
        "false" | "False" | "FALSE" => return Some(Data::Bool(false)),
        _ => {}
    }
    let of_base = |digits: &str, base: u32| {
        let is_number = !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(base));
        is_number.then(|| u64::from_str_radix(digits, base))
    };
    let based = text
        .strip_prefix("0o")
        .and_then(|digits| of_base(digits, 8))
        .or_else(|| text.strip_prefix("0x").and_then(|digits| of_base(digits, 16)));
    if let Some(number) = based {
        return number.ok().map(|number| Data::Number(number.to_string().into()));
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return None;
    }
    match decimal(unsigned) {
        Some(literal) if text.starts_with('-') => Some(Data::Number(format!("-{literal}").into())),
        Some(literal) => Some(Data::Number(literal.into())),
        None => Some(Data::String(text.into())),
    }
}

/// An unsigned number as JSON writes it: `007` is `7`, `.5` is `0.5`, `5.` is `5`.
fn decimal(text: &str) -> Option<String> {
    let are_digits = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if !are_digits(whole) || !are_digits(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let whole = whole.trim_start_matches('0');
    let mut literal = if whole.is_empty() { "0".to_owned() } else { whole.to_owned() };
    if !fraction.is_empty() {
        literal.push('.');
        literal.push_str(fraction);
    }
    if let Some(exponent) = exponent {
        let digits = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        // As for JSON: more digits than that nobody means.
        if digits.is_empty() || !are_digits(digits) || digits.trim_start_matches('0').len() > 9 {
            return None;
        }
        literal.push('e');
        literal.push_str(exponent);
    }
    Some(literal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{Json, JsonBounds};

    fn is(yaml: &str, json: &str) -> bool {
        let json = Json::read(json.as_bytes(), &JsonBounds::default()).expect("JSON");
        read(yaml).expect("YAML").is(&json.root())
    }

    fn why(yaml: &str) -> String {
        read(yaml).expect_err(yaml).to_string()
    }

    #[test]
    fn a_document_is_what_it_would_be_in_json() {
        assert!(is(
            "openapi: 3.1.0\npaths:\n  /a:\n    get: {x: [1, no, ~]}\n",
            r#"{"openapi":"3.1.0","paths":{"/a":{"get":{"x":[1,"no",null]}}}}"#
        ));
        assert!(is(
            "- |\n  a\n  b\n- >-\n  a\n  b\n- 'it''s'\n- \"\\u00e9\"\n",
            r#"["a\nb\n","a b","it's","é"]"#
        ));
        assert!(is("200: ok\n'404': {}\n", r#"{"200":"ok","404":{}}"#));
        assert!(is("a: &x [1, 2]\nb: *x\nc: # nothing\n", r#"{"a":[1,2],"b":[1,2],"c":null}"#));
    }

    #[test]
    fn yaml_1_2_2_section_10_3_2_plain_scalars() {
        assert!(is(
            "[007, -0, +12, 0o17, 0xff, .5, -5., 1e3, 6.02E+23]",
            "[7,0,12,15,255,0.5,-5,1000,6.02e23]"
        ));
        assert!(is(
            "[true, False, yes, 1_000, 0b1, 1e, ., '1', !!str 1, 2020-01-01]",
            r#"[true,false,"yes","1_000","0b1","1e",".","1","1","2020-01-01"]"#
        ));
        assert_eq!(why("a: .inf"), "JSON has no such number at line 1, column 4");
    }

    #[test]
    fn what_has_no_place_in_json_is_refused() {
        assert_eq!(why("a: 1\nb: 2\na: 3\n"), "a name that stands twice in one mapping at line 3, column 1");
        assert!(why("a: !secret x").contains("the tag !secret is not understood"));
        assert!(why("[a]: 1").contains("a name must be a scalar"));
        assert!(why("<<: *x").contains("merge keys") || why("<<: *x").contains("anchor"));
        assert!(why("a: 1\n---\nb: 1\n").contains("a second document"));
        assert!(why("").contains("nothing stands in it"));
        assert!(why("a: [1, 2").contains("line"));
        assert!(why("a: &x [*x]").contains("alias"));
    }

    #[test]
    fn a_short_text_does_not_become_a_large_tree() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let copies = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{copies}]\n"));
        }
        assert!(why(&bomb).contains("values, aliases written out"));
        let mut chain = String::from("a0: &a0 [x]\n");
        for level in 1..200 {
            chain.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
        }
        assert!(why(&chain).contains("more than 128 levels"));
        assert!(read(&("[".repeat(100_000) + &"]".repeat(100_000))).is_err());
    }
}

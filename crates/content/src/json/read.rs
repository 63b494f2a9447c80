//! The grammar of JSON (RFC 8259), and the list of values that comes of a text.

use super::number::EXPONENT_DIGITS_MAX;
use super::{Json, JsonBounds, JsonError, Kind, Node};

/// Texts are addressed by 32 bits.
const TEXT_BYTES_MAX: usize = u32::MAX as usize;

pub(super) fn read<'a>(text: &'a [u8], bounds: &JsonBounds) -> Result<Json<'a>, JsonError> {
    if text.len() >= TEXT_BYTES_MAX {
        return Err(JsonError::TooMuch { what: "it has too many bytes", max: u32::MAX });
    }
    let text = match std::str::from_utf8(text) {
        Ok(text) => text,
        Err(error) => return Err(malformed("bytes that are no UTF-8", text, error.valid_up_to())),
    };
    let mut reader = Reader {
        text,
        bytes: text.as_bytes(),
        at: 0,
        nodes: Vec::new(),
        names: Vec::new(),
        pending: Vec::new(),
        bounds: *bounds,
    };
    reader.space();
    reader.value(0)?;
    reader.space();
    if reader.at < reader.bytes.len() {
        return Err(reader.malformed("more after the value's end"));
    }
    Ok(Json { text, nodes: reader.nodes, names: reader.names })
}

struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    nodes: Vec<Node>,
    names: Vec<u32>,
    /// The names of the objects that are being read, the innermost last.
    pending: Vec<u32>,
    bounds: JsonBounds,
}

fn malformed(what: &'static str, text: &[u8], at: usize) -> JsonError {
    let before = &text[..at];
    let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let lines = before.iter().filter(|byte| **byte == b'\n').count();
    let columns = String::from_utf8_lossy(&before[line_start..]).chars().count();
    let count = |count: usize| u32::try_from(count + 1).unwrap_or(u32::MAX);
    JsonError::Malformed { what, line: count(lines), column: count(columns) }
}

impl Reader<'_> {
    fn malformed(&self, what: &'static str) -> JsonError {
        malformed(what, self.bytes, self.at)
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn push(&mut self, kind: Kind, at: usize) -> Result<usize, JsonError> {
        if self.nodes.len() >= self.bounds.values_max as usize {
            let max = self.bounds.values_max;
            return Err(JsonError::TooMuch { what: "it has too many values", max });
        }
        let index = self.nodes.len();
        let next = index as u32 + 1;
        self.nodes.push(Node { kind, is_escaped: false, at: at as u32, count: 0, next, names_at: 0 });
        Ok(index)
    }

    fn value(&mut self, depth: u16) -> Result<(), JsonError> {
        match self.peek() {
            Some(b'{') => self.object(self.deeper(depth)?),
            Some(b'[') => self.array(self.deeper(depth)?),
            Some(b'"') => self.string().map(drop),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b'n') => self.word("null", Kind::Null),
            Some(b't') => self.word("true", Kind::True),
            Some(b'f') => self.word("false", Kind::False),
            Some(_) => Err(self.malformed("no value begins so")),
            None => Err(self.malformed("it ends where a value is due")),
        }
    }

    fn deeper(&self, depth: u16) -> Result<u16, JsonError> {
        let max = self.bounds.depth_max;
        match depth < max {
            true => Ok(depth + 1),
            false => Err(JsonError::TooMuch { what: "it has too many levels", max: u32::from(max) }),
        }
    }

    fn word(&mut self, word: &str, kind: Kind) -> Result<(), JsonError> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return Err(self.malformed("no value begins so"));
        }
        let index = self.push(kind, self.at)?;
        self.nodes[index].count = word.len() as u32;
        self.at += word.len();
        Ok(())
    }

    fn array(&mut self, depth: u16) -> Result<(), JsonError> {
        let array = self.push(Kind::Array, self.at)?;
        self.at += 1;
        self.space();
        let mut count = 0;
        if self.peek() == Some(b']') {
            self.at += 1;
        } else {
            loop {
                self.value(depth)?;
                count += 1;
                if self.is_over(b']', "a comma or ] is due")? {
                    break;
                }
            }
        }
        self.close(array, count);
        Ok(())
    }

    fn close(&mut self, container: usize, count: u32) {
        let next = self.nodes.len() as u32;
        let node = &mut self.nodes[container];
        (node.count, node.next) = (count, next);
    }

    /// What follows a value in an array or object: its end, or a comma.
    fn is_over(&mut self, end: u8, due: &'static str) -> Result<bool, JsonError> {
        self.space();
        match self.peek() {
            Some(byte) if byte == end => {
                self.at += 1;
                Ok(true)
            }
            Some(b',') => {
                self.at += 1;
                self.space();
                Ok(false)
            }
            _ => Err(self.malformed(due)),
        }
    }

    fn object(&mut self, depth: u16) -> Result<(), JsonError> {
        let object = self.push(Kind::Object, self.at)?;
        let first = self.pending.len();
        self.at += 1;
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
        } else {
            loop {
                self.member(depth)?;
                if self.is_over(b'}', "a comma or } is due")? {
                    break;
                }
            }
        }
        let count = (self.pending.len() - first) as u32;
        self.close(object, count);
        self.sort_names(object, first)
    }

    fn member(&mut self, depth: u16) -> Result<(), JsonError> {
        if self.peek() != Some(b'"') {
            return Err(self.malformed("a member's name is due, in quotes"));
        }
        let name = self.string()?;
        self.pending.push(name as u32);
        self.space();
        if self.peek() != Some(b':') {
            return Err(self.malformed("a colon is due"));
        }
        self.at += 1;
        self.space();
        self.value(depth)
    }

    /// Puts an object's names in order, which is where one that stands twice shows.
    fn sort_names(&mut self, object: usize, first: usize) -> Result<(), JsonError> {
        let json = Json { text: self.text, nodes: std::mem::take(&mut self.nodes), names: Vec::new() };
        let name = |index: u32| super::Item { json: &json, index }.decoded();
        let names = &mut self.pending[first..];
        names.sort_unstable_by(|one, other| name(*one).cmp(&name(*other)));
        let twice = names.windows(2).find(|pair| name(pair[0]) == name(pair[1]));
        let twice_at = twice.map(|pair| json.nodes[pair[0].max(pair[1]) as usize].at as usize);
        self.nodes = json.nodes;
        if let Some(at) = twice_at {
            return Err(malformed("a name that stands twice in one object", self.bytes, at - 1));
        }
        self.nodes[object].names_at = self.names.len() as u32;
        self.names.extend(self.pending.drain(first..));
        Ok(())
    }

    /// Reads a string, and says its place among the nodes.
    fn string(&mut self) -> Result<usize, JsonError> {
        let start = self.at + 1;
        let index = self.push(Kind::String, start)?;
        self.at = start;
        let mut is_escaped = false;
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    is_escaped = true;
                    self.escape()?;
                }
                Some(0..=0x1f) => return Err(self.malformed("a control character in a string")),
                Some(_) => self.at += 1,
                None => return Err(self.malformed("it ends in a string")),
            }
        }
        let node = &mut self.nodes[index];
        node.count = (self.at - start) as u32;
        node.is_escaped = is_escaped;
        self.at += 1;
        Ok(index)
    }

    fn escape(&mut self) -> Result<(), JsonError> {
        match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u') => match self.unit(self.at)? {
                0xd800..=0xdbff => {
                    let low = self.bytes.get(self.at + 6..self.at + 8);
                    let is_pair = low == Some(br"\u") && (0xdc00..=0xdfff).contains(&self.unit(self.at + 6)?);
                    if !is_pair {
                        return Err(self.malformed("half of a surrogate pair"));
                    }
                    self.at += 12;
                }
                0xdc00..=0xdfff => return Err(self.malformed("half of a surrogate pair")),
                _ => self.at += 6,
            },
            _ => return Err(self.malformed("an escape that is none of JSON's")),
        }
        Ok(())
    }

    /// The unit of UTF-16 that the escape at `at` stands for.
    fn unit(&self, at: usize) -> Result<u16, JsonError> {
        let digits = self.bytes.get(at + 2..at + 6).unwrap_or_default();
        hex(digits).ok_or_else(|| self.malformed("four hexadecimal digits are due"))
    }

    fn number(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        let index = self.push(Kind::Number, start)?;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.exponent()?;
        }
        if matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(self.malformed("a number with a zero before it"));
        }
        self.nodes[index].count = (self.at - start) as u32;
        Ok(())
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err(self.malformed("a digit is due")) } else { Ok(()) }
    }

    fn exponent(&mut self) -> Result<(), JsonError> {
        self.at += 1;
        if matches!(self.peek(), Some(b'+' | b'-')) {
            self.at += 1;
        }
        let start = self.at;
        self.digits()?;
        let significant = self.bytes[start..self.at].iter().skip_while(|digit| **digit == b'0').count();
        match significant <= EXPONENT_DIGITS_MAX {
            true => Ok(()),
            false => Err(self.malformed("an exponent beyond all measure")),
        }
    }
}

fn hex(digits: &[u8]) -> Option<u16> {
    if digits.len() != 4 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// The text of a string whose escapes were found to be in order.
pub(super) fn unescape(literal: &str) -> String {
    let mut text = String::with_capacity(literal.len());
    let mut rest = literal;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let escape = &rest.as_bytes()[at + 1..];
        let unit = |at: usize| hex(escape.get(at..at + 4).unwrap_or_default()).unwrap_or_default();
        let (letter, length) = match escape.first() {
            Some(b'b') => ('\u{8}', 2),
            Some(b'f') => ('\u{c}', 2),
            Some(b'n') => ('\n', 2),
            Some(b'r') => ('\r', 2),
            Some(b't') => ('\t', 2),
            Some(b'u') => match unit(1) {
                high @ 0xd800..=0xdbff => (paired(high, unit(7)), 12),
                alone => (char::from_u32(u32::from(alone)).unwrap_or_default(), 6),
            },
            Some(other) => (char::from(*other), 2),
            None => break,
        };
        text.push(letter);
        rest = rest.get(at + length..).unwrap_or_default();
    }
    text.push_str(rest);
    text
}

fn paired(high: u16, low: u16) -> char {
    let bits = (u32::from(high) & 0x3ff) << 10 | u32::from(low) & 0x3ff;
    char::from_u32(0x1_0000 + bits).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::json::Item;

    fn read(text: &str) -> Result<Json<'_>, JsonError> {
        super::read(text.as_bytes(), &JsonBounds::default())
    }

    fn what(text: &str) -> String {
        read(text).map(|_| ()).expect_err(text).to_string()
    }

    #[test]
    fn rfc8259_values_are_read_in_order() {
        let json = read(" {\"b\": [1, -2.5e3 , true], \"a\\u0062\":{}, \"\" : \"x\\n\\ud83d\\ude00\" } ")
            .expect("JSON");
        let root = json.root();
        assert_eq!(root.len(), 3);
        assert_eq!(
            root.members().map(|(name, _)| name.decoded().into_owned()).collect::<Vec<_>>(),
            ["b", "ab", ""]
        );
        assert_eq!(root.get("").and_then(|item| item.text()).as_deref(), Some("x\n😀"));
        assert_eq!(root.get("ab").map(|item| item.kind()), Some(Kind::Object));
        let items: Vec<_> = root.get("b").expect("b").items().collect();
        assert_eq!(
            items.iter().map(Item::kind).collect::<Vec<_>>(),
            [Kind::Number, Kind::Number, Kind::True]
        );
        assert_eq!(items[1].number(), Some(crate::json::Decimal::of("-2500")));
        assert!(root.get("c").is_none());
    }

    #[test]
    fn rfc8259_what_is_not_json_is_refused_with_its_place() {
        assert_eq!(what("{\n \"a\": 01}"), "a number with a zero before it at line 2, column 8");
        assert_eq!(what("[1,]"), "no value begins so at line 1, column 4");
        assert_eq!(what(""), "it ends where a value is due at line 1, column 1");
        for text in [
            "[1 2]",
            "{a:1}",
            "{\"a\"}",
            "{\"a\":1,}",
            "nul",
            "NaN",
            "+1",
            "1.",
            ".5",
            "1e",
            "-",
            "[",
            "\"",
            "\"\t\"",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\u{feff}1",
            "1 1",
            "'a'",
            "[1]//",
            "tru",
            "\"\\u12",
        ] {
            assert!(read(text).is_err(), "{text:?}");
        }
        assert!(super::read(b"\"\xff\"", &JsonBounds::default()).is_err());
    }

    #[test]
    fn what_readers_differ_in_is_refused() {
        assert_eq!(
            what("{\"a\":1,\"b\":2,\"\\u0061\":3}"),
            "a name that stands twice in one object at line 1, column 14"
        );
        assert!(what("\"\\ud800\"").starts_with("half of a surrogate pair"));
        assert!(what("\"\\ud800\\u0041\"").starts_with("half of a surrogate pair"));
        assert!(what("\"\\udc00\"").starts_with("half of a surrogate pair"));
        assert!(what("1e1000000000").starts_with("an exponent beyond all measure"));
        assert!(read("1e0000000000001").is_ok() && read("{\"a\":{\"a\":1}}").is_ok());
    }

    #[test]
    fn bombs_stop_at_their_bounds() {
        let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(read(&deep(64)).is_ok());
        assert_eq!(what(&deep(65)), "it has too many levels, of which at most 64 are read");
        assert!(what(&"[".repeat(1_000_000)).starts_with("it has too many levels"));
        let bounds = JsonBounds { values_max: 3, ..JsonBounds::default() };
        assert!(super::read(b"[0,0]", &bounds).is_ok());
        assert!(matches!(super::read(b"[0,0,0]", &bounds), Err(JsonError::TooMuch { max: 3, .. })));
    }

    #[test]
    fn equality_is_of_values_not_of_letters() {
        let equal = |one: &str, other: &str| {
            let (one, other) = (read(one).expect("JSON"), read(other).expect("JSON"));
            let hash = |item: Item<'_>| {
                use std::hash::{Hash as _, Hasher as _};
                let mut hasher = rustc_hash::FxHasher::default();
                item.hash(&mut hasher);
                hasher.finish()
            };
            let is_equal = one.root() == other.root();
            assert!(!is_equal || hash(one.root()) == hash(other.root()), "equal values have equal sums");
            is_equal
        };
        assert!(equal("{\"a\":1,\"b\":[1.0]}", "{\"b\":[1],\"\\u0061\":10e-1}"));
        assert!(!equal("[1,2]", "[2,1]") && !equal("{\"a\":1}", "{\"a\":1,\"b\":2}") && !equal("1", "true"));
        assert!(!equal("{\"a\":1}", "{\"b\":1}") && !equal("0", "false") && equal("null", "null"));
    }

    /// Any JSON, as text.
    fn any_json() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("null".to_owned()),
            any::<bool>().prop_map(|truth| truth.to_string()),
            (-1000_i32..1000, 0_u32..3).prop_map(|(number, e)| format!("{number}e{e}")),
            "[a-z\\\\\"é😀\n]{0,6}".prop_map(|text| quoted(&text)),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5)
                    .prop_map(|items| format!("[{}]", items.join(","))),
                proptest::collection::btree_map("[a-c\"]{0,2}", inner, 0..5).prop_map(|members| {
                    let member = |(name, value): (String, String)| format!("{} : {value}", quoted(&name));
                    format!("{{{}}}", members.into_iter().map(member).collect::<Vec<_>>().join(" ,\n"))
                }),
            ]
        })
    }

    fn quoted(text: &str) -> String {
        let mut quoted = String::from("\"");
        for unit in text.encode_utf16() {
            quoted.push_str(&format!("\\u{unit:04x}"));
        }
        quoted + "\""
    }

    /// Writes a value again, from what was read of it.
    fn written(item: Item<'_>) -> String {
        let list = |parts: Vec<String>| parts.join(",");
        match item.kind() {
            Kind::Null => "null".to_owned(),
            Kind::True => "true".to_owned(),
            Kind::False => "false".to_owned(),
            Kind::Number => item.literal().to_owned(),
            Kind::String => quoted(&item.text().expect("a string")),
            Kind::Array => format!("[{}]", list(item.items().map(written).collect())),
            Kind::Object => {
                let member =
                    |(name, value): (Item<'_>, _)| format!("{}:{}", quoted(&name.decoded()), written(value));
                format!("{{{}}}", list(item.members().map(member).collect()))
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_was_written(text in any_json()) {
            let json = read(&text).expect("JSON");
            let again = written(json.root());
            let json_again = read(&again).expect("JSON");
            prop_assert!(json.root() == json_again.root(), "{} {}", text, again);
            for (name, value) in json.root().members() {
                prop_assert_eq!(json.root().get(&name.decoded()).expect("a member"), value);
            }
        }
    }
}

//! Just enough of Rust's grammar to measure functions: comments, strings and characters are blanked
//! first, so that what is left has braces and keywords that mean what they look like. No parser
//! crate: the checks must build in seconds and outlive changes of the grammar.

/// A function and how long it is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    /// Line of the word `fn`, from 1.
    pub(crate) line: usize,
    /// Lines from the word `fn` to the closing brace, both counted.
    pub(crate) lines: usize,
}

/// The source with the insides of comments, strings and character literals turned to spaces.
/// Lines stay where they are; what is not ASCII becomes spaces too.
pub(crate) fn blanked(source: &str) -> String {
    let mut blanker = Blanker { bytes: source.as_bytes(), at: 0, out: Vec::with_capacity(source.len()) };
    blanker.run();
    blanker.out.into_iter().map(char::from).collect()
}

struct Blanker<'a> {
    bytes: &'a [u8],
    at: usize,
    out: Vec<u8>,
}

impl Blanker<'_> {
    fn run(&mut self) {
        while let Some(byte) = self.peek(0) {
            match (byte, self.peek(1)) {
                (b'/', Some(b'/')) => self.line_comment(),
                (b'/', Some(b'*')) => self.block_comment(),
                (b'"', _) => self.quoted(b'"'),
                (b'\'', _) if self.is_character() => self.quoted(b'\''),
                (b'r', _) if self.raw_hashes().is_some() => self.raw_string(),
                _ => self.keep(),
            }
        }
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.bytes.get(self.at + ahead).copied()
    }

    fn keep(&mut self) {
        let byte = self.bytes[self.at];
        self.out.push(if byte.is_ascii() { byte } else { b' ' });
        self.at += 1;
    }

    fn blank(&mut self, count: usize) {
        for _ in 0..count {
            let Some(byte) = self.peek(0) else { return };
            self.out.push(if byte == b'\n' { b'\n' } else { b' ' });
            self.at += 1;
        }
    }

    fn line_comment(&mut self) {
        while self.peek(0).is_some_and(|byte| byte != b'\n') {
            self.blank(1);
        }
    }

    /// Block comments nest in Rust.
    fn block_comment(&mut self) {
        let mut depth = 0_usize;
        while self.peek(0).is_some() {
            match (self.peek(0), self.peek(1)) {
                (Some(b'/'), Some(b'*')) => {
                    depth += 1;
                    self.blank(2);
                }
                (Some(b'*'), Some(b'/')) => {
                    depth -= 1;
                    self.blank(2);
                    if depth == 0 {
                        return;
                    }
                }
                _ => self.blank(1),
            }
        }
    }

    /// A string or character literal with escapes, from its opening quote.
    fn quoted(&mut self, quote: u8) {
        self.blank(1);
        while let Some(byte) = self.peek(0) {
            self.blank(if byte == b'\\' { 2 } else { 1 });
            if byte == quote {
                return;
            }
        }
    }

    /// `'a'` and `'\n'` are characters, `'a` in `&'a str` is a lifetime.
    fn is_character(&self) -> bool {
        let Some(first) = self.peek(1) else { return false };
        let width = match first {
            b'\\' => return true,
            0x00..=0x7f => 1,
            0x80..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xff => 4,
        };
        self.peek(1 + width) == Some(b'\'')
    }

    /// The number of `#` of a raw string that begins at this `r`; `None` when none begins here.
    fn raw_hashes(&self) -> Option<usize> {
        let prefix_start = match self.before(1) {
            Some(b'b' | b'c') => 2,
            _ => 1,
        };
        if self.before(prefix_start).is_some_and(is_identifier) {
            return None;
        }
        let hashes = self.bytes[self.at + 1..].iter().take_while(|byte| **byte == b'#').count();
        (self.peek(1 + hashes) == Some(b'"')).then_some(hashes)
    }

    fn before(&self, back: usize) -> Option<u8> {
        self.at.checked_sub(back).map(|at| self.bytes[at])
    }

    fn raw_string(&mut self) {
        let hashes = self.raw_hashes().unwrap_or(0);
        self.blank(hashes + 2);
        while let Some(byte) = self.peek(0) {
            let closing = self.bytes[self.at + 1..].iter().take(hashes).filter(|byte| **byte == b'#').count();
            if byte == b'"' && closing == hashes {
                self.blank(1 + hashes);
                return;
            }
            self.blank(1);
        }
    }
}

fn is_identifier(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The functions with a body in `blanked` source, in the order in which they begin.
pub(crate) fn functions(blanked: &str) -> Vec<Function> {
    let mut found = Vec::new();
    for (start, _) in blanked.match_indices("fn ") {
        let starts_word = start == 0 || !is_identifier(blanked.as_bytes()[start - 1]);
        let name: String =
            blanked[start + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if !starts_word || name.is_empty() {
            continue;
        }
        if let Some(end) = body_end(blanked.as_bytes(), start) {
            let line = 1 + newlines(&blanked[..start]);
            found.push(Function { name, line, lines: 1 + newlines(&blanked[start..end]) });
        }
    }
    found
}

fn newlines(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'\n').count()
}

/// Where the body of the function whose `fn` stands at `start` closes; `None` for a declaration.
fn body_end(source: &[u8], start: usize) -> Option<usize> {
    let mut braces = 0_usize;
    let mut brackets = 0_usize;
    for (at, byte) in source.iter().enumerate().skip(start) {
        match byte {
            b'(' | b'[' => brackets += 1,
            b')' | b']' => brackets = brackets.saturating_sub(1),
            b';' if braces == 0 && brackets == 0 => return None,
            // A brace inside brackets of the signature is a const expression, as in `[u8; { N }]`.
            b'{' if braces > 0 || brackets == 0 => braces += 1,
            b'}' if braces > 0 => {
                braces -= 1;
                if braces == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

/// Blanked source up to its test module: what runs in production.
pub(crate) fn without_tests(blanked: &str) -> &str {
    let marks = blanked.match_indices("#[cfg(test)]");
    let mut modules = marks.filter(|(at, mark)| blanked[at + mark.len()..].trim_start().starts_with("mod "));
    match modules.next() {
        Some((at, _)) => &blanked[..at],
        None => blanked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(source: &str) -> Vec<(String, usize, usize)> {
        let functions = functions(&blanked(source));
        functions.into_iter().map(|function| (function.name, function.line, function.lines)).collect()
    }

    #[test]
    fn a_function_is_measured_from_its_first_to_its_last_line() {
        let source = "//! Head.\n\npub fn one() {}\n\nasync fn three(\n    a: u8) {\n}\n";
        assert_eq!(measured(source), [("one".into(), 3, 1), ("three".into(), 5, 3)]);
    }

    #[test]
    fn braces_in_strings_comments_and_characters_do_not_count() {
        let source =
            "fn a() {\n  let s = \"}\\\"}\"; // }\n  /* } /* } */ } */\n  let c = ('}', '\\'', b'}');\n}\n";
        assert_eq!(measured(source), [("a".into(), 1, 5)]);
    }

    #[test]
    fn raw_strings_end_with_as_many_hashes_as_they_began() {
        let source = "fn a() {\n  let s = r#\"fn b() { \"} \"#;\n  let t = br\"\\\";\n  let r#fn = 1;\n}\n";
        assert_eq!(measured(source), [("a".into(), 1, 5)]);
    }

    #[test]
    fn lifetimes_are_not_characters() {
        let source = "fn a<'a>(x: &'a str) -> &'a str {\n  let e = 'é';\n  x\n}\n";
        assert_eq!(measured(source), [("a".into(), 1, 4)]);
    }

    #[test]
    fn declarations_and_pointers_to_functions_have_no_body() {
        let source =
            "trait T {\n  fn a(x: [u8; 3]) -> u8;\n  fn b(f: fn (u8)) { }\n}\nstruct S { f: fn(u8) }\n";
        assert_eq!(measured(source), [("b".into(), 3, 1)]);
    }

    #[test]
    fn an_array_type_in_the_signature_does_not_end_it() {
        assert_eq!(measured("fn a() -> [u8; { 1 + 1 }] {\n  [0; 2]\n}\n"), [("a".into(), 1, 3)]);
    }

    #[test]
    fn tests_are_cut_off_and_single_test_items_are_not() {
        let source = "#[cfg(test)]\nuse x;\nfn a() {}\n#[cfg(test)]\nmod tests { fn b() {} }\n";
        assert_eq!(functions(without_tests(source)).len(), 1);
        assert_eq!(without_tests("fn a() {}"), "fn a() {}");
    }

    #[test]
    fn unfinished_source_is_survived() {
        for source in ["\"", "'", "r#\"", "/* /*", "fn a() {", "fn ", "'\\", "b'"] {
            assert_eq!(blanked(source).len(), source.len());
            assert!(functions(&blanked(source)).is_empty());
        }
    }
}

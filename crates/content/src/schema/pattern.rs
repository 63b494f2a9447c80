//! `pattern` (ECMA-262 with the flag `u`, as JSON Schema wants it) in terms of a machine that never looks back.
//!
//! The machine needs time in proportion to the text, whatever the pattern: no pattern can be made to hang by a text. What it
//! cannot do, looking around and backwards, is refused when the file is loaded. Where both write the same and mean
//! different things (`\d` is ASCII alone for ECMA), the pattern is rewritten.

use regex::Regex;

/// The most memory that one pattern may take, compiled.
const SIZE_BYTES_MAX: usize = 4 << 20;
/// The most memory that matching keeps beside it.
const CACHE_BYTES_MAX: usize = 1 << 20;
/// Patterns may be nested that deep.
const NEST_MAX: u32 = 64;

/// A compiled pattern, not anchored.
#[derive(Debug, Clone)]
pub(crate) struct Pattern(Regex);

impl Pattern {
    /// Compiles `pattern`; the error says why it cannot be.
    pub(crate) fn compile(pattern: &str) -> Result<Self, String> {
        let rewritten = rewritten(pattern)?;
        let built = regex::RegexBuilder::new(&rewritten)
            .size_limit(SIZE_BYTES_MAX)
            .dfa_size_limit(CACHE_BYTES_MAX)
            .nest_limit(NEST_MAX)
            .build();
        built.map(Self).map_err(|error| why(&error))
    }

    pub(crate) fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

fn why(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(_) => format!("it takes more than {SIZE_BYTES_MAX} bytes, compiled"),
        // Its last line says what is wrong; those before show the pattern as it was rewritten.
        error => {
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default();
            let bare = last.strip_prefix("error: ").unwrap_or(last);
            bare.replace("look-around, including look-ahead and look-behind, is not supported", LOOKS_AROUND)
        }
    }
}

const LOOKS_AROUND: &str =
    "looking ahead or behind is not supported: no machine does it in time linear in the text";

const DIGITS: &str = "0-9";
const WORD: &str = "0-9A-Za-z_";
/// ECMA-262, WhiteSpace and LineTerminator.
const SPACE: &str =
    r"\t\n\x0b\x0c\r \u{a0}\u{1680}\u{2000}-\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}\u{feff}";

struct Rewriter<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    out: String,
    is_in_class: bool,
}

fn rewritten(pattern: &str) -> Result<String, String> {
    let mut rewriter = Rewriter {
        rest: pattern.chars().peekable(),
        out: String::with_capacity(pattern.len() + 16),
        is_in_class: false,
    };
    while let Some(letter) = rewriter.rest.next() {
        rewriter.letter(letter)?;
    }
    Ok(rewriter.out)
}

impl Rewriter<'_> {
    fn letter(&mut self, letter: char) -> Result<(), String> {
        match letter {
            '\\' => return self.escape(),
            '[' if self.is_in_class => self.out.push_str(r"\["),
            '[' => self.open_class(),
            ']' => {
                self.is_in_class = false;
                self.out.push(']');
            }
            // In a class two of these are an operator here, and two letters there.
            '&' | '~' if self.is_in_class => {
                self.out.push('\\');
                self.out.push(letter);
            }
            '.' if !self.is_in_class => self.out.push_str(r"[^\n\r\u{2028}\u{2029}]"),
            letter => self.out.push(letter),
        }
        Ok(())
    }

    fn open_class(&mut self) {
        let is_negated = self.rest.next_if_eq(&'^').is_some();
        if self.rest.next_if_eq(&']').is_some() {
            // `[]` matches nothing and `[^]` everything.
            self.out.push_str(if is_negated { r"[\s\S]" } else { r"[^\s\S]" });
            return;
        }
        self.out.push_str(if is_negated { "[^" } else { "[" });
        self.is_in_class = true;
    }

    /// A set of letters, in a class or as one.
    fn set(&mut self, letters: &str, is_negated: bool) -> Result<(), String> {
        match (self.is_in_class, is_negated) {
            (true, false) => self.out.push_str(letters),
            (true, true) => self.out.push_str(&format!("[^{letters}]")),
            (false, false) => self.out.push_str(&format!("[{letters}]")),
            (false, true) => self.out.push_str(&format!("[^{letters}]")),
        }
        // Behind a set a hyphen can begin no range: `[\w-.]` is written by many.
        if self.is_in_class && self.rest.next_if_eq(&'-').is_some() {
            self.out.push_str(r"\-");
        }
        Ok(())
    }

    fn escape(&mut self) -> Result<(), String> {
        let Some(letter) = self.rest.next() else { return Err("it ends with a backslash".to_owned()) };
        match letter {
            'd' | 'D' => return self.set(DIGITS, letter == 'D'),
            'w' | 'W' => return self.set(WORD, letter == 'W'),
            's' | 'S' => return self.set(SPACE, letter == 'S'),
            'b' if self.is_in_class => self.out.push_str(r"\x08"),
            'b' => self.out.push_str(r"(?-u:\b)"),
            'B' if !self.is_in_class => self.out.push_str(r"(?-u:\B)"),
            'f' | 'n' | 'r' | 't' | 'v' => {
                self.out.push('\\');
                self.out.push(letter);
            }
            '0' if !self.rest.peek().is_some_and(char::is_ascii_digit) => self.out.push_str(r"\x00"),
            'c' => return self.control(),
            'x' => {
                let unit = self.hex(2)?;
                self.literal(unit);
            }
            'u' => return self.unicode(),
            'p' | 'P' => return self.property(letter),
            '1'..='9' => return Err("references back to a group are not supported".to_owned()),
            'k' => return Err("references back to a group are not supported".to_owned()),
            '^' | '$' | '\\' | '.' | '*' | '+' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '|' | '/'
            | '-' => {
                self.literal(u32::from(letter));
            }
            // A slip that the flag u forbids and that all write: `\@`, `\"`. Letters and digits are kept for meanings to come.
            letter if !letter.is_ascii_alphanumeric() => self.literal(u32::from(letter)),
            letter => return Err(format!(r"\{letter} means nothing in ECMA-262")),
        }
        Ok(())
    }

    fn literal(&mut self, code: u32) {
        self.out.push_str(&format!(r"\u{{{code:x}}}"));
    }

    fn control(&mut self) -> Result<(), String> {
        match self.rest.next() {
            Some(letter) if letter.is_ascii_alphabetic() => {
                self.literal(u32::from(letter) % 32);
                Ok(())
            }
            _ => Err(r"\c wants a letter".to_owned()),
        }
    }

    fn hex(&mut self, digits: usize) -> Result<u32, String> {
        let mut code = 0;
        for _ in 0..digits {
            let digit = self.rest.next().and_then(|letter| letter.to_digit(16));
            code = code * 16 + digit.ok_or_else(|| format!("{digits} hexadecimal digits are due"))?;
        }
        Ok(code)
    }

    fn unicode(&mut self) -> Result<(), String> {
        if self.rest.next_if_eq(&'{').is_some() {
            let digits: String = std::iter::from_fn(|| self.rest.next_if(char::is_ascii_hexdigit)).collect();
            let code = u32::from_str_radix(&digits, 16).ok().filter(|code| char::from_u32(*code).is_some());
            return match (code, self.rest.next()) {
                (Some(code), Some('}')) => {
                    self.literal(code);
                    Ok(())
                }
                _ => Err(r"\u{…} wants a code point".to_owned()),
            };
        }
        let unit = self.hex(4)?;
        if !(0xd800..0xe000).contains(&unit) {
            self.literal(unit);
            return Ok(());
        }
        let is_followed = self.rest.next_if_eq(&'\\').is_some() && self.rest.next_if_eq(&'u').is_some();
        let low = if is_followed { self.hex(4)? } else { 0 };
        if unit >= 0xdc00 || !(0xdc00..0xe000).contains(&low) {
            return Err("half of a surrogate pair".to_owned());
        }
        self.literal(0x1_0000 + ((unit & 0x3ff) << 10) + (low & 0x3ff));
        Ok(())
    }

    /// `\p{Letter}`, `\p{L}`, `\p{Script=Greek}`: the same here, but one-letter forms without braces are not ECMA's.
    fn property(&mut self, letter: char) -> Result<(), String> {
        if self.rest.next_if_eq(&'{').is_none() {
            return Err(format!(r"\{letter} wants a property in braces"));
        }
        let name: String = std::iter::from_fn(|| self.rest.next_if(|letter| *letter != '}')).collect();
        self.rest.next();
        // Some write the long name of a category in small letters; here case does not matter anyway.
        self.out.push_str(&format!(r"\{letter}{{{name}}}"));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(pattern: &str, text: &str) -> bool {
        Pattern::compile(pattern).expect(pattern).is_match(text)
    }

    #[test]
    fn what_ecma_262_means_differently_is_rewritten() {
        assert!(is(r"^\d+$", "123") && !is(r"^\d$", "৩") && is(r"^\D$", "৩"));
        assert!(is(r"^\w+$", "aZ_9") && !is(r"^\w$", "é") && is(r"^[^\w]$", "é") && is(r"^[\W]$", "é"));
        assert!(
            is(r"^\s$", "\u{feff}")
                && is(r"^\s$", "\u{2029}")
                && !is(r"^\s$", "\u{1}")
                && is(r"^\S$", "\u{85}")
        );
        assert!(!is("^.$", "\u{2028}") && is("^.$", "😀") && !is("^a$", "a\n"));
        assert!(is(r"^\cC\x41\u0042\u{43}\0$", "\u{3}ABC\0") && is(r"^\ud83d\ude00$", "😀"));
        assert!(
            is(r"^[a&&b]$", "&")
                && is(r"^[[a]$", "[")
                && is("^[^]$", "\n")
                && !is("[]", "x")
                && is(r"^[\b]$", "\u{8}")
        );
        assert!(
            is(r"\bword\b", "a word.")
                && is(r"\p{Letter}", "é")
                && is(r"^\P{L}$", "1")
                && is(r"^\p{Script=Greek}$", "λ")
        );
        assert!(is(r"^[\w-.]+@[\w.\-]+\.[a-z]{2,}$", "a.b-c@d-e.fr") && is(r"^\/a\-b\@$", "/a-b@"));
    }

    #[test]
    fn what_cannot_be_matched_in_linear_time_is_refused_and_says_why() {
        let why = |pattern: &str| Pattern::compile(pattern).expect_err(pattern);
        assert!(why("^(?=a)").contains("looking ahead or behind"), "{}", why("^(?=a)"));
        assert!(why(r"(a)\1").contains("references back"));
        assert!(why(r"\a").contains("means nothing") && why(r"\Z").contains("means nothing"));
        assert!(why("(").contains("unclosed") && why("a\\").contains("backslash"));
        assert!(why("(a{1000}){1000}").contains("bytes, compiled"));
        assert!(why(&"(".repeat(1000)).len() < 200);
    }

    #[test]
    fn a_pattern_that_hangs_others_does_not_hang() {
        assert!(!is("^(a+)+$", &("a".repeat(100_000) + "b")));
        assert!(!is("^(a|aa|a?)*$", &("a".repeat(100_000) + "b")));
    }
}

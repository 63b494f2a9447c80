//! Text without what a terminal would obey.
//!
//! Programs colour what they print, and strangers put control sequences into what programs print. A record is read on
//! pages, in terminals and by other programs, so it holds neither; colours are put on again by whoever shows it.

use std::borrow::Cow;

const ESCAPE: char = '\u{1b}';

/// The text without escape sequences (ECMA-48 sections 5.3 to 5.6) and control characters. Tabs and line ends stay.
pub fn clean(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unwanted) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        rest = &rest[first.len_utf8()..];
        match first {
            ESCAPE => rest = after_escape(rest),
            '\u{9b}' => rest = after_csi(rest),
            '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}' => rest = after_string(rest),
            unwanted if is_unwanted(unwanted) => {}
            plain => out.push(plain),
        }
    }
    Cow::Owned(out)
}

fn is_unwanted(character: char) -> bool {
    character.is_control() && character != '\t' && character != '\n'
}

/// What follows an escape sequence of which the escape itself was read.
fn after_escape(rest: &str) -> &str {
    match rest.as_bytes().first() {
        Some(b'[') => after_csi(&rest[1..]),
        Some(b']' | b'P' | b'X' | b'^' | b'_') => after_string(&rest[1..]),
        Some(0x20..=0x7e) => {
            let intermediates = rest.bytes().take_while(|byte| matches!(byte, 0x20..=0x2f)).count();
            let is_final = rest.as_bytes().get(intermediates).is_some_and(|byte| matches!(byte, 0x30..=0x7e));
            &rest[intermediates + usize::from(is_final)..]
        }
        _ => rest,
    }
}

/// Parameters, intermediates and the final byte of a control sequence; what is none of these is left in the text.
fn after_csi(rest: &str) -> &str {
    let inner = rest.bytes().take_while(|byte| matches!(byte, 0x20..=0x3f)).count();
    let is_final = rest.as_bytes().get(inner).is_some_and(|byte| matches!(byte, 0x40..=0x7e));
    &rest[inner + usize::from(is_final)..]
}

/// A control string such as a window's title ends with BEL or ST. One that does not end is left in the text, so that a
/// lone `ESC ]` cannot hide the rest of a line.
fn after_string(rest: &str) -> &str {
    for (at, character) in rest.char_indices() {
        match character {
            '\u{7}' | '\u{9c}' => return &rest[at + character.len_utf8()..],
            ESCAPE if rest[at + 1..].starts_with('\\') => return &rest[at + 2..],
            ESCAPE | '\n' => return rest,
            _ => {}
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn colours_and_titles_are_gone_and_the_words_stay() {
        assert_eq!(clean("\u{1b}[32minfo\u{1b}[39m: \u{1b}[1;38;5;208mready\u{1b}[m"), "info: ready");
        assert_eq!(clean("\u{1b}]0;title\u{7}a\u{1b}]8;;http://x\u{1b}\\link\u{1b}]8;;\u{1b}\\"), "alink");
        assert_eq!(clean("a\u{1b}(Bb\u{1b}7c\u{9b}2Jd\r\u{7f}\u{8}e"), "abcde");
        assert_eq!(clean("two\n\tlines"), "two\n\tlines");
    }

    #[test]
    fn a_sequence_that_never_ends_hides_nothing() {
        assert_eq!(clean("\u{1b}]password wrong for eve"), "password wrong for eve");
        assert_eq!(clean("\u{1b}[31"), "");
        assert_eq!(clean("\u{1b}"), "");
        assert_eq!(clean("\u{1b}é"), "é");
    }

    proptest! {
        #[test]
        fn what_is_clean_stays_and_nothing_unwanted_is_left(text in any::<String>()) {
            let cleaned = clean(&text).into_owned();
            prop_assert!(!cleaned.chars().any(is_unwanted));
            prop_assert_eq!(clean(&cleaned), cleaned.as_str());
            if !text.chars().any(is_unwanted) {
                prop_assert_eq!(cleaned, text);
            }
        }
    }
}

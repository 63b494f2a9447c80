//! The text of every file that was read, and how to point into it.
//!
//! A value keeps its [`Origin`]: eight bytes that name a file and a stretch of its text. Everything a person is
//! shown (file, line, column, the line itself) is worked out from that, late, and only when there is something
//! to show.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A stretch of bytes in one of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Index into [`Sources`].
    pub(crate) file: u32,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Origin {
    /// From the definition of its table: nobody wrote it.
    BuiltIn,
    /// Written in a file.
    Text(Place),
}

/// One line of a file, ready to be shown, and the part of it that is meant.
#[derive(Debug)]
pub(crate) struct Excerpt {
    pub(crate) file: PathBuf,
    /// Counted from 1.
    pub(crate) line: usize,
    /// In characters, counted from 1.
    pub(crate) column: usize,
    /// The line without its end; shortened when long, made harmless for a terminal.
    pub(crate) text: String,
    /// Characters of `text` before the underlined part.
    pub(crate) underline_from: usize,
    /// Characters underlined, at least 1.
    pub(crate) underline_width: usize,
}

#[derive(Debug)]
struct Source {
    path: PathBuf,
    text: String,
    /// Byte offset at which each line starts.
    lines: Vec<usize>,
}

/// All files read for one configuration.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    files: Vec<Source>,
    /// Stretches that hold a secret written where none belongs: never shown.
    hidden: BTreeSet<Place>,
}

/// Characters of one source line that are shown at most: a minified line must not flood the terminal.
const LINE_SHOWN_CHARS_MAX: usize = 110;

impl Sources {
    pub(crate) fn add(&mut self, path: &Path, text: String) -> u32 {
        let starts = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(starts).collect();
        self.files.push(Source { path: path.to_owned(), text, lines });
        u32::try_from(self.files.len() - 1).unwrap_or(u32::MAX)
    }

    pub(crate) fn text(&self, file: u32) -> &str {
        &self.source(file).text
    }

    pub(crate) fn path(&self, file: u32) -> &Path {
        &self.source(file).path
    }

    /// Marks a stretch as not to be shown in any excerpt from now on.
    pub(crate) fn hide(&mut self, place: Place) {
        self.hidden.insert(place);
    }

    /// Line (counted from 1) at which `place` starts.
    pub(crate) fn line(&self, place: Place) -> usize {
        let starts = &self.source(place.file).lines;
        starts.partition_point(|start| *start <= place.start as usize)
    }

    /// `file:line` for a person.
    pub(crate) fn label(&self, origin: Origin) -> String {
        match origin {
            Origin::BuiltIn => "built-in".to_owned(),
            Origin::Text(place) => format!("{}:{}", self.path(place.file).display(), self.line(place)),
        }
    }

    /// The place of byte `offset` of `text`, which is written as a string at `origin`. When the string is written
    /// with escapes, its bytes are not those of the file, and the whole string is meant.
    pub(crate) fn inside(&self, origin: Origin, text: &str, offset: usize) -> Origin {
        let Origin::Text(place) = origin else { return origin };
        let (start, end) = (place.start as usize, place.end as usize);
        let written = self.text(place.file).get(start + 1..end.saturating_sub(1).max(start + 1));
        if written != Some(text) {
            return origin;
        }
        let from = (start + 1 + offset).min(end - 1);
        let narrow = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Origin::Text(Place { file: place.file, start: narrow(from), end: narrow((end - 1).max(from + 1)) })
    }

    /// The line at `place`, with the stretch to underline.
    pub(crate) fn excerpt(&self, place: Place) -> Excerpt {
        let source = self.source(place.file);
        let line = self.line(place);
        let line_start = source.lines[line - 1];
        let line_text = source.text[line_start..].split('\n').next().unwrap_or_default();
        let line_text = line_text.strip_suffix('\r').unwrap_or(line_text);
        let from = floor(line_text, (place.start as usize).saturating_sub(line_start));
        let to = floor(line_text, (place.end as usize).saturating_sub(line_start)).max(from);
        let before = line_text[..from].chars().count();
        let width = line_text[from..to].chars().count().max(1);
        let shown = self.harmless(place.file, line_start, line_text);
        let mut excerpt = Excerpt {
            file: source.path.clone(),
            line,
            column: before + 1,
            text: shown,
            underline_from: before,
            underline_width: width,
        };
        excerpt.shorten();
        excerpt
    }

    /// The line character by character: what is hidden as `•`, what would move the cursor as a space.
    fn harmless(&self, file: u32, line_start: usize, line: &str) -> String {
        let hidden: Vec<Place> = self.hidden.iter().filter(|place| place.file == file).copied().collect();
        let is_hidden =
            |at: usize| hidden.iter().any(|place| (place.start as usize..place.end as usize).contains(&at));
        line.char_indices()
            .map(|(at, character)| match character {
                _ if is_hidden(line_start + at) => '•',
                '\t' => ' ',
                _ if is_invisible(character) => '\u{fffd}',
                _ => character,
            })
            .collect()
    }

    fn source(&self, file: u32) -> &Source {
        // Invariant: a `Place` is made only by the reader of the file it names.
        &self.files[file as usize]
    }
}

impl Excerpt {
    /// Cuts a long line to a window around the underlined part.
    fn shorten(&mut self) {
        let length = self.text.chars().count();
        self.underline_width = self.underline_width.min(LINE_SHOWN_CHARS_MAX);
        if length <= LINE_SHOWN_CHARS_MAX {
            return;
        }
        let slack = LINE_SHOWN_CHARS_MAX - self.underline_width;
        let first = self.underline_from.saturating_sub(slack / 2).min(length - LINE_SHOWN_CHARS_MAX);
        let window: String = self.text.chars().skip(first).take(LINE_SHOWN_CHARS_MAX).collect();
        let lead = if first > 0 { "…" } else { "" };
        let tail = if first + LINE_SHOWN_CHARS_MAX < length { "…" } else { "" };
        self.text = format!("{lead}{window}{tail}");
        self.underline_from = self.underline_from - first + lead.chars().count();
    }
}

/// Control characters and those that reorder text (a right-to-left override could make a line look like another).
fn is_invisible(character: char) -> bool {
    let reorders =
        matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    character.is_control() || reorders
}

/// The nearest character border at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excerpt(text: &str, start: u32, end: u32) -> Excerpt {
        let mut sources = Sources::default();
        let file = sources.add(Path::new("a.toml"), text.to_owned());
        sources.excerpt(Place { file, start, end })
    }

    #[test]
    fn columns_count_characters_not_bytes() {
        let excerpt = excerpt("é = 1\nü = \"x\"\n", 12, 15);
        assert_eq!((excerpt.line, excerpt.column, excerpt.text.as_str()), (2, 5, "ü = \"x\""));
        assert_eq!(excerpt.underline_width, 3);
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let text = format!("a = [{}, X]", "1, ".repeat(200));
        let at = u32::try_from(text.find('X').unwrap()).unwrap();
        let excerpt = excerpt(&text, at, at + 1);
        assert_eq!(excerpt.text.chars().nth(excerpt.underline_from), Some('X'));
        assert!(excerpt.text.chars().count() <= LINE_SHOWN_CHARS_MAX + 2);
    }

    #[test]
    fn what_would_move_the_cursor_is_not_shown() {
        assert_eq!(excerpt("a\u{1b}[2J\tb\u{202e}", 0, 1).text, "a\u{fffd}[2J b\u{fffd}");
    }

    #[test]
    fn a_hidden_secret_stays_hidden_whatever_is_pointed_at() {
        let mut sources = Sources::default();
        let file = sources.add(Path::new("a.toml"), "token = \"hunter2\"".to_owned());
        sources.hide(Place { file, start: 8, end: 17 });
        assert_eq!(sources.excerpt(Place { file, start: 0, end: 5 }).text, "token = •••••••••");
    }
}

//! What is wrong with a file: everything at once, each with its place, the line itself and what to write instead.
//!
//! The readers collect [`Finding`]s (a place and words). Only when all is read do they become [`Problem`]s, which
//! hold plain text and can be printed, sent over the control socket or written as JSON without the files at hand.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::path::PathBuf;

use serde::Serialize;

use super::source::{Origin, Place, Sources};

/// One thing that is wrong, or the second place of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    pub(crate) origin: Origin,
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) help: Option<String>,
    /// The other place that has to do with it, and what is there.
    pub(crate) other: Option<(Origin, String)>,
}

impl Finding {
    pub(crate) fn new(origin: Origin, message: impl Into<String>) -> Self {
        Self { origin, message: message.into(), help: None, other: None }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(crate) fn other(mut self, origin: Origin, what: impl Into<String>) -> Self {
        self.other = Some((origin, what.into()));
        self
    }
}

/// One thing that is wrong with the file, as a person or a program is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What is wrong.
    pub message: String,
    /// What to write instead, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// Where; absent when no file could be read at all.
    #[serde(flatten)]
    pub at: Option<Spot>,
    /// The other place that has to do with it: the first of two routes that tie, say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other: Option<Other>,
}

/// A place in a file with the text that stands there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Spot {
    /// Path as it was given or found.
    pub file: PathBuf,
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// The line, at most 112 characters of it.
    pub source: String,
    /// Characters of `source` before the part that is meant.
    pub underline_from: usize,
    /// Characters that are meant, at least 1.
    pub underline_width: usize,
}

/// A second place and what it has to do with the problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Other {
    /// What stands there.
    pub message: String,
    /// Where.
    #[serde(flatten)]
    pub at: Spot,
}

/// Everything that is wrong with a configuration; never empty. The file's author is at fault; the same file will
/// fail again, so a retry helps only after a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{}", self.render(false))]
pub struct Problems {
    /// In the order in which they stand in the files.
    pub problems: Vec<Problem>,
}

/// Problems told at most: past these, the rest is likely a consequence.
const PROBLEMS_TOLD_MAX: usize = 100;

impl Problems {
    pub(crate) fn new(findings: Vec<Finding>, sources: &Sources) -> Self {
        // A policy key is read once per route that inherits it: the same finding many times over.
        let findings: BTreeSet<Finding> = findings.into_iter().collect();
        let problems = findings.into_iter().take(PROBLEMS_TOLD_MAX);
        Self { problems: problems.map(|finding| Problem::new(finding, sources)).collect() }
    }

    /// For a person: each problem with its line and a caret under the part that is meant, `colour` for a terminal.
    pub fn render(&self, colour: bool) -> String {
        let paint = Paint { colour };
        let mut out = String::new();
        for problem in &self.problems {
            problem.render(&mut out, paint);
            out.push('\n');
        }
        out.push_str(&self.summary(paint));
        out
    }

    /// For a program: an object with the list `problems`.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({ "valid": false, "problems": self.problems })
    }

    fn summary(&self, paint: Paint) -> String {
        let count = self.problems.len();
        let many = match count {
            1 => "1 problem".to_owned(),
            PROBLEMS_TOLD_MAX => format!("the first {count} problems are shown"),
            _ => format!("{count} problems"),
        };
        format!("{}\n", paint.bold(&many))
    }
}

/// In one line, for a log: `terrace.toml:7:1: unknown key …; did you mean …?`
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(at) = &self.at {
            write!(f, "{}:{}:{}: ", at.file.display(), at.line, at.column)?;
        }
        f.write_str(&self.message)?;
        if let Some(other) = &self.other {
            write!(f, " ({}: {}:{})", other.message, other.at.file.display(), other.at.line)?;
        }
        match &self.help {
            Some(help) => write!(f, "; {help}"),
            None => Ok(()),
        }
    }
}

impl Problem {
    fn new(finding: Finding, sources: &Sources) -> Self {
        let spot = |origin| match origin {
            Origin::Text(place) => Some(Spot::new(place, sources)),
            Origin::BuiltIn => None,
        };
        let other = match finding.other {
            Some((origin, message)) => spot(origin).map(|at| Other { message, at }),
            None => None,
        };
        Self { message: finding.message, help: finding.help, at: spot(finding.origin), other }
    }

    fn render(&self, out: &mut String, paint: Paint) {
        let _ = writeln!(out, "{}{}", paint.red("error"), paint.bold(&format!(": {}", self.message)));
        let gutter = self.gutter_width();
        let help_fits = self.help.as_ref().is_some_and(|help| help.len() <= HELP_BESIDE_CARET_CHARS_MAX);
        if let Some(at) = &self.at {
            let beside = if help_fits { self.help.as_deref() } else { None };
            at.render(out, paint, gutter, &paint.red(&at.carets('^')), beside.map(|help| paint.green(help)));
        }
        if let Some(other) = &self.other {
            let message = Some(paint.blue(&other.message));
            other.at.render(out, paint, gutter, &paint.blue(&other.at.carets('-')), message);
        }
        if let (Some(help), false) = (&self.help, help_fits && self.at.is_some()) {
            let _ = writeln!(out, "{:gutter$} {} {}", "", paint.blue("="), paint.green(help));
        }
    }

    /// Digits of the largest line number shown.
    fn gutter_width(&self) -> usize {
        let lines = [self.at.as_ref().map(|at| at.line), self.other.as_ref().map(|other| other.at.line)];
        lines.into_iter().flatten().max().unwrap_or_default().to_string().len()
    }
}

/// A longer help gets a line of its own.
const HELP_BESIDE_CARET_CHARS_MAX: usize = 56;

impl Spot {
    fn new(place: Place, sources: &Sources) -> Self {
        let excerpt = sources.excerpt(place);
        Self {
            file: excerpt.file,
            line: excerpt.line,
            column: excerpt.column,
            source: excerpt.text,
            underline_from: excerpt.underline_from,
            underline_width: excerpt.underline_width,
        }
    }

    fn carets(&self, mark: char) -> String {
        std::iter::repeat_n(mark, self.underline_width).collect()
    }

    fn render(&self, out: &mut String, paint: Paint, gutter: usize, carets: &str, beside: Option<String>) {
        let bar = paint.blue("|");
        let place = format!("{}:{}:{}", self.file.display(), self.line, self.column);
        let _ = writeln!(out, "{:gutter$}{} {place}", "", paint.blue("-->"));
        let _ = writeln!(out, "{} {bar} {}", paint.blue(&format!("{:>gutter$}", self.line)), self.source);
        let beside = beside.map(|text| format!(" {text}")).unwrap_or_default();
        let _ = writeln!(out, "{:gutter$} {bar} {:2$}{carets}{beside}", "", "", self.underline_from);
    }
}

/// ANSI colours, or none.
#[derive(Clone, Copy)]
pub(crate) struct Paint {
    pub(crate) colour: bool,
}

impl Paint {
    fn red(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    fn green(self, text: &str) -> String {
        self.paint("32", text)
    }

    fn blue(self, text: &str) -> String {
        self.paint("1;34", text)
    }

    pub(crate) fn grey(self, text: &str) -> String {
        self.paint("90", text)
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// The candidate that `wrong` was most likely meant to be, if one is near enough.
pub(crate) fn nearest<'a>(wrong: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wrong = wrong.to_lowercase();
    let mut best = None;
    for candidate in candidates {
        let score = likeness(&wrong, &candidate.to_lowercase());
        if score > best.map_or(NEAR_ENOUGH, |(score, _)| score) {
            best = Some((score, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Likeness from which a name counts as a slip of the other; found by trying.
const NEAR_ENOUGH: f64 = 0.78;
/// Longer names are no slips, only a way to make the comparison slow.
const SLIP_BYTES_MAX: usize = 64;

/// From 0 to 1. Beside the beginning that two names share, one slip of the finger (`wbe`) and a word that holds the
/// other (`SIGTERM`) count.
fn likeness(wrong: &str, candidate: &str) -> f64 {
    if wrong.len() > SLIP_BYTES_MAX {
        return 0.0;
    }
    if wrong == candidate {
        return 1.0;
    }
    let is_as_long = wrong.len() > 1 && wrong.len().abs_diff(candidate.len()) <= 1;
    let one_slip = is_as_long && strsim::damerau_levenshtein(wrong, candidate) <= 1;
    let holds = candidate.len() > 3 && wrong.contains(candidate);
    match (one_slip, holds) {
        (true, _) => 0.95,
        (false, true) => 0.9,
        (false, false) => strsim::jaro_winkler(wrong, candidate),
    }
}

/// `a`, `b` and `c` for a sentence; each in backticks.
pub(crate) fn listed<'a>(names: impl IntoIterator<Item = &'a str>, conjunction: &str) -> String {
    let quoted: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        None => String::new(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} {conjunction} {last}", rest.join(", ")),
    }
}

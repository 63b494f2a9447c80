//! One line of a metrics text. Both formats share their grammar but for what may come after the number.

use std::borrow::Cow;

use super::{Dialect, Problem, TextKind};

/// Names and unescaped values.
pub(super) type Labels<'a> = Vec<(&'a str, Cow<'a, str>)>;

/// What a line says.
#[derive(Debug, PartialEq)]
pub(super) enum Line<'a> {
    /// Empty, or a comment.
    Nothing,
    /// `# EOF`
    End,
    /// Of which family, and what.
    Help(&'a str, String),
    /// Of which family, and what.
    Unit(&'a str, &'a str),
    /// Of which family, and what.
    Type(&'a str, TextKind),
    /// Name, labels, number.
    Sample(&'a str, Labels<'a>, f64),
}

/// Reads a line without its end.
pub(super) fn read(line: &str, dialect: Dialect) -> Result<Line<'_>, Problem> {
    let line = line.trim_matches(BLANKS);
    match line.strip_prefix('#') {
        Some(comment) => comment_line(comment.trim_start_matches(BLANKS), dialect),
        None if line.is_empty() => Ok(Line::Nothing),
        None => sample_line(line, dialect),
    }
}

const BLANKS: [char; 2] = [' ', '\t'];

fn comment_line(comment: &str, dialect: Dialect) -> Result<Line<'_>, Problem> {
    let (what, rest) = comment.split_once(BLANKS).unwrap_or((comment, ""));
    let rest = rest.trim_start_matches(BLANKS);
    match what {
        "EOF" if rest.is_empty() => Ok(Line::End),
        "HELP" => {
            let (name, help) = rest.split_once(BLANKS).unwrap_or((rest, ""));
            whole_name(name).map(|name| Line::Help(name, unescaped_help(help)))
        }
        "TYPE" => {
            let (name, kind) = rest.split_once(BLANKS).ok_or(Problem::Type)?;
            Ok(Line::Type(whole_name(name)?, kind_named(kind.trim_matches(BLANKS))?))
        }
        "UNIT" if dialect == Dialect::OpenMetrics => {
            let (name, unit) = rest.split_once(BLANKS).unwrap_or((rest, ""));
            whole_name(name).map(|name| Line::Unit(name, unit.trim_matches(BLANKS)))
        }
        _ => Ok(Line::Nothing),
    }
}

fn kind_named(text: &str) -> Result<TextKind, Problem> {
    match text {
        "counter" => Ok(TextKind::Counter),
        "gauge" => Ok(TextKind::Gauge),
        "histogram" => Ok(TextKind::Histogram),
        "gaugehistogram" => Ok(TextKind::GaugeHistogram),
        "summary" => Ok(TextKind::Summary),
        "info" => Ok(TextKind::Info),
        "stateset" => Ok(TextKind::StateSet),
        "unknown" | "untyped" => Ok(TextKind::Unknown),
        _ => Err(Problem::Type),
    }
}

fn sample_line(line: &str, dialect: Dialect) -> Result<Line<'_>, Problem> {
    let (name, rest) = name(line, true).ok_or(Problem::Name)?;
    let rest = rest.trim_start_matches(BLANKS);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    let rest = rest.trim_start_matches(BLANKS);
    let (number, rest) = rest.split_once(BLANKS).unwrap_or((rest, ""));
    let value = value(number).ok_or(Problem::Value)?;
    timestamp(rest.trim_start_matches(BLANKS), dialect)?;
    Ok(Line::Sample(name, labels, value))
}

/// A timestamp and, in OpenMetrics, an exemplar: looked at, not kept.
fn timestamp(rest: &str, dialect: Dialect) -> Result<(), Problem> {
    let (time, exemplar) = match rest.split_once('#') {
        Some((time, exemplar)) if dialect == Dialect::OpenMetrics => (time, Some(exemplar)),
        _ => (rest, None),
    };
    let time = time.trim_matches(BLANKS);
    if !time.is_empty() && value(time).is_none() {
        return Err(Problem::Timestamp);
    }
    let Some(exemplar) = exemplar else { return Ok(()) };
    let inner = exemplar.trim_start_matches(BLANKS).strip_prefix('{').ok_or(Problem::Timestamp)?;
    let (_labels, rest) = labels(inner)?;
    let mut numbers = rest.split(BLANKS).filter(|word| !word.is_empty());
    let (number, at, more) = (numbers.next(), numbers.next(), numbers.next());
    let is_number = |text: &str| value(text).is_some();
    let fits = number.is_some_and(is_number) && at.is_none_or(is_number) && more.is_none();
    if fits { Ok(()) } else { Err(Problem::Timestamp) }
}

/// A name at the beginning, and what follows it; colons are for metrics only.
fn name(text: &str, is_metric: bool) -> Option<(&str, &str)> {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || (is_metric && *byte == b':');
    let length = text.bytes().take_while(|byte| fits(byte)).count();
    let is_name = length > 0 && !text.as_bytes()[0].is_ascii_digit();
    is_name.then(|| text.split_at(length))
}

fn whole_name(text: &str) -> Result<&str, Problem> {
    match name(text, true) {
        Some((name, "")) => Ok(name),
        _ => Err(Problem::Name),
    }
}

/// Labels after their opening brace, in order of their names, and what follows the closing one. An empty value is as no
/// label at all.
fn labels(mut rest: &str) -> Result<(Labels<'_>, &str), Problem> {
    let mut labels = Labels::new();
    loop {
        rest = rest.trim_start_matches(BLANKS);
        if let Some(after) = rest.strip_prefix('}') {
            return Ok((in_order(labels)?, after));
        }
        let (name, after) = name(rest, false).ok_or(Problem::Label)?;
        let after = after.trim_start_matches(BLANKS).strip_prefix('=').ok_or(Problem::Label)?;
        let after = after.trim_start_matches(BLANKS).strip_prefix('"').ok_or(Problem::Label)?;
        let (value, after) = quoted(after)?;
        labels.push((name, value));
        let after = after.trim_start_matches(BLANKS);
        rest = match after.strip_prefix(',') {
            Some(after) => after,
            None if after.starts_with('}') => after,
            None => return Err(Problem::Label),
        };
    }
}

fn in_order(mut labels: Labels<'_>) -> Result<Labels<'_>, Problem> {
    labels.sort();
    if labels.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return Err(Problem::LabelTwice);
    }
    labels.retain(|(_, value)| !value.is_empty());
    Ok(labels)
}

/// A value up to its closing quote, and what follows it.
fn quoted(text: &str) -> Result<(Cow<'_, str>, &str), Problem> {
    let end = text.find(['"', '\\']).ok_or(Problem::Label)?;
    if text.as_bytes()[end] == b'"' {
        return Ok((Cow::Borrowed(&text[..end]), &text[end + 1..]));
    }
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((Cow::Owned(value), &text[at + 1..])),
            '\\' => value.push(match characters.next() {
                Some((_, 'n')) => '\n',
                Some((_, escaped @ ('\\' | '"'))) => escaped,
                _ => return Err(Problem::Escape),
            }),
            plain => value.push(plain),
        }
    }
    Err(Problem::Label)
}

fn unescaped_help(help: &str) -> String {
    let mut text = String::with_capacity(help.len());
    let mut characters = help.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some('n') => text.push('\n'),
                Some(escaped) => text.push(escaped),
                None => text.push('\\'),
            },
            plain => text.push(plain),
        }
    }
    text
}

/// A number as Go and C write it; what Rust alone would take (`infinity`) is taken as well.
fn value(text: &str) -> Option<f64> {
    text.parse().ok()
}

//! Foreign families as text again, those of many instances under one heading.
//!
//! Two services may use one name for different things. Readers refuse a text in which a name has two types or a sample
//! two families, so the first to come, by service and instance, has the name, and the others are left out and counted.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;

use super::{Dialect, Suffix, Text, TextFamily, TextKind, TextSample};

/// Families of several texts, each name once, ordered by name; and how many samples were left out.
pub fn merge<'a>(texts: impl IntoIterator<Item = &'a Text>) -> (Vec<TextFamily>, usize) {
    let mut families: BTreeMap<Arc<str>, TextFamily> = BTreeMap::new();
    let mut dropped = 0;
    for family in texts.into_iter().flat_map(|text| &text.families) {
        match families.get_mut(&family.name) {
            Some(known) if known.kind == family.kind => known.samples.extend_from_slice(&family.samples),
            Some(_) => dropped += family.samples.len(),
            None => drop(families.insert(Arc::clone(&family.name), family.clone())),
        }
    }
    let mut taken = HashSet::new();
    let (kept, clashing): (Vec<TextFamily>, Vec<TextFamily>) =
        families.into_values().partition(|family| take_names(family, &mut taken));
    (kept, dropped + clashing.iter().map(|family| family.samples.len()).sum::<usize>())
}

/// Whether none of the names that a family's samples may have is another family's.
fn take_names(family: &TextFamily, taken: &mut HashSet<String>) -> bool {
    let suffixes = Suffix::ALL.into_iter().filter(|suffix| family.kind.allows(*suffix));
    let mut names: Vec<String> = suffixes.map(|suffix| format!("{}{}", family.name, suffix.text())).collect();
    names.push(family.name.to_string());
    let is_free = names.iter().all(|name| !taken.contains(name));
    if is_free {
        taken.extend(names);
    }
    is_free
}

/// Writes families, of which each name must occur once, in either grammar.
pub fn write(families: &[TextFamily], dialect: Dialect) -> String {
    let mut out = String::with_capacity(16 << 10);
    for family in families {
        match dialect {
            Dialect::OpenMetrics => open_metrics(&mut out, family),
            Dialect::Prometheus => prometheus(&mut out, family),
        }
    }
    if dialect == Dialect::OpenMetrics {
        out.push_str("# EOF\n");
    }
    out
}

fn open_metrics(out: &mut String, family: &TextFamily) {
    heading(out, &family.name, family, Some(kind_name(family.kind)), Dialect::OpenMetrics);
    if !family.unit.is_empty() {
        line(out, format_args!("# UNIT {} {}", family.name, family.unit));
    }
    for sample in &family.samples {
        // A counter is named with `_total` here, whatever it was called at home.
        let suffix = if family.kind == TextKind::Counter { Suffix::Total } else { sample.suffix };
        sample_line(out, &family.name, suffix, sample, Dialect::OpenMetrics);
    }
}

/// The older format has no types but five, and names a family as its samples.
fn prometheus(out: &mut String, family: &TextFamily) {
    let by_suffix: &[Suffix] = match family.kind {
        TextKind::Counter => &[Suffix::Bare, Suffix::Total],
        TextKind::Info => &[Suffix::Info],
        TextKind::GaugeHistogram => &[Suffix::Bucket, Suffix::GaugeSum, Suffix::GaugeCount],
        TextKind::Histogram | TextKind::Summary => {
            heading(out, &family.name, family, Some(kind_name(family.kind)), Dialect::Prometheus);
            let all = family.samples.iter();
            return all.for_each(|sample| {
                sample_line(out, &family.name, sample.suffix, sample, Dialect::Prometheus)
            });
        }
        TextKind::Gauge | TextKind::StateSet | TextKind::Unknown => &[Suffix::Bare],
    };
    let kind = match family.kind {
        TextKind::Counter => "counter",
        TextKind::Gauge | TextKind::Info | TextKind::StateSet => "gauge",
        _ => "untyped",
    };
    for suffix in by_suffix {
        let mut samples = family.samples.iter().filter(|sample| sample.suffix == *suffix).peekable();
        if samples.peek().is_some() {
            heading(
                out,
                &format!("{}{}", family.name, suffix.text()),
                family,
                Some(kind),
                Dialect::Prometheus,
            );
            samples.for_each(|sample| sample_line(out, &family.name, *suffix, sample, Dialect::Prometheus));
        }
    }
}

fn kind_name(kind: TextKind) -> &'static str {
    match kind {
        TextKind::Counter => "counter",
        TextKind::Gauge => "gauge",
        TextKind::Histogram => "histogram",
        TextKind::GaugeHistogram => "gaugehistogram",
        TextKind::Summary => "summary",
        TextKind::Info => "info",
        TextKind::StateSet => "stateset",
        TextKind::Unknown => "unknown",
    }
}

fn heading(out: &mut String, name: &str, family: &TextFamily, kind: Option<&str>, dialect: Dialect) {
    if !family.help.is_empty() {
        out.push_str("# HELP ");
        out.push_str(name);
        out.push(' ');
        escape(out, &family.help, dialect == Dialect::OpenMetrics);
        out.push('\n');
    }
    if let Some(kind) = kind {
        line(out, format_args!("# TYPE {name} {kind}"));
    }
}

fn sample_line(out: &mut String, family: &str, suffix: Suffix, sample: &TextSample, dialect: Dialect) {
    out.push_str(family);
    out.push_str(suffix.text());
    for (index, (name, value)) in sample.labels.iter().enumerate() {
        out.push(if index == 0 { '{' } else { ',' });
        out.push_str(name);
        out.push_str("=\"");
        match value.parse() {
            Ok(number) if dialect == Dialect::OpenMetrics && matches!(&**name, "le" | "quantile") => {
                out.push_str(&canonical(number));
            }
            _ => escape(out, value, true),
        }
        out.push('"');
    }
    out.push_str(if sample.labels.is_empty() { " " } else { "} " });
    line(out, format_args!("{}", Number(sample.value)));
}

/// A number as both formats write it.
struct Number(f64);

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            infinite if infinite.is_infinite() => f.write_str(if infinite > 0.0 { "+Inf" } else { "-Inf" }),
            large if large.abs() >= 1e15 => write!(f, "{large:e}"),
            other => write!(f, "{other}"),
        }
    }
}

/// As OpenMetrics wants bounds and quantiles (section 5.3.1): `1.0`, `1e+06`, `1e-05`, `+Inf`.
pub fn canonical(number: f64) -> String {
    if number.is_infinite() {
        return if number > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() };
    }
    let magnitude = number.abs();
    if magnitude == 0.0 || (1e-4..1e6).contains(&magnitude) {
        return format!("{number:?}");
    }
    let scientific = format!("{number:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let (sign, digits) = match exponent.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', exponent),
    };
    format!("{mantissa}e{sign}{digits:0>2}")
}

/// Backslashes, ends of lines and, in values and in the help of OpenMetrics, quotes.
pub fn escape(out: &mut String, text: &str, quotes: bool) {
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            other => out.push(other),
        }
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    let written = writeln!(out, "{text}");
    debug_assert!(written.is_ok(), "writing to a String cannot fail");
}

//! Metrics of others, as text: Prometheus 0.0.4 and OpenMetrics 1.0 in, families out.
//!
//! An app's text is read strictly where a line could mean two things, since a number under a wrong name is worse than
//! none, and a whole text is refused with the line that is wrong. What is well written but cannot be true, such as a
//! counter below zero or a histogram whose buckets fall, is left out and counted. Everything is bounded: bytes, samples,
//! labels. Timestamps are read and forgotten, for what is fetched now is of now; exemplars likewise.
//!
//! Sources: <https://prometheus.io/docs/instrumenting/exposition_formats/>; OpenMetrics 1.0, sections 4 and 5.

mod check;
mod line;
mod write;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use terrace_instruments::Kind;

use super::Sample;
use line::{Labels, Line};

// The public interface is this, and what is defined below:
pub use write::{canonical, escape, merge, write};

/// Which grammar a text is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Prometheus text format 0.0.4.
    Prometheus,
    /// OpenMetrics text 1.0.0.
    OpenMetrics,
}

/// Bounds of one text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextBounds {
    /// A longer text is refused.
    pub bytes_max: usize,
    /// Further samples are left out and counted.
    pub samples_max: usize,
    /// A sample with more labels is left out and counted.
    pub labels_max: usize,
}

impl Default for TextBounds {
    fn default() -> Self {
        Self { bytes_max: 8 << 20, samples_max: 2_000, labels_max: 32 }
    }
}

/// What the numbers of a foreign family are (OpenMetrics section 4.4, and Prometheus' `untyped`, which is `Unknown`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TextKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Cumulative buckets, sum and count.
    Histogram,
    /// A histogram of what is there now.
    GaugeHistogram,
    /// Quantiles, sum and count.
    Summary,
    /// Always 1; its labels tell.
    Info,
    /// Truth values.
    StateSet,
    /// Nobody said.
    Unknown,
}

/// What a sample's name has after its family's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Suffix {
    /// Nothing.
    Bare,
    /// `_total`
    Total,
    /// `_bucket`
    Bucket,
    /// `_sum`
    Sum,
    /// `_count`
    Count,
    /// `_gsum`
    GaugeSum,
    /// `_gcount`
    GaugeCount,
    /// `_info`
    Info,
    /// `_created`
    Created,
}

/// A family and its samples.
#[derive(Debug, Clone, PartialEq)]
pub struct TextFamily {
    /// Without `_total`, `_bucket` … also where the text had it with.
    pub name: Arc<str>,
    /// What its numbers are.
    pub kind: TextKind,
    /// May be empty.
    pub help: String,
    /// May be empty; the name ends with it.
    pub unit: String,
    /// Those of one histogram or summary stand together, buckets in order.
    pub samples: Vec<TextSample>,
}

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub struct TextSample {
    /// After the family's name.
    pub suffix: Suffix,
    /// In order of their names.
    pub labels: Arc<[(Arc<str>, Arc<str>)]>,
    /// The number.
    pub value: f64,
}

/// A text that was read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Text {
    /// In order of their first appearance, each name once.
    pub families: Vec<TextFamily>,
    /// Samples that were left out: beyond a bound, twice, or not possible.
    pub dropped: usize,
}

/// The app's to put right; fetching again does not help before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of its metrics: {problem}")]
pub struct TextError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Not read at all.
    #[error("the text is too long")]
    TooLong,
    /// Not read at all.
    #[error("it is not in UTF-8")]
    Encoding,
    /// No name, or one that has other characters than letters, digits, `_` and `:`.
    #[error("a metric's name is expected")]
    Name,
    /// Between the braces.
    #[error("a label, such as path=\"/\", is expected")]
    Label,
    /// One name twice in a sample.
    #[error("a label occurs twice")]
    LabelTwice,
    /// Only `\\`, `\"` and `\n` are known.
    #[error("an unknown escape in a label's value")]
    Escape,
    /// Not a number.
    #[error("a number is expected")]
    Value,
    /// After the number.
    #[error("a timestamp that is no number, or something after it")]
    Timestamp,
    /// Of `# TYPE`.
    #[error("an unknown type")]
    Type,
    /// `# TYPE` twice, or after the first sample.
    #[error("the type of a metric comes twice, or after its samples")]
    TypeLate,
    /// OpenMetrics ends with `# EOF`.
    #[error("nothing may come after # EOF, and OpenMetrics must end with it")]
    End,
}

/// Reads a text.
///
/// # Errors
/// With the first line that the grammar does not allow.
pub fn parse(body: &[u8], dialect: Dialect, bounds: &TextBounds) -> Result<Text, TextError> {
    let at = |line: usize, problem: Problem| TextError { line, problem };
    if body.len() > bounds.bytes_max {
        return Err(at(1, Problem::TooLong));
    }
    let text = std::str::from_utf8(body).map_err(|error| {
        at(body[..error.valid_up_to()].split(|byte| *byte == b'\n').count(), Problem::Encoding)
    })?;
    let mut reader = Reader::new(*bounds, dialect);
    let mut number = 0;
    for line in text.lines() {
        number += 1;
        reader.line(line).map_err(|problem| at(number, problem))?;
    }
    if dialect == Dialect::OpenMetrics && !reader.is_ended {
        return Err(at(number.max(1), Problem::End));
    }
    Ok(reader.finish())
}

/// A text being read.
struct Reader {
    bounds: TextBounds,
    dialect: Dialect,
    families: Vec<TextFamily>,
    by_name: HashMap<Arc<str>, usize>,
    texts: HashMap<Box<str>, Arc<str>>,
    samples: usize,
    dropped: usize,
    is_ended: bool,
}

impl Reader {
    fn new(bounds: TextBounds, dialect: Dialect) -> Self {
        let (families, by_name, texts) = (Vec::new(), HashMap::new(), HashMap::new());
        Self { bounds, dialect, families, by_name, texts, samples: 0, dropped: 0, is_ended: false }
    }

    fn line(&mut self, line: &str) -> Result<(), Problem> {
        if self.is_ended {
            return Err(Problem::End);
        }
        match line::read(line, self.dialect)? {
            Line::Nothing => {}
            Line::End => self.is_ended = self.dialect == Dialect::OpenMetrics,
            Line::Help(name, help) => {
                let family = self.family(name);
                self.families[family].help = help;
            }
            Line::Unit(name, unit) => {
                let family = self.family(name);
                self.families[family].unit = unit.to_owned();
            }
            Line::Type(name, kind) => self.set_kind(name, kind)?,
            Line::Sample(name, labels, value) => self.sample(name, labels, value),
        }
        Ok(())
    }

    fn set_kind(&mut self, name: &str, kind: TextKind) -> Result<(), Problem> {
        let index = self.family(name);
        let family = &mut self.families[index];
        if family.kind != TextKind::Unknown && family.kind != kind || !family.samples.is_empty() {
            return Err(Problem::TypeLate);
        }
        family.kind = kind;
        Ok(())
    }

    fn sample(&mut self, name: &str, labels: Labels<'_>, value: f64) {
        if self.samples >= self.bounds.samples_max || labels.len() > self.bounds.labels_max {
            self.dropped += 1;
            return;
        }
        let (family, suffix) = self.place(name);
        if suffix == Suffix::Created {
            // When a counter began is said by its first value here.
            return;
        }
        let labels =
            labels.into_iter().map(|(name, value)| (self.intern(name), self.intern(&value))).collect();
        self.families[family].samples.push(TextSample { suffix, labels, value });
        self.samples += 1;
    }

    /// The family that a sample belongs to: that of its whole name, else the one whose type allows for its ending.
    fn place(&mut self, name: &str) -> (usize, Suffix) {
        if let Some(family) = self.by_name.get(name) {
            return (*family, Suffix::Bare);
        }
        for suffix in Suffix::ALL {
            let family = name.strip_suffix(suffix.text()).and_then(|stem| self.by_name.get(stem));
            if let Some(family) = family.filter(|family| self.families[**family].kind.allows(suffix)) {
                return (*family, suffix);
            }
        }
        (self.family(name), Suffix::Bare)
    }

    fn family(&mut self, name: &str) -> usize {
        if let Some(known) = self.by_name.get(name) {
            return *known;
        }
        let name = self.intern(name);
        self.by_name.insert(Arc::clone(&name), self.families.len());
        let (help, unit, samples) = (String::new(), String::new(), Vec::new());
        self.families.push(TextFamily { name, kind: TextKind::Unknown, help, unit, samples });
        self.families.len() - 1
    }

    fn intern(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return Arc::clone(known);
        }
        let fresh: Arc<str> = text.into();
        self.texts.insert(text.into(), Arc::clone(&fresh));
        fresh
    }

    fn finish(self) -> Text {
        finished(self.families, self.dropped)
    }
}

/// Families as they can be shown again: what cannot be true is left out and counted.
fn finished(mut families: Vec<TextFamily>, mut dropped: usize) -> Text {
    families.retain(|family| !family.samples.is_empty());
    let names: HashSet<Arc<str>> = families.iter().map(|family| Arc::clone(&family.name)).collect();
    for family in &mut families {
        // A counter `x_total` beside a gauge `x` keeps its name, for there is one family of each name.
        if let Some((stem, suffix)) = check::stem(family).filter(|(stem, _)| !names.contains(*stem)) {
            let stem: Arc<str> = stem.into();
            check::rename(family, stem, suffix);
        }
        dropped += check::put_right(family);
    }
    families.retain(|family| !family.samples.is_empty());
    Text { families, dropped }
}

impl Text {
    /// Families that come from elsewhere than a text, each name once; what cannot be true is left out, as of one that was read.
    pub fn of(families: Vec<TextFamily>) -> Self {
        finished(families, 0)
    }

    /// How many samples there are.
    pub fn samples(&self) -> usize {
        self.families.iter().map(|family| family.samples.len()).sum()
    }

    /// Adds labels that say where the text is from. A label of the app's own with such a name is called `exported_…`.
    pub fn add_labels(&mut self, labels: &[(Arc<str>, Arc<str>)]) {
        for sample in self.families.iter_mut().flat_map(|family| &mut family.samples) {
            sample.labels = with_labels(&sample.labels, labels);
        }
    }

    /// The numbers as a [`SeriesStore`](super::SeriesStore) takes them.
    pub fn to_samples(&self) -> Vec<Sample> {
        let mut samples = Vec::with_capacity(self.samples());
        for family in &self.families {
            let names = Suffix::ALL.map(|suffix| Arc::from(format!("{}{}", family.name, suffix.text())));
            let name = |suffix: Suffix| -> Arc<str> {
                let at = Suffix::ALL.iter().position(|known| *known == suffix);
                at.map_or_else(|| Arc::clone(&family.name), |at| Arc::clone(&names[at]))
            };
            samples.extend(family.samples.iter().map(|sample| Sample {
                name: name(sample.suffix),
                kind: family.kind.of_sample(sample.suffix),
                labels: Arc::clone(&sample.labels),
                value: sample.value,
            }));
        }
        samples
    }
}

fn with_labels(own: &[(Arc<str>, Arc<str>)], added: &[(Arc<str>, Arc<str>)]) -> Arc<[(Arc<str>, Arc<str>)]> {
    let is_taken = |name: &str, all: &[(Arc<str>, Arc<str>)]| all.iter().any(|(known, _)| **known == *name);
    let mut all: Vec<(Arc<str>, Arc<str>)> = Vec::with_capacity(own.len() + added.len());
    for (name, value) in own {
        let mut name = Arc::clone(name);
        if is_taken(&name, added) {
            while is_taken(&name, added) || is_taken(&name, own) || is_taken(&name, &all) {
                name = format!("exported_{name}").into();
            }
        }
        all.push((name, Arc::clone(value)));
    }
    all.extend(added.iter().cloned());
    all.sort();
    all.into()
}

impl Suffix {
    /// All but none.
    pub(crate) const ALL: [Self; 8] = [
        Self::Total,
        Self::Bucket,
        Self::Sum,
        Self::Count,
        Self::GaugeSum,
        Self::GaugeCount,
        Self::Info,
        Self::Created,
    ];

    /// As it is written.
    pub fn text(self) -> &'static str {
        match self {
            Self::Bare => "",
            Self::Total => "_total",
            Self::Bucket => "_bucket",
            Self::Sum => "_sum",
            Self::Count => "_count",
            Self::GaugeSum => "_gsum",
            Self::GaugeCount => "_gcount",
            Self::Info => "_info",
            Self::Created => "_created",
        }
    }
}

impl TextKind {
    /// Whether a family of this kind has samples with such an ending.
    pub fn allows(self, suffix: Suffix) -> bool {
        use Suffix::{Bare, Bucket, Count, Created, GaugeCount, GaugeSum, Info, Sum, Total};
        match self {
            // Without `_total` only in the older format.
            Self::Counter => matches!(suffix, Bare | Total | Created),
            Self::Gauge | Self::StateSet | Self::Unknown => suffix == Bare,
            Self::Histogram => matches!(suffix, Bucket | Sum | Count | Created),
            Self::GaugeHistogram => matches!(suffix, Bucket | GaugeSum | GaugeCount),
            Self::Summary => matches!(suffix, Bare | Sum | Count | Created),
            Self::Info => suffix == Info,
        }
    }

    /// What a sample's number does over time.
    fn of_sample(self, suffix: Suffix) -> Kind {
        match (self, suffix) {
            (Self::Counter | Self::Histogram, _) | (Self::Summary, Suffix::Sum | Suffix::Count) => {
                Kind::Counter
            }
            _ => Kind::Gauge,
        }
    }
}

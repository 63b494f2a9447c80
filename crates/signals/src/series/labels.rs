//! Label texts, each kept once: ten thousand series share some hundred names of routes, services and instances.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// Label names and values of one series.
pub(crate) type Labels = Box<[(Arc<str>, Arc<str>)]>;

/// What a text costs beside its bytes: counts of its `Arc`, and its place in a set that may be half empty.
const TEXT_OVERHEAD_BYTES: usize = 64;

/// Texts, each kept once.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    known: HashSet<Arc<str>, BuildHasherDefault<DefaultHasher>>,
    bytes: usize,
}

impl Texts {
    /// The one copy of a text.
    pub(crate) fn intern(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.known.get(text) {
            return Arc::clone(known);
        }
        let fresh: Arc<str> = text.into();
        self.bytes += text.len() + TEXT_OVERHEAD_BYTES;
        self.known.insert(Arc::clone(&fresh));
        fresh
    }

    /// Bytes held, estimated from above.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Forgets texts that nobody uses any more.
    pub(crate) fn sweep(&mut self) {
        self.known.retain(|text| Arc::strong_count(text) > 1);
        self.known.shrink_to_fit();
        self.bytes = self.known.iter().map(|text| text.len() + TEXT_OVERHEAD_BYTES).sum();
    }
}

/// A hash of a family and labels given in whichever form.
pub(crate) fn hash<'a>(family: u32, labels: impl Iterator<Item = (&'a str, &'a str)>) -> u64 {
    let mut hasher = DefaultHasher::new();
    family.hash(&mut hasher);
    for label in labels {
        label.hash(&mut hasher);
    }
    hasher.finish()
}

/// Labels as pairs of texts.
pub(crate) fn pairs(labels: &Labels) -> impl Iterator<Item = (&str, &str)> {
    labels.iter().map(|(name, value)| (&**name, &**value))
}

/// Bytes of a series' own label list.
pub(crate) fn list_bytes(count: usize) -> usize {
    count * size_of::<(Arc<str>, Arc<str>)>()
}

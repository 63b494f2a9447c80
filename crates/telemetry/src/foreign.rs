//! Where numbers from elsewhere wait for the next reading: what was fetched from the app or sent by it, and what the
//! machine says. A second at most, and not without bound.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use terrace_signals::series::Sample;

/// Numbers that may wait.
const WAITING_MAX: usize = 65_536;
/// Bytes of their names and labels, as if no two shared any.
const WAITING_BYTES_MAX: usize = 64 << 20;
/// What a label costs besides its bytes: two pointers with their lengths, and two blocks.
const LABEL_BYTES: usize = 64;

/// The waiting numbers.
#[derive(Debug, Default)]
pub(crate) struct Foreign(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    samples: Vec<Sample>,
    bytes: usize,
    dropped: u64,
}

impl Foreign {
    /// Takes numbers in; when they do not fit, all of them are dropped and counted.
    pub(crate) fn offer(&self, samples: Vec<Sample>) {
        let more: usize = samples.iter().map(|sample| label_bytes(&sample.name, &sample.labels)).sum();
        let mut waiting = self.lock();
        let is_full = waiting.samples.len() + samples.len() > WAITING_MAX
            || waiting.bytes.saturating_add(more) > WAITING_BYTES_MAX;
        if is_full {
            waiting.dropped += samples.len() as u64;
        } else {
            waiting.samples.extend(samples);
            waiting.bytes += more;
        }
    }

    /// All that wait.
    pub(crate) fn take(&self) -> Vec<Sample> {
        let mut waiting = self.lock();
        waiting.bytes = 0;
        std::mem::take(&mut waiting.samples)
    }

    /// Numbers dropped so far.
    pub(crate) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes of a series' name and labels, estimated.
pub(crate) fn label_bytes(name: &str, labels: &[(Arc<str>, Arc<str>)]) -> usize {
    labels.iter().fold(name.len(), |bytes, (name, value)| bytes + LABEL_BYTES + name.len() + value.len())
}

#[cfg(test)]
mod tests {
    use terrace_instruments::Kind;

    use super::*;

    #[test]
    fn what_does_not_fit_is_counted() {
        let foreign = Foreign::default();
        let one = Sample { name: "a".into(), kind: Kind::Gauge, labels: Arc::new([]), value: 1.0 };
        foreign.offer(vec![one.clone(); WAITING_MAX]);
        foreign.offer(vec![one; 2]);
        assert_eq!((foreign.take().len(), foreign.dropped()), (WAITING_MAX, 2));
        assert_eq!(foreign.take(), []);
    }

    #[test]
    fn long_labels_are_bounded_by_their_bytes() {
        let foreign = Foreign::default();
        let label = (Arc::from("path"), Arc::from("x".repeat(1 << 20)));
        let one = Sample { name: "a".into(), kind: Kind::Gauge, labels: Arc::new([label]), value: 1.0 };
        (0..100).for_each(|_| foreign.offer(vec![one.clone()]));
        let waiting = foreign.take().len();
        assert!(waiting < 64 && foreign.dropped() as usize == 100 - waiting, "{waiting}");
        foreign.offer(vec![one]);
        assert_eq!(foreign.take().len(), 1, "what was taken makes room");
    }
}

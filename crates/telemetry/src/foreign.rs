//! Where numbers from elsewhere wait for the next reading: what was fetched from the app or sent by it, and what the
//! machine says. A second at most, and not without bound.

use std::sync::{Mutex, MutexGuard, PoisonError};

use terrace_signals::series::Sample;

/// Numbers that may wait.
const WAITING_MAX: usize = 65_536;

/// The waiting numbers.
#[derive(Debug, Default)]
pub(crate) struct Foreign(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    samples: Vec<Sample>,
    dropped: u64,
}

impl Foreign {
    /// Takes numbers in; when they do not fit, all of them are dropped and counted.
    pub(crate) fn offer(&self, samples: Vec<Sample>) {
        let mut waiting = self.lock();
        if waiting.samples.len() + samples.len() > WAITING_MAX {
            waiting.dropped += samples.len() as u64;
        } else {
            waiting.samples.extend(samples);
        }
    }

    /// All that wait.
    pub(crate) fn take(&self) -> Vec<Sample> {
        std::mem::take(&mut self.lock().samples)
    }

    /// Numbers dropped so far.
    pub(crate) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

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
}

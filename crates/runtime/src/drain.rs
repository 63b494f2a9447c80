//! Asking a component to finish. A [`Drainer`] asks once; every [`Drain`] cloned from its pair learns of it, however
//! late it looks. A dropped `Drainer` asks as well, so that nothing waits for a question nobody can ask any more.

use tokio::sync::watch;

/// The asking side of a drain.
#[derive(Debug, Clone)]
pub struct Drainer(watch::Sender<bool>);

/// The asked side of a drain; cheap to clone.
#[derive(Debug, Clone)]
pub struct Drain(watch::Receiver<bool>);

/// A connected pair.
#[must_use]
pub fn channel() -> (Drainer, Drain) {
    let (sender, receiver) = watch::channel(false);
    (Drainer(sender), Drain(receiver))
}

impl Drainer {
    /// Asks everybody to finish. Asking twice is asking once.
    pub fn request(&self) {
        self.0.send_replace(true);
    }

    /// Resolves when every [`Drain`] of this pair is gone, which is how its holders say that they have finished.
    pub async fn finished(&self) {
        self.0.closed().await;
    }
}

impl Drain {
    /// Whether finishing was asked for.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }

    /// Resolves when finishing is asked for.
    pub async fn requested(&mut self) {
        let _sender_gone = self.0.wait_for(|asked| *asked).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_drain_is_noticed_even_by_who_looks_late() {
        let (drainer, drain) = channel();
        assert!(!drain.is_requested());
        drainer.request();
        let mut late = drain.clone();
        late.requested().await;
        assert!(late.is_requested() && drain.is_requested());
    }

    #[tokio::test]
    async fn the_drainer_learns_when_all_have_finished() {
        let (drainer, drain) = channel();
        drainer.request();
        drop(drain);
        drainer.finished().await;
    }
}

//! One piece of work for all who want the same at the same time.
//!
//! A browser opens six connections at once, and each brings the same password, or the same session that is due for renewal.
//! Only the first has it checked; the others wait for what comes of it. The work is its own task, so that it goes on when whoever
//! began it goes away, and whatever becomes of it, nobody waits for ever.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// By what same work is known: a keyed hash, or a number that was drawn at random.
pub(crate) type Key = [u8; 32];

/// Too much is under way already, or the work was lost with its runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too much of the kind is under way already")]
pub(crate) struct Crowded;

/// Work under way, whose outcome is a `V`.
pub(crate) struct Flights<V> {
    open: Arc<Mutex<Open<V>>>,
    open_max: usize,
}

type Open<V> = HashMap<Key, watch::Receiver<Option<V>>>;

/// Takes a flight off the list when it ends, also by a panic.
struct Landing<V> {
    open: Arc<Mutex<Open<V>>>,
    key: Key,
}

impl<V> Drop for Landing<V> {
    fn drop(&mut self) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

impl<V: Clone + Send + Sync + 'static> Flights<V> {
    /// At most `open_max` pieces of work at once.
    pub(crate) fn new(open_max: usize) -> Self {
        Self { open: Arc::default(), open_max }
    }

    /// Whether that work is under way.
    pub(crate) fn has(&self, key: &Key) -> bool {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).contains_key(key)
    }

    /// What comes of `work`, or of the same that somebody else began. To be called on a runtime.
    ///
    /// # Errors
    /// [`Crowded`] at once when too much is under way.
    pub(crate) async fn join(
        &self,
        key: Key,
        work: impl Future<Output = V> + Send + 'static,
    ) -> Result<V, Crowded> {
        let mut coming = self.board(key, work)?;
        let come = coming.wait_for(Option::is_some).await.map_err(|_| Crowded)?;
        come.clone().ok_or(Crowded)
    }

    fn board(
        &self,
        key: Key,
        work: impl Future<Output = V> + Send + 'static,
    ) -> Result<watch::Receiver<Option<V>>, Crowded> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(coming) = open.get(&key) {
            return Ok(coming.clone());
        }
        if open.len() >= self.open_max {
            return Err(Crowded);
        }
        let (arrived, coming) = watch::channel(None);
        open.insert(key, coming.clone());
        let landing = Landing { open: Arc::clone(&self.open), key };
        tokio::spawn(async move {
            let outcome = work.await;
            drop(landing);
            arrived.send_replace(Some(outcome));
        });
        Ok(coming)
    }
}

impl<V> fmt::Debug for Flights<V> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Flights").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn the_same_is_done_once_for_all_who_want_it_and_goes_on_without_who_began() {
        let flights = Arc::new(Flights::new(8));
        let count = Arc::new(AtomicU32::new(0));
        let (finish, finished) = oneshot::channel::<()>();
        let mut finished = Some(finished);
        let mut waiting = Vec::new();
        for _ in 0..3 {
            let (count, finished) = (Arc::clone(&count), finished.take());
            let work = async move {
                count.fetch_add(1, Relaxed);
                let _told = finished.expect("only the first works").await;
                7
            };
            let flights = Arc::clone(&flights);
            waiting.push(tokio::spawn(async move { flights.join([0; 32], work).await }));
            tokio::task::yield_now().await;
        }
        waiting.remove(0).abort();
        let _told = finish.send(());
        for waits in waiting {
            assert_eq!(waits.await.expect("no panic"), Ok(7));
        }
        assert_eq!(count.load(Relaxed), 1);
        assert_eq!(flights.join([0; 32], async { 8 }).await, Ok(8), "what has ended is begun anew");
    }

    #[tokio::test]
    async fn there_is_a_bound_and_a_panic_frees_its_place() {
        let flights = Arc::new(Flights::<u32>::new(1));
        let (fail, failing) = oneshot::channel::<()>();
        let work = async move {
            let _told = failing.await;
            panic!("a test's own");
        };
        let first = tokio::spawn({
            let flights = Arc::clone(&flights);
            async move { flights.join([1; 32], work).await }
        });
        tokio::task::yield_now().await;
        assert_eq!(flights.join([2; 32], async { 2 }).await, Err(Crowded));
        let _told = fail.send(());
        assert_eq!(first.await.expect("no panic here"), Err(Crowded));
        assert_eq!(flights.join([2; 32], async { 2 }).await, Ok(2));
    }
}

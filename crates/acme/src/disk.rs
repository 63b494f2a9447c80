//! The folder, kept away from those who must not wait: what is done to it is done on threads of its own, a few at a time,
//! and given up when the folder does not answer (a network file system may hang for hours). Nothing that Terrace serves
//! waits for the folder for longer than that, and everything goes on without it. Not on the runtime's threads for blocking
//! work: it would wait for those at its end, and Terrace goes when it is told to, whatever hangs.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::store::Store;

/// Threads that may be at the folder, or hang there.
const AT_ONCE_MAX: u32 = 4;
/// Of questions from outside, so many more. Further ones wait for their turn: an authority asks about each host from several
/// places at once, and one that finds nothing fails the order.
const QUESTIONS_AT_ONCE_MAX: usize = 4;
/// How long the folder may take over one thing.
const PATIENCE: Duration = Duration::from_secs(10);

/// One authority's folder. Cheap to clone; clones share the bounds.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    pub(crate) store: Store,
    places: Arc<Semaphore>,
    question_places: Arc<Semaphore>,
    patience: Duration,
}

impl Disk {
    pub(crate) fn new(store: Store) -> Self {
        let places = Arc::new(Semaphore::new(AT_ONCE_MAX as usize));
        let question_places = Arc::new(Semaphore::new(QUESTIONS_AT_ONCE_MAX));
        Self { store, places, question_places, patience: PATIENCE }
    }

    /// Does something to the folder.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let whole = async {
            let place = Arc::clone(&self.places).acquire_owned().await.map_err(io::Error::other)?;
            self.on_a_thread(place, work).await
        };
        tokio::time::timeout(self.patience, whole).await.unwrap_or_else(|_elapsed| {
            Err(io::Error::new(io::ErrorKind::TimedOut, "the folder did not answer within 10 s"))
        })
    }

    /// Looks something up that somebody outside asked for.
    pub(crate) async fn look_up<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> io::Result<Option<T>> + Send + 'static,
    ) -> Option<T> {
        let whole = async {
            let place = Arc::clone(&self.question_places).acquire_owned().await.map_err(io::Error::other)?;
            self.on_a_thread(place, work).await
        };
        tokio::time::timeout(self.patience, whole).await.ok()?.ok()?
    }

    /// Does something to the folder that nobody waits for; not at all when too many hang there already.
    pub(crate) fn spawn(&self, work: impl FnOnce(&Store) + Send + 'static) {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else { return };
        let _nobody_waits = self.thread(place, move |store| {
            work(store);
            Ok(())
        });
    }

    /// Resolves when nothing is done to the folder any more, or after `within`.
    pub(crate) async fn rest(&self, within: Duration) {
        let _hangs = tokio::time::timeout(within, self.places.acquire_many(AT_ONCE_MAX)).await;
    }

    async fn on_a_thread<T: Send + 'static>(
        &self,
        place: OwnedSemaphorePermit,
        work: impl FnOnce(&Store) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        self.thread(place, work)?.await.unwrap_or_else(|_panicked| Err(io::ErrorKind::Other.into()))
    }

    /// `place` is given back when the thread is done, however long ago its answer stopped to matter.
    fn thread<T: Send + 'static>(
        &self,
        place: OwnedSemaphorePermit,
        work: impl FnOnce(&Store) -> io::Result<T> + Send + 'static,
    ) -> io::Result<oneshot::Receiver<io::Result<T>>> {
        let store = self.store.clone();
        let (sender, answer) = oneshot::channel();
        std::thread::Builder::new().name("terrace-acme".to_owned()).spawn(move || {
            let done = work(&store);
            drop(place);
            let _gave_up = sender.send(done);
        })?;
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::mpsc;

    use super::*;

    fn disk() -> Disk {
        let store = Store::new(Path::new("/nowhere"), "https://acme.example/dir");
        Disk { patience: Duration::from_millis(20), ..Disk::new(store) }
    }

    #[tokio::test]
    async fn however_many_ask_at_once_all_are_answered() {
        let disk = Disk { patience: PATIENCE, ..disk() };
        let mut asking = tokio::task::JoinSet::new();
        for number in 0..100 {
            let disk = disk.clone();
            asking.spawn(async move { disk.look_up(move |_| Ok(Some(number))).await });
        }
        assert!(asking.join_all().await.iter().all(Option::is_some));
    }

    #[tokio::test]
    async fn a_folder_that_hangs_is_given_up_and_so_are_those_who_come_after() {
        let disk = disk();
        let (release, hangs) = mpsc::channel::<()>();
        let hangs = Arc::new(std::sync::Mutex::new(hangs));
        for _ in 0..AT_ONCE_MAX {
            let hangs = Arc::clone(&hangs);
            let error = disk.run(move |_| {
                let _released = hangs.lock().map(|hangs| hangs.recv());
                Ok(())
            });
            assert_eq!(error.await.expect_err("given up").kind(), io::ErrorKind::TimedOut);
        }
        let error = disk.run(|_| Ok(())).await.expect_err("no thread is free");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(disk.look_up(|_| Ok(Some(1))).await, Some(1), "questions have threads of their own");
        drop(release);
        let disk = Disk { patience: PATIENCE, ..disk };
        disk.rest(PATIENCE).await;
        disk.run(|_| Ok(())).await.expect("it answers again");
    }
}

//! Where the work goes that a core must not wait for: what is fetched, asked or hashed.
//!
//! A core that serves requests hands a future over and awaits what comes of it. The future runs on the control plane's
//! runtime, so that sockets and timers of an authority's are never a core's, and what takes the processor for long goes
//! from there to a bounded pool. When more is asked than can wait, the request is told so at once: a line that only gets
//! longer helps nobody.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use terrace_runtime::drain::Drain;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

/// Pieces of work that wait to be begun.
const WAITING_MAX: usize = 1024;
/// Pieces of work under way.
const AT_WORK_MAX: usize = 2048;
/// Of these, with those that wait, so many are of one policy or login: whoever is slow to answer for it must not hold up those who
/// ask somebody else.
const OF_ONE_MAX: usize = 512;

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Takes work in; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Desk {
    jobs: mpsc::Sender<Task>,
    lasting: mpsc::UnboundedSender<Task>,
    /// One permit for each piece of work that may hold a processor at once.
    processors: Arc<Semaphore>,
    /// One permit for each piece of work of whoever has this desk.
    own: Arc<Semaphore>,
}

/// Does it, on the control plane.
pub(crate) struct Clerk {
    jobs: mpsc::Receiver<Task>,
    lasting: mpsc::UnboundedReceiver<Task>,
}

/// Too much waits already, or nobody works any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too much waits to be checked already")]
pub(crate) struct Busy;

/// A desk and who works at it; `processors` pieces of heavy work are done at once.
pub(crate) fn open(processors: usize) -> (Desk, Clerk) {
    let (jobs, jobs_in) = mpsc::channel(WAITING_MAX);
    let (lasting, lasting_in) = mpsc::unbounded_channel();
    let processors = Arc::new(Semaphore::new(processors.max(1)));
    let desk = Desk { jobs, lasting, processors, own: Arc::new(Semaphore::new(OF_ONE_MAX)) };
    (desk, Clerk { jobs: jobs_in, lasting: lasting_in })
}

impl Desk {
    /// The same desk for somebody whose work is counted apart.
    pub(crate) fn for_one(&self) -> Self {
        Self { own: Arc::new(Semaphore::new(OF_ONE_MAX)), ..self.clone() }
    }

    /// Has `work` done, and waits for what comes of it. Who stops waiting has it stopped.
    ///
    /// # Errors
    /// [`Busy`] at once when too much waits already, and at the end of Terrace.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Busy> {
        let _counted = self.own.try_acquire().map_err(|_| Busy)?;
        let (mut reply, answer) = oneshot::channel();
        let task = async move {
            tokio::select! {
                done = work => {
                    let _nobody_waits = reply.send(done);
                }
                () = reply.closed() => {}
            }
        };
        self.jobs.try_send(Box::pin(task)).map_err(|_| Busy)?;
        answer.await.map_err(|_| Busy)
    }

    /// Starts work that lasts as long as Terrace does, or until it ends by itself. Their number is that of the things in
    /// the file.
    pub(crate) fn employ(&self, work: impl Future<Output = ()> + Send + 'static) {
        let _terrace_ends = self.lasting.send(Box::pin(work));
    }

    /// Does what holds a processor for long, such as hashing a password. To be called from work of this desk.
    ///
    /// # Errors
    /// [`Busy`] when the runtime ends before it was begun.
    pub(crate) async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Busy> {
        let permit = Arc::clone(&self.processors).acquire_owned().await.map_err(|_| Busy)?;
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(permit);
            done
        });
        done.await.map_err(|_| Busy)
    }
}

impl Clerk {
    /// Works until asked to finish, or until nobody holds the desk.
    pub(crate) async fn run(mut self, mut drain: Drain) {
        let (mut at_work, mut lasting) = (JoinSet::new(), JoinSet::new());
        loop {
            tokio::select! {
                job = self.jobs.recv(), if at_work.len() < AT_WORK_MAX => match job {
                    Some(job) => drop(at_work.spawn(job)),
                    None => return,
                },
                Some(task) = self.lasting.recv() => drop(lasting.spawn(task)),
                Some(_done) = at_work.join_next() => {}
                Some(_done) = lasting.join_next() => {}
                () = drain.requested() => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_core_is_answered_by_work_done_elsewhere() {
        let (desk, clerk) = open(1);
        let (drainer, drain) = terrace_runtime::drain::channel();
        let control = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(clerk.run(drain));
        });
        let inner = desk.clone();
        let name = desk.ask(async move {
            let hashed = inner.compute(|| std::thread::current().name().map(str::to_owned)).await;
            (std::thread::current().id(), hashed)
        });
        let (thread, hashed) = name.await.expect("done");
        assert_ne!(thread, std::thread::current().id());
        assert!(hashed.is_ok());
        drainer.request();
        control.join().expect("no panic");
        assert_eq!(desk.ask(async {}).await, Err(Busy));
    }

    #[tokio::test]
    async fn who_comes_when_the_line_is_full_is_told_at_once_and_nobody_fills_it_alone() {
        let (desk, clerk) = open(1);
        let desks: Vec<Desk> = (0..WAITING_MAX / OF_ONE_MAX).map(|_| desk.for_one()).collect();
        let mut waiting = Vec::new();
        for desk in &desks {
            for _ in 0..OF_ONE_MAX {
                let mut ask = Box::pin(desk.ask(async {}));
                let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(ask.as_mut().poll(cx)));
                assert!(polled.await.is_pending(), "{}", waiting.len());
                waiting.push(ask);
            }
            assert_eq!(desk.ask(async {}).await, Err(Busy), "that is all for one");
        }
        assert_eq!(desk.ask(async {}).await, Err(Busy), "that is all");
        drop(clerk);
        for ask in waiting {
            assert_eq!(ask.await, Err(Busy), "nobody waits for ever");
        }
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_is_stopped() {
        let (desk, clerk) = open(1);
        let (_drainer, drain) = terrace_runtime::drain::channel();
        let (alive, gone) = oneshot::channel::<()>();
        let (begin, begun) = oneshot::channel::<()>();
        let working = tokio::spawn(clerk.run(drain));
        // Held by the test as well, so that the clerk works on.
        let held = desk.clone();
        let asked = tokio::spawn(async move {
            let work = async move {
                let _told = begin.send(());
                let _alive = alive;
                std::future::pending::<()>().await;
            };
            desk.ask(work).await
        });
        begun.await.expect("it began");
        asked.abort();
        assert!(gone.await.is_err(), "the work was dropped");
        drop(held);
        working.abort();
    }
}

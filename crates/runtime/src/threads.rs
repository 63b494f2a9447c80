//! The data plane's threads: one for each core, each with a single-threaded runtime of its own.
//!
//! Nothing moves between these threads while a request is served. The control plane reaches a core by posting a job,
//! which runs there between two requests and may start tasks that stay on that core.

use std::io;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc;

type Job = Box<dyn FnOnce() + Send>;

/// The running threads of the data plane.
#[derive(Debug)]
pub struct Cores {
    mailboxes: Vec<mpsc::UnboundedSender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

/// How many threads the data plane takes when nobody says otherwise: the cores that affinity and cgroup leave us.
#[must_use]
pub fn available_cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Raises the bound on open files to what the system allows this process: a connection takes one, two when it is
/// forwarded, and the usual bound of a shell is 1,024. Says the bound in force.
pub fn raise_open_files_max() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    let _the_old_bound_stays =
        setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum });
    getrlimit(Resource::Nofile).current
}

impl Cores {
    /// Starts `count` threads (at least one).
    ///
    /// # Errors
    /// What the operating system says when it gives no further thread or descriptor.
    pub fn start(count: usize) -> io::Result<Self> {
        let mut cores = Self { mailboxes: Vec::new(), threads: Vec::new() };
        for index in 0..count.max(1) {
            let (mailbox, jobs) = mpsc::unbounded_channel();
            cores.threads.push(
                std::thread::Builder::new()
                    .name(format!("terrace-core-{index}"))
                    .spawn(move || serve_jobs(index, jobs))?,
            );
            cores.mailboxes.push(mailbox);
        }
        Ok(cores)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.mailboxes.len()
    }

    /// Runs `job` on the core `index`, inside its runtime. A core that has ended drops it.
    pub fn post(&self, index: usize, job: impl FnOnce() + Send + 'static) {
        let _core_has_ended = self.mailboxes[index].send(Box::new(job));
    }

    /// Ends every thread and waits for it; tasks still running there are dropped where they wait.
    pub fn stop(self) {
        drop(self.mailboxes);
        for thread in self.threads {
            let _panicked = thread.join();
        }
    }
}

fn serve_jobs(index: usize, mut jobs: mpsc::UnboundedReceiver<Job>) {
    terrace_instruments::set_shard(index);
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .expect("invariant: a thread that could be started gets an epoll descriptor");
    runtime.block_on(async move {
        while let Some(job) = jobs.recv().await {
            job();
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_runs_on_the_core_it_was_posted_to_and_may_start_tasks_there() {
        let cores = Cores::start(2).expect("two threads");
        let (sender, receiver) = std::sync::mpsc::channel();
        cores.post(1, move || {
            let name = std::thread::current().name().map(str::to_owned);
            tokio::task::spawn_local(async move {
                tokio::task::yield_now().await;
                sender.send(name).expect("the test listens");
            });
        });
        assert_eq!(receiver.recv().expect("the job ran").as_deref(), Some("terrace-core-1"));
        cores.stop();
    }
}

//! What each instance of the app uses, all of its processes together.
//!
//! Which processes belong to it is looked up every few seconds, for that means to read of every process of the machine; in
//! between only the known ones are asked. A child that lives and ends between two look-ups is not seen, but its CPU time
//! is: the kernel adds it to its parent's when that waits for it.

use std::collections::HashMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use terrace_signals::series::Sample;

use super::processes::{Process, members};
use super::{Figure, Labels, labels_of};
use crate::observatory::Instance;
use crate::process::TICKS_PER_SECOND;

/// How often all processes of the machine are looked at.
const SCAN_EVERY: Duration = Duration::from_secs(5);
/// Processes of one instance that are asked; all of them are counted.
const PROCESSES_ASKED_MAX: usize = 1_024;

/// What is remembered of the instances.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// By the number of the leader.
    groups: HashMap<i32, Group>,
    scanned_at: Option<Duration>,
    page_bytes: Option<u64>,
}

#[derive(Debug)]
struct Group {
    service: Arc<str>,
    name: Arc<str>,
    labels: Labels,
    members: Vec<Process>,
    cpu: Monotone,
}

/// A sum over processes that come and go, which as a counter must not go down: what is lost with a process that nobody
/// waited for is kept.
#[derive(Debug, Default)]
struct Monotone {
    last: u64,
    kept: u64,
}

impl Monotone {
    fn advance(&mut self, sum: u64) -> u64 {
        self.kept += self.last.saturating_sub(sum);
        self.last = sum;
        self.kept + sum
    }
}

impl Groups {
    pub(super) fn read(&mut self, now: Duration, instances: &[Instance]) -> Vec<Sample> {
        let is_new = self.take_over(instances);
        let is_due = self.scanned_at.is_none_or(|at| now.saturating_sub(at) >= SCAN_EVERY);
        if (is_new || is_due) && !self.groups.is_empty() {
            self.scanned_at = Some(now);
            self.scan();
        } else {
            self.groups.values_mut().for_each(Group::refresh);
        }
        let page_bytes = *self.page_bytes.get_or_insert_with(page_bytes);
        let mut samples = Vec::with_capacity(self.groups.len() * 5);
        for group in self.groups.values_mut().filter(|group| !group.members.is_empty()) {
            group.add_to(&mut samples, page_bytes);
        }
        samples
    }

    /// Keeps the groups of these instances, and says whether any is new.
    fn take_over(&mut self, instances: &[Instance]) -> bool {
        let mut before = std::mem::take(&mut self.groups);
        let mut is_new = false;
        for instance in instances {
            let Some(leader) = instance.pid else { continue };
            let known = before
                .remove(&leader)
                .filter(|group| (&group.service, &group.name) == (&instance.service, &instance.name));
            is_new |= known.is_none();
            self.groups.insert(leader, known.unwrap_or_else(|| Group::new(instance)));
        }
        is_new
    }

    fn scan(&mut self) {
        let leaders: Vec<i32> = self.groups.keys().copied().collect();
        let mut found = members(&leaders, &Process::all());
        for (leader, group) in &mut self.groups {
            group.members = found.remove(leader).unwrap_or_default();
        }
    }
}

impl Group {
    fn new(instance: &Instance) -> Self {
        let labels = labels_of(&[("instance", &instance.name), ("service", &instance.service)]);
        let (service, name) = (Arc::clone(&instance.service), Arc::clone(&instance.name));
        Self { service, name, labels, members: Vec::new(), cpu: Monotone::default() }
    }

    /// Asks the known processes; a number that was given to another process meanwhile is let go.
    fn refresh(&mut self) {
        self.members.retain_mut(|member| match Process::read(member.pid) {
            Some(now) if now.started_ticks == member.started_ticks => {
                *member = now;
                true
            }
            _ => false,
        });
    }

    fn add_to(&mut self, samples: &mut Vec<Sample>, page_bytes: u64) {
        let asked = &self.members[..self.members.len().min(PROCESSES_ASKED_MAX)];
        let ticks = self.cpu.advance(asked.iter().map(|process| process.cpu_ticks).sum());
        let pages: u64 = asked.iter().map(|process| process.resident_pages).sum();
        let threads: u64 = asked.iter().map(|process| process.threads).sum();
        // Of one that has just ended there are none; when we may look at none of them, nothing is known.
        let fds: Vec<u64> = asked.iter().filter_map(Process::open_fds).collect();
        let known_fds = (!fds.is_empty()).then(|| fds.iter().sum::<u64>() as f64);
        let mut add = |figure: Figure, value: f64| samples.push(figure.sample(&self.labels, value));
        add(Figure::InstanceCpu, ticks as f64 / TICKS_PER_SECOND);
        add(Figure::InstanceMemory, (pages * page_bytes) as f64);
        add(Figure::InstanceProcesses, self.members.len() as f64);
        add(Figure::InstanceThreads, threads as f64);
        known_fds.into_iter().for_each(|fds| add(Figure::InstanceFds, fds));
    }
}

/// The size of a page: `AT_PAGESZ` of the auxiliary vector (getauxval(3)), where it is as it was handed to us; 4 KiB where
/// it cannot be read.
fn page_bytes() -> u64 {
    const AT_PAGESZ: usize = 6;
    const USUAL: u64 = 4_096;
    let vector = fs::read("/proc/self/auxv").unwrap_or_default();
    let (words, _) = vector.as_chunks::<{ size_of::<usize>() }>();
    let mut pairs =
        words.chunks_exact(2).map(|pair| (usize::from_ne_bytes(pair[0]), usize::from_ne_bytes(pair[1])));
    pairs.find(|(kind, _)| *kind == AT_PAGESZ).map_or(USUAL, |(_, size)| size as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, Stdio};

    #[test]
    fn cpu_time_never_goes_back_when_a_process_ends_that_nobody_waited_for() {
        let mut cpu = Monotone::default();
        let seen = [10, 30, 5, 7, 0, 2].map(|sum| cpu.advance(sum));
        assert_eq!(seen, [10, 30, 30, 32, 32, 34]);
    }

    /// A process group that is ended with the test.
    struct App(Child);

    impl App {
        fn start(script: &str) -> Self {
            let mut command = Command::new("sh");
            command.args(["-c", script]).process_group(0).stdin(Stdio::null()).stdout(Stdio::piped());
            Self(command.spawn().expect("there is a shell"))
        }

        /// Waits until it has printed a line.
        fn wait_for_line(&mut self) {
            let stdout = self.0.stdout.as_mut().expect("it is piped");
            let mut line = String::new();
            BufReader::new(stdout).read_line(&mut line).expect("it prints");
        }

        fn instance(&self) -> Instance {
            let pid = i32::try_from(self.0.id()).ok();
            Instance { service: "orders".into(), name: "orders-1".into(), pid, address: None }
        }
    }

    impl Drop for App {
        fn drop(&mut self) {
            let group = rustix::process::Pid::from_child(&self.0);
            let _ended = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            let _status = self.0.wait();
        }
    }

    fn value(samples: &[Sample], name: &str) -> f64 {
        let found = samples.iter().find(|sample| *sample.name == *name);
        found.unwrap_or_else(|| panic!("{name} is not among {samples:?}")).value
    }

    #[test]
    #[cfg_attr(not(target_os = "linux"), ignore = "there is no /proc")]
    fn what_an_instance_and_its_children_use_is_summed() {
        const HELD_BYTES: f64 = 16e6;
        let mut app = App::start(
            "held=$(head -c 16000000 /dev/zero | tr '\\0' x); i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done; \
             sleep 1000 & echo ready; wait; echo $held",
        );
        app.wait_for_line();
        let mut groups = Groups::default();
        let samples = groups.read(Duration::ZERO, &[app.instance()]);
        assert!(value(&samples, "terrace_instance_cpu_seconds_total") >= 0.02, "{samples:?}");
        assert!(value(&samples, "terrace_instance_memory_bytes") >= HELD_BYTES, "{samples:?}");
        assert_eq!(value(&samples, "terrace_instance_processes"), 2.0);
        assert_eq!(value(&samples, "terrace_instance_threads"), 2.0);
        assert!(value(&samples, "terrace_instance_open_fds") >= 6.0, "three standard streams each");
        let labels: Vec<(&str, &str)> =
            samples[0].labels.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(labels, [("instance", "orders-1"), ("service", "orders")]);
        let later = groups.read(Duration::from_secs(1), &[app.instance()]);
        assert_eq!(value(&later, "terrace_instance_processes"), 2.0, "the known ones are asked again");
        assert_eq!(groups.read(Duration::from_secs(2), &[]), [], "who is gone is not told of");
    }

    #[test]
    #[cfg_attr(not(target_os = "linux"), ignore = "there is no /proc")]
    fn an_instance_that_has_ended_is_not_told_of() {
        let mut app = App::start("echo ready");
        app.wait_for_line();
        let instance = app.instance();
        drop(app);
        assert_eq!(Groups::default().read(Duration::ZERO, &[instance]), []);
    }
}

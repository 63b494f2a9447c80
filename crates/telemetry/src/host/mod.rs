//! What the machine and the app's processes use: read once a second beside the control plane's thread, for the rings, the
//! dashboard, alerts and `/metrics`.
//!
//! A few small files tell all of the machine, and two for each process of the app; on a usual machine that is under a
//! millisecond. Where there is no /proc (macOS), or a file cannot be read, the figure is absent rather than wrong.

mod groups;
mod machine;
mod processes;

pub use machine::own_memory_share;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use terrace_instruments::Kind;
use terrace_signals::series::Sample;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::exposition::{Exposition, labels};
use crate::observatory::Instance;

/// Reading takes a millisecond; what takes longer is not waited for, and is part of a later second.
const READ_WITHIN: Duration = Duration::from_millis(250);

/// The latest figures, and who reads them.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    reader: Arc<Mutex<Reader>>,
    latest: Mutex<Arc<Vec<Sample>>>,
    /// A reading that has not come back.
    under_way: Mutex<Option<JoinHandle<Vec<Sample>>>>,
}

/// What is remembered from one reading to the next.
#[derive(Debug, Default)]
struct Reader {
    machine: machine::Machine,
    groups: groups::Groups,
}

type Labels = Arc<[(Arc<str>, Arc<str>)]>;

/// One kind of figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Figure {
    CpuSeconds,
    CpuUsage,
    Load,
    MemoryTotal,
    MemoryAvailable,
    FilesystemSize,
    FilesystemFree,
    NetworkReceived,
    NetworkSent,
    PressureWaiting,
    PressureStalled,
    InstanceCpu,
    InstanceMemory,
    InstanceFds,
    InstanceProcesses,
    InstanceThreads,
}

/// Each figure in the order of [`Figure`], with its name, what it means, and its unit.
const DESCRIBED: [(Figure, &str, &str, &str); 16] = [
    (
        Figure::CpuSeconds,
        "terrace_host_cpu_seconds_total",
        "CPU time of the machine, of all cores together, by mode.",
        "seconds",
    ),
    (
        Figure::CpuUsage,
        "terrace_host_cpu_usage_ratio",
        "Share of the machine's CPU time of the last second that was not idle.",
        "ratio",
    ),
    (Figure::Load, "terrace_host_load1", "Processes that run or wait, mean over a minute.", ""),
    (
        Figure::MemoryTotal,
        "terrace_host_memory_total_bytes",
        "Memory there is: the machine's, or the control group's limit if that is less.",
        "bytes",
    ),
    (
        Figure::MemoryAvailable,
        "terrace_host_memory_available_bytes",
        "Memory that could be had without swapping, within the control group's limit.",
        "bytes",
    ),
    (
        Figure::FilesystemSize,
        "terrace_host_filesystem_size_bytes",
        "Size of the file system that holds the state folder.",
        "bytes",
    ),
    (
        Figure::FilesystemFree,
        "terrace_host_filesystem_free_bytes",
        "What Terrace may still write to the file system that holds the state folder.",
        "bytes",
    ),
    (
        Figure::NetworkReceived,
        "terrace_host_network_receive_bytes_total",
        "Bytes received, by network device; virtual ones and loopback are left out.",
        "bytes",
    ),
    (
        Figure::NetworkSent,
        "terrace_host_network_transmit_bytes_total",
        "Bytes sent, by network device; virtual ones and loopback are left out.",
        "bytes",
    ),
    (
        Figure::PressureWaiting,
        "terrace_host_pressure_waiting_seconds_total",
        "Time in which some process waited for a resource.",
        "seconds",
    ),
    (
        Figure::PressureStalled,
        "terrace_host_pressure_stalled_seconds_total",
        "Time in which all processes waited for a resource.",
        "seconds",
    ),
    (
        Figure::InstanceCpu,
        "terrace_instance_cpu_seconds_total",
        "CPU time of an instance's processes, also of those that have ended.",
        "seconds",
    ),
    (
        Figure::InstanceMemory,
        "terrace_instance_memory_bytes",
        "Resident memory of an instance's processes; what they share is counted for each.",
        "bytes",
    ),
    (
        Figure::InstanceFds,
        "terrace_instance_open_fds",
        "Open file descriptors of an instance's processes.",
        "",
    ),
    (Figure::InstanceProcesses, "terrace_instance_processes", "Processes of an instance.", ""),
    (Figure::InstanceThreads, "terrace_instance_threads", "Threads of an instance's processes.", ""),
];

impl Figure {
    /// Its name, what it means, and its unit.
    fn describe(self) -> (&'static str, &'static str, &'static str) {
        let (_, name, help, unit) = DESCRIBED[self as usize];
        (name, help, unit)
    }

    fn kind(self) -> Kind {
        if self.describe().0.ends_with("_total") { Kind::Counter } else { Kind::Gauge }
    }

    fn sample(self, labels: &Labels, value: f64) -> Sample {
        let name = Arc::clone(&names()[self as usize]);
        Sample { name, kind: self.kind(), labels: Arc::clone(labels), value }
    }
}

/// The names, made once: they are handed out some thousand times a second.
fn names() -> &'static [Arc<str>] {
    static NAMES: std::sync::OnceLock<Vec<Arc<str>>> = std::sync::OnceLock::new();
    NAMES.get_or_init(|| DESCRIBED.iter().map(|(_, name, ..)| Arc::from(*name)).collect())
}

/// What a metric of these means; empty of any other.
pub(crate) fn help(of: &str) -> &'static str {
    let known = DESCRIBED.iter().find(|(_, name, ..)| *name == of);
    known.map_or("", |(_, _, help, _)| help)
}

/// Label names and values, in order of the names.
fn labels_of(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(name, value)| (Arc::from(*name), Arc::from(*value))).collect()
}

impl Figures {
    /// Reads everything and returns it, or nothing when the machine is so slow that it has to be waited for. `state` is the
    /// folder whose file system is looked at.
    pub(crate) async fn read(
        &self,
        now: Duration,
        state: Option<PathBuf>,
        instances: Vec<Instance>,
    ) -> Vec<Sample> {
        let mut reading = lock(&self.under_way).take().unwrap_or_else(|| {
            let reader = Arc::clone(&self.reader);
            tokio::task::spawn_blocking(move || lock(&reader).read(now, state, &instances))
        });
        match timeout(READ_WITHIN, &mut reading).await {
            Ok(read) => {
                let samples = read.unwrap_or_default();
                *lock(&self.latest) = Arc::new(samples.clone());
                samples
            }
            Err(_) => {
                *lock(&self.under_way) = Some(reading);
                Vec::new()
            }
        }
    }

    /// Adds the latest figures.
    pub(crate) fn render(&self, out: &mut Exposition) {
        let latest = Arc::clone(&lock(&self.latest));
        for (figure, name, help, unit) in DESCRIBED {
            let mut samples = latest.iter().filter(|sample| *sample.name == *name).peekable();
            if samples.peek().is_some() {
                out.family(name, help, unit, figure.kind());
            }
            for sample in samples {
                let (names, values): (Vec<&str>, Vec<&str>) =
                    sample.labels.iter().map(|(name, value)| (&**name, &**value)).unzip();
                match figure.kind() {
                    Kind::Counter => out.counter(&labels(&names, &values), sample.value),
                    _ => out.gauge(&labels(&names, &values), sample.value),
                }
            }
        }
    }
}

impl Reader {
    fn read(&mut self, now: Duration, state: Option<PathBuf>, instances: &[Instance]) -> Vec<Sample> {
        let mut samples = self.machine.read(state.as_deref());
        samples.extend(self.groups.read(now, instances));
        samples
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposition::Format;

    #[test]
    fn every_figure_stands_at_its_own_place_and_is_named_by_its_unit() {
        for (at, (figure, ..)) in DESCRIBED.into_iter().enumerate() {
            let (name, help, unit) = figure.describe();
            assert_eq!(figure as usize, at);
            let base = name.trim_end_matches("_total");
            assert!(unit.is_empty() || base.ends_with(&format!("_{unit}")), "{name}");
            assert!(help.ends_with('.'), "{help}");
            assert_eq!(super::help(name), help, "the metrics page explains it as well");
        }
    }

    #[tokio::test]
    #[cfg_attr(not(target_os = "linux"), ignore = "there is no /proc")]
    async fn what_this_machine_uses_is_read_and_rendered() {
        let figures = Figures::default();
        let state = Some(std::env::temp_dir());
        let mut samples = Vec::new();
        // On a machine that is very busy the first reading may come with a later one.
        while samples.is_empty() {
            samples = figures.read(Duration::ZERO, state.clone(), Vec::new()).await;
        }
        let value =
            |name: &str| samples.iter().find(|sample| *sample.name == *name).map(|sample| sample.value);
        let total = value("terrace_host_memory_total_bytes").expect("there is memory");
        let available = value("terrace_host_memory_available_bytes").expect("some of it is left");
        assert!(total >= available && available >= 0.0, "{available} of {total}");
        assert!(value("terrace_host_filesystem_size_bytes").is_some_and(|size| size > 0.0));
        let mut out = Exposition::new(Format::Prometheus);
        figures.render(&mut out);
        let text = out.finish().body;
        assert!(text.contains("# TYPE terrace_host_cpu_seconds_total counter\n"), "{text}");
        assert!(text.contains("terrace_host_cpu_seconds_total{mode=\"idle\"} "), "{text}");
    }
}

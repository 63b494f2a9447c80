//! The machine as a whole: CPU, load, memory, disk, network, pressure.
//!
//! Inside a container the files of /proc speak of the whole machine, but the memory that can be had is what the control
//! group allows; so the tightest limit on the way up from our own group counts.

use std::fs;
use std::path::{Path, PathBuf};

use terrace_signals::series::Sample;

use super::{Figure, labels_of};
use crate::process::{TICKS_PER_SECOND, field, kilobytes};

/// The columns of /proc/stat that are told (proc(5)); guests are part of user and nice.
const MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];
const IDLE: usize = 3;
const IOWAIT: usize = 4;
/// Network devices that are told.
const DEVICES_MAX: usize = 16;
/// Devices whose bytes pass another one as well, or never leave the machine.
const VIRTUAL: [&str; 8] = ["lo", "veth", "docker", "br-", "virbr", "ifb", "dummy", "cni"];
/// What a control group without a limit says in version 1 is about 2^63.
const LIMIT_BYTES_MAX: u64 = 1 << 60;

/// What is remembered of the last reading.
#[derive(Debug, Default)]
pub(super) struct Machine {
    cpu: Option<[f64; 8]>,
}

impl Machine {
    pub(super) fn read(&mut self, state: Option<&Path>) -> Vec<Sample> {
        let mut samples = Vec::with_capacity(32);
        self.add_cpu(&mut samples);
        let none = labels_of(&[]);
        let mut add = |figure: Figure, value: Option<f64>| {
            samples.extend(value.map(|value| figure.sample(&none, value)));
        };
        add(Figure::Load, load(&text("/proc/loadavg")));
        let (total, available) = memory(&text("/proc/meminfo"), control_group_memory());
        add(Figure::MemoryTotal, total);
        add(Figure::MemoryAvailable, available);
        let disk = state.and_then(|state| rustix::fs::statvfs(state).ok());
        let disk = disk.as_ref();
        add(Figure::FilesystemSize, disk.map(|disk| disk.f_blocks as f64 * disk.f_frsize as f64));
        add(Figure::FilesystemFree, disk.map(|disk| disk.f_bavail as f64 * disk.f_frsize as f64));
        add_network(&mut samples, &text("/proc/net/dev"));
        for resource in ["cpu", "memory", "io"] {
            add_pressure(&mut samples, resource, &text(&format!("/proc/pressure/{resource}")));
        }
        samples
    }

    fn add_cpu(&mut self, samples: &mut Vec<Sample>) {
        let Some(now) = cpu(&text("/proc/stat")) else { return };
        for (mode, seconds) in MODES.iter().zip(now) {
            samples.push(Figure::CpuSeconds.sample(&labels_of(&[("mode", mode)]), seconds));
        }
        if let Some(usage) = self.cpu.replace(now).and_then(|before| usage(before, now)) {
            samples.push(Figure::CpuUsage.sample(&labels_of(&[]), usage));
        }
    }
}

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Seconds in each mode, from /proc/stat.
fn cpu(stat: &str) -> Option<[f64; 8]> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let mut columns = line.split_ascii_whitespace();
    let mut seconds = [0.0; 8];
    for second in &mut seconds {
        *second = columns.next()?.parse::<f64>().ok()? / TICKS_PER_SECOND;
    }
    Some(seconds)
}

/// The share that was not idle; nothing when no time has passed.
fn usage(before: [f64; 8], now: [f64; 8]) -> Option<f64> {
    let spent: [f64; 8] = std::array::from_fn(|mode| (now[mode] - before[mode]).max(0.0));
    let all: f64 = spent.iter().sum();
    (all > 0.0).then(|| 1.0 - (spent[IDLE] + spent[IOWAIT]) / all)
}

fn load(loadavg: &str) -> Option<f64> {
    loadavg.split_ascii_whitespace().next()?.parse().ok()
}

/// Total and available bytes, from /proc/meminfo and a control group's limit and use.
fn memory(meminfo: &str, group: Option<(u64, u64)>) -> (Option<f64>, Option<f64>) {
    let total = kilobytes(meminfo, "MemTotal:");
    let available = kilobytes(meminfo, "MemAvailable:");
    let (total, available) = match group {
        Some((limit, used)) => (
            total.map(|total| total.min(limit)),
            available.map(|available| available.min(limit.saturating_sub(used))),
        ),
        None => (total, available),
    };
    (total.map(|bytes| bytes as f64), available.map(|bytes| bytes as f64))
}

/// How much of the memory that this process could have it has, 0 to 1: its own, over that and what the machine or the
/// tightest control group still has to give. So a process that is small on a full machine has little: nothing that it does
/// would make room. None where that cannot be read.
pub fn own_memory_share() -> Option<f64> {
    let (_, available) = memory(&text("/proc/meminfo"), control_group_memory());
    memory_share(kilobytes(&text("/proc/self/status"), "VmRSS:")? as f64, available?)
}

fn memory_share(own: f64, available: f64) -> Option<f64> {
    let could_have = own + available;
    (could_have > 0.0).then(|| own / could_have)
}

/// The tightest limit that holds for this process, and what of it is used but for files that can be dropped.
fn control_group_memory() -> Option<(u64, u64)> {
    let (base, path, names) = control_group(&text("/proc/self/cgroup"))?;
    let folder = |group: &Path| base.join(group.strip_prefix("/").unwrap_or(group));
    let read = |group: &Path, name: &str| fs::read_to_string(folder(group).join(name)).unwrap_or_default();
    let limited = path.ancestors().filter_map(|group| Some((limit(&read(group, names.limit))?, group)));
    let (limit, group) = limited.min_by_key(|(limit, _)| *limit)?;
    let used: u64 = read(group, names.used).trim().parse().ok()?;
    let droppable = field(&read(group, "memory.stat"), names.droppable).unwrap_or_default();
    Some((limit, used.saturating_sub(droppable)))
}

/// Names of a control group's files.
#[derive(Debug, PartialEq, Eq)]
struct Names {
    limit: &'static str,
    used: &'static str,
    droppable: &'static str,
}

/// Where the group that counts our memory is: version 2 (`0::/path`) or 1 (`8:memory:/path`), cgroups(7).
fn control_group(own: &str) -> Option<(PathBuf, PathBuf, Names)> {
    let mut unified = None;
    for line in own.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        if controllers.split(',').any(|controller| controller == "memory") {
            let names = Names {
                limit: "memory.limit_in_bytes",
                used: "memory.usage_in_bytes",
                droppable: "total_inactive_file",
            };
            return Some(("/sys/fs/cgroup/memory".into(), path.into(), names));
        }
        if controllers.is_empty() {
            let names = Names { limit: "memory.max", used: "memory.current", droppable: "inactive_file" };
            unified = Some(("/sys/fs/cgroup".into(), path.into(), names));
        }
    }
    unified
}

fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|limit| *limit < LIMIT_BYTES_MAX)
}

fn add_network(samples: &mut Vec<Sample>, dev: &str) {
    for (device, received, sent) in network(dev).take(DEVICES_MAX) {
        let labels = labels_of(&[("device", device)]);
        samples.push(Figure::NetworkReceived.sample(&labels, received));
        samples.push(Figure::NetworkSent.sample(&labels, sent));
    }
}

/// Device, bytes received, bytes sent, from /proc/net/dev.
fn network(dev: &str) -> impl Iterator<Item = (&str, f64, f64)> {
    dev.lines().filter_map(|line| {
        let (device, columns) = line.split_once(':')?;
        let device = device.trim();
        let mut columns = columns.split_ascii_whitespace();
        let received = columns.next()?.parse().ok()?;
        let sent = columns.nth(7)?.parse().ok()?;
        let is_virtual = VIRTUAL.iter().any(|prefix| device.starts_with(prefix));
        (!is_virtual).then_some((device, received, sent))
    })
}

fn add_pressure(samples: &mut Vec<Sample>, resource: &str, text: &str) {
    let labels = labels_of(&[("resource", resource)]);
    for (figure, key) in [(Figure::PressureWaiting, "some "), (Figure::PressureStalled, "full ")] {
        samples.extend(pressure(text, key).map(|seconds| figure.sample(&labels, seconds)));
    }
}

/// Seconds in all, from a file of /proc/pressure.
fn pressure(text: &str, key: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let total = line.split_ascii_whitespace().find_map(|pair| pair.strip_prefix("total="))?;
    Some(total.parse::<f64>().ok()? / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_by_mode_and_idle_is_what_waits_for_disks_too() {
        let before = cpu("cpu  100 0 50 800 50 0 0 0 7 7\ncpu0 1 1 1 1 1 1 1 1\n").unwrap();
        assert_eq!(before, [1.0, 0.0, 0.5, 8.0, 0.5, 0.0, 0.0, 0.0]);
        let now = cpu("cpu  150 0 75 810 65 0 0 0\n").unwrap();
        assert_eq!(usage(before, now).map(|share| (share * 100.0).round()), Some(75.0));
        assert_eq!(usage(now, now), None);
        assert_eq!((cpu(""), cpu("cpu  1 2 3\n"), cpu("cpu  a b c d e f g h\n")), (None, None, None));
    }

    #[test]
    fn memory_is_what_the_control_group_allows() {
        let meminfo = "MemTotal:       1000 kB\nMemFree: 1 kB\nMemAvailable:    600 kB\n";
        assert_eq!(memory(meminfo, None), (Some(1_024_000.0), Some(614_400.0)));
        assert_eq!(memory(meminfo, Some((500_000, 450_000))), (Some(500_000.0), Some(50_000.0)));
        assert_eq!(memory(meminfo, Some((500_000, 900_000))), (Some(500_000.0), Some(0.0)));
        assert_eq!(memory("", Some((500_000, 0))), (None, None));
    }

    #[test]
    fn a_small_process_on_a_full_machine_has_little_of_what_it_could() {
        assert_eq!(memory_share(50.0, 150.0), Some(0.25));
        assert_eq!(memory_share(1_000.0, 0.0), Some(1.0));
        assert_eq!(memory_share(0.0, 0.0), None);
        let here = own_memory_share();
        assert!(here.is_none_or(|share| share > 0.0 && share < 1.0), "{here:?}");
    }

    #[test]
    fn the_control_group_is_found_in_both_versions() {
        let (base, path, names) = control_group("0::/system.slice/terrace.service\n").unwrap();
        assert_eq!((base, path), ("/sys/fs/cgroup".into(), "/system.slice/terrace.service".into()));
        assert_eq!(names.limit, "memory.max");
        let (base, path, names) = control_group("9:cpu,cpuacct:/a\n8:memory:/docker/x:y\n0::/\n").unwrap();
        assert_eq!((base, path), ("/sys/fs/cgroup/memory".into(), "/docker/x:y".into()));
        assert_eq!(names.used, "memory.usage_in_bytes");
        assert_eq!(control_group("nonsense\n"), None);
        assert_eq!(
            (limit("max\n"), limit("9223372036854771712\n"), limit("4096\n")),
            (None, None, Some(4_096))
        );
    }

    #[test]
    fn bytes_are_counted_where_they_leave_the_machine() {
        let dev = "Inter-|   Receive                                                |  Transmit\n \
            face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
            lo: 9 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n  \
            eth0: 613185729 30010 0 0 0 0 0 0 2068286 20472 0 0 0 0 0 0\n\
            vethab12: 5 1 0 0 0 0 0 0 5 1 0 0 0 0 0 0\n\
            broken: 1 2\n";
        assert_eq!(network(dev).collect::<Vec<_>>(), [("eth0", 613_185_729.0, 2_068_286.0)]);
    }

    #[test]
    fn pressure_is_told_in_seconds() {
        let text =
            "some avg10=37.27 avg60=34.71 avg300=56.35 total=4136009686\nfull avg10=0.00 total=250000\n";
        assert_eq!((pressure(text, "some "), pressure(text, "full ")), (Some(4_136.009_686), Some(0.25)));
        assert_eq!((pressure("", "some "), pressure("some total=x\n", "some ")), (None, None));
        assert_eq!((load("0.52 0.58 0.59 1/467 1234\n"), load("")), (Some(0.52), None));
    }
}

//! What the operating system knows of this process, under the names every Prometheus client uses.
//!
//! Read from /proc when asked; where there is none (macOS) or a file cannot be read, the metric is absent rather
//! than wrong.

use std::fs;

use terrace_instruments::Kind;

use crate::exposition::Exposition;

/// Clock ticks a second in /proc (`USER_HZ`): 100 on every architecture that Rust's standard library supports on Linux.
pub(crate) const TICKS_PER_SECOND: f64 = 100.0;

/// Adds the process's metrics.
pub(crate) fn render(out: &mut Exposition) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    if let Some(seconds) = cpu_seconds(&stat) {
        out.family("process_cpu_seconds", "User and system CPU time spent.", "seconds", Kind::Counter);
        out.counter("", seconds);
    }
    if let Some(seconds) = start_seconds(&stat, &fs::read_to_string("/proc/stat").unwrap_or_default()) {
        out.family("process_start_time_seconds", "Start of the process since 1970.", "seconds", Kind::Gauge);
        out.gauge("", seconds);
    }
    gauge(out, "process_resident_memory_bytes", "Resident memory.", "bytes", kilobytes(&status, "VmRSS:"));
    gauge(out, "process_virtual_memory_bytes", "Virtual memory.", "bytes", kilobytes(&status, "VmSize:"));
    gauge(out, "process_threads", "Threads of the operating system.", "", field(&status, "Threads:"));
    gauge(out, "process_open_fds", "Open file descriptors.", "", open_fds());
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    gauge(
        out,
        "process_max_fds",
        "Most file descriptors that may be open.",
        "",
        field(&limits, "Max open files"),
    );
}

fn gauge(out: &mut Exposition, name: &str, help: &str, unit: &str, value: Option<u64>) {
    if let Some(value) = value {
        out.family(name, help, unit, Kind::Gauge);
        out.gauge("", value);
    }
}

/// The fields of /proc/self/stat after the command's name, which may itself hold blanks and brackets (proc(5)).
fn stat_field(stat: &str, number: usize) -> Option<f64> {
    let after_name = &stat[stat.rfind(')')? + 1..];
    after_name.split_ascii_whitespace().nth(number - 3)?.parse().ok()
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    Some((stat_field(stat, 14)? + stat_field(stat, 15)?) / TICKS_PER_SECOND)
}

fn start_seconds(stat: &str, system: &str) -> Option<f64> {
    let boot = field(system, "btime")? as f64;
    Some(boot + stat_field(stat, 22)? / TICKS_PER_SECOND)
}

/// The first number after `key` at the start of a line.
pub(crate) fn field(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

pub(crate) fn kilobytes(status: &str, key: &str) -> Option<u64> {
    Some(field(status, key)? * 1_024)
}

fn open_fds() -> Option<u64> {
    // One of them is the folder being read.
    Some((fs::read_dir("/proc/self/fd").ok()?.count() as u64).saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_named_with_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194304 100 0 0 0 250 150 0 0 20 0 4 0 1000 1 1";
        assert_eq!(cpu_seconds(stat), Some(4.0));
        assert_eq!(start_seconds(stat, "cpu 1\nbtime 1700000000\n"), Some(1_700_000_010.0));
    }

    #[test]
    fn unreadable_files_give_no_numbers() {
        assert_eq!(cpu_seconds(""), None);
        assert_eq!(field("Threads:\n", "Threads:"), None);
        assert_eq!(field("Max open files unlimited unlimited files\n", "Max open files"), None);
    }
}

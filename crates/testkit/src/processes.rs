//! Processes, seen from outside through `/proc`.

use std::fs;
use std::path::Path;

use rustix::process::{Pid, kill_process, test_kill_process};

use crate::app::FOLDER_VARIABLE;

pub use rustix::process::Signal;

/// A process that belongs to a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// Its command line.
    pub command: String,
}

/// Every living process that was started for the test of `folder`: it works in that folder, or its environment names it.
#[must_use]
pub fn processes_of(folder: &Path) -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let own = std::process::id() as i32;
    pids.filter(|pid| *pid != own && belongs(*pid, folder)).map(described).collect()
}

fn belongs(pid: i32, folder: &Path) -> bool {
    let works_there = fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|path| path.starts_with(folder));
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let wanted = [FOLDER_VARIABLE.as_bytes(), b"=", folder.as_os_str().as_encoded_bytes()].concat();
    let is_told = environment.split(|byte| *byte == 0).any(|variable| variable == wanted);
    (works_there || is_told) && !is_zombie(pid)
}

fn described(pid: i32) -> Process {
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).replace('\0', " ").trim().to_owned();
    Process { pid, command }
}

fn is_zombie(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z') || rest.starts_with('X'))
}

/// Whether there is such a process, and not only its name.
#[must_use]
pub fn is_alive(pid: i32) -> bool {
    Pid::from_raw(pid).is_some_and(|pid| test_kill_process(pid).is_ok()) && !is_zombie(pid)
}

/// Sends a signal; that the process is gone already is fine.
pub fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _gone_already = kill_process(pid, signal);
    }
}

/// The most memory that the process has had resident, in bytes.
///
/// # Panics
/// When there is no such process.
#[must_use]
pub fn peak_memory_bytes(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux tells it");
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse().expect("a number");
    kibibytes * 1024
}

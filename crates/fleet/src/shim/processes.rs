//! Who started whom, read from `/proc`. Elsewhere nothing is known, and only process groups are used.

use rustix::process::Pid;

/// Whether this system tells who started whom.
pub(crate) const KNOWS_DESCENDANTS: bool = cfg!(target_os = "linux");

/// One process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: Pid,
    pub(crate) parent: i32,
    pub(crate) group: Pid,
    /// Ticks since boot.
    pub(crate) started: u64,
}

/// Everything below `root` in the tree of processes.
pub(crate) fn descendants(root: Pid) -> Vec<Process> {
    let mut others = all();
    let mut found: Vec<Process> = Vec::new();
    let mut parents = vec![root.as_raw_nonzero().get()];
    while let Some(parent) = parents.pop() {
        let (children, rest) = others.into_iter().partition(|process| process.parent == parent);
        let children: Vec<Process> = children;
        parents.extend(children.iter().map(|child| child.pid.as_raw_nonzero().get()));
        found.extend(children);
        others = rest;
    }
    found
}

/// When a process started, in ticks since boot.
pub(crate) fn started(pid: Pid) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    parse(&stat).map(|process| process.started)
}

/// The variable by which everything that an instance started is known, however far it went: its value is random, so
/// no stranger carries it.
pub(crate) const MARK: &str = "TERRACE_INSTANCE_ID";

/// Processes that carry the mark of an instance whose shim was killed.
pub(crate) fn stranded(id: &str) -> Vec<Pid> {
    let mark = format!("{MARK}={id}");
    let is_marked = |process: &Process| {
        let environ =
            std::fs::read(format!("/proc/{}/environ", process.pid.as_raw_nonzero())).unwrap_or_default();
        environ.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
    };
    all().into_iter().filter(is_marked).map(|process| process.pid).collect()
}

fn all() -> Vec<Process> {
    let Ok(folders) = std::fs::read_dir("/proc") else { return Vec::new() };
    let numeric = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    let names = folders.filter_map(|folder| folder.ok()?.file_name().into_string().ok());
    let stat = |name: String| std::fs::read_to_string(format!("/proc/{name}/stat")).ok();
    names.filter(|name| numeric(name)).filter_map(stat).filter_map(|stat| parse(&stat)).collect()
}

/// proc_pid_stat(5). The name in brackets may hold anything, so fields are counted from its end.
fn parse(stat: &str) -> Option<Process> {
    let (front, back) = stat.rsplit_once(')')?;
    let number = front.split(' ').next()?.parse().ok()?;
    let fields: Vec<&str> = back.split_ascii_whitespace().collect();
    Some(Process {
        pid: Pid::from_raw(number)?,
        parent: fields.get(1)?.parse().ok()?,
        group: Pid::from_raw(fields.get(2)?.parse().ok()?)?,
        started: fields.get(19)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_blanks_does_not_confuse() {
        let stat = "42 (a) b (c) S 7 41 40 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 10 20";
        let process = parse(stat).expect("well formed");
        assert_eq!((process.parent, process.group.as_raw_nonzero().get(), process.started), (7, 41, 987_654));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn children_of_children_are_found() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "sleep 600 & read line; kill $!"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("sh is on every machine");
        let pid = Pid::from_child(&child);
        while !descendants(rustix::process::getpid())
            .iter()
            .any(|found| found.parent == pid.as_raw_nonzero().get())
        {
            std::thread::yield_now();
        }
        assert!(started(pid).is_some());
        drop(child.stdin.take());
        child.wait().expect("it ends when its input does");
    }
}

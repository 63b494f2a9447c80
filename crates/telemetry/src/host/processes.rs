//! What the kernel says of one process, and which processes belong to an instance.
//!
//! An instance is a process group: its leader is what Terrace started. A shell with job control, or a server that gives
//! its workers groups of their own, stays in the session; so descendants of the group within the leader's session belong
//! to it, too. Who leaves the session (a daemon) leaves the instance.

use std::collections::HashMap;
use std::fs;

/// Generations of descendants with groups of their own that are looked for.
const GENERATIONS_MAX: usize = 32;

/// One process, from /proc/PID/stat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: i32,
    pub(super) parent: i32,
    pub(super) group: i32,
    pub(super) session: i32,
    /// Ticks of CPU: its own, and those of its children that it has waited for.
    pub(super) cpu_ticks: u64,
    pub(super) threads: u64,
    /// Since boot; tells a process from a later one of the same number.
    pub(super) started_ticks: u64,
    pub(super) resident_pages: u64,
}

impl Process {
    /// Reads one; `None` when it has ended.
    pub(super) fn read(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// All there are.
    pub(super) fn all() -> Vec<Self> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter_map(Self::read).collect()
    }

    /// The command's name may itself hold blanks and brackets (proc(5)), so the fields begin behind the last one.
    fn parse(stat: &str) -> Option<Self> {
        let (name, rest) = stat.split_at(stat.rfind(')')? + 1);
        let pid = name.split(' ').next()?.parse().ok()?;
        let fields: Vec<i64> =
            rest.split_ascii_whitespace().skip(1).map(|field| field.parse().unwrap_or_default()).collect();
        // proc(5) counts from 1 and has the process's number, name and state before these.
        let number = |field: usize| fields.get(field - 4).copied();
        let positive = |field: usize| Some(u64::try_from(number(field)?).unwrap_or_default());
        let id = |field: usize| i32::try_from(number(field)?).ok();
        Some(Self {
            pid,
            parent: id(4)?,
            group: id(5)?,
            session: id(6)?,
            cpu_ticks: positive(14)? + positive(15)? + positive(16)? + positive(17)?,
            threads: positive(20)?,
            started_ticks: positive(22)?,
            resident_pages: positive(24)?,
        })
    }

    /// Open descriptors; `None` when we may not look, or it has ended.
    pub(super) fn open_fds(&self) -> Option<u64> {
        let path = format!("/proc/{}/fd", self.pid);
        // Since Linux 6.2 the folder's size is their number.
        match fs::metadata(&path).ok()?.len() {
            0 => Some(fs::read_dir(path).ok()?.count() as u64),
            count => Some(count),
        }
    }
}

/// For each of the leaders its processes, in order of their numbers.
pub(super) fn members(leaders: &[i32], processes: &[Process]) -> HashMap<i32, Vec<Process>> {
    let mut owners: HashMap<i32, i32> = HashMap::new();
    let mut sessions: HashMap<i32, i32> = HashMap::new();
    for process in processes.iter().filter(|process| leaders.contains(&process.group)) {
        owners.insert(process.pid, process.group);
        sessions.insert(process.group, process.session);
    }
    for _ in 0..GENERATIONS_MAX {
        let found: Vec<(i32, i32)> = processes
            .iter()
            .filter(|process| !owners.contains_key(&process.pid))
            .filter_map(|process| Some((process, *owners.get(&process.parent)?)))
            .filter(|(process, owner)| sessions.get(owner) == Some(&process.session))
            .map(|(process, owner)| (process.pid, owner))
            .collect();
        if found.is_empty() {
            break;
        }
        owners.extend(found);
    }
    let mut members: HashMap<i32, Vec<Process>> = HashMap::new();
    for process in processes {
        if let Some(owner) = owners.get(&process.pid) {
            members.entry(*owner).or_default().push(*process);
        }
    }
    members.values_mut().for_each(|members| members.sort_unstable_by_key(|process| process.pid));
    members
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32, group: i32, session: i32) -> Process {
        let (cpu_ticks, threads, started_ticks, resident_pages) = (0, 1, 0, 0);
        Process { pid, parent, group, session, cpu_ticks, threads, started_ticks, resident_pages }
    }

    fn pids(leaders: &[i32], processes: &[Process], leader: i32) -> Vec<i32> {
        let members = members(leaders, processes);
        members.get(&leader).into_iter().flatten().map(|process| process.pid).collect()
    }

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let stat = "77 (a) b (c)) S 70 77 60 0 -1 4194304 100 0 0 0 250 150 30 20 20 0 4 0 1000 4096 512 18446744073709551615 1";
        assert_eq!(
            Process::parse(stat),
            Some(Process {
                pid: 77,
                parent: 70,
                group: 77,
                session: 60,
                cpu_ticks: 450,
                threads: 4,
                started_ticks: 1_000,
                resident_pages: 512
            })
        );
        for broken in [
            "",
            "77",
            "77 (x",
            "77 (x) S 1 2",
            "x (x) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21",
        ] {
            assert_eq!(Process::parse(broken), None, "{broken}");
        }
    }

    #[test]
    fn an_instance_is_its_group_and_what_descends_from_it_in_its_session() {
        let processes = [
            process(10, 1, 10, 10),
            process(20, 10, 20, 10),
            process(21, 20, 20, 10),
            process(30, 21, 30, 10),
            process(31, 30, 30, 10),
            process(40, 21, 40, 40),
            process(50, 10, 50, 10),
            process(51, 1, 20, 10),
        ];
        assert_eq!(
            pids(&[20], &processes, 20),
            [20, 21, 30, 31, 51],
            "not the shim, not who left the session"
        );
        assert_eq!(pids(&[20, 50], &processes, 50), [50]);
        assert_eq!(pids(&[99], &processes, 99), [0; 0]);
    }

    #[test]
    fn processes_that_are_each_others_parents_end_the_search() {
        let processes = [process(2, 3, 9, 1), process(3, 2, 9, 1), process(9, 9, 9, 1)];
        assert_eq!(pids(&[9], &processes, 9), [2, 3, 9]);
    }
}

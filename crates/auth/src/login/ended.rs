//! Sessions that were ended early.
//!
//! A session is what its cookies say, so taking the cookies away ends it for its owner, but not for whoever copied them. That is why
//! the ids of ended sessions are remembered until the sessions would have ended by themselves: in memory, and in a file
//! of the state folder, so that neither a restart nor another machine that shares the folder brings one back. It is on disk
//! before the person is told that they are logged out.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use terrace_instruments::{Event, Level, Log};

use crate::cache::Generation;
use crate::files::{FileError, Files, Mark};

/// Ended sessions that are remembered; those that end soonest by themselves give way.
const ENDED_MAX: usize = 50_000;
const ID_BYTES_MAX: usize = 64;
/// How often the file is looked at.
const LOOK: Duration = Duration::from_millis(500);

const FILE: &str = "logins-ended";
const LOCK: &str = "logins-ended.lock";

/// The ended sessions of all logins of one state folder.
#[derive(Debug)]
pub(crate) struct Ended {
    files: Files,
    known: Mutex<Known>,
    /// Ends with each session that does: what was learned from sessions is to be looked at anew.
    pub(crate) generation: Generation,
}

#[derive(Debug, Default)]
struct Known {
    /// By their ids, when they would have ended: seconds since 1970.
    ended: HashMap<String, u64>,
    mark: Mark,
}

impl Ended {
    /// What is remembered in that folder. Waits for the disk.
    pub(crate) fn open(folder: &Path) -> Result<Self, FileError> {
        let ended =
            Self { files: Files::new(folder), known: Mutex::default(), generation: Generation::default() };
        ended.look()?;
        Ok(ended)
    }

    pub(crate) fn has(&self, id: &str) -> bool {
        self.known().ended.contains_key(id)
    }

    /// Ends a session for good, everywhere. `now` and `ends` are seconds since 1970. Waits for the disk.
    pub(crate) fn end(&self, id: &str, ends: u64, now: u64) -> Result<(), FileError> {
        // Here at once, whatever the disk does.
        self.known().ended.insert(id.to_owned(), ends);
        self.generation.end();
        let lock = self.files.lock(LOCK)?;
        let mut ended = read(&self.files.read(FILE)?.unwrap_or_default());
        ended.extend(self.known().ended.iter().map(|(id, ends)| (id.clone(), *ends)));
        // Once more: who read the file before us did not know of it, and what they knew is in memory by now.
        ended.insert(id.to_owned(), ends);
        ended.retain(|_, ends| *ends > now);
        bound(&mut ended);
        let lines: String = ended.iter().map(|(id, ends)| format!("{id} {ends}\n")).collect();
        self.files.write(&lock, FILE, lines.as_bytes(), true)?;
        let mut known = self.known();
        known.ended.extend(ended);
        known.ended.retain(|_, ends| *ends > now);
        bound(&mut known.ended);
        known.mark = self.files.mark(FILE);
        Ok(())
    }

    /// Takes over what other machines did. Waits for the disk.
    pub(crate) fn look(&self) -> Result<(), FileError> {
        let mark = self.files.mark(FILE);
        if self.known().mark == mark {
            return Ok(());
        }
        let more = read(&self.files.read(FILE)?.unwrap_or_default());
        let mut known = self.known();
        known.ended.extend(more);
        bound(&mut known.ended);
        known.mark = mark;
        drop(known);
        self.generation.end();
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks at what other machines did, twice a second, until nobody holds it any more.
pub(crate) async fn follow(ended: Weak<Ended>, log: Log) {
    let mut told = None;
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(ended) = ended.upgrade() else { return };
        let Ok(looked) = tokio::task::spawn_blocking(move || ended.look()).await else { return };
        let problem = looked.err().map(|error| error.to_string());
        if let Some(problem) = problem.as_ref().filter(|problem| told.as_ref() != Some(*problem)) {
            let event =
                Event::new(Level::Error, "auth.login.ended_unreadable").field("problem", problem.clone());
            log.emit(event.message("sessions that other machines ended may go on here"));
        }
        told = problem;
    }
}

/// What is no line of ours is passed over: to refuse all would let ended sessions in.
fn read(text: &[u8]) -> HashMap<String, u64> {
    let text = String::from_utf8_lossy(text);
    let line = |line: &str| {
        let (id, ends) = line.split_once(' ')?;
        (id.len() <= ID_BYTES_MAX).then_some((id.to_owned(), ends.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

fn bound(ended: &mut HashMap<String, u64>) {
    if ended.len() <= ENDED_MAX {
        return;
    }
    let mut ends: Vec<u64> = ended.values().copied().collect();
    ends.sort_unstable_by(|one, other| other.cmp(one));
    let last = ends[ENDED_MAX - 1];
    ended.retain(|_, ends| *ends >= last);
}

#[cfg(test)]
mod tests {
    use terrace_testkit::Folder;

    use super::*;

    #[test]
    fn an_ended_session_stays_ended_here_there_and_after_a_restart() {
        let folder = Folder::new();
        let (here, there) = (Ended::open(folder.path()).unwrap(), Ended::open(folder.path()).unwrap());
        let before = here.generation.now();
        here.end("one", 200, 100).unwrap();
        there.end("two", 300, 100).unwrap();
        assert!(!before.holds(), "what was remembered of sessions is void");
        assert!(here.has("one") && there.has("one") && there.has("two") && !here.has("two"));
        here.look().unwrap();
        assert!(here.has("two"));
        let again = Ended::open(folder.path()).unwrap();
        assert!(again.has("one") && again.has("two") && !again.has("three"));
    }

    #[test]
    fn sessions_that_are_ended_at_once_are_all_ended() {
        let folder = Folder::new();
        let ended = Ended::open(folder.path()).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let ended = &ended;
                scope.spawn(move || {
                    (0..10).for_each(|id| ended.end(&format!("{thread}-{id}"), 200, 100).unwrap())
                });
            }
        });
        let again = Ended::open(folder.path()).unwrap();
        for id in (0..4).flat_map(|thread| (0..10).map(move |id| format!("{thread}-{id}"))) {
            assert!(ended.has(&id) && again.has(&id), "{id}");
        }
    }

    #[test]
    fn a_session_that_is_over_anyway_is_forgotten() {
        let folder = Folder::new();
        let ended = Ended::open(folder.path()).unwrap();
        ended.end("old", 200, 100).unwrap();
        ended.end("new", 400, 300).unwrap();
        assert!(!ended.has("old") && ended.has("new"));
        assert_eq!(folder.read(FILE), "new 400\n");
    }

    #[test]
    fn there_is_a_bound_and_a_damaged_line_costs_no_other() {
        let mut many: HashMap<String, u64> = (0..ENDED_MAX as u64 + 9).map(|n| (n.to_string(), n)).collect();
        bound(&mut many);
        assert!(many.len() == ENDED_MAX && !many.contains_key("8") && many.contains_key("9"));
        assert_eq!(
            read(b"one 1\n\xff\ntwo\nthree x\n four 4\nfive 5"),
            HashMap::from([("one".into(), 1), ("five".into(), 5)])
        );
    }
}

//! Finding what a Terrace before this one left running, and clearing away what is not running any more.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use terrace_runtime::clock;
use tokio::task::JoinSet;

use crate::link::Link;
use crate::shim::processes;
use crate::shim::protocol::{Description, Report};

/// A shim whose former Terrace is still just dying says that it is busy.
const BUSY_TIME: Duration = Duration::from_secs(5);
/// Between two attempts at a busy shim.
const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// A killed process is gone from the list a moment later, so few rounds find nothing left to kill.
const STRANDED_ROUNDS: u32 = 20;

/// A living instance under our control now.
pub(crate) struct Adopted {
    pub(crate) link: Link,
    pub(crate) facts: Description,
}

/// Takes control of every living shim in the folder, and removes the files of the dead.
pub(crate) async fn adopt_all(instances: &Path) -> Vec<Adopted> {
    let mut attempts = JoinSet::new();
    for stem in stems(instances) {
        let instances = instances.to_owned();
        attempts.spawn(async move {
            let adopted = adopt(&instances, &format!("{stem}.sock")).await;
            if matches!(&adopted, Err(error) if is_dead(error)) {
                clear(&instances, &stem);
            }
            adopted.ok()
        });
    }
    attempts.join_all().await.into_iter().flatten().collect()
}

async fn adopt(instances: &Path, socket: &str) -> io::Result<Adopted> {
    let deadline = clock::now() + BUSY_TIME;
    loop {
        let mut link = Link::adopt(instances, socket).await?;
        match link.hello().await? {
            Report::Hello(facts) => return Ok(Adopted { link, facts }),
            Report::Busy if clock::now() < deadline => tokio::time::sleep(BUSY_PAUSE).await,
            _ => return Err(ErrorKind::ResourceBusy.into()),
        }
    }
}

/// The names without their endings of everything that looks like an instance's.
fn stems(instances: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(instances) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let stem = |name: String| {
        let (stem, ending) = name.rsplit_once('.')?;
        matches!(ending, "sock" | "json").then(|| stem.to_owned())
    };
    let mut stems: Vec<String> = names.filter_map(stem).collect();
    stems.sort_unstable();
    stems.dedup();
    stems
}

fn is_dead(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound)
}

/// The shim was killed. The kernel killed its app then, but what the app had started may still be there.
fn clear(instances: &Path, stem: &str) {
    let state = instances.join(format!("{stem}.json"));
    let facts: Option<Description> =
        fs::read(&state).ok().and_then(|text| serde_json::from_slice(&text).ok());
    if let Some(facts) = facts {
        end_stranded(&facts.id);
    }
    for ending in ["json", "sock", "notify"] {
        let _was_never_made = fs::remove_file(instances.join(format!("{stem}.{ending}")));
    }
}

/// Kills what is left of an instance whose shim is gone. Again and again, for what is being killed may be starting
/// something more.
pub(crate) fn end_stranded(id: &str) {
    for _ in 0..STRANDED_ROUNDS {
        let stranded = processes::stranded(id);
        if stranded.is_empty() {
            return;
        }
        for pid in stranded {
            let _ended_meanwhile = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
}

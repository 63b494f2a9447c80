//! Noticing that a file was changed, by looking: it works on every file system, through renames and links, and needs no
//! event that an editor might forget to cause.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// From one look to the next. A change is taken when two looks in a row agree, so that a file half written is not read.
const LOOK: Duration = Duration::from_millis(500);

/// What tells one version of a file from another.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Version {
    modified: Option<SystemTime>,
    bytes: u64,
    inode: u64,
}

fn version(path: &PathBuf) -> Option<Version> {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(path).ok()?;
    Some(Version { modified: metadata.modified().ok(), bytes: metadata.len(), inode: metadata.ino() })
}

fn versions(paths: &[PathBuf]) -> Vec<Option<Version>> {
    paths.iter().map(version).collect()
}

/// Watches files.
#[derive(Debug)]
pub(crate) struct Watch {
    paths: Vec<PathBuf>,
    seen: Vec<Option<Version>>,
}

impl Watch {
    /// Watches these from now on.
    pub(crate) fn new(paths: Vec<PathBuf>) -> Self {
        Self { seen: versions(&paths), paths }
    }

    /// Watches these instead. What is watched already is compared with what was last seen of it, so that a change in the
    /// meantime is not missed.
    pub(crate) fn follow(&mut self, paths: Vec<PathBuf>) {
        let known = |path: &PathBuf| self.paths.iter().position(|known| known == path);
        let seen = |path: &PathBuf| known(path).map_or_else(|| version(path), |at| self.seen[at].clone());
        self.seen = paths.iter().map(seen).collect();
        self.paths = paths;
    }

    /// Resolves when one of them has changed, and stands still.
    pub(crate) async fn changed(&mut self) {
        let mut before = self.seen.clone();
        loop {
            tokio::time::sleep(LOOK).await;
            let now = versions(&self.paths);
            if now == before && now != self.seen {
                self.seen = now;
                return;
            }
            before = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_that_is_replaced_is_noticed() {
        let folder = std::env::temp_dir().join(format!("terrace-watch-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("terrace.toml");
        std::fs::write(&path, "a").expect("written");
        let mut watch = Watch::new(vec![path.clone()]);
        let other = folder.join("other");
        std::fs::write(&other, "b").expect("written");
        std::fs::rename(&other, &path).expect("replaced");
        tokio::time::timeout(Duration::from_secs(60), watch.changed()).await.expect("noticed");
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}

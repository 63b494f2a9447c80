//! A folder of one test, gone when the test is over.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A folder that no other test knows.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

impl Folder {
    /// Makes one.
    ///
    /// # Panics
    /// When the system's folder for temporary files cannot be written.
    #[must_use]
    pub fn new() -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("terrace-it-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("the folder for temporary files can be written");
        Self(path.canonicalize().expect("it was just made"))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The path of a file in it.
    #[must_use]
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file whole: whoever reads it meanwhile sees the old one or the new one.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        let (path, partial) = (self.join(name), self.join(&format!("{name}.partial")));
        fs::create_dir_all(path.parent().expect("it is in a folder")).expect("a folder in ours");
        fs::write(&partial, content).expect("a file in our folder");
        fs::rename(&partial, &path).expect("both are in our folder");
        path
    }

    /// A file's text; empty when it is not there.
    #[must_use]
    pub fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.join(name)).unwrap_or_default()).into_owned()
    }

    /// Removes a file; that it is not there is fine.
    pub fn remove(&self, name: &str) {
        let _was_not_there = fs::remove_file(self.join(name));
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::env::var_os("TERRACE_TEST_KEEP").is_none() {
            let _left_to_the_system = fs::remove_dir_all(&self.0);
        }
    }
}

//! What the file speaks of but does not hold: other files, folders and environment variables.
//!
//! Reading a configuration is pure but for this door, so that a test or a fuzzer can give it a world of its own.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// The world that a configuration is read in.
pub trait Surroundings {
    /// An environment variable.
    fn variable(&self, name: &str) -> Option<String>;
    /// The content of a file, `bytes_max` at most; a larger one is an error of kind `FileTooLarge`.
    fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>>;
    /// The names in a folder, sorted, `names_max` at most.
    fn names(&self, folder: &Path, names_max: usize) -> io::Result<Vec<String>>;
    /// Whether there is a folder at `path`.
    fn is_folder(&self, path: &Path) -> bool;
    /// Whether there is a program at `path`.
    fn is_program(&self, path: &Path) -> bool;
}

/// Whether the program of a command is there: a path as seen from `folder`, a name in one of the folders of `path`.
pub(crate) fn is_found(program: &str, folder: &Path, path: &str, surroundings: &dyn Surroundings) -> bool {
    match program.contains('/') {
        true => surroundings.is_program(&folder.join(program)),
        false => path.split(':').any(|each| surroundings.is_program(&folder.join(each).join(program))),
    }
}

/// This machine's files, with the environment as given.
pub(crate) struct Machine<'a> {
    pub(crate) environment: &'a dyn Fn(&str) -> Option<String>,
}

impl Surroundings for Machine<'_> {
    fn variable(&self, name: &str) -> Option<String> {
        (self.environment)(name)
    }

    fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
        use io::Read as _;
        // A pipe or a device would block for ever or never end.
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
        }
        let mut content = Vec::new();
        std::fs::File::open(path)?.take(bytes_max + 1).read_to_end(&mut content)?;
        if content.len() as u64 > bytes_max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(content)
    }

    fn names(&self, folder: &Path, names_max: usize) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(here(folder))?.take(names_max) {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn is_folder(&self, path: &Path) -> bool {
        here(path).is_dir()
    }

    fn is_program(&self, path: &Path) -> bool {
        use std::os::unix::fs::PermissionsExt as _;
        path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    }
}

/// The folder of `terrace.toml` is nothing at all, which the system does not take for the current one.
fn here(folder: &Path) -> &Path {
    if folder.as_os_str().is_empty() { Path::new(".") } else { folder }
}

/// A world of a few files in memory, for tests and fuzzing: it touches no disk.
#[derive(Clone, Debug, Default)]
pub struct Imagined {
    /// Path to content.
    pub files: BTreeMap<PathBuf, Vec<u8>>,
    /// Environment variables.
    pub variables: BTreeMap<String, String>,
}

impl Surroundings for Imagined {
    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }

    fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
        match self.files.get(path) {
            Some(content) if content.len() as u64 > bytes_max => Err(io::ErrorKind::FileTooLarge.into()),
            Some(content) => Ok(content.clone()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn names(&self, folder: &Path, names_max: usize) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for path in self.files.keys() {
            let below = path.strip_prefix(folder).ok().and_then(|rest| rest.components().next());
            if let Some(name) = below.and_then(|name| name.as_os_str().to_str()) {
                names.push(name.to_owned());
            }
        }
        names.dedup();
        names.truncate(names_max);
        Ok(names)
    }

    fn is_folder(&self, path: &Path) -> bool {
        path.as_os_str().is_empty()
            || path == Path::new(".")
            || self.files.keys().any(|file| file != path && file.starts_with(path))
    }

    /// All are there: nothing is known of permissions.
    fn is_program(&self, _path: &Path) -> bool {
        true
    }
}

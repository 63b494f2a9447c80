//! What can go wrong for those who talk to the fleet. What goes wrong with an instance is no error of theirs: it is
//! in the status and in the events.

use std::fmt;
use std::path::PathBuf;

/// Why a request to the fleet was not done. None of them changed anything.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caller's mistake: services as they were given cannot run. Nothing of the change was taken.
    #[error("the services were refused as a whole: {}", join(.0))]
    Refused(Vec<Problem>),
    /// The caller's mistake: no such service.
    #[error("there is no service `{name}` that Terrace runs; there are: {}", known(.services))]
    UnknownService {
        /// What was asked for.
        name: String,
        /// What there is.
        services: Vec<String>,
    },
    /// The caller's mistake: more instances than a service may have.
    #[error("{asked} instances are more than the {max} that one service may have")]
    TooMany {
        /// What was asked for.
        asked: u32,
        /// The bound.
        max: u32,
    },
    /// Terrace is stopping; the answer will not change.
    #[error("Terrace is stopping")]
    Stopping,
    /// The state folder cannot be written; a retry is safe once it can.
    #[error("cannot write {path}: {source}; check the folder's owner and free space")]
    State {
        /// What was to be written.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// What is wrong with one service, as a sentence that says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The service.
    pub service: String,
    /// The sentence.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "service `{}`: {}", self.service, self.message)
    }
}

/// Why the fleet could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The state folder cannot be used.
    #[error("cannot use {path} as state folder: {source}; it must be a folder that this user may write")]
    State {
        /// The folder, or a file in it.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A path that had to be absolute is not.
    #[error(
        "{0} is not an absolute path; instances run in folders of their own, so a relative one has no meaning"
    )]
    Relative(PathBuf),
    /// No shim command was given.
    #[error("the shim command is empty; give the program that calls `shim_main`")]
    NoShim,
}

fn join(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn known(services: &[String]) -> String {
    if services.is_empty() { "none".to_owned() } else { services.join(", ") }
}

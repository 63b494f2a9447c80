//! `[terrace]`: the program itself.

use std::path::PathBuf;
use std::time::Duration;

use super::read::{Read, Reader, table};
use super::tree::Node;
use super::values::FilePath;

table! {
    /// The program itself.
    pub(crate) struct TerraceTable {
        /// Folder for what Terrace remembers: its socket, the instances it runs, snapshots. Made with mode 0700.
        "state" state: FilePath = ".terrace";
        /// Threads that carry requests. Default: as many cores as this process may use.
        "threads" threads: Option<u32>, within 1 to 1024, example 2;
        /// Take changes of the file, its includes, env-files, secrets and certificates over when they are saved.
        "watch" watch: bool = true;
        /// How long requests under way may finish when Terrace stops.
        "drain" drain: Duration = "30s", within "0s" to "1h";
    }
}

/// The program itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terrace {
    /// Folder of the socket, the shims and the snapshots.
    pub state_folder: PathBuf,
    /// Data-plane threads; `None`: the available cores.
    pub threads: Option<u32>,
    /// Whether a saved change takes effect by itself.
    pub watch: bool,
    /// How long requests under way may finish when Terrace stops.
    pub drain: Duration,
}

pub(crate) fn resolve(node: &Node, reader: &mut Reader<'_>) -> Option<Terrace> {
    let table = TerraceTable::read(node, reader)?;
    Some(Terrace {
        state_folder: reader.path(&table.state.0),
        threads: table.threads,
        watch: table.watch,
        drain: table.drain,
    })
}

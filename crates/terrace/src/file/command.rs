//! `terrace up -- COMMAND`: a configuration without a file.

use std::path::Path;

use super::problem::Problems;
use super::surroundings::Imagined;
use super::{Resolved, load_from};

/// The name under which the file that nobody wrote is read.
const NO_FILE: &str = "terrace.toml";

/// One instance of `command`, behind the default listener and the default route.
///
/// It takes the way of every file, so that its defaults can be no others.
pub(super) fn for_command(command: &[String]) -> Result<Resolved, Problems> {
    let run = toml_list(command);
    let text = format!("[terrace]\nwatch = false\n[service.app]\nrun = {run}\n");
    let mut world = Imagined::default();
    world.files.insert(NO_FILE.into(), text.into_bytes());
    let mut resolved = load_from(Path::new(NO_FILE), None, &world)?.resolved;
    resolved.watch.clear();
    Ok(resolved)
}

fn toml_list(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| super::print::quoted(word)).collect();
    format!("[{}]", quoted.join(", "))
}

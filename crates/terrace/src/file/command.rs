//! `terrace up -- COMMAND`: a configuration without a file.

use super::problem::Problems;
use super::surroundings::Imagined;
use super::{Loaded, load_from};

/// The name under which the file that nobody wrote is read.
const NO_FILE: &str = "terrace.toml";

/// One instance of `command`, behind the default listener and the default route.
///
/// It takes the way of every file, so that its defaults can be no others.
pub(super) fn for_command(command: &[String]) -> Result<Loaded, Problems> {
    let run = toml_list(command);
    let text = format!("[terrace]\nwatch = false\n[service.app]\nrun = {run}\n");
    // As if it lay in the working folder: an instance is given its folder by its full path.
    let path = std::path::absolute(NO_FILE).unwrap_or_else(|_| NO_FILE.into());
    let mut world = Imagined::default();
    world.files.insert(path.clone(), text.into_bytes());
    let mut loaded = load_from(&path, None, &world)?;
    loaded.resolved.watch.clear();
    Ok(loaded)
}

fn toml_list(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| super::print::quoted(word)).collect();
    format!("[{}]", quoted.join(", "))
}

//! What the fuzzer calls, and what must hold of every input.

use std::path::Path;

use terrace::file::{Imagined, load_from};

/// A file: it is taken or refused with at least one problem, each of which can be shown; what is taken can be printed,
/// and what is printed is taken again.
pub(crate) fn file(data: &[u8]) {
    match load(data) {
        Ok(printed) => assert!(load(printed.as_bytes()).is_ok(), "printed, it is refused:\n{printed}"),
        Err(shown) => assert!(!shown.is_empty(), "refused without a word"),
    }
}

/// The file printed, or its problems.
fn load(data: &[u8]) -> Result<String, String> {
    let name = Path::new("terrace.toml");
    let mut world = Imagined::default();
    world.files.insert(name.to_path_buf(), data.to_vec());
    match load_from(name, None, &world) {
        Ok(loaded) => Ok(loaded.to_toml(false)),
        Err(problems) => Err(problems.render(false)),
    }
}

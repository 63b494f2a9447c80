//! A world for each case: its own files, and those of `side/`.

use std::fs;
use std::path::{Path, PathBuf};

use terrace::file::{Imagined, Loaded, Problems, load_from};

pub(crate) const MAIN: &str = "terrace.toml";

pub(crate) fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/file").join(name)
}

/// The files of a case.
pub(crate) fn world(case: &str) -> Imagined {
    let mut world = Imagined::default();
    for entry in fs::read_dir(folder("side")).unwrap() {
        let entry = entry.unwrap();
        world.files.insert(entry.file_name().into(), fs::read(entry.path()).unwrap());
    }
    let hmac = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    world.variables.insert("ACME_HMAC".to_owned(), hmac.to_owned());
    world.variables.insert("API_TOKEN".to_owned(), "s3cret-of-sixteen-and-more".to_owned());
    world.variables.insert("REDIS_URL".to_owned(), "redis://:hunter2@127.0.0.1:6379/2".to_owned());
    let mut name = PathBuf::from(MAIN);
    world.files.insert(name.clone(), Vec::new());
    for line in case.lines() {
        match line.strip_prefix("#=== ") {
            Some(next) => name = PathBuf::from(next),
            None => {
                let content = world.files.entry(name.clone()).or_default();
                content.extend_from_slice(line.as_bytes());
                content.push(b'\n');
            }
        }
    }
    world
}

/// Reads a case.
pub(crate) fn load(case: &str) -> Result<Loaded, Problems> {
    let world = world(case);
    let overlay = world.files.contains_key(Path::new("terrace.production.toml"));
    load_from(Path::new(MAIN), overlay.then_some("production"), &world)
}

/// Reads a case that must be good.
pub(crate) fn good(case: &str) -> Loaded {
    load(case).unwrap_or_else(|problems| panic!("a good file is refused:\n{problems}"))
}

/// Reads a case that must be wrong, and gives the messages.
pub(crate) fn wrong(case: &str) -> Vec<String> {
    match load(case) {
        Ok(_) => panic!("a wrong file is taken:\n{case}"),
        Err(problems) => problems.problems.into_iter().map(|problem| problem.message).collect(),
    }
}

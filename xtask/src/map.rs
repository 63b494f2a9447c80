//! ARCHITECTURE.md against the workspace: a map that names a crate which is gone, or leaves one out,
//! is worse than none. In the section "Code map" each crate is a heading `` ### `crates/edge` ``;
//! and any path in backticks, anywhere in the document, must exist.

use std::collections::BTreeSet;
use std::path::Path;

use crate::report::Finding;
use crate::workspace::Workspace;

/// The map, relative to the repository.
pub(crate) const MAP_FILE: &str = "ARCHITECTURE.md";

const SECTION: &str = "## Code map";

/// Top-level folders whose paths in backticks are taken for promises.
const FOLDERS: &[&str] = &["bench/", "crates/", "docs/", "examples/", "scripts/", "xtask/"];

/// Crates missing from the map, entries without a crate, and paths that lead nowhere.
pub(crate) fn check(workspace: &Workspace, map: &str) -> Vec<Finding> {
    let there: BTreeSet<&str> = workspace.crates.iter().map(|krate| krate.folder.as_str()).collect();
    let mapped: BTreeSet<&str> = crates_in_code_map(map).into_iter().collect();
    let mut findings = Vec::new();
    for folder in there.difference(&mapped) {
        findings.push(Finding::new(
            MAP_FILE,
            format!("the code map leaves out `{folder}`"),
            format!(
                "add a heading ### `{folder}` under \"{SECTION}\": what it is, and what it does not know"
            ),
        ));
    }
    for folder in mapped.difference(&there) {
        findings.push(Finding::new(
            MAP_FILE,
            format!("the code map lists `{folder}`, which is no crate of the workspace"),
            "remove the entry, or correct the folder's name",
        ));
    }
    findings.extend(dead_paths(&workspace.root, map));
    findings
}

/// The headings of the section, as folders.
fn crates_in_code_map(map: &str) -> Vec<&str> {
    let lines = map.lines().skip_while(|line| line.trim_end() != SECTION).skip(1);
    let section = lines.take_while(|line| !line.starts_with("## "));
    section.filter_map(|line| line.strip_prefix("### `")?.split('`').next()).collect()
}

fn dead_paths(root: &Path, map: &str) -> Vec<Finding> {
    let paths: BTreeSet<&str> = quoted_paths(map).into_iter().collect();
    let dead = paths.into_iter().filter(|path| !root.join(path).exists());
    dead.map(|path| {
        Finding::new(
            MAP_FILE,
            format!("`{path}` does not exist"),
            "correct the path, or remove what is said of it",
        )
    })
    .collect()
}

/// What stands in backticks and begins with a folder of the repository.
fn quoted_paths(map: &str) -> Vec<&str> {
    let quoted = map.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    let plain = quoted.filter(|text| !text.contains([' ', '*', '{', '<']));
    plain.filter(|text| FOLDERS.iter().any(|folder| text.starts_with(folder))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Crate;

    const MAP: &str = "# Architecture\n\nEnter at `crates/terrace/src/main.rs`.\n\n## Code map\n\n\
        ### `crates/edge`\n\nListeners.\n\n### `crates/route`\n\nPure.\n\n## Threads\n\n### `crates/not-a-crate`\n";

    #[test]
    fn the_code_map_is_the_headings_of_its_section() {
        assert_eq!(crates_in_code_map(MAP), ["crates/edge", "crates/route"]);
        assert!(crates_in_code_map("no such section").is_empty());
    }

    #[test]
    fn paths_are_found_in_backticks_only() {
        assert_eq!(
            quoted_paths("see `crates/edge/src`, crates/route, `xtask/` and `cargo xtask tidy`, `crates/*`"),
            ["crates/edge/src", "xtask/"]
        );
    }

    #[test]
    fn a_crate_left_out_and_a_crate_that_is_gone_are_told() {
        let krate = |folder: &str| Crate {
            name: String::new(),
            folder: folder.to_owned(),
            uses: Vec::new(),
            dev_uses: Vec::new(),
            external: Vec::new(),
        };
        let workspace = Workspace {
            root: env!("CARGO_MANIFEST_DIR").into(),
            crates: vec![krate("crates/edge"), krate("xtask")],
        };
        let found = check(&workspace, "## Code map\n### `crates/edge`\n### `crates/gone`\n");
        let problems: Vec<&str> = found.iter().map(|finding| finding.problem.as_str()).collect();
        assert_eq!(
            problems,
            [
                "the code map leaves out `xtask`",
                "the code map lists `crates/gone`, which is no crate of the workspace",
                "`crates/edge` does not exist",
                "`crates/gone` does not exist",
            ]
        );
    }
}

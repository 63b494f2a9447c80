//! The workspace as cargo sees it: its crates, where they lie and what each uses. Read from
//! `cargo metadata --no-deps`, which needs neither the network nor a lock file.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The repository and the crates in it.
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    /// In the order of their names.
    pub(crate) crates: Vec<Crate>,
}

/// One crate of ours.
#[derive(Debug)]
pub(crate) struct Crate {
    /// The folder's name (`edge` of `terrace-edge`), as DESIGN and the map write it.
    pub(crate) name: String,
    /// Folder relative to the repository, such as `crates/edge`.
    pub(crate) folder: String,
    /// Crates of ours that it needs to be built (build scripts included).
    pub(crate) uses: Vec<String>,
    /// Crates of ours that only its tests need.
    pub(crate) dev_uses: Vec<String>,
    /// Crates of others that it needs to be built.
    pub(crate) external: Vec<String>,
}

/// Asks cargo.
///
/// # Errors
/// A sentence when cargo cannot be run or its answer is not what its documentation promises.
pub(crate) fn load() -> Result<Workspace, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .output()
        .map_err(|error| format!("cannot run `cargo metadata`: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("`cargo metadata` failed; mend the manifests first:\n{said}"));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    parse(&text).ok_or_else(|| "`cargo metadata` answered in an unknown shape".to_owned())
}

/// The answer of `cargo metadata --no-deps --format-version 1`; `None` when it has another shape.
fn parse(metadata: &str) -> Option<Workspace> {
    let metadata: Value = serde_json::from_str(metadata).ok()?;
    let root = PathBuf::from(metadata["workspace_root"].as_str()?);
    let mut crates = Vec::new();
    for package in metadata["packages"].as_array()? {
        crates.push(parse_crate(&root, package)?);
    }
    crates.sort_by(|a, b| a.name.cmp(&b.name));
    Some(Workspace { root, crates })
}

fn parse_crate(root: &Path, package: &Value) -> Option<Crate> {
    let folder = Path::new(package["manifest_path"].as_str()?).parent()?;
    let mut parsed = Crate {
        name: short_name(package["name"].as_str()?),
        folder: folder.strip_prefix(root).ok()?.to_str()?.to_owned(),
        uses: Vec::new(),
        dev_uses: Vec::new(),
        external: Vec::new(),
    };
    for dependency in package["dependencies"].as_array()? {
        let name = dependency["name"].as_str()?;
        let ours = dependency["path"].is_string();
        match (ours, dependency["kind"].as_str()) {
            (true, Some("dev")) => parsed.dev_uses.push(short_name(name)),
            (true, _) => parsed.uses.push(short_name(name)),
            (false, Some("dev")) => {}
            (false, _) => parsed.external.push(name.to_owned()),
        }
    }
    for list in [&mut parsed.uses, &mut parsed.dev_uses, &mut parsed.external] {
        list.sort();
        list.dedup();
    }
    Some(parsed)
}

/// `terrace-edge` → `edge`; `terrace` stays.
fn short_name(package: &str) -> String {
    package.strip_prefix("terrace-").unwrap_or(package).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const METADATA: &str = r#"{
        "workspace_root": "/repo",
        "packages": [
            { "name": "terrace-route", "manifest_path": "/repo/crates/route/Cargo.toml", "dependencies": [] },
            { "name": "terrace-edge", "manifest_path": "/repo/crates/edge/Cargo.toml", "dependencies": [
                { "name": "terrace-route", "kind": null, "path": "/repo/crates/route" },
                { "name": "terrace-testkit", "kind": "dev", "path": "/repo/crates/testkit" },
                { "name": "bytes", "kind": null },
                { "name": "proptest", "kind": "dev" }
            ] }
        ]
    }"#;

    #[test]
    fn crates_come_sorted_with_their_short_names_and_folders() {
        let workspace = parse(METADATA).expect("a known shape");
        let names: Vec<&str> = workspace.crates.iter().map(|krate| krate.name.as_str()).collect();
        assert_eq!(names, ["edge", "route"]);
        assert_eq!(workspace.crates[0].folder, "crates/edge");
    }

    #[test]
    fn dependencies_are_told_apart_by_owner_and_kind() {
        let workspace = parse(METADATA).expect("a known shape");
        let edge = &workspace.crates[0];
        assert_eq!(edge.uses, ["route"]);
        assert_eq!(edge.dev_uses, ["testkit"]);
        assert_eq!(edge.external, ["bytes"]);
    }

    #[test]
    fn an_answer_of_another_shape_is_refused() {
        assert!(parse("{}").is_none());
        assert!(parse("not json").is_none());
    }
}

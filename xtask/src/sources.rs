//! Checks over the files themselves: what each module says of itself, how long functions are, that
//! `unsafe` is forbidden where it has no place, that pure crates touch no socket and no clock, and
//! that nothing of one machine or of an unfinished thought is left in the tree.

use std::path::{Path, PathBuf};

use crate::graph;
use crate::report::Finding;
use crate::rust::{self, Function};
use crate::workspace::Workspace;

/// A function longer than this is split, whatever it does.
const FUNCTION_LINES_MAX: usize = 120;
/// Nine functions in ten shall have at most this many lines.
pub(crate) const FUNCTION_LINES_USUAL: usize = 26;
/// Each file right under `tests/` is a program of its own that links everything again.
const TEST_BINARIES_MAX: usize = 3;
/// A module's header with fewer letters than this says nothing.
const HEADER_LETTERS_MIN: usize = 20;

/// Folders that hold what is built or run, not what is written.
const NOT_OURS: &[&str] =
    &["target", ".git", ".terrace", "node_modules", "__pycache__", "corpus", "artifacts"];

/// Words that have no business in a crate that decides and does not act.
const IMPURE_WORDS: &[&str] = &[
    "tokio",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "Instant",
    "fs",
    "process",
];

/// A text file of the repository.
pub(crate) struct Source {
    /// Relative to the repository, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

/// All text files of the repository, in the order of their paths.
///
/// # Errors
/// A sentence naming the folder that cannot be read.
pub(crate) fn load(root: &Path) -> Result<Vec<Source>, String> {
    let mut sources = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        for entry in entries.flatten() {
            let path = entry.path();
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() && !NOT_OURS.iter().any(|name| entry.file_name() == *name) {
                folders.push(path);
            } else if kind.is_file() {
                sources.extend(read(root, &path));
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(sources)
}

/// `None` for what is not text (and for what vanished meanwhile).
fn read(root: &Path, path: &Path) -> Option<Source> {
    let text = std::fs::read_to_string(path).ok()?;
    let path = path.strip_prefix(root).ok()?.to_str()?.replace('\\', "/");
    Some(Source { path, text })
}

/// Modules that do not begin by saying what they are for.
pub(crate) fn check_headers(sources: &[Source]) -> Vec<Finding> {
    let silent = sources.iter().filter(|source| source.is_rust() && !has_header(&source.text));
    silent
        .map(|source| {
            Finding::new(
                format!("{}:1", source.path),
                "the module does not say what it is for",
                "begin it with a `//!` paragraph: the idea, and what would surprise a reader",
            )
        })
        .collect()
}

fn has_header(text: &str) -> bool {
    let header =
        text.lines().skip_while(|line| line.trim().is_empty()).map_while(|line| line.strip_prefix("//!"));
    header.map(|line| line.chars().filter(|c| c.is_alphabetic()).count()).sum::<usize>() >= HEADER_LETTERS_MIN
}

/// A function and the file it is in.
pub(crate) struct Measured<'a> {
    pub(crate) path: &'a str,
    pub(crate) function: Function,
}

/// All functions, the longest first.
pub(crate) fn measure(sources: &[Source]) -> Vec<Measured<'_>> {
    let mut measured = Vec::new();
    for source in sources.iter().filter(|source| source.is_rust()) {
        let functions = rust::functions(&rust::blanked(&source.text));
        measured.extend(functions.into_iter().map(|function| Measured { path: &source.path, function }));
    }
    measured.sort_by_key(|one| std::cmp::Reverse(one.function.lines));
    measured
}

/// Functions beyond any excuse.
pub(crate) fn check_lengths(measured: &[Measured<'_>]) -> Vec<Finding> {
    let long = measured.iter().filter(|one| one.function.lines > FUNCTION_LINES_MAX);
    long.map(|one| {
        Finding::new(
            format!("{}:{}", one.path, one.function.line),
            format!(
                "`{}` has {} lines, more than {FUNCTION_LINES_MAX}",
                one.function.name, one.function.lines
            ),
            "split it where a comment would name the next step",
        )
    })
    .collect()
}

/// Crates whose root does not forbid `unsafe`; `runtime` alone may have it.
pub(crate) fn check_unsafe(workspace: &Workspace, sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for krate in workspace.crates.iter().filter(|krate| krate.name != "runtime") {
        for root in ["src/lib.rs", "src/main.rs"] {
            let path = format!("{}/{root}", krate.folder);
            let source = sources.iter().find(|source| source.path == path);
            if source.is_some_and(|source| !source.text.contains("#![forbid(unsafe_code)]")) {
                findings.push(Finding::new(
                    path,
                    "`unsafe` is not forbidden here",
                    "add `#![forbid(unsafe_code)]`; what needs `unsafe` belongs to crates/runtime",
                ));
            }
        }
    }
    findings
}

/// Crates that do not take part in the workspace's lints.
pub(crate) fn check_lints(workspace: &Workspace, sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for krate in &workspace.crates {
        let path = format!("{}/Cargo.toml", krate.folder);
        let source = sources.iter().find(|source| source.path == path);
        if !source.is_some_and(|source| source.text.contains("[lints]\nworkspace = true")) {
            findings.push(Finding::new(
                path,
                "the workspace's lints are not on",
                "add the lines `[lints]` and `workspace = true`",
            ));
        }
    }
    findings
}

/// Sockets, files and clocks in crates that are said to know none.
pub(crate) fn check_purity(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for name in graph::PURE {
        let prefix = format!("crates/{name}/src/");
        for source in sources.iter().filter(|source| source.path.starts_with(&prefix)) {
            findings.extend(impure_lines(source));
        }
    }
    findings
}

fn impure_lines(source: &Source) -> Vec<Finding> {
    if source.path.ends_with("/tests.rs") || source.path.contains("/tests/") {
        return Vec::new();
    }
    let blanked = rust::blanked(&source.text);
    let mut findings = Vec::new();
    for (index, line) in rust::without_tests(&blanked).lines().enumerate() {
        let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
        if let Some(word) = words.find(|word| IMPURE_WORDS.contains(word) && names_module_or_type(line, word))
        {
            findings.push(Finding::new(
                format!("{}:{}", source.path, index + 1),
                format!("a pure crate names `{word}`"),
                "take what happened and the time as arguments, return the answer, act at the rim",
            ));
        }
    }
    findings
}

/// `fs` and `process` are common names of variables; only as modules of std do they mean IO.
fn names_module_or_type(line: &str, word: &str) -> bool {
    match word {
        "fs" | "process" => line.contains(&format!("std::{word}")),
        _ => true,
    }
}

/// Crates with so many test programs that linking them takes longer than running them.
pub(crate) fn check_test_binaries(workspace: &Workspace, sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for krate in &workspace.crates {
        let prefix = format!("{}/tests/", krate.folder);
        let names = sources.iter().filter_map(|source| source.path.strip_prefix(&prefix));
        let count = names.filter(|name| name.ends_with(".rs") && !name.contains('/')).count();
        if count > TEST_BINARIES_MAX {
            findings.push(Finding::new(
                prefix,
                format!("{count} test programs, more than {TEST_BINARIES_MAX}"),
                "make them modules of one program: tests/NAME/main.rs with `mod …;`",
            ));
        }
    }
    findings
}

/// Markers of unfinished thoughts, spelled so that this file does not contain them.
const LEFT_OVERS: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME")];

/// Left-over markers.
pub(crate) fn check_left_overs(sources: &[Source]) -> Vec<Finding> {
    find_lines(sources, |line| {
        let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
        let word = words.find(|word| LEFT_OVERS.contains(word))?;
        Some((format!("left over: {word}"), "do it, or open an issue and say in the code what holds today"))
    })
}

/// Paths that exist on one machine, and package indexes that not everybody can reach.
pub(crate) fn check_places(root: &Path, sources: &[Source]) -> Vec<Finding> {
    let paths = machine_paths(root, std::env::var_os("HOME").map(PathBuf::from));
    let mut findings = find_lines(sources, |line| {
        let path = paths.iter().find(|path| line.contains(path.as_str()))?;
        Some((format!("a path of one machine: {path}"), "make it relative to the repository, or a parameter"))
    });
    findings.extend(find_lines(sources, |line| {
        let setting = INDEX_SETTINGS.iter().find(|setting| line.contains(*setting))?;
        Some((
            format!("a package index is set: {setting}"),
            "leave the choice of an index to the user's own settings",
        ))
    }));
    findings.extend(foreign_locks(sources));
    findings
}

/// The repository's own place (unless it is too short to be told from an app's path) and homes.
fn machine_paths(root: &Path, home: Option<PathBuf>) -> Vec<String> {
    let mut paths = vec![concat!("/ro", "ot/").to_owned(), concat!("/Us", "ers/").to_owned()];
    let own = [Some(root.to_owned()), home];
    for path in own.into_iter().flatten() {
        if path.components().count() > 2 {
            paths.push(path.display().to_string());
        }
    }
    paths
}

/// Settings that choose a package index, spelled so that this file does not contain them.
const INDEX_SETTINGS: &[&str] = &[
    concat!("index", "-url"),
    concat!("replace", "-with"),
    concat!("PIP_", "INDEX"),
    concat!("source.", "crates-io"),
];

fn foreign_locks(sources: &[Source]) -> Vec<Finding> {
    const CRATES_IO: &str = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";
    let locks = sources.iter().filter(|source| source.path.ends_with("Cargo.lock"));
    let mut findings = Vec::new();
    for source in locks {
        for (index, line) in source.text.lines().enumerate() {
            if line.starts_with("source = ") && line != CRATES_IO {
                findings.push(Finding::new(
                    format!("{}:{}", source.path, index + 1),
                    format!("not from crates.io: {line}"),
                    "take the crate from crates.io, without a replaced source",
                ));
            }
        }
    }
    findings
}

fn find_lines(sources: &[Source], matcher: impl Fn(&str) -> Option<(String, &'static str)>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources {
        for (index, line) in source.text.lines().enumerate() {
            if let Some((problem, remedy)) = matcher(line) {
                findings.push(Finding::new(format!("{}:{}", source.path, index + 1), problem, remedy));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Crate;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }

    fn workspace(names: &[&str]) -> Workspace {
        let krate = |name: &&str| Crate {
            name: (*name).to_owned(),
            folder: format!("crates/{name}"),
            uses: Vec::new(),
            dev_uses: Vec::new(),
            external: Vec::new(),
        };
        Workspace { root: "/repo".into(), crates: names.iter().map(krate).collect() }
    }

    fn places(findings: &[Finding]) -> Vec<&str> {
        findings.iter().map(|finding| finding.place.as_str()).collect()
    }

    #[test]
    fn a_module_begins_with_a_paragraph() {
        assert!(has_header("//! Endpoints and how one is picked.\nuse x;\n"));
        assert!(has_header("\n//! Two short\n//! lines of header.\n"));
        assert!(!has_header("//! Terse.\nfn main() {}\n"));
        assert!(!has_header("use x;\n//! Too late to be a paragraph here.\n"));
        let sources = [source("a.rs", "fn a() {}"), source("b.md", "no Rust")];
        assert_eq!(places(&check_headers(&sources)), ["a.rs:1"]);
    }

    #[test]
    fn the_longest_function_comes_first_and_only_the_endless_ones_fail() {
        let long = format!("fn long() {{\n{}}}\n", "    x();\n".repeat(FUNCTION_LINES_MAX));
        let sources = [source("a.rs", "fn short() {}\n"), source("b.rs", &long)];
        let measured = measure(&sources);
        assert_eq!(measured[0].function.name, "long");
        assert_eq!(places(&check_lengths(&measured)), ["b.rs:1"]);
        assert!(check_lengths(&measured[1..]).is_empty());
    }

    #[test]
    fn unsafe_is_forbidden_in_every_root_but_the_runtimes() {
        let sources = [
            source("crates/edge/src/lib.rs", "#![forbid(unsafe_code)]"),
            source("crates/route/src/lib.rs", ""),
            source("crates/runtime/src/lib.rs", ""),
        ];
        let findings = check_unsafe(&workspace(&["edge", "route", "runtime"]), &sources);
        assert_eq!(places(&findings), ["crates/route/src/lib.rs"]);
    }

    #[test]
    fn every_crate_takes_part_in_the_lints() {
        let sources = [source("crates/edge/Cargo.toml", "[lints]\nworkspace = true\n")];
        assert_eq!(
            places(&check_lints(&workspace(&["edge", "route"]), &sources)),
            ["crates/route/Cargo.toml"]
        );
    }

    #[test]
    fn a_pure_crate_names_no_socket_and_no_clock_outside_its_tests() {
        let text = "//! Instant in words is fine.\nuse std::net::IpAddr;\nuse std::fs::File;\nlet t: Instant;\nlet fs = 1;\n\
            #[cfg(test)]\nmod tests { use std::time::Instant; }\n";
        let sources = [source("crates/policy/src/lib.rs", text), source("crates/edge/src/lib.rs", text)];
        assert_eq!(
            places(&check_purity(&sources)),
            ["crates/policy/src/lib.rs:3", "crates/policy/src/lib.rs:4"]
        );
    }

    #[test]
    fn few_test_programs_and_many_modules() {
        let mut sources: Vec<Source> =
            (0..=TEST_BINARIES_MAX).map(|n| source(&format!("crates/edge/tests/t{n}.rs"), "")).collect();
        sources.push(source("crates/route/tests/all/main.rs", ""));
        let findings = check_test_binaries(&workspace(&["edge", "route"]), &sources);
        assert_eq!(places(&findings), ["crates/edge/tests/"]);
    }

    #[test]
    fn left_overs_are_whole_words() {
        let marker = LEFT_OVERS[0];
        let sources = [source("a.rs", &format!("fine\n// {marker}: later\nMAS{marker}N\n"))];
        assert_eq!(places(&check_left_overs(&sources)), ["a.rs:2"]);
    }

    #[test]
    fn paths_of_one_machine_and_indexes_are_told() {
        let text = "/srv/build/terrace/x\n/home/someone/.cargo\n/srv/app is an app's path\n";
        let paths = machine_paths(Path::new("/srv/build/terrace"), Some("/home/someone".into()));
        let hits = |line: &&str| paths.iter().any(|path| line.contains(path.as_str()));
        assert_eq!(text.lines().filter(hits).count(), 2);
        let short = machine_paths(Path::new("/app"), None);
        assert!(!short.iter().any(|path| path == "/app"));
        let sources = [source("pip.conf", &format!("{} = x\n", INDEX_SETTINGS[0]))];
        assert_eq!(places(&check_places(Path::new("/srv/build/terrace"), &sources)), ["pip.conf:1"]);
    }

    #[test]
    fn a_lock_file_knows_crates_io_alone() {
        let text = "source = \"registry+https://github.com/rust-lang/crates.io-index\"\nsource = \"git+https://example.org/x\"\n";
        assert_eq!(places(&foreign_locks(&[source("Cargo.lock", text)])), ["Cargo.lock:2"]);
    }
}

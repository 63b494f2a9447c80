//! The checks in the order in which they are shown: the house first (graph, map), then its rooms
//! (modules, functions), then the dust.

use crate::report::{Finding, Report};
use crate::sources::{self, FUNCTION_LINES_USUAL, Measured};
use crate::workspace::{self, Workspace};
use crate::{graph, map};

const LONGEST_SHOWN: usize = 10;

/// Runs all checks; false when something is amiss. With `bless` the crate graph is written first.
///
/// # Errors
/// A sentence when the workspace itself cannot be read.
pub(crate) fn run(bless: bool) -> Result<bool, String> {
    let workspace = workspace::load()?;
    let sources = sources::load(&workspace.root)?;
    let mut report = Report::to_stdout();

    if bless {
        bless_graph(&workspace)?;
    }
    report.check("crates use only what they may", &graph::check_rules(&workspace));
    report.check("the crate graph is as written down", &check_graph(&workspace));
    report.check("ARCHITECTURE.md maps what is there", &check_map(&workspace));
    report.check("every crate takes part in the lints", &sources::check_lints(&workspace, &sources));
    report.check("unsafe is forbidden but in runtime", &sources::check_unsafe(&workspace, &sources));
    report.check("pure crates know no socket, file or clock", &sources::check_purity(&sources));
    report.check("every module says what it is for", &sources::check_headers(&sources));
    report.check("few test programs a crate", &sources::check_test_binaries(&workspace, &sources));
    report.check("nothing is left over", &sources::check_left_overs(&sources));
    report.check("nothing of one machine", &sources::check_places(&workspace.root, &sources));
    let measured = sources::measure(&sources);
    report.check("functions are short", &sources::check_lengths(&measured));
    note_lengths(&report, &measured);
    Ok(report.finish())
}

fn bless_graph(workspace: &Workspace) -> Result<(), String> {
    let path = workspace.root.join(graph::GOLDEN_FILE);
    std::fs::write(&path, graph::render(workspace))
        .map_err(|error| format!("{}: {error}", graph::GOLDEN_FILE))
}

fn check_graph(workspace: &Workspace) -> Vec<Finding> {
    match std::fs::read_to_string(workspace.root.join(graph::GOLDEN_FILE)) {
        Ok(golden) => graph::check_golden(&graph::render(workspace), &golden),
        Err(error) => vec![Finding::new(
            graph::GOLDEN_FILE,
            format!("cannot be read: {error}"),
            "run `cargo xtask tidy --bless` and commit the file",
        )],
    }
}

fn check_map(workspace: &Workspace) -> Vec<Finding> {
    match std::fs::read_to_string(workspace.root.join(map::MAP_FILE)) {
        Ok(text) => map::check(workspace, &text),
        Err(error) => vec![Finding::new(
            map::MAP_FILE,
            format!("cannot be read: {error}"),
            "write it: bird's eye, entry points, code map, cross-cutting concerns",
        )],
    }
}

fn note_lengths(report: &Report, measured: &[Measured<'_>]) {
    if measured.is_empty() {
        return;
    }
    let usual = measured.iter().filter(|one| one.function.lines <= FUNCTION_LINES_USUAL).count();
    let percent = usual as f64 * 100.0 / measured.len() as f64;
    report.note(&format!(
        "{} functions, {percent:.1} % with at most {FUNCTION_LINES_USUAL} lines (aim: 90 %); the longest:",
        measured.len()
    ));
    for one in measured.iter().take(LONGEST_SHOWN) {
        report.note(&format!(
            "{:4} lines  {}  {}:{}",
            one.function.lines, one.function.name, one.path, one.function.line
        ));
    }
}

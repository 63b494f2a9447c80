//! `cargo xtask`: what a reviewer would otherwise have to look for by eye. `tidy` compares the
//! workspace with what DESIGN says of it: which crate may use which, that the map in ARCHITECTURE.md
//! lists what is there, that each module says what it is for, and that functions stay short.
//! It reads files and `cargo metadata`, changes nothing (but for `--bless`) and needs no network.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]

mod graph;
mod map;
mod report;
mod rust;
mod sources;
mod tidy;
mod workspace;

use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask: checks of the house

usage:
  cargo xtask tidy           check the workspace; exit status 1 when something is amiss
  cargo xtask tidy --bless   the same, after writing the crate graph as it is to xtask/crate-graph.txt
  cargo xtask help           this text
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["tidy"] => run_tidy(false),
        ["tidy", "--bless"] => run_tidy(true),
        [] | ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        _ => {
            eprint!("error: unknown arguments: {}\n\n{USAGE}", words.join(" "));
            ExitCode::from(2)
        }
    }
}

fn run_tidy(bless: bool) -> ExitCode {
    match tidy::run(bless) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(reason) => {
            eprintln!("error: {reason}");
            ExitCode::from(2)
        }
    }
}

//! `terrace schema` and `terrace completions`: what editors and shells want to know.

use std::io::{self, Write as _};
use std::process::ExitCode;

use super::check::ending;
use super::{Completions, Schema, definition};
use crate::file;

/// Prints the grammar of the file.
pub fn schema(arguments: &Schema) -> ExitCode {
    let mut out = io::stdout().lock();
    ending(match arguments.markdown {
        true => out.write_all(file::reference().as_bytes()),
        false => writeln!(out, "{:#}", file::schema()),
    })
}

/// Prints the completions for a shell.
pub fn completions(arguments: &Completions) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut definition(), "terrace", &mut script);
    ending(io::stdout().lock().write_all(&script))
}

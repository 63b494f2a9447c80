//! `terrace check`: what is wrong with the file, or what it comes to.

use std::io::{self, Write};
use std::process::ExitCode;

use super::{Check, Global};
use crate::file::{self, Loaded, Problems, Resolved};

/// Reads the file. Good: it is printed with everything merged, and the status is 0. Wrong: everything that is wrong
/// goes to standard error, and the status is 1.
pub fn check(arguments: &Check, global: &Global) -> ExitCode {
    match file::load_here(&arguments.file, arguments.env.as_deref()) {
        Ok(loaded) => ending(print_good(&loaded, arguments, global)),
        Err(problems) => {
            // Nobody is left to tell when even standard error is gone.
            let _told = print_wrong(&problems, global);
            ExitCode::FAILURE
        }
    }
}

/// A closed pipe (`terrace check | head`) is no failure of ours.
pub(super) fn ending(written: io::Result<()>) -> ExitCode {
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let _told = writeln!(io::stderr(), "terrace: cannot write the output: {error}");
            ExitCode::FAILURE
        }
    }
}

fn print_good(loaded: &Loaded, arguments: &Check, global: &Global) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if global.json {
        let mut json = loaded.to_json();
        json["hints"] = loaded.resolved.hints().into();
        return writeln!(out, "{json:#}");
    }
    if !arguments.quiet {
        out.write_all(loaded.render(arguments.explain, global.colours_output()).as_bytes())?;
        out.flush()?;
        let name = arguments.file.display();
        writeln!(io::stderr(), "\n{name} is good: {}", contents(&loaded.resolved))?;
        for hint in loaded.resolved.hints() {
            writeln!(io::stderr(), "hint: {hint}")?;
        }
    }
    Ok(())
}

fn print_wrong(problems: &Problems, global: &Global) -> io::Result<()> {
    if global.json {
        return writeln!(io::stdout().lock(), "{:#}", problems.to_json());
    }
    io::stderr().lock().write_all(problems.render(global.colours_errors()).as_bytes())
}

/// `1 listener, 3 services and 5 routes`
fn contents(resolved: &Resolved) -> String {
    let count = |many: usize, noun: &str| format!("{many} {noun}{}", if many == 1 { "" } else { "s" });
    format!(
        "{}, {} and {}",
        count(resolved.listeners.len(), "listener"),
        count(resolved.services.len(), "service"),
        count(resolved.routes.len(), "route"),
    )
}

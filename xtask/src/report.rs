//! What a check found and how it is shown. A finding always has three parts, so that nobody has to
//! ask: where, what is wrong, and what to do about it.

use std::io::{IsTerminal, Write};

/// One thing amiss.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// File (and line), relative to the repository.
    pub(crate) place: String,
    /// What is wrong.
    pub(crate) problem: String,
    /// What to do about it.
    pub(crate) remedy: String,
}

impl Finding {
    pub(crate) fn new(
        place: impl Into<String>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Finding {
        Finding { place: place.into(), problem: problem.into(), remedy: remedy.into() }
    }
}

/// Prints the results of checks as they come and remembers whether any failed.
pub(crate) struct Report {
    coloured: bool,
    findings: usize,
}

impl Report {
    /// Colours only where a person looks (and https://no-color.org is respected).
    pub(crate) fn to_stdout() -> Report {
        let coloured = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Report { coloured, findings: 0 }
    }

    /// One check and all it found.
    pub(crate) fn check(&mut self, name: &str, findings: &[Finding]) {
        if findings.is_empty() {
            self.line(&format!("{}  {name}", self.paint("32", "ok  ")));
        } else {
            self.line(&format!("{}  {name}", self.paint("31;1", "FAIL")));
        }
        for finding in findings {
            self.line(&format!("      {}: {}", self.paint("1", &finding.place), finding.problem));
            self.line(&format!("      {} {}", self.paint("36", "→"), finding.remedy));
        }
        self.findings += findings.len();
    }

    /// A line that informs and fails nothing.
    pub(crate) fn note(&self, line: &str) {
        self.line(&format!("      {}", self.paint("2", line)));
    }

    /// Prints the verdict; true when nothing was found.
    pub(crate) fn finish(self) -> bool {
        self.line(&match self.findings {
            0 => self.paint("32;1", "tidy: all is well"),
            1 => self.paint("31;1", "tidy: 1 finding"),
            many => self.paint("31;1", &format!("tidy: {many} findings")),
        });
        self.findings == 0
    }

    /// A reader who has seen enough (`| head`) is no error.
    fn line(&self, text: &str) {
        let _ = writeln!(std::io::stdout(), "{text}");
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.coloured { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

//! The command line: what can be said to `terrace`, and the commands that need no running one.
//!
//! Each command is a struct whose doc comments are its help; its examples stand in [`examples`]. What talks to a
//! running Terrace, or is one, is carried out elsewhere: here it is only understood.

mod check;
mod examples;
mod fault;
mod install;
mod keys;
mod schema;
mod seeing;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

pub use check::check;
pub use fault::Fault;
pub use install::install;
pub use keys::{CreateKey, Keys, KeysAction, RevokeKey, Totp};
pub use schema::{completions, schema};
pub use seeing::{Alerts, AlertsAction, Dashboard, DashboardRole, Drain, Top, Traces};

/// The file that is meant when none is named.
pub const DEFAULT_FILE: &str = "terrace.toml";

/// Every tier of a scalable system in one program, around an app that stays as it is.
#[derive(Debug, Parser)]
#[command(name = "terrace", version, after_help = examples::TERRACE, max_term_width = 100)]
#[command(disable_help_subcommand = true)]
pub struct Cli {
    /// What is to be done.
    #[command(subcommand)]
    pub command: Command,
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the whole program")]
    #[command(flatten)]
    pub global: Global,
}

/// What goes with every command.
#[derive(Args, Clone, Debug)]
pub struct Global {
    /// Answer in JSON, for programs
    #[arg(long, global = true)]
    pub json: bool,
    /// Colour the output: auto (on a terminal), always or never
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    #[arg(hide_possible_values = true, hide_default_value = true)]
    pub color: Color,
}

/// When output is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Also into a file or pipe
    Always,
    /// Not at all
    Never,
}

/// What is to be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start everything in the file, or one command without a file, and stay
    Up(Up),
    /// Say what is wrong with the file, or print what it comes to
    Check(Check),
    /// Show services, instances and listeners of the running Terrace
    #[command(after_help = examples::STATUS)]
    Status(Running),
    /// Watch listeners, routes, services and instances in the terminal
    Top(Top),
    /// Print an address that opens the dashboard
    Dashboard(Dashboard),
    /// Show what instances print and what Terrace says, by level, trace, text and time
    Logs(Logs),
    /// List kept traces, or show the way of one request
    Traces(Traces),
    /// Show objectives and alerts, silence them, test who is told
    Alerts(Alerts),
    /// Take the changed file over; a wrong one is refused whole
    #[command(after_help = examples::RELOAD)]
    Reload(Reload),
    /// Run so many instances of a service, until the file says otherwise
    Scale(Scale),
    /// Replace the instances of a service one by one, without a gap
    Restart(Restart),
    /// Take an instance out of rotation, or let it in again
    Drain(Drain),
    /// Break a route on purpose for a while: delay or abort a share of its requests
    Fault(Fault),
    /// Make, list and revoke API keys
    Keys(Keys),
    /// Show the secret of the dashboard's second factor, once, for a phone
    Totp(Totp),
    /// Stop the running Terrace and everything it runs, and wait for it; requests under way finish
    #[command(after_help = examples::STOP)]
    Stop(Running),
    /// Print the grammar of the file: JSON Schema for editors, or the reference to read
    Schema(Schema),
    /// Write a systemd unit
    Install(Install),
    /// Print completions for a shell
    Completions(Completions),
    /// Hold one instance; started by Terrace itself.
    #[command(hide = true)]
    Shim(Shim),
}

/// `terrace up`
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[command(after_help = examples::UP)]
pub struct Up {
    /// The file [default: terrace.toml]
    #[arg(conflicts_with = "command")]
    pub file: Option<PathBuf>,
    /// Lay terrace.NAME.toml over terrace.toml
    #[arg(long, value_name = "NAME", conflicts_with = "command")]
    pub env: Option<String>,
    /// Run this at port 8080, without a file
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// `terrace check`
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[command(after_help = examples::CHECK)]
pub struct Check {
    /// The file
    #[arg(default_value = DEFAULT_FILE)]
    pub file: PathBuf,
    /// Lay terrace.NAME.toml over terrace.toml
    #[arg(long, value_name = "NAME")]
    pub env: Option<String>,
    /// Print behind each value where it comes from
    #[arg(long)]
    pub explain: bool,
    /// Print only what is wrong
    #[arg(short, long, conflicts_with = "explain")]
    pub quiet: bool,
}

/// Which running Terrace is meant.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// The file it was started with, beside which its state folder is
    #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
    pub file: PathBuf,
}

/// `terrace reload`
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct Reload {
    /// Stay until what changed is rolled out, for so long at most (10m), and fail when that fails
    #[arg(long, value_name = "TIME", value_parser = seeing::lasts, num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "10m")]
    pub wait: Option<Duration>,
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the command")]
    #[command(flatten)]
    pub running: Running,
}

/// `terrace scale`
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[command(after_help = examples::SCALE)]
pub struct Scale {
    /// The service
    pub service: String,
    /// How many instances
    #[arg(value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub instances: u32,
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the command")]
    #[command(flatten)]
    pub running: Running,
}

/// `terrace restart`
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[command(after_help = examples::RESTART)]
pub struct Restart {
    /// The service
    pub service: String,
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the command")]
    #[command(flatten)]
    pub running: Running,
}

/// `terrace logs`
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[command(after_help = examples::LOGS)]
pub struct Logs {
    /// The service, or `terrace` for Terrace itself; all of them when none is named
    pub service: Option<String>,
    /// Only of this instance, such as web-1
    #[arg(long, value_name = "NAME")]
    pub instance: Option<String>,
    /// Only of this level and above: debug, info, warn or error
    #[arg(long, value_name = "LEVEL")]
    pub level: Option<String>,
    /// Only of this trace
    #[arg(long, value_name = "ID")]
    pub trace: Option<String>,
    /// Only with this text in the message or a field, whatever its case
    #[arg(long, value_name = "TEXT")]
    pub text: Option<String>,
    /// Only since then: how long ago, such as 10m or 1h30m, or a time such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "WHEN")]
    pub since: Option<String>,
    /// Only until then, written likewise
    #[arg(long, value_name = "WHEN", conflicts_with = "follow")]
    pub until: Option<String>,
    /// Stay and show new lines as they come
    #[arg(short, long)]
    pub follow: bool,
    /// Lines to begin with
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(..=10_000))]
    pub lines: u32,
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the command")]
    #[command(flatten)]
    pub running: Running,
}

/// `terrace schema`
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[command(after_help = examples::SCHEMA)]
pub struct Schema {
    /// The reference as Markdown, instead of JSON Schema
    #[arg(long)]
    pub markdown: bool,
}

/// `terrace install`
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[command(after_help = examples::INSTALL)]
pub struct Install {
    /// The file
    #[arg(default_value = DEFAULT_FILE)]
    pub file: PathBuf,
    /// For your own systemd instead of the machine's: needs no root
    #[arg(long)]
    pub user: bool,
    /// Print the unit instead of writing it
    #[arg(long)]
    pub print: bool,
    /// Replace a unit that is there and different
    #[arg(long)]
    pub force: bool,
    /// Lay terrace.NAME.toml over terrace.toml
    #[arg(long, value_name = "NAME")]
    pub env: Option<String>,
}

/// `terrace completions`
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[command(after_help = examples::COMPLETIONS)]
pub struct Completions {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// `terrace shim`: what it is given is between Terrace and itself.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct Shim {
    /// Handed on as they are.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub arguments: Vec<std::ffi::OsString>,
}

impl Up {
    /// The file to read; `None`: a command is given instead.
    pub fn file(&self) -> Option<PathBuf> {
        match (&self.file, self.command.is_empty()) {
            (Some(file), _) => Some(file.clone()),
            (None, true) => Some(PathBuf::from(DEFAULT_FILE)),
            (None, false) => None,
        }
    }
}

impl Global {
    /// Whether what goes to standard error is coloured.
    pub fn colours_errors(&self) -> bool {
        self.colours(std::io::stderr().is_terminal())
    }

    /// Whether what goes to standard output is coloured.
    pub fn colours_output(&self) -> bool {
        self.colours(std::io::stdout().is_terminal())
    }

    fn colours(&self, is_terminal: bool) -> bool {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        match self.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                is_terminal && wanted && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
            }
        }
    }
}

/// The whole command line as clap knows it.
pub fn definition() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests;

//! What Terrace and a shim say to each other: one JSON object a line, in both directions, over a Unix socket.
//!
//! A successor may be of a newer version than the shims it adopts, so both sides skip what they do not understand,
//! and fields are only ever added.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The version of this protocol; raised when a successor could no longer adopt an older shim.
pub(crate) const PROTOCOL: u32 = 1;
/// A line of output longer than this is cut.
pub(crate) const LINE_BYTES_MAX: usize = 8 * 1024;
/// No report is longer: a line of output whose every byte needs `\u0000` fits with room to spare.
pub(crate) const REPORT_BYTES_MAX: usize = 64 * 1024;
/// No order is longer but the launch.
pub(crate) const ORDER_BYTES_MAX: usize = 4 * 1024;
/// The launch carries arguments and environment; the kernel takes about 2 MiB of them.
pub(crate) const LAUNCH_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The first thing a shim is told, over its standard input: whatever is secret must not be in its arguments.
#[derive(Serialize, Deserialize)]
pub(crate) struct Launch {
    pub(crate) service: String,
    pub(crate) instance: String,
    /// Random, so that two lives of an instance never share a socket.
    pub(crate) id: String,
    pub(crate) config_hash: String,
    pub(crate) argv: Vec<String>,
    pub(crate) folder: PathBuf,
    /// The whole environment.
    pub(crate) env: Vec<(String, String)>,
    pub(crate) identity: Option<LaunchIdentity>,
    pub(crate) port: Option<u16>,
    /// The address of the notify socket, as in `NOTIFY_SOCKET`.
    pub(crate) notify: Option<String>,
    /// Where the control socket and the state file belong.
    pub(crate) instances: PathBuf,
    pub(crate) adopt_within_ms: u64,
    pub(crate) stop_signal: i32,
    pub(crate) stop_grace_ms: u64,
}

/// Holds the environment, so it does not print.
impl fmt::Debug for Launch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Launch").field("instance", &self.instance).finish_non_exhaustive()
    }
}

/// Whom the app becomes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LaunchIdentity {
    pub(crate) user: u32,
    pub(crate) group: u32,
    pub(crate) groups: Vec<u32>,
}

/// What Terrace asks of a shim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub(crate) enum Order {
    /// Signal the group, and kill what is left of it after the grace.
    Stop { signal: i32, grace_ms: u64 },
    /// Kill the group now.
    Kill,
    /// Send one signal to the group.
    Signal { signal: i32 },
    /// Remember that the instance was found ready, for a successor.
    Ready,
    /// Say `pong`.
    Ping,
    /// Say `hello` again.
    Describe,
    /// The ending was noted: remove the files and leave.
    Collect,
}

/// What a shim tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub(crate) enum Report {
    /// The first report on each connection.
    Hello(Description),
    /// The app could not be started; the shim leaves.
    Failed { message: String },
    /// Another Terrace is in control.
    Busy,
    /// A line of the app's output.
    Line(OutputLine),
    /// So many lines of output were lost because nobody took them in time.
    Dropped { lines: u64 },
    /// The app said something over its notify socket.
    Notify { ready: bool, status: Option<String> },
    /// The app's first process ended. What is left of the group is being ended.
    Exited(Exit),
    /// Nothing is left.
    Gone,
    /// Alive.
    Pong,
}

/// One line of output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OutputLine {
    pub(crate) stream: Stream,
    pub(crate) text: String,
    /// Wall clock, milliseconds since 1970.
    pub(crate) at_ms: u64,
    /// Whether the rest of it was left out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) cut: bool,
}

/// Where a line was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// In lower case.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// What a shim holds. Also what its state file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Description {
    pub(crate) protocol: u32,
    pub(crate) service: String,
    pub(crate) instance: String,
    pub(crate) id: String,
    pub(crate) config_hash: String,
    pub(crate) port: Option<u16>,
    /// The app's first process, which leads its group.
    pub(crate) pid: i32,
    /// When that process started, in the kernel's ticks since boot; tells a process from a later one of the same number.
    pub(crate) pid_started: Option<u64>,
    pub(crate) shim_pid: i32,
    /// Wall clock, milliseconds since 1970.
    pub(crate) created_ms: u64,
    /// Whether it was found ready once.
    pub(crate) ready: bool,
    /// Whether it is being stopped.
    pub(crate) stopping: bool,
    pub(crate) exit: Option<Exit>,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exit {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
}

impl fmt::Display for Exit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => write!(formatter, "exit status {code}"),
            (None, Some(signal)) => write!(formatter, "{}", signal_name(signal)),
            (None, None) => formatter.write_str("its shim was killed"),
        }
    }
}

fn signal_name(signal: i32) -> String {
    let known =
        [(1, "HUP"), (2, "INT"), (3, "QUIT"), (4, "ILL"), (6, "ABRT"), (8, "FPE"), (9, "KILL"), (11, "SEGV")];
    let more = [(13, "PIPE"), (14, "ALRM"), (15, "TERM")];
    match known.iter().chain(&more).find(|(number, _)| *number == signal) {
        Some((_, name)) => format!("signal SIG{name}"),
        None => format!("signal {signal}"),
    }
}

/// One object as one line.
pub(crate) fn encode(message: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(message).expect("messages have text keys and no failing serialiser");
    line.push(b'\n');
    line
}

/// The names of an instance's files; all in one folder.
pub(crate) fn file_name(instance: &str, id: &str, extension: &str) -> String {
    format!("{instance}.{id}.{extension}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_line_of_output_fits_into_a_report() {
        let text = "\u{1}".repeat(LINE_BYTES_MAX);
        let line = OutputLine { stream: Stream::Stderr, text, at_ms: u64::MAX, cut: true };
        assert!(encode(&Report::Line(line)).len() < REPORT_BYTES_MAX);
    }

    #[test]
    fn a_launch_does_not_print_its_environment() {
        let launch = Launch {
            service: "orders".into(),
            instance: "orders-1".into(),
            id: "1".into(),
            config_hash: String::new(),
            argv: Vec::new(),
            folder: PathBuf::new(),
            env: vec![("TOKEN".into(), "hunter2".into())],
            identity: None,
            port: None,
            notify: None,
            instances: PathBuf::new(),
            adopt_within_ms: 0,
            stop_signal: 15,
            stop_grace_ms: 0,
        };
        assert!(!format!("{launch:?}").contains("hunter2"));
    }

    #[test]
    fn an_ending_reads_like_one() {
        assert_eq!(Exit { code: Some(3), signal: None }.to_string(), "exit status 3");
        assert_eq!(Exit { code: None, signal: Some(11) }.to_string(), "signal SIGSEGV");
        assert_eq!(Exit { code: None, signal: Some(40) }.to_string(), "signal 40");
    }
}

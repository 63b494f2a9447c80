//! What can be said to look at a running Terrace more closely: alerts, traces, the dashboard, the map in a terminal, and to
//! take an instance out of rotation.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::{Running, examples};

/// `terrace top`
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[command(after_help = examples::TOP)]
pub struct Top {
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the command")]
    #[command(flatten)]
    pub running: Running,
}

/// `terrace alerts`
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[command(after_help = examples::ALERTS, args_conflicts_with_subcommands = true)]
pub struct Alerts {
    /// What is to be done; without it, objectives and alerts are shown.
    #[command(subcommand)]
    pub action: Option<AlertsAction>,
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the command")]
    #[command(flatten)]
    pub running: Running,
}

/// What is to be done about alerts.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum AlertsAction {
    /// Send a test alert to a receiver, or to all
    Test {
        /// The receiver, a [notify.NAME]; all of them when none is named
        receiver: Option<String>,
        #[expect(missing_docs, reason = "a doc comment here would replace the help of the command")]
        #[command(flatten)]
        running: Running,
    },
    /// Tell nobody about an objective, an alert's rule or one alert for a time
    Silence {
        /// The name of the objective or rule, or the id of an alert
        target: String,
        /// For how long, such as 30m, 2h or 1d
        #[arg(value_name = "TIME", value_parser = lasts)]
        lasts: Duration,
        /// Why, for whoever wonders
        #[arg(short, long, default_value = "", hide_default_value = true)]
        comment: String,
        #[expect(missing_docs, reason = "a doc comment here would replace the help of the command")]
        #[command(flatten)]
        running: Running,
    },
    /// End a silence before its time
    Unsilence {
        /// The id of the silence
        id: String,
        #[expect(missing_docs, reason = "a doc comment here would replace the help of the command")]
        #[command(flatten)]
        running: Running,
    },
}

impl Alerts {
    /// Which Terrace is meant.
    pub fn running(&self) -> &Running {
        match &self.action {
            None => &self.running,
            Some(
                AlertsAction::Test { running, .. }
                | AlertsAction::Silence { running, .. }
                | AlertsAction::Unsilence { running, .. },
            ) => running,
        }
    }
}

/// `terrace traces`
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[command(after_help = examples::TRACES)]
pub struct Traces {
    /// The id of a trace, to see its way; without it, the newest are listed
    #[arg(conflicts_with_all = ["service", "route", "slower", "errors", "text", "lines"])]
    pub id: Option<String>,
    /// Only those that came through this service
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// Only those of this route
    #[arg(long, value_name = "NAME")]
    pub route: Option<String>,
    /// Only those that took at least so long, such as 500ms
    #[arg(long, value_name = "TIME", value_parser = lasts)]
    pub slower: Option<Duration>,
    /// Only those that failed
    #[arg(long)]
    pub errors: bool,
    /// Only those with this text in a name or an attribute
    #[arg(long, value_name = "TEXT")]
    pub text: Option<String>,
    /// How many at most
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub lines: u32,
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the command")]
    #[command(flatten)]
    pub running: Running,
}

/// `terrace dashboard`
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[command(after_help = examples::DASHBOARD)]
pub struct Dashboard {
    /// Open it in a browser
    #[arg(short, long)]
    pub open: bool,
    /// As whom: an operator may change things, a viewer only look
    #[arg(long, value_name = "ROLE", default_value = "operator")]
    pub role: DashboardRole,
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the command")]
    #[command(flatten)]
    pub running: Running,
}

/// What somebody may do in the dashboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DashboardRole {
    /// Look, and change things
    Operator,
    /// Look
    Viewer,
}

/// `terrace drain`
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[command(after_help = examples::DRAIN)]
pub struct Drain {
    /// The service
    pub service: String,
    /// The instance, such as web-1, or the host
    pub instance: String,
    /// Let it in again
    #[arg(long)]
    pub undo: bool,
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the command")]
    #[command(flatten)]
    pub running: Running,
}

/// A span of time as people write it: numbers with a unit, largest first or not, such as `2h` or `1h30m`.
pub(super) fn lasts(text: &str) -> Result<Duration, String> {
    let wrong = || "write it like 500ms, 90s, 30m, 2h or 1d".to_owned();
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, behind) = rest.split_at(digits);
        let letters = behind.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, behind) = behind.split_at(letters);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let milliseconds = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        let part = number.checked_mul(milliseconds).map(Duration::from_millis);
        total = part.and_then(|part| total.checked_add(part)).ok_or_else(|| "that is too long".to_owned())?;
        rest = behind;
    }
    if total.is_zero() { Err(wrong()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use super::lasts;
    use std::time::Duration;

    #[test]
    fn a_time_is_written_with_its_units() {
        assert_eq!(lasts("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(lasts("2h"), Ok(Duration::from_secs(7_200)));
        assert_eq!(lasts("1h30m"), Ok(Duration::from_secs(5_400)));
        for wrong in
            ["", "5", "h", "0s", "-1h", "1.5h", "1y", "2 h", "99999999999999999999d", "99999999999999999d"]
        {
            assert!(lasts(wrong).is_err(), "{wrong}");
        }
    }
}

//! Objectives, their budgets, and alerts: numbers in, notifications out.
//!
//! Each second the [`Engine`] is shown all numbers. It keeps count for each objective back to the beginning of its
//! window, judges burn rates and thresholds, leads each alert from pending over firing to resolved, and says who is to
//! be told. What decides is the engine's own clock, which only runs forward; the wall clock is for people, so that it
//! may jump without anything beginning or ending. All state can be saved and brought back, so that a restart forgets
//! neither a budget that was spent nor an alert that fires.

mod alert;
mod burn;
mod engine;
mod ledger;
mod notify;
mod reading;
mod silence;
mod state;
mod threshold;

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::series::Query;

// The public interface is:
pub use burn::{BAD_MIN, BURN_RULES, BURN_WINDOWS, BurnRule, span};
pub use engine::{Change, Engine, Rules, Sight, Ticked};
pub use notify::{GROUP_INTERVAL, Notification, Route, Told};
pub use silence::SILENCE_MAX;
pub use state::{Saved, StateError};

/// What users are promised.
#[derive(Debug, Clone, PartialEq)]
pub struct Objective {
    /// Its name in the file.
    pub name: String,
    /// Whose answers count.
    pub subject: Subject,
    /// Share of requests that must not fail (status 500 and above, or no answer by our fault), such as 0.999.
    pub success: Option<f64>,
    /// Share of requests that must be fast.
    pub latency: Option<LatencyGoal>,
    /// The time over which the budget is spent.
    pub window: Duration,
    /// Receivers by name; empty: all that take an alert's severity.
    pub notify: Vec<String>,
}

/// Whose answers an objective counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Subject {
    /// Those of a route.
    Route(String),
    /// Those of a service, whichever route led there.
    Service(String),
}

/// Share of requests that must be answered within a time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LatencyGoal {
    /// The time.
    pub under: Duration,
    /// The share, such as 0.99.
    pub share: f64,
}

/// An alert on any metric.
///
/// What is compared is the mean of what is known of a line over the query's `last`. A line of which nothing is known
/// begins no alert; one that fires already goes on for five minutes. With `below`, a line is judged once it is known
/// for half of `last`, and a question that nothing at all answers (a metric that is not there, an app that says nothing
/// any more) is itself an alert, `absent`, when that lasts for the longest of `hold`, `last` and a minute.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    /// Its name in the file.
    pub name: String,
    /// What is watched; each line of the answer is an alert of its own. `last` is the time over which it is averaged.
    pub query: Query,
    /// Fires above it.
    pub above: Option<f64>,
    /// Fires below it.
    pub below: Option<f64>,
    /// How long it must hold.
    pub hold: Duration,
    /// How much it matters.
    pub severity: Severity,
    /// Receivers by name; empty: all that take this severity.
    pub notify: Vec<String>,
}

/// How much an alert matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// For the record.
    Info,
    /// Within days.
    Ticket,
    /// Now.
    Page,
}

impl Severity {
    /// As in the file: `info`, `ticket`, `page`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Ticket => "ticket",
            Self::Page => "page",
        }
    }
}

/// Where an alert stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertState {
    /// The condition holds, not yet for long enough.
    Pending,
    /// It fires.
    Firing,
    /// It fired not long ago.
    Resolved,
}

/// An alert as a person sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct AlertView {
    /// The same for the same alert, also after a restart; for silences and links.
    pub id: String,
    /// Name of the objective or rule.
    pub name: String,
    /// Which burn-rate rule (`burn 14.4x over 1h and 5m`), or the line's labels.
    pub detail: String,
    /// How much it matters.
    pub severity: Severity,
    /// Where it stands.
    pub state: AlertState,
    /// Since when.
    pub since: SystemTime,
    /// What is wrong, in a sentence with figures.
    pub summary: String,
    /// Route or service it is about, where there is one.
    pub subject: Option<Subject>,
    /// The figure watched, now.
    pub value: f64,
    /// What else was unusual at the time: explains, never pages.
    pub notes: Vec<String>,
    /// Until when nobody is told.
    pub silenced_until: Option<SystemTime>,
}

/// An objective as a person sees it: one for success, one for latency.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectiveView {
    /// Its name in the file.
    pub name: String,
    /// `success` or `latency`.
    pub kind: &'static str,
    /// Whose answers count.
    pub subject: Subject,
    /// The promised share.
    pub goal: f64,
    /// For latency: within this time.
    pub under: Option<Duration>,
    /// The time over which the budget is spent.
    pub window: Duration,
    /// Requests in the window.
    pub total: u64,
    /// Those that broke the promise.
    pub bad: u64,
    /// Share of the budget that is left: 1 none spent, 0 all, negative overspent.
    pub budget_left: f64,
    /// Burn rates: window, rate.
    pub burn: Vec<(Duration, f64)>,
    /// Budget left over the window, oldest first, at most 200 points, NaN where unknown.
    pub history: Vec<f64>,
}

/// A silence as a person sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SilenceView {
    /// To end it.
    pub id: String,
    /// Name of an objective or rule, or an alert's id.
    pub target: String,
    /// When it ends by itself.
    pub until: SystemTime,
    /// Why.
    pub comment: String,
    /// Who asked for it.
    pub by: String,
}

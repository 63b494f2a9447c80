//! Objectives, their budgets, and alerts: numbers in, notifications out.

use std::time::{Duration, SystemTime};

use crate::series::Query;

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
    /// Severities that it may raise; empty: both page and ticket.
    pub notify: Vec<String>,
}

/// Whose answers an objective counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// Those of a route.
    Route(String),
    /// Those of a service, whichever route led there.
    Service(String),
}

/// Share of requests that must be answered within a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LatencyGoal {
    /// The time.
    pub under: Duration,
    /// The share, such as 0.99.
    pub share: f64,
}

/// An alert on any metric.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// For the record.
    Info,
    /// Within days.
    Ticket,
    /// Now.
    Page,
}

/// Where an alert stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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

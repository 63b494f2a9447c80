//! `[objective.NAME]`: what users are promised.

use std::time::Duration;

use terrace_signals::alerts::{LatencyGoal, Objective, Subject};

use super::problem::Finding;
use super::read::{OneOrMany, Read, Reader, table};
use super::route::{Known, is_worker};
use super::source::Origin;
use super::tree::Node;
use super::values::{Share, Words};

table! {
    /// What users are promised of a route or a service: what share of requests goes well, and how fast. What is missing
    /// to 100 % is the error budget. Alerts tell when it is spent too fast: a page when 2 % of it went within an hour
    /// (14.4 times the pace that lasts for the window) or 5 % within six, a ticket when 10 % went within one day or three.
    pub(crate) struct ObjectiveTable one of "route" "service" {
        /// The route whose answers count.
        "route" route: Option<Words>, example "orders";
        /// The service whose answers count, whichever route led there.
        "service" service: Option<Words>, example "orders";
        /// Share of the requests that must not fail (status 500 and above, or no answer through our own fault).
        "success" success: Option<Share>, example "99.9%";
        /// Share of the requests that must be answered within a time; what fails was not, however quickly.
        "latency" latency: Option<LatencyTable>, example { under = "300ms", for = "99%" };
        /// The time over which the promise holds, and over which the error budget is spent.
        "window" window: Duration = "30d", within "1d" to "90d";
        /// The receiver that is told, or a list of them. Default: all that take the severity.
        "notify" notify: Option<OneOrMany<Words>>, example ["oncall"];
    }
}

table! {
    /// Share of the requests that must be answered within a time; what fails was not, however quickly.
    pub(crate) struct LatencyTable {
        /// The time, up to the answer's last byte.
        "under" under: Duration, within "1ms" to "10m", example "300ms";
        /// The share of the requests.
        "for" share: Share, example "99%";
    }
}

/// The objective called `name`.
pub(crate) fn resolve(
    name: &str,
    node: &Node,
    known: &Known<'_>,
    reader: &mut Reader<'_>,
) -> Option<Objective> {
    let named = check_names(node, known, reader);
    let table = ObjectiveTable::read(node, reader)?;
    let success = match table.success {
        Some(share) => Some(budgeted(share, node.origin_of("success"), reader)?),
        None => None,
    };
    let latency = match &table.latency {
        Some(goal) => {
            let origin = node.get("latency").map_or(node.origin, |latency| latency.origin_of("for"));
            Some(LatencyGoal { under: goal.under, share: budgeted(goal.share, origin, reader)? })
        }
        None => None,
    };
    if success.is_none() && latency.is_none() {
        let finding = Finding::new(node.origin, format!("{} promises nothing", reader.here()));
        return reader.refuse(
            finding.help("add success = \"99.9%\", or latency = { under = \"300ms\", for = \"99%\" }"),
        );
    }
    named?;
    Some(Objective {
        name: name.to_owned(),
        subject: subject(table.route, table.service)?,
        success,
        latency,
        window: table.window,
        notify: receivers(table.notify),
    })
}

fn subject(route: Option<Words>, service: Option<Words>) -> Option<Subject> {
    match (route, service) {
        (Some(route), _) => Some(Subject::Route(route.0)),
        (None, Some(service)) => Some(Subject::Service(service.0)),
        // Invariant: `ObjectiveTable` has exactly one of the two.
        (None, None) => None,
    }
}

/// Reports names that do not exist, even when another fault keeps the rest from being read.
fn check_names(node: &Node, known: &Known<'_>, reader: &mut Reader<'_>) -> Option<()> {
    let mut good = check_receivers(node, known, reader);
    for kind in ["route", "service"] {
        let Some(at) = node.get(kind) else { continue };
        let Some(name) = at.text() else { continue };
        match known.find(kind, name, at.origin, reader) {
            None => good = None,
            Some(found) if kind == "service" && is_worker(found) => {
                let message = format!("`{name}` is a worker: no requests reach it that could go well");
                let finding = Finding::new(at.origin, message);
                good = reader.refuse(finding.other(found.key_origin_of("worker"), "here"));
            }
            Some(_) => {}
        }
    }
    good
}

/// Reports receivers that do not exist.
pub(crate) fn check_receivers(node: &Node, known: &Known<'_>, reader: &mut Reader<'_>) -> Option<()> {
    let mut good = Some(());
    for at in OneOrMany::<Words>::nodes(node.get("notify")) {
        if at.text().is_some_and(|name| known.find("notify", name, at.origin, reader).is_none()) {
            good = None;
        }
    }
    good
}

pub(crate) fn receivers(names: Option<OneOrMany<Words>>) -> Vec<String> {
    super::read::any(names).into_iter().map(|name| name.0).collect()
}

/// A promise that leaves a budget: neither nothing nor everything.
fn budgeted(share: Share, origin: Origin, reader: &mut Reader<'_>) -> Option<f64> {
    if share.0 <= 0.0 {
        return reader.refuse(
            Finding::new(origin, "0% promises nothing").help("write what users may rely on: \"99.9%\""),
        );
    }
    if share.0 >= 1.0 {
        let message = "100% leaves no budget: the first failure of the window would break it";
        return reader.refuse(Finding::new(origin, message).help("write \"99.99%\" or less"));
    }
    Some(share.0)
}

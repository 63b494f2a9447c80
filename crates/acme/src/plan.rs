//! What is to be ordered, and when: a pure decision from what is wanted, what is held, and what went wrong so far.
//!
//! The hosts of a listener share a certificate, up to a hundred. That has a trap: an authority issues for all hosts of an
//! order or for none, so that one whose DNS leads elsewhere would keep the others without. So a host that was refused is
//! ordered *alone* from then on, at its own slow pace, and the others go on without it. When it has got its own
//! certificate it is one of the others again, and shares their next one.
//!
//! What is due follows from the wall clock, for that is what certificates are written in. When a failed order is tried
//! again follows from the monotonic one. So a wall clock that jumps may make an order early or late, but can make no
//! storm: each order that came to nothing waits, and one that brought a certificate that is due at once waits too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::config::Listener;
use crate::error::OrderError;
use crate::store::Stored;

/// Hosts of one certificate; authorities take a hundred.
const HOSTS_MAX: usize = 100;
/// Waits after failures of the network or the authority: the first, and the longest.
const UNREACHABLE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(600));
/// Waits after refusals. Authorities count these: five an hour for one host are common.
const REFUSED: (Duration, Duration) = (Duration::from_secs(120), Duration::from_secs(6 * 3_600));
/// Before the next way of convincing the authority is tried.
const OTHER_WAY: Duration = Duration::from_secs(5);
/// Wait after too many requests where the authority names none, and the longest.
const RATE_LIMITED: (Duration, Duration) = (Duration::from_secs(3_600), Duration::from_secs(86_400));
/// So long nothing at all is ordered after too many requests.
const PAUSE: Duration = Duration::from_secs(60);
/// A certificate that is due as soon as it comes is not ordered again before that.
const AGAIN_MIN: Duration = Duration::from_secs(60);
/// One that another machine has ordered is to be seen in the folder by then.
const FOUND_BY: Duration = Duration::from_secs(5);

/// Now, by both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// Since the clock's start; never jumps.
    pub(crate) now: Duration,
    /// Since 1970; may jump.
    pub(crate) wall: Duration,
}

/// A certificate that is shown, with when it is due.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    pub(crate) stored: Arc<Stored>,
    /// By the wall clock.
    pub(crate) due_at: Duration,
}

/// The best certificate of each host.
pub(crate) type ByHost = BTreeMap<String, Shown>;

/// What is wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) listeners: &'a [Listener],
    /// Each host its own certificate, ordered when it is asked for.
    pub(crate) on_demand: bool,
    /// Hosts that were asked for and have none.
    pub(crate) asked: &'a BTreeSet<String>,
    /// Ways of convincing the authority.
    pub(crate) ways: u32,
}

/// Something to be ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Task {
    /// Sorted.
    pub(crate) hosts: Vec<String>,
    /// How long from now.
    pub(crate) wait: Duration,
    /// Failures of this order in a row so far, by which the way of convincing the authority is chosen.
    pub(crate) failures: u32,
}

/// What went wrong so far.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    troubles: BTreeMap<Vec<String>, Trouble>,
    /// Hosts that were refused in the company of others.
    alone: BTreeSet<String>,
    paused_until: Duration,
}

#[derive(Debug, Clone, Copy, Default)]
struct Trouble {
    failures: u32,
    /// Of the failures, those of the network and the authority itself.
    unreachable: u32,
    until: Duration,
    /// The authority said how long to wait.
    is_told: bool,
}

impl Plan {
    /// All orders that will be due, with how long it is until then.
    pub(crate) fn tasks(&self, wanted: Wanted<'_>, held: &ByHost, at: Moment) -> Vec<Task> {
        let mut tasks = BTreeMap::new();
        for listener in wanted.listeners {
            let is_alone = |host: &&String| wanted.on_demand || self.alone.contains(*host);
            let (alone, mut together): (Vec<&String>, Vec<&String>) =
                listener.hosts.iter().partition(is_alone);
            together.sort_unstable();
            let orders = together.chunks(HOSTS_MAX).chain(alone.chunks(1));
            for hosts in orders {
                let hosts: Vec<String> = hosts.iter().map(|host| (*host).clone()).collect();
                if let Some(task) = self.task(hosts, wanted, held, at) {
                    tasks.insert(task.hosts.clone(), task);
                }
            }
        }
        tasks.into_values().collect()
    }

    /// One order, unless it is of a host that nobody has asked for yet.
    fn task(&self, hosts: Vec<String>, wanted: Wanted<'_>, held: &ByHost, at: Moment) -> Option<Task> {
        let mut wait = Duration::MAX;
        for host in &hosts {
            let due_at = match held.get(host) {
                Some(shown) => shown.due_at,
                None if !wanted.on_demand || wanted.asked.contains(host) => Duration::ZERO,
                None => return None,
            };
            wait = wait.min(due_at.saturating_sub(at.wall));
        }
        let trouble = self.troubles.get(&hosts).copied().unwrap_or_default();
        let until = trouble.until.max(self.paused_until);
        let wait = wait.max(until.saturating_sub(at.now));
        Some(Task { hosts, wait, failures: trouble.failures })
    }

    /// An order brought a certificate.
    pub(crate) fn succeeded(&mut self, hosts: &[String], shown: &Shown, at: Moment) {
        for host in hosts {
            self.alone.remove(host);
        }
        self.troubles.remove(hosts);
        if shown.due_at <= at.wall {
            // Our clock is wrong, or the authority's. Whichever it is, another certificate would be no better.
            let until = at.now + (shown.stored.facts.lifetime() / 3).max(AGAIN_MIN);
            self.troubles.insert(hosts.to_vec(), Trouble { until, ..Trouble::default() });
        }
    }

    /// Another machine has ordered it. It will be seen when the folder is looked through; if it is not, something is wrong
    /// with the folder, and nobody shall look for the other machine's again and again.
    pub(crate) fn found(&mut self, hosts: &[String], at: Moment) {
        for host in hosts {
            self.alone.remove(host);
        }
        self.troubles.insert(hosts.to_vec(), Trouble { until: at.now + FOUND_BY, ..Trouble::default() });
    }

    /// An order came to nothing; says how long it waits now. `random`: 0 to 1, by up to a quarter of which a wait is longer.
    pub(crate) fn failed(
        &mut self,
        hosts: &[String],
        error: &OrderError,
        wanted: Wanted<'_>,
        at: Moment,
        random: f64,
    ) -> Duration {
        let trouble = self.troubles.entry(hosts.to_vec()).or_default();
        let wait = trouble.count(error, wanted.ways).mul_f64(1.0 + random.clamp(0.0, 1.0) / 4.0);
        trouble.until = at.now + wait;
        trouble.is_told = matches!(error, OrderError::RateLimited { .. });
        let trouble = *trouble;
        let refused = match error {
            OrderError::RateLimited { .. } => {
                self.paused_until = at.now + PAUSE.min(wait);
                return wait;
            }
            OrderError::Refused { hosts, .. } => hosts.as_slice(),
            OrderError::NoChallenge { host, .. } => std::slice::from_ref(host),
            _ => return wait,
        };
        if hosts.len() > 1 {
            // What was tried in company counts for each.
            for host in refused {
                self.alone.insert(host.clone());
                self.troubles.insert(vec![host.clone()], trouble);
            }
        }
        wait
    }

    /// Tries again at once what failed, but for what the authority itself asked to wait with: somebody may have mended it.
    pub(crate) fn hurry(&mut self, now: Duration) {
        for trouble in self.troubles.values_mut().filter(|trouble| !trouble.is_told && trouble.failures > 0) {
            trouble.until = now;
        }
    }

    /// Forgets what concerns no host that is wanted.
    pub(crate) fn forget_others(&mut self, listeners: &[Listener]) {
        let wanted: BTreeSet<&String> = listeners.iter().flat_map(|listener| &listener.hosts).collect();
        self.alone.retain(|host| wanted.contains(host));
        self.troubles.retain(|hosts, _| hosts.iter().all(|host| wanted.contains(host)));
    }

    /// How long orders of this host alone wait after failures.
    pub(crate) fn trouble_of(&self, host: &str, now: Duration) -> Duration {
        let of_host = self.troubles.get(&[host.to_owned()][..]).copied().unwrap_or_default();
        of_host.until.max(self.paused_until).saturating_sub(now)
    }
}

impl Trouble {
    /// Counts a failure; how long to wait.
    fn count(&mut self, error: &OrderError, ways: u32) -> Duration {
        match error {
            OrderError::Unreachable(_) | OrderError::Authority(_) | OrderError::TimedOut(_) => {
                self.unreachable += 1;
                doubled(UNREACHABLE, self.unreachable)
            }
            OrderError::RateLimited { after, .. } => after.unwrap_or(RATE_LIMITED.0).min(RATE_LIMITED.1),
            // The next try opens another account.
            OrderError::NoAccount => UNREACHABLE.0,
            OrderError::Refused { .. } | OrderError::NoChallenge { .. } => {
                self.failures += 1;
                if self.failures < ways { OTHER_WAY } else { doubled(REFUSED, self.failures + 1 - ways) }
            }
            OrderError::Account(_) | OrderError::Useless(_) => {
                self.failures += 1;
                doubled(REFUSED, self.failures)
            }
        }
    }
}

/// The wait after so many failures in a row.
fn doubled((first, longest): (Duration, Duration), failures: u32) -> Duration {
    first.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX)).min(longest)
}

#[cfg(test)]
mod tests;

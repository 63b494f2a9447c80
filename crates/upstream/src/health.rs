//! Active checks: every endpoint is asked at intervals, and moves up or down after so many answers in a row.
//!
//! One task checks one endpoint, so that a silent one delays nobody's check but its own. The first check
//! decides alone; after that the thresholds keep one lost packet from moving anything. Intervals differ a
//! little at random, or the checks of a large set would come in beats.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use terrace_runtime::drain::Drain;
use terrace_runtime::{clock, random};
use tokio::task::{AbortHandle, JoinSet};

use crate::config::HealthCheck;
use crate::endpoint::{Endpoint, Health};
use crate::probe::{ProbeError, probe};
use crate::upstream::Upstream;

/// Checks the endpoints of one service until asked to drain; follows publications and reloads. Belongs on the control
/// plane.
pub async fn check(upstream: Arc<Upstream>, mut drain: Drain) {
    let mut changes = upstream.changes();
    let mut checks = Checks::default();
    loop {
        changes.mark_unchanged();
        checks.follow(&upstream);
        tokio::select! {
            () = drain.requested() => return,
            changed = changes.changed() => debug_assert!(changed.is_ok(), "the upstream is held here"),
            Some(_) = checks.tasks.join_next() => {}
        }
    }
}

/// The running tasks. Dropping it ends them all.
#[derive(Default)]
struct Checks {
    law: Option<HealthCheck>,
    tasks: JoinSet<()>,
    /// By the address of the endpoint in memory, which its task holds on to.
    by_endpoint: HashMap<usize, AbortHandle>,
}

impl Checks {
    /// One task for each endpoint, by the law in force.
    fn follow(&mut self, upstream: &Arc<Upstream>) {
        let law = upstream.settings().config.health.clone();
        if self.law != law {
            self.tasks.abort_all();
            self.by_endpoint.clear();
            self.law = law;
        }
        let Some(law) = &self.law else { return };
        let mut still = HashMap::new();
        for endpoint in upstream.endpoints() {
            let key = Arc::as_ptr(&endpoint).addr();
            let task = match self.by_endpoint.remove(&key) {
                Some(task) => task,
                None => self.tasks.spawn(check_one(Arc::clone(upstream), endpoint, law.clone())),
            };
            still.insert(key, task);
        }
        self.by_endpoint.drain().for_each(|(_, task)| task.abort());
        self.by_endpoint = still;
    }
}

async fn check_one(upstream: Arc<Upstream>, endpoint: Arc<Endpoint>, law: HealthCheck) {
    let mut streak = Streak::default();
    // A set that was published at once is not asked at once.
    tokio::time::sleep(share_of(law.interval.min(Duration::from_secs(1)) / 10, random::u64())).await;
    loop {
        let verdict = match ask(&upstream, &endpoint, &law).await {
            Ok(()) => {
                endpoint.metrics.checks_passed.inc();
                (streak.passed(&law, endpoint.health()), String::new())
            }
            Err(error) => {
                endpoint.metrics.checks_failed.inc();
                (streak.failed(&law, endpoint.health()), error.to_string())
            }
        };
        if let (Some(health), detail) = verdict {
            upstream.set_health(&endpoint, health, &detail, clock::now());
        }
        tokio::time::sleep(jittered(law.interval, random::u64())).await;
    }
}

async fn ask(upstream: &Upstream, endpoint: &Endpoint, law: &HealthCheck) -> Result<(), ProbeError> {
    let settings = upstream.settings();
    match tokio::time::timeout(law.timeout, probe(endpoint, &settings, &law.probe)).await {
        Ok(result) => result,
        Err(_) => Err(ProbeError::Timeout),
    }
}

/// Results in a row.
#[derive(Debug, Default)]
struct Streak {
    passed: u32,
    failed: u32,
}

impl Streak {
    /// A check passed; what the endpoint becomes by it, if anything.
    fn passed(&mut self, law: &HealthCheck, health: Health) -> Option<Health> {
        self.failed = 0;
        self.passed = self.passed.saturating_add(1);
        let is_due = match health {
            Health::Up => false,
            Health::Unknown => true,
            Health::Down => self.passed >= law.up.max(1),
        };
        is_due.then_some(Health::Up)
    }

    /// A check failed; what the endpoint becomes by it, if anything.
    fn failed(&mut self, law: &HealthCheck, health: Health) -> Option<Health> {
        self.passed = 0;
        self.failed = self.failed.saturating_add(1);
        let is_due = match health {
            Health::Down => false,
            Health::Unknown => true,
            Health::Up => self.failed >= law.down.max(1),
        };
        is_due.then_some(Health::Down)
    }
}

/// The interval, up to a tenth shorter or longer.
fn jittered(interval: Duration, random: u64) -> Duration {
    interval * 9 / 10 + share_of(interval / 5, random)
}

fn share_of(span: Duration, random: u64) -> Duration {
    span.mul_f64((random >> 11) as f64 / (1_u64 << 53) as f64)
}

#[cfg(test)]
mod tests;

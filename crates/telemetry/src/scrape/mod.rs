//! The app's own metrics, fetched from each of its instances.
//!
//! Orders placed belong beside requests served, so what an app already shows to a Prometheus is fetched as a Prometheus
//! would: each instance for itself, every fifteen seconds, and not all in the same moment. Service and instance are added
//! as labels. What does not answer costs its fetch and nothing else; at most eight are fetched at a time.

mod fetch;
mod kept;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use terrace_instruments::{Event, Level, Log};
use terrace_runtime::clock;
use terrace_runtime::drain::Drain;
use terrace_signals::series::text::{Text, TextBounds};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::{Config, Scrape};
use crate::observatory::{Instance, Observatory};
use fetch::fetch;
use kept::{Of, Outcome};

pub(crate) use kept::Kept;

/// Fetches at a time.
const AT_A_TIME_MAX: usize = 8;
/// A fetch takes no longer, and no longer than the time between two.
const TIMEOUT_MAX: Duration = Duration::from_secs(10);
/// How often it is looked whose turn it is.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Fetches metrics.
#[derive(Debug)]
pub(crate) struct Scraper {
    pub(crate) config: watch::Receiver<Arc<Config>>,
    pub(crate) observatory: Arc<Observatory>,
    pub(crate) log: Log,
}

/// What is known of the fetching of one instance.
#[derive(Debug)]
struct Turn {
    /// When it is fetched next.
    next: Duration,
    is_under_way: bool,
    /// How many fetches in a row have failed.
    failures: u32,
}

/// What is to be fetched.
#[derive(Debug, Clone)]
struct Target {
    of: Of,
    address: SocketAddr,
    path: String,
    every: Duration,
}

/// A fetch that has ended.
type Fetched = (Target, Outcome, Option<String>);

impl Scraper {
    /// Fetches until `drain` is asked for.
    pub(crate) async fn run(self, mut drain: Drain) {
        let mut turns: HashMap<Of, Turn> = HashMap::new();
        let mut under_way: JoinSet<Fetched> = JoinSet::new();
        let mut every = tokio::time::interval(LOOK_EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                () = drain.requested() => return,
                Some(Ok(fetched)) = under_way.join_next() => self.keep(&mut turns, fetched),
                _ = every.tick() => self.look(&mut turns, &mut under_way),
            }
        }
    }

    /// Begins the fetches that are due.
    fn look(&self, turns: &mut HashMap<Of, Turn>, under_way: &mut JoinSet<Fetched>) {
        let targets = targets(&self.config.borrow().scrapes, &self.observatory.instances());
        let is_target = |of: &Of| targets.iter().any(|target| target.of == *of);
        turns.retain(|of, _| is_target(of));
        self.observatory.scraped().retain(is_target);
        let now = clock::now();
        for target in targets {
            let fresh = || Turn { next: Duration::ZERO, is_under_way: false, failures: 0 };
            let turn = turns.entry(target.of.clone()).or_insert_with(fresh);
            if turn.is_under_way || turn.next > now || under_way.len() >= AT_A_TIME_MAX {
                continue;
            }
            turn.is_under_way = true;
            turn.next = next(now, &target);
            under_way.spawn(fetched(target));
        }
    }

    fn keep(&self, turns: &mut HashMap<Of, Turn>, (target, outcome, error): Fetched) {
        // Gone while it was fetched.
        let Some(turn) = turns.get_mut(&target.of) else { return };
        turn.is_under_way = false;
        turn.failures = if error.is_some() { turn.failures.saturating_add(1) } else { 0 };
        // Once is nothing: an instance that is starting does not listen yet. And told once, not at every turn.
        if let Some(error) = error.as_deref().filter(|_| turn.failures == 2) {
            self.tell(&target, error);
        }
        self.observatory.foreign().offer(self.observatory.scraped().put(&target.of, outcome));
    }

    fn tell(&self, target: &Target, error: &str) {
        let (service, instance) = &target.of;
        let event = Event::new(Level::Warn, "metrics.not-fetched").service(&**service).instance(&**instance);
        self.log.emit(event.field("path", target.path.as_str()).field("error", error));
    }
}

async fn fetched(target: Target) -> Fetched {
    let began = clock::now();
    let timeout = target.every.min(TIMEOUT_MAX);
    let read = fetch(target.address, &target.path, TextBounds::default(), timeout).await;
    let took = clock::now().saturating_sub(began);
    match read {
        Ok(mut text) => {
            leave_out_ours(&mut text);
            let (service, instance) = &target.of;
            let added =
                [(Arc::from("instance"), Arc::clone(instance)), (Arc::from("service"), Arc::clone(service))];
            text.add_labels(&added);
            (target, Outcome { text: Some(text), took }, None)
        }
        Err(error) => (target, Outcome { text: None, took }, Some(error.to_string())),
    }
}

/// What begins as our own metrics do is not the app's to say: it would be charted, and judged, as ours.
fn leave_out_ours(text: &mut Text) {
    let before = text.samples();
    text.families.retain(|family| !family.name.starts_with("terrace_"));
    text.dropped += before - text.samples();
}

/// Each instance of each service whose metrics are wanted.
fn targets(scrapes: &[Scrape], instances: &[Instance]) -> Vec<Target> {
    let mut targets = Vec::new();
    for scrape in scrapes {
        for instance in instances.iter().filter(|instance| instance.service == scrape.service) {
            let Some(address) = instance.address else { continue };
            let of = (Arc::clone(&instance.service), Arc::clone(&instance.name));
            targets.push(Target { of, address, path: scrape.path.clone(), every: scrape.every });
        }
    }
    targets
}

/// The instance's own moment in the next interval, so that they are spread over it and each comes at equal intervals,
/// whenever it was first seen.
fn next(now: Duration, target: &Target) -> Duration {
    let every = target.every.max(Duration::from_secs(1));
    let phase = every.mul_f64(share(&target.of));
    let intervals = now.saturating_sub(phase).as_nanos() / every.as_nanos() + 1;
    let next = every.saturating_mul(u32::try_from(intervals).unwrap_or(u32::MAX)) + phase;
    // The first comes at once, whenever that is, and the second must not follow on its heels.
    if next < now + every / 2 { next + every } else { next }
}

/// A number below 1 that is another for each instance: FNV-1a, whose last byte hardly reaches the high bits, through the
/// finaliser of MurmurHash3, so that `orders-1` and `orders-2` are far apart.
fn share((service, instance): &Of) -> f64 {
    let bytes = service.bytes().chain([0]).chain(instance.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    f64::from((mixed >> 32) as u32) / f64::from(u32::MAX).next_up()
}

#[cfg(test)]
mod tests {
    use super::*;
    use terrace_signals::series::text::{Dialect, parse};

    fn target(instance: &str, every_secs: u64) -> Target {
        let address = SocketAddr::from(([127, 0, 0, 1], 9));
        let of = (Arc::from("orders"), Arc::from(instance));
        Target { of, address, path: "/metrics".to_owned(), every: Duration::from_secs(every_secs) }
    }

    #[test]
    fn each_instance_has_a_moment_of_its_own_and_keeps_it() {
        let secs = Duration::from_secs;
        let mut moments = Vec::new();
        for number in 0..15 {
            let target = target(&format!("orders-{number}"), 15);
            let first = next(secs(1_000), &target);
            assert!(first > secs(1_007) && first < secs(1_023), "{first:?}");
            let second = next(first + Duration::from_millis(400), &target);
            assert_eq!(second - first, secs(15));
            moments.push(first.as_secs() % 15);
        }
        moments.sort_unstable();
        moments.dedup();
        assert!(moments.len() > 7, "spread over {moments:?}");
    }

    #[test]
    fn an_app_cannot_speak_in_terraces_name() {
        let body = b"terrace_requests_total{route=\"checkout\",class=\"5xx\"} 9000\norders_placed_total 3\n";
        let mut text = parse(body, Dialect::Prometheus, &TextBounds::default()).unwrap();
        leave_out_ours(&mut text);
        let names: Vec<_> = text.to_samples().iter().map(|sample| sample.name.to_string()).collect();
        assert_eq!((names, text.dropped), (vec!["orders_placed_total".to_owned()], 1));
    }

    #[test]
    fn only_instances_that_listen_and_whose_service_is_asked_for_are_fetched() {
        let instance = |service: &str, address: Option<u16>| Instance {
            service: service.into(),
            name: format!("{service}-1").into(),
            pid: None,
            address: address.map(|port| SocketAddr::from(([127, 0, 0, 1], port))),
        };
        let scrape =
            Scrape { service: "orders".into(), path: "/metrics".to_owned(), every: Duration::from_secs(15) };
        let instances = [instance("orders", Some(1)), instance("orders", None), instance("web", Some(2))];
        let found = targets(&[scrape], &instances);
        assert_eq!(found.iter().map(|target| target.address.port()).collect::<Vec<_>>(), [1]);
    }
}

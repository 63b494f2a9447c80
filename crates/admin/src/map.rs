//! The way of requests as it is now: listeners lead to routes, routes to services, services to instances. The binary
//! fills it once a second; the dashboard and `terrace top` draw it.

use serde::{Deserialize, Serialize};

/// Everything between the clients and the app's processes, with how it is doing.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Map {
    /// Wall time of this reading, seconds since 1970.
    pub at: f64,
    /// Since Terrace was started.
    pub uptime_seconds: u64,
    /// Terrace's version.
    pub version: String,
    /// All requests from outside together.
    pub total: Figures,
    /// Where clients connect, in the order of the file; internal listeners are left out.
    pub listeners: Vec<Listener>,
    /// Ordered by name.
    pub routes: Vec<Route>,
    /// Ordered by name.
    pub services: Vec<Service>,
    /// What goes wrong on purpose now, by route.
    #[serde(default)]
    pub faults: Vec<Fault>,
    /// Alerts that fire now: page, ticket.
    pub alerts_firing: [u32; 2],
    /// Why Terrace is not ready, a sentence each; empty when it is.
    pub not_ready: Vec<String>,
    /// Host: share of all cores in use, 0 to 1.
    pub host_cpu: Option<f64>,
    /// Host: share of memory in use, 0 to 1.
    pub host_memory: Option<f64>,
}

/// How something is doing, over the last ten seconds.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Figures {
    /// Requests a second.
    pub rate: f64,
    /// Share of them that failed (5xx), 0 to 1; `None` without requests.
    pub errors: Option<f64>,
    /// Median in seconds; `None` without requests.
    pub p50: Option<f64>,
    /// 99 of 100 are faster.
    pub p99: Option<f64>,
    /// Being served now.
    pub in_flight: f64,
    /// Requests a second over the last minutes, a point each five seconds, oldest first; at most 60.
    pub spark: Vec<f32>,
}

/// A place where clients connect.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Listener {
    /// Its name in the file.
    pub name: String,
    /// Where it listens, as URLs.
    pub urls: Vec<String>,
    /// Open connections.
    pub connections: f64,
    /// New connections a second.
    pub accepted_rate: f64,
    /// Routes that can be reached through it.
    pub routes: Vec<String>,
}

/// Which requests go where.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Route {
    /// Its name in the file.
    pub name: String,
    /// Its patterns.
    pub at: Vec<String>,
    /// What it does when it leads to no service: `redirect`, `respond`.
    pub action: Option<String>,
    /// Services it leads to, with weights.
    pub to: Vec<(String, u32)>,
    /// Whether it asks who sends a request.
    #[serde(default)]
    pub asks_who: bool,
    /// How often and how many at once: the names of its limits, as their metrics have them.
    #[serde(default)]
    pub limits: Vec<String>,
    /// How it is doing.
    pub figures: Figures,
}

/// Something that goes wrong on purpose.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Fault {
    /// What ends it before its time; nothing for one of the file.
    pub id: Option<u64>,
    /// The route whose requests it falls on.
    pub route: String,
    /// How long they wait.
    pub delay_seconds: Option<f64>,
    /// The status that they are answered with.
    pub abort: Option<u16>,
    /// For how many of them, 0 to 1.
    pub share: f64,
    /// What they must carry, such as `x-test: 1`.
    pub headers: Vec<String>,
    /// When it ends by itself, seconds since 1970.
    pub until: f64,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Service {
    /// Its name in the file.
    pub name: String,
    /// `run`, `worker`, `hosts` or `dns`.
    pub kind: String,
    /// `running`, `starting`, `rolling-out`, `crash-loop` …; for hosts `running` or `unavailable`.
    pub state: String,
    /// Why, where that needs words.
    pub reason: Option<String>,
    /// Instances there shall be; 0 for hosts.
    pub desired: u32,
    /// Ready ones.
    pub ready: u32,
    /// Whether it can be scaled and restarted from here.
    pub is_managed: bool,
    /// How it is doing: attempts as the instances see them; p50 and p99 are of the whole answer, all tries included, as a
    /// route's are.
    pub figures: Figures,
    /// What stands in front of it.
    #[serde(default)]
    pub gate: Gate,
    /// Its instances or hosts.
    pub instances: Vec<Instance>,
}

/// What stands in front of a service: its breaker, its limit, and the line.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Gate {
    /// The breaker is open: whoever asks is told so at once, but for one at a time who finds out whether it is well again.
    pub is_open: bool,
    /// Requests that it is given at once; nothing without a limit.
    pub limit: Option<f64>,
    /// Requests that wait for a place.
    pub waiting: f64,
    /// Requests a second of those who ask, whether they got as far as an instance or not.
    pub asked_rate: f64,
    /// Share of them that were answered with an error (5xx), by whomever; `None` without requests.
    pub asked_errors: Option<f64>,
}

/// An instance, or a host.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Instance {
    /// Such as `orders-1`.
    pub name: String,
    /// Where it takes requests.
    pub address: Option<String>,
    /// Its first process.
    pub pid: Option<i32>,
    /// `ready`, `starting`, `draining`, `waiting`, `crash-loop`; for hosts what checks say: `healthy`, `unhealthy`, `unknown`.
    pub state: String,
    /// Whether requests go there.
    pub in_rotation: bool,
    /// Whether an operator took it out of rotation.
    pub is_drained: bool,
    /// How much longer it is out for failing.
    pub ejected_for_seconds: Option<f64>,
    /// How long its process has run.
    pub uptime_seconds: Option<u64>,
    /// How often it was started again.
    pub restarts: u32,
    /// Cores in use, such as 0.25.
    pub cpu: Option<f64>,
    /// Resident memory of its processes.
    pub memory_bytes: Option<f64>,
    /// How long the last answer that was fine took to its first byte, in seconds.
    pub latency: Option<f64>,
    /// How it is doing; quantiles are the service's business.
    pub figures: Figures,
}

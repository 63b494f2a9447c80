//! A shop that is not there: it remembers how many instances it should have and which are out, and makes up the rest.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::f64::consts::TAU;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use terrace_admin::map::{Fault, Figures, Instance, Listener, Map, Route, Service};
use terrace_admin::{Answer, Control, ControlError, FaultWanted};
use terrace_runtime::{clock, random};
use terrace_signals::alerts::{AlertState, Severity};
use terrace_telemetry::Handle;

/// Route, its pattern, its service, requests a second, p99 in seconds, share of errors.
pub(crate) const ROUTES: &[(&str, &str, &str, f64, f64, f64)] = &[
    ("assets", "shop.example.com/assets/*", "web", 212.0, 0.012, 0.0),
    ("cart", "shop.example.com/cart/*", "cart", 38.0, 0.045, 0.0008),
    ("catalog", "shop.example.com/api/products/*", "catalog", 94.0, 0.085, 0.0004),
    ("checkout", "shop.example.com/checkout/*", "orders", 14.0, 0.42, 0.021),
    ("home", "shop.example.com/*", "web", 61.0, 0.031, 0.0),
    ("orders", "shop.example.com/api/orders/*", "orders", 22.0, 0.17, 0.004),
    ("partners", "partners.example.com/v2/*", "legacy", 3.0, 0.64, 0.0),
];

/// Service, kind, instances, requests a second, p99 in seconds, share of errors.
const SERVICES: &[(&str, &str, u32, f64, f64, f64)] = &[
    ("cart", "run", 2, 38.0, 0.044, 0.0008),
    ("catalog", "run", 3, 94.0, 0.083, 0.0004),
    ("legacy", "hosts", 2, 3.0, 0.63, 0.0),
    ("mailer", "worker", 1, 0.0, 0.0, 0.0),
    ("orders", "run", 4, 36.0, 0.33, 0.012),
    ("payments", "run", 2, 14.0, 0.19, 0.018),
    ("web", "run", 2, 273.0, 0.022, 0.0),
];

/// Points of a spark, five seconds apart.
const SPARK: usize = 60;

pub(crate) struct Shop {
    telemetry: Handle,
    state: Mutex<State>,
}

struct State {
    scale: BTreeMap<&'static str, u32>,
    drained: HashSet<String>,
    sparks: BTreeMap<String, VecDeque<f32>>,
    map: Arc<Map>,
    read_at: u64,
}

impl Shop {
    pub(crate) fn new(telemetry: Handle) -> Self {
        let scale = SERVICES.iter().map(|(name, _, instances, ..)| (*name, *instances)).collect();
        let state = State {
            scale,
            drained: HashSet::new(),
            sparks: BTreeMap::new(),
            map: Arc::default(),
            read_at: 0,
        };
        Self { telemetry, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn firing(&self) -> [u32; 2] {
        let mut firing = [0, 0];
        for alert in self.telemetry.alerts() {
            match (alert.state, alert.severity) {
                (AlertState::Firing, Severity::Page) => firing[0] += 1,
                (AlertState::Firing, Severity::Ticket) => firing[1] += 1,
                _ => {}
            }
        }
        firing
    }

    fn known(&self, service: &str) -> Result<&'static str, ControlError> {
        match SERVICES.iter().find(|(name, ..)| *name == service) {
            Some((name, kind, ..)) if *kind == "run" || *kind == "worker" => Ok(name),
            Some(_) => Err(ControlError::invalid(format!("{service} is not run by Terrace"))),
            None => Err(ControlError::not_found(format!("there is no service {service}"))),
        }
    }
}

/// Load as it comes over a day, squeezed into ten minutes, with noise: about 1.
pub(crate) fn load() -> f64 {
    let at = clock::now().as_secs_f64();
    let noise = (random::u64() >> 11) as f64 / (1u64 << 53) as f64;
    1.0 + 0.35 * (at / 600.0 * TAU).sin() + 0.12 * (at / 47.0 * TAU).sin() + 0.1 * (noise - 0.5)
}

impl State {
    fn figures(&mut self, key: &str, rate: f64, p99: f64, errors: f64) -> Figures {
        let rate = rate * load();
        let spark = self.sparks.entry(key.to_owned()).or_default();
        while spark.len() < SPARK - 1 {
            let at = spark.len() as f64 / 9.0;
            spark.push_back((rate * (1.0 + 0.2 * at.sin() + 0.15 * (load() - 1.0))) as f32);
        }
        if self.read_at.is_multiple_of(5) || spark.len() < SPARK {
            spark.push_back(rate as f32);
        }
        while spark.len() > SPARK {
            spark.pop_front();
        }
        let has = (rate > 0.0).then_some(load());
        Figures {
            rate,
            errors: has.map(|load| errors * load),
            p50: has.map(|load| p99 * 0.22 * load),
            p99: has.map(|load| p99 * load),
            in_flight: (rate * p99 * 0.4).round(),
            spark: spark.iter().copied().collect(),
        }
    }

    fn services(&mut self) -> Vec<Service> {
        SERVICES.iter().map(|row| self.service(row)).collect()
    }

    fn service(&mut self, row: &(&'static str, &str, u32, f64, f64, f64)) -> Service {
        let (name, kind, _, rate, p99, errors) = *row;
        let wanted = self.scale[name];
        let instances: Vec<_> = (1..=wanted).map(|number| self.instance(row, number, wanted)).collect();
        let ready = instances.iter().filter(|instance| instance.in_rotation).count() as u32;
        let (state, reason) = match name {
            "payments" => (
                "crash-loop",
                Some("payments-2 ended 5 times within a minute, the last time with status 1".to_owned()),
            ),
            _ => ("running", None),
        };
        Service {
            name: name.to_owned(),
            kind: kind.to_owned(),
            state: state.to_owned(),
            reason,
            desired: if kind == "hosts" { 0 } else { wanted },
            ready,
            is_managed: kind != "hosts",
            figures: self.figures(&format!("service {name}"), rate, p99, errors),
            instances,
            ..Service::default()
        }
    }

    fn instance(&mut self, row: &(&'static str, &str, u32, f64, f64, f64), number: u32, of: u32) -> Instance {
        let (service, kind, _, rate, p99, errors) = *row;
        let is_host = kind == "hosts";
        let name =
            if is_host { format!("10.0.0.{}:8080", number + 4) } else { format!("{service}-{number}") };
        let is_drained = self.drained.contains(&name);
        let crashes = name == "payments-2";
        let ejected = (name == "orders-3").then_some(17.0);
        let in_rotation = !is_drained && !crashes && ejected.is_none();
        let share = if in_rotation { rate / f64::from(of) } else { 0.0 };
        Instance {
            address: (kind != "worker").then(|| match is_host {
                true => name.clone(),
                false => format!("127.0.0.1:{}", 40_000 + number + service.len() as u32 * 10),
            }),
            pid: (!is_host && !crashes).then_some(4_000 + number as i32 * 7),
            state: match (is_host, crashes) {
                (true, _) => "healthy",
                (_, true) => "crash-loop",
                _ => "ready",
            }
            .to_owned(),
            in_rotation,
            is_drained,
            ejected_for_seconds: ejected,
            uptime_seconds: (!is_host && !crashes).then(|| 86_400 * 3 + clock::now().as_secs()),
            restarts: if crashes { 5 } else { 0 },
            cpu: (!is_host).then(|| share * 0.004 * load()),
            memory_bytes: (!is_host).then_some(9.2e7 + share * 4e5),
            latency: (kind != "worker").then_some(p99 * 0.3),
            figures: self.figures(&format!("instance {name}"), share, p99, errors),
            name,
        }
    }

    fn routes(&mut self) -> Vec<Route> {
        let mut routes: Vec<_> = ROUTES
            .iter()
            .map(|(name, at, to, rate, p99, errors)| Route {
                name: (*name).to_owned(),
                at: vec![(*at).to_owned()],
                action: None,
                to: vec![((*to).to_owned(), 1)],
                figures: self.figures(&format!("route {name}"), *rate, *p99, *errors),
                ..Route::default()
            })
            .collect();
        routes.push(Route {
            name: "to-https".to_owned(),
            at: vec!["*".to_owned()],
            action: Some("redirect".to_owned()),
            to: Vec::new(),
            figures: self.figures("route to-https", 5.0, 0.001, 0.0),
            ..Route::default()
        });
        routes
    }

    fn listeners(&self, routes: &[Route]) -> Vec<Listener> {
        let (plain, secure): (Vec<_>, Vec<_>) =
            routes.iter().map(|route| route.name.clone()).partition(|name| name == "to-https");
        let listener = |name: &str, url: &str, connections: f64, routes| Listener {
            name: name.to_owned(),
            urls: vec![url.to_owned()],
            connections: (connections * load()).round(),
            accepted_rate: connections * 0.11 * load(),
            routes,
        };
        vec![
            listener("plain", "http://0.0.0.0:80", 12.0, plain),
            listener("public", "https://0.0.0.0:443", 384.0, secure),
        ]
    }

    fn read(&mut self, firing: [u32; 2]) -> Arc<Map> {
        let wall = clock::wall().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        if wall.as_secs() == self.read_at {
            return Arc::clone(&self.map);
        }
        self.read_at = wall.as_secs();
        let routes = self.routes();
        let not_ready = vec!["service payments: 1 of 2 instances is ready".to_owned()];
        self.map = Arc::new(Map {
            at: wall.as_secs_f64(),
            uptime_seconds: 3 * 86_400 + clock::now().as_secs(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            total: self.figures("total", 449.0, 0.14, 0.0018),
            listeners: self.listeners(&routes),
            routes,
            services: self.services(),
            faults: Vec::new(),
            alerts_firing: firing,
            not_ready,
            host_cpu: Some(0.34 * load()),
            host_memory: Some(0.61),
        });
        Arc::clone(&self.map)
    }
}

fn done() -> Answer<'static, Value> {
    Box::pin(async { Ok(json!({ "done": true })) })
}

fn refused(error: ControlError) -> Answer<'static, Value> {
    Box::pin(async { Err(error) })
}

impl Control for Shop {
    fn status(&self) -> Answer<'_, Value> {
        done()
    }

    fn config(&self) -> Answer<'_, Value> {
        let services: BTreeMap<_, _> = self
            .state()
            .scale
            .iter()
            .map(|(name, instances)| (*name, json!({ "instances": instances })))
            .collect();
        let config = json!({
            "admin": { "address": "127.0.0.1:9900", "token": "redacted" },
            "listen": { "public": { "address": "0.0.0.0:443", "tls": "files", "key": "redacted" } },
            "service": services,
            "objective": { "checkout": { "route": "checkout", "success": "99.9%", "window": "30d" } },
        });
        Box::pin(async { Ok(config) })
    }

    fn reload(&self, _wait: Option<Duration>) -> Answer<'_, Value> {
        refused(ControlError::invalid("terrace.toml:3:1: unknown key \"rout\"; did you mean \"route\"?"))
    }

    fn scale(&self, service: String, instances: u32) -> Answer<'_, Value> {
        match self.known(&service) {
            Ok(name) => {
                self.state().scale.insert(name, instances);
                done()
            }
            Err(error) => refused(error),
        }
    }

    fn restart(&self, service: String) -> Answer<'_, Value> {
        match self.known(&service) {
            Ok(_) => done(),
            Err(error) => refused(error),
        }
    }

    fn map(&self) -> Answer<'_, Arc<Map>> {
        let map = self.state().read(self.firing());
        Box::pin(async { Ok(map) })
    }

    fn drain(&self, _service: String, instance: String, is_out: bool) -> Answer<'_, Value> {
        let mut state = self.state();
        match is_out {
            true => state.drained.insert(instance),
            false => state.drained.remove(&instance),
        };
        done()
    }

    fn faults(&self) -> Answer<'_, Vec<Fault>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn begin_fault(&self, _wanted: FaultWanted) -> Answer<'_, Fault> {
        Box::pin(async { Err(ControlError::invalid("nothing is broken in a preview")) })
    }

    fn end_faults(&self, _which: String) -> Answer<'_, Vec<Fault>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn keys(&self) -> Answer<'_, Value> {
        Box::pin(async { Ok(json!([])) })
    }

    fn create_key(&self, new: terrace_auth::NewKey) -> Answer<'_, Value> {
        Box::pin(async move { Ok(json!({ "key": "tk_made", "name": new.name })) })
    }

    fn revoke_key(&self, id: String) -> Answer<'_, Value> {
        Box::pin(async move { Ok(json!({ "id": id })) })
    }

    fn stop(&self) -> Answer<'_, Value> {
        refused(ControlError::invalid("a preview is ended with Ctrl-C"))
    }

    fn not_ready(&self) -> Vec<String> {
        Vec::new()
    }
}

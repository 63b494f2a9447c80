//! What can be asked of a running Terrace through the admin API, carried out.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use terrace_admin::map::{Fault, Map};
use terrace_admin::{Answer, Control, ControlError, FaultWanted};
use terrace_auth::{Keys, NewKey};
use terrace_fleet::{Error as FleetError, ServiceState, ServiceStatus};
use terrace_policy::BreakerState;
use terrace_runtime::clock;
use terrace_upstream::EndpointReport;

use crate::api_keys;
use crate::faults;
use crate::file::{self, Source};
use crate::running::{InForce, Origin, Running, UpError};

/// A running Terrace as the admin API sees it.
pub(crate) struct Remote(pub(crate) Arc<Running>);

impl Remote {
    /// Does something with the keys, which waits for the disk.
    fn with_keys(
        &self,
        work: impl FnOnce(&Keys) -> Result<Value, ControlError> + Send + 'static,
    ) -> Answer<'_, Value> {
        let keys = self.0.identity.keys.clone();
        Box::pin(async move {
            let done = tokio::task::spawn_blocking(move || work(&keys)).await;
            done.unwrap_or_else(|_| Err(ControlError::failed("Terrace is ending")))
        })
    }
}

impl Control for Remote {
    fn status(&self) -> Answer<'_, Value> {
        Box::pin(async { Ok(status(&self.0).await) })
    }

    fn config(&self) -> Answer<'_, Value> {
        Box::pin(async { Ok(config(&self.0).await) })
    }

    fn reload(&self, wait: Option<Duration>) -> Answer<'_, Value> {
        Box::pin(async move {
            let changes = self.0.reload().await.map_err(refused)?;
            let summary = file::summary(&changes);
            if let Some(within) = wait {
                let ended = rolled_out(&self.0, within).await;
                ended.map_err(|why| ControlError::failed(format!("{summary}\nit is in force, but {why}")))?;
            }
            let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
            Ok(json!({ "summary": summary, "changes": changes, "rolled_out": wait.map(|_| true) }))
        })
    }

    fn scale(&self, service: String, instances: u32) -> Answer<'_, Value> {
        Box::pin(async move {
            self.0.fleet.scale(&service, instances).await.map_err(fleet_refused)?;
            settled(&self.0, &service).await
        })
    }

    fn restart(&self, service: String) -> Answer<'_, Value> {
        Box::pin(async move {
            self.0.fleet.restart(&service).await.map_err(fleet_refused)?;
            settled(&self.0, &service).await
        })
    }

    fn map(&self) -> Answer<'_, Arc<Map>> {
        Box::pin(async { Ok(Running::map(&self.0).await) })
    }

    fn drain(&self, service: String, instance: String, is_out: bool) -> Answer<'_, Value> {
        Box::pin(async move { drain(&self.0, &service, &instance, is_out) })
    }

    fn faults(&self) -> Answer<'_, Vec<Fault>> {
        Box::pin(async { Ok(faults::list(&self.0.edge.faults())) })
    }

    fn begin_fault(&self, wanted: FaultWanted) -> Answer<'_, Fault> {
        Box::pin(async move { faults::begin(&self.0.edge.faults(), wanted) })
    }

    fn end_faults(&self, which: String) -> Answer<'_, Vec<Fault>> {
        Box::pin(async move { faults::end(&self.0.edge.faults(), &which) })
    }

    fn keys(&self) -> Answer<'_, Value> {
        self.with_keys(api_keys::list)
    }

    fn create_key(&self, new: NewKey) -> Answer<'_, Value> {
        self.with_keys(move |keys| api_keys::create(keys, new))
    }

    fn revoke_key(&self, id: String) -> Answer<'_, Value> {
        self.with_keys(move |keys| api_keys::revoke(keys, &id))
    }

    fn stop(&self) -> Answer<'_, Value> {
        Box::pin(async {
            self.0.stop.request();
            Ok(json!({ "stopping": true }))
        })
    }

    fn not_ready(&self) -> Vec<String> {
        self.0.not_available()
    }
}

fn refused(error: UpError) -> ControlError {
    match error {
        UpError::File(problems) => ControlError::invalid(problems.render(false)),
        error => ControlError::conflict(error.to_string()),
    }
}

fn fleet_refused(error: FleetError) -> ControlError {
    match error {
        FleetError::UnknownService { .. } => ControlError::not_found(error.to_string()),
        FleetError::TooMany { .. } | FleetError::Refused(_) => ControlError::invalid(error.to_string()),
        FleetError::Stopping => ControlError::conflict(error.to_string()),
        FleetError::State { .. } => ControlError::failed(error.to_string()),
    }
}

fn drain(running: &Running, service: &str, instance: &str, is_out: bool) -> Result<Value, ControlError> {
    let in_force = running.in_force();
    let Some(upstream) = running.services.upstream(service) else {
        return Err(match in_force.resolved.services.contains_key(service) {
            true => ControlError::invalid(format!("{service} is a worker: no requests go there anyway")),
            false => {
                let known: Vec<String> = in_force.resolved.services.keys().cloned().collect();
                fleet_refused(FleetError::UnknownService { name: service.to_owned(), services: known })
            }
        });
    };
    let now = clock::now();
    let is_known = upstream.set_drained(instance, is_out, now);
    let endpoints = upstream.report(now);
    match endpoints.iter().find(|endpoint| &*endpoint.name == instance) {
        Some(found) if is_known => Ok(json!({
            "service": service,
            "instance": instance,
            "is_drained": is_out,
            "in_flight": found.in_flight,
            "streams": found.streams,
        })),
        _ => {
            let known: Vec<&str> = endpoints.iter().map(|endpoint| &*endpoint.name).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            Err(ControlError::not_found(format!("{service} has no instance {instance}; it has {known}")))
        }
    }
}

/// Waits until every service is as the file wants it, and says of each that cannot get there, or not in time, why not. All of
/// them, for who follows the file may have taken the change over just before.
async fn rolled_out(running: &Running, within: Duration) -> Result<(), String> {
    let deadline = clock::instant(clock::now() + within);
    let mut failures: Vec<String> = Vec::new();
    for service in running.fleet.status().await.services {
        let name = service.name.clone();
        match tokio::time::timeout_at(deadline, running.fleet.settled(&name)).await {
            // One that was taken out of the file is gone when it is done.
            Ok(None) => {}
            Ok(Some(status)) => match status.state {
                ServiceState::Running | ServiceState::Stopped => {}
                _ => failures.push(format!("service {name}: {}", how(&status))),
            },
            Err(_) => {
                let status = running.fleet.status().await.service(&name).cloned();
                let how = how(&status.unwrap_or(service));
                failures.push(format!("service {name} is not there after {within:?}: {how}"));
            }
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
}

fn how(status: &ServiceStatus) -> String {
    let state = status.state.as_str();
    status.reason.as_ref().map_or_else(|| state.to_owned(), |reason| format!("{state}: {reason}"))
}

/// How a service stands once it is where it was sent, or cannot get there.
async fn settled(running: &Running, service: &str) -> Result<Value, ControlError> {
    let Some(status) = running.fleet.settled(service).await else {
        return Err(ControlError::not_found(format!("the service {service} is gone")));
    };
    match status.reason.clone().filter(|_| status.ready < status.desired || status.reason.is_some()) {
        Some(reason) => Err(ControlError::failed(format!("service {service}: {reason}"))),
        None => Ok(json!(status)),
    }
}

/// What is in force, each value with where it was written, and how the file has moved away from it since.
async fn config(running: &Running) -> Value {
    let in_force = running.in_force();
    let mut shown = (*in_force.written).clone();
    match &running.origin {
        Origin::Command(command) => shown["command"] = json!(command),
        Origin::File(path, env) => {
            shown["file"] = json!({ "path": path, "env": env });
            shown["on_disk"] = on_disk(running.origin.clone(), in_force).await;
        }
    }
    shown
}

/// What a reload would change, or why there would be none. Reading files is not for the control plane's thread.
async fn on_disk(origin: Origin, in_force: Arc<InForce>) -> Value {
    let compare = move || match origin.read() {
        Ok(loaded) => {
            let changes = file::diff(&in_force.resolved, &loaded.resolved);
            json!({ "changes": changes.iter().map(ToString::to_string).collect::<Vec<_>>(), "problem": null })
        }
        Err(UpError::File(problems)) => json!({ "changes": [], "problem": problems.render(false) }),
        Err(error) => json!({ "changes": [], "problem": error.to_string() }),
    };
    tokio::task::spawn_blocking(compare).await.unwrap_or_default()
}

async fn status(running: &Running) -> Value {
    let in_force = running.in_force();
    let fleet = running.fleet.status().await;
    let services: Vec<Value> = in_force
        .resolved
        .services
        .values()
        .map(|service| {
            let internal = in_force.internal.get(&service.name).map(ToString::to_string);
            let endpoints =
                running.services.upstream(&service.name).map(|upstream| upstream.report(clock::now()));
            json!({
                "name": service.name,
                "kind": kind(&service.source),
                "internal": internal,
                "breaker": running.edge.breaker(&service.name, clock::now()).map(BreakerState::as_str),
                "fleet": fleet.service(&service.name),
                "endpoints": endpoints.unwrap_or_default().iter().map(endpoint).collect::<Vec<_>>(),
            })
        })
        .collect();
    let admin = running.admin.get().map(terrace_admin::Handle::addresses);
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "uptime_seconds": clock::now().saturating_sub(running.started_at).as_secs(),
        "listeners": in_force.resolved.listeners.values().map(|found| listener(running, found)).collect::<Vec<_>>(),
        "routes": in_force.resolved.routes.len(),
        "services": services,
        "probes": admin.and_then(|addresses| addresses.probes).map(|address| address.to_string()),
        "dashboard": admin.and_then(|addresses| addresses.loopback).map(|address| format!("http://{address}/")),
        "not_ready": running.not_available(),
        "faults": faults::list(&running.edge.faults()),
    })
}

pub(crate) fn kind(source: &Source) -> &'static str {
    match source {
        Source::Run(program) if program.worker => "worker",
        Source::Run(_) => "run",
        Source::Hosts(_) => "hosts",
        Source::Dns { .. } => "dns",
    }
}

fn listener(running: &Running, listener: &file::Listener) -> Value {
    json!({ "name": listener.name, "urls": running.urls(listener) })
}

fn endpoint(report: &EndpointReport) -> Value {
    json!({
        "name": &*report.name,
        "address": report.address.to_string(),
        "weight": report.weight,
        "health": report.health.as_str(),
        "in_rotation": report.is_candidate,
        "is_drained": report.is_drained,
        "ejected_for_seconds": report.ejected_for.map(|time| time.as_secs_f64()),
        "in_flight": report.in_flight,
        "streams": report.streams,
        "connections": report.connections,
        "failures_in_row": report.failures_in_row,
        "latency_ms": report.latency.map(|latency| latency.as_secs_f64() * 1e3),
    })
}

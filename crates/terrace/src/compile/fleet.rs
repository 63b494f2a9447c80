//! `[service.*]` with `run` for the fleet, with the addresses of its neighbours in its environment.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use terrace_fleet as fleet;
use terrace_policy::{Backoff, RestartLaw};

use crate::file::{EnvValue, Program, ReadyProbe, Resolved, Service, Signal, Source};

/// Where an instance finds others.
pub(crate) struct Neighbours<'a> {
    /// Where each service's internal listener is.
    pub(crate) internal: &'a BTreeMap<String, SocketAddr>,
    /// Where the app's own telemetry is taken in, if anywhere.
    pub(crate) otlp: Option<SocketAddr>,
    /// Whether an instance inherits a variable of this name from Terrace's own environment.
    pub(crate) inherits: &'a dyn Fn(&str) -> bool,
}

/// What the fleet runs.
pub(crate) fn services(resolved: &Resolved, neighbours: &Neighbours<'_>) -> Vec<fleet::ServiceConfig> {
    let run = |service: &Service| match &service.source {
        Source::Run(program) => Some(config(service, program, neighbours)),
        Source::Hosts(_) | Source::Dns { .. } => None,
    };
    resolved.services.values().filter_map(run).collect()
}

fn config(service: &Service, program: &Program, neighbours: &Neighbours<'_>) -> fleet::ServiceConfig {
    fleet::ServiceConfig {
        name: service.name.clone(),
        argv: program.command.clone(),
        release: program.release.clone(),
        instances: program.instances,
        worker: program.worker,
        folder: program.folder.clone(),
        env: environment(service, program, neighbours),
        user: program.user.clone(),
        group: program.group.clone(),
        port_env: program.port_env.clone(),
        ready: fleet::Ready { kind: ready(&program.ready.probe), within: program.ready.within },
        stop: fleet::Stop {
            drain: program.stop.drain,
            streams: program.stop.streams,
            grace: program.stop.grace,
            signal: signal(program.stop.signal),
        },
        restart: RestartLaw {
            backoff: Backoff { from: program.restart.from, to: program.restart.to },
            crash_loop: program.restart.crash_loop_restarts,
            within: program.restart.crash_loop_within,
        },
    }
}

/// Its own variables win over the neighbours' addresses.
fn environment(
    service: &Service,
    program: &Program,
    neighbours: &Neighbours<'_>,
) -> Vec<(String, fleet::Value)> {
    let others = neighbours.internal.iter().filter(|(name, _)| **name != service.name);
    let urls =
        others.map(|(name, address)| (url_variable(name), fleet::Value::Plain(format!("http://{address}"))));
    let own = program.env.iter().map(|(name, value)| (name.clone(), variable(value)));
    let telemetry = telemetry_variables(service, program, neighbours);
    let merged: BTreeMap<String, fleet::Value> = urls.chain(telemetry).chain(own).collect();
    merged.into_iter().collect()
}

const OTLP_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const OTLP_PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";

/// What tells OpenTelemetry in the app where to send, and as whom. Only those that neither the service's `env` nor
/// Terrace's own environment sets: whoever names a collector of their own keeps it, with its protocol.
fn telemetry_variables(
    service: &Service,
    program: &Program,
    neighbours: &Neighbours<'_>,
) -> Vec<(String, fleet::Value)> {
    let Some(address) = neighbours.otlp else { return Vec::new() };
    let is_set = |name: &str| program.env.contains_key(name) || (neighbours.inherits)(name);
    let plain = |text: &str| fleet::Value::Plain(text.to_owned());
    let mut variables = vec![
        ("OTEL_SERVICE_NAME", plain(&service.name)),
        ("OTEL_RESOURCE_ATTRIBUTES", fleet::Value::OfInstance("service.instance.id=".to_owned())),
    ];
    if !is_set(OTLP_ENDPOINT) && !is_set(OTLP_PROTOCOL) {
        variables.push((OTLP_ENDPOINT, plain(&format!("http://{address}"))));
        variables.push((OTLP_PROTOCOL, plain("http/protobuf")));
    } else if !is_set(OTLP_ENDPOINT) {
        // Both protocols are spoken at that address, so the app's choice holds.
        variables.push((OTLP_ENDPOINT, plain(&format!("http://{address}"))));
    }
    let wanted = variables.into_iter().filter(|(name, _)| !is_set(name));
    wanted.map(|(name, value)| (name.to_owned(), value)).collect()
}

/// `PAYMENTS_URL` for `payments`.
fn url_variable(service: &str) -> String {
    format!("{}_URL", service.to_ascii_uppercase().replace('-', "_"))
}

fn variable(value: &EnvValue) -> fleet::Value {
    match value {
        EnvValue::Plain(text) => fleet::Value::Plain(text.clone()),
        EnvValue::Secret(secret) => fleet::Value::Secret(fleet::Secret::new(secret.reveal())),
    }
}

/// What an instance that is ready may answer, as of a health check's default.
const READY_STATUSES: std::ops::RangeInclusive<u16> = 200..=399;

fn ready(probe: &ReadyProbe) -> fleet::ReadyKind {
    match probe {
        ReadyProbe::Http { path } => fleet::ReadyKind::Http { path: path.clone(), status: READY_STATUSES },
        ReadyProbe::Tcp => fleet::ReadyKind::Tcp,
        ReadyProbe::Notify => fleet::ReadyKind::Notify,
        ReadyProbe::Started => fleet::ReadyKind::None,
    }
}

/// signal(7), the numbers of Linux and macOS where they are the same.
fn signal(signal: Signal) -> i32 {
    match signal {
        Signal::Hup => 1,
        Signal::Int => 2,
        Signal::Quit => 3,
        Signal::Term => 15,
        Signal::Usr1 => {
            if cfg!(target_os = "macos") {
                30
            } else {
                10
            }
        }
        Signal::Usr2 => {
            if cfg!(target_os = "macos") {
                31
            } else {
                12
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::{Imagined, load_from};

    /// The variables about telemetry of the service in a file with this `env`.
    fn told(env: &str, inherited: &[&str], otlp: Option<&str>) -> Vec<String> {
        let file = format!("[service.orders]\nrun = \"orders\"\nenv = {{ {env} }}\n");
        let mut world = Imagined::default();
        world.files.insert("terrace.toml".into(), file.into_bytes());
        let resolved = load_from("terrace.toml".as_ref(), None, &world).expect("a good file").resolved;
        let neighbours = Neighbours {
            internal: &BTreeMap::new(),
            otlp: otlp.map(|address| address.parse().expect("an address")),
            inherits: &|name| inherited.contains(&name),
        };
        let services = services(&resolved, &neighbours);
        let env = services[0].env.iter().filter(|(name, _)| name.starts_with("OTEL_"));
        env.map(|(name, value)| format!("{name}={value:?}")).collect()
    }

    const AT: Option<&str> = Some("127.0.0.1:4318");

    #[test]
    fn an_instance_is_told_where_telemetry_goes_and_as_whom() {
        let expected = [
            "OTEL_EXPORTER_OTLP_ENDPOINT=Plain(\"http://127.0.0.1:4318\")",
            "OTEL_EXPORTER_OTLP_PROTOCOL=Plain(\"http/protobuf\")",
            "OTEL_RESOURCE_ATTRIBUTES=OfInstance(\"service.instance.id=\")",
            "OTEL_SERVICE_NAME=Plain(\"orders\")",
        ];
        assert_eq!(told("", &[], AT), expected);
        assert!(told("", &[], None).is_empty(), "nothing is taken in, so nobody is told");
    }

    #[test]
    fn who_names_a_collector_of_their_own_keeps_it_with_its_protocol() {
        let own = told("OTEL_EXPORTER_OTLP_ENDPOINT = \"http://c:4317\"", &[], AT);
        assert!(
            own[0].contains("http://c:4317") && !own.iter().any(|line| line.contains("PROTOCOL")),
            "{own:?}"
        );
        let inherited = told("", &["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_SERVICE_NAME"], AT);
        assert_eq!(inherited, ["OTEL_RESOURCE_ATTRIBUTES=OfInstance(\"service.instance.id=\")"]);
        let protocol = told("OTEL_EXPORTER_OTLP_PROTOCOL = \"grpc\"", &[], AT);
        assert!(
            protocol[0].contains("4318") && protocol[1].contains("grpc"),
            "both are spoken there: {protocol:?}"
        );
    }
}

//! `[otlp]`: traces, metrics and logs of the app's own, taken in, and what goes on to a collector.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::contact::{FieldsTable, HttpUrl};
use super::problem::Finding;
use super::read::{Read, Reader, choice, table};
use super::service::EnvValue;
use super::spec::Shape;
use super::tree::{Node, Value};

table! {
    /// OpenTelemetry: what the app itself measures is taken in, and what is known can be sent on to a collector.
    pub(crate) struct OtlpTable {
        /// Take in the app's own traces, metrics and logs (OTLP over gRPC and HTTP, on one port). `true`: at a free port of
        /// loopback, kept over restarts; or a loopback address. Each instance finds it in `OTEL_EXPORTER_OTLP_ENDPOINT`,
        /// beside `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`, unless its `env` says otherwise. `false`: off.
        "receive" receive: ReceiveSetting = true, example "127.0.0.1:4318";
        /// Send on to a collector. When it is away, what it does not take is dropped and counted.
        "export" export: Option<ExportTable>, example { to = "http://collector:4318" };
    }
}

table! {
    /// A collector that takes OTLP.
    pub(crate) struct ExportTable {
        /// Where it is. For `http` the paths (`/v1/traces` …) are added.
        "to" to: HttpUrl, example "http://collector:4318";
        /// How it is spoken to.
        "protocol" protocol: ExportProtocol = "http";
        /// Headers of each request: texts or secrets.
        "headers" headers: FieldsTable = {}, example { Authorization = { env = "COLLECTOR_TOKEN" } };
        /// What is sent.
        "signals" signals: Vec<ExportSignal> = ["traces"], example ["traces", "metrics", "logs"];
    }
}

choice! {
    /// How a collector is spoken to.
    pub enum ExportProtocol {
        /// OTLP over HTTP, as binary protobuf.
        "http" Http,
        /// OTLP over gRPC.
        "grpc" Grpc,
    }
}

choice! {
    /// A kind of telemetry.
    pub enum ExportSignal {
        /// Kept traces.
        "traces" Traces,
        /// All metrics, each minute.
        "metrics" Metrics,
        /// Events, and what the app logs.
        "logs" Logs,
    }
}

/// `receive` as written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ReceiveSetting {
    Switch(bool),
    At(SocketAddr),
}

impl Read for ReceiveSetting {
    fn shape() -> Shape {
        Shape::Either(vec![Shape::Boolean, SocketAddr::shape()])
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            Value::Boolean(flag) => Some(Self::Switch(*flag)),
            Value::Text(text) if text == "true" || text == "false" => reader.unexpected(
                node,
                "`true`, `false` or an address",
                Some("without the quotes".to_owned()),
            ),
            Value::Text(_) => Some(Self::At(SocketAddr::read(node, reader)?)),
            _ => reader.unexpected(node, "`true`, `false` or an address like \"127.0.0.1:4318\"", None),
        }
    }
}

/// What is taken in and sent on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Otlp {
    /// Where the app's own is taken in, on loopback; port 0: a free one. `None`: nowhere.
    pub receive: Option<SocketAddr>,
    /// The collector, if any.
    pub export: Option<OtlpExport>,
}

/// A collector that takes OTLP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpExport {
    /// Its URL, without a slash at the end.
    pub to: String,
    /// How it is spoken to.
    pub protocol: ExportProtocol,
    /// Headers of each request.
    pub headers: BTreeMap<String, EnvValue>,
    /// What is sent; never empty.
    pub signals: Vec<ExportSignal>,
}

impl OtlpExport {
    /// Whether what is sent arrives at a socket bound to `address`, as far as that can be told from the URL.
    pub fn leads_to(&self, address: SocketAddr) -> bool {
        let (scheme, rest) = self.to.split_once("://").unwrap_or_default();
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        let port = if scheme == "https" { 443 } else { 80 };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, digits)) if !digits.ends_with(']') => (host, digits.parse().unwrap_or(port)),
            _ => (authority, port),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let is_host = match host.parse::<IpAddr>() {
            Ok(ip) => ip.to_canonical() == address.ip().to_canonical(),
            Err(_) => host.eq_ignore_ascii_case("localhost") && address.ip().is_loopback(),
        };
        is_host && port == address.port()
    }
}

pub(crate) fn resolve(node: &Node, reader: &mut Reader<'_>) -> Option<Otlp> {
    let export_node = node.get("export");
    let table = OtlpTable::read(node, reader)?;
    let receive = resolve_receive(table.receive, node, reader);
    let export = match (table.export, export_node) {
        (Some(export), Some(node)) => resolve_export(export, node, reader).map(Some),
        _ => Some(None),
    };
    let otlp = Otlp { receive: receive?, export: export? };
    check_loop(&otlp, node, reader)?;
    Some(otlp)
}

/// Refuses to send to ourselves what we would take for the app's own, and send again.
fn check_loop(otlp: &Otlp, node: &Node, reader: &mut Reader<'_>) -> Option<()> {
    let (Some(receive), Some(export)) = (otlp.receive, &otlp.export) else { return Some(()) };
    if !export.leads_to(receive) {
        return Some(());
    }
    let to = node.get("export").map_or(node.origin, |export| export.origin_of("to"));
    let message = format!("{receive} is Terrace itself: what it sends would come in again");
    let finding = Finding::new(to, message).help("name the collector's address");
    reader.refuse(finding.other(node.origin_of("receive"), "the app's own telemetry is taken in here"))
}

fn resolve_receive(
    setting: ReceiveSetting,
    node: &Node,
    reader: &mut Reader<'_>,
) -> Option<Option<SocketAddr>> {
    match setting {
        ReceiveSetting::Switch(false) => Some(None),
        ReceiveSetting::Switch(true) => Some(Some(SocketAddr::from(([127, 0, 0, 1], 0)))),
        ReceiveSetting::At(address) if address.ip().is_loopback() => Some(Some(address)),
        ReceiveSetting::At(address) => {
            let message = "OTLP is taken in on loopback only: nobody is asked who they are";
            let finding = Finding::new(node.origin_of("receive"), message);
            reader.refuse(finding.help(format!("write \"127.0.0.1:{}\"", address.port())))
        }
    }
}

fn resolve_export(table: ExportTable, node: &Node, reader: &mut Reader<'_>) -> Option<OtlpExport> {
    if table.signals.is_empty() {
        let finding = Finding::new(node.origin_of("signals"), "nothing is sent with an empty list");
        return reader
            .refuse(finding.help("leave `export` out, or name \"traces\", \"metrics\" or \"logs\""));
    }
    let headers = table.headers.resolve(node.get("headers"), reader)?;
    let to = table.to.0.trim_end_matches('/').to_owned();
    Some(OtlpExport { to, protocol: table.protocol, headers, signals: table.signals })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_known_under_each_of_its_names() {
        let leads = |to: &str, address: &str| {
            let export = OtlpExport {
                to: to.to_owned(),
                protocol: ExportProtocol::Http,
                headers: BTreeMap::new(),
                signals: vec![ExportSignal::Traces],
            };
            export.leads_to(address.parse().unwrap())
        };
        for (to, address) in [
            ("http://127.0.0.1:4318", "127.0.0.1:4318"),
            ("http://LOCALHOST:4318/otlp", "127.0.0.1:4318"),
            ("http://localhost:4318", "[::1]:4318"),
            ("http://[::1]:4318", "[::1]:4318"),
            ("http://[::1]", "[::1]:80"),
            ("https://localhost?a", "127.0.0.1:443"),
        ] {
            assert!(leads(to, address), "{to} {address}");
        }
        for (to, address) in [
            ("http://127.0.0.1:4317", "127.0.0.1:4318"),
            ("http://127.0.0.2:4318", "127.0.0.1:4318"),
            ("http://collector:4318", "127.0.0.1:4318"),
            ("http://[::1]", "[::1]:1"),
        ] {
            assert!(!leads(to, address), "{to} {address}");
        }
    }
}

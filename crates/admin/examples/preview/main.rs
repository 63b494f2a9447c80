//! The dashboard without a Terrace behind it: a made-up shop under made-up load, to look at pages while they are made.
//!
//! `cargo run -p terrace-admin --example preview [address]` prints where to go; it ends with Ctrl-C and leaves nothing.
//! What is real: the admin API, the dashboard, telemetry. What is not: the shop, whose routes, services and instances live
//! in `shop.rs` and obey (scale, drain, restart), and the requests, which `traffic.rs` only counts, logs and traces.

mod shop;
mod traffic;

use std::error::Error;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use terrace_admin::{Admin, Config, Loopback, Token, client};
use terrace_instruments::Meter;
use terrace_runtime::drain;
use terrace_signals::alerts::{LatencyGoal, Objective, Severity, Subject, Threshold};
use terrace_signals::series::{Measure, Query, Selector};
use terrace_telemetry::{Destination, Receiver, Secret, Telemetry, Traces, Way};

const TOKEN: &str = "preview-operator-token";
const VIEWER_TOKEN: &str = "preview-viewer-token";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let state = std::env::temp_dir().join(format!("terrace-preview-{}", std::process::id()));
    let meter = Meter::new(1);
    let telemetry = Telemetry::build(seen(), meter.clone())?;
    let shop = Arc::new(shop::Shop::new(telemetry.handle()));
    let loopback =
        Loopback::new(address.parse()?, Token::new(TOKEN)?)?.with_viewer_token(Token::new(VIEWER_TOKEN)?);
    let config = Config { state: state.clone(), loopback: Some(loopback), probes: None };
    let admin = Admin::build(config, shop.clone(), telemetry.handle(), telemetry.log())?;
    let (drainer, drain) = drain::channel();
    let bound = admin.handle().addresses().loopback;
    let running = tokio::spawn(admin.run(drain.clone()));
    tokio::spawn(telemetry.handle().run(drain.clone()));
    tokio::spawn(traffic::run(meter, telemetry.log(), telemetry.tracer(), drain));
    let role = serde_json::json!({ "role": "operator" });
    let code = client::request(&client::socket_path(&state), "POST", "/v1/login-code", Some(&role)).await?;
    if let Some(bound) = bound {
        say(&format!(
            "http://{bound}/ with token {TOKEN} or {VIEWER_TOKEN}; within a minute: {}",
            code["url"]
        ));
    }
    tokio::signal::ctrl_c().await?;
    drainer.request();
    running.await?;
    telemetry.stop();
    Ok(fs::remove_dir_all(state)?)
}

#[expect(clippy::print_stdout, reason = "this program speaks to whoever started it")]
fn say(line: &str) {
    println!("{line}");
}

/// What telemetry keeps: everything, and writes nothing.
fn seen() -> terrace_telemetry::Config {
    terrace_telemetry::Config {
        events: Destination::Off,
        access: Destination::Off,
        traces: Traces { on: true, sample: 1.0, slow: Duration::from_millis(400) },
        objectives: vec![
            objective("checkout", "checkout", 0.999, 300, 0.99),
            objective("catalog", "catalog", 0.9995, 150, 0.999),
        ],
        thresholds: vec![payments_slow()],
        receivers: vec![webhook("oncall", Severity::Page), command("team", Severity::Ticket)],
        ..Default::default()
    }
}

fn objective(name: &str, route: &str, success: f64, under_ms: u64, share: f64) -> Objective {
    Objective {
        name: name.to_owned(),
        subject: Subject::Route(route.to_owned()),
        success: Some(success),
        latency: Some(LatencyGoal { under: Duration::from_millis(under_ms), share }),
        window: Duration::from_secs(30 * 86_400),
        notify: Vec::new(),
    }
}

fn payments_slow() -> Threshold {
    let name = "terrace_upstream_first_byte_seconds".to_owned();
    let labels = vec![("service".to_owned(), "payments".to_owned())];
    Threshold {
        name: "payments-slow".to_owned(),
        query: Query {
            selector: Selector { name, labels },
            measure: Measure::Mean,
            last: Duration::from_secs(15),
            by: None,
        },
        above: Some(0.08),
        below: None,
        hold: Duration::from_secs(10),
        severity: Severity::Ticket,
        notify: Vec::new(),
    }
}

/// Port 9 is "discard" (RFC 863): what nobody listens at.
fn webhook(name: &str, severity_min: Severity) -> Receiver {
    let url = Secret("http://127.0.0.1:9/alerts".to_owned());
    receiver(name, Way::Webhook { url, headers: Vec::new() }, severity_min)
}

fn command(name: &str, severity_min: Severity) -> Receiver {
    receiver(name, Way::Command(vec!["cat".to_owned()]), severity_min)
}

fn receiver(name: &str, way: Way, severity_min: Severity) -> Receiver {
    Receiver {
        name: name.to_owned(),
        way,
        severity_min,
        resolved: true,
        group_wait: Duration::from_secs(10),
        repeat: Duration::from_secs(4 * 3_600),
    }
}

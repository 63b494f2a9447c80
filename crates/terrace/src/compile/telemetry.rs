//! `[log]`, `[trace]`, `[otlp]`, `[objective.*]`, `[alert.*]`, `[notify.*]` and what services say of their metrics, for
//! telemetry. How lines look on a terminal is not the file's business, it comes from the command line.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use terrace_instruments::{AccessSettings, Level};
use terrace_telemetry as telemetry;
use terrace_telemetry::{Config, Destination, Rotation, Secret, Style};

use crate::file::{
    EnvValue, ExportProtocol, ExportSignal, LogTo, OtlpExport, Receiver, Resolved, Rotate, Service, Trace,
    Way,
};

/// What is kept, where it goes, and whom it calls. `receive`: where the app's own telemetry is taken in, a true port.
pub(crate) fn config(resolved: &Resolved, style: Style, receive: Option<SocketAddr>, state: &Path) -> Config {
    let log = &resolved.log;
    Config {
        events: destination(&log.events_to),
        level: Level::Info,
        access: destination(&log.access_to),
        access_settings: AccessSettings {
            on: log.access_to != LogTo::Off,
            sample: log.access_share,
            ..AccessSettings::default()
        },
        style,
        rotation: rotation(log.events_rotate),
        access_rotation: rotation(log.access_rotate),
        records_bytes_max: usize::try_from(log.kept_bytes_max).unwrap_or(usize::MAX),
        traces: traces(resolved.trace),
        export: resolved.otlp.export.as_ref().map(export),
        receive,
        scrapes: resolved.services.values().filter_map(scrape).collect(),
        objectives: resolved.objectives.values().cloned().collect(),
        thresholds: resolved.alerts.values().cloned().collect(),
        receivers: resolved.receivers.values().map(receiver).collect(),
        state: Some(state.to_owned()),
    }
}

fn destination(to: &LogTo) -> Destination {
    match to {
        LogTo::Stdout => Destination::Stdout,
        LogTo::Stderr => Destination::Stderr,
        LogTo::Off => Destination::Off,
        LogTo::File(path) => Destination::File(path.clone()),
    }
}

fn rotation(rotate: Option<Rotate>) -> Rotation {
    match rotate {
        Some(rotate) => Rotation {
            bytes_max: rotate.bytes_max.unwrap_or(0),
            age_max: rotate.age_max,
            files_kept_max: rotate.files_kept_max,
        },
        None => Rotation { bytes_max: 0, age_max: None, files_kept_max: 0 },
    }
}

fn traces(trace: Trace) -> telemetry::Traces {
    telemetry::Traces {
        on: trace.sample_share.is_some(),
        sample: trace.sample_share.unwrap_or(0.0),
        slow: trace.slow,
    }
}

fn export(export: &OtlpExport) -> telemetry::Export {
    let sends = |signal: ExportSignal| export.signals.contains(&signal);
    telemetry::Export {
        url: export.to.clone(),
        protocol: match export.protocol {
            ExportProtocol::Http => telemetry::ExportProtocol::Http,
            ExportProtocol::Grpc => telemetry::ExportProtocol::Grpc,
        },
        headers: headers(&export.headers),
        traces: sends(ExportSignal::Traces),
        metrics: sends(ExportSignal::Metrics),
        logs: sends(ExportSignal::Logs),
    }
}

fn headers(headers: &BTreeMap<String, EnvValue>) -> Vec<(String, Secret)> {
    headers.iter().map(|(name, value)| (name.clone(), secret(value))).collect()
}

fn secret(value: &EnvValue) -> Secret {
    Secret(value.reveal().to_owned())
}

fn scrape(service: &Service) -> Option<telemetry::Scrape> {
    let metrics = service.metrics.as_ref()?;
    Some(telemetry::Scrape {
        service: service.name.as_str().into(),
        path: metrics.path.clone(),
        every: metrics.every,
    })
}

fn receiver(receiver: &Receiver) -> telemetry::Receiver {
    telemetry::Receiver {
        name: receiver.name.clone(),
        way: way(&receiver.way),
        severity_min: receiver.severity_min,
        resolved: receiver.resolved,
        group_wait: receiver.group_wait,
        repeat: receiver.repeat,
    }
}

fn way(way: &Way) -> telemetry::Way {
    let reveal = |secret: &crate::file::Secret| Secret(secret.reveal().to_owned());
    match way {
        Way::Webhook { url, headers: fields } => {
            telemetry::Way::Webhook { url: secret(url), headers: headers(fields) }
        }
        Way::Slack { url } => telemetry::Way::Slack { url: reveal(url) },
        Way::Email { server, login, from, to } => telemetry::Way::Email {
            server: server.clone(),
            login: login.as_ref().map(|(user, password)| (user.clone(), reveal(password))),
            from: from.clone(),
            to: to.clone(),
        },
        Way::Command(words) => telemetry::Way::Command(words.clone()),
    }
}

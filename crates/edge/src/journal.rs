//! What is noted of a request while it is served, for the access log and the metrics at its end.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, SystemTime};

use terrace_http::RequestHead;
use terrace_instruments::{AccessRecord, Gauge, Log};
use terrace_runtime::clock;

use crate::metrics::RouteMetrics;
use crate::problem::{Fault, Problem};

/// The outcome of a request that went well.
const OK: &str = "ok";

/// Notes on one request.
#[derive(Debug)]
pub(crate) struct Journal<'a> {
    began: Duration,
    /// Only when somebody will read them.
    line: Option<Line>,
    metrics: Option<&'a RouteMetrics>,
    in_flight: Option<InFlight<'a>>,
    route: &'a str,
    service: &'a str,
    pub(crate) status: u16,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) tries: u32,
    outcome: Cow<'static, str>,
}

/// Counts a request as being served until this is dropped, however its task ends.
#[derive(Debug)]
struct InFlight<'a>(&'a Gauge);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.sub(1);
    }
}

/// What only the access log shows.
#[derive(Debug)]
struct Line {
    time: SystemTime,
    client: IpAddr,
    method: String,
    host: String,
    target: String,
    protocol: &'static str,
    request_id: String,
    instance: String,
}

impl<'a> Journal<'a> {
    pub(crate) fn begin(log: &Log, head: &RequestHead) -> Self {
        let line = log.access_on().then(|| Line {
            time: clock::wall(),
            client: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            method: head.method.as_str().to_owned(),
            host: head.host().to_owned(),
            target: head.target().to_owned(),
            protocol: protocol(head),
            request_id: String::new(),
            instance: String::new(),
        });
        Self {
            began: clock::now(),
            line,
            metrics: None,
            in_flight: None,
            route: "",
            service: "",
            status: 0,
            bytes_in: 0,
            bytes_out: 0,
            tries: 0,
            outcome: Cow::Borrowed(OK),
        }
    }

    /// When the request's head was complete.
    pub(crate) fn began(&self) -> Duration {
        self.began
    }

    pub(crate) fn asked_by(&mut self, address: IpAddr, request_id: &str) {
        if let Some(line) = &mut self.line {
            line.client = address;
            request_id.clone_into(&mut line.request_id);
        }
    }

    pub(crate) fn routed(&mut self, route: &'a str, metrics: &'a RouteMetrics) {
        self.route = route;
        self.metrics = Some(metrics);
        metrics.in_flight.add(1);
        self.in_flight = Some(InFlight(&metrics.in_flight));
    }

    pub(crate) fn sent_to(&mut self, service: &'a str, instance: &str) {
        self.service = service;
        self.tries += 1;
        if let Some(line) = &mut self.line {
            instance.clone_into(&mut line.instance);
        }
    }

    /// Terrace answers itself.
    pub(crate) fn answered_with(&mut self, problem: &Problem) {
        self.status = problem.status;
        self.outcome = Cow::Owned(problem.outcome());
        if let Some(metrics) = self.metrics {
            metrics.faults[match problem.fault {
                Fault::Client => 0,
                Fault::Upstream => 1,
                Fault::Terrace => 2,
            }]
            .inc();
        }
    }

    /// It ended in another way than it should.
    pub(crate) fn ended(&mut self, outcome: &'static str) {
        self.outcome = Cow::Borrowed(outcome);
    }

    /// Tells metrics and log.
    pub(crate) fn close(self, log: &Log, listener: &str) {
        let duration = clock::now().saturating_sub(self.began);
        if let Some(metrics) = self.metrics {
            metrics.answered(self.status);
            metrics.duration.record(duration);
        }
        let Some(line) = &self.line else { return };
        log.access(&AccessRecord {
            time: line.time,
            listener,
            client: line.client,
            method: &line.method,
            host: &line.host,
            path: &line.target,
            protocol: line.protocol,
            status: self.status,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            duration,
            route: self.route,
            service: self.service,
            instance: &line.instance,
            tries: self.tries,
            request_id: &line.request_id,
            outcome: &self.outcome,
        });
    }
}

fn protocol(head: &RequestHead) -> &'static str {
    match head.version {
        terrace_http::Version::Http10 => "HTTP/1.0",
        terrace_http::Version::Http11 => "HTTP/1.1",
        terrace_http::Version::Http2 => "HTTP/2",
    }
}

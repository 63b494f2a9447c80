//! Requests that nobody sends: counted, logged and traced as Terrace and a shop would.

use std::time::Duration;

use terrace_instruments::{
    Counter, Event, Family, Gauge, Histogram, Kind, Level, Log, Meter, Span, SpanId, SpanKind, SpanStatus,
    TraceId, Tracer, Value,
};
use terrace_runtime::drain::Drain;
use terrace_runtime::{clock, random};

use crate::shop::{ROUTES, load};

/// How often the made-up requests of the last moment are told.
const EVERY: Duration = Duration::from_millis(100);

static REQUESTS: Family = family("terrace_requests", "", &["route", "class"], Kind::Counter);
static DURATION: Family = family("terrace_request_duration", "seconds", &["route"], Kind::Histogram);
static IN_FLIGHT: Family = family("terrace_requests_in_flight", "", &["route"], Kind::Gauge);
static ATTEMPTS: Family =
    family("terrace_upstream_requests_total", "", &["service", "endpoint", "outcome"], Kind::Counter);
static FIRST_BYTE: Family = family("terrace_upstream_first_byte_seconds", "", &["service"], Kind::Histogram);

const fn family(
    name: &'static str,
    unit: &'static str,
    labels: &'static [&'static str],
    kind: Kind,
) -> Family {
    Family { name, help: "Made up.", unit, labels, kind }
}

/// One route's made-up requests.
struct Route {
    name: &'static str,
    service: &'static str,
    rate: f64,
    p99: f64,
    errors: f64,
    owed: f64,
    good: Counter,
    bad: Counter,
    duration: Histogram,
    in_flight: Gauge,
    attempts: Counter,
    failures: Counter,
    first_byte: Histogram,
}

impl Route {
    fn new(meter: &Meter, row: &(&'static str, &str, &'static str, f64, f64, f64)) -> Self {
        let (name, _, service, rate, p99, errors) = *row;
        let endpoint = format!("{service}-1");
        Self {
            name,
            service,
            rate,
            p99,
            errors,
            owed: 0.0,
            good: meter.counter(&REQUESTS, &[name, "2xx"]),
            bad: meter.counter(&REQUESTS, &[name, "5xx"]),
            duration: meter.histogram(&DURATION, &[name]),
            in_flight: meter.gauge(&IN_FLIGHT, &[name]),
            attempts: meter.counter(&ATTEMPTS, &[service, &endpoint, "ok"]),
            failures: meter.counter(&ATTEMPTS, &[service, &endpoint, "error"]),
            first_byte: meter.histogram(&FIRST_BYTE, &[service]),
        }
    }

    /// Quantiles of an exponential distribution with this p99: ln 100 is 4.6.
    fn duration(&self) -> Duration {
        Duration::from_secs_f64((-(1.0 - share()).ln() / 4.6 * self.p99).clamp(0.0003, 10.0))
    }

    fn request(&self, log: &Log, tracer: &Tracer) {
        let (duration, failed) = (self.duration(), share() < self.errors);
        self.duration.record(duration);
        self.first_byte.record(duration.mul_f64(0.8));
        if failed {
            self.bad.inc()
        } else {
            self.good.inc()
        }
        if failed {
            self.failures.inc()
        } else {
            self.attempts.inc()
        }
        let traced = failed || share() < 0.01;
        let trace = TraceId(u128::from(random::u64()) << 64 | u128::from(random::u64() | 1));
        if traced {
            tracer.keep(self.spans(trace, duration, failed));
        }
        if failed {
            log.emit(self.failure(trace));
        } else if share() < 0.01 {
            log.emit(self.chatter());
        }
    }

    fn failure(&self, trace: TraceId) -> Event {
        Event::new(Level::Error, "payment.failed")
            .service(self.service)
            .instance(format!("{}-1", self.service))
            .trace(trace)
            .message("payment provider answered 502 Bad Gateway; <b>gave up</b> after 2 tries")
            .field("order", random::u64() % 100_000)
            .field("provider", "acme-pay")
    }

    fn chatter(&self) -> Event {
        let (level, text) = match random::u64() % 4 {
            0 => (Level::Debug, "cache refreshed: 1,204 entries in 8 ms"),
            1 => (Level::Warn, "slow query: 412 ms for select * from orders where customer = $1"),
            _ => (Level::Info, "order placed"),
        };
        Event::new(level, "shop.said")
            .service(self.service)
            .instance(format!("{}-{}", self.service, 1 + random::u64() % 2))
            .message(text)
            .field("customer", random::u64() % 1_000)
    }

    /// The way of one request: accepted, routed, tried (twice, when it failed), answered.
    fn spans(&self, trace: TraceId, duration: Duration, failed: bool) -> Vec<Span> {
        let start = clock::wall() - duration;
        let root = SpanId(random::u64() | 1);
        let status = if failed { SpanStatus::Error } else { SpanStatus::Unset };
        let code: Value = if failed { 502.into() } else { 200.into() };
        let span = |name: &str, parent, from: f64, share: f64, kind, status| Span {
            trace,
            id: if parent == Some(root) { SpanId(random::u64() | 1) } else { root },
            parent,
            name: name.to_owned().into(),
            kind,
            service: "terrace".into(),
            instance: "".into(),
            start: start + duration.mul_f64(from),
            duration: duration.mul_f64(share),
            status,
            attributes: Vec::new(),
        };
        let mut first = span(&format!("GET {}", self.name), None, 0.0, 1.0, SpanKind::Server, status);
        first.attributes = vec![
            ("http.route".into(), self.name.into()),
            ("http.response.status_code".into(), code),
            ("server.address".into(), "shop.example.com".into()),
        ];
        let internal = SpanKind::Internal;
        let mut spans =
            vec![first, span("wait for admission", Some(root), 0.0, 0.03, internal, SpanStatus::Unset)];
        let tries = if failed { 2 } else { 1 };
        for number in 0..tries {
            let from = 0.05 + 0.45 * f64::from(number);
            let name = format!("try {}", number + 1);
            let share = if failed { 0.42 } else { 0.9 };
            spans.push(span(&name, Some(root), from, share, SpanKind::Client, status));
            spans.push(span("connect", Some(root), from, 0.04, internal, SpanStatus::Unset));
            spans.push(span("first byte", Some(root), from + 0.05, share * 0.8, internal, SpanStatus::Unset));
            let mut theirs =
                span("handle order", Some(root), from + 0.06, share * 0.75, SpanKind::Server, status);
            theirs.service = self.service.into();
            theirs.instance = format!("{}-{}", self.service, number + 1).into();
            spans.push(theirs);
        }
        spans
    }
}

fn share() -> f64 {
    (random::u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// Makes requests up until `drain` is asked for.
pub(crate) async fn run(meter: Meter, log: Log, tracer: Tracer, mut drain: Drain) {
    let mut routes: Vec<_> = ROUTES.iter().map(|row| Route::new(&meter, row)).collect();
    let mut every = tokio::time::interval(EVERY);
    loop {
        tokio::select! {
            () = drain.requested() => return,
            _ = every.tick() => {}
        }
        for route in &mut routes {
            route.owed += route.rate * load() * EVERY.as_secs_f64();
            route.in_flight.set((route.rate * route.p99) as i64);
            while route.owed >= 1.0 {
                route.owed -= 1.0;
                route.request(&log, &tracer);
            }
        }
    }
}

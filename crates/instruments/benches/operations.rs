//! What one operation on a metric costs, beside a bare relaxed add on an `AtomicU64`, uncontended.
//!
//! `operations --times` prints nanoseconds of each as JSON: the four take turns in short rounds, and the fastest round of
//! each counts, since noise only ever adds. `operations counter 1000000` makes so many of one kind and prints nothing: for
//! callgrind. `operations loop 1000000` makes none as often: what is left of a price without it is the operation's own.
//! `bench/telemetry_cost.py` runs both.
#![expect(clippy::print_stdout, reason = "a bench says what it measured")]

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use terrace_instruments::{Counter, Family, Gauge, Histogram, Kind, Meter};

const ROUNDS: usize = 400;
const OPERATIONS_PER_ROUND: u64 = 50_000;

static COUNTER: Family = family("bench_counter", Kind::Counter);
static GAUGE: Family = family("bench_gauge", Kind::Gauge);
static HISTOGRAM: Family = family("bench_histogram", Kind::Histogram);

const fn family(name: &'static str, kind: Kind) -> Family {
    Family { name, help: "", unit: "", labels: &[], kind }
}

struct Subjects {
    bare: AtomicU64,
    counter: Counter,
    gauge: Gauge,
    histogram: Histogram,
}

const NAMES: [&str; 4] = ["bare", "counter", "gauge", "histogram"];

impl Subjects {
    fn run(&self, name: &str, times: u64) {
        match name {
            "counter" => (0..times).for_each(|_| black_box(&self.counter).inc()),
            "gauge" => (0..times).for_each(|_| black_box(&self.gauge).add(1)),
            "histogram" => {
                (0..times).for_each(|micros| {
                    black_box(&self.histogram).record(Duration::from_micros(micros & 1_023))
                });
            }
            "loop" => (0..times).for_each(|_| {
                black_box(&self.bare);
            }),
            _ => (0..times).for_each(|_| {
                black_box(&self.bare).fetch_add(1, Relaxed);
            }),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
    fn nanoseconds(&self, name: &str) -> f64 {
        let began = Instant::now();
        self.run(name, OPERATIONS_PER_ROUND);
        began.elapsed().as_nanos() as f64 / OPERATIONS_PER_ROUND as f64
    }
}

fn main() {
    let meter = Meter::new(2);
    terrace_instruments::set_shard(0);
    let subjects = Subjects {
        bare: AtomicU64::new(0),
        counter: meter.counter(&COUNTER, &[]),
        gauge: meter.gauge(&GAUGE, &[]),
        histogram: meter.histogram(&HISTOGRAM, &[]),
    };
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [name, times] if name != "--bench" => subjects.run(name, times.parse().unwrap_or(0)),
        _ => print_times(&subjects),
    }
}

fn print_times(subjects: &Subjects) {
    let mut fastest = [f64::INFINITY; NAMES.len()];
    for _ in 0..ROUNDS {
        for (fastest, name) in fastest.iter_mut().zip(NAMES) {
            *fastest = fastest.min(subjects.nanoseconds(name));
        }
    }
    let pairs: Vec<String> = NAMES
        .iter()
        .zip(fastest)
        .map(|(name, nanoseconds)| format!("\"{name}\": {nanoseconds:.3}"))
        .collect();
    println!("{{{}}}", pairs.join(", "));
}

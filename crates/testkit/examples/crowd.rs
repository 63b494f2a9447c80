//! A crowd at an address, for some seconds; what came of it, as JSON lines, one for each slice of time.
//!
//!     crowd --to 127.0.0.1:9110 --clients 120 --seconds 20 [--rate 6000] [--patience-ms 10000] [--pause-ms 0] [--slice-ms 250]
//!
//! Each line: `{"at_ms", "good", "status": {"503": 1}, "late", "broken", "p50_ms", "p99_ms"}`, the quantiles of good answers.
//! Lines come as time goes on, each when its slice is over.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;
use terrace_testkit::{Asking, Crowd, Fate, Reply};

const USAGE: &str = "usage: crowd --to ADDRESS [--clients 120] [--seconds 10] [--rate PER_SECOND] [--patience-ms 10000] [--pause-ms 0] [--slice-ms 250]\n";

struct Asked {
    asking: Asking,
    lasts: Duration,
    slice: Duration,
}

fn main() -> ExitCode {
    let Some(asked) = asked(std::env::args().skip(1)) else {
        let _nobody_reads = std::io::stderr().write_all(USAGE.as_bytes());
        return ExitCode::from(2);
    };
    let crowd = Crowd::start(asked.asking);
    let slices = (asked.lasts.as_millis() / asked.slice.as_millis().max(1)) as u32;
    let mut told = 0;
    for number in 1..=slices {
        std::thread::sleep((asked.slice * number).saturating_sub(crowd.age()));
        let replies = crowd.replies();
        if writeln!(std::io::stdout(), "{}", line(asked.slice * (number - 1), &replies[told..])).is_err() {
            break;
        }
        told = replies.len();
    }
    ExitCode::SUCCESS
}

fn line(at: Duration, replies: &[Reply]) -> serde_json::Value {
    let count = |fate: Fate| replies.iter().filter(|reply| reply.fate == fate).count();
    let mut statuses = BTreeMap::<String, u64>::new();
    for reply in replies {
        if let Fate::Status(status) = reply.fate {
            *statuses.entry(status.to_string()).or_default() += 1;
        }
    }
    let mut took_us: Vec<u128> =
        replies.iter().filter(|reply| reply.fate == Fate::Good).map(|reply| reply.took.as_micros()).collect();
    took_us.sort_unstable();
    let quantile_ms =
        |share: usize| took_us.get(took_us.len() * share / 100).map(|took_us| *took_us as f64 / 1e3);
    json!({
        "at_ms": at.as_millis() as u64,
        "good": count(Fate::Good),
        "status": statuses,
        "late": count(Fate::Late),
        "broken": count(Fate::Broken),
        "p50_ms": quantile_ms(50),
        "p99_ms": quantile_ms(99),
    })
}

fn asked(mut words: impl Iterator<Item = String>) -> Option<Asked> {
    let mut address = None;
    let (mut clients, mut rate_per_s) = (120, None);
    let (mut lasts, mut slice) = (Duration::from_secs(10), Duration::from_millis(250));
    let (mut patience, mut pause) = (Duration::from_secs(10), Duration::ZERO);
    while let Some(word) = words.next() {
        let value = words.next()?;
        let ms = || value.parse().ok().map(Duration::from_millis);
        match word.as_str() {
            "--to" => address = Some(value.parse().ok()?),
            "--clients" => clients = value.parse().ok()?,
            "--rate" => rate_per_s = Some(value.parse().ok()?),
            "--seconds" => lasts = Duration::from_secs(value.parse().ok()?),
            "--patience-ms" => patience = ms()?,
            "--pause-ms" => pause = ms()?,
            "--slice-ms" => slice = ms()?,
            _ => return None,
        }
    }
    let asking = Asking { address: address?, clients, rate_per_s, patience, pause };
    Some(Asked { asking, lasts, slice })
}

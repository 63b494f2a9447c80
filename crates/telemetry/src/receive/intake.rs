//! Where the items of a request go.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use terrace_instruments::{Counter, Family, Kind, Meter};
use terrace_otlp::{
    DecodeError, Partial, Received, Signal, json_to_protobuf, read_logs, read_metrics, read_traces,
};
use terrace_runtime::clock;

use super::numbers::Numbers;
use super::records;
use super::request::{Refusal, Wanted, Wire};
use super::senders::Senders;
use crate::observatory::Observatory;
use crate::records::RecordBook;

static REQUESTS: Family = Family {
    name: "terrace_receive_requests_total",
    help: "OTLP requests of the app, by what became of them: ok, or why they were refused.",
    unit: "",
    labels: &["outcome"],
    kind: Kind::Counter,
};

static ITEMS: Family = Family {
    name: "terrace_receive_items_total",
    help: "Spans, data points and log records of the app: accepted, or refused for they were not valid or too many.",
    unit: "",
    labels: &["signal", "outcome"],
    kind: Kind::Counter,
};

/// Outcomes of requests; all are there from the start, so that none is missed when it begins.
const OUTCOMES: [&str; 8] =
    ["ok", "malformed", "too-large", "busy", "slow", "forbidden", "unknown", "failed"];

/// Takes items in.
#[derive(Debug)]
pub(super) struct Intake {
    observatory: Arc<Observatory>,
    book: Arc<RecordBook>,
    numbers: Mutex<Numbers>,
    senders: Senders,
    requests: [Counter; OUTCOMES.len()],
    /// Accepted and refused, by signal.
    items: [[Counter; 2]; 3],
}

impl Intake {
    pub(super) fn new(meter: &Meter, observatory: Arc<Observatory>, book: Arc<RecordBook>) -> Self {
        let items = |signal: Signal| {
            ["accepted", "refused"].map(|outcome| meter.counter(&ITEMS, &[signal.as_str(), outcome]))
        };
        Self {
            observatory,
            book,
            numbers: Mutex::default(),
            senders: Senders::default(),
            requests: OUTCOMES.map(|outcome| meter.counter(&REQUESTS, &[outcome])),
            items: Signal::ALL.map(items),
        }
    }

    pub(super) fn count_request(&self, outcome: &str) {
        if let Some(place) = OUTCOMES.iter().position(|known| *known == outcome) {
            self.requests[place].inc();
        }
    }

    /// Takes in the items of a message, and says what was left out. May take some tens of milliseconds.
    pub(super) fn take(&self, wanted: Wanted, message: &Bytes) -> Result<Partial, Refusal> {
        let wrong = |error: DecodeError| Refusal::new(400, 3, "malformed", error.to_string());
        let protobuf = match wanted.wire {
            Wire::Json => json_to_protobuf(wanted.signal, message).map_err(wrong)?.into(),
            Wire::Grpc | Wire::Protobuf => message.clone(),
        };
        let (accepted, partial) = match wanted.signal {
            Signal::Traces => self.traces(&protobuf),
            Signal::Metrics => self.metrics(&protobuf),
            Signal::Logs => self.logs(&protobuf),
        }
        .map_err(wrong)?;
        let [took, refused] = &self.items[wanted.signal as usize];
        took.add(accepted);
        refused.add(partial.refused);
        Ok(partial)
    }

    fn traces(&self, request: &[u8]) -> Result<(u64, Partial), DecodeError> {
        let mut received = read_traces(request)?;
        for span in &mut received.items {
            span.service = self.sender(&span.service);
        }
        let partial = partial(&received);
        let accepted = received.items.len() as u64;
        self.observatory.offer_spans(clock::now(), received.items);
        Ok((accepted, partial))
    }

    fn metrics(&self, request: &[u8]) -> Result<(u64, Partial), DecodeError> {
        let received = read_metrics(request)?;
        let mut partial = partial(&received);
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        let read = numbers.read(clock::now(), &received.items);
        drop(numbers);
        if read.refused > 0 {
            partial.refused += read.refused;
            partial.why = read.why.to_owned();
        }
        self.observatory.said().put(clock::now(), read.families);
        self.observatory.foreign().offer(read.samples);
        Ok((read.accepted, partial))
    }

    fn sender(&self, said: &str) -> Arc<str> {
        let is_ours = |name: &str| self.observatory.instances().iter().any(|known| *known.service == *name);
        self.senders.name(said, is_ours)
    }

    fn logs(&self, request: &[u8]) -> Result<(u64, Partial), DecodeError> {
        let received = read_logs(request)?;
        let partial = partial(&received);
        let accepted = received.items.len() as u64;
        let now = clock::wall();
        let records = received.items.into_iter().map(|mut record| {
            record.service = self.sender(&record.service);
            records::record(record, now)
        });
        // Before anybody waits for the book.
        let records: Vec<_> = records.collect();
        self.book.keep(records);
        Ok((accepted, partial))
    }
}

fn partial<T>(received: &Received<T>) -> Partial {
    Partial { refused: received.refused, why: received.why.to_owned() }
}

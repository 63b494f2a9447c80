//! Which fields of a record say most. A reader sees one line and rarely opens the rest, so what a request was and what became
//! of it come first, in the order in which people tell it: what was asked, the answer, why, how long. What every line of an
//! app repeats, who it is and when, comes last.

use super::LogRecord;

/// Field names as libraries write them, by what is read first. Dotted names (`http.request.method`) count by their last word.
const FIRST: &[&[&str]] = &[
    &["method", "verb"],
    &["path", "url", "uri", "route", "endpoint"],
    &["status", "status_code", "code", "outcome"],
    &["error", "err", "exception", "reason", "problem", "why"],
    &["took", "took_ms", "duration", "duration_ms", "elapsed", "elapsed_ms", "latency", "latency_ms", "ms"],
];

const LAST: &[&str] = &[
    "at",
    "time",
    "ts",
    "timestamp",
    "app_time",
    "service",
    "instance",
    "host",
    "hostname",
    "pid",
    "version",
    "v",
    "logger",
    "thread",
    "span_id",
];

/// Where a field of this name stands among the others, least first; fields of the same place keep their order.
pub fn telling_rank(name: &str) -> usize {
    let name = name.rsplit('.').next().unwrap_or(name);
    let is = |known: &&str| known.eq_ignore_ascii_case(name);
    match FIRST.iter().position(|names| names.iter().any(is)) {
        Some(rank) => rank,
        None if LAST.iter().any(is) => FIRST.len() + 1,
        None => FIRST.len(),
    }
}

impl LogRecord {
    /// The fields by what they tell, as names and JSON text; without those that only say again whose record it is, or of which
    /// trace.
    pub fn telling_fields(&self) -> Vec<(&str, &str)> {
        let trace = self.trace.map(|trace| trace.to_string());
        let repeats = |name: &str, value: &str| match (name, value.trim_matches('"')) {
            ("service", value) => value == self.service,
            ("instance", value) => value == self.instance,
            (_, value) => Some(value) == trace.as_deref(),
        };
        let fields = self.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let mut fields: Vec<_> = fields.filter(|(name, value)| !repeats(name, value)).collect();
        fields.sort_by_key(|(name, _)| telling_rank(name));
        fields
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use terrace_instruments::Level;

    use super::*;

    #[test]
    fn what_was_asked_and_what_became_of_it_come_first() {
        let mut record = LogRecord::new(SystemTime::UNIX_EPOCH, Level::Info, "request");
        record.service = "catalog".to_owned();
        let fields = [
            ("at", "\"2026\""),
            ("service", "\"catalog\""),
            ("items", "3"),
            ("took_ms", "4"),
            ("http.response.status_code", "200"),
            ("Path", "\"/products\""),
            ("user", "\"eve\""),
            ("method", "\"GET\""),
        ];
        record.fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let names: Vec<&str> = record.telling_fields().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["method", "Path", "http.response.status_code", "took_ms", "items", "user", "at"]);
        record.trace = "4bf92f3577b34da6a3ce929d0e0e4736".parse().ok();
        record.fields.push(("request".to_owned(), "\"4bf92f3577b34da6a3ce929d0e0e4736\"".to_owned()));
        let is_again = |(name, _): &(&str, &str)| *name == "request";
        assert!(!record.telling_fields().iter().any(is_again), "the trace is told as such");
        record.service = "orders".to_owned();
        assert!(record.telling_fields().contains(&("service", "\"catalog\"")), "an app may speak of another");
    }
}

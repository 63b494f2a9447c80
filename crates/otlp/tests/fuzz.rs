//! The fuzz targets for a short while, in every test run.

#[path = "../fuzz/entries.rs"]
mod entries;
#[path = "../../http/fuzz/replay.rs"]
mod replay;

const FUZZ: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz");

#[test]
fn traces() {
    replay::replay(FUZZ, "traces", 20_000, entries::traces);
}

#[test]
fn metrics() {
    replay::replay(FUZZ, "metrics", 20_000, entries::metrics);
}

#[test]
fn logs() {
    replay::replay(FUZZ, "logs", 20_000, entries::logs);
}

#[test]
fn json() {
    replay::replay(FUZZ, "json", 20_000, entries::json);
}

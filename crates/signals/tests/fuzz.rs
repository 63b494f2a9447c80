//! The fuzz targets for a short while, in every test run.

#[path = "../fuzz/entries.rs"]
mod entries;
#[path = "../../http/fuzz/replay.rs"]
mod replay;

const FUZZ: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz");

#[test]
fn lines() {
    replay::replay(FUZZ, "line", 20_000, entries::line);
}

#[test]
fn metrics_of_others() {
    replay::replay(FUZZ, "text", 20_000, entries::text);
}

#[test]
fn states_of_alerts() {
    replay::replay(FUZZ, "alerts_state", 2_000, entries::alerts_state);
}

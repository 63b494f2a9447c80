//! The fuzz targets for a short while, in every test run.

#[path = "../fuzz/entries.rs"]
mod entries;
#[path = "../../http/fuzz/replay.rs"]
mod replay;

const FUZZ: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz");

#[test]
fn negotiation() {
    replay::replay(FUZZ, "negotiation", 20_000, entries::negotiation);
}

#[test]
fn grpc_web() {
    replay::replay(FUZZ, "grpc_web", 20_000, entries::grpc_web);
}

#[test]
fn json() {
    replay::replay(FUZZ, "json", 20_000, entries::json);
}

#[test]
fn validation() {
    replay::replay(FUZZ, "validation", 3_000, entries::validation);
}

#[test]
fn descriptions() {
    replay::replay(FUZZ, "description", 2_000, entries::description);
}

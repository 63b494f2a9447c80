//! The fuzz targets for a short while, in every test run.

#[path = "../fuzz/entries.rs"]
mod entries;
#[path = "../fuzz/replay.rs"]
mod replay;

const FUZZ: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz");

#[test]
fn requests() {
    replay::replay(FUZZ, "request", 20_000, entries::request);
}

#[test]
fn responses() {
    replay::replay(FUZZ, "response", 20_000, entries::response);
}

#[test]
fn chunked_bodies() {
    replay::replay(FUZZ, "chunked", 20_000, entries::chunked);
}

#[test]
fn paths() {
    replay::replay(FUZZ, "path", 20_000, entries::path);
}

#[test]
fn authorities() {
    replay::replay(FUZZ, "authority", 20_000, entries::authority);
}

//! The fuzz targets for a short while, in every test run.

#[path = "../fuzz/entries.rs"]
mod entries;
#[path = "../../http/fuzz/replay.rs"]
mod replay;

const FUZZ: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz");

#[test]
fn deadlines() {
    replay::replay(FUZZ, "deadline", 20_000, entries::deadline);
}

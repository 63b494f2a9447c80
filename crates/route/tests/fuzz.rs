//! The fuzz targets for a short while, in every test run.

#[path = "../fuzz/entries.rs"]
mod entries;
#[path = "../../http/fuzz/replay.rs"]
mod replay;

const FUZZ: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz");

#[test]
fn patterns() {
    replay::replay(FUZZ, "pattern", 20_000, entries::pattern);
}

#[test]
fn tables() {
    replay::replay(FUZZ, "table", 20_000, entries::table);
}

#[test]
fn templates() {
    replay::replay(FUZZ, "template", 20_000, entries::template);
}

#[test]
fn values() {
    replay::replay(FUZZ, "value", 20_000, entries::value);
}

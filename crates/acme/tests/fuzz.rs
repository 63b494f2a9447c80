//! The fuzz targets for a short while, in every test run.

#[path = "../fuzz/entries.rs"]
mod entries;
#[path = "../../http/fuzz/replay.rs"]
mod replay;

const FUZZ: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz");

#[test]
fn certificates() {
    replay::replay(FUZZ, "certificate", 20_000, entries::certificate);
}

#[test]
fn when_an_authority_wants_to_be_asked() {
    replay::replay(FUZZ, "renewal_info", 20_000, entries::renewal_info);
}

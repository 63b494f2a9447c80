//! The fuzz targets for a short while, in every test run.

#[path = "../fuzz/entries.rs"]
mod entries;
#[path = "../../http/fuzz/replay.rs"]
mod replay;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz");

#[test]
fn answers_of_redis() {
    replay::replay(FOLDER, "resp", 20_000, entries::resp);
}

#[test]
fn files_of_quotas() {
    replay::replay(FOLDER, "quota_log", 20_000, entries::quota_log);
}

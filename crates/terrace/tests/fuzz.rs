//! The fuzz target for a short while, in every test run. `tests/file/chaos.rs` damages files in ways of TOML's own.

#[path = "../fuzz/entries.rs"]
mod entries;
#[path = "../../http/fuzz/replay.rs"]
mod replay;

#[test]
fn files() {
    replay::replay(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz"), "file", 1_000, entries::file);
}

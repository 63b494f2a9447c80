//! The fuzz target for a short while, in every test run.

#[path = "../fuzz/entries.rs"]
mod entries;
#[path = "../../http/fuzz/replay.rs"]
mod replay;

#[test]
fn trace_parents() {
    replay::replay(
        concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz"),
        "trace_parent",
        20_000,
        entries::trace_parent,
    );
}

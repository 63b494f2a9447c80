//! The fuzz target for a short while, in every test run.

#[path = "../fuzz/entries.rs"]
mod entries;
#[path = "../../http/fuzz/replay.rs"]
mod replay;

#[test]
fn proxy_protocol_headers() {
    replay::replay(
        concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz"),
        "proxy_protocol",
        20_000,
        entries::proxy_protocol,
    );
}

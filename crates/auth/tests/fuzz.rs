//! The fuzz targets for a short while, in every test run.

#[path = "../fuzz/entries.rs"]
mod entries;
#[path = "../../http/fuzz/replay.rs"]
mod replay;

const FUZZ: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz");

#[test]
fn tokens() {
    replay::replay(FUZZ, "token", 20_000, entries::token);
}

#[test]
fn claims() {
    replay::replay(FUZZ, "claims", 20_000, entries::claims);
}

#[test]
fn key_sets() {
    replay::replay(FUZZ, "key_set", 5_000, entries::key_set);
}

#[test]
fn discovery_documents() {
    replay::replay(FUZZ, "discovery", 20_000, entries::discovery);
}

#[test]
fn certificates() {
    replay::replay(FUZZ, "certificate", 20_000, entries::certificate);
}

#[test]
fn lists_of_users() {
    replay::replay(FUZZ, "users", 20_000, entries::users);
}

#[test]
fn keys_and_passwords() {
    replay::replay(FUZZ, "credentials", 20_000, entries::credentials);
}

#[test]
fn what_browsers_bring_to_a_login() {
    replay::replay(FUZZ, "browser", 10_000, entries::browser);
}

//! Tokens made live by other people's programs: PyJWT, Authlib, and npm's jose.

use std::path::{Path, PathBuf};
use std::process::Command;

use data_encoding::BASE64URL_NOPAD;
use serde_json::Value;
use terrace_auth::{Decision, KeySource, Now, Secret};
use terrace_testkit::Folder;

use crate::house::{AUDIENCE, House, ISSUER, ask, ask_now, issuer, now_s, status};

fn tests() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn prepared(path: &str) -> PathBuf {
    let path = tests().join("../../target").join(path);
    assert!(path.exists(), "{} is missing: run scripts/prepare.sh test", path.display());
    path
}

fn python() -> Command {
    let path =
        std::env::var_os("TERRACE_TEST_PYTHON").map_or_else(|| prepared("venv/bin/python"), PathBuf::from);
    let mut command = Command::new(path);
    command.arg(tests().join("tests/tokens/sign.py"));
    command
}

fn node() -> Command {
    let mut command = Command::new("node");
    command.arg(tests().join("tests/tokens/sign.mjs")).arg(prepared("tokens/node_modules"));
    command
}

fn signed(mut command: Command, expires_s: u64) -> Value {
    let out = command.args([ISSUER, AUDIENCE, &expires_s.to_string()]).output().expect("it runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).expect("JSON")
}

/// Each token is taken, and none that differs in its claims.
fn are_taken(command: Command, count: usize) {
    let (house, folder) = (House::new(), Folder::new());
    let signed = signed(command, now_s() + 300);
    let file = folder.write("keys.json", &serde_json::json!({"keys": signed["keys"]}).to_string());
    let secret =
        BASE64URL_NOPAD.decode(signed["secret"].as_str().expect("text").as_bytes()).expect("base64url");
    let public = house.gate(issuer(ISSUER, KeySource::File(file)));
    let shared = house.gate(issuer(ISSUER, KeySource::Secret(Secret::new(secret))));
    let tokens = signed["tokens"].as_array().expect("a list");
    assert_eq!(tokens.len(), count);
    for token in tokens {
        let [by, algorithm, token] = [0, 1, 2].map(|at| token[at].as_str().expect("text"));
        let (ours, other) = if algorithm.starts_with("HS") { (&shared, &public) } else { (&public, &shared) };
        // What takes longer than a core may wait is handed on, and only what does: the keys have been there since RS256.
        if algorithm.starts_with("ES") || algorithm == "EdDSA" {
            let is_later = matches!(ask_now(ours, token), Now::Later(_));
            assert_eq!(is_later, matches!(algorithm, "ES384" | "ES512"), "{by} {algorithm}");
        }
        for turn in 0..2 {
            let decision = ask(ours, token);
            let Decision::Known(passed) = &decision else { panic!("{by} {algorithm} {turn}: {decision:?}") };
            assert_eq!((passed.identity.subject.as_str(), passed.identity.has_role("customer")), (by, true));
        }
        let (head, rest) = token.split_once('.').expect("three parts");
        let (_, signature) = rest.split_once('.').expect("three parts");
        let claims =
            format!(r#"{{"iss":"{ISSUER}","aud":"{AUDIENCE}","exp":{},"sub":"admin"}}"#, now_s() + 99);
        let forged = format!("{head}.{}.{signature}", BASE64URL_NOPAD.encode(claims.as_bytes()));
        assert_eq!(status(&ask(ours, &forged)), 401, "{by} {algorithm}");
        assert_eq!(status(&ask(other, token)), 401, "{by} {algorithm} with keys of the other kind");
    }
}

#[test]
fn tokens_of_pyjwt_and_authlib_are_taken_for_every_algorithm() {
    are_taken(python(), 26);
}

#[test]
fn tokens_of_jose_are_taken_for_every_algorithm() {
    are_taken(node(), 14);
}

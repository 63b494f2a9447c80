//! The dashboard as a person has it: Debian's Chromium walks through it and does what one does there, from signing in to
//! signing out. What it does is told step by step in `tests/browser/dashboard.mjs`; here is what it is done to.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use terrace_testkit::{Port, Request, World};

use crate::world;

const OPERATOR: &str = "a-token-that-nobody-guesses";
const VIEWER: &str = "another-one-that-may-only-look";
/// Between two requests: enough for every figure to move, and little enough to leave the machine to the browser.
const PACE: Duration = Duration::from_millis(25);

/// What the script is in, and what it drives the browser with.
fn scripts() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let modules = manifest.join("../../target/browser/node_modules");
    assert!(modules.exists(), "{} is missing: run scripts/prepare.sh test", modules.display());
    manifest.join("tests/browser")
}

/// A service in front of another one, a promise that is not kept, and somebody to be told of it.
fn file(world: &World, port: &Port, admin: &Port) -> String {
    world.folder.write("operator", OPERATOR);
    world.folder.write("viewer", VIEWER);
    let front = scripts().join("front.mjs").display().to_string();
    format!(
        "[listen.public]\naddress = \"{port}\"\n\
         [service.front]\nrun = [\"node\", {front:?}]\nhealth = {{ path = \"/health\", every = \"500ms\" }}\n\
         [service.web]\nrun = {}\nhealth = {{ path = \"/health\", every = \"500ms\" }}\n\
         [route.shop]\nat = \"/*\"\nto = \"front\"\n\
         [objective.shop]\nroute = \"shop\"\nsuccess = \"99%\"\nlatency = {{ under = \"1s\", for = \"90%\" }}\n\
         [notify.oncall]\ncommand = \"true\"\n\
         [trace]\nsample = \"100%\"\n\
         [admin]\nprobes = \"127.0.0.1:0\"\naddress = \"{admin}\"\ntoken = {{ file = \"operator\" }}\n\
         viewer-token = {{ file = \"viewer\" }}\n",
        world.app()
    )
}

/// Asks until it is told to end; each third answer is one that nobody wants.
fn keep_asking(address: SocketAddr, is_over: &AtomicBool) {
    for turn in 0_u32.. {
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        let target = if turn % 3 == 0 { "/status?code=500" } else { "/seen" };
        // A refusal while something is being changed is not what this is about.
        let _answer = Request::get(target).try_send(address);
        std::thread::sleep(PACE);
    }
}

/// Runs alone: a browser wants a core for itself.
mod heavy {
    use super::*;

    #[test]
    fn a_person_follows_a_request_and_acts_in_the_browser() {
        let world = world();
        let (port, admin) = (Port::reserve(), Port::reserve());
        let _terrace = world.up(&file(&world, &port, &admin));
        let given = json!({
            "origin": format!("http://{admin}"),
            "terrace": env!("CARGO_BIN_EXE_terrace"),
            "operator": OPERATOR,
            "viewer": VIEWER,
        });
        let script = scripts().join("dashboard.mjs");
        let script = script.to_str().expect("its path is text");
        let is_over = AtomicBool::new(false);
        let done = std::thread::scope(|scope| {
            scope.spawn(|| keep_asking(port.address(), &is_over));
            let done = world.run("node", &[script, &given.to_string()]);
            is_over.store(true, Ordering::Relaxed);
            done
        });
        assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    }
}

//! What a person at a terminal has: the map that moves, and the way to the dashboard.

use std::fs::File;
use std::io::Write as _;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use terrace_testkit::{Request, Signal, World, get, signal, until, until_true};

use crate::{shop, world};

/// Enters the terminal's other screen, leaves it, and shows the cursor again.
const ENTERED: &str = "\x1b[?1049h";
const LEFT: &str = "\x1b[?1049l";
const CURSOR: &str = "\x1b[?25h";

/// `terrace top` in a terminal of its own, between two looks at how that terminal is set.
struct Screen<'w> {
    world: &'w World,
    script: Child,
}

impl<'w> Screen<'w> {
    fn open(world: &'w World) -> Self {
        let out = File::create(world.folder.join("screen")).expect("a file in our folder");
        let top = format!("stty cols 140 rows 40; stty -g; {} top; stty -g", env!("CARGO_BIN_EXE_terrace"));
        let mut script = Command::new("script");
        script
            .args(["--quiet", "--flush", "--return", "--command", &top, "/dev/null"])
            .env("TERM", "xterm-256color");
        script.current_dir(world.folder.path()).stdin(Stdio::piped()).stdout(out).stderr(Stdio::null());
        Self { world, script: script.spawn().expect("script is part of every Debian") }
    }

    fn shown(&self) -> String {
        self.world.folder.read("screen")
    }

    #[track_caller]
    fn until_it_shows(&self, what: &str) {
        until_true(&format!("{what} is shown"), || self.shown().contains(what));
    }

    fn press(&mut self, keys: &str) {
        let keyboard = self.script.stdin.as_mut().expect("it is piped");
        keyboard.write_all(keys.as_bytes()).expect("somebody reads it");
    }

    /// Waits for the end, and expects the terminal to be as it was.
    #[track_caller]
    fn ends_well(mut self) {
        until("top has ended", || self.script.try_wait().expect("it is our child"));
        let shown = self.shown();
        let settings: Vec<&str> = shown.lines().filter(|line| line.matches(':').count() > 20).collect();
        assert_eq!(settings.len(), 2, "{shown:?}");
        let of = |line: &str| {
            line.rsplit('\x1b').next().unwrap_or_default().rsplit(['h', 'l', 'm']).next().map(str::to_owned)
        };
        assert_eq!(of(settings[0]), of(settings[1]), "the terminal is set as it was");
        let left = shown.rfind(LEFT).expect("the other screen is left");
        assert!(left > shown.rfind(ENTERED).expect("it was entered") && shown.rfind(CURSOR).is_some());
    }
}

impl Drop for Screen<'_> {
    fn drop(&mut self) {
        let _gone_already = self.script.kill();
        let _status = self.script.wait();
    }
}

#[test]
fn top_prints_once_where_no_terminal_is() {
    let world = world();
    let (_port, address, file) = shop(&world, 2);
    let terrace = world.up(&file);
    assert_eq!(get(address, "/").status, 200);
    let told = terrace.command(&["top"]).ok();
    for name in ["public", "web-1", "web-2", &address.to_string()] {
        assert!(told.contains(name), "{name} is missing:\n{told}");
    }
    assert!(!told.contains('\x1b'), "{told:?}");
    let map: Value =
        serde_json::from_str(&terrace.command(&["top", "--json"]).ok()).expect("the map is JSON");
    assert_eq!(map["services"][0]["name"], "web", "{map:#}");
    drop(terrace);
    let told = world.terrace(&["top"]).refused();
    assert!(told.contains("terrace up"), "{told}");
}

#[test]
fn top_draws_the_map_and_gives_the_terminal_back() {
    let world = world();
    let (_port, _, file) = shop(&world, 2);
    let _terrace = world.up(&file);
    let mut screen = Screen::open(&world);
    screen.until_it_shows("web-2");
    screen.press("?");
    screen.until_it_shows("quit");
    screen.press("qq");
    screen.ends_well();
    let screen = Screen::open(&world);
    screen.until_it_shows("web-2");
    let is_top = |command: &str| command.ends_with("/terrace top");
    let top = world.processes().into_iter().find(|process| is_top(&process.command)).expect("it runs");
    signal(top.pid, Signal::TERM);
    screen.ends_well();
}

#[test]
fn top_outlives_the_terrace_that_it_watches() {
    let world = world();
    let (_port, _, file) = shop(&world, 1);
    let mut terrace = world.up(&file);
    let mut screen = Screen::open(&world);
    screen.until_it_shows("web-1");
    assert!(terrace.stop().success());
    screen.until_it_shows("connection lost");
    screen.press("q");
    screen.ends_well();
}

#[test]
fn the_way_to_the_dashboard_is_good_once() {
    let world = world();
    let (_port, _, file) = shop(&world, 1);
    let terrace = world.up(&file);
    for role in ["operator", "viewer"] {
        let told = terrace.command(&["dashboard", "--json", "--role", role]).ok();
        let told: Value = serde_json::from_str(&told).expect("JSON");
        let url = told["url"].as_str().expect("an address").to_owned();
        let (host, path) = url.trim_start_matches("http://").split_once('/').expect("an address and a path");
        let send = |request: Request| request.with("Host", host).send(host.parse().expect("an address"));
        // Who only looks at the link, as programs do that preview it, does not use it up.
        assert_eq!(send(Request::get(&format!("/{path}"))).status, 200);
        let enter = || {
            let code = path.split_once('=').expect("a code").1;
            let form = Request::post("/login", format!("code={code}&next=/"));
            let form = form.with("Content-Type", "application/x-www-form-urlencoded");
            send(form.with("Origin", &format!("http://{host}")))
        };
        let (first, second) = (enter(), enter());
        assert!(matches!(first.status, 302 | 303) && first.field("set-cookie").is_some(), "{first:?}");
        assert!(second.field("set-cookie").is_none(), "{second:?}");
        let page = Request::get("/").with("Cookie", first.field("set-cookie").unwrap_or_default());
        assert_eq!(send(page).status, 200);
        assert_ne!(send(Request::get("/")).status, 200, "and nobody else is in");
    }
}

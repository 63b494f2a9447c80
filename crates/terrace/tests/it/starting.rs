//! Starting, and not starting: a clear sentence, an exit status, and nothing left half-started.

use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};

use serde_json::Value;
use terrace_testkit::{Signal, Terrace, WebSocket, World, get, try_get, until_true};

use crate::{shop, world};

/// Starts what it is given, asks it until it answers, and stops it.
const ONE_COMMAND: &str = r#""$@" & pid=$!
curl -sS --retry 100 --retry-connrefused --retry-delay 0 --retry-max-time 30 http://127.0.0.1:8080/
kill -TERM $pid; wait $pid"#;

#[test]
fn one_command_without_a_file_is_served_at_port_8080() {
    let world = world();
    let is_alone = world.run("unshare", &["-rn", "ip", "link", "set", "lo", "up"]).code == Some(0);
    // In a network of its own, where the system lets us have one: there the port is free whatever runs here.
    let script = format!("{}{ONE_COMMAND}", if is_alone { "ip link set lo up\n" } else { "" });
    let mut words = if is_alone { vec!["-rn", "sh", "-c"] } else { vec!["-c"] };
    words.extend([&script, "sh", env!("CARGO_BIN_EXE_terrace"), "up", "--"]);
    words.extend(world.app_words());
    let done = world.run(if is_alone { "unshare" } else { "sh" }, &words);
    let is_taken = done.stderr.contains("another program listens there");
    assert!(done.code == Some(0) || (is_taken && !is_alone), "{done:?}");
    assert!(done.stdout.contains("hello from app-1\n") || is_taken, "{done:?}");
    nothing_is_left(&world);
}

#[test]
fn a_file_is_served_until_terrace_is_told_to_stop() {
    let world = world();
    let (_port, address, file) = shop(&world, 2);
    let mut terrace = world.up(&file);
    assert_eq!(get(address, "/").status, 200);
    assert_eq!(terrace.pids("web").len(), 2);
    assert!(terrace.command(&["stop"]).ok().contains("stopping"));
    assert!(terrace.wait().success());
    assert!(try_get(address, "/").is_err(), "nobody listens any more");
    nothing_is_left(&world);
}

#[test]
fn requests_in_flight_finish_when_terrace_stops() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    let mut terrace = world.up(&file);
    let held = std::thread::spawn(move || get(address, "/hold?gate=stop"));
    until_true("the request is in flight", || world.folder.join("at-stop").exists());
    terrace.signal(Signal::TERM);
    terrace.event("stopping");
    until_true("new clients are refused", || try_get(address, "/").is_err());
    world.folder.write("gate-stop", "");
    assert_eq!(held.join().expect("it was answered").text(), "held\n");
    assert!(terrace.wait().success());
    nothing_is_left(&world);
}

#[test]
fn an_open_websocket_holds_the_end_up_for_as_long_as_drain_says() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    let mut terrace = world.up(&format!("{file}[terrace]\nwatch = false\ndrain = \"1s\"\n"));
    let mut socket = WebSocket::open(address, "/ws").expect("it opens");
    terrace.signal(Signal::TERM);
    terrace.event("stopping");
    socket.echo("one last word").expect("it is open");
    assert!(terrace.wait().success());
    assert!(socket.receive().is_err());
    nothing_is_left(&world);
}

#[test]
fn asked_twice_it_ends_at_once_and_leaves_nothing() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    let mut terrace = world.up(&format!("{file}[terrace]\nwatch = false\ndrain = \"10m\"\n"));
    let _socket = WebSocket::open(address, "/ws").expect("it opens");
    terrace.signal(Signal::TERM);
    terrace.event("stopping");
    terrace.signal(Signal::TERM);
    assert_eq!(terrace.wait().code(), Some(1));
    nothing_is_left(&world);
}

#[test]
fn a_taken_port_is_told_and_nothing_is_started() {
    let world = world();
    let (port, _, file) = shop(&world, 1);
    let _somebody = TcpListener::bind(port.address()).expect("the port is ours");
    let told = refused(&world, &file);
    assert!(told.contains(&port.to_string()) && told.contains("another program listens there"), "{told}");
    assert!(told.contains("listener public"), "{told}");
}

#[test]
fn a_taken_internal_or_probe_port_is_told_too() {
    let world = world();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().map(|address| (taken, address)).expect("it is bound");
    let (_port, _, file) = shop(&world, 1);
    let told = refused(&world, &format!("{file}internal = \"{}\"\n", taken.1));
    assert!(told.contains(&taken.1.to_string()), "{told}");
    let told = refused(&world, &format!("{file}\n[admin]\nprobes = \"{}\"\n", taken.1));
    assert!(told.contains(&taken.1.to_string()), "{told}");
}

#[test]
fn a_certificate_that_cannot_be_read_is_told() {
    let world = world();
    let (_port, _, file) = shop(&world, 1);
    let secure = "tls = \"files\"\ncertificate = \"web.pem\"\nkey = { file = \"web.key\" }\n[service.web]";
    let file = file.replace("[service.web]", secure);
    let told = refused(&world, &file);
    assert!(told.contains("web.pem") && told.contains("terrace.toml:"), "{told}");
    world.folder.write("web.pem", "this is no certificate\n");
    world.folder.write("web.key", "this is no key\n");
    let told = refused(&world, &file);
    assert!(told.contains("certificate") || told.contains("key"), "{told}");
    assert!(!told.contains("this is no key"), "a key is never shown: {told}");
}

#[test]
fn what_up_would_refuse_check_tells_as_well_and_up_ends_as_with_any_wrong_file() {
    let world = world();
    let (_port, _, file) = shop(&world, 1);
    for (name, subject) in [("web", "/CN=web.example"), ("other", "/CN=other.example")] {
        let (certificate, key) = (format!("{name}.pem"), format!("{name}.key"));
        let made =
            ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "9"];
        let made = [&made[..], &["-subj", subject, "-keyout", &key, "-out", &certificate]].concat();
        assert_eq!(world.run("openssl", &made).code, Some(0));
    }
    let secure = |key: &str| {
        let tls = format!(
            "tls = \"files\"\ncertificate = \"web.pem\"\nkey = {{ file = \"{key}\" }}\n[service.web]"
        );
        file.replace("[service.web]", &tls)
    };
    world.folder.write("page.sh", "#!/bin/sh\n");
    let wrong = [
        (secure("other.key"), "the key does not belong to the certificate"),
        (format!("{file}[service.b]\nrun = \"no-such-program --fast\"\n"), "not found in PATH"),
        (format!("{file}[service.b]\nrun = \"./missing\"\n"), "is not an executable file"),
        (format!("{file}[notify.page]\ncommand = \"./page.sh\"\n"), "is not an executable file"),
    ];
    for (text, told) in wrong {
        world.write(&text);
        for (word, status) in [("check", 1), ("up", 2)] {
            let done = world.terrace(&[word]);
            assert_eq!(done.code, Some(status), "{word}: {done:?}");
            assert!(done.stderr.contains(told) && done.stderr.contains("terrace.toml:"), "{}", done.stderr);
        }
    }
    world.write(&secure("web.key"));
    assert_eq!(world.terrace(&["check"]).code, Some(0));
}

#[test]
fn an_instance_that_ends_again_and_again_at_start_is_told_with_its_last_words() {
    let world = world();
    let (_port, _, file) = shop(&world, 1);
    let restart =
        "restart = { from = \"10ms\", to = \"20ms\", crash-loop = 3 }\nenv = { APP_MODE = \"exit\" }\n";
    let told = refused(&world, &format!("{file}{restart}"));
    assert!(told.contains("service web did not start"), "{told}");
    assert!(told.contains("the ledger is locked, giving up"), "{told}");
}

#[test]
fn an_instance_that_never_gets_ready_is_told() {
    let world = world();
    let (_port, _, file) = shop(&world, 1);
    let more = "ready = { path = \"/health\", within = \"1s\" }\nenv = { APP_MODE = \"never-ready\" }\n\
                restart = { from = \"10ms\", to = \"20ms\", crash-loop = 2 }\nstop = { grace = \"1s\" }\n";
    let told = refused(&world, &format!("{file}{more}"));
    assert!(told.contains("service web did not start") && told.contains("ready"), "{told}");
}

#[test]
fn every_fault_of_a_file_is_told_at_once_with_its_place() {
    let world = world();
    let told = refused(&world, "[service.web]\nrun = \"true\"\nballance = \"random\"\ninstances = \"2\"\n");
    assert!(told.contains("terrace.toml:3:1") && told.contains("`balance`"), "{told}");
    assert!(told.contains("terrace.toml:4:13"), "{told}");
    assert!(told.contains("2 problems"), "{told}");
    let checked = world.terrace(&["check"]);
    let told = told.replace(&format!("{}/", world.folder.path().display()), "");
    assert_eq!((checked.code, checked.stderr), (Some(1), told));
}

#[test]
fn check_prints_what_a_good_file_comes_to() {
    let world = world();
    let (_port, address, file) = shop(&world, 3);
    world.write(&file);
    let told = world.terrace(&["check"]).ok();
    assert!(told.contains(&address.to_string()) && told.contains("least-requests"), "{told}");
    let explained = world.terrace(&["check", "--explain"]).ok();
    assert!(explained.contains("built-in") && explained.contains("terrace.toml:"), "{explained}");
    assert_eq!(world.terrace(&["check", "--quiet"]).ok(), "");
}

#[test]
fn every_command_explains_itself_with_examples() {
    let world = world();
    for command in [
        "up",
        "check",
        "status",
        "reload",
        "scale",
        "restart",
        "logs",
        "stop",
        "schema",
        "install",
        "completions",
    ] {
        let told = world.terrace(&[command, "--help"]).ok();
        assert!(told.contains(&format!("terrace {command}")) && told.contains("xample"), "{command}: {told}");
    }
    let schema = world.terrace(&["schema"]).ok();
    let schema: Value = serde_json::from_str(&schema).expect("the schema is JSON");
    assert!(schema["properties"]["service"].is_object());
    for shell in ["bash", "zsh", "fish"] {
        assert!(world.terrace(&["completions", shell]).ok().contains("restart"), "{shell}");
    }
    let (_port, _, file) = shop(&world, 1);
    world.write(&file);
    let unit = world.terrace(&["install", "--print"]).ok();
    assert!(unit.contains("[Service]") && unit.contains("ExecStart="), "{unit}");
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit_and_one_that_somebody_changed_is_left_alone() {
    let world = world();
    let config = world.folder.join("50% of a home");
    let world = world.with_variable("XDG_CONFIG_HOME", config.to_str().expect("its path is text"));
    let (_port, _, file) = shop(&world, 1);
    world.write(&file);
    assert!(world.terrace(&["install", "--user"]).ok().contains("systemctl --user enable --now terrace"));
    let unit = config.join("systemd/user/terrace.service");
    world.folder.write("system/terrace.service", &world.terrace(&["install", "--print"]).ok());
    let runtime = format!("XDG_RUNTIME_DIR={}", world.folder.path().display());
    let unit_path = unit.to_str().expect("its path is text");
    for arguments in [&["verify", "--user", unit_path][..], &["verify", "system/terrace.service"]] {
        let verified = world.run("env", &[&[runtime.as_str(), "systemd-analyze"], arguments].concat());
        // Of other units on this machine it may think what it likes.
        let is_calm = !verified.stderr.contains("terrace.service");
        assert!(verified.code == Some(0) && is_calm, "{arguments:?}: {}", verified.stderr);
    }
    assert!(world.terrace(&["install", "--user"]).ok().contains("unchanged:"));
    let mine = format!("{}# mine\n", std::fs::read_to_string(&unit).expect("it was written"));
    std::fs::write(&unit, &mine).expect("it is ours");
    assert!(world.terrace(&["install", "--user"]).refused().contains("--force"));
    assert_eq!(std::fs::read_to_string(&unit).expect("it is there"), mine);
}

#[test]
fn a_command_without_a_running_terrace_says_so() {
    let world = world();
    let (_port, _, file) = shop(&world, 1);
    world.write(&file);
    for command in ["status", "reload", "stop"] {
        let told = world.terrace(&[command]).refused();
        assert!(told.contains("terrace up"), "{command}: {told}");
    }
}

#[test]
fn a_promise_of_which_nobody_is_told_is_hinted_at_once_and_no_more_when_somebody_is() {
    let world = world();
    let (_port, _, file) = shop(&world, 1);
    let promised = format!("{file}[objective.checkout]\nroute = \"web\"\nsuccess = \"99%\"\n");
    world.write(&promised);
    let checked = world.terrace(&["check"]);
    assert_eq!(checked.code, Some(0), "it is good all the same: {}", checked.stderr);
    let hint = checked.stderr.lines().find(|line| line.starts_with("hint: "));
    let hint = hint.unwrap_or_else(|| panic!("no hint in {}", checked.stderr));
    assert!(hint.contains("[objective.checkout] calls nobody") && hint.contains("[notify."), "{hint}");
    let json: Value = serde_json::from_str(&world.terrace(&["check", "--json"]).ok()).expect("it is JSON");
    assert_eq!(json["hints"].as_array().map(Vec::len), Some(1), "{json}");
    let terrace = world.up(&promised);
    let hints = || terrace.events().into_iter().filter(|event| event["event"] == "file.hint").count();
    assert!(terrace.event("file.hint")["message"].as_str().is_some_and(|told| hint.ends_with(told)));
    terrace.reload_with(&format!("{promised}[log]\nkept = \"1MiB\"\n")).ok();
    assert_eq!(hints(), 1, "what was told is not told again");
    let told = format!("{promised}[notify.oncall]\ncommand = \"true\"\n");
    terrace.reload_with(&told).ok();
    let checked = world.terrace(&["check"]);
    assert!(!checked.stderr.contains("hint"), "{}", checked.stderr);
}

#[test]
fn telemetry_is_not_sent_to_where_it_comes_in_also_where_terrace_chose_the_port() {
    let world = world();
    let (_port, _, file) = shop(&world, 1);
    let terrace = world.up(&file);
    let chosen: String = serde_json::from_str(&world.folder.read(".terrace/otlp.json")).expect("an address");
    let told = terrace.reload_with(&format!("{file}[otlp]\nexport = {{ to = \"http://{chosen}\" }}\n"));
    assert!(told.refused().contains("in a circle"), "what ran runs on");
    assert!(terrace.metrics().contains("terrace_requests_total"));
}

#[test]
fn a_state_folder_of_somebody_else_or_open_to_all_or_not_to_be_written_is_refused_with_what_to_do() {
    let world = world();
    let (_port, _, file) = shop(&world, 1);
    let state = world.folder.join("state");
    let file = format!("{file}[terrace]\nstate = \"state\"\n");
    let mode = |bits| std::fs::set_permissions(&state, Permissions::from_mode(bits)).expect("it is ours");
    std::fs::create_dir(&state).expect("it can be made");
    mode(0o777);
    let told = refused(&world, &file);
    assert!(told.contains("others may write into it; `chmod go-w` it"), "{told}");
    assert!(!state.join("identity.key").exists(), "no key is put where others could have changed it");
    mode(0o700);
    // Only root can give a folder away, and only others are stopped by its mode.
    match chown(&state, Some(65_534), None) {
        Ok(()) => {
            let told = refused(&world, &file);
            assert!(told.contains("it belongs to user 65534") && told.contains("chown -R"), "{told}");
            assert!(!state.join("identity.key").exists());
        }
        Err(_) => {
            mode(0o500);
            let told = refused(&world, &file);
            assert!(told.contains("give it to the user who runs Terrace (chown)"), "{told}");
            mode(0o700);
        }
    }
    let told = refused(&world, &file.replace("\"state\"", "\"terrace.toml\""));
    assert!(told.contains("it must be a folder"), "{told}");
}

#[test]
fn a_second_terrace_in_the_same_folder_is_refused() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    let terrace = world.up(&file);
    let (pids, otlp) = (terrace.pids("web"), world.folder.read(".terrace/otlp.json"));
    let mut second = world.start_with(&["up"]);
    assert_eq!(second.wait().code(), Some(1), "{}", second.stderr());
    assert_eq!(get(address, "/").status, 200, "the first is not disturbed");
    assert_eq!(terrace.pids("web"), pids);
    assert_eq!(
        world.folder.read(".terrace/otlp.json"),
        otlp,
        "nor where its instances send to after a restart"
    );
}

/// Terrace refuses to start with this file, and nothing is left of the attempt.
#[track_caller]
fn refused(world: &World, file: &str) -> String {
    let mut terrace = world.start(file);
    let status = terrace.wait();
    assert!(status.code().is_some_and(|code| code > 0), "{status}: {}", terrace.stderr());
    nothing_is_left(world);
    sentences(&terrace)
}

/// What it says to a person, without the events.
fn sentences(terrace: &Terrace<'_>) -> String {
    let told = terrace.stderr();
    told.lines().filter(|line| !line.starts_with('{')).map(|line| format!("{line}\n")).collect()
}

#[track_caller]
fn nothing_is_left(world: &World) {
    until_true("no process is left", || world.processes().is_empty());
}

//! Several instances: shared, scaled, restarted, replaced and killed, and no request the worse for it.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use terrace_testkit::{Kind, Load, Signal, Terrace, WebSocket, get, is_alive, signal, until, until_true};

use crate::{shop, world};

const MIXED: &[(Kind, usize)] = &[(Kind::Get, 2), (Kind::Upload, 1), (Kind::WebSocket, 2)];

#[test]
fn several_instances_share_the_requests() {
    let world = world();
    let (_port, address, file) = shop(&world, 3);
    let _terrace = world.up(&file);
    assert_eq!(instances_seen(address, 60).len(), 3);
}

#[test]
fn scaling_up_and_down_under_load_loses_nothing() {
    let world = world();
    let (_port, address, file) = shop(&world, 2);
    let terrace = world.up(&file);
    let load = Load::start(address, MIXED);
    for count in ["4", "1", "3"] {
        let told = terrace.command(&["scale", "web", count]).ok();
        assert_eq!(told, format!("web: {count} of {count} ready\n"));
        load.wait_for_more(MIXED);
    }
    load.stop().assert_nothing_lost();
    assert_eq!(terrace.service("web")["fleet"]["desired"], 3);
}

#[test]
fn a_scale_holds_over_a_reload_until_the_file_says_otherwise() {
    let world = world();
    let (_port, _, file) = shop(&world, 1);
    let terrace = world.up(&file);
    terrace.command(&["scale", "web", "2"]).ok();
    terrace.reload_with(&format!("{file}slow-start = \"1s\"\n")).ok();
    assert_eq!(terrace.service("web")["fleet"]["desired"], 2);
    terrace.reload_with(&file.replace("instances = 1", "instances = 3")).ok();
    assert_eq!(terrace.service("web")["fleet"]["desired"], 3);
}

#[test]
fn a_rolling_restart_under_load_loses_nothing() {
    let world = world();
    let (_port, address, file) = shop(&world, 2);
    let terrace = world.up(&file);
    let before = terrace.pids("web");
    let load = Load::start(address, MIXED);
    assert_eq!(terrace.command(&["restart", "web"]).ok(), "web: 2 of 2 ready\n");
    load.wait_for_more(MIXED);
    load.stop().assert_nothing_lost();
    let after = ready_pids(&terrace);
    assert_eq!(after.len(), 2);
    assert!(before.iter().all(|(_, pid)| !after.contains(pid)), "{before:?} {after:?}");
}

#[test]
fn a_changed_environment_is_rolled_out_without_a_gap() {
    let world = world();
    let (_port, address, file) = shop(&world, 2);
    let terrace = world.up(&format!("{file}env = {{ COLOUR = \"red\" }}\n"));
    assert_eq!(get(address, "/env?name=COLOUR").text(), "red");
    let load = Load::start(address, MIXED);
    terrace.reload_with(&format!("{file}env = {{ COLOUR = \"blue\" }}\n")).ok();
    terrace.event("fleet.rollout.done");
    for _ in 0..20 {
        assert_eq!(get(address, "/env?name=COLOUR").text(), "blue");
    }
    load.stop().assert_nothing_lost();
}

#[test]
fn a_replacement_that_never_gets_ready_leaves_the_old_ones_serving_and_says_why() {
    let world = world();
    let (_port, address, file) = shop(&world, 2);
    let file =
        format!("{file}ready = {{ path = \"/health\", within = \"1s\" }}\nstop = {{ grace = \"1s\" }}\n");
    let terrace = world.up(&file);
    let before = terrace.pids("web");
    let load = Load::start(address, MIXED);
    terrace.reload_with(&format!("{file}env = {{ APP_MODE = \"never-ready\" }}\n"));
    let failed = terrace.event("fleet.rollout.failed");
    assert!(failed["message"].as_str().is_some_and(|text| text.contains("ready")), "{failed}");
    let service = terrace.service("web");
    assert_eq!(service["fleet"]["state"], "rollout-failed");
    assert!(service["fleet"]["reason"].as_str().is_some_and(|text| text.contains("ready")), "{service}");
    assert!(terrace.command(&["status"]).ok().contains("rollout-failed"));
    load.stop().assert_nothing_lost();
    assert!(before.iter().all(|old| terrace.pids("web").contains(old)), "the old ones serve on");
}

#[test]
fn a_release_command_runs_once_before_and_its_failure_stops_the_rollout() {
    let world = world();
    let (_port, address, file) = shop(&world, 2);
    let release = |text: &str| format!("release = [\"sh\", \"-c\", \"{text}\"]\n");
    let good = format!("{file}{}", release("echo x >> released"));
    let terrace = world.up(&good);
    assert_eq!(world.folder.read("released"), "x\n");
    let before = terrace.pids("web");
    terrace.reload_with(&format!("{file}{}", release("echo no such table >&2; exit 7")));
    terrace.event("fleet.release.failed");
    assert_eq!(terrace.service("web")["fleet"]["state"], "rollout-failed");
    assert_eq!(terrace.pids("web"), before);
    assert_eq!(get(address, "/").status, 200);
}

#[test]
fn a_crash_loop_is_reported_with_the_last_lines_of_output() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    let law = "restart = { from = \"10ms\", to = \"20ms\", crash-loop = 3 }\n";
    let terrace = world.up(&format!("{file}{law}"));
    // The one that serves ends, and what takes its place cannot start.
    let broken = format!("{file}{law}env = {{ APP_MODE = \"exit\" }}\n");
    terrace.reload_with(&broken);
    terrace.event("fleet.rollout.failed");
    assert_eq!(get(address, "/").status, 200);
    let told = terrace.command(&["status"]).ok();
    assert!(told.contains("exit status 3") || told.contains("the ledger is locked"), "{told}");
    let lines = terrace.command(&["logs", "web"]).ok();
    assert!(lines.contains("the ledger is locked, giving up"), "{lines}");
}

#[test]
fn a_killed_instance_is_started_again_and_idempotent_requests_do_not_notice() {
    let world = world();
    let (_port, address, file) = shop(&world, 3);
    let terrace = world.up(&file);
    let gets = &[(Kind::Get, 3)];
    let load = Load::start(address, gets);
    for _ in 0..3 {
        let (name, pid) = terrace.pids("web").remove(0);
        signal(pid, Signal::KILL);
        until_true("it is back", || {
            let now = terrace.pids("web");
            now.len() == 3
                && now.iter().any(|(same, other)| *same == name && *other != pid)
                && is_running(&terrace)
        });
        load.wait_for_more(gets);
    }
    load.stop().assert_nothing_lost();
    let died =
        terrace.events().into_iter().filter(|event| event["event"] == "fleet.instance.crashed").count();
    assert!(died >= 3, "each death is told");
}

#[test]
fn an_instance_that_is_replaced_finishes_what_it_has_and_keeps_its_websockets_for_a_while() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    let terrace = world.up(&format!("{file}stop = {{ streams = \"1s\" }}\n"));
    let old = terrace.pids("web")[0].1;
    let mut socket = WebSocket::open(address, "/ws").expect("it opens");
    let held = std::thread::spawn(move || get(address, "/hold?gate=drain"));
    until_true("a request is in flight", || world.folder.join("at-drain").exists());
    terrace.command(&["restart", "web"]).ok();
    assert_ne!(ready_pids(&terrace), [old]);
    socket.echo("still the old one").expect("it is open");
    world.folder.write("gate-drain", "");
    assert_eq!(held.join().expect("it was answered").text(), "held\n");
    // Nobody closes the socket, and so its time runs out.
    assert!(socket.receive().is_err());
    until_true("the old one is ended", || !is_alive(old));
}

#[test]
fn a_worker_runs_without_a_port() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    let worker = "[service.mailer]\nrun = [\"sh\", \"-c\", \"echo port is ${PORT-none}; exec sleep 600\"]\nworker = true\n";
    let route = "[route.all]\nat = \"/*\"\nto = \"web\"\n";
    let terrace = world.up(&format!("{file}{worker}{route}"));
    let lines = || terrace.command(&["logs", "mailer"]).ok();
    until_true("it has printed", || lines().contains("port is none"));
    assert_eq!(terrace.service("mailer")["kind"], "worker");
    assert_eq!(get(address, "/").instance(), "web-1");
}

#[test]
fn neighbours_reach_each_other_by_name_through_the_same_chain() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    let other = format!("[service.price-list]\nrun = {}\ninstances = 2\n", world.app());
    let route = "[route.all]\nat = \"/*\"\nto = \"web\"\n";
    let _terrace = world.up(&format!("{file}{other}{route}"));
    let url = get(address, "/env?name=PRICE_LIST_URL").text();
    let internal: SocketAddr = url.strip_prefix("http://").and_then(|rest| rest.parse().ok()).expect("a URL");
    assert_eq!(
        instances_seen(internal, 40),
        BTreeSet::from(["price-list-1".to_owned(), "price-list-2".to_owned()])
    );
    assert!(get(internal, "/seen").text().contains("terrace"), "it came through the chain");
}

#[test]
fn restarting_what_is_not_there_suggests_what_is() {
    let world = world();
    let (_port, _, file) = shop(&world, 1);
    let terrace = world.up(&file);
    let told = terrace.command(&["restart", "wob"]).refused();
    assert!(told.contains("wob") && told.contains("web"), "{told}");
    let told = terrace.command(&["scale", "wob", "2"]).refused();
    assert!(told.contains("web"), "{told}");
}

fn is_running(terrace: &Terrace<'_>) -> bool {
    terrace.service("web")["fleet"]["state"] == "running"
}

/// The processes of instances that are ready and wanted.
fn ready_pids(terrace: &Terrace<'_>) -> Vec<i32> {
    let instances = until("it runs", || {
        let service = terrace.service("web");
        (service["fleet"]["state"] == "running").then(|| service["fleet"]["instances"].clone())
    });
    let ready = instances.as_array().cloned().unwrap_or_default();
    ready
        .iter()
        .filter(|one| one["state"] == "ready")
        .filter_map(|one| Some(one["pid"].as_i64()? as i32))
        .collect()
}

fn instances_seen(address: SocketAddr, requests: u32) -> BTreeSet<String> {
    (0..requests).map(|_| get(address, "/").instance().to_owned()).collect()
}

//! What the commands tell is so: who gets no requests is not called ready, what failed is named, and nobody is said to be
//! well who is not.

use serde_json::Value;
use terrace_testkit::{Port, Request, get, until, until_true};

use crate::{shop, world};

/// Routes to a service that nobody answers for, which is never ejected.
fn broken(port: &Port, nobody: &Port, more: &str) -> String {
    format!(
        "[listen.public]\naddress = \"{port}\"\n\
         [service.broken]\nhosts = [\"{nobody}\"]\neject = false\nretry = false\n{more}\n\
         [route.broken]\nat = \"/*\"\nto = \"broken\"\n"
    )
}

#[test]
fn an_open_breaker_is_told_with_what_it_means() {
    let (world, port, nobody) = (world(), Port::reserve(), Port::reserve());
    let breaker = "breaker = { consecutive = 3, open = \"10m\" }";
    let terrace = world.up(&broken(&port, &nobody, breaker));
    assert_eq!(terrace.service("broken")["breaker"], "closed");
    until_true("it opens", || get(port.address(), "/").status == 503);
    assert_eq!(terrace.service("broken")["breaker"], "open");
    let shown = terrace.command(&["status"]).ok();
    assert!(shown.contains("hosts, breaker open: clients get 503"), "{shown}");
}

#[test]
fn a_host_that_refuses_everything_fails_and_has_no_latency() {
    let (world, port, nobody) = (world(), Port::reserve(), Port::reserve());
    let terrace = world.up(&broken(&port, &nobody, "breaker = false"));
    let shown = || terrace.command(&["status"]).ok();
    assert!(shown().contains("not asked yet"), "{}", shown());
    assert_eq!(get(port.address(), "/").status, 502);
    let line =
        until("it is told", || shown().lines().find(|line| line.contains("failing")).map(str::to_owned));
    assert!(!line.contains(" after ") && !line.contains("ready"), "{line}");
}

#[test]
fn a_latency_that_is_shown_was_measured() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    let terrace = world.up(&format!("{file}eject = false\nretry = false\nbreaker = false\n"));
    assert_eq!(get(address, "/").status, 200);
    let latency = || terrace.service("web")["endpoints"][0]["latency_ms"].clone();
    let measured = until("it is known", || Some(latency()).filter(Value::is_number));
    for _ in 0..5 {
        assert_eq!(get(address, "/garbage?kind=text").status, 502);
    }
    assert_eq!(latency(), measured, "failures are no answers");
    let shown = terrace.command(&["status"]).ok();
    assert!(shown.contains("0 of 1 ready, 1 failing, running"), "{shown}");
}

#[test]
fn who_was_taken_out_of_rotation_is_not_counted_as_ready() {
    let world = world();
    let (_port, _, file) = shop(&world, 2);
    let terrace = world.up(&file);
    terrace.command(&["drain", "web", "web-1"]).ok();
    let shown = terrace.command(&["status"]).ok();
    assert!(shown.contains("1 of 2 ready, 1 drained, running"), "{shown}");
}

#[test]
fn a_failed_request_is_listed_with_the_path_that_it_asked_for() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    let terrace = world.up(&file);
    assert_eq!(get(address, "/status?code=503&secret=x").status, 503);
    let shown = until("it is listed", || {
        Some(terrace.command(&["traces", "--errors"]).ok()).filter(|shown| shown.contains("503"))
    });
    assert!(shown.contains(" /status ") && !shown.contains("secret"), "{shown}");
    let id = shown.split_whitespace().find(|word| word.len() == 32).expect("it has an id");
    let way = terrace.command(&["traces", id]).ok();
    assert!(way.contains(" /status") && !way.contains("secret"), "{way}");
}

#[test]
fn a_trace_without_a_line_is_said_to_have_none() {
    let world = world();
    let (_port, _, file) = shop(&world, 1);
    let terrace = world.up(&file);
    let told = terrace.command(&["logs", "--trace", "4bf92f3577b34da6a3ce929d0e0e4736"]);
    assert_eq!((told.code, told.stdout.as_str()), (Some(0), ""));
    assert!(told.stderr.contains("no line of the trace 4bf92f3577b34da6a3ce929d0e0e4736"), "{}", told.stderr);
}

#[test]
fn a_reload_that_waits_knows_how_the_roll_out_ended() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    let terrace = world.up(&file);
    let run = format!("run = {}", world.app());
    world.write(&file.replace(&run, "run = [\"sh\", \"-c\", \"echo no database; exit 3\"]"));
    let told = terrace.command(&["reload", "--wait"]).refused();
    assert!(told.contains("service web: rollout-failed") && told.contains("no database"), "{told}");
    assert_eq!(get(address, "/").status, 200, "what ran before goes on");
    world.write(&file.replace(&run, "run = [\"sleep\", \"600\"]"));
    let told = terrace.command(&["reload", "--wait=1s"]).refused();
    assert!(told.contains("service web is not there after 1s: rolling-out"), "{told}");
    world.write(&format!("{file}env = {{ COLOUR = \"blue\" }}\n"));
    let told = terrace.command(&["reload", "--wait=5m"]).ok();
    assert!(told.contains("every service runs as the file says"), "{told}");
    assert_eq!(get(address, "/env?name=COLOUR").text(), "blue");
}

#[test]
fn damaged_numbers_of_the_fleet_are_told_of_and_set_aside() {
    let world = world();
    let (_port, _, file) = shop(&world, 1);
    let mut first = world.up(&file);
    first.command(&["scale", "web", "2"]).ok();
    first.stop();
    world.folder.write(".terrace/fleet.json", "{bad");
    let second = world.up(&file);
    assert_eq!(second.pids("web").len(), 1);
    let told = second.event("fleet.state_set_aside");
    assert!(told["path"].as_str().is_some_and(|path| path.ends_with("fleet.json")), "{told}");
    assert_eq!(world.folder.read(".terrace/fleet.json.aside"), "{bad");
}

#[test]
fn an_app_that_ignores_its_port_is_told_long_before_it_is_given_up() {
    let (world, port) = (world(), Port::reserve());
    let terrace = world.start(&format!(
        "[listen.public]\naddress = \"{port}\"\n[service.deaf]\nrun = [\"sleep\", \"600\"]\n"
    ));
    let told = terrace.event("fleet.instance.not_ready_yet");
    assert!(told["message"].as_str().is_some_and(|text| text.contains("port in PORT")), "{told}");
    let shown = terrace.command(&["status"]).ok();
    assert!(shown.contains("deaf-1: it is not ready yet") && shown.contains("port in PORT"), "{shown}");
}

#[test]
fn an_adopted_instance_is_as_old_as_it_is() {
    let world = world();
    let (_port, _, file) = shop(&world, 1);
    let mut first = world.up(&file);
    let age = |terrace: &terrace_testkit::Terrace<'_>| {
        let instance = terrace.service("web")["fleet"]["instances"][0].clone();
        instance["uptime_seconds"].as_u64().expect("it has an age")
    };
    until_true("it is a few seconds old", || age(&first) >= 3);
    first.kill();
    let second = world.up(&file);
    let own = second.status()["uptime_seconds"].as_u64().expect("it has an age");
    assert!(age(&second) >= own + 2, "it is older than who adopted it");
}

#[test]
fn who_may_only_look_is_no_stranger() {
    let world = world();
    let (_port, _, file) = shop(&world, 1);
    let api = Port::reserve();
    world.folder.write("viewer", "a-token-of-a-viewer");
    let admin = format!("[admin]\naddress = \"{api}\"\nviewer-token = {{ file = \"viewer\" }}\n");
    let terrace = world.up(&format!("{file}{admin}"));
    let change = Request::post("/v1/services/web/scale", "{\"instances\":2}").with("Host", &api.to_string());
    let change = change.with("Authorization", "Bearer a-token-of-a-viewer");
    assert_eq!(change.with("Content-Type", "application/json").send(api.address()).status, 403);
    let refused = terrace.event("admin.refused");
    assert!(refused["who"].as_str().is_some_and(|who| who.starts_with("viewer token, from ")), "{refused}");
}

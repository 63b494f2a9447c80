//! Terrace dies, its instances do not; and when nobody comes for them, nothing of them is left.

use terrace_testkit::{Signal, World, get, is_alive, signal, try_get, until_true};

use crate::{shop, world};

#[test]
fn after_kill_9_of_terrace_the_next_one_adopts_its_instances_without_a_failed_health_check() {
    let world = world();
    let (_port, address, file) = shop(&world, 3);
    let file = file.replace("every = \"200ms\"", "every = \"100ms\"");
    let mut first = world.up(&file);
    first.command(&["scale", "web", "2"]).ok();
    until_true("one has gone", || first.pids("web").len() == 2);
    let pids = first.pids("web");
    first.kill();
    let second = world.up(&file);
    assert_eq!(second.pids("web"), pids, "the same processes, as many as were scaled to");
    assert!(pids.iter().all(|(_, pid)| is_alive(*pid)));
    for _ in 0..20 {
        assert_eq!(get(address, "/").status, 200);
    }
    let probes = second.status()["probes"].as_str().expect("probes are on").parse().expect("an address");
    until_true("each was checked", || checks(&get(probes, "/metrics").text(), "passed") >= 20);
    assert_eq!(checks(&get(probes, "/metrics").text(), "failed"), 0);
    let adopted = second.events().iter().filter(|event| event["event"] == "fleet.instance.adopted").count();
    assert_eq!(adopted, 2);
    assert!(!second.has_event("fleet.instance.started"));
}

#[test]
fn an_adopted_instance_that_the_file_does_not_want_any_more_is_replaced_or_ended() {
    let world = world();
    let (_port, address, file) = shop(&world, 2);
    let worker = "[service.ticker]\nrun = [\"sleep\", \"600\"]\nworker = true\n[route.all]\nat = \"/*\"\nto = \"web\"\n";
    let mut first = world.up(&format!("{file}{worker}"));
    let (web, ticker) = (first.pids("web"), first.pids("ticker"));
    first.kill();
    let second = world.up(&format!("{file}env = {{ COLOUR = \"blue\" }}\n"));
    until_true("the new ones serve alone", || {
        (0..10).all(|_| get(address, "/env?name=COLOUR").text() == "blue")
            && web.iter().all(|(_, pid)| !is_alive(*pid))
    });
    until_true("the ticker is ended", || !is_alive(ticker[0].1));
    assert_eq!(second.pids("web").len(), 2);
}

#[test]
fn without_a_successor_nothing_is_left_behind() {
    let world = world();
    let (_port, address, file) = shop(&world, 2);
    // Something that an instance started, in a session of its own.
    let daemon =
        "[service.daemon]\nworker = true\nrun = [\"sh\", \"-c\", \"setsid sleep 601 & exec sleep 602\"]\n";
    let route = "[route.all]\nat = \"/*\"\nto = \"web\"\n";
    let mut terrace = world.up(&format!("{file}{daemon}{route}"));
    until_true("all run", || count(&world, "sleep 601") > 0 && count(&world, "sleep 602") > 0);
    terrace.kill();
    assert!(try_get(address, "/").is_err());
    assert!(count(&world, "") > 0, "they wait for a successor first");
    until_true("no process is left", || world.processes().is_empty());
}

#[test]
fn a_shim_that_is_killed_takes_its_instance_along_and_both_come_back() {
    let world = world();
    let (_port, address, file) = shop(&world, 1);
    let terrace = world.up(&file);
    let (_, pid) = terrace.pids("web").remove(0);
    let shim = world.processes().into_iter().find(|process| process.command.contains(" shim "));
    signal(shim.expect("there is a shim").pid, Signal::KILL);
    until_true("it is another", || terrace.pids("web").first().is_some_and(|(_, other)| *other != pid));
    until_true("it serves", || try_get(address, "/").is_ok_and(|answer| answer.status == 200));
    until_true("the first is gone", || !is_alive(pid));
    assert_eq!(count(&world, "--exact app"), 1);
}

fn count(world: &World, what: &str) -> usize {
    world.processes().iter().filter(|process| process.command.contains(what)).count()
}

/// Health checks of `web` with that result, as the metrics count them.
fn checks(metrics: &str, result: &str) -> u64 {
    let lines = metrics.lines().filter(|line| line.starts_with("terrace_upstream_health_checks_total{"));
    let ours = lines.filter(|line| line.contains(&format!("\"{result}\"")));
    ours.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
}

//! An end is an end: whatever hangs, follows or asks at that moment, Terrace goes when it is told to, and those who watched
//! it go with it.

use std::process::Command;

use terrace_testkit::{Inbox, Kind, Load, Terrace, World, is_alive, until, until_true};

use crate::{shop, world};

/// A worker that goes when it is told to, and one that stays until there is a file `gate`.
const WORKERS: &str = "[service.quick]\nrun = [\"sleep\", \"600\"]\nworker = true\n\
    [service.stubborn]\nworker = true\nstop = { grace = \"60s\" }\n\
    run = [\"sh\", \"-c\", \"trap 'touch asked' TERM; while [ ! -e gate ]; do sleep 0.02; done\"]\n";

#[test]
fn how_it_stands_is_told_while_one_service_has_ended_and_another_has_not() {
    let world = world();
    let (_port, _, file) = shop(&world, 1);
    let mut terrace = world.up(&format!("{file}{WORKERS}[route.all]\nat = \"/*\"\nto = \"web\"\n"));
    let quick = terrace.pids("quick")[0].1;
    // It waits for the end.
    let mut stop = world.start_with(&["stop"]);
    until_true("one has ended", || !is_alive(quick));
    until_true("the other one was asked to", || world.folder.join("asked").exists());
    // Whether there is still somebody to tell it is another matter; that nobody waits for ever is this one.
    for _ in 0..20 {
        let _told_or_refused = terrace.command(&["status"]);
        let _told_or_refused = terrace.command(&["top"]);
    }
    world.folder.write("gate", "");
    assert!(terrace.wait().success() && stop.wait().success());
    assert_eq!(world.processes(), []);
}

/// All that Terrace waits for in this file never comes.
fn everything_hangs(world: &World, hanging: &Inbox) -> (terrace_testkit::Port, std::net::SocketAddr, String) {
    let (port, address, file) = shop(world, 2);
    let url = hanging.url();
    let file = format!(
        "{file}metrics = {{ path = \"/hold?gate=metrics\", every = \"1s\" }}\n\
         [log]\naccess = {{ to = \"/dev/full\" }}\n[trace]\nsample = \"100%\"\n\
         [otlp]\nexport = {{ to = \"{url}\", signals = [\"traces\", \"metrics\", \"logs\"] }}\n\
         [notify.hanging]\nwebhook = \"{url}\"\ngroup-wait = \"0s\"\n\
         [notify.program]\ncommand = [\"sh\", \"-c\", \"exec sleep 600\"]\ngroup-wait = \"0s\"\n\
         [alert.busy]\nmetric = \"terrace_requests_total\"\nabove = 0\nover = \"5s\"\nfor = \"0s\"\n"
    );
    (port, address, file)
}

/// Ends it by `end` when everything hangs, and expects that it and all who follow it are gone then.
#[track_caller]
fn ends(end: impl FnOnce(&Terrace<'_>)) {
    let world = world();
    let hanging = Inbox::that_hangs();
    let (_port, address, file) = everything_hangs(&world, &hanging);
    let mut terrace = world.up(&file);
    let mut followers =
        [&["logs", "-f"][..], &["logs", "web", "-f", "--json"]].map(|arguments| world.start_with(arguments));
    let load = Load::start(address, &[(Kind::Get, 2)]);
    let asked = |path: &str| hanging.letters().iter().any(|letter| letter.path == path);
    for path in ["/", "/v1/traces", "/v1/metrics", "/v1/logs"] {
        until_true(&format!("{path} hangs"), || asked(path));
    }
    until_true("the program hangs", || world.processes().iter().any(|one| one.command == "sleep 600"));
    until_true("the app's own metrics hang", || world.folder.join("at-metrics").exists());
    load.stop().assert_nothing_lost();
    end(&terrace);
    assert!(terrace.wait().success());
    for follower in &mut followers {
        follower.wait();
    }
    world.folder.write("gate-metrics", "");
    until("nothing is left behind", || world.processes().is_empty().then_some(()));
}

#[test]
fn terrace_stop_ends_it_whatever_hangs_and_whoever_follows() {
    ends(|terrace| {
        terrace.command(&["stop"]).ok();
    });
}

#[test]
fn a_signal_ends_it_whatever_hangs_and_whoever_follows() {
    ends(|terrace| {
        let pid = terrace.pid().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().is_ok_and(|status| status.success()));
    });
}

//! Starting, crashing, scaling, stopping.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net;
use terrace_fleet::{Error, InstanceState, Ready, ReadyKind, Secret, ServiceConfig, ServiceState, Value};
use terrace_instruments::Value as Field;

use crate::world::{Folder, World, app, get, gone, kill, orders, pids};

#[tokio::test]
async fn each_instance_has_a_port_and_a_name_of_its_own() {
    let folder = Folder::new();
    let world = World::start(folder.config());
    let mut service = orders(3);
    service.env.push(("OWN".to_owned(), Value::Secret(Secret::new("mine"))));
    service.ready.kind = ReadyKind::Http { path: "/health".to_owned(), status: 200..=399 };
    world.apply(&[service]).await;
    let members = world.rotation.until("orders", |members| members.len() == 3).await;
    let ports: BTreeSet<u16> = members.iter().map(|member| member.address.port()).collect();
    assert_eq!(ports.len(), 3);
    for member in members {
        let answer = get(member.address);
        assert!(answer.contains(&format!("orders {} pid=", member.name)), "{answer}");
        assert!(answer.contains("terrace= own=mine"), "its own variables and none of Terrace's: {answer}");
    }
    world.stop().await;
}

#[tokio::test]
async fn how_it_stands_is_told_at_every_moment_of_an_end() {
    let folder = Folder::new();
    let world = World::start(folder.config());
    world.apply(&[orders(2)]).await;
    world.running().await;
    let (handle, mut changes) = (world.handle.clone(), world.handle.changes());
    // Asks each time that something has changed, also when a service ended just before.
    let asking = tokio::spawn(async move {
        while !handle.status().await.services.is_empty() {
            let _looked_again = tokio::time::timeout(Duration::from_millis(1), changes.changed()).await;
        }
    });
    world.stop().await;
    asking.await.expect("it was always answered");
}

#[tokio::test]
async fn to_ask_how_it_stands_changes_nothing() {
    let folder = Folder::new();
    let world = World::start(folder.config());
    world.apply(&[orders(1)]).await;
    world.running().await;
    let mut changes = world.handle.changes();
    // What else happens at the start comes to an end; what asking causes, at once or a little later, would not.
    let mut asked_in_peace = 0;
    for _ in 0..10_000 {
        world.handle.status().await;
        tokio::task::yield_now().await;
        let is_changed = changes.has_changed().expect("the fleet runs");
        changes.mark_unchanged();
        asked_in_peace = if is_changed { 0 } else { asked_in_peace + 1 };
        if asked_in_peace == 100 {
            break;
        }
    }
    assert_eq!(asked_in_peace, 100, "as long as somebody asked, something was said to have changed");
    world.stop().await;
}

#[tokio::test]
async fn a_killed_instance_is_out_of_rotation_and_started_again() {
    let folder = Folder::new();
    let world = World::start(folder.config());
    world.apply(&[orders(2)]).await;
    let before = pids(&world.running().await);
    kill(before[0]);
    let members = world.rotation.until("orders", |members| members.len() == 1).await;
    assert_eq!(members[0].name, "orders-2");
    let status =
        world.until(|status| pids(status).iter().filter(|pid| !before.contains(pid)).count() == 1).await;
    assert_eq!(status.service("orders").expect("applied").instances[0].restarts, 1);
    world.rotation.until("orders", |members| members.len() == 2).await;
    assert_eq!(world.count("fleet.instance.crashed"), 1);
    world.stop().await;
}

#[tokio::test]
async fn a_crash_loop_is_told_apart_with_its_last_words() {
    let folder = Folder::new();
    let world = World::start(folder.config());
    world.apply(&[app(&["crash"], 1)]).await;
    let status = world.handle.settled("orders").await.expect("applied");
    assert_eq!(status.state, ServiceState::CrashLoop);
    assert!(status.reason.expect("there is one").contains("exit status 3"));
    let events = world.events();
    let told: Vec<_> = events.iter().filter(|event| event.name == "fleet.instance.crash_loop").collect();
    assert_eq!(told.len(), 1);
    let Some(Field::Text(output)) = told[0].get("output") else { panic!("no output in {told:?}") };
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!((lines.len(), lines[0], lines[19]), (20, "line 11 before the end", "line 30 before the end"));
    world.stop().await;
}

#[tokio::test]
async fn an_instance_that_is_never_ready_is_stopped_and_tried_again() {
    let folder = Folder::new();
    let world = World::start(folder.config());
    let mut service = app(&["deaf"], 1);
    // Long enough that it has spoken by then.
    service.ready.within = Duration::from_secs(3);
    service.restart.crash_loop = 1;
    world.apply(&[service]).await;
    let status = world.handle.settled("orders").await.expect("applied");
    assert_eq!(status.state, ServiceState::CrashLoop);
    let reason = status.reason.expect("there is one");
    assert!(reason.contains("not ready within 3s") && reason.contains("I will never listen"), "{reason}");
    assert!(world.rotation.history("orders").is_empty());
    world.stop().await;
}

#[tokio::test]
async fn scaling_holds_until_the_file_changes_even_over_a_restart_of_terrace() {
    let folder = Folder::new();
    let world = World::start(folder.config());
    world.apply(&[orders(2)]).await;
    world.running().await;
    world.handle.scale("orders", 4).await.expect("known");
    let status = world.running().await;
    assert_eq!((pids(&status).len(), status.service("orders").expect("applied").scaled), (4, true));
    let history = world.rotation.history("orders");
    world.apply(&[orders(2)]).await;
    world.handle.scale("orders", 1).await.expect("known");
    let status = world.running().await;
    assert_eq!(status.service("orders").expect("applied").instances[0].name, "orders-1");
    assert!(world.rotation.history("orders")[history.len()..].iter().all(|members| !members.is_empty()));
    world.stop().await;

    let world = World::start(folder.config());
    world.apply(&[orders(2)]).await;
    assert_eq!(pids(&world.running().await).len(), 1);
    world.apply(&[orders(3)]).await;
    assert_eq!(pids(&world.running().await).len(), 3);
    let refused = world.handle.scale("nothing", 1).await.expect_err("unknown");
    assert!(
        matches!(refused, Error::UnknownService { .. }) && refused.to_string().contains("orders"),
        "{refused}"
    );
    world.stop().await;
}

#[tokio::test]
async fn stopping_takes_children_and_daemons_along() {
    let folder = Folder::new();
    let world = World::start(folder.config());
    world.apply(&[app(&["family"], 1)]).await;
    let status = world.running().await;
    let family = family_of(&world).await;
    let own = pids(&status);
    world.apply(&[]).await;
    world.until(|status| status.services.is_empty()).await;
    for pid in family.into_iter().chain(own) {
        gone(pid).await;
    }
    assert_eq!(folder.instance_files(), Vec::<String>::new());
    world.stop().await;
}

#[tokio::test]
async fn a_crash_takes_children_and_daemons_along() {
    let folder = Folder::new();
    let world = World::start(folder.config());
    world.apply(&[app(&["family"], 1)]).await;
    let before = pids(&world.running().await);
    let family = family_of(&world).await;
    kill(before[0]);
    for pid in family {
        gone(pid).await;
    }
    world.until(|status| pids(status).iter().any(|pid| !before.contains(pid))).await;
    world.stop().await;
}

/// The numbers that the app printed of those that it started.
async fn family_of(world: &World) -> [i32; 2] {
    let (child, daemon) = (world.said("child ").await, world.said("daemon ").await);
    [child, daemon].map(|number| number.parse().expect("a number"))
}

#[tokio::test]
async fn an_instance_ends_only_when_its_requests_are_through() {
    let folder = Folder::new();
    let world = World::start(folder.config());
    world.apply(&[orders(1)]).await;
    let pid = pids(&world.running().await)[0];
    world.rotation.busy.send_replace(true);
    world.apply(&[]).await;
    world.rotation.until("orders", <[_]>::is_empty).await;
    let status = world.until(|status| {
        let orders = status.service("orders");
        orders.is_some_and(|orders| orders.instances[0].state == InstanceState::Draining)
    });
    assert_eq!(pids(&status.await), [pid], "it is still there");
    world.rotation.busy.send_replace(false);
    gone(pid).await;
    world.stop().await;
}

#[tokio::test]
async fn requests_that_never_end_are_cut_off_when_their_time_is_over() {
    let folder = Folder::new();
    let world = World::start(folder.config());
    world.rotation.streaming.send_replace(true);
    let mut service = orders(1);
    (service.stop.drain, service.stop.streams) = (Duration::from_millis(50), Duration::from_millis(50));
    world.apply(&[service]).await;
    let pid = pids(&world.running().await)[0];
    world.rotation.busy.send_replace(true);
    world.apply(&[]).await;
    gone(pid).await;
    world.stop().await;
}

#[tokio::test]
async fn an_app_that_ignores_the_signal_is_killed_after_the_grace() {
    let folder = Folder::new();
    let world = World::start(folder.config());
    let script = "trap '' TERM; echo deaf to signals; while :; do sleep 1; done";
    let mut service = ServiceConfig::new("orders", ["sh", "-c", script].map(str::to_owned).to_vec());
    (service.worker, service.ready.kind) = (true, ReadyKind::None);
    service.stop.grace = Duration::from_millis(100);
    world.apply(&[service]).await;
    let pid = pids(&world.running().await)[0];
    world.stop().await;
    gone(pid).await;
}

#[tokio::test]
async fn a_worker_is_ready_when_it_says_so_and_gets_no_requests() {
    let folder = Folder::new();
    let world = World::start(folder.config());
    let mut service = app(&["notify"], 2);
    service.worker = true;
    service.ready = Ready { kind: ReadyKind::Notify, within: Duration::from_secs(30) };
    world.apply(&[service]).await;
    let status = world.running().await;
    let instance = &status.service("orders").expect("applied").instances[0];
    assert_eq!((instance.port, instance.says.as_deref()), (None, Some("at work")));
    assert!(world.rotation.history("orders").is_empty());
    world.stop().await;
}

#[tokio::test]
async fn an_instance_whose_port_was_taken_gets_another() {
    let folder = Folder::new();
    let world = World::start(folder.config());
    let file = folder.0.join("go");
    world.apply(&[app(&["patient", &file.to_string_lossy()], 1)]).await;
    let port_of = |status: &terrace_fleet::FleetStatus| status.service("orders")?.instances.first()?.port;
    let status = world.until(|status| port_of(status).is_some()).await;
    let taken = port_of(&status).expect("just seen");
    let _thief = take(taken);
    std::fs::write(&file, "").expect("a folder of our own");
    world.until(|status| port_of(status).is_some_and(|port| port != taken)).await;
    assert_eq!((world.count("fleet.instance.port_taken"), world.count("fleet.instance.crashed")), (1, 0));
    world.running().await;
    world.stop().await;
}

/// Takes a port without listening on it.
fn take(port: u16) -> OwnedFd {
    let socket = net::socket(net::AddressFamily::INET, net::SocketType::STREAM, None).expect("a socket");
    net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)).expect("nobody has it yet");
    socket
}

#[tokio::test]
async fn a_service_that_cannot_run_is_refused_with_all_reasons_and_nothing_changes() {
    let folder = Folder::new();
    let world = World::start(folder.config());
    world.apply(&[orders(1)]).await;
    let before = pids(&world.running().await);
    let missing = ServiceConfig::new("missing", vec!["no-such-program".to_owned()]);
    let refused = world.handle.apply(vec![missing]).await.expect_err("there is no such program");
    assert!(refused.to_string().contains("`no-such-program` was not found in PATH"), "{refused}");
    assert_eq!(pids(&world.running().await), before);
    world.stop().await;
}

#[tokio::test]
async fn root_runs_a_service_as_another_user() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let folder = Folder::new();
    let world = World::start(folder.config());
    let script = "echo user $(id -u) $(id -g); exec sleep 1000";
    let mut service = ServiceConfig::new("orders", ["sh", "-c", script].map(str::to_owned).to_vec());
    (service.worker, service.ready.kind) = (true, ReadyKind::None);
    service.user = Some("nobody".to_owned());
    service.group = Some("65534".to_owned());
    world.apply(&[service]).await;
    world.running().await;
    assert_eq!(world.said("user ").await, "65534 65534");
    world.stop().await;
}

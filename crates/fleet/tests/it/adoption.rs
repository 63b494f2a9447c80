//! Deaths of Terrace and of shims.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use terrace_fleet::{InstanceState, Secret, Value};

use crate::world::{Folder, World, app, gone, helper, kill, orders, pids};

/// Another Terrace, in a process of its own, with so many instances in rotation.
fn controller(folder: &Folder, count: usize) -> Child {
    let state = folder.0.join("state");
    let mut command = Command::new(helper());
    command.arg("controller").arg(state).arg(count.to_string()).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("the helper was built");
    let output = child.stdout.take().expect("it was started with a pipe");
    let wanted = format!("orders {count} ");
    let mut lines = BufReader::new(output).lines().map(|line| line.expect("text"));
    assert!(lines.any(|line| line.starts_with(&wanted)), "it ended before all were in rotation");
    child
}

/// The numbers of shims and apps, from the files that shims write.
fn from_files(folder: &Folder, field: &str) -> Vec<i32> {
    let files = folder.instance_files().into_iter().filter(|name| name.ends_with(".json"));
    let facts = files.map(|name| {
        let text = std::fs::read(folder.0.join("state/instances").join(name)).expect("it is there");
        let facts: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        i32::try_from(facts[field].as_i64().expect("a number")).expect("a process number")
    });
    let mut numbers: Vec<i32> = facts.collect();
    numbers.sort_unstable();
    numbers
}

fn sorted(mut pids: Vec<i32>) -> Vec<i32> {
    pids.sort_unstable();
    pids
}

#[tokio::test]
async fn after_kill_9_of_terrace_its_successor_has_the_same_instances_in_rotation_at_once() {
    let folder = Folder::new();
    let mut first = controller(&folder, 3);
    let before = from_files(&folder, "pid");
    first.kill().expect("it runs");
    first.wait().expect("it is our child");

    let world = World::start(folder.config());
    let argv = vec![helper(), "serve".to_owned()];
    let mut service = terrace_fleet::ServiceConfig::new("orders", argv);
    service.instances = 3;
    world.apply(&[service]).await;
    assert_eq!(world.rotation.history("orders").first().map(Vec::len), Some(3), "all in the first publish");
    let status = world.running().await;
    assert_eq!(sorted(pids(&status)), before);
    assert_eq!(world.count("fleet.instance.adopted"), 3);
    assert_eq!(world.count("fleet.instance.started"), 0);
    world.stop().await;
    for pid in before {
        gone(pid).await;
    }
    assert_eq!(folder.instance_files(), Vec::<String>::new());
}

#[tokio::test]
async fn an_adopted_instance_of_another_configuration_serves_until_it_is_replaced() {
    let folder = Folder::new();
    let world = World::start(folder.config());
    world.apply(&[orders(2)]).await;
    let before = pids(&world.running().await);
    world.vanish().await;

    let world = World::start(folder.config());
    let mut service = orders(2);
    service.env.push(("OWN".to_owned(), Value::Plain("changed".to_owned())));
    world.apply(&[service]).await;
    let after = pids(&world.running().await);
    assert!(after.iter().all(|pid| !before.contains(pid)));
    assert!(world.rotation.history("orders").iter().all(|members| members.len() >= 2));
    world.stop().await;
}

#[tokio::test]
async fn instances_of_a_service_that_is_gone_are_stopped_by_the_successor() {
    let folder = Folder::new();
    let world = World::start(folder.config());
    world.apply(&[orders(2)]).await;
    let before = pids(&world.running().await);
    world.vanish().await;

    let world = World::start(folder.config());
    world.apply(&[]).await;
    for pid in before {
        gone(pid).await;
    }
    world.until(|status| status.services.is_empty()).await;
    world.stop().await;
}

#[tokio::test]
async fn output_written_while_nobody_listened_is_not_lost() {
    let folder = Folder::new();
    let world = World::start(folder.config());
    let file = folder.0.join("speak");
    let script =
        format!("while [ ! -e {} ]; do sleep 0.01; done; echo spoken; exec sleep 1000", file.display());
    let mut service =
        terrace_fleet::ServiceConfig::new("orders", ["sh", "-c", &script].map(str::to_owned).to_vec());
    (service.worker, service.ready.kind) = (true, terrace_fleet::ReadyKind::None);
    world.apply(&[service.clone()]).await;
    world.running().await;
    world.vanish().await;
    std::fs::write(file, "").expect("a folder of our own");

    let world = World::start(folder.config());
    world.apply(&[service]).await;
    assert_eq!(world.said("spoken").await, "");
    world.stop().await;
}

#[tokio::test]
async fn without_a_successor_nothing_is_left() {
    let folder = Folder::new();
    let mut config = folder.config();
    config.adopt_within = Duration::from_millis(50);
    let world = World::start(config);
    world.apply(&[app(&["family"], 2)]).await;
    let apps = pids(&world.running().await);
    let shims = from_files(&folder, "shim_pid");
    world.vanish().await;
    for pid in apps.into_iter().chain(shims) {
        gone(pid).await;
    }
    assert_eq!(folder.instance_files(), Vec::<String>::new());
}

#[tokio::test]
async fn when_a_shim_is_killed_its_app_goes_too_and_is_started_again() {
    let folder = Folder::new();
    let world = World::start(folder.config());
    world.apply(&[app(&["family"], 1)]).await;
    let before = pids(&world.running().await);
    let child: i32 = world.said("child ").await.parse().expect("a number");
    let daemon: i32 = world.said("daemon ").await.parse().expect("a number");
    kill(from_files(&folder, "shim_pid")[0]);
    gone(before[0]).await;
    gone(child).await;
    gone(daemon).await;
    let status = world.until(|status| pids(status).iter().any(|pid| !before.contains(pid))).await;
    let instance = &status.service("orders").expect("applied").instances[0];
    assert_eq!(instance.last_exit.as_deref(), Some("its shim was killed"));
    world.until(|status| status.service("orders").is_some_and(|orders| orders.ready == 1)).await;
    world.stop().await;
}

#[tokio::test]
async fn what_killed_shims_left_in_the_folder_is_cleared_away() {
    let folder = Folder::new();
    let mut first = controller(&folder, 2);
    first.kill().expect("it runs");
    first.wait().expect("it is our child");
    for shim in from_files(&folder, "shim_pid") {
        kill(shim);
        gone(shim).await;
    }
    assert_eq!(folder.instance_files().len(), 4);
    let world = World::start(folder.config());
    world.apply(&[]).await;
    assert_eq!(folder.instance_files(), Vec::<String>::new());
    world.stop().await;
}

#[tokio::test]
async fn an_app_that_ended_while_nobody_listened_is_started_again() {
    let folder = Folder::new();
    let world = World::start(folder.config());
    world.apply(&[orders(1)]).await;
    let before = pids(&world.running().await);
    world.vanish().await;
    kill(before[0]);
    gone(before[0]).await;
    let world = World::start(folder.config());
    world.apply(&[orders(1)]).await;
    let status = world.running().await;
    assert_ne!(pids(&status), before);
    assert_eq!(status.service("orders").expect("applied").instances[0].state, InstanceState::Ready);
    world.stop().await;
}

#[tokio::test]
async fn secrets_are_not_in_the_state_folder_nor_in_the_list_of_processes() {
    let folder = Folder::new();
    let world = World::start(folder.config());
    let mut service = orders(1);
    service.env.push(("OWN".to_owned(), Value::Secret(Secret::new("hunter2-of-orders"))));
    world.apply(&[service]).await;
    let status = world.running().await;
    let mut texts = vec![format!("{status:?}"), format!("{:?}", world.events())];
    for name in folder.instance_files().into_iter().filter(|name| name.ends_with(".json")) {
        texts
            .push(std::fs::read_to_string(folder.0.join("state/instances").join(name)).expect("it is there"));
    }
    for pid in from_files(&folder, "shim_pid") {
        texts.extend(["cmdline", "environ"].map(|file| {
            String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/{file}")).expect("ours")).into_owned()
        }));
    }
    assert!(texts.len() >= 5 && texts.iter().all(|text| !text.contains("hunter2")), "{texts:?}");
    world.stop().await;
}

//! Changed configurations, releases, rolling restarts.

use std::time::Duration;

use terrace_fleet::{InstanceState, ServiceState, Value};

use crate::world::{Folder, World, app, get, gone, helper, orders, pids};

fn changed(count: u32) -> terrace_fleet::ServiceConfig {
    let mut service = orders(count);
    service.env.push(("OWN".to_owned(), Value::Plain("changed".to_owned())));
    service
}

#[tokio::test]
async fn a_changed_environment_is_rolled_out_with_never_fewer_ready() {
    let folder = Folder::new();
    let world = World::start(folder.config());
    world.apply(&[orders(3)]).await;
    let before = pids(&world.running().await);
    let published = world.rotation.history("orders").len();
    world.apply(&[changed(3)]).await;
    let after = pids(&world.running().await);
    assert!(after.iter().all(|pid| !before.contains(pid)), "{before:?} {after:?}");
    for members in &world.rotation.history("orders")[published..] {
        assert!((3..=4).contains(&members.len()), "{members:?}");
    }
    for member in world.rotation.now("orders") {
        assert!(get(member.address).contains("own=changed"));
    }
    assert_eq!((world.count("fleet.rollout.started"), world.count("fleet.rollout.done")), (1, 1));
    world.stop().await;
}

#[tokio::test]
async fn a_rolling_restart_replaces_every_instance_with_never_fewer_ready() {
    let folder = Folder::new();
    let world = World::start(folder.config());
    world.apply(&[orders(2)]).await;
    let before = pids(&world.running().await);
    let published = world.rotation.history("orders").len();
    world.handle.restart("orders").await.expect("known");
    let after = pids(&world.running().await);
    assert!(after.iter().all(|pid| !before.contains(pid)));
    assert!(world.rotation.history("orders")[published..].iter().all(|members| members.len() >= 2));
    for pid in before {
        gone(pid).await;
    }
    world.stop().await;
}

#[tokio::test]
async fn a_roll_out_goes_on_while_old_instances_still_have_streams() {
    let folder = Folder::new();
    let world = World::start(folder.config());
    world.apply(&[orders(2)]).await;
    let before = pids(&world.running().await);
    world.rotation.streaming.send_replace(true);
    world.handle.restart("orders").await.expect("known");
    let status = world.handle.settled("orders").await.expect("applied");
    assert_eq!(status.ready, 2);
    let draining = status.instances.iter().filter(|instance| instance.state == InstanceState::Draining);
    assert_eq!(draining.filter_map(|instance| instance.pid).collect::<Vec<_>>(), before);
    world.rotation.streaming.send_replace(false);
    for pid in before {
        gone(pid).await;
    }
    world.running().await;
    world.stop().await;
}

#[tokio::test]
async fn what_changes_in_place_starts_nothing_anew() {
    let folder = Folder::new();
    let world = World::start(folder.config());
    world.apply(&[orders(2)]).await;
    let before = pids(&world.running().await);
    let mut service = orders(2);
    service.stop.grace += Duration::from_secs(1);
    service.ready.within += Duration::from_secs(1);
    world.apply(&[service]).await;
    assert_eq!(pids(&world.running().await), before);
    world.stop().await;
}

#[tokio::test]
async fn a_replacement_that_is_never_ready_leaves_the_old_ones_serving_and_says_why() {
    let folder = Folder::new();
    let world = World::start(folder.config());
    world.apply(&[orders(2)]).await;
    let before = pids(&world.running().await);
    let published = world.rotation.history("orders").len();
    let mut bad = app(&["deaf"], 2);
    bad.ready.within = Duration::from_millis(100);
    world.apply(&[bad.clone()]).await;
    let status = world.handle.settled("orders").await.expect("applied");
    assert_eq!(status.state, ServiceState::RolloutFailed);
    let reason = status.reason.expect("there is one");
    assert!(reason.contains("not ready within 100ms"), "{reason}");
    let status = world.until(|status| pids(status).len() == 2).await;
    assert_eq!(pids(&status), before);
    assert_eq!(world.rotation.history("orders").len(), published, "rotation never changed");

    world.apply(&[bad]).await;
    world.until(|_| world.count("fleet.rollout.failed") == 2).await;
    world.apply(&[changed(2)]).await;
    let after = pids(&world.running().await);
    assert!(after.iter().all(|pid| !before.contains(pid)));
    world.stop().await;
}

#[tokio::test]
async fn while_a_roll_out_has_failed_what_crashes_is_started_again_as_it_was() {
    let folder = Folder::new();
    let world = World::start(folder.config());
    world.apply(&[orders(2)]).await;
    let before = pids(&world.running().await);
    world.apply(&[app(&["crash"], 2)]).await;
    let status = world.handle.settled("orders").await.expect("applied");
    assert_eq!(status.state, ServiceState::RolloutFailed);
    crate::world::kill(before[1]);
    world.rotation.until("orders", |members| members.len() == 1).await;
    let members = world.rotation.until("orders", |members| members.len() == 2).await;
    assert!(get(members[1].address).contains("orders-2"));
    assert_eq!(world.count("fleet.rollout.failed"), 1);

    world.apply(&[orders(2)]).await;
    let status = world.running().await;
    assert!(pids(&status).contains(&before[0]), "going back needs no new process");
    world.stop().await;
}

#[tokio::test]
async fn a_newer_configuration_supersedes_one_that_is_being_rolled_out() {
    let folder = Folder::new();
    let world = World::start(folder.config());
    world.apply(&[orders(2)]).await;
    world.running().await;
    world.apply(&[app(&["deaf"], 2)]).await;
    world.until(|status| status.service("orders").is_some_and(|orders| orders.instances.len() == 3)).await;
    world.apply(&[changed(2)]).await;
    world.running().await;
    for member in world.rotation.now("orders") {
        assert!(get(member.address).contains("own=changed"));
    }
    assert_eq!(world.count("fleet.rollout.superseded"), 1);
    world.stop().await;
}

#[tokio::test]
async fn a_failed_release_refuses_the_roll_out_and_a_good_one_runs_once() {
    let folder = Folder::new();
    let world = World::start(folder.config());
    world.apply(&[orders(1)]).await;
    let before = pids(&world.running().await);
    let release = |script: &str| Some(["sh", "-c", script].map(str::to_owned).to_vec());
    let mut service = changed(1);
    service.release = release("echo no such table >&2; exit 7");
    world.apply(&[service.clone()]).await;
    let status = world.handle.settled("orders").await.expect("applied");
    assert_eq!(status.state, ServiceState::RolloutFailed);
    let reason = status.reason.expect("there is one");
    assert!(reason.contains("exit status 7") && reason.contains("no such table"), "{reason}");
    assert_eq!(pids(&world.handle.status().await), before);

    let runs = folder.0.join("runs");
    service.release = release(&format!("echo $TERRACE_INSTANCE >> {}", runs.display()));
    world.apply(&[service.clone()]).await;
    world.running().await;
    world.handle.restart("orders").await.expect("known");
    world.running().await;
    world.stop().await;

    let world = World::start(folder.config());
    world.apply(&[service]).await;
    world.running().await;
    assert_eq!(std::fs::read_to_string(runs).expect("it ran"), "orders-release\n");
    world.stop().await;
}

#[tokio::test]
async fn the_first_start_waits_for_its_release() {
    let folder = Folder::new();
    let world = World::start(folder.config());
    let built = folder.0.join("built");
    let mut service = orders(1);
    service.release = Some(["cp", &helper(), &built.to_string_lossy()].map(str::to_owned).to_vec());
    service.argv[0] = built.to_string_lossy().into_owned();
    world.apply(&[service]).await;
    world.running().await;
    world.stop().await;
}

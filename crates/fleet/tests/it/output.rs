//! What an app prints: every line reaches the log with its service and instance, a flood of it blocks nobody, and no
//! secret is among it.

use terrace_fleet::Followed;
use terrace_instruments::Value as Field;
use tokio::time::timeout;

use crate::world::{DEADLINE, Folder, World, app, orders};

#[tokio::test]
async fn a_flood_of_output_neither_blocks_the_app_nor_is_kept_whole() {
    let folder = Folder::new();
    let world = World::start(folder.config());
    world.apply(&[app(&["flood", "200000"], 1)]).await;
    world.running().await;
    world.said("the flood is over").await;
    let lines = world.handle.logs(Some("orders"), None).recent(usize::MAX);
    assert!(lines.len() <= 2_000, "{}", lines.len());
    world.stop().await;
}

#[tokio::test]
async fn a_flood_while_nobody_listens_does_not_block_the_app() {
    let folder = Folder::new();
    let world = World::start(folder.config());
    let service = app(&["flood", "100000"], 1);
    world.apply(std::slice::from_ref(&service)).await;
    world
        .until(|status| status.service("orders").is_some_and(|orders| orders.instances[0].pid.is_some()))
        .await;
    world.vanish().await;
    let world = World::start(folder.config());
    world.apply(&[service]).await;
    world.running().await;
    world.stop().await;
}

#[tokio::test]
async fn a_line_becomes_an_event_and_reaches_who_follows() {
    let folder = Folder::new();
    let world = World::start(folder.config());
    let mut logs = world.handle.logs(Some("orders"), Some("orders-1"));
    world.apply(&[orders(1)]).await;
    let line = timeout(DEADLINE, logs.next()).await.expect("it comes").expect("the fleet runs");
    let Followed::Line(line) = line else { panic!("one line is not too much") };
    assert_eq!((line.instance.as_str(), line.text.as_str()), ("orders-1", "listening"));
    let output = world.output();
    let event = output
        .iter()
        .find(|event| event.message.as_deref() == Some("listening"))
        .expect("it was told");
    assert_eq!((event.service.as_deref(), event.instance.as_deref()), (Some("orders"), Some("orders-1")));
    assert_eq!(event.get("stream"), Some(&Field::from("stdout")));
    world.stop().await;
}

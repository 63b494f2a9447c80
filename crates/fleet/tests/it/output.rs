//! What an app prints: every line reaches the log with its service and instance, a flood of it blocks nobody, and no
//! secret is among it.

use std::time::SystemTime;

use terrace_instruments::Value as Field;

use crate::world::{Folder, World, app, orders};

#[tokio::test]
async fn a_flood_of_output_does_not_block_the_app() {
    let folder = Folder::new();
    let world = World::start(folder.config());
    world.apply(&[app(&["flood", "200000"], 1)]).await;
    world.running().await;
    world.said("the flood is over").await;
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
async fn a_line_becomes_an_event_with_the_time_when_it_was_written() {
    let folder = Folder::new();
    let world = World::start(folder.config());
    world.apply(&[orders(1)]).await;
    world.said("listening").await;
    let output = world.output();
    let event =
        output.iter().find(|event| event.message.as_deref() == Some("listening")).expect("it was told");
    assert_eq!((event.service.as_deref(), event.instance.as_deref()), (Some("orders"), Some("orders-1")));
    assert_eq!(event.get("stream"), Some(&Field::from("stdout")));
    assert!(event.time > SystemTime::UNIX_EPOCH);
    world.stop().await;
}

//! Terrace as its users have it: the program, its file, its command line and its sockets, with real processes behind it
//! and real clients in front. Each test is named after what somebody would say of it.
//!
//! The app that Terrace runs here is this very program again, told by its environment to be one ([`app`]).

mod alerting;
mod answers;
mod audit;
mod balancing;
mod bodies;
mod bounds;
mod certificates;
mod collecting;
mod crowd;
mod dashboard;
mod ending;
mod faults;
mod heavy;
mod identity;
mod limiting;
mod logging;
mod metrics;
mod mutual;
mod outliving;
mod peers;
mod reloading;
mod resilience;
mod scaling;
mod secure;
mod seeing;
mod starting;
mod streaming;
mod telling;
mod terminal;
mod tracing;
mod traffic;

use std::net::SocketAddr;

use terrace_testkit::{App, Port, World};

/// What a test needs, with the program under test.
fn world() -> World {
    let own = std::env::current_exe().expect("this program has a path");
    let own = own.to_str().expect("its path is text").to_owned();
    let app = [&own, "--exact", "app", "--nocapture"].map(str::to_owned);
    World::new(env!("CARGO_BIN_EXE_terrace"), app.to_vec())
}

/// Not a test: the app, when a Terrace of a test starts this program as one.
#[test]
fn app() {
    App::serve_as_process().expect("the app has its port");
}

/// A listener with the app behind it, in so many instances, and a port for it.
fn shop(world: &World, instances: u32) -> (Port, SocketAddr, String) {
    let port = Port::reserve();
    let file = format!(
        "[listen.public]\naddress = \"{port}\"\n\
         [service.web]\nrun = {}\ninstances = {instances}\nhealth = {{ path = \"/health\", every = \"200ms\" }}\n",
        world.app()
    );
    let address = port.address();
    (port, address, file)
}

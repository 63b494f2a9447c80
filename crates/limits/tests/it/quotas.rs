//! Quotas over restarts and crashes, and on a disk that takes nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use terrace_limits::Engine;
use terrace_testkit::{Folder, until_true};

use crate::machine::{Machine, block_on, hammer, keeping, material, quota, spec, take};

#[test]
fn what_was_used_before_a_restart_is_used_after_it() {
    let folder = Folder::new();
    let machine = Machine::start(keeping(folder.path()));
    let limit = machine.apply(&[spec(quota(100), Engine::Embedded)]);
    assert_eq!(hammer(&[&limit], "one", 4, 15), 60);
    machine.end();
    let machine = Machine::start(keeping(folder.path()));
    let limit = machine.apply(&[spec(quota(100), Engine::Embedded)]);
    assert_eq!(hammer(&[&limit], "one", 4, 50), 40);
    assert!(block_on(take(&limit, &material("other"), 100)).allowed);
    machine.end();
}

#[test]
fn a_crash_forgets_at_most_a_hundred_requests_of_a_key() {
    let folder = Folder::new();
    let mut allowed = 0;
    for _ in 0..5 {
        let machine = Machine::start(keeping(folder.path()));
        let limit = machine.apply(&[spec(quota(10_000), Engine::Embedded)]);
        allowed += hammer(&[&limit, &limit], "one", 4, 200);
        machine.die();
    }
    assert_eq!(allowed, 8_000);
    let machine = Machine::start(keeping(folder.path()));
    let limit = machine.apply(&[spec(quota(10_000), Engine::Embedded)]);
    let more = hammer(&[&limit, &limit], "one", 4, 1_000);
    assert!((2_000..=2_000 + 5 * 100).contains(&more), "{more}");
    machine.end();
}

#[test]
fn what_is_given_back_and_what_another_limit_is_called_is_kept_apart() {
    let folder = Folder::new();
    let machine = Machine::start(keeping(folder.path()));
    let named =
        |name: &str| terrace_limits::Spec { name: name.to_owned(), ..spec(quota(100), Engine::Embedded) };
    let specs = [named("a"), named("b")];
    let limit = machine.apply(&specs);
    assert!(block_on(take(&limit, &material("one"), 60)).allowed);
    drop(limit.take(&material("one"), 40, crate::machine::now(), std::time::Duration::ZERO));
    machine.end();
    let machine = Machine::start(keeping(folder.path()));
    let limit = machine.apply(&specs);
    assert_eq!(block_on(take(&limit, &material("one"), 0)).remaining, 40);
    let limit = machine.apply(&[named("b")]);
    assert_eq!(block_on(take(&limit, &material("one"), 0)).remaining, 100);
    let limit = machine.apply(&[named("a")]);
    assert_eq!(block_on(take(&limit, &material("one"), 0)).remaining, 40, "it was gone for a while");
    machine.end();
}

#[test]
fn the_file_does_not_grow_with_the_requests() {
    let folder = Folder::new();
    let machine = Machine::start(keeping(folder.path()));
    let limit = machine.apply(&[spec(quota(1_000_000), Engine::Embedded)]);
    for round in 0..40 {
        let bytes = || fs::metadata(folder.join("quotas")).map_or(0, |file| file.len());
        let before = bytes();
        for key in 0..1_000 {
            assert!(block_on_now(&limit, &format!("{key}")), "round {round}");
        }
        until_true("it is written", || bytes() != before);
    }
    machine.end();
    let bytes = fs::metadata(folder.join("quotas")).expect("it is there").len();
    assert!(bytes < 3 << 19, "{bytes} bytes for 1000 keys");
}

/// Asks without waiting for the disk.
fn block_on_now(limit: &terrace_limits::Limit, key: &str) -> bool {
    match limit.take(&material(key), 1, crate::machine::now(), std::time::Duration::ZERO) {
        terrace_limits::Step::Decided(decision, hold) | terrace_limits::Step::Unsaved(decision, hold, _) => {
            drop(hold.keep());
            decision.allowed
        }
        _ => false,
    }
}

#[test]
fn a_torn_end_of_the_file_is_left_out_and_the_rest_is_read() {
    let folder = Folder::new();
    let machine = Machine::start(keeping(folder.path()));
    let limit = machine.apply(&[spec(quota(100), Engine::Embedded)]);
    assert!(block_on(take(&limit, &material("one"), 60)).allowed);
    machine.end();
    let path = folder.join("quotas");
    let mut bytes = fs::read(&path).expect("it is there");
    bytes.extend_from_slice(&[7; 30]);
    fs::write(&path, bytes).expect("it is ours");
    let machine = Machine::start(keeping(folder.path()));
    let limit = machine.apply(&[spec(quota(100), Engine::Embedded)]);
    assert_eq!(block_on(take(&limit, &material("one"), 10)).remaining, 30);
    machine.end();
    let machine = Machine::start(keeping(folder.path()));
    let limit = machine.apply(&[spec(quota(100), Engine::Embedded)]);
    assert_eq!(
        block_on(take(&limit, &material("one"), 0)).remaining,
        30,
        "what came after it is read as well"
    );
    machine.end();
}

#[test]
fn a_disk_that_takes_nothing_is_told_once_and_stops_nobody() {
    let folder = Folder::new();
    let machine = Machine::start(keeping(&folder.join("kept")));
    // A folder in the place of the file's new version: not even root can write that.
    fs::create_dir_all(folder.join("kept/quotas.partial")).expect("it is ours");
    let limit = machine.apply(&[spec(quota(1_000), Engine::Embedded)]);
    assert_eq!(hammer(&[&limit], "one", 4, 50), 200);
    until_true("it is told", || machine.events().contains(&"limits.quotas.unsafe"));
    assert_eq!(hammer(&[&limit], "one", 4, 50), 200);
    fs::remove_dir(folder.join("kept/quotas.partial")).expect("it is ours");
    until_true("it is told", || machine.events().contains(&"limits.quotas.safe"));
    let unsafe_told = machine.events().iter().filter(|name| **name == "limits.quotas.unsafe").count();
    assert_eq!(unsafe_told, 1);
    machine.end();
    let mode = fs::metadata(folder.join("kept/quotas")).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let machine = Machine::start(keeping(&folder.join("kept")));
    let limit = machine.apply(&[spec(quota(1_000), Engine::Embedded)]);
    assert_eq!(block_on(take(&limit, &material("one"), 0)).remaining, 600);
    machine.end();
}

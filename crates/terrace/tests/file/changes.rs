//! What a reload says that it changes.

use terrace::file::{diff, load_from, summary};

use crate::world::{MAIN, good, world};

const BEFORE: &str = "[service.web]\nrun = \"web\"\ninstances = 2\nenv = { PASSWORD = \"hunter2\" }\n\
                      [service.old]\nrun = \"old\"\n\
                      [route.web]\nat = \"/*\"\nto = \"web\"\n";

fn change(from: &str, to: &str) -> String {
    summary(&diff(&good(BEFORE).resolved, &good(&BEFORE.replace(from, to)).resolved))
}

#[test]
fn a_change_names_the_key_and_both_values() {
    assert_eq!(change("instances = 2", "instances = 4"), "service web: instances 2 → 4");
    assert_eq!(change("run = \"web\"", "run = \"web\" # the same"), "nothing changed");
}

#[test]
fn a_policy_that_reaches_a_route_is_a_change_of_both() {
    let text = change("run = \"web\"", "run = \"web\"\ntimeout.total = \"5s\"");
    assert_eq!(text, "route web: timeout.total false → \"5s\"; service web: timeout.total false → \"5s\"");
}

#[test]
fn tables_that_come_and_go_are_counted() {
    assert_eq!(change("[service.old]\nrun = \"old\"\n", ""), "service old removed");
    let routes = "[route.a]\nat = \"/a\"\nto = \"web\"\n[route.b]\nat = \"/b\"\nto = \"web\"\n[route.web]";
    assert_eq!(change("[route.web]", routes), "2 routes added");
}

#[test]
fn no_value_of_the_environment_is_shown() {
    let text = change("hunter2", "correct horse");
    assert_eq!(text, "service web: env.PASSWORD changed");

    let hook = |value: &str| {
        good(&format!(
            "{BEFORE}[notify.a]\nwebhook = \"https://a.example\"\nheaders = {{ X-Key = \"{value}\" }}\n"
        ))
        .resolved
    };
    assert_eq!(summary(&diff(&hook("hunter2"), &hook("correct horse"))), "receiver a: headers.X-Key changed");
}

#[test]
fn a_secret_with_a_new_content_is_a_change_that_shows_nothing() {
    let file = "[service.web]\nrun = \"web\"\nenv = { S = { file = \"token\" } }\nenv-file = \".env\"\n";
    let mut world = world(file);
    let before = load_from(MAIN.as_ref(), None, &world).unwrap().resolved;
    world.files.insert("token".into(), b"another\n".to_vec());
    let after = load_from(MAIN.as_ref(), None, &world).unwrap().resolved;
    assert_eq!(summary(&diff(&before, &after)), "service web: content changed");
    assert!(!format!("{before:?}{after:?}").contains("another"), "Debug shows a secret");
    assert!(!format!("{before:?}").contains("from-env-file"), "Debug shows an env-file");
}

#[test]
fn what_waits_for_the_next_start_says_so() {
    let text = change("[route.web]", "[terrace]\nthreads = 1\ndrain = \"5s\"\n[route.web]");
    assert_eq!(
        text,
        "terrace: drain \"30s\" → \"5s\", threads 1 (takes effect when Terrace is started anew)"
    );
}

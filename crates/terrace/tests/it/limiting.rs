//! Limits, from the file to the client: one bucket for all who name it, a route's own, what survives a reload and a restart,
//! the limits of API keys, and two Terraces that share a Redis.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use terrace_testkit::{Capacity, Connection, Origin, Port, Redis, Request, Terrace, World, get, until_true};

use crate::world;

/// A listener, an app, and what else the file says.
fn file(world: &World, port: &Port, more: &str) -> String {
    let app = world.app();
    format!(
        "{more}[listen.public]\naddress = \"{port}\"\n[service.web]\nrun = {app}\n\
         health = {{ path = \"/health\", every = \"200ms\" }}\n"
    )
}

/// How many of so many requests pass; none of the others is answered with anything but 429.
fn passed(to: SocketAddr, path: &str, requests: u32) -> u32 {
    let one = |_| match get(to, path).status {
        200 => 1,
        429 => 0,
        other => panic!("{path} answers {other}"),
    };
    (0..requests).map(one).sum()
}

#[test]
fn a_limit_with_a_name_is_shared_and_a_routes_own_is_not() {
    let world = world();
    let port = Port::reserve();
    let routes = "[limit.api]\nrate = \"4/h\"\n\
                  [route.a]\nat = \"/a/*\"\nto = \"web\"\nlimit = \"api\"\n\
                  [route.b]\nat = \"/b/*\"\nto = \"web\"\nlimit = [\"api\", { rate = \"3/h\" }]\n\
                  [route.c]\nat = \"/c/*\"\nto = \"web\"\nlimit = { rate = \"2/h\" }\n";
    let terrace = world.up(&file(&world, &port, routes));
    let to = port.address();
    assert_eq!(passed(to, "/b/", 2), 2);
    assert_eq!(passed(to, "/a/", 5), 2, "two of four went by the other route");
    assert_eq!(passed(to, "/b/", 3), 0);
    assert_eq!(passed(to, "/c/", 5), 2);
    let refused = get(to, "/c/");
    assert_eq!(refused.field("ratelimit-policy"), Some(r#""route:c";q=2;w=3600"#));
    assert_eq!(refused.json()["status"], 429);
    assert!(refused.field("retry-after").is_some());
    assert!(terrace.counted("terrace_limit_total{limit=\"api\",outcome=\"refused\"}") >= 6.0);
}

#[test]
fn a_reload_refills_no_bucket_and_a_changed_rate_goes_on_with_what_was_used() {
    let world = world();
    let port = Port::reserve();
    let routes = |rate: &str| format!("[route.a]\nat = \"/a/*\"\nto = \"web\"\nlimit = {{ {rate} }}\n");
    let terrace = world.up(&file(&world, &port, &routes("rate = \"4/h\"")));
    let to = port.address();
    assert_eq!(passed(to, "/a/", 5), 4);
    terrace.reload_with(&file(&world, &port, &format!("# another\n{}", routes("rate = \"4/h\"")))).ok();
    assert_eq!(passed(to, "/a/", 2), 0);
    terrace.reload_with(&file(&world, &port, &routes("rate = \"10/h\""))).ok();
    assert_eq!(passed(to, "/a/", 10), 6);
    terrace
        .reload_with(&file(&world, &port, &routes("rate = \"12/h\", algorithm = \"sliding-window\"")))
        .ok();
    assert_eq!(passed(to, "/a/", 10), 2, "what was used stays used under another algorithm");
}

#[test]
fn a_quota_survives_a_restart_and_a_kill() {
    let world = world();
    let port = Port::reserve();
    let routes = "[route.a]\nat = \"/a/*\"\nto = \"web\"\n\
                  limit = { rate = \"500/month\", algorithm = \"quota\" }\n";
    let text = file(&world, &port, routes);
    let to = port.address();
    let mut terrace = world.up(&text);
    assert_eq!(passed(to, "/a/", 30), 30);
    assert!(terrace.stop().success());
    let mut terrace = world.up(&text);
    let left = |answer: &str| -> u64 {
        let rest = answer.split(";r=").nth(1).expect("a remaining").split(';').next().expect("digits");
        rest.parse().expect("a number")
    };
    assert_eq!(left(get(to, "/a/").field("ratelimit").expect("told")), 500 - 31);
    assert_eq!(passed(to, "/a/", 300), 300);
    terrace.kill();
    let _terrace = world.up(&text);
    let left = left(get(to, "/a/").field("ratelimit").expect("told"));
    assert!((500 - 332..=500 - 332 + 100).contains(&left), "{left}");
}

/// Connections that ask at the same time, on four cores.
const CONNECTIONS: usize = 200;

/// Clients that ask one limit as fast as they are answered, until they are stopped; how many passed.
struct Hammer {
    passed: Arc<AtomicU64>,
    asked: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
}

impl Hammer {
    fn on(to: SocketAddr) -> Self {
        let (passed, asked) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let stop = Arc::new(AtomicBool::new(false));
        let client = |_| {
            let (passed, asked, stop) = (Arc::clone(&passed), Arc::clone(&asked), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut connection = Connection::open(to).expect("Terrace accepts");
                while !stop.load(Ordering::SeqCst) {
                    let status = connection.exchange(&Request::get("/")).expect("an answer").status;
                    assert!(matches!(status, 200 | 429), "{status}");
                    passed.fetch_add(u64::from(status == 200), Ordering::SeqCst);
                    asked.fetch_add(1, Ordering::SeqCst);
                }
            })
        };
        let clients = (0..CONNECTIONS).map(client).collect();
        Self { passed, asked, stop, clients }
    }

    /// Waits until each client has asked a few times more, and tells how many have passed in all.
    fn passed_by_now(&self) -> u64 {
        let until = self.asked.load(Ordering::SeqCst) + 3 * CONNECTIONS as u64;
        until_true("all have asked again", || self.asked.load(Ordering::SeqCst) >= until);
        self.passed.load(Ordering::SeqCst)
    }

    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        self.clients.into_iter().for_each(|client| client.join().expect("only 200 and 429"));
        self.passed.load(Ordering::SeqCst)
    }
}

#[test]
fn two_hundred_connections_on_four_cores_are_let_through_exactly_as_often_as_the_file_says_also_while_it_changes()
 {
    // Of a bucket a request comes back each few minutes, of the others none within the test.
    for algorithm in ["token-bucket", "fixed-window", "sliding-window", "quota"] {
        let world = world();
        let port = Port::reserve();
        let period = if algorithm == "quota" { "month" } else { "d" };
        let file = |limit: u32, algorithm: &str, comment: &str| {
            format!(
                "# {comment}\n[terrace]\nthreads = 4\n[listen.public]\naddress = \"{port}\"\n\
                 [route.a]\nat = \"/*\"\nrespond = {{ body = \"ok\" }}\n\
                 limit = {{ rate = \"{limit}/{period}\", algorithm = \"{algorithm}\" }}\n"
            )
        };
        let terrace = world.up(&file(300, algorithm, "first"));
        let hammer = Hammer::on(port.address());
        until_true("all of it is had", || hammer.passed_by_now() >= 300);
        assert_eq!(hammer.passed_by_now(), 300, "{algorithm}");
        for comment in ["second", "third"] {
            terrace.reload_with(&file(300, algorithm, comment)).ok();
            assert_eq!(hammer.passed_by_now(), 300, "{algorithm}: a reload gives nobody a fresh count");
        }
        terrace.reload_with(&file(400, algorithm, "more")).ok();
        until_true("there is more", || hammer.passed_by_now() >= 400);
        let other = if algorithm == "fixed-window" { "sliding-window" } else { "fixed-window" };
        if algorithm != "quota" {
            terrace.reload_with(&file(500, other, "counted in another way")).ok();
            until_true("there is more", || hammer.passed_by_now() >= 500);
        }
        let limit = if algorithm == "quota" { 400 } else { 500 };
        assert_eq!(hammer.passed_by_now(), limit, "{algorithm}");
        assert_eq!(hammer.stop(), limit, "{algorithm}");
    }
}

#[test]
fn never_more_are_under_way_at_once_than_the_file_says_and_no_place_is_lost_by_who_leaves_or_by_a_reload() {
    let origin = Origin::start_many(1, Capacity { workers: 1_000, service: Duration::from_millis(5) });
    let world = world();
    let port = Port::reserve();
    let service = origin.addresses()[0];
    let file = |at_once: u32, comment: &str| {
        format!(
            "# {comment}\n[terrace]\nthreads = 4\n[listen.public]\naddress = \"{port}\"\n[service.app]\n\
             hosts = [\"{service}\"]\n[route.a]\nat = \"/*\"\nto = \"app\"\n\
             limit = {{ at-once = {at_once}, key = \"all\" }}\n"
        )
    };
    let terrace = world.up(&file(5, "first"));
    let hammer = Hammer::on(port.address());
    // Beside those who wait for their answer, some who send a request and go away.
    let leave = || {
        for _ in 0..50 {
            let mut connection = Connection::open(port.address()).expect("Terrace accepts");
            connection.write(&Request::get("/").to_bytes()).expect("it reads");
        }
    };
    let under_way = |until: u64| {
        let mut most = 0;
        while hammer.passed.load(Ordering::SeqCst) < until {
            most = most.max(origin.served_in_all().present);
        }
        most
    };
    assert!(under_way(100) <= 5);
    for round in 1..=3 {
        leave();
        terrace.reload_with(&file(5, &format!("again {round}"))).ok();
        let passed = hammer.passed.load(Ordering::SeqCst);
        assert!(under_way(passed + 100) <= 5, "round {round}");
    }
    terrace.reload_with(&file(3, "less")).ok();
    until_true("those who were let in before are done", || origin.served_in_all().present <= 3);
    let passed = hammer.passed.load(Ordering::SeqCst);
    assert!(under_way(passed + 100) <= 3);
    assert!(hammer.stop() >= 600);
    until_true("all places are back", || {
        get(port.address(), "/").field("ratelimit").is_some_and(|told| told.contains(";r=2;"))
    });
}

fn key(terrace: &Terrace<'_>, more: &[&str]) -> String {
    let told = terrace.command(&[&["--json", "keys", "create"], more].concat()).ok();
    let told: Value = serde_json::from_str(&told).expect("JSON");
    told["key"].as_str().expect("the key").to_owned()
}

#[test]
fn an_api_key_has_its_own_limit_wherever_it_is_used() {
    let world = world();
    let port = Port::reserve();
    let routes = "[route.a]\nat = \"/a/*\"\nto = \"web\"\nauth = { keys = true }\n\
                  [route.b]\nat = \"/b/*\"\nto = \"web\"\nauth = { keys = true }\n\
                  limit = { rate = \"4/h\", key = \"api-key\" }\n";
    let terrace = world.up(&file(&world, &port, routes));
    let (few, many) = (key(&terrace, &["few", "--limit", "3/h"]), key(&terrace, &["many"]));
    let ask = |key: &str, path: &str| Request::get(path).with("X-Api-Key", key).send(port.address());
    until_true("the keys are known", || ask(&many, "/a/").status == 200);
    assert_eq!((ask(&few, "/a/").status, ask(&few, "/b/").status, ask(&few, "/a/").status), (200, 200, 200));
    let refused = ask(&few, "/b/");
    assert_eq!((refused.status, refused.field("ratelimit-policy")), (429, Some(r#""api-key";q=3;w=3600"#)));
    assert_eq!((0..6).filter(|_| ask(&many, "/b/").status == 200).count(), 4);
    assert!((0..20).all(|_| ask(&many, "/a/").status == 200));
}

#[test]
fn what_an_api_key_has_used_of_its_month_is_not_given_to_it_again_by_a_restart() {
    let world = world();
    let port = Port::reserve();
    let text = file(&world, &port, "[route.a]\nat = \"/a/*\"\nto = \"web\"\nauth = { keys = true }\n");
    let mut terrace = world.up(&text);
    let key = key(&terrace, &["sold", "--limit", "5/month"]);
    let ask = || Request::get("/a/").with("X-Api-Key", &key).send(port.address());
    until_true("the key is known", || ask().status == 200);
    assert_eq!((ask().status, ask().status), (200, 200));
    assert!(terrace.stop().success());
    let _terrace = world.up(&text);
    assert_eq!((ask().status, ask().status), (200, 200));
    let refused = ask();
    assert_eq!((refused.status, refused.field("ratelimit-policy")), (429, Some(r#""api-key";q=5"#)));
}

#[test]
fn two_terraces_that_share_a_redis_have_one_limit_and_go_on_without_it() {
    let mut redis = Redis::start(&[]);
    let (worlds, ports) = ([world(), world()], [Port::reserve(), Port::reserve()]);
    let routes = format!(
        "[limit.api]\nrate = \"40/h\"\nengine = \"{}\"\nkey = \"all\"\n\
         [route.a]\nat = \"/a/*\"\nto = \"web\"\nlimit = \"api\"\n",
        redis.url()
    );
    let terraces = [0, 1].map(|place| worlds[place].up(&file(&worlds[place], &ports[place], &routes)));
    let is_up = |terrace: &Terrace<'_>| {
        terrace
            .metrics()
            .lines()
            .any(|line| line.starts_with("terrace_limit_engine_up{") && line.ends_with(" 1"))
    };
    until_true("both share", || terraces.iter().all(is_up));
    let both =
        |requests: u32| -> u32 { ports.iter().map(|port| passed(port.address(), "/a/", requests)).sum() };
    let first = both(10);
    assert_eq!(first, 20);
    redis.kill();
    until_true("both have noticed", || terraces.iter().all(|terrace| terrace.has_event("limits.redis.away")));
    // Not one answer but 200 and 429, as `passed` sees to.
    let alone = both(50);
    assert!((1..=40).contains(&alone), "{alone}");
    redis.go_on();
    until_true("both are back", || terraces.iter().all(|terrace| terrace.has_event("limits.redis.back")));
    assert!(both(60) <= 40);
    assert_eq!(both(5), 0);
}

//! Several machines, one Redis: exact while it is there, and what happens when it is not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use terrace_limits::Engine;
use terrace_policy::limit::Law;
use terrace_testkit::{Port, Redis, until_true};

use crate::machine::{
    Machine, block_on, bucket, fixed, hammer, hasty, material, patient, quota, redis, sliding, spec, take,
};

fn laws(limit: u32) -> [Law; 4] {
    [bucket(limit), fixed(limit), sliding(limit), quota(limit.into())]
}

fn until_sharing(machines: &[&Machine]) {
    until_true("all share", || machines.iter().all(|machine| machine.is_sharing()));
}

#[test]
fn two_machines_under_load_let_through_exactly_the_limit() {
    for law in laws(500) {
        let server = Redis::start(&[]);
        let machines = [Machine::start(patient()), Machine::start(patient())];
        let specs = [spec(law, redis(&server.url()))];
        let limits = [machines[0].apply(&specs), machines[1].apply(&specs)];
        until_sharing(&[&machines[0], &machines[1]]);
        assert_eq!(hammer(&[&limits[0], &limits[1]], "one", 16, 50), 500, "{law:?}");
        let local: i64 = machines.iter().map(|m| m.metric("terrace_limit_engine_decisions", "local")).sum();
        assert_eq!(local, 0, "Redis decided about all");
        // Another key has its own.
        assert!(block_on(take(&limits[0], &material("other"), 1)).allowed);
        machines.into_iter().for_each(Machine::end);
    }
}

#[test]
fn questions_that_gather_are_asked_in_one_go() {
    let server = Redis::start(&[]);
    let machine = Machine::start(patient());
    let limit = machine.apply(&[spec(bucket(10_000), redis(&server.url()))]);
    until_sharing(&[&machine]);
    let calls = || {
        let stats = server.ask(&["INFO", "commandstats"]);
        let line =
            stats.lines().find(|line| line.starts_with("cmdstat_evalsha:")).unwrap_or_default().to_owned();
        let calls =
            line.split_once("calls=").and_then(|(_, rest)| rest.split(',').next()?.parse::<u64>().ok());
        calls.unwrap_or(0)
    };
    let before = calls();
    assert_eq!(hammer(&[&limit], "hot", 64, 50), 3_200);
    let asked = calls() - before;
    assert!(asked < 1_600, "3200 decisions took {asked} calls");
    machine.end();
}

#[test]
fn what_a_request_did_not_use_is_given_back_to_all() {
    for law in laws(10) {
        let server = Redis::start(&[]);
        let machines = [Machine::start(patient()), Machine::start(patient())];
        let specs = [spec(law, redis(&server.url()))];
        let limits = [machines[0].apply(&specs), machines[1].apply(&specs)];
        until_sharing(&[&machines[0], &machines[1]]);
        let key = material("one");
        block_on(async {
            let step = limits[0].take(&key, 10, crate::machine::now(), Duration::ZERO);
            let terrace_limits::Step::Asked(question, mut asked) = step else { panic!("it is shared") };
            let word = asked.word().await;
            drop(terrace_limits::Limit::settle(question, word, crate::machine::now()));
        });
        until_true("it is back", || block_on(take(&limits[1], &key, 10)).allowed);
        assert!(!block_on(take(&limits[0], &key, 1)).allowed, "{law:?}");
        machines.into_iter().for_each(Machine::end);
    }
}

#[test]
fn redis_killed_and_started_again_under_load_costs_no_answer_and_is_told_once() {
    let mut server = Redis::start(&[]);
    let machines = [Machine::start(hasty()), Machine::start(hasty())];
    let specs = [spec(quota(2_000), redis(&server.url()))];
    let limits = [machines[0].apply(&specs), machines[1].apply(&specs)];
    until_sharing(&[&machines[0], &machines[1]]);
    let (is_over, mut allowed) = (AtomicBool::new(false), 0);
    let away =
        |machine: &Machine| machine.events().iter().filter(|name| **name == "limits.redis.away").count();
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut allowed = 0;
            while !is_over.load(Ordering::Relaxed) {
                allowed += hammer(&[&limits[0], &limits[1]], "one", 4, 10);
            }
            allowed
        });
        until_true("both have heard of each other", || {
            machines
                .iter()
                .all(|machine| machine.metric("terrace_limit_engine_machines", &engine(&server)) == 2)
        });
        server.kill();
        until_true("both have noticed", || machines.iter().all(|machine| away(machine) >= 1));
        // It forgot everything.
        server.go_on();
        until_sharing(&[&machines[0], &machines[1]]);
        until_true("all of it is used up", || !block_on(take(&limits[0], &material("one"), 1)).allowed);
        is_over.store(true, Ordering::Relaxed);
        allowed = load.join().expect("no panic");
    });
    // The machine that was back first did not know of what the other still let through of its share of what was left.
    assert!((2_000..=3_000).contains(&allowed), "{allowed}");
    for machine in &machines {
        let events = machine.events();
        let count = |wanted: &str| events.iter().filter(|name| **name == wanted).count();
        assert_eq!(count("limits.redis.away"), count("limits.redis.back"), "{events:?}");
        assert!(machine.metric("terrace_limit_engine_decisions", "local") > 0);
    }
    machines.into_iter().for_each(Machine::end);
}

fn engine(server: &Redis) -> String {
    format!("{}/0", server.url())
}

#[test]
fn without_redis_each_machine_has_its_even_share_of_what_was_left() {
    for law in [bucket(100), fixed(100), sliding(100), quota(100)] {
        let mut server = Redis::start(&[]);
        let machines = [Machine::start(patient()), Machine::start(patient())];
        let specs = [spec(law, redis(&server.url()))];
        let limits = [machines[0].apply(&specs), machines[1].apply(&specs)];
        until_sharing(&[&machines[0], &machines[1]]);
        // The first one came when it was alone; it hears of the second when it says again that it is there.
        let known = |machine: &Machine| machine.metric("terrace_limit_engine_machines", &engine(&server));
        until_true("both have heard of each other", || machines.iter().all(|machine| known(machine) == 2));
        assert_eq!(hammer(&[&limits[0]], "one", 4, 10), 40);
        assert!(block_on(take(&limits[1], &material("one"), 0)).allowed);
        server.kill();
        until_true("both have noticed", || machines.iter().all(|machine| !machine.is_sharing()));
        assert_eq!(hammer(&[&limits[0]], "one", 4, 50), 30, "{law:?}");
        assert_eq!(hammer(&[&limits[1]], "one", 4, 50), 30, "{law:?}");
        machines.into_iter().for_each(Machine::end);
    }
}

#[test]
fn nothing_is_had_twice_because_redis_forgot_it_or_was_away() {
    for law in laws(100) {
        let mut server = Redis::start(&[]);
        let machine = Machine::start(patient());
        let limit = machine.apply(&[spec(law, redis(&server.url()))]);
        until_sharing(&[&machine]);
        assert_eq!(hammer(&[&limit], "one", 4, 10), 40);
        server.kill();
        until_true("it is noticed", || !machine.is_sharing());
        assert_eq!(hammer(&[&limit], "one", 4, 5), 20);
        server.go_on();
        until_sharing(&[&machine]);
        assert_eq!(hammer(&[&limit], "one", 4, 50), 40, "{law:?}");
        // Another machine is told by Redis of all of it.
        let other = Machine::start(patient());
        let limit = other.apply(&[spec(law, redis(&server.url()))]);
        until_sharing(&[&other]);
        assert!(!block_on(take(&limit, &material("one"), 1)).allowed, "{law:?}");
        machine.end();
        other.end();
    }
}

#[test]
fn a_redis_that_forgot_the_scripts_is_told_them_again() {
    let server = Redis::start(&[]);
    let machine = Machine::start(patient());
    let limit = machine.apply(&[spec(bucket(100), redis(&server.url()))]);
    until_sharing(&[&machine]);
    assert!(block_on(take(&limit, &material("one"), 1)).allowed);
    assert_eq!(server.ask(&["SCRIPT", "FLUSH", "SYNC"]), "OK");
    assert_eq!(block_on(take(&limit, &material("one"), 1)).remaining, 98);
    assert_eq!(machine.metric("terrace_limit_engine_decisions", "local"), 0);
    machine.end();
}

#[test]
fn a_redis_that_is_frozen_is_not_waited_for_by_each_request() {
    let server = Redis::start(&[]);
    let machine = Machine::start(hasty());
    let limit = machine.apply(&[spec(bucket(1_000), redis(&server.url()))]);
    until_sharing(&[&machine]);
    server.freeze();
    // The first ones wait in vain, and are decided about here.
    assert!(block_on(take(&limit, &material("one"), 1)).allowed);
    until_true("it is noticed", || !machine.is_sharing());
    assert_eq!(hammer(&[&limit], "one", 4, 25), 100);
    assert!(machine.reason("limits.redis.away").contains("50ms"), "{}", machine.reason("limits.redis.away"));
    server.thaw();
    until_sharing(&[&machine]);
    machine.end();
}

#[test]
fn a_redis_that_is_full_or_must_not_be_written_to_is_as_good_as_none() {
    let primary = Redis::start(&[]);
    let replica = Redis::start(&["--replicaof", "127.0.0.1", &primary.port().to_string()]);
    until_true("it is a replica", || replica.ask(&["INFO", "replication"]).contains("master_link_status:up"));
    let full = Redis::start(&["--maxmemory", "1", "--maxmemory-policy", "noeviction"]);
    for (server, reason) in [(&replica, "READONLY"), (&full, "OOM")] {
        let machine = Machine::start(patient());
        let limit = machine.apply(&[spec(bucket(100), redis(&server.url()))]);
        until_true("it is told", || machine.events().contains(&"limits.redis.away"));
        assert!(
            machine.reason("limits.redis.away").contains(reason),
            "{}",
            machine.reason("limits.redis.away")
        );
        assert_eq!(hammer(&[&limit], "one", 4, 50), 100);
        until_true("it was tried again", || {
            let told = server.ask(&["INFO", "errorstats"]);
            let count =
                told.lines().find_map(|line| line.strip_prefix(&format!("errorstat_{reason}:count=")));
            count.and_then(|count| count.trim().parse::<u32>().ok()).is_some_and(|count| count >= 3)
        });
        match reason {
            "READONLY" => assert_eq!(server.ask(&["REPLICAOF", "NO", "ONE"]), "OK"),
            _ => assert_eq!(server.ask(&["CONFIG", "SET", "maxmemory", "0"]), "OK"),
        }
        until_sharing(&[&machine]);
        let told = machine.events().iter().filter(|name| **name == "limits.redis.away").count();
        assert_eq!(told, 1, "it is told once");
        machine.end();
    }
}

#[test]
fn what_each_machine_let_through_of_a_quota_without_redis_is_told_to_it() {
    // It remembers over being killed, so each machine only has to tell what it does not know.
    let mut server = Redis::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let machines = [Machine::start(patient()), Machine::start(patient())];
    let specs = [spec(quota(100), redis(&server.url()))];
    let limits = [machines[0].apply(&specs), machines[1].apply(&specs)];
    until_sharing(&[&machines[0], &machines[1]]);
    let known = |machine: &Machine| machine.metric("terrace_limit_engine_machines", &engine(&server));
    until_true("both have heard of each other", || machines.iter().all(|machine| known(machine) == 2));
    assert_eq!(hammer(&[&limits[0]], "one", 2, 10), 20);
    let left = |place: usize| block_on(take(&limits[place], &material("one"), 0)).remaining;
    assert_eq!(left(1), 80);
    server.kill();
    until_true("both have noticed", || machines.iter().all(|machine| !machine.is_sharing()));
    assert_eq!((hammer(&[&limits[0]], "one", 1, 10), hammer(&[&limits[1]], "one", 1, 10)), (10, 10));
    server.go_on();
    until_sharing(&[&machines[0], &machines[1]]);
    assert_eq!((left(0), left(1), left(0)), (70, 60, 60));
    machines.into_iter().for_each(Machine::end);
}

#[test]
fn a_redis_that_fills_up_while_it_is_used_is_noticed_and_comes_back_by_itself() {
    let server = Redis::start(&["--maxmemory-policy", "noeviction"]);
    let machine = Machine::start(patient());
    let limit = machine.apply(&[spec(bucket(1_000), redis(&server.url()))]);
    until_sharing(&[&machine]);
    assert!(block_on(take(&limit, &material("one"), 1)).allowed);
    assert_eq!(server.ask(&["CONFIG", "SET", "maxmemory", "1"]), "OK");
    assert_eq!(hammer(&[&limit], "one", 4, 25), 100);
    until_true("it is noticed", || machine.events().contains(&"limits.redis.away"));
    assert_eq!(server.ask(&["CONFIG", "SET", "maxmemory", "0"]), "OK");
    until_sharing(&[&machine]);
    machine.end();
}

#[test]
fn who_must_log_in_does_and_a_wrong_password_is_told_and_not_printed() {
    let server = Redis::start(&["--requirepass", "s3cret"]);
    let right = format!("redis://:s3cret@127.0.0.1:{}/3", server.port());
    let wrong = format!("redis://:wr0ng@127.0.0.1:{}", server.port());
    let machine = Machine::start(patient());
    let limit = machine.apply(&[spec(bucket(100), redis(&right))]);
    until_sharing(&[&machine]);
    assert!(block_on(take(&limit, &material("one"), 1)).allowed);
    machine.end();
    let machine = Machine::start(patient());
    let _limit = machine.apply(&[spec(bucket(100), redis(&wrong))]);
    until_true("it is told", || machine.events().contains(&"limits.redis.away"));
    let reason = machine.reason("limits.redis.away");
    assert!(reason.contains("WRONGPASS") && !reason.contains("wr0ng"), "{reason}");
    machine.end();
}

#[test]
fn whoever_speaks_another_protocol_there_is_as_good_as_none() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("redis://{}", listener.local_addr().expect("it listens"));
    let machine = Machine::start(patient());
    let limit = machine.apply(&[spec(bucket(100), redis(&url))]);
    let (mut stream, _) = listener.accept().expect("it is connected to");
    std::io::Write::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").expect("it reads");
    until_true("it is told", || machine.events().contains(&"limits.redis.away"));
    assert!(machine.reason("limits.redis.away").contains("protocol"));
    assert_eq!(hammer(&[&limit], "one", 4, 50), 100);
    drop((stream, listener));
    machine.end();
}

#[test]
fn after_a_reload_a_shared_limit_goes_on_with_what_was_used() {
    let server = Redis::start(&[]);
    let machine = Machine::start(patient());
    let limit = machine.apply(&[spec(bucket(100), redis(&server.url()))]);
    until_sharing(&[&machine]);
    assert_eq!(hammer(&[&limit], "one", 4, 20), 80);
    let changed = machine.apply(&[spec(bucket(120), redis(&server.url()))]);
    assert!(machine.is_sharing(), "the connection is kept");
    assert_eq!(hammer(&[&changed], "one", 4, 50), 40);
    let embedded = machine.apply(&[spec(bucket(130), Engine::Embedded)]);
    assert!(block_on(take(&embedded, &material("one"), 1)).allowed);
    drop((limit, changed));
    until_true("the connection is let go", || {
        server.ask(&["CLIENT", "LIST"]).lines().all(|line| !line.contains("cmd=evalsha"))
    });
    machine.end();
}

#[test]
fn what_is_used_while_a_reload_is_under_way_is_used_after_it_under_another_algorithm_too() {
    let machine = Machine::start(patient());
    let limit = machine.apply(&[spec(bucket(100), Engine::Embedded)]);
    assert_eq!(hammer(&[&limit], "one", 4, 5), 20);
    let prepared = machine.limits.prepare(vec![spec(sliding(100), Engine::Embedded)]);
    // Certificates are read and sockets opened, and the file before is in force.
    assert_eq!(hammer(&[&limit], "one", 4, 10), 40);
    let next = prepared.get("api").expect("it was just prepared");
    machine.limits.commit(prepared);
    assert_eq!(hammer(&[&next], "one", 4, 50), 40);
    machine.end();
}

#[test]
fn nothing_stays_in_redis_for_ever() {
    let server = Redis::start(&[]);
    for law in laws(100) {
        let machine = Machine::start(patient());
        let limit = machine.apply(&[spec(law, redis(&server.url()))]);
        until_sharing(&[&machine]);
        assert!(block_on(take(&limit, &material("one"), 1)).allowed);
        machine.end();
    }
    let keys = server.ask(&["KEYS", "*"]);
    assert_eq!(keys.lines().count(), 5, "{keys}");
    for key in keys.lines() {
        let ttl: i64 = server.ask(&["TTL", key]).parse().expect("a number");
        assert!(ttl > 0, "{key} stays");
        assert!(!key.contains("one"), "what a key is made of is not told");
    }
}

#[test]
fn a_cluster_is_followed_to_whoever_has_the_key() {
    // Where they talk to one another is a port of its own: ten thousand above the other it may be anybody's, or none.
    let buses: Vec<Port> = (0..3).map(|_| Port::reserve()).collect();
    let bus = |node: usize| buses[node].number().to_string();
    let node = |node| Redis::start(&["--cluster-enabled", "yes", "--cluster-port", &bus(node)]);
    let nodes: Vec<Redis> = (0..3).map(node).collect();
    for (node, slots) in nodes.iter().zip([["0", "5460"], ["5461", "10922"], ["10923", "16383"]]) {
        assert_eq!(node.ask(&["CLUSTER", "ADDSLOTSRANGE", slots[0], slots[1]]), "OK");
        let first = nodes[0].port().to_string();
        assert_eq!(node.ask(&["CLUSTER", "MEET", "127.0.0.1", &first, &bus(0)]), "OK");
    }
    until_true("they are one cluster", || {
        nodes.iter().all(|node| {
            let info = node.ask(&["CLUSTER", "INFO"]);
            info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
        })
    });
    let machine = Machine::start(patient());
    let limit = machine.apply(&[spec(bucket(10), redis(&nodes[0].url()))]);
    until_sharing(&[&machine]);
    for key in 0..50 {
        assert_eq!(hammer(&[&limit], &key.to_string(), 2, 8), 10);
    }
    assert_eq!(machine.metric("terrace_limit_engine_decisions", "local"), 0);
    assert!(nodes.iter().all(|node| node.ask(&["DBSIZE"]).parse::<u32>().expect("a number") > 5));
    machine.end();
}

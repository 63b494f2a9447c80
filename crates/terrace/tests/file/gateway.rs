//! Identity, limits and traffic: which layer wins, what is understood when it is not said, and what is not shown.

use std::time::Duration;

use terrace::file::{
    Action, Guards, LimitKey, LimitLaw, LimitUse, Period, Policies, Priority, PriorityLevel, Rate, Resolved,
    TrustedIssuer, diff, summary,
};

use crate::world::{good, wrong};

const BASE: &str = "[service.web]\nrun = \"web\"\n[route.a]\nat = \"/{tenant}/*\"\nto = \"web\"\npolicy = \"p\"\n\
                    [policy.p]\n[issuer.main]\nurl = \"https://id.example.com\"\naudience = \"shop\"\n\
                    [limit.api]\nrate = \"5/s\"\n";

fn guards(file: &str) -> Guards {
    good(file).resolved.routes["a"].guards.clone()
}

fn inside(file: &str) -> Guards {
    good(file).resolved.services["web"].guards.clone()
}

fn in_policy(keys: &str) -> String {
    BASE.replace("[policy.p]", &format!("[policy.p]\n{keys}"))
}

fn in_route(file: &str, keys: &str) -> String {
    file.replace("policy = \"p\"", &format!("policy = \"p\"\n{keys}"))
}

fn in_service(file: &str, keys: &str) -> String {
    file.replace("run = \"web\"", &format!("run = \"web\"\n{keys}"))
}

fn rates(guards: &Guards) -> Vec<String> {
    let told = |limit: &LimitUse| match limit {
        LimitUse::Shared(name) => name.clone(),
        LimitUse::Own(limit) => format!("{:?}", limit.law),
    };
    guards.limits.iter().map(told).collect()
}

#[test]
fn a_limit_replaces_another_whole() {
    let policy = in_policy("limit = { rate = \"10/s\", burst = 50 }\n");
    let bucket = |count, burst| LimitLaw::TokenBucket { rate: Rate { count, per: Period::Second }, burst };
    assert_eq!(rates(&guards(&policy)), [format!("{:?}", bucket(10, 50))]);
    let route = in_route(&policy, "limit = { rate = \"20/s\" }");
    assert_eq!(rates(&guards(&route)), [format!("{:?}", bucket(20, 20))], "the burst was the other's");
    let lists = in_policy("limit = [\"api\", { rate = \"10/s\" }]\n");
    assert_eq!(rates(&guards(&lists)).len(), 2);
    assert_eq!(rates(&guards(&in_route(&lists, "limit = [\"api\"]"))), ["api"], "a list is not added to");
    assert!(guards(&in_route(&lists, "limit = false")).limits.is_empty());
}

#[test]
fn who_may_is_said_by_the_policy_and_what_they_must_be_by_the_route() {
    let policy = in_policy("auth = { issuer = \"main\", forward = { X-A = \"sub\" } }\n");
    let route = in_route(&policy, "auth.roles = [\"customer\"]\nauth.forward = { X-B = \"iss\" }");
    let auth = guards(&route).auth.expect("it is asked");
    assert_eq!(auth.issuers, [TrustedIssuer::Named("main".to_owned())]);
    assert_eq!(auth.roles, ["customer"]);
    assert_eq!(auth.forward.keys().collect::<Vec<_>>(), ["X-B"], "such a table replaces the other");
    assert_eq!(guards(&in_route(&policy, "auth = false")).auth, None);
    let by_users = in_route(&policy, "auth.issuer = false\nauth.keys = true");
    assert!(guards(&by_users).auth.is_some_and(|auth| auth.issuers.is_empty() && auth.keys));
}

#[test]
fn an_issuer_without_a_name_is_for_the_hosts_of_the_route() {
    let audiences = |at: &str, more: &str| {
        let file = format!(
            "[service.web]\nrun = \"web\"\n[route.a]\nat = {at}\nto = \"web\"\n\
             auth = {{ issuer = \"https://id.example.com\"{more} }}\n"
        );
        match &guards(&file).auth.expect("it is asked").issuers[0] {
            TrustedIssuer::Url { audiences, .. } => audiences.clone(),
            TrustedIssuer::Named(name) => panic!("{name} has a name"),
        }
    };
    let hosts = ["shop.example.com", "https://shop.example.com", "https://shop.example.com/"];
    assert_eq!(audiences("\"shop.example.com/orders/*\"", ""), Some(hosts.map(str::to_owned).to_vec()));
    assert_eq!(audiences("\"/*\"", ", audience = [\"x\"]"), Some(vec!["x".to_owned()]));
    assert_eq!(audiences("\"/*\"", ", audience = false"), None);
}

#[test]
fn nobody_is_asked_who_they_are_at_a_service_s_internal_address() {
    let keys = "auth = { issuer = \"main\" }\ncors = { origins = \"*\" }\nsecurity-headers = true\n\
                addresses = { deny = [\"10.0.0.0/8\"] }\ncompress = true\ngrpc-web = true\n\
                priority = { claim = \"tier\" }\nresponse = { remove = [\"Server\"] }\n\
                limit = [\"api\", { rate = \"1/s\", key = \"claim:sub\" }, { rate = \"2/s\", key = \"header:X-A\" }]";
    let file = in_service(BASE, keys);
    let outside = guards(&file);
    assert!(outside.auth.is_some() && outside.cors.is_some() && outside.compress.is_some());
    assert_eq!(outside.limits.len(), 3);
    let inside = inside(&file);
    assert!(inside.auth.is_none() && inside.cors.is_none() && inside.addresses.is_none());
    assert!(inside.compress.is_none() && !inside.grpc_web && inside.security_headers.is_none());
    assert_eq!(inside.priority, Priority::Level(PriorityLevel::Normal));
    assert!(inside.response.is_some(), "what is no question of identity holds");
    let keys: Vec<&LimitUse> = inside.limits.iter().collect();
    assert!(matches!(keys[0], LimitUse::Shared(name) if name == "api"));
    assert!(matches!(keys[1], LimitUse::Own(limit) if limit.key == [LimitKey::Header("X-A".to_owned())]));
    let by_claim = file.replace("rate = \"5/s\"", "rate = \"5/s\"\nkey = \"claim:sub\"");
    assert_eq!(
        good(&by_claim).resolved.services["web"].guards.limits.len(),
        1,
        "a named one by claim is left out"
    );
}

#[test]
fn a_switch_without_more_means_its_defaults() {
    let on = guards(&in_policy("security-headers = true\ncompress = true\n"));
    let chosen = guards(&in_policy("security-headers = {}\ncompress = { level = \"medium\" }\n"));
    assert_eq!((on.security_headers, on.compress), (chosen.security_headers, chosen.compress));
}

#[test]
fn one_service_may_stand_in_for_all_others_but_not_for_itself() {
    let file = "[defaults]\nfallback = { to = \"spare\" }\n[service.web]\nrun = \"web\"\n[service.spare]\nrun = \"s\"\n\
                [route.a]\nat = \"/*\"\nto = \"web\"\n[route.b]\nat = \"/b\"\nto = \"spare\"\n";
    let resolved = good(file).resolved;
    assert!(policies(&resolved, "a").fallback.is_some());
    assert!(policies(&resolved, "b").fallback.is_none());
}

fn policies<'r>(resolved: &'r Resolved, route: &str) -> &'r Policies {
    let Action::Forward { to, .. } = &resolved.routes[route].action else {
        panic!("{route} forwards nothing")
    };
    &to[0].policies
}

#[test]
fn what_a_policy_needs_is_asked_for_where_it_takes_effect() {
    // A policy that no route uses may name captures of routes to come, and so may a service.
    let unused = BASE.replace("policy = \"p\"\n", "") + "[policy.q]\nrequest.set = { X-T = \"{tenant}\" }\n";
    good(&in_service(&unused, "request.set = { X-S = \"{tenant}\" }"));
    let elsewhere = in_policy("request.set = { X-T = \"{tenant}\" }\n")
        + "[route.b]\nat = \"/b\"\nto = \"web\"\npolicy = \"p\"\n";
    assert_eq!(wrong(&elsewhere).len(), 1);
}

#[test]
fn no_secret_of_identity_is_shown() {
    let file = format!(
        "{BASE}[limit.redis]\nrate = \"1/s\"\nengine = {{ env = \"REDIS_URL\" }}\n\
                        [users.staff]\nfile = \"staff.htpasswd\"\n\
                        [login.web]\nissuer = \"main\"\nclient = \"shop\"\nclient-secret = {{ file = \"long\" }}\n"
    );
    let loaded = good(&file);
    let shown = format!("{:?}{}{}", loaded.resolved, loaded.to_toml(true), loaded.to_json());
    for secret in ["hunter2", "$2y$", "this-secret-is"] {
        assert!(!shown.contains(secret), "{secret} is shown");
    }
}

#[test]
fn a_reload_tells_what_changed_of_it() {
    let change = |from: &str, to: &str| {
        let file = in_policy("limit = { rate = \"10/s\" }\nrequest.set = { X-Api = \"hunter2\" }\n");
        assert!(file.contains(from), "{from}");
        summary(&diff(&good(&file).resolved, &good(&file.replace(from, to)).resolved))
    };
    assert_eq!(change("10/s", "20/s"), "route a: limit.rate \"10/s\" → \"20/s\"");
    assert_eq!(change("5/s", "6/s"), "limit api: rate \"5/s\" → \"6/s\"");
    assert_eq!(change("hunter2", "hunter3"), "route a: request.set.X-Api changed");
    assert_eq!(
        change("audience = \"shop\"", "audience = \"other\""),
        "issuer main: audience \"shop\" → \"other\""
    );
}

/// What the first design writes of a gateway, letter by letter.
const DESIGN: &str = r#"
[listen.public]
address = "0.0.0.0:8443"
tls     = "files"                       # or "acme", "dev", "off"
certificate = "web.pem"
key     = { file = "web.key" }

[service.orders]                        # a program that Terrace runs …
run       = "node orders.js"            # it gets PORT, and PAYMENTS_URL, CATALOG_URL … for its neighbours
instances = 3
health    = { path = "/health", every = "2s" }
balance   = "least-requests"

[service.legacy]                        # … or endpoints that already run
hosts = ["10.0.0.5:8080", "10.0.0.6:8080"]

[policy.public]                         # a named set of policies
timeout = { total = "5s", try = "1s" }
retry   = { attempts = 2, on = ["connect", "503"], budget = "10%" }   # of admitted requests
limit   = { rate = "100/s", burst = 200, key = "client-ip", algorithm = "token-bucket" }

[route.orders]
at     = "shop.example.com/orders/*"
to     = "orders"
policy = "public"
auth   = { issuer = "https://id.example.com", roles = ["customer"] }
"#;

#[test]
fn the_public_policy_of_the_design_holds_as_it_is_written() {
    let resolved = good(DESIGN).resolved;
    let Policies { timeout, retry, .. } = policies(&resolved, "orders");
    assert_eq!(
        (timeout.total, timeout.attempt),
        (Some(Duration::from_secs(5)), Some(Duration::from_secs(1)))
    );
    let retry = retry.as_ref().expect("it is tried again");
    assert_eq!((retry.attempts_max, retry.budget_share), (2, 0.1));
    assert!(retry.on.connect && !retry.on.reset && !retry.on.timeout);
    assert_eq!(
        retry.on.statuses.iter().map(|range| (range.from, range.to)).collect::<Vec<_>>(),
        [(503, 503)]
    );

    let guards = &resolved.routes["orders"].guards;
    let [LimitUse::Own(limit)] = &guards.limits[..] else {
        panic!("one limit of its own: {:?}", guards.limits)
    };
    let rate = Rate { count: 100, per: Period::Second };
    assert_eq!(
        (limit.law, &limit.key[..]),
        (LimitLaw::TokenBucket { rate, burst: 200 }, &[LimitKey::ClientAddress][..])
    );
    let auth = guards.auth.as_ref().expect("it is asked");
    assert!(matches!(&auth.issuers[..], [TrustedIssuer::Url { url, .. }] if url == "https://id.example.com"));
    assert_eq!(auth.roles, ["customer"]);
}

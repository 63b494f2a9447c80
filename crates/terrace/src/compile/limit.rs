//! `[limit.*]` and the policy `limit`: which limits there are, each with a name that its state is found by again after a
//! reload, and how each route asks them.

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::time::Duration;

use terrace_edge as edge;
use terrace_limits::{Engine, KeyLimits, Prepared, RedisUrl, Spec};
use terrace_policy::limit::{self as law, Law};

use super::edge::internal_name;
use crate::file::{Guards, Limit, LimitEngine, LimitKey, LimitLaw, LimitUse, Period, Rate, Resolved};

/// All limits of the file.
pub(crate) fn specs(resolved: &Resolved) -> Vec<Spec> {
    let shared = resolved.limits.iter().map(|(name, limit)| spec(name.clone(), limit));
    let of_routes = resolved.routes.iter().map(|(name, route)| (route_name(name), &route.guards));
    let routed = resolved.services.values().filter(|service| service.is_routed());
    let of_services = routed.map(|service| (internal_name(&service.name), &service.guards));
    let own = of_routes.chain(of_services).flat_map(|(name, guards)| own(name, guards));
    shared.chain(own.map(|(name, limit)| spec(name, limit))).collect()
}

/// How a route's requests are limited; nothing where they are not. `name` is that of [`route_name`] or of a service's
/// internal listener.
pub(super) fn limits(
    name: &str,
    guards: &Guards,
    resolved: &Resolved,
    (prepared, keys): (&Prepared, &Arc<KeyLimits>),
    action: &edge::Action,
) -> Option<Arc<edge::Limits>> {
    let mut limits = Vec::new();
    let mut own = own(name.to_owned(), guards);
    for used in &guards.limits {
        let (name, limit) = match used {
            LimitUse::Shared(name) => (name.clone(), resolved.limits.get(name)?),
            LimitUse::Own(_) => own.next()?,
        };
        let ready = prepared.get(&name).expect("invariant: every limit of the file was prepared");
        limits.push(edge::Limit::new(ready, rules(limit)));
    }
    // A key may have a limit of its own wherever keys are taken.
    let keys = guards.auth.as_ref().filter(|auth| auth.keys).map(|_| Arc::clone(keys));
    if limits.is_empty() && keys.is_none() {
        return None;
    }
    Some(Arc::new(edge::Limits::new(limits, keys, total(action))))
}

/// The names of a route's limits, as their metrics have them.
pub(crate) fn names(route: &str, guards: &Guards) -> Vec<String> {
    let mut own = own(route_name(route), guards);
    let name = |used: &LimitUse| match used {
        LimitUse::Shared(name) => Some(name.clone()),
        LimitUse::Own(_) => own.next().map(|(name, _)| name),
    };
    guards.limits.iter().filter_map(name).collect()
}

/// What a route's own limits are called: something that no `[limit.*]` is.
pub(super) fn route_name(route: &str) -> String {
    format!("route:{route}")
}

/// A route's own limits, each with its name.
fn own(name: String, guards: &Guards) -> impl Iterator<Item = (String, &Limit)> {
    let limits = guards.limits.iter().filter_map(|used| match used {
        LimitUse::Own(limit) => Some(limit),
        LimitUse::Shared(_) => None,
    });
    limits.enumerate().map(move |(place, limit)| match place {
        0 => (name.clone(), limit),
        _ => (format!("{name}:{}", place + 1), limit),
    })
}

fn spec(name: String, limit: &Limit) -> Spec {
    // One count for everything needs no table.
    let is_one = limit.key.iter().all(|key| *key == LimitKey::All);
    Spec {
        name,
        law: law_of(limit.law),
        keys_max: if is_one { 1 } else { limit.keys_max as usize },
        engine: match &limit.engine {
            LimitEngine::Embedded => Engine::Embedded,
            LimitEngine::Redis(url) => Engine::Redis(
                RedisUrl::parse(url.reveal()).expect("invariant: the file's check reads it the same way"),
            ),
        },
    }
}

fn law_of(law: LimitLaw) -> Law {
    match law {
        LimitLaw::TokenBucket { rate, burst } => {
            Law::TokenBucket { rate: rate_of(rate), burst: at_least_one(burst) }
        }
        LimitLaw::LeakyBucket { rate, queue } => {
            Law::LeakyBucket { rate: rate_of(rate), burst: NonZeroU32::MIN, queue_max: queue }
        }
        LimitLaw::FixedWindow(rate) => Law::FixedWindow { rate: rate_of(rate) },
        LimitLaw::SlidingWindow(rate) => Law::SlidingWindow { rate: rate_of(rate) },
        LimitLaw::Concurrency(at_once) => Law::Concurrency { at_once: at_least_one(at_once) },
        LimitLaw::Quota(rate) => Law::Quota {
            limit: NonZeroU64::from(at_least_one(rate.count)),
            period: if rate.per == Period::Month { law::Period::Month } else { law::Period::Day },
        },
    }
}

fn rate_of(rate: Rate) -> law::Rate {
    let seconds = match rate.per {
        Period::Second => 1,
        Period::Minute => 60,
        Period::Hour => 3_600,
        Period::Day => 86_400,
        // The file has months for quotas only, which do not ask for their length.
        Period::Month => 30 * 86_400,
    };
    law::Rate::new(at_least_one(rate.count), Duration::from_secs(seconds))
}

fn at_least_one(count: u32) -> NonZeroU32 {
    NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN)
}

fn rules(limit: &Limit) -> edge::LimitRules {
    let part = |key: &LimitKey| match key {
        LimitKey::ClientAddress => Some(edge::LimitKey::ClientAddress),
        LimitKey::Header(name) => Some(edge::LimitKey::Field(name.clone())),
        LimitKey::Claim(path) => Some(edge::LimitKey::Claim(path.clone())),
        LimitKey::ApiKey => Some(edge::LimitKey::ApiKey),
        LimitKey::Route => Some(edge::LimitKey::Route),
        LimitKey::All => None,
    };
    edge::LimitRules {
        key: limit.key.iter().filter_map(part).collect(),
        cost_field: limit.cost_header.clone(),
        ipv6_prefix_bits: limit.ipv6_prefix_bits,
        dry_run: limit.dry_run,
    }
}

/// The least that requests have in all, whichever service they go to.
fn total(action: &edge::Action) -> Option<Duration> {
    let edge::Action::Forward { targets, .. } = action else { return None };
    targets.iter().filter_map(|target| target.policy.timeouts.total).min()
}

#[cfg(test)]
mod tests {
    use crate::file::{Imagined, load_from};

    /// The limits of a file, each as its name, its law and how many keys it has.
    fn specs(file: &str) -> Vec<String> {
        let mut world = Imagined::default();
        world.files.insert("terrace.toml".into(), file.as_bytes().to_vec());
        let loaded = load_from("terrace.toml".as_ref(), None, &world).expect("a good file");
        let specs = super::specs(&loaded.resolved);
        let shown = |spec: &terrace_limits::Spec| format!("{} {:?} {}", spec.name, spec.law, spec.keys_max);
        specs.iter().map(shown).collect()
    }

    #[test]
    fn a_limit_with_a_name_is_one_and_a_routes_own_is_its_own() {
        let found = specs(
            r#"
            [service.a]
            run = "a"
            [limit.api]
            rate = "10/m"
            key = "all"
            [route.x]
            at = "/x/*"
            to = "a"
            limit = ["api", { rate = "5/s", burst = 9 }, { at-once = 3, keys = 50 }]
            [route.y]
            at = "/y/*"
            to = "a"
            limit = "api"
            "#,
        );
        assert_eq!(found.len(), 3, "{found:#?}");
        assert!(found[0].starts_with("api TokenBucket") && found[0].ends_with(" 1"), "{found:#?}");
        assert!(found[1].starts_with("route:x TokenBucket") && found[1].ends_with(" 100000"), "{found:#?}");
        assert!(found[2].starts_with("route:x:2 Concurrency") && found[2].ends_with(" 50"), "{found:#?}");
    }

    #[test]
    fn a_limit_of_the_defaults_is_each_routes_own_inside_too() {
        let found = specs(
            "defaults.limit = { rate = \"10/s\" }\n[service.a]\nrun = \"a\"\n[route.x]\nat = \"/x/*\"\nto = \"a\"\n",
        );
        let names: Vec<&str> = found.iter().filter_map(|spec| spec.split(' ').next()).collect();
        assert_eq!(names, ["route:x", "internal:a"]);
    }
}

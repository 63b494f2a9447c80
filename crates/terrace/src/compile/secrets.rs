//! Terrace's own environment may hold secrets that the file names: `{ env = "DB_PASSWORD" }`. Apps inherit that
//! environment, but a secret is for whoever names it, not for every app beside it. So these variables are left out.

use std::collections::BTreeSet;

use crate::file::{
    EnvValue, Limit, LimitEngine, LimitUse, Receiver, Resolved, Secret, SecretSource, Source, Tls,
};

/// Terrace's own variables from which the file takes secrets.
pub(crate) fn variables(resolved: &Resolved) -> BTreeSet<String> {
    let named = |secret: &Secret| match secret.source() {
        SecretSource::Env(name) => Some(name.clone()),
        SecretSource::File(_) => None,
    };
    let of_tls = of_listeners(resolved).chain(of_endpoints(resolved)).chain(of_acme(resolved));
    let of_people = of_admin(resolved).chain(of_receivers(resolved)).chain(of_identity(resolved));
    let of_others = of_apps(resolved).chain(of_export(resolved)).chain(of_limits(resolved));
    of_tls.chain(of_people).chain(of_others).filter_map(named).collect()
}

fn of_apps(resolved: &Resolved) -> impl Iterator<Item = &Secret> {
    let own = resolved.services.values().filter_map(|service| match &service.source {
        Source::Run(program) => Some(program.env.values()),
        Source::Hosts(_) | Source::Dns { .. } => None,
    });
    own.flatten().filter_map(EnvValue::as_secret)
}

fn of_listeners(resolved: &Resolved) -> impl Iterator<Item = &Secret> {
    let keys = resolved.listeners.values().filter_map(|listener| match &listener.tls {
        Tls::Files(certificates) => Some(certificates.iter().map(|certificate| &certificate.key)),
        Tls::Off | Tls::Dev | Tls::Acme(_) => None,
    });
    keys.flatten()
}

fn of_endpoints(resolved: &Resolved) -> impl Iterator<Item = &Secret> {
    let clients = resolved.services.values().filter_map(|service| service.tls.as_ref()?.client.as_ref());
    clients.map(|client| &client.key)
}

fn of_acme(resolved: &Resolved) -> impl Iterator<Item = &Secret> {
    let accounts = resolved.acme.iter().filter_map(|acme| acme.external_account.as_ref());
    accounts.map(|account| &account.key)
}

fn of_admin(resolved: &Resolved) -> impl Iterator<Item = &Secret> {
    resolved.admin.api.iter().flat_map(|api| api.token.iter().chain(&api.viewer_token))
}

fn of_receivers(resolved: &Resolved) -> impl Iterator<Item = &Secret> {
    resolved.receivers.values().flat_map(Receiver::secrets)
}

fn of_export(resolved: &Resolved) -> impl Iterator<Item = &Secret> {
    let headers = resolved.otlp.export.iter().flat_map(|export| export.headers.values());
    headers.filter_map(EnvValue::as_secret)
}

fn of_identity(resolved: &Resolved) -> impl Iterator<Item = &Secret> {
    let of_issuers = resolved.identity.issuers.values().flat_map(|issuer| issuer.secrets());
    of_issuers.chain(resolved.identity.logins.values().flat_map(|login| login.secrets()))
}

/// Those of the routes too: a limit may be written where it holds.
fn of_limits(resolved: &Resolved) -> impl Iterator<Item = &Secret> {
    let of_routes = resolved.routes.values().flat_map(|route| &route.guards.limits);
    let of_services = resolved.services.values().flat_map(|service| &service.guards.limits);
    let own = of_routes.chain(of_services).filter_map(|used| match used {
        LimitUse::Own(limit) => Some(limit),
        LimitUse::Shared(_) => None,
    });
    own.chain(resolved.limits.values()).filter_map(of_limit)
}

fn of_limit(limit: &Limit) -> Option<&Secret> {
    match &limit.engine {
        LimitEngine::Redis(url) => url.as_secret(),
        LimitEngine::Embedded => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::{Imagined, load_from};

    /// One secret at each place of the gateway's that takes one.
    const FILE: &str = r#"
        [listen.public]
        address = "127.0.0.1:8080"

        [issuer.symmetric]
        url      = "https://a.example.com"
        audience = "shop"
        secret   = { env = "SIGNING" }

        [issuer.opaque]
        url        = "https://b.example.com"
        audience   = "shop"
        introspect = { url = "https://b.example.com/introspect", client = "shop", secret = { env = "INTROSPECTION" } }

        [login.people]
        issuer        = "opaque"
        client        = "shop"
        client-secret = { env = "CLIENT" }
        secret        = { env = "SESSIONS" }

        [limit.shared]
        rate   = "1/s"
        engine = { env = "REDIS" }

        [service.app]
        run   = "app"
        limit = { rate = "1/s", engine = { env = "REDIS_OF_SERVICE" } }

        [route.app]
        at    = "/*"
        to    = "app"
        limit = { rate = "1/s", engine = { env = "REDIS_OF_ROUTE" } }
    "#;

    #[test]
    fn no_app_inherits_a_secret_of_the_gateway() {
        let key = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0MTI=";
        let mut world = Imagined::default();
        world.files.insert("terrace.toml".into(), FILE.into());
        for name in ["SIGNING", "INTROSPECTION", "CLIENT", "SESSIONS"] {
            world.variables.insert(name.into(), key.into());
        }
        for name in ["REDIS", "REDIS_OF_SERVICE", "REDIS_OF_ROUTE"] {
            world.variables.insert(name.into(), "redis://:password@127.0.0.1:6379/0".into());
        }
        let loaded = load_from("terrace.toml".as_ref(), None, &world).expect("a good file");
        let left_out: Vec<_> = variables(&loaded.resolved).into_iter().collect();
        let expected =
            ["CLIENT", "INTROSPECTION", "REDIS", "REDIS_OF_ROUTE", "REDIS_OF_SERVICE", "SESSIONS", "SIGNING"];
        assert_eq!(left_out, expected);
    }
}

//! `auth` of routes and what it names: issuers, logins, people, keys, whoever is asked. What the file knows by name becomes what
//! `auth` knows by value, so that a gate is the same after a reload when nothing behind a name has changed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use terrace_auth::{
    Algorithm, Algorithms, AskConfig, ClientId, GateConfig, IntrospectConfig, IssuerConfig, KeyConfig,
    KeySource, Keys, LoginConfig, MethodConfig, NamePattern, Pace, Place, RingConfig, Rule, SealKeys, Secret,
    Source, TokenConfig,
};

use crate::file::{
    self, Ask, AskTo, Auth, ForwardSource, Issuer, IssuerKeys, Login, Requirement, Resolved, TokenPlace,
    TrustedIssuer,
};

/// What of the program the configuration of identity refers to.
pub(crate) struct Ground<'a> {
    pub(crate) resolved: &'a Resolved,
    /// Where each routed service's internal listener is.
    pub(crate) internal: &'a BTreeMap<String, SocketAddr>,
    pub(crate) keys: &'a Keys,
    /// What sessions are sealed with where the file names nothing.
    pub(crate) seal_keys: Option<&'a SealKeys>,
    pub(crate) state: &'a Path,
}

impl Ground<'_> {
    /// The gate of a policy. Whoever shows what only a program can show is looked at first; then what a browser sends along, and what
    /// is the connection's; and who is asked, last.
    pub(crate) fn gate(&self, auth: &Auth) -> GateConfig {
        let mut methods = Vec::new();
        if auth.keys {
            let header = Some(self.resolved.identity.keys.header.clone());
            methods.push(MethodConfig::Key(KeyConfig { keys: self.keys.clone(), header }));
        }
        methods.extend(self.tokens(auth).map(MethodConfig::Token));
        methods.extend(
            auth.users
                .iter()
                .map(|name| MethodConfig::Basic(self.named(&self.resolved.identity.users, name).clone())),
        );
        methods.extend(auth.login.iter().map(|name| MethodConfig::Login(Box::new(self.login(name)))));
        methods.extend(
            auth.certificate_names.as_deref().map(|names| MethodConfig::Certificate(patterns(names))),
        );
        methods.extend(auth.ask.as_ref().map(|ask| MethodConfig::Ask(self.ask(ask))));
        GateConfig {
            methods,
            is_optional: auth.optional,
            require: rule(auth),
            forward: auth.forward.iter().map(|(name, source)| (name.clone(), told(source))).collect(),
            ..GateConfig::default()
        }
    }

    /// A login of the file.
    pub(crate) fn login(&self, name: &str) -> LoginConfig {
        let login: &Login = self.named(&self.resolved.identity.logins, name);
        let issuer = self.named(&self.resolved.identity.issuers, &login.issuer);
        let keys = match &login.secret {
            Some(secret) => {
                SealKeys::parse(secret.reveal()).expect("invariant: the file's check has read them")
            }
            None => self.seal_keys.expect("invariant: they are opened when a login needs them").clone(),
        };
        LoginConfig {
            name: login.name.clone(),
            issuer: self.issuer(issuer),
            client: ClientId { id: login.client.clone(), secret: login.client_secret.as_ref().map(secret) },
            scopes: login.scopes.clone(),
            path: login.path.clone(),
            cookie: login.cookie.clone(),
            lasts: login.lasts,
            keys,
            state: self.state.to_owned(),
        }
    }

    fn tokens(&self, auth: &Auth) -> Option<TokenConfig> {
        if auth.issuers.is_empty() {
            return None;
        }
        let place = match &auth.token {
            TokenPlace::Bearer => Place::Bearer,
            TokenPlace::Cookie(name) => Place::Cookie(name.clone()),
            TokenPlace::Header(name) => Place::Header(name.clone()),
        };
        let mut tokens = TokenConfig { place, ..TokenConfig::default() };
        for trusted in &auth.issuers {
            match trusted {
                TrustedIssuer::Named(name) => {
                    let issuer = self.named(&self.resolved.identity.issuers, name);
                    tokens.issuers.push(self.issuer(issuer));
                    tokens.introspect.extend(introspect(issuer));
                }
                TrustedIssuer::Url { url, audiences } => {
                    tokens.issuers.push(known_by_url(url, audiences.clone()))
                }
            }
        }
        Some(tokens)
    }

    fn issuer(&self, issuer: &Issuer) -> IssuerConfig {
        let source = match &issuer.keys {
            IssuerKeys::Discovery => KeySource::Discovery,
            IssuerKeys::Url(url) => KeySource::Url(url.clone()),
            IssuerKeys::Service { service, path } => KeySource::Url(self.address(service, path)),
            IssuerKeys::File(path) => KeySource::File(path.clone()),
            IssuerKeys::Secret(shared) => KeySource::Secret(secret(shared)),
        };
        let algorithm = |algorithm: &file::Algorithm| {
            let known = Algorithm::ALL.into_iter().find(|known| known.name() == algorithm.name());
            known.expect("invariant: the file names no algorithm that is not checked")
        };
        IssuerConfig {
            ring: RingConfig { issuer: issuer.url.clone(), source, ca: ca(issuer), pace: Pace::default() },
            audience: issuer.audiences.clone(),
            algorithms: issuer.algorithms.iter().map(algorithm).collect(),
            leeway: issuer.leeway,
            roles: issuer.roles_claim.clone(),
        }
    }

    fn ask(&self, ask: &Ask) -> AskConfig {
        AskConfig {
            url: match &ask.to {
                AskTo::Service(service) => self.address(service, &ask.path),
                AskTo::Url(url) => format!("{url}{}", ask.path),
            },
            timeout: ask.timeout,
            send: ask.send.clone(),
            take: ask.take.clone(),
            cache: ask.cache,
            ca: None,
        }
    }

    /// A service is asked as its neighbours ask it: with its balancing, its retries and its breaker.
    fn address(&self, service: &str, path: &str) -> String {
        let address = self.internal.get(service);
        let address = address.expect("invariant: the file's check has every service that is asked routed");
        format!("http://{address}{path}")
    }

    fn named<'t, T>(&self, all: &'t BTreeMap<String, T>, name: &str) -> &'t T {
        all.get(name).expect("invariant: the file's check knows every name that is used")
    }
}

/// One that the file knows by its address alone, with all else as by default.
fn known_by_url(url: &str, audience: Option<Vec<String>>) -> IssuerConfig {
    let source = KeySource::Discovery;
    IssuerConfig {
        ring: RingConfig { issuer: url.to_owned(), source, ca: None, pace: Pace::default() },
        audience,
        algorithms: Algorithms::asymmetric(),
        leeway: Duration::from_secs(60),
        roles: "roles".to_owned(),
    }
}

fn introspect(issuer: &Issuer) -> Option<IntrospectConfig> {
    let introspection = issuer.introspection.as_ref()?;
    Some(IntrospectConfig {
        issuer: issuer.url.clone(),
        url: introspection.url.clone(),
        client: ClientId { id: introspection.client.clone(), secret: Some(secret(&introspection.secret)) },
        cache: introspection.cache,
        audience: issuer.audiences.clone(),
        leeway: issuer.leeway,
        roles: issuer.roles_claim.clone(),
        ca: ca(issuer),
    })
}

fn ca(issuer: &Issuer) -> Option<Arc<[u8]>> {
    issuer.authorities.as_ref().map(|authorities| authorities.pem.as_bytes().into())
}

fn secret(secret: &file::Secret) -> Secret {
    Secret::new(secret.reveal().as_bytes())
}

fn patterns(names: &[String]) -> Vec<NamePattern> {
    let pattern = |name: &String| NamePattern::parse(name).expect("invariant: the file's check has read it");
    if names.is_empty() { vec![NamePattern::Any] } else { names.iter().map(pattern).collect() }
}

/// One of the roles, and what else is needed.
fn rule(auth: &Auth) -> Option<Rule> {
    let roles = (!auth.roles.is_empty()).then(|| Rule::any_role(&auth.roles));
    let require = auth.require.as_ref().map(required);
    match (roles, require) {
        (Some(roles), Some(require)) => Some(Rule::All(vec![roles, require])),
        (roles, require) => roles.or(require),
    }
}

fn required(requirement: &Requirement) -> Rule {
    let all = |inner: &[Requirement]| inner.iter().map(required).collect();
    match requirement {
        Requirement::Role(role) => Rule::Role(role.clone()),
        Requirement::Scope(scope) => Rule::Scope(scope.clone()),
        Requirement::Claim { path, value } => Rule::Claim { path: path.clone(), value: value.clone() },
        Requirement::All(inner) => Rule::All(all(inner)),
        Requirement::Any(inner) => Rule::Any(all(inner)),
        Requirement::Not(inner) => Rule::Not(Box::new(Rule::Any(all(inner)))),
    }
}

fn told(source: &ForwardSource) -> Source {
    match source {
        ForwardSource::Subject => Source::Subject,
        ForwardSource::Issuer => Source::Issuer,
        ForwardSource::Roles => Source::Roles,
        ForwardSource::Scopes => Source::Scopes,
        ForwardSource::Method => Source::Method,
        ForwardSource::Claim(path) => Source::Claim(path.clone()),
    }
}

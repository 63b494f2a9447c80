//! `[acme]`, the listeners with `tls = "acme"` and their routes for the crate that has certificates issued; and of all other
//! certificates of the file, when they end.

use std::path::Path;

use terrace_acme as acme;

use crate::file::{Acme, ChallengeWord, ExternalAccount, Resolved, Tls};

/// Whose certificates are looked after. `state`: the state folder.
pub(crate) fn config(resolved: &Resolved, state: &Path) -> acme::Config {
    let (mut listeners, mut foreign) = (Vec::new(), Vec::new());
    for (name, listener) in &resolved.listeners {
        match &listener.tls {
            Tls::Off | Tls::Dev => {}
            Tls::Files(certificates) => {
                foreign.extend(certificates.iter().map(|certificate| acme::Foreign {
                    listener: name.clone(),
                    certificates_pem: certificate.chain_pem.clone().into_bytes(),
                }))
            }
            Tls::Acme(_) => listeners
                .push(acme::Listener { name: name.clone(), hosts: resolved.certified_hosts(listener) }),
        }
    }
    let authority = match (&resolved.acme, listeners.is_empty()) {
        (Some(found), false) => Some(authority(found, resolved, state)),
        _ => None,
    };
    acme::Config { authority, listeners, foreign }
}

fn authority(found: &Acme, resolved: &Resolved, state: &Path) -> acme::Authority {
    let challenge = |word: &ChallengeWord| match word {
        ChallengeWord::Http01 => acme::Challenge::Http01,
        ChallengeWord::TlsAlpn01 => acme::Challenge::TlsAlpn01,
    };
    let challenges = match &found.challenges {
        Some(words) => words.iter().map(challenge).collect(),
        // A plain question passes more of what may stand in front than a handshake does.
        None if resolved.listens_in_the_clear() => {
            vec![acme::Challenge::Http01, acme::Challenge::TlsAlpn01]
        }
        None => vec![acme::Challenge::TlsAlpn01],
    };
    acme::Authority {
        directory: found.directory.clone(),
        email: found.email.clone(),
        roots_pem: found.roots_pem.as_ref().map(|pem| pem.clone().into_bytes()),
        external_account: found.external_account.as_ref().map(external_account),
        folder: found.folder.clone().unwrap_or_else(|| state.join("acme")),
        challenges,
        renew_before: found.renew_before,
        on_demand: found.on_demand,
    }
}

fn external_account(account: &ExternalAccount) -> acme::ExternalAccount {
    acme::ExternalAccount { id: account.id.clone(), key: account.key_bytes() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::{Imagined, load_from};

    fn compiled(file: &str) -> acme::Config {
        let mut world = Imagined::default();
        world.files.insert("terrace.toml".into(), file.as_bytes().to_vec());
        let resolved = load_from("terrace.toml".as_ref(), None, &world).expect("a good file").resolved;
        config(&resolved, Path::new("/state"))
    }

    const FILE: &str = r#"
        [acme]
        agree = true
        [listen.public]
        address = "0.0.0.0:443"
        tls = "acme"
        hosts = ["www.example.com", "a.shops.example.com"]
        [listen.inside]
        address = "127.0.0.1:8443"
        tls = "dev"
        [service.web]
        hosts = ["127.0.0.1:9000"]
        [route.shop]
        at = ["Shop.example.com/*", "shop.example.com/orders/*", "*.shops.example.com/*", "/health"]
        to = "web"
        [route.inside]
        at = "inside.example.com/*"
        to = "web"
        listen = ["inside"]
    "#;

    #[test]
    fn certificates_are_issued_for_the_hosts_that_are_reached_through_a_listener() {
        let config = compiled(FILE);
        assert_eq!(config.listeners.len(), 1);
        let hosts = &config.listeners[0].hosts;
        assert_eq!(hosts, &["a.shops.example.com", "shop.example.com", "www.example.com"]);
        let authority = config.authority.expect("there is one");
        assert_eq!(authority.challenges, [acme::Challenge::TlsAlpn01], "nothing listens in the clear");
        assert_eq!(authority.folder, Path::new("/state/acme"));
    }

    #[test]
    fn where_something_listens_in_the_clear_the_authority_is_asked_to_ask_there_first() {
        let file = FILE.replace("tls = \"acme\"", "tls = \"acme\"\nredirect-from = \"0.0.0.0:80\"");
        let authority = compiled(&file).authority.expect("there is one");
        assert_eq!(authority.challenges, [acme::Challenge::Http01, acme::Challenge::TlsAlpn01]);
    }

    #[test]
    fn nobody_is_asked_for_certificates_that_no_listener_needs() {
        assert_eq!(
            compiled(&FILE.replace("tls = \"acme\"\n        hosts", "tls = \"dev\"\n        #")).authority,
            None
        );
    }
}

//! The certificates of every listener, wherever they come from: the file, an authority, or Terrace itself for development.
//! They live through reloads, so that sessions resume, and those of an authority are followed as they are issued.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use terrace_acme::{Handle, Issued};
use terrace_edge::{Certificates, Clients, Demand, Issuer, Later, Pair, Tls as EdgeTls};
use terrace_instruments::{Event, Level, Log};

use crate::compile;
use crate::file::{self, DemandWord, Resolved, Tls};
use crate::running::UpError;
use crate::state::State;

/// The certificates of every listener that has some.
pub(crate) struct Keyring {
    state: State,
    log: Log,
    acme: Handle,
    held: Mutex<BTreeMap<String, Arc<Certificates>>>,
}

/// What a file that is not in force yet needs, tried for its errors.
pub(crate) struct Prepared {
    /// By listener: those that exist as they are, new ones made.
    pub(crate) certificates: BTreeMap<String, Arc<Certificates>>,
    /// What the listeners will show.
    terms: BTreeMap<String, EdgeTls>,
    acme: terrace_acme::Prepared,
    /// Who answers authorities, if any will ask.
    pub(crate) issuer: Option<Arc<dyn Issuer>>,
}

impl Keyring {
    /// A keyring without certificates, which follows what is issued for as long as it lives.
    pub(crate) fn new(state: State, log: Log, acme: Handle) -> Arc<Self> {
        let keyring = Arc::new(Self { state, log, acme, held: Mutex::default() });
        tokio::spawn(follow(keyring.acme.issued(), Arc::downgrade(&keyring)));
        keyring
    }

    /// Finds out what would be refused. Changes nothing that is shown.
    pub(crate) async fn prepare(&self, resolved: &Resolved) -> Result<Prepared, UpError> {
        let config = compile::acme::config(resolved, self.state.folder());
        let acme = self.acme.prepare(config).await?;
        let issuer: Arc<dyn Issuer> = Arc::new(Authority(self.acme.clone()));
        let issuer = resolved.acme.is_some().then_some(issuer);
        let (mut certificates, mut terms) = (BTreeMap::new(), BTreeMap::new());
        for listener in resolved.listeners.values() {
            let Some(pairs) = self.pairs(resolved, listener, &acme.issued)? else { continue };
            let tls = EdgeTls {
                pairs,
                http2: listener.http2,
                clients: listener.clients.as_ref().map(clients),
                issuer: issuer.clone().filter(|_| matches!(listener.tls, Tls::Acme(_))),
            };
            let refused = |error| UpError::Tls { listener: listener.name.clone(), error: Box::new(error) };
            let built = Arc::new(Certificates::build(&tls).map_err(refused)?);
            let kept = self.held().get(&listener.name).map(Arc::clone);
            certificates.insert(listener.name.clone(), kept.unwrap_or(built));
            terms.insert(listener.name.clone(), tls);
        }
        Ok(Prepared { certificates, terms, acme, issuer })
    }

    /// Takes what was prepared into use for new connections.
    pub(crate) fn commit(&self, prepared: Prepared) {
        for (listener, tls) in &prepared.terms {
            let _was_tried_before = prepared.certificates[listener].replace(tls);
        }
        *self.held() = prepared.certificates;
        self.acme.apply(prepared.acme);
        // What was issued while the rest was prepared.
        self.show(&self.acme.issued().borrow());
    }

    fn pairs(
        &self,
        resolved: &Resolved,
        listener: &file::Listener,
        issued: &Issued,
    ) -> Result<Option<Vec<Pair>>, UpError> {
        match &listener.tls {
            Tls::Off => Ok(None),
            Tls::Files(certificates) => Ok(Some(certificates.iter().map(pair).collect())),
            Tls::Acme(_) => {
                Ok(Some(issued.get(&listener.name).map(|found| pairs(found)).unwrap_or_default()))
            }
            Tls::Dev => {
                let made = self.state.dev_pair(dev_names(resolved));
                let refused = |error: Box<dyn std::error::Error>| UpError::Tls {
                    listener: listener.name.clone(),
                    error: error.to_string().into(),
                };
                Ok(Some(vec![made.map_err(refused)?]))
            }
        }
    }

    /// Shows what an authority has issued.
    fn show(&self, issued: &Issued) {
        let held = self.held();
        for (listener, found) in issued {
            let Some(certificates) = held.get(listener) else { continue };
            if let Err(error) = certificates.replace_pairs(&pairs(found)) {
                let event = Event::new(Level::Error, "certificates.unusable");
                let event = event.field("listener", listener.as_str()).field("problem", error.to_string());
                self.log.emit(event.message("what was issued cannot be shown; the former ones are"));
            }
        }
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Certificates>>> {
        // A map of certificates is whole after any panic.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shows each certificate as it is issued, until the keyring is gone.
async fn follow(mut issued: tokio::sync::watch::Receiver<Arc<Issued>>, keyring: Weak<Keyring>) {
    while issued.changed().await.is_ok() {
        let Some(keyring) = keyring.upgrade() else { return };
        let now = Arc::clone(&issued.borrow_and_update());
        keyring.show(&now);
    }
}

/// The crate that has certificates issued, as the edge asks for it.
#[derive(Debug)]
struct Authority(Handle);

impl Issuer for Authority {
    fn http_answer<'a>(&'a self, token: &'a str) -> Later<'a, Option<String>> {
        Box::pin(self.0.http_answer(token))
    }

    fn tls_answer<'a>(&'a self, host: &'a str) -> Later<'a, Option<Pair>> {
        Box::pin(async { self.0.tls_answer(host).await.map(|found| issued_pair(&found)) })
    }

    fn is_coming(&self, host: &str) -> bool {
        self.0.is_coming(host)
    }
}

fn pairs(issued: &[terrace_acme::Pair]) -> Vec<Pair> {
    issued.iter().map(issued_pair).collect()
}

/// Key and chain stand in one text; each reader takes what it looks for.
fn issued_pair(issued: &terrace_acme::Pair) -> Pair {
    Pair { certificates_pem: issued.pem.clone(), key_pem: issued.pem.clone() }
}

fn pair(certificate: &file::Certificate) -> Pair {
    Pair {
        certificates_pem: certificate.chain_pem.clone().into_bytes(),
        key_pem: certificate.key.reveal().as_bytes().to_vec(),
    }
}

fn clients(asked: &file::ClientCertificates) -> Clients {
    Clients {
        authorities_pem: asked.authorities_pem.clone().into_bytes(),
        revoked_pem: asked.revoked_pem.as_ref().map(|pem| pem.clone().into_bytes()),
        demand: match asked.demand {
            DemandWord::Optional => Demand::Optional,
            DemandWord::Required => Demand::Required,
        },
    }
}

/// This machine's own names, and those that routes name.
fn dev_names(resolved: &Resolved) -> Vec<String> {
    let own = ["localhost", "*.localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let routed =
        resolved.routes.values().flat_map(|route| &route.at).filter_map(terrace_route::Pattern::host);
    let mut names: Vec<String> = own.into_iter().chain(routed).collect();
    names.sort();
    names.dedup();
    names
}

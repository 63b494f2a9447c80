//! TLS towards clients: several certificates, picked by the name the client asks for (SNI, RFC 6066 section 3), and
//! replaced while the listener runs when their files change or an authority has issued others. Connections that stand keep
//! what they agreed on, and sessions resume across a change, but for one: who is believed to vouch for clients. Neither a session
//! that was agreed under the former authorities nor a connection that stands slips past the new ones.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use arc_swap::{ArcSwap, ArcSwapOption};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ProducesTickets, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use terrace_auth::ClientCertificate;
use terrace_runtime::clock;
use tokio::sync::watch;

use crate::challenge::Issuer;

/// Handshakes of one listener that wait for a certificate to come, at most; further ones are refused at once.
const WAITING_MAX: usize = 1_000;

/// A certificate chain and its key, as PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// The chain, the server's own certificate first.
    pub certificates_pem: Vec<u8>,
    /// Its private key.
    pub key_pem: Vec<u8>,
}

impl Pair {
    /// Whether it can be shown to clients: both parts are what they should be, and belong together.
    ///
    /// # Errors
    /// [`TlsError`] says what is wrong: the operator's to put right.
    pub fn check(&self) -> Result<(), TlsError> {
        certified(self).map(drop)
    }
}

impl fmt::Debug for Pair {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Pair({} bytes of certificates, key hidden)", self.certificates_pem.len())
    }
}

/// How a listener speaks TLS.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// Its certificates; the first one serves clients that ask for no name or an unknown one.
    pub pairs: Vec<Pair>,
    /// Whether HTTP/2 is offered by ALPN.
    pub http2: bool,
    /// Whether clients are asked for certificates, and whose are believed.
    pub clients: Option<Clients>,
    /// Who is asked for certificates that are not there yet.
    pub issuer: Option<Arc<dyn Issuer>>,
}

/// Clients that show certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clients {
    /// Authorities that vouch for them, in PEM.
    pub authorities_pem: Vec<u8>,
    /// Lists of certificates that do not hold any more (RFC 5280 section 5), in PEM. With lists, a client whose authority
    /// has none of them is refused.
    pub revoked_pem: Option<Vec<u8>>,
    /// Whether those who show none are let in.
    pub demand: Demand,
}

/// Whether a client must show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    /// Those who show none are let in; what is shown must be good.
    Optional,
    /// Without one there is no connection.
    Required,
}

/// Why a certificate cannot be used. The operator's to mend; what ran before runs on.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The PEM holds no certificate, or something that is none.
    #[error("the certificate is not PEM that holds one: {0}")]
    Certificate(String),
    /// The PEM holds no private key, or one of a kind we do not know.
    #[error("the key is not PEM that holds a private key: {0}")]
    Key(String),
    /// Key and certificate are not of one another.
    #[error("the key does not belong to the certificate")]
    Mismatch,
    /// The authorities that clients' certificates are checked with cannot be used.
    #[error("client-certificates.ca: {0}")]
    Authorities(String),
    /// The lists of revoked certificates cannot be used.
    #[error("client-certificates.revoked: {0}")]
    Revoked(String),
    /// A self-signed one could not be made.
    #[error("no certificate for development could be made: {0}")]
    Dev(#[from] rcgen::Error),
    /// TLS could not be set up.
    #[error("{0}")]
    Rustls(#[from] rustls::Error),
}

/// The certificates of one listener; replaced as a whole by [`Certificates::replace`].
pub struct Certificates {
    chosen: Arc<Chooser>,
    terms: ArcSwap<Terms>,
    issuer: ArcSwapOption<Arc<dyn Issuer>>,
    /// Told of each change of the certificates.
    changes: watch::Sender<()>,
    waiting: AtomicUsize,
}

/// What is agreed with clients besides the certificate.
struct Terms {
    config: Arc<ServerConfig>,
    http2: bool,
    clients: Option<Clients>,
    /// Who checks what clients show; the same for as long as they are asked the same.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
}

#[derive(Debug, Default)]
struct Chooser(ArcSwap<Choice>);

#[derive(Debug, Default)]
struct Choice {
    /// Names in lower case; a wildcard without its star: `.example.com`.
    by_name: HashMap<String, Arc<CertifiedKey>>,
    default: Option<Arc<CertifiedKey>>,
}

impl fmt::Debug for Certificates {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Certificates({} names)", self.chosen.0.load().by_name.len())
    }
}

impl Certificates {
    /// A listener's certificates.
    ///
    /// # Errors
    /// [`TlsError`] for the first thing that cannot be used.
    pub fn build(tls: &Tls) -> Result<Self, TlsError> {
        let chosen = Arc::new(Chooser(ArcSwap::from_pointee(Choice::of(&tls.pairs)?)));
        let terms = Terms::build(tls, &chosen, ring::Ticketer::new()?)?;
        Ok(Self {
            chosen,
            terms: ArcSwap::from_pointee(terms),
            issuer: ArcSwapOption::from_pointee(tls.issuer.clone()),
            changes: watch::Sender::new(()),
            waiting: AtomicUsize::new(0),
        })
    }

    /// Takes other certificates and terms into use for new connections.
    ///
    /// # Errors
    /// [`TlsError`] for the first thing that cannot be used; the old ones stay.
    pub fn replace(&self, tls: &Tls) -> Result<(), TlsError> {
        let choice = Choice::of(&tls.pairs)?;
        let now = self.terms.load();
        if now.clients != tls.clients || now.http2 != tls.http2 {
            let ticketer = match now.clients == tls.clients {
                true => Arc::clone(&now.config.ticketer),
                false => ring::Ticketer::new()?,
            };
            self.terms.store(Arc::new(Terms::build(tls, &self.chosen, ticketer)?));
        }
        self.issuer.store(tls.issuer.clone().map(Arc::new));
        self.show(choice);
        Ok(())
    }

    /// Takes other certificates into use for new connections, under the same terms.
    ///
    /// # Errors
    /// [`TlsError`] for the first pair that cannot be used; the old ones stay.
    pub fn replace_pairs(&self, pairs: &[Pair]) -> Result<(), TlsError> {
        self.show(Choice::of(pairs)?);
        Ok(())
    }

    fn show(&self, choice: Choice) {
        self.chosen.0.store(Arc::new(choice));
        self.changes.send_replace(());
    }

    pub(crate) fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.terms.load().config)
    }

    /// Who checks what clients show, if they are asked. To be asked for before a handshake: whoever comes in force meanwhile checks
    /// once more.
    pub(crate) fn verifier(&self) -> Option<Verifier> {
        self.terms.load().verifier.as_ref().map(Arc::downgrade)
    }

    /// What a client showed of itself in a handshake.
    pub(crate) fn shown(
        self: &Arc<Self>,
        chain: &[CertificateDer<'static>],
        verifier: Option<Verifier>,
    ) -> Option<Rc<Shown>> {
        let certificate = ClientCertificate::read(chain.first()?).ok()?;
        let checked = RefCell::new(verifier.map(|verifier| (verifier, true)));
        Some(Rc::new(Shown { certificate, chain: chain.into(), by: Arc::clone(self), checked }))
    }

    pub(crate) fn issuer(&self) -> Option<Arc<dyn Issuer>> {
        self.issuer.load().as_deref().cloned()
    }

    /// Whether a client that asks for `name` can be shown a certificate of that name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.chosen.0.load().find(name).is_some()
    }

    /// Whether there is any certificate.
    pub(crate) fn has_any(&self) -> bool {
        self.chosen.0.load().default.is_some()
    }

    /// Resolves once there is a certificate for `name`; at once and without one when too many wait already.
    pub(crate) async fn wait_for(&self, name: &str) -> bool {
        let place = Waiting::enter(&self.waiting);
        if place.is_none() {
            return false;
        }
        let mut changes = self.changes.subscribe();
        while !self.has(name) {
            if changes.changed().await.is_err() {
                return false;
            }
        }
        true
    }
}

/// A certificate that a client showed in its handshake, for as long as its connection lives: who is not believed any more since then
/// shall not be let in by it.
pub(crate) struct Shown {
    pub(crate) certificate: ClientCertificate,
    chain: Box<[CertificateDer<'static>]>,
    by: Arc<Certificates>,
    /// What the last one said who checked it.
    checked: RefCell<Option<(Verifier, bool)>>,
}

type Verifier = Weak<dyn ClientCertVerifier>;

impl Shown {
    /// Whether the listener believes it still. It is checked again only when other authorities, or another list of revoked
    /// certificates, came into force; one that runs out is looked at by whoever asks for it.
    pub(crate) fn is_believed(&self) -> bool {
        let terms = self.by.terms.load();
        let Some(verifier) = &terms.verifier else { return false };
        let mut checked = self.checked.borrow_mut();
        match &*checked {
            Some((by, is_good)) if std::ptr::addr_eq(by.as_ptr(), Arc::as_ptr(verifier)) => *is_good,
            _ => {
                let is_good = is_good(&**verifier, &self.chain);
                *checked = Some((Arc::downgrade(verifier), is_good));
                is_good
            }
        }
    }
}

fn is_good(verifier: &dyn ClientCertVerifier, chain: &[CertificateDer<'static>]) -> bool {
    let now = clock::wall().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let Some((own, above)) = chain.split_first() else { return false };
    verifier.verify_client_cert(own, above, UnixTime::since_unix_epoch(now)).is_ok()
}

impl fmt::Debug for Shown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.certificate, formatter)
    }
}

/// A place among those who wait, given back when this is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize) -> Option<Self> {
        let place = Self(count);
        (count.fetch_add(1, Ordering::Relaxed) < WAITING_MAX).then_some(place)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Terms {
    fn build(tls: &Tls, chosen: &Arc<Chooser>, ticketer: Arc<dyn ProducesTickets>) -> Result<Self, TlsError> {
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?;
        let verifier = tls.clients.as_ref().map(verifier).transpose()?;
        let builder = match &verifier {
            None => builder.with_no_client_auth(),
            Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
        };
        let mut config = builder.with_cert_resolver(Arc::clone(chosen) as Arc<dyn ResolvesServerCert>);
        if tls.http2 {
            config.alpn_protocols.push(b"h2".to_vec());
        }
        config.alpn_protocols.push(b"http/1.1".to_vec());
        config.ticketer = ticketer;
        Ok(Self { config: Arc::new(config), http2: tls.http2, clients: tls.clients.clone(), verifier })
    }
}

/// Who checks clients' certificates. A list of revoked ones is asked about the client's own certificate only: lists of those
/// above it are seldom at hand. One that is out of date still says what was revoked until then.
fn verifier(clients: &Clients) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let refused = |error: &dyn fmt::Display| TlsError::Authorities(error.to_string());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&clients.authorities_pem) {
        roots.add(certificate.map_err(|error| refused(&error))?).map_err(|error| refused(&error))?;
    }
    if roots.is_empty() {
        return Err(refused(&"there is no certificate in it"));
    }
    let provider = Arc::new(ring::default_provider());
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    if let Some(pem) = &clients.revoked_pem {
        builder = builder.with_crls(revoked(pem)?).only_check_end_entity_revocation();
    }
    if clients.demand == Demand::Optional {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map_err(|error| TlsError::Revoked(error.to_string()))
}

fn revoked(pem: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(pem).collect();
    match lists {
        Ok(lists) if lists.is_empty() => Err(TlsError::Revoked("there is no list in it".to_owned())),
        Ok(lists) => Ok(lists),
        Err(error) => Err(TlsError::Revoked(error.to_string())),
    }
}

/// A self-signed certificate for development, for these names.
///
/// # Errors
/// [`TlsError::Dev`] when a name is none.
pub fn dev_pair(names: Vec<String>) -> Result<Pair, TlsError> {
    let made = rcgen::generate_simple_self_signed(names)?;
    Ok(Pair {
        certificates_pem: made.cert.pem().into_bytes(),
        key_pem: made.signing_key.serialize_pem().into_bytes(),
    })
}

impl Choice {
    fn of(pairs: &[Pair]) -> Result<Self, TlsError> {
        let mut choice = Self::default();
        for pair in pairs {
            let key = Arc::new(certified(pair)?);
            for name in names(&key) {
                choice.by_name.entry(name).or_insert_with(|| Arc::clone(&key));
            }
            choice.default.get_or_insert(key);
        }
        Ok(choice)
    }

    fn find(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let name = name.to_ascii_lowercase();
        let wildcard = || name.find('.').and_then(|dot| self.by_name.get(&name[dot..]));
        self.by_name.get(&name).or_else(wildcard)
    }
}

impl ResolvesServerCert for Chooser {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let choice = self.0.load();
        let named = hello.server_name().and_then(|name| choice.find(name));
        named.or(choice.default.as_ref()).cloned()
    }
}

fn certified(pair: &Pair) -> Result<CertifiedKey, TlsError> {
    let certified = unchecked(pair)?;
    match certified.keys_match() {
        Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
            Err(TlsError::Mismatch)
        }
        Err(rustls::Error::InvalidCertificate(error)) => Err(TlsError::Certificate(format!("{error:?}"))),
        _ => Ok(certified),
    }
}

/// The same without a look into the certificate.
pub(crate) fn unchecked(pair: &Pair) -> Result<CertifiedKey, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pair.certificates_pem).collect();
    let chain = chain.map_err(|error| TlsError::Certificate(error.to_string()))?;
    if chain.is_empty() {
        return Err(TlsError::Certificate("there is none in it".to_owned()));
    }
    let key =
        PrivateKeyDer::from_pem_slice(&pair.key_pem).map_err(|error| TlsError::Key(error.to_string()))?;
    let key = ring::sign::any_supported_type(&key).map_err(|error| TlsError::Key(error.to_string()))?;
    Ok(CertifiedKey::new(chain, key))
}

/// The DNS names that the certificate is for.
fn names(key: &CertifiedKey) -> Vec<String> {
    let Some(certificate) = key.cert.first() else { return Vec::new() };
    let Ok(parsed) = webpki::EndEntityCert::try_from(certificate) else { return Vec::new() };
    let plain = |name: &str| name.strip_prefix('*').unwrap_or(name).to_ascii_lowercase();
    parsed.valid_dns_names().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(names: &[&str]) -> Pair {
        dev_pair(names.iter().map(|name| (*name).to_owned()).collect()).expect("a certificate")
    }

    #[test]
    fn a_client_gets_the_certificate_of_the_name_it_asks_for() {
        let pairs = [pair(&["a.example"]), pair(&["*.b.example", "b.example"])];
        let choice = Choice::of(&pairs).expect("valid");
        let first = certified(&pairs[0]).expect("valid").cert;
        let second = certified(&pairs[1]).expect("valid").cert;
        assert_eq!(choice.find("A.Example").map(|key| &key.cert), Some(&first));
        assert_eq!(choice.find("x.b.example").map(|key| &key.cert), Some(&second));
        assert_eq!(choice.find("b.example").map(|key| &key.cert), Some(&second));
        assert!(choice.find("x.y.b.example").is_none(), "a wildcard stands for one label");
        assert_eq!(choice.default.as_ref().map(|key| &key.cert), Some(&first));
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let mixed = Pair { key_pem: pair(&["b"]).key_pem, ..pair(&["a"]) };
        let build = |pair| Certificates::build(&Tls { pairs: vec![pair], ..Tls::default() });
        assert!(matches!(build(mixed), Err(TlsError::Mismatch)));
        let empty = Pair { certificates_pem: Vec::new(), ..pair(&["a"]) };
        assert!(matches!(build(empty), Err(TlsError::Certificate(_))));
        let no_key = Pair { key_pem: b"nothing".to_vec(), ..pair(&["a"]) };
        assert!(matches!(build(no_key), Err(TlsError::Key(_))));
    }

    #[test]
    fn a_key_is_never_printed() {
        let shown = format!("{:?}", pair(&["a"]));
        assert!(!shown.contains("PRIVATE"), "{shown}");
    }

    fn asking(authorities_pem: &[u8], revoked_pem: Option<&[u8]>) -> Tls {
        let authorities_pem = authorities_pem.to_vec();
        let revoked_pem = revoked_pem.map(<[u8]>::to_vec);
        let clients = Clients { authorities_pem, revoked_pem, demand: Demand::Required };
        Tls { pairs: vec![pair(&["a"])], clients: Some(clients), ..Tls::default() }
    }

    #[test]
    fn authorities_and_lists_that_are_none_are_refused_by_the_key_that_names_them() {
        let good = pair(&["authority"]).certificates_pem;
        assert!(Certificates::build(&asking(&good, None)).is_ok());
        for (tls, key) in [
            (asking(b"", None), "client-certificates.ca: there is no certificate in it"),
            (asking(&good, Some(b"")), "client-certificates.revoked: there is no list in it"),
            (asking(&good, Some(b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n")), "revoked"),
        ] {
            let error = Certificates::build(&tls).expect_err("refused").to_string();
            assert!(error.contains(key), "{error}");
        }
    }

    #[test]
    fn sessions_outlive_new_certificates_but_not_new_authorities_of_clients() {
        let (first, second) = (pair(&["first"]).certificates_pem, pair(&["second"]).certificates_pem);
        let certificates = Certificates::build(&asking(&first, None)).expect("valid");
        let ticket = certificates.server_config().ticketer.encrypt(b"a session").expect("a ticket");
        let resumes = || certificates.server_config().ticketer.decrypt(&ticket).is_some();
        certificates.replace_pairs(&[pair(&["b"])]).expect("valid");
        assert!(resumes());
        certificates.replace(&Tls { http2: true, ..asking(&first, None) }).expect("valid");
        assert!(resumes());
        assert!(certificates.replace(&asking(b"none", None)).is_err() && resumes(), "the old ones stay");
        certificates.replace(&asking(&second, None)).expect("valid");
        assert!(!resumes());
    }

    #[tokio::test]
    async fn who_waits_for_a_certificate_goes_on_when_it_comes_and_there_is_a_bound_on_who_may() {
        let certificates = Certificates::build(&Tls::default()).expect("valid");
        let mut waiting = Box::pin(certificates.wait_for("a.example"));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        certificates.replace_pairs(&[pair(&["b.example"])]).expect("valid");
        assert!(waiting.as_mut().poll(&mut context).is_pending(), "it is another's");
        certificates.replace_pairs(&[pair(&["a.example"])]).expect("valid");
        assert!(waiting.await);

        let mut held = Vec::new();
        for _ in 0..WAITING_MAX {
            let mut one = Box::pin(certificates.wait_for("c.example"));
            assert!(one.as_mut().poll(&mut context).is_pending());
            held.push(one);
        }
        let mut one_more = Box::pin(certificates.wait_for("c.example"));
        assert_eq!(one_more.as_mut().poll(&mut context), std::task::Poll::Ready(false), "one too many");
        held.clear();
        assert_eq!(certificates.waiting.load(Ordering::Relaxed), 0, "every place is given back");
    }
}

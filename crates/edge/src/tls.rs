//! TLS towards clients: several certificates, picked by the name the client asks for (SNI, RFC 6066 section 3), and
//! replaced while the listener runs when their files change.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// A certificate chain and its key, as PEM.
#[derive(Clone)]
pub struct Pair {
    /// The chain, the server's own certificate first.
    pub certificates_pem: Vec<u8>,
    /// Its private key.
    pub key_pem: Vec<u8>,
}

impl fmt::Debug for Pair {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Pair({} bytes of certificates, key hidden)", self.certificates_pem.len())
    }
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
    /// A self-signed one could not be made.
    #[error("no certificate for development could be made: {0}")]
    Dev(#[from] rcgen::Error),
    /// TLS could not be set up.
    #[error("{0}")]
    Rustls(#[from] rustls::Error),
}

/// The certificates of one listener; replaced as a whole by [`Certificates::replace`].
pub struct Certificates {
    config: Arc<ServerConfig>,
    chosen: Arc<Chooser>,
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
    /// A listener's certificates; the first one serves clients that ask for no name or an unknown one.
    ///
    /// # Errors
    /// [`TlsError`] for the first pair that cannot be used.
    pub fn build(pairs: &[Pair], http2: bool) -> Result<Self, TlsError> {
        let chosen = Arc::new(Chooser(ArcSwap::from_pointee(Choice::of(pairs)?)));
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&chosen) as Arc<dyn ResolvesServerCert>);
        if http2 {
            config.alpn_protocols.push(b"h2".to_vec());
        }
        config.alpn_protocols.push(b"http/1.1".to_vec());
        config.ticketer = ring::Ticketer::new()?;
        Ok(Self { config: Arc::new(config), chosen })
    }

    /// Takes other certificates into use for new connections.
    ///
    /// # Errors
    /// [`TlsError`] for the first pair that cannot be used; the old ones stay.
    pub fn replace(&self, pairs: &[Pair]) -> Result<(), TlsError> {
        self.chosen.0.store(Arc::new(Choice::of(pairs)?));
        Ok(())
    }

    pub(crate) fn server_config(&self) -> &Arc<ServerConfig> {
        &self.config
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
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pair.certificates_pem).collect();
    let chain = chain.map_err(|error| TlsError::Certificate(error.to_string()))?;
    if chain.is_empty() {
        return Err(TlsError::Certificate("there is none in it".to_owned()));
    }
    let key =
        PrivateKeyDer::from_pem_slice(&pair.key_pem).map_err(|error| TlsError::Key(error.to_string()))?;
    let key = ring::sign::any_supported_type(&key).map_err(|error| TlsError::Key(error.to_string()))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
            Err(TlsError::Mismatch)
        }
        Err(rustls::Error::InvalidCertificate(error)) => Err(TlsError::Certificate(format!("{error:?}"))),
        _ => Ok(certified),
    }
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
        assert!(matches!(Certificates::build(&[mixed], true), Err(TlsError::Mismatch)));
        let empty = Pair { certificates_pem: Vec::new(), ..pair(&["a"]) };
        assert!(matches!(Certificates::build(&[empty], true), Err(TlsError::Certificate(_))));
        let no_key = Pair { key_pem: b"nothing".to_vec(), ..pair(&["a"]) };
        assert!(matches!(Certificates::build(&[no_key], true), Err(TlsError::Key(_))));
    }

    #[test]
    fn a_key_is_never_printed() {
        let shown = format!("{:?}", pair(&["a"]));
        assert!(!shown.contains("PRIVATE"), "{shown}");
    }
}

//! TLS towards endpoints: one client configuration for each service, shared by all cores so that sessions resume.

use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};

use crate::config::{ClientIdentity, Config, Protocol, Roots, TlsConfig};
use crate::endpoint::Endpoint;
use crate::error::BuildError;

/// TLS towards the endpoints of one service, ready to use.
#[derive(Clone, Debug)]
pub struct Tls {
    config: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
}

impl Tls {
    pub(crate) fn build(config: &Config, tls: &TlsConfig) -> Result<Self, BuildError> {
        let roots = match &tls.roots {
            Roots::System => system_roots(&config.service)?,
            Roots::Pem(pem) => pem_roots(&config.service, pem)?,
        };
        let server_name = match &tls.server_name {
            Some(name) => Some(server_name(&config.service, name)?),
            None => None,
        };
        let shown = match &tls.client {
            Some(client) => Some(shown(client).map_err(|detail| BuildError::ClientCertificate {
                service: config.service.to_string(),
                detail,
            })?),
            None => None,
        };
        Ok(Self { config: client_config(roots, shown, config.protocol), server_name })
    }

    /// For `tokio_rustls::TlsConnector`; ALPN is set by the service's protocol.
    pub fn client_config(&self) -> &Arc<ClientConfig> {
        &self.config
    }

    /// The name that an endpoint's certificate must carry: the configured one, else the endpoint's host, else its
    /// address.
    pub fn server_name(&self, endpoint: &Endpoint) -> ServerName<'static> {
        if let Some(name) = &self.server_name {
            return name.clone();
        }
        let host = endpoint.host().and_then(|host| ServerName::try_from(host.to_string()).ok());
        host.unwrap_or_else(|| ServerName::IpAddress(endpoint.address().ip().into()))
    }
}

fn client_config(
    roots: RootCertStore,
    shown: Option<Arc<dyn ResolvesClientCert>>,
    protocol: Protocol,
) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring supports the default versions of TLS")
        .with_root_certificates(roots);
    let mut config = match shown {
        Some(shown) => builder.with_client_cert_resolver(shown),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = match protocol {
        Protocol::Http1 => vec![b"http/1.1".to_vec()],
        Protocol::H2 => vec![b"h2".to_vec()],
    };
    Arc::new(config)
}

/// The certificate that endpoints are shown when they ask for one; the error says what is wrong with it.
fn shown(client: &ClientIdentity) -> Result<Arc<dyn ResolvesClientCert>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&client.certificates_pem).collect();
    let chain = chain.map_err(|error| format!("the certificate is not PEM that holds one: {error}"))?;
    if chain.is_empty() {
        return Err("the certificate is not PEM that holds one".to_owned());
    }
    let key = PrivateKeyDer::from_pem_slice(&client.key_pem);
    let key = key.map_err(|error| format!("the key is not PEM that holds a private key: {error}"))?;
    let key = rustls::crypto::ring::sign::any_supported_type(&key);
    let key = key.map_err(|error| format!("the key is of a kind that is not known: {error}"))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
            Err("the key does not belong to the certificate".to_owned())
        }
        Err(rustls::Error::InvalidCertificate(error)) => {
            Err(format!("the certificate is not one that can be read: {error:?}"))
        }
        _ => Ok(Arc::new(SingleCertAndKey::from(certified))),
    }
}

fn server_name(service: &str, name: &str) -> Result<ServerName<'static>, BuildError> {
    let refused = |_| BuildError::ServerName { service: service.to_owned(), name: name.to_owned() };
    ServerName::try_from(name.to_owned()).map_err(refused)
}

fn pem_roots(service: &str, pem: &[u8]) -> Result<RootCertStore, BuildError> {
    let refused = |detail: String| BuildError::Roots { service: service.to_owned(), detail };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| refused(error.to_string()))?;
        roots.add(certificate).map_err(|error| refused(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(refused("no certificate in it".to_owned()));
    }
    Ok(roots)
}

/// Single certificates of the system that rustls does not understand are passed over, as browsers do.
fn system_roots(service: &str) -> Result<RootCertStore, BuildError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let detail = match found.errors.first() {
            Some(error) => error.to_string(),
            None => "its store is empty".to_owned(),
        };
        return Err(BuildError::SystemRoots { service: service.to_owned(), detail });
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::IdentityKey;

    fn build(roots: &[u8], server_name: Option<&str>) -> Result<Tls, BuildError> {
        let config = Config::new("orders", IdentityKey([0; 16]));
        let server_name = server_name.map(str::to_owned);
        let tls = TlsConfig { server_name, roots: Roots::Pem(roots.into()), client: None };
        Tls::build(&config, &tls)
    }

    fn build_showing(certificates_pem: &str, key_pem: &str) -> Result<Tls, BuildError> {
        let client = ClientIdentity {
            certificates_pem: certificates_pem.as_bytes().into(),
            key_pem: key_pem.as_bytes().into(),
        };
        let roots = Roots::Pem(certificate().as_bytes().into());
        let tls = TlsConfig { server_name: None, roots, client: Some(client) };
        Tls::build(&Config::new("orders", IdentityKey([0; 16])), &tls)
    }

    fn certificate() -> String {
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate").cert.pem()
    }

    #[test]
    fn a_file_without_a_certificate_is_refused_with_the_service_named() {
        let error = build(b"not a certificate", None).expect_err("there is none in it");
        assert!(error.to_string().contains("service orders"), "{error}");
    }

    #[test]
    fn a_name_that_no_certificate_carries_is_refused() {
        let error = build(certificate().as_bytes(), Some("not a name")).expect_err("a space in it");
        assert!(matches!(error, BuildError::ServerName { .. }), "{error}");
    }

    #[test]
    fn the_protocol_decides_what_alpn_asks_for() {
        let tls = build(certificate().as_bytes(), Some("localhost")).expect("it is fine");
        assert_eq!(tls.client_config().alpn_protocols, [b"http/1.1"]);
    }

    #[test]
    fn a_client_certificate_that_cannot_be_shown_is_refused_and_its_key_is_never_told() {
        let made = rcgen::generate_simple_self_signed(["edge".to_owned()]).expect("a certificate");
        let other = rcgen::generate_simple_self_signed(["edge".to_owned()]).expect("a certificate");
        let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let tls = build_showing(&chain, &key).expect("they belong together");
        assert!(tls.client_config().client_auth_cert_resolver.has_certs());
        for (chain, key, why) in [
            (chain.as_str(), other.signing_key.serialize_pem().as_str(), "does not belong"),
            (chain.as_str(), "no key", "the key is not PEM"),
            ("no certificate", key.as_str(), "the certificate is not PEM"),
        ] {
            let error = build_showing(chain, key).expect_err("refused").to_string();
            assert!(error.contains(why) && error.contains("service orders"), "{error}");
        }
        let identity = ClientIdentity { certificates_pem: [].into(), key_pem: key.as_bytes().into() };
        assert!(!format!("{identity:?}").contains("PRIVATE"));
    }
}

//! The certificate that a client showed of itself. Whether it is good was settled in the handshake (see `tls`): what stands
//! here was verified up to an authority that the listener believes. Whoever asks who the client is reads the names in it.

use rustls::pki_types::CertificateDer;

/// Names of one certificate that are read; further ones are passed over.
const NAMES_MAX: usize = 100;

/// A client's certificate, verified.
#[derive(Debug)]
pub(crate) struct ClientCertificate {
    /// The chain as it was shown, the client's own certificate first; never empty.
    #[cfg_attr(not(test), expect(dead_code, reason = "the step that finds out who asks reads it"))]
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// The names in it (subjectAltName, RFC 5280 section 4.2.1.6): of hosts in lower case, perhaps with a star in the place
    /// of the first label, and URIs (such as `spiffe://…`) as they are, in the order of the certificate within each kind.
    #[cfg_attr(not(test), expect(dead_code, reason = "the step that finds out who asks reads it"))]
    pub(crate) names: Vec<String>,
}

impl ClientCertificate {
    /// The verified chain of a handshake, if the client showed one.
    pub(crate) fn read(chain: Option<&[CertificateDer<'static>]>) -> Option<Self> {
        let chain = chain?;
        let own = webpki::EndEntityCert::try_from(chain.first()?).ok()?;
        let hosts = own.valid_dns_names().map(str::to_ascii_lowercase);
        let names = hosts.chain(own.valid_uri_names().map(str::to_owned)).take(NAMES_MAX).collect();
        Some(Self { chain: chain.to_vec(), names })
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    #[test]
    fn the_names_of_hosts_and_services_are_read() {
        let mut params = CertificateParams::new(["Orders.SVC.example.com".to_owned(), "10.0.0.1".to_owned()])
            .expect("names");
        let uri = "spiffe://example.com/Orders".try_into().expect("ASCII");
        params.subject_alt_names.push(SanType::URI(uri));
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let shown = ClientCertificate::read(Some(&[certificate.der().clone()])).expect("readable");
        assert_eq!(shown.names, ["orders.svc.example.com", "spiffe://example.com/Orders"]);
        assert_eq!(shown.chain.len(), 1);
        assert!(ClientCertificate::read(None).is_none() && ClientCertificate::read(Some(&[])).is_none());
        assert!(ClientCertificate::read(Some(&[CertificateDer::from(vec![0x30, 0])])).is_none());
    }
}

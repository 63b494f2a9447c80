//! What an authority is told when it asks whether a host is ours. Whoever orders a certificate puts the answer here and
//! into the folder, before it says that it is ready; for the authority connects to whichever machine its DNS and the load
//! balancers in front lead it to, and that one may only have the folder in common with who orders.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ring::digest;

use crate::config::Challenge;
use crate::disk::Disk;

/// A certificate and its key, as PEM: for a listener, or to answer an authority with. The text holds both.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// The private key, and the chain, its own certificate first.
    pub pem: Vec<u8>,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Pair({} bytes, key hidden)", self.pem.len())
    }
}

/// The answers that are ready. Cheap to clone; clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answers(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    /// Where those of other machines are.
    disk: Option<Disk>,
    /// Key authorizations (RFC 8555 section 8.1), by challenge and token or host.
    texts: HashMap<(Challenge, String), String>,
}

/// An answer that is there until this is dropped.
#[derive(Debug)]
pub(crate) struct Ready {
    answers: Answers,
    disk: Disk,
    key: (Challenge, String),
}

impl Drop for Ready {
    fn drop(&mut self) {
        self.answers.inner().texts.remove(&self.key);
        let (challenge, name) = self.key.clone();
        self.disk.spawn(move |store| {
            let _was_never_written = store.remove_answer(challenge, &name);
        });
    }
}

impl Answers {
    /// Looks into that folder for what other machines have to say.
    pub(crate) fn look_in(&self, disk: Option<Disk>) {
        self.inner().disk = disk;
    }

    /// Has an answer ready, here and at the other machines. The error is the folder's: the answer stands here all the same.
    pub(crate) async fn prepare(
        &self,
        disk: &Disk,
        challenge: Challenge,
        name: &str,
        text: &str,
    ) -> (Ready, std::io::Result<()>) {
        let key = (challenge, name.to_owned());
        self.inner().texts.insert(key.clone(), text.to_owned());
        let ready = Ready { answers: self.clone(), disk: disk.clone(), key };
        let (name, text) = (name.to_owned(), text.to_owned());
        let written = disk.run(move |store| store.save_answer(challenge, &name, &text)).await;
        (ready, written)
    }

    /// What is answered over HTTP (RFC 8555 section 8.3).
    pub(crate) async fn http(&self, token: &str) -> Option<String> {
        self.find(Challenge::Http01, token).await
    }

    /// What is shown in a handshake (RFC 8737 section 3).
    pub(crate) async fn tls(&self, host: &str) -> Option<Pair> {
        let text = self.find(Challenge::TlsAlpn01, host).await?;
        question_certificate(host, &text)
    }

    async fn find(&self, challenge: Challenge, name: &str) -> Option<String> {
        let disk = {
            let inner = self.inner();
            if let Some(text) = inner.texts.get(&(challenge, name.to_owned())) {
                return Some(text.clone());
            }
            inner.disk.clone()?
        };
        let name = name.to_owned();
        disk.look_up(move |store| store.answer(challenge, &name)).await
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // A map of texts is whole after any panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The certificate that answers for a host: signed by itself, with the digest of the key authorization in it.
fn question_certificate(host: &str, key_authorization: &str) -> Option<Pair> {
    let digest = digest::digest(&digest::SHA256, key_authorization.as_bytes());
    let mut params = rcgen::CertificateParams::new([host.to_owned()]).ok()?;
    params.custom_extensions = vec![rcgen::CustomExtension::new_acme_identifier(digest.as_ref())];
    let key = rcgen::KeyPair::generate().ok()?;
    let certificate = params.self_signed(&key).ok()?;
    Some(Pair { pem: format!("{}{}", key.serialize_pem(), certificate.pem()).into_bytes() })
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    use terrace_testkit::Folder;

    use super::*;
    use crate::store::Store;

    fn disk(folder: &Folder) -> Disk {
        Disk::new(Store::new(folder.path(), "https://acme.example/dir"))
    }

    #[tokio::test]
    async fn an_answer_is_given_by_every_machine_with_the_same_folder_for_as_long_as_it_is_needed() {
        let folder = Folder::new();
        let (ours, theirs, strangers) = (Answers::default(), Answers::default(), Answers::default());
        theirs.look_in(Some(disk(&folder)));
        let (ready, written) = ours.prepare(&disk(&folder), Challenge::Http01, "token", "token.key").await;
        written.expect("a folder of ours");
        assert_eq!(ours.http("token").await.as_deref(), Some("token.key"));
        assert_eq!(theirs.http("token").await.as_deref(), Some("token.key"));
        assert_eq!(strangers.http("token").await, None);
        assert_eq!(theirs.http("other").await, None);
        drop(ready);
        assert_eq!(ours.http("token").await, None);
        terrace_testkit::until_true("the file is gone", || {
            disk(&folder).store.answer(Challenge::Http01, "token").expect("readable").is_none()
        });
    }

    #[tokio::test]
    async fn without_a_folder_the_answer_is_given_by_who_ordered() {
        let folder = Folder::new();
        std::fs::write(folder.path().join("acme.example-dir"), "in the way").expect("writable");
        let answers = Answers::default();
        let (_ready, written) =
            answers.prepare(&disk(&folder), Challenge::TlsAlpn01, "a.example", "t.key").await;
        assert!(written.is_err());
        assert!(answers.tls("a.example").await.is_some());
        assert!(answers.tls("b.example").await.is_none());
    }

    #[tokio::test]
    async fn rfc8737_3_the_certificate_names_the_host_and_holds_the_digest_as_critical_extension() {
        let pair = question_certificate("a.example", "token.thumbprint").expect("a certificate");
        let der = CertificateDer::from_pem_slice(&pair.pem).expect("PEM");
        let digest = digest::digest(&digest::SHA256, b"token.thumbprint");
        // SEQUENCE { OID 1.3.6.1.5.5.7.1.31, BOOLEAN TRUE, OCTET STRING { OCTET STRING digest } }
        let head = [6, 8, 0x2b, 6, 1, 5, 5, 7, 1, 0x1f, 1, 1, 0xff, 4, 0x22, 4, 0x20];
        let extension = [&head[..], digest.as_ref()].concat();
        assert!(der.windows(extension.len()).any(|window| window == extension));
        assert!(!format!("{pair:?}").contains("PRIVATE"));
    }
}

//! One order from its beginning to the certificate: the authority is told which hosts, asks whether they are ours, is
//! answered, and issues (RFC 8555 section 7.4). One machine does it at a time; the others find what came of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeStatus, ChallengeType, Identifier,
    NewOrder, Order, OrderStatus,
};
use rustls::pki_types::Der;
use terrace_instruments::{Event, Level, Log};
use terrace_runtime::{clock, random};

use crate::account::Accounts;
use crate::answers::{Answers, Ready};
use crate::config::{Authority, Challenge};
use crate::error::OrderError;
use crate::http::Http;
use crate::lock::{Lock, Watched};
use crate::store::{Stored, name_of};

/// How long an order may take, the authority's checks included.
const ORDER_TIME: Duration = Duration::from_secs(600);
/// How long to wait for another machine that orders the same.
const TURN_TIME: Duration = Duration::from_secs(900);
/// From one look at what another machine has done to the next.
const TURN_LOOK: Duration = Duration::from_secs(1);
/// From one question whether the authority is done to the next: the first, and the longest.
const POLL: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// What is ordered, and all that it takes.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) authority: Arc<Authority>,
    pub(crate) accounts: Accounts,
    pub(crate) answers: Answers,
    pub(crate) log: Log,
    /// Sorted.
    pub(crate) hosts: Vec<String>,
    pub(crate) challenge: Challenge,
    /// What is held for these hosts so far; nothing else that is found will do.
    pub(crate) known: BTreeSet<(Vec<u8>, Vec<u8>)>,
    /// The certificate that the authority wants to have replaced.
    pub(crate) replaces: Option<Arc<Stored>>,
}

/// How an order went well.
#[derive(Debug)]
pub(crate) enum Done {
    /// The authority has issued a certificate. It may not be on disk yet.
    Issued {
        stored: Arc<Stored>,
        /// Why it could not be kept.
        unsaved: Option<String>,
    },
    /// Another machine was faster.
    Found,
}

impl Job {
    /// Carries it out, once it is our turn.
    pub(crate) async fn run(self) -> Result<Done, OrderError> {
        let lock = match tokio::time::timeout(TURN_TIME, self.turn()).await {
            Ok(Turn::Ours(lock)) => lock,
            Ok(Turn::Theirs) => return Ok(Done::Found),
            Err(_elapsed) => return Err(OrderError::TimedOut(TURN_TIME)),
        };
        let issued = tokio::time::timeout(ORDER_TIME, self.issue()).await;
        let issued = issued.unwrap_or(Err(OrderError::TimedOut(ORDER_TIME)));
        if issued == Err(OrderError::NoAccount) {
            self.accounts.forget().await;
        }
        let stored = Arc::new(
            Stored::read(&name_of(&self.hosts), issued?)
                .map_err(|error| OrderError::Useless(error.to_string()))?,
        );
        if let Some(host) = self.hosts.iter().find(|host| !stored.hosts.contains(*host)) {
            return Err(OrderError::Useless(format!("it is not for {host}")));
        }
        let written = Arc::clone(&stored);
        let saved = self.accounts.disk.run(move |store| store.save(&written)).await;
        drop(lock);
        Ok(Done::Issued { stored, unsaved: saved.err().map(|error| error.to_string()) })
    }

    /// Waits until no other machine orders the same.
    async fn turn(&self) -> Turn {
        let name = name_of(&self.hosts);
        let mut watched = Watched::default();
        loop {
            let taken = Lock::take(&self.accounts.disk, &name, &mut watched).await;
            // Also when we come first: somebody may have come and gone before.
            if self.is_there().await {
                return Turn::Theirs;
            }
            match taken {
                Ok(Some(lock)) => return Turn::Ours(Some(lock)),
                Ok(None) => tokio::time::sleep(TURN_LOOK).await,
                Err(error) => {
                    let event = Event::new(Level::Warn, "acme.folder").field("problem", error.to_string());
                    self.log.emit(event.message("orders go on without a lock between machines"));
                    return Turn::Ours(None);
                }
            }
        }
    }

    /// Whether a certificate for these hosts is there that was not before.
    async fn is_there(&self) -> bool {
        let name = name_of(&self.hosts);
        let found = self.accounts.disk.run(move |store| store.certificate(&name)).await.ok().flatten();
        let wall = since_1970();
        found.is_some_and(|stored| {
            let is_new = !self.known.contains(&stored.fingerprint());
            is_new && stored.facts.not_after > wall + stored.facts.lifetime() / 3
        })
    }

    /// Key and chain in PEM.
    async fn issue(&self) -> Result<Vec<u8>, OrderError> {
        let unusable = |error: terrace_fetch::ClientError| OrderError::Unreachable(error.to_string());
        let http = Http::new(&self.authority).map_err(unusable)?;
        let account = self.accounts.open(&self.authority, &http).await?;
        let asked = Asked { job: self, http };
        let mut order = asked.order(&account).await?;
        // What is ready stays ready until the authority has made up its mind.
        let _ready = asked.answer(&mut order).await?;
        asked.until_ready(&mut order).await?;
        asked.finish(&mut order).await
    }
}

/// Whose turn it is.
enum Turn {
    /// Ours, until the lock is dropped.
    Ours(Option<Lock>),
    /// Theirs, and it is done.
    Theirs,
}

/// An authority that is being spoken to about an order.
struct Asked<'a> {
    job: &'a Job,
    http: Http,
}

impl Asked<'_> {
    fn wrong(&self, error: instant_acme::Error) -> OrderError {
        OrderError::of(error, self.http.noted(), &self.job.hosts)
    }

    async fn order(&self, account: &Account) -> Result<Order, OrderError> {
        let identifiers: Vec<Identifier> = self.job.hosts.iter().cloned().map(Identifier::Dns).collect();
        let wish = NewOrder::new(&identifiers);
        let Some((key, serial)) = self
            .job
            .replaces
            .as_ref()
            .and_then(|stored| Some((stored.facts.authority_key.clone()?, stored.facts.serial.clone())))
        else {
            return account.new_order(&wish).await.map_err(|error| self.wrong(error));
        };
        let replaced = CertificateIdentifier::new(Der::from(key), Der::from(serial));
        match account.new_order(&wish.replaces(replaced)).await {
            Ok(order) => Ok(order),
            // It was replaced already, or the authority does not know it: that is no reason to go without.
            Err(_) => {
                account.new_order(&NewOrder::new(&identifiers)).await.map_err(|error| self.wrong(error))
            }
        }
    }

    /// Has an answer ready for every host, and tells the authority that it may ask.
    async fn answer(&self, order: &mut Order) -> Result<Vec<Ready>, OrderError> {
        let mut ready = Vec::new();
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(|error| self.wrong(error))?;
            match authorization.status {
                AuthorizationStatus::Valid => continue,
                AuthorizationStatus::Pending => {}
                status => return Err(OrderError::Authority(format!("an authorization is {status:?}"))),
            }
            let host = authorization.identifier().to_string().to_ascii_lowercase();
            let offered: Vec<String> =
                authorization.challenges.iter().map(|challenge| word(&challenge.r#type)).collect();
            let Some(mut challenge) = authorization.challenge(kind(self.job.challenge)) else {
                return Err(OrderError::NoChallenge { host, offered: offered.join(", ") });
            };
            let name = match self.job.challenge {
                Challenge::Http01 => challenge.token.clone(),
                Challenge::TlsAlpn01 => host,
            };
            let text = challenge.key_authorization();
            let (answers, disk) = (&self.job.answers, &self.job.accounts.disk);
            let (kept, written) = answers.prepare(disk, self.job.challenge, &name, text.as_str()).await;
            ready.push(kept);
            if let Err(error) = written {
                let event = Event::new(Level::Warn, "acme.folder").field("problem", error.to_string());
                self.job.log.emit(event.message("only this machine can answer the authority"));
            }
            if challenge.status == ChallengeStatus::Pending {
                challenge.set_ready().await.map_err(|error| self.wrong(error))?;
            }
        }
        Ok(ready)
    }

    /// Waits until the authority has asked all it wants to.
    async fn until_ready(&self, order: &mut Order) -> Result<(), OrderError> {
        let mut pause = Pause::default();
        loop {
            let status = order.refresh().await.map_err(|error| self.wrong(error))?.status;
            match status {
                OrderStatus::Ready | OrderStatus::Valid => return Ok(()),
                OrderStatus::Invalid => return Err(self.refusal(order).await),
                OrderStatus::Pending | OrderStatus::Processing => pause.wait(&self.http).await,
            }
        }
    }

    /// Which hosts the authority is not convinced of, in its own words.
    async fn refusal(&self, order: &mut Order) -> OrderError {
        let (mut hosts, mut said) = (Vec::new(), Vec::new());
        let mut authorizations = order.authorizations();
        while let Some(Ok(mut authorization)) = authorizations.next().await {
            if authorization.refresh().await.is_err() || authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let host = authorization.identifier().to_string().to_ascii_lowercase();
            let problems: Vec<_> =
                authorization.challenges.iter().filter_map(|challenge| challenge.error.as_ref()).collect();
            if problems.is_empty() && authorization.status == AuthorizationStatus::Pending {
                continue;
            }
            said.extend(problems.iter().map(|problem| format!("{host}: {problem}")));
            hosts.push(host);
        }
        if let (true, Some(problem)) = (hosts.is_empty(), &order.state().error) {
            return OrderError::said(problem, self.http.noted(), &self.job.hosts);
        }
        let hosts = if hosts.is_empty() { self.job.hosts.clone() } else { hosts };
        let said = if said.is_empty() { "the order is invalid".to_owned() } else { said.join("; ") };
        OrderError::Refused { hosts, said: crate::error::brief(&said) }
    }

    /// Has the certificate made for a key of our own, which nobody else ever sees.
    async fn finish(&self, order: &mut Order) -> Result<Vec<u8>, OrderError> {
        let (key_pem, request) =
            signing_request(&self.job.hosts).map_err(|error| OrderError::Useless(error.to_string()))?;
        if order.state().status == OrderStatus::Ready {
            order.finalize_csr(&request).await.map_err(|error| self.wrong(error))?;
        }
        let mut pause = Pause::default();
        loop {
            match order.certificate().await.map_err(|error| self.wrong(error))? {
                Some(chain_pem) => return Ok(format!("{key_pem}{chain_pem}").into_bytes()),
                None => pause.wait(&self.http).await,
            }
        }
    }
}

/// A new key in PEM, and the request that it be certified for these hosts (RFC 2986) in DER.
fn signing_request(hosts: &[String]) -> Result<(String, Vec<u8>), rcgen::Error> {
    let key = rcgen::KeyPair::generate()?;
    let mut params = rcgen::CertificateParams::new(hosts.to_vec())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    let request = params.serialize_request(&key)?;
    Ok((key.serialize_pem(), request.der().to_vec()))
}

/// The pause between two questions: longer each time, or as long as the authority says.
#[derive(Debug, Default)]
struct Pause {
    last: Duration,
}

impl Pause {
    async fn wait(&mut self, http: &Http) {
        self.last = (self.last * 2).clamp(POLL.0, POLL.1);
        let jitter = self.last.mul_f64((random::u64() % 1_000) as f64 / 4_000.0);
        let asked = http.noted().retry_after.unwrap_or_default().min(Duration::from_secs(60));
        tokio::time::sleep(asked.max(self.last + jitter)).await;
    }
}

fn kind(challenge: Challenge) -> ChallengeType {
    match challenge {
        Challenge::Http01 => ChallengeType::Http01,
        Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
    }
}

fn word(kind: &ChallengeType) -> String {
    match kind {
        ChallengeType::Http01 => "http-01".to_owned(),
        ChallengeType::Dns01 => "dns-01".to_owned(),
        ChallengeType::TlsAlpn01 => "tls-alpn-01".to_owned(),
        ChallengeType::Unknown(word) => crate::error::brief(word),
        other => format!("{other:?}"),
    }
}

/// The wall clock as certificates count.
pub(crate) fn since_1970() -> Duration {
    clock::wall().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod tests {
    use terrace_testkit::Folder;

    use super::*;
    use crate::disk::Disk;
    use crate::store::Store;

    /// One with that directory and nothing else of interest.
    pub(crate) fn authority(directory: &str) -> Authority {
        Authority {
            directory: directory.to_owned(),
            email: None,
            roots_pem: None,
            external_account: None,
            folder: "/nowhere".into(),
            challenges: vec![Challenge::Http01],
            renew_before: None,
            on_demand: false,
        }
    }

    const DIRECTORY: &str =
        r#"{"newNonce":"HERE/nonce","newAccount":"HERE/account","newOrder":"HERE/order"}"#;
    const ORDER: &str = r#"{"status":"pending","authorizations":["HERE/authz"],"finalize":"HERE/finalize"}"#;

    /// What becomes of an order for `a.example` with an authority that answers so besides the usual.
    async fn ordered(more: &[(&'static str, &'static str, &'static str)]) -> OrderError {
        let usual = [
            ("/dir", "200 OK\r\n", DIRECTORY),
            ("/nonce", "200 OK\r\n", ""),
            ("/account", "201 Created\r\nLocation: HERE/account/1\r\n", "{}"),
            ("/order", "201 Created\r\nLocation: /order/1\r\n", ORDER),
        ];
        let script = more.iter().chain(&usual).copied().collect();
        let (folder, server) = (Folder::new(), crate::testing::Authority::start(script));
        let directory = server.url("/dir");
        let job = Job {
            authority: Arc::new(authority(&directory)),
            accounts: Accounts::new(Disk::new(Store::new(folder.path(), &directory)), Log::discard()),
            answers: Answers::default(),
            log: Log::discard(),
            hosts: vec!["a.example".to_owned()],
            challenge: Challenge::Http01,
            known: BTreeSet::new(),
            replaces: None,
        };
        let disk = job.accounts.disk.clone();
        let error = job.run().await.expect_err("nothing is issued here");
        disk.rest(Duration::from_secs(10)).await;
        error
    }

    #[tokio::test]
    async fn rfc8555_6_6_too_many_requests_are_told_with_how_long_to_wait() {
        const LIMITED: &str =
            r#"{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many orders"}"#;
        let error = ordered(&[("/order", "429 Too Many Requests\r\nRetry-After: 7200\r\n", LIMITED)]).await;
        let OrderError::RateLimited { after, said } = error else { panic!("{error:?}") };
        assert_eq!(after, Some(Duration::from_secs(7_200)));
        assert!(said.contains("too many orders"), "{said}");
        let error = ordered(&[("/dir", "429 Too Many Requests\r\nRetry-After: 60\r\n", "<html>")]).await;
        assert!(matches!(error, OrderError::RateLimited { after: Some(_), .. }), "{error:?}");
    }

    #[tokio::test]
    async fn an_authority_that_lies_or_breaks_is_survived() {
        for (path, head, body) in [
            ("/dir", "200 OK\r\n", "[]"),
            ("/dir", "502 Bad Gateway\r\n", "<html>"),
            ("/nonce", "500 Internal Server Error\r\n", ""),
            ("/account", "201 Created\r\n", "{}"),
            ("/order", "201 Created\r\nLocation: /order/1\r\n", "{}"),
            ("/authz", "200 OK\r\n", "null"),
        ] {
            let error = ordered(&[(path, head, body)]).await;
            assert!(matches!(error, OrderError::Authority(_)), "{path} {head}: {error:?}");
        }
        let offered = r#"{"status":"pending","identifier":{"type":"dns","value":"a.example"},"challenges":[
            {"type":"dns-01","url":"HERE/challenge","token":"t","status":"pending"}]}"#;
        let error = ordered(&[("/authz", "200 OK\r\n", offered)]).await;
        assert_eq!(
            error.to_string(),
            "for a.example the authority offers none of the challenges that are allowed here (dns-01)"
        );
        let token = r#"{"status":"pending","identifier":{"type":"dns","value":"a.example"},"challenges":[
            {"type":"http-01","url":"HERE/challenge","token":"../../account.json","status":"pending"}]}"#;
        let refused =
            ("/challenge", "403 Forbidden\r\n", r#"{"type":"urn:ietf:params:acme:error:malformed"}"#);
        let error = ordered(&[("/authz", "200 OK\r\n", token), refused]).await;
        assert!(
            matches!(error, OrderError::Refused { .. }),
            "a token that is a path is written nowhere: {error:?}"
        );
    }
}

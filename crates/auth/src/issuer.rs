//! An issuer of tokens: what is asked of a token of its, and the keys to check it with.

use std::sync::Arc;
use std::time::Duration;

use crate::auth::Shared;
use crate::cache::{Keep, Since};
use crate::claims::{self, Claims, Expected};
use crate::desk::Desk;
use crate::gate::{Checked, Fresh, Moment};
use crate::jose::compact::Compact;
use crate::jose::{Algorithm, Algorithms};
use crate::keyring::{KeySource, Keyring, RingConfig, Verdict};
use crate::refusal::{Refused, Why};

/// An issuer, and what a token of its must be.
#[derive(Debug, Clone, PartialEq)]
pub struct IssuerConfig {
    /// Who it is, and where its keys are.
    pub ring: RingConfig,
    /// One of these its tokens must be for; nothing where that is not looked at.
    pub audience: Option<Vec<String>>,
    /// How its tokens may be signed. Of these only those count that go with where its keys come from: HS256, HS384 and HS512
    /// with a secret, all others without.
    pub algorithms: Algorithms,
    /// By so much its clock and ours may differ.
    pub leeway: Duration,
    /// The claim in which roles are, as [`Identity::claim`](crate::Identity::claim) takes it.
    pub roles: String,
}

/// Why an issuer cannot be; the file's to put right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssuerError {
    /// None of the algorithms goes with where the keys come from.
    #[error("issuer {0}: HS256, HS384 and HS512 need a secret, and with a secret there are no others")]
    NoAlgorithm(String),
    /// The secret is shorter than the hash (RFC 7518 section 3.2).
    #[error(
        "issuer {issuer}: {algorithm} needs a secret of at least {bytes_min} bytes, this one has {bytes}"
    )]
    ShortSecret {
        /// Who.
        issuer: String,
        /// Its algorithm.
        algorithm: &'static str,
        /// What it needs.
        bytes_min: usize,
        /// What it has.
        bytes: usize,
    },
    /// What is to be trusted is no certificate.
    #[error("issuer {issuer}: {error}")]
    Certificates {
        /// Who.
        issuer: String,
        /// What is wrong.
        error: terrace_fetch::ClientError,
    },
}

/// An issuer, ready.
#[derive(Debug)]
pub(crate) struct Issuer {
    expected: Arc<Expected>,
    algorithms: Algorithms,
    ring: Arc<Keyring>,
}

impl Issuer {
    pub(crate) fn build(config: &IssuerConfig, shared: &Shared) -> Result<Self, IssuerError> {
        let issuer = &config.ring.issuer;
        let algorithms = usable(config)?;
        let ring = shared
            .ring(&config.ring)
            .map_err(|error| IssuerError::Certificates { issuer: issuer.clone(), error })?;
        let expected = Expected {
            issuer: issuer.clone(),
            audience: config.audience.clone(),
            leeway: config.leeway,
            roles: config.roles.clone(),
        };
        Ok(Self { expected: Arc::new(expected), algorithms, ring })
    }

    /// Who it is.
    pub(crate) fn name(&self) -> &str {
        &self.expected.issuer
    }

    /// Whether the token is good, and whose it is. Its claims are checked after its signature alone, so that nobody learns of a
    /// forged token what a good one would have to claim.
    pub(crate) fn check(
        &self,
        token: &[u8],
        read: &Compact<'_>,
        claims: Claims,
        at: Moment,
        desk: &Desk,
    ) -> Checked {
        match self.ring.verify_now(read, self.algorithms, at.now) {
            Verdict::Good(since) => match identify(claims, &self.expected, since, at.wall) {
                Ok(fresh) => Checked::Known(fresh),
                Err(refused) => Checked::Refused(refused),
            },
            Verdict::Refused(refused) => Checked::Refused(refused),
            Verdict::Wait => self.check_later(token.into(), desk.clone()),
        }
    }

    fn check_later(&self, token: Arc<[u8]>, desk: Desk) -> Checked {
        let (ring, expected, algorithms) =
            (Arc::clone(&self.ring), Arc::clone(&self.expected), self.algorithms);
        Checked::Later(Box::pin(async move {
            let since = ring.verify(Arc::clone(&token), algorithms, desk).await?;
            let read = Compact::parse(&token).map_err(|error| Refused::invalid(error.reason(), ""))?;
            let claims = claims::parse(&read.payload).map_err(refused)?;
            identify(claims, &expected, since, Moment::read().wall)
        }))
    }
}

/// Who it is by these claims, whose signature was found to be good.
fn identify(claims: Claims, expected: &Expected, since: Since, wall: Duration) -> Result<Fresh, Refused> {
    let identity = claims::identify(claims, expected, wall).map_err(refused)?;
    let keep = identity.expires.map(|until| Keep { until, since });
    Ok(Fresh::new(identity, keep))
}

pub(crate) fn refused(error: claims::ClaimsError) -> Refused {
    let why = if error == claims::ClaimsError::Expired { Why::Expired } else { Why::Invalid };
    Refused::new(why, error.reason(), "")
}

/// The algorithms that go with where the keys come from: never both kinds, or a public key could be taken for a secret.
pub(crate) fn usable(config: &IssuerConfig) -> Result<Algorithms, IssuerError> {
    let issuer = &config.ring.issuer;
    let KeySource::Secret(secret) = &config.ring.source else {
        return not_empty(issuer, config.algorithms.and(Algorithms::asymmetric()));
    };
    let algorithms = not_empty(issuer, config.algorithms.and(Algorithms::symmetric()))?;
    let bytes = secret.expose().len();
    let is_short = |algorithm: &Algorithm| {
        algorithms.has(*algorithm) && algorithm.secret_bytes_min().is_some_and(|bytes_min| bytes < bytes_min)
    };
    let long_enough: Algorithms = Algorithm::ALL
        .into_iter()
        .filter(|algorithm| algorithms.has(*algorithm) && !is_short(algorithm))
        .collect();
    match (long_enough.is_empty(), Algorithm::ALL.into_iter().find(is_short)) {
        (true, Some(algorithm)) => Err(IssuerError::ShortSecret {
            issuer: issuer.clone(),
            algorithm: algorithm.name(),
            bytes_min: algorithm.secret_bytes_min().unwrap_or_default(),
            bytes,
        }),
        _ => Ok(long_enough),
    }
}

fn not_empty(issuer: &str, algorithms: Algorithms) -> Result<Algorithms, IssuerError> {
    match algorithms.is_empty() {
        true => Err(IssuerError::NoAlgorithm(issuer.to_owned())),
        false => Ok(algorithms),
    }
}

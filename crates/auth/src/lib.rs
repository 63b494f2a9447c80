//! Who is asking, and what they may do.
//!
//! A request's proof (a token, a key, a certificate, a session) is checked once and remembered by its hash, so that the next
//! request with it costs one look into a bounded table. What must be fetched to check it, an authority's keys first of all,
//! is fetched beside the requests.
#![forbid(unsafe_code)]

mod ask;
mod auth;
mod basic;
mod cache;
mod certificate;
mod claims;
mod client;
mod desk;
mod discovery;
mod files;
mod flights;
mod form;
mod forward;
#[doc(hidden)]
pub mod fuzzing;
mod gate;
mod guesses;
mod identity;
mod introspect;
mod issuer;
mod jose;
mod jwk;
mod keyring;
mod keys;
mod login;
mod passwords;
mod proof;
mod refresh;
mod refusal;
mod rules;
mod sealed;
mod secret;
mod session;
mod token;
mod totp;
mod users;

// The public interface is:
pub use ask::AskConfig;
pub use auth::{Auth, AuthTask};
pub use cache::CacheBounds;
pub use certificate::{CertificateError, ClientCertificate, NamePattern, NotANamePattern};
pub use client::ClientId;
pub use files::FileError;
pub use forward::{DEFAULT_HEADERS, ForwardError, Reserved, Source, check_header};
pub use gate::{
    Asked, BuildError, Decision, Gate, GateConfig, MethodConfig, Moment, Now, Passed, Ticket, plate,
};
pub use identity::{Identity, Method};
pub use introspect::IntrospectConfig;
pub use issuer::{IssuerConfig, IssuerError};
pub use jose::{Algorithm, Algorithms};
pub use keyring::{KeySource, RingConfig};
pub use keys::{
    KeyConfig, KeyFileError, KeyRecord, KeyRefused, KeyStore, KeyText, Keys, NewKey, NewKeyError, NotAKey,
};
pub use login::{Login, LoginAnswer, LoginConfig};
pub use proof::Place;
pub use refresh::Pace;
pub use refusal::Refusal;
pub use rules::{RULE_DEPTH_MAX, RULE_PARTS_MAX, Rule, RuleError};
pub use sealed::{SealKeys, SealKeysError};
pub use secret::Secret;
pub use token::TokenConfig;
pub use totp::{Attempts, NotATotpSecret, TotpSecret};
pub use users::{Users, UsersError, UsersProblem};

//! Accounts: registers people, logs them in, and vouches for them with tokens that anybody can check.
//!
//! Passwords are kept as Argon2id hashes only. Hashing is slow and large on purpose, so it runs on blocking threads. How
//! many may log in at once, and how often somebody may guess, is for the gateway to say.

use std::sync::Arc;

use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::database::Database;
use crate::problem::{Input, Problem};
use crate::random;
use crate::serve::{self, StartError, Stop};
use crate::settings::Settings;
use crate::token::{self, Signer};

/// Argon2id with 7 MiB and 5 passes: the smallest memory OWASP's password storage cheat sheet recommends.
const HASH_PARAMS: (u32, u32, u32) = (7 * 1024, 5, 1);

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS people (
        id TEXT PRIMARY KEY,
        email TEXT NOT NULL UNIQUE,
        name TEXT NOT NULL,
        password_hash TEXT NOT NULL,
        created_at_ms INTEGER NOT NULL
    ) STRICT;";

/// What all requests share.
struct Auth {
    database: Database,
    signer: Signer,
    issuer: String,
    /// Checked against when there is no such account, so that the time taken does not tell.
    decoy_hash: String,
}

/// A password on its way to being hashed; never shown.
#[derive(Clone, Deserialize)]
pub(crate) struct Password(String);

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(…)")
    }
}

#[derive(Debug, Deserialize)]
struct Registration {
    name: String,
    email: String,
    password: Password,
}

#[derive(Debug, Deserialize)]
struct Login {
    email: String,
    password: Password,
}

/// What a person gets who registered or logged in.
#[derive(Serialize, Deserialize)]
pub(crate) struct Welcome {
    pub(crate) token: String,
    pub(crate) expires_in_s: u64,
}

/// A row of `people`.
struct Person {
    id: String,
    name: String,
    email: String,
    password_hash: String,
}

/// Runs the service until it is asked to stop.
pub(crate) async fn run(settings: Settings, stop: Stop) -> Result<(), StartError> {
    let database = Database::open(&settings.data, "auth", SCHEMA, |_| Ok(()))?;
    let auth = Auth {
        database: database.clone(),
        signer: Signer::load_or_create(&settings.data)?,
        issuer: settings.issuer.trim_end_matches('/').to_owned(),
        decoy_hash: hash(&Password(random::id())),
    };
    let routes = Router::new()
        .route("/register", post(register))
        .route("/login", post(login))
        .route("/.well-known/jwks.json", get(key_set))
        .route("/.well-known/openid-configuration", get(discovery))
        .with_state(Arc::new(auth));
    serve::serve(&settings, &stop, database, routes, Problem::into_response).await
}

async fn register(
    State(auth): State<Arc<Auth>>,
    Input(wanted): Input<Registration>,
) -> Result<Response, Problem> {
    let wanted = wanted.checked()?;
    let password = wanted.password.clone();
    let password_hash = on_blocking(move || hash(&password)).await?;
    let person = Person { id: random::id(), name: wanted.name, email: wanted.email, password_hash };
    let (person, is_new) = auth.database.change(move |db| insert(db, person)).await?;
    if !is_new {
        return Err(Problem::conflict("taken", "There is an account with this address already; sign in."));
    }
    Ok((StatusCode::CREATED, auth.welcome(&person)).into_response())
}

async fn login(State(auth): State<Arc<Auth>>, Input(login): Input<Login>) -> Result<Response, Problem> {
    let email = checked_email(&login.email)?;
    let password = login.password.checked()?;
    let person = auth.database.read(move |db| find(db, &email)).await?;
    let hash = match &person {
        Some(person) => person.password_hash.clone(),
        None => auth.decoy_hash.clone(),
    };
    let is_right = on_blocking(move || matches(&password, &hash)).await?;
    match person {
        Some(person) if is_right => Ok(auth.welcome(&person).into_response()),
        _ => Err(wrong_login()),
    }
}

async fn key_set(State(auth): State<Arc<Auth>>) -> Response {
    let cached = [(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"))];
    (cached, Json(auth.signer.key_set())).into_response()
}

async fn discovery(State(auth): State<Arc<Auth>>) -> Response {
    let cached = [(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"))];
    (cached, Json(token::discovery(&auth.issuer))).into_response()
}

fn wrong_login() -> Problem {
    Problem::forbidden("This address and password do not belong together.")
}

impl Auth {
    fn welcome(&self, person: &Person) -> Response {
        let claims = token::claims_for(&self.issuer, &person.id, &person.name, &person.email);
        let welcome = Welcome { token: self.signer.sign(&claims), expires_in_s: token::LIFETIME.as_secs() };
        ([(CACHE_CONTROL, HeaderValue::from_static("no-store"))], Json(welcome)).into_response()
    }
}

/// Runs what would hold others up beside them.
async fn on_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work).await.map_err(|panicked| Problem::internal(&panicked))
}

impl Registration {
    fn checked(self) -> Result<Self, Problem> {
        let name = self.name.trim().to_owned();
        if name.is_empty() || name.chars().count() > 80 || name.chars().any(char::is_control) {
            return Err(Problem::invalid("Tell us your name, in at most 80 characters."));
        }
        Ok(Self { name, email: checked_email(&self.email)?, password: self.password.checked()? })
    }
}

impl Password {
    fn checked(self) -> Result<Self, Problem> {
        match self.0.chars().count() {
            8..=128 => Ok(self),
            _ => Err(Problem::invalid("A password has between 8 and 128 characters.")),
        }
    }
}

/// Lower case, trimmed, and something like an address: only a letter sent there could tell more.
fn checked_email(text: &str) -> Result<String, Problem> {
    let email = text.trim().to_lowercase();
    let is_plausible = match email.split_once('@') {
        Some((name, host)) => !name.is_empty() && host.len() >= 3 && !host.contains('@'),
        None => false,
    };
    if !is_plausible || email.len() > 254 || email.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(Problem::invalid("Tell us an e-mail address, like ada@example.com."));
    }
    Ok(email)
}

fn argon2() -> Argon2<'static> {
    let (memory_kib, passes, lanes) = HASH_PARAMS;
    let params = Params::new(memory_kib, passes, lanes, None).expect("the constants are within bounds");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

fn hash(password: &Password) -> String {
    let salt = SaltString::encode_b64(&random::bytes::<16>()).expect("16 bytes make a salt");
    let hash = argon2().hash_password(password.0.as_bytes(), &salt);
    hash.expect("passwords of bounded length can be hashed").to_string()
}

fn matches(password: &Password, hash: &str) -> bool {
    match PasswordHash::new(hash) {
        Ok(hash) => argon2().verify_password(password.0.as_bytes(), &hash).is_ok(),
        Err(_) => false,
    }
}

fn insert(db: &rusqlite::Connection, person: Person) -> rusqlite::Result<(Person, bool)> {
    let inserted = db.execute(
        "INSERT INTO people (id, email, name, password_hash, created_at_ms) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (email) DO NOTHING",
        params![person.id, person.email, person.name, person.password_hash, clock::wall_ms()],
    )?;
    Ok((person, inserted == 1))
}

fn find(db: &rusqlite::Connection, email: &str) -> rusqlite::Result<Option<Person>> {
    let query = "SELECT id, name, email, password_hash FROM people WHERE email = ?1";
    db.query_row(query, [email], |row| {
        Ok(Person { id: row.get(0)?, name: row.get(1)?, email: row.get(2)?, password_hash: row.get(3)? })
    })
    .optional()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_matches_its_own_hash_only_and_is_never_shown() {
        let password = Password("correct horse".into());
        let hash = hash(&password);
        assert!(hash.starts_with("$argon2id$"));
        assert!(matches(&password, &hash));
        assert!(!matches(&Password("wrong horse".into()), &hash));
        assert!(!matches(&password, "not a hash"));
        assert!(!format!("{password:?}").contains("horse"));
    }

    #[test]
    fn addresses_are_compared_without_case_and_checked_a_little() {
        assert_eq!(checked_email(" Ada@Example.COM ").unwrap(), "ada@example.com");
        for wrong in ["", "ada", "@example.com", "ada@", "a@b@c.de", "a b@c.de", "a\u{7}@c.de"] {
            assert!(checked_email(wrong).is_err(), "{wrong}");
        }
        assert!(checked_email(&format!("{}@c.de", "a".repeat(300))).is_err());
    }
}

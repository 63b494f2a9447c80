//! The bank: authorises, captures or declines charges. The money is make-believe, the state is not.
//!
//! A charge is made once per idempotency key, however often and to whichever instance it is sent. What the bank says
//! depends on how the card number ends, so that every outcome can be had on purpose:
//!
//! | card ends in | outcome |
//! |---|---|
//! | 0002 | declined: not enough money |
//! | 0069 | declined: expired |
//! | 0101 | authorised at first; captured when asked |
//! | 0119 | captured, but the bank takes three seconds |
//! | anything else | captured at once |

use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use rusqlite::{OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::database::Database;
use crate::metrics;
use crate::problem::{Input, Problem};
use crate::random;
use crate::serve::{self, StartError, Stop};
use crate::settings::Settings;

/// No charge is larger: 100,000 euros.
const AMOUNT_CENTS_MAX: i64 = 10_000_000;
/// What the card ending in 0119 costs in patience.
const SLOW_BANK: Duration = Duration::from_secs(3);

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS charges (
        key TEXT PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        amount_cents INTEGER NOT NULL,
        last4 TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('authorised', 'captured', 'declined')),
        reason TEXT,
        created_at_ms INTEGER NOT NULL
    ) STRICT;";

/// What became of a charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ChargeState {
    /// The money is set aside.
    Authorised,
    /// The money is ours.
    Captured,
    /// There is no money.
    Declined,
}

/// A charge as the bank tells it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Charge {
    pub(crate) id: String,
    pub(crate) amount_cents: i64,
    pub(crate) last4: String,
    pub(crate) state: ChargeState,
    pub(crate) reason: Option<String>,
}

/// What to charge.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ChargeRequest {
    pub(crate) amount_cents: i64,
    pub(crate) card: Card,
}

/// A card number. It is never stored, logged or shown; only its last four digits are.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Card(String);

impl std::fmt::Debug for Card {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Card(…)")
    }
}

impl Card {
    /// The digits of a number typed with or without spaces; 12 to 19 of them (ISO/IEC 7812).
    pub(crate) fn checked(&self) -> Result<Self, Problem> {
        let digits: String = self.0.chars().filter(|c| !matches!(c, ' ' | '-')).collect();
        if !(12..=19).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Problem::invalid("A card number has 12 to 19 digits."));
        }
        Ok(Self(digits))
    }

    /// The only part that may be kept; call it on a checked card.
    pub(crate) fn last4(&self) -> String {
        let from = self.0.len().saturating_sub(4);
        self.0.get(from..).unwrap_or_default().to_owned()
    }
}

/// The key that makes a request safe to repeat.
///
/// 8 to 64 letters, digits, `-` or `_`, in the header `Idempotency-Key`.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<String, Problem> {
    let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok()).unwrap_or_default();
    let is_sound = key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if !is_sound || !(8..=64).contains(&key.len()) {
        return Err(Problem::invalid(
            "Send an Idempotency-Key of 8 to 64 letters, digits, '-' or '_', and the same one when you repeat.",
        ));
    }
    Ok(key.to_owned())
}

/// Runs the service until it is asked to stop.
pub(crate) async fn run(settings: Settings, stop: Stop) -> Result<(), StartError> {
    let database = Database::open(&settings.data, "payments", SCHEMA, |_| Ok(()))?;
    let routes = Router::new()
        .route("/charges", post(charge))
        .route("/charges/by-key/{key}", get(find_by_key))
        .route("/charges/{id}/capture", post(capture))
        .with_state(database.clone());
    serve::serve(&settings, &stop, database, routes, Problem::into_response).await
}

async fn charge(
    State(database): State<Database>,
    headers: HeaderMap,
    Input(wanted): Input<ChargeRequest>,
) -> Result<(StatusCode, Json<Charge>), Problem> {
    let key = idempotency_key(&headers)?;
    let card = wanted.card.checked()?;
    if !(1..=AMOUNT_CENTS_MAX).contains(&wanted.amount_cents) {
        return Err(Problem::invalid("The amount is out of bounds."));
    }
    let last4 = card.last4();
    if last4 == "0119" {
        tokio::time::sleep(SLOW_BANK).await;
    }
    let (state, reason) = verdict(&last4);
    let fresh = Charge { id: random::id(), amount_cents: wanted.amount_cents, last4, state, reason };
    let sent = (fresh.amount_cents, fresh.last4.clone());
    let (charge, is_new) = database.change(move |db| insert(db, &key, &fresh)).await?;
    let counter = if is_new { &metrics::CHARGES_MADE } else { &metrics::CHARGES_REPEATED };
    counter.add(1);
    if sent != (charge.amount_cents, charge.last4.clone()) {
        return Err(Problem::conflict("key-reused", "This key was used for another charge; take a new one."));
    }
    Ok((if is_new { StatusCode::CREATED } else { StatusCode::OK }, Json(charge)))
}

async fn find_by_key(
    State(database): State<Database>,
    Path(key): Path<String>,
) -> Result<Json<Charge>, Problem> {
    let found = database.read(move |db| select(db, "key", &key).optional()).await?;
    found.map(Json).ok_or_else(|| Problem::not_found("charge"))
}

async fn capture(State(database): State<Database>, Path(id): Path<String>) -> Result<Json<Charge>, Problem> {
    let found = database
        .change(move |db| {
            db.execute(
                "UPDATE charges SET state = 'captured' WHERE id = ?1 AND state = 'authorised'",
                [&id],
            )?;
            select(db, "id", &id).optional()
        })
        .await?;
    match found {
        Some(charge) if charge.state == ChargeState::Declined => {
            Err(Problem::conflict("declined", "A declined charge cannot be captured."))
        }
        Some(charge) => Ok(Json(charge)),
        None => Err(Problem::not_found("charge")),
    }
}

fn verdict(last4: &str) -> (ChargeState, Option<String>) {
    match last4 {
        "0002" => (ChargeState::Declined, Some("There is not enough money on this card.".to_owned())),
        "0069" => (ChargeState::Declined, Some("This card has expired.".to_owned())),
        "0101" => (ChargeState::Authorised, None),
        _ => (ChargeState::Captured, None),
    }
}

/// The charge of `key`: the one that is there already, else `fresh`.
fn insert(db: &rusqlite::Connection, key: &str, fresh: &Charge) -> rusqlite::Result<(Charge, bool)> {
    let inserted = db.execute(
        "INSERT INTO charges (key, id, amount_cents, last4, state, reason, created_at_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (key) DO NOTHING",
        params![
            key,
            fresh.id,
            fresh.amount_cents,
            fresh.last4,
            fresh.state.as_str(),
            fresh.reason,
            clock::wall_ms()
        ],
    )?;
    Ok((select(db, "key", key)?, inserted == 1))
}

/// `column` is one of ours, never a caller's text.
fn select(db: &rusqlite::Connection, column: &'static str, value: &str) -> rusqlite::Result<Charge> {
    let query = format!("SELECT id, amount_cents, last4, state, reason FROM charges WHERE {column} = ?1");
    db.query_row(&query, [value], charge_of)
}

fn charge_of(row: &Row<'_>) -> rusqlite::Result<Charge> {
    let state: String = row.get(3)?;
    Ok(Charge {
        id: row.get(0)?,
        amount_cents: row.get(1)?,
        last4: row.get(2)?,
        state: ChargeState::from_str(&state),
        reason: row.get(4)?,
    })
}

impl ChargeState {
    fn as_str(self) -> &'static str {
        match self {
            Self::Authorised => "authorised",
            Self::Captured => "captured",
            Self::Declined => "declined",
        }
    }

    /// The schema's CHECK lets no other text in.
    fn from_str(text: &str) -> Self {
        match text {
            "authorised" => Self::Authorised,
            "captured" => Self::Captured,
            _ => Self::Declined,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_number_may_have_spaces_and_is_never_shown() {
        let card = Card("4242 4242 4242 4242".into()).checked().unwrap();
        assert_eq!(card.last4(), "4242");
        assert_eq!(format!("{card:?}"), "Card(…)");
        for wrong in ["", "4242", "4242 4242 4242 424x", "12345678901234567890"] {
            assert!(Card(wrong.into()).checked().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_end_of_the_number_decides() {
        assert_eq!(verdict("0002").0, ChargeState::Declined);
        assert_eq!(verdict("0069").0, ChargeState::Declined);
        assert_eq!(verdict("0101").0, ChargeState::Authorised);
        assert_eq!(verdict("4242").0, ChargeState::Captured);
    }

    #[test]
    fn a_key_is_required_and_bounded() {
        let with = |key: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("idempotency-key", key.parse().unwrap());
            idempotency_key(&headers)
        };
        assert!(idempotency_key(&HeaderMap::new()).is_err());
        assert!(with("short").is_err());
        assert!(with(&"x".repeat(65)).is_err());
        assert!(with("has space in it").is_err());
        assert_eq!(with("order-12345").unwrap(), "order-12345");
    }
}

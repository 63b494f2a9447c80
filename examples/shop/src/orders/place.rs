//! Placing an order: note it, reserve the stock, charge the card, note the outcome.
//!
//! The order's own id is the key of both the reservation and the charge. So whoever repeats a step, the
//! neighbours do it once; and an order whose placing broke off is settled later by asking the bank. An order that the bank
//! does not answer about is kept as it is, and paid when it is sent again under its key.

use axum::http::StatusCode;
use ring::digest::{SHA256, digest};

use super::store::{self, Draft, State, Stored};
use super::{Order, OrderRequest, Orders, Status};
use crate::catalog::{Reservation, ReservationRequest, check_lines};
use crate::clock;
use crate::log;
use crate::metrics;
use crate::payments::{Charge, ChargeRequest, ChargeState};
use crate::problem::Problem;
use crate::random;

/// An order nobody has been at for this long is not being placed any more: longer than anybody waits for `place`.
const ABANDONED_AFTER_MS: i64 = 60_000;

/// What is told of an order that the bank was not even asked about.
const BANK_AWAY: &str = "The bank cannot be reached just now, and nothing was charged. Your order is kept.";
/// What is told of one about which it did not answer: perhaps the money is ours, perhaps not.
const BANK_SILENT: &str =
    "The bank does not answer just now. Your order is kept, and you will not be charged twice.";

/// Places the order of this person and key, or tells what became of it when it was sent before.
pub(super) async fn place(
    orders: &Orders,
    person: &str,
    key: String,
    wanted: OrderRequest,
) -> Result<Order, Problem> {
    let wanted = checked(wanted)?;
    let draft = draft(person, key, &wanted);
    let fingerprint = draft.fingerprint.clone();
    let stored = orders.database.change(move |db| store::open(db, &draft)).await?;
    if stored.fingerprint != fingerprint {
        return Err(Problem::conflict("key-reused", "This key was used for another order; take a new one."));
    }
    let waits_because = match stored.state {
        State::Placing => reserve_and_charge(orders, &stored.id, wanted).await?,
        State::Paid { .. } | State::Declined => None,
    };
    let id = stored.id;
    match orders.database.read(move |db| store::find(db, &id)).await? {
        Some(Stored { state: State::Declined, reason, .. }) => {
            Err(Problem::declined(reason.unwrap_or_else(|| "The order was declined.".to_owned())))
        }
        Some(stored) => {
            let order = stored.shown(orders.pace_ms);
            let reason = waits_because.filter(|_| order.status == Status::Placing).map(str::to_owned);
            Ok(Order { reason: reason.or(order.reason), ..order })
        }
        None => Err(Problem::not_found("order")),
    }
}

fn checked(mut wanted: OrderRequest) -> Result<OrderRequest, Problem> {
    check_lines(&wanted.lines)?;
    wanted.lines.sort_by(|a, b| a.product.cmp(&b.product));
    wanted.card = wanted.card.checked()?;
    wanted.name = checked_text("name", &wanted.name, 80)?;
    wanted.address = checked_text("address", &wanted.address, 300)?;
    Ok(wanted)
}

fn checked_text(what: &str, text: &str, chars_max: usize) -> Result<String, Problem> {
    let text = text.trim();
    let is_printable = text.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\r'));
    if text.is_empty() || text.chars().count() > chars_max || !is_printable {
        return Err(Problem::invalid(format!("Tell us the {what}, in at most {chars_max} characters.")));
    }
    Ok(text.to_owned())
}

/// The fingerprint tells a repeat from another order under the same key. It knows the card by its last digits only.
fn draft(person: &str, key: String, wanted: &OrderRequest) -> Draft {
    let last4 = wanted.card.last4();
    let said = serde_json::json!([wanted.lines, wanted.name, wanted.address, last4]).to_string();
    Draft {
        id: random::id(),
        person: person.to_owned(),
        key,
        fingerprint: data_encoding::HEXLOWER.encode(digest(&SHA256, said.as_bytes()).as_ref()),
        last4,
        name: wanted.name.clone(),
        address: wanted.address.clone(),
    }
}

/// Why it is not paid yet, when that is the bank's fault.
async fn reserve_and_charge(
    orders: &Orders,
    id: &str,
    wanted: OrderRequest,
) -> Result<Option<&'static str>, Problem> {
    let request = ReservationRequest { order: id.to_owned(), lines: wanted.lines };
    let reservation = orders.catalog.post("/reservations").json(&request).fetch::<Reservation>().await;
    let reservation = match reservation {
        Ok(reservation) => reservation,
        Err(problem) if problem.status.is_client_error() => {
            decline(orders, id, problem.detail.clone()).await?;
            return Err(problem);
        }
        Err(problem) => return Err(problem),
    };
    let (amount_cents, order) = (reservation.total_cents, id.to_owned());
    let lines = reservation.lines;
    orders.database.change(move |db| store::note_lines(db, &order, &lines, amount_cents)).await?;
    let request = ChargeRequest { amount_cents, card: wanted.card };
    match orders.payments.post("/charges").key(id).json(&request).fetch::<Charge>().await {
        Ok(charge) => {
            note(orders, id, charge).await?;
            Ok(None)
        }
        Err(problem) if problem.status.is_client_error() => Err(problem),
        Err(problem) => {
            metrics::ORDERS_KEPT.add(1);
            log::warn("bank.away", serde_json::json!({ "order": id, "why": problem.detail }));
            let is_refused = problem.status == StatusCode::SERVICE_UNAVAILABLE;
            Ok(Some(if is_refused { BANK_AWAY } else { BANK_SILENT }))
        }
    }
}

/// Notes what the bank said; what was reserved for a declined order goes back on the shelf.
async fn note(orders: &Orders, id: &str, charge: Charge) -> Result<(), Problem> {
    let order = id.to_owned();
    match charge.state {
        ChargeState::Declined => {
            let reason = charge.reason.unwrap_or_else(|| "The bank declined the payment.".to_owned());
            decline(orders, id, reason).await?;
            release(orders, id).await;
        }
        ChargeState::Authorised | ChargeState::Captured => {
            let to_capture = charge.state == ChargeState::Authorised;
            let note =
                move |db: &rusqlite::Transaction<'_>| store::note_paid(db, &order, &charge.id, to_capture);
            orders.database.change(note).await?;
            metrics::ORDERS_PLACED.add(1);
            metrics::REVENUE.add(u64::try_from(charge.amount_cents).unwrap_or_default());
        }
    }
    Ok(())
}

async fn decline(orders: &Orders, id: &str, reason: String) -> Result<(), Problem> {
    let order = id.to_owned();
    metrics::ORDERS_DECLINED.add(1);
    orders.database.change(move |db| store::note_declined(db, &order, &reason)).await
}

/// Best effort: a delivery fills the shelf in any case.
async fn release(orders: &Orders, id: &str) {
    let call = orders.catalog.call(axum::http::Method::DELETE, format!("/reservations/{id}"));
    if let Err(problem) = call.send().await {
        log::warn("release.failed", serde_json::json!({ "order": id, "why": problem.detail }));
    }
}

/// Does what is due for an order that is being looked at: settles it when its placing broke off, and captures money
/// that was only set aside once it ships. What cannot be done now is done at the next look.
pub(super) async fn catch_up(orders: &Orders, stored: Stored) -> Result<Stored, Problem> {
    let now_ms = clock::wall_ms();
    let is_stuck = stored.state == State::Placing && now_ms - stored.touched_at_ms > ABANDONED_AFTER_MS;
    let is_shipped = stored.status(orders.pace_ms, now_ms) >= Status::Shipped;
    let is_owed = stored.to_capture && is_shipped;
    if !is_stuck && !is_owed {
        return Ok(stored);
    }
    let done = if is_stuck {
        settle(orders, &stored.id, now_ms - ABANDONED_AFTER_MS).await
    } else {
        capture(orders, &stored).await
    };
    if let Err(problem) = done {
        log::warn("catch_up.failed", serde_json::json!({ "order": stored.id, "why": problem.detail }));
    }
    let id = stored.id.clone();
    let found = orders.database.read(move |db| store::find(db, &id)).await?;
    Ok(found.unwrap_or(stored))
}

async fn settle(orders: &Orders, id: &str, before_ms: i64) -> Result<(), Problem> {
    match orders.payments.get(format!("/charges/by-key/{id}")).fetch::<Charge>().await {
        Ok(charge) => note(orders, id, charge).await,
        Err(problem) if problem.status == StatusCode::NOT_FOUND => {
            let order = id.to_owned();
            if orders.database.change(move |db| store::abandon(db, &order, before_ms)).await? {
                release(orders, id).await;
            }
            Ok(())
        }
        Err(problem) => Err(problem),
    }
}

async fn capture(orders: &Orders, stored: &Stored) -> Result<(), Problem> {
    let Some(charge) = &stored.charge else { return Ok(()) };
    orders.payments.post(format!("/charges/{charge}/capture")).fetch::<Charge>().await?;
    let id = stored.id.clone();
    orders.database.change(move |db| store::note_captured(db, &id)).await
}

//! Orders: placed once however often they are sent, paid once, and followed until they are delivered.
//!
//! Every step of placing an order is safe to repeat (stock is reserved per order, money is charged per order), so
//! a repeat of the request, at whichever instance, goes on where the first one broke off.

mod place;
mod store;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use crate::catalog::{Line, WantedLine};
use crate::client::Neighbour;
use crate::clock;
use crate::database::Database;
use crate::payments::{self, Card};
use crate::person::Person;
use crate::problem::{Input, Problem};
use crate::serve::{self, StartError, Stop};
use crate::settings::Settings;

/// How far an order is, in the order in which it goes there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Status {
    /// Being paid for; or kept until the bank can be reached, as `reason` says; or what asked for it went away meanwhile.
    Placing,
    /// The bank said no, or a product was sold out; `reason` says which.
    Declined,
    /// Paid.
    Paid,
    /// In a box.
    Packed,
    /// On its way.
    Shipped,
    /// There.
    Delivered,
}

impl Status {
    /// Whether nothing more will happen.
    pub(crate) fn is_final(self) -> bool {
        matches!(self, Self::Declined | Self::Delivered)
    }
}

/// An order as its owner sees it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) id: String,
    pub(crate) status: Status,
    pub(crate) reason: Option<String>,
    pub(crate) total_cents: i64,
    pub(crate) last4: String,
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) created_at_ms: i64,
    pub(crate) lines: Vec<Line>,
}

/// What to order.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct OrderRequest {
    pub(crate) lines: Vec<WantedLine>,
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) card: Card,
}

/// The orders of one person, newest first.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct OrderList {
    pub(crate) orders: Vec<Order>,
}

/// The newest sale, without saying to whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Recent {
    pub(crate) product: Option<String>,
    pub(crate) at_ms: Option<i64>,
}

/// What all requests share.
#[derive(Clone)]
pub(crate) struct Orders {
    database: Database,
    catalog: Neighbour,
    payments: Neighbour,
    pace_ms: i64,
}

/// Runs the service until it is asked to stop.
pub(crate) async fn run(settings: Settings, stop: Stop) -> Result<(), StartError> {
    let database = Database::open(&settings.data, "orders", store::SCHEMA, |_| Ok(()))?;
    let orders = Orders {
        database: database.clone(),
        catalog: Neighbour::new("catalog", settings.catalog_url.as_ref())?,
        payments: Neighbour::new("payments", settings.payments_url.as_ref())?,
        pace_ms: clock::millis(settings.pace),
    };
    let routes = Router::new()
        .route("/orders", get(list).post(place))
        .route("/orders/{id}", get(show))
        .route("/recent", get(recent))
        .with_state(orders);
    serve::serve(&settings, &stop, database, routes, Problem::into_response).await
}

async fn place(
    State(orders): State<Orders>,
    person: Person,
    headers: HeaderMap,
    Input(wanted): Input<OrderRequest>,
) -> Result<Response, Problem> {
    let key = payments::idempotency_key(&headers)?;
    let order = place::place(&orders, &person.id, key, wanted).await?;
    let status = if order.status == Status::Placing { StatusCode::ACCEPTED } else { StatusCode::CREATED };
    Ok((status, Json(order)).into_response())
}

async fn list(State(orders): State<Orders>, person: Person) -> Result<Json<OrderList>, Problem> {
    let pace_ms = orders.pace_ms;
    let list = orders.database.read(move |db| store::list(db, &person.id, pace_ms)).await?;
    Ok(Json(OrderList { orders: list }))
}

async fn show(
    State(orders): State<Orders>,
    person: Person,
    Path(id): Path<String>,
) -> Result<Json<Order>, Problem> {
    let found = orders.database.read(move |db| store::find(db, &id)).await?;
    match found {
        // Somebody else's order is answered like none at all.
        Some(stored) if stored.person == person.id => {
            let stored = place::catch_up(&orders, stored).await?;
            Ok(Json(stored.shown(orders.pace_ms)))
        }
        _ => Err(Problem::not_found("order")),
    }
}

async fn recent(State(orders): State<Orders>) -> Result<Json<Recent>, Problem> {
    orders.database.read(store::recent).await.map(Json)
}

//! Buying: the checkout, the orders of a person, and one order followed live.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use serde::Deserialize;
use serde_json::json;

use super::Web;
use super::pages::{self, Attempt, Filled, Trouble};
use super::shelves::cart_lines;
use super::visitor::{Cart, Halt, Visitor, see_other};
use crate::orders::{Order, OrderList, Status};
use crate::person::Person;
use crate::problem::Problem;
use crate::random;

/// How often an order that is being watched is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How soon a browser comes back whose stream ended.
const COME_BACK: Duration = Duration::from_secs(1);

/// The checkout's form. Has no Debug, for it holds a card number.
#[derive(Deserialize)]
pub(super) struct Form {
    key: String,
    name: String,
    address: String,
    card: String,
}

pub(super) async fn checkout_page(State(web): State<Arc<Web>>, visitor: Visitor) -> Result<Response, Halt> {
    let person = visitor.signed_in()?;
    let attempt =
        Attempt { key: random::id(), name: person.name.clone(), address: String::new(), trouble: None };
    show_checkout(&web, &visitor, &attempt).await
}

pub(super) async fn checkout(
    State(web): State<Arc<Web>>,
    visitor: Visitor,
    Filled(form): Filled<Form>,
) -> Result<Response, Halt> {
    let person = visitor.signed_in()?;
    let wanted = json!({
        "lines": visitor.cart.lines(), "name": form.name, "address": form.address, "card": form.card,
    });
    let call = web.orders.post("/orders").on_behalf_of(person).key(&form.key).json(&wanted);
    let (key, trouble) = match call.fetch::<Order>().await {
        // The order is kept, and is the same one when the form is sent again.
        Ok(order) if order.status == Status::Placing => (form.key, Trouble::Waits(order.reason)),
        Ok(order) => {
            let emptied = visitor.cart_cookie(&Cart::default());
            return Ok(see_other(&format!("/orders/{}", order.id), vec![emptied]));
        }
        // Nobody knows how far it got, so the next attempt carries the same key and is the same order.
        Err(problem) if problem.status.is_server_error() => (form.key, Trouble::Problem(problem)),
        // A plain no ends this order; the next attempt is a new one.
        Err(problem) => (random::id(), Trouble::Problem(problem)),
    };
    let attempt = Attempt { key, name: form.name, address: form.address, trouble: Some(trouble) };
    show_checkout(&web, &visitor, &attempt).await
}

async fn show_checkout(web: &Web, visitor: &Visitor, attempt: &Attempt) -> Result<Response, Halt> {
    let lines = cart_lines(web, &visitor.cart).await?;
    if lines.is_empty() {
        return Ok(see_other("/cart", Vec::new()));
    }
    let page = pages::checkout(visitor, &lines, attempt);
    Ok(match &attempt.trouble {
        Some(Trouble::Problem(problem)) => (problem.status, page).into_response(),
        Some(Trouble::Waits(_)) => (StatusCode::ACCEPTED, page).into_response(),
        None => page.into_response(),
    })
}

pub(super) async fn orders(State(web): State<Arc<Web>>, visitor: Visitor) -> Result<Response, Halt> {
    let person = visitor.signed_in()?;
    let list = web.orders.get("/orders").on_behalf_of(person).fetch::<OrderList>().await?;
    Ok(pages::orders(&visitor, &list.orders).into_response())
}

pub(super) async fn order(
    State(web): State<Arc<Web>>,
    visitor: Visitor,
    Path(id): Path<String>,
) -> Result<Response, Halt> {
    let order = find(&web, visitor.signed_in()?, &id).await?;
    Ok(pages::order(&visitor, &order).into_response())
}

/// The order's status as server-sent events: one now and one with each change; `done` when there will be no more.
pub(super) async fn events(
    State(web): State<Arc<Web>>,
    visitor: Visitor,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let Some(person) = visitor.person() else { return Err(Problem::not_found("order")) };
    let order = find(&web, person, &id).await?;
    let watch =
        Watch { web, person: person.clone(), id, told: None, next: Some(order.status), is_over: false };
    Ok(Sse::new(watch.stream()).keep_alive(KeepAlive::default()).into_response())
}

async fn find(web: &Web, person: &Person, id: &str) -> Result<Order, Problem> {
    let is_id = (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric());
    if !is_id {
        return Err(Problem::not_found("order"));
    }
    web.orders.get(format!("/orders/{id}")).on_behalf_of(person).fetch::<Order>().await
}

/// One browser following one order.
struct Watch {
    web: Arc<Web>,
    person: Person,
    id: String,
    told: Option<Status>,
    next: Option<Status>,
    is_over: bool,
}

impl Watch {
    fn stream(self) -> impl Stream<Item = Result<Event, Infallible>> {
        stream::unfold(self, |mut watch| async move {
            let event = watch.event().await?;
            Some((Ok(event), watch))
        })
    }

    /// The next event; `None` ends the stream.
    async fn event(&mut self) -> Option<Event> {
        if self.is_over {
            return None;
        }
        loop {
            if let Some(status) = self.next.take().filter(|status| self.told != Some(*status)) {
                return Some(self.tell(status));
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => (),
                () = self.web.stop.requested() => return Some(self.say_goodbye()),
            }
            match find(&self.web, &self.person, &self.id).await {
                Ok(order) => self.next = Some(order.status),
                // The order is gone: no use in coming back.
                Err(problem) if problem.status.is_client_error() => return Some(self.end()),
                // A neighbour in trouble is no news; the next look may succeed.
                Err(_) => (),
            }
        }
    }

    fn tell(&mut self, status: Status) -> Event {
        self.told = Some(status);
        self.is_over = status.is_final();
        let data = json!({ "status": status, "text": pages::status_text(status) }).to_string();
        Event::default().event(if self.is_over { "done" } else { "status" }).data(data)
    }

    fn end(&mut self) -> Event {
        self.is_over = true;
        Event::default().event("gone").data("{}")
    }

    /// This instance stops; the browser finds another one.
    fn say_goodbye(&mut self) -> Event {
        self.is_over = true;
        Event::default().event("bye").retry(COME_BACK).data("{}")
    }
}

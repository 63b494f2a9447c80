//! Checkout, orders, one order.

use maud::{Markup, html};

use super::shelves::total_cents;
use super::{alert, euros, layout};
use crate::clock;
use crate::orders::{Order, Status};
use crate::problem::Problem;
use crate::web::shelves::CartLine;
use crate::web::visitor::Visitor;

/// What the checkout's form is filled with.
pub(in crate::web) struct Attempt {
    /// Sending the form twice is one order.
    pub(in crate::web) key: String,
    pub(in crate::web) name: String,
    pub(in crate::web) address: String,
    /// Why the last attempt led to no paid order.
    pub(in crate::web) trouble: Option<Trouble>,
}

/// What came of an attempt that led to no paid order.
pub(in crate::web) enum Trouble {
    /// It failed.
    Problem(Problem),
    /// The order is kept until the bank can be reached; why, in words of the orders service.
    Waits(Option<String>),
}

pub(in crate::web) fn checkout(visitor: &Visitor, lines: &[CartLine], attempt: &Attempt) -> Markup {
    layout(
        Some(visitor),
        "Checkout",
        &html! {
            h1 { "Checkout" }
            div.columns {
                form.panel method="post" action="/checkout" data-submit-once {
                    @match &attempt.trouble {
                        Some(Trouble::Problem(problem)) => (alert(Some(&advice(problem)))),
                        Some(Trouble::Waits(why)) => (patience(why.as_deref())),
                        None => {}
                    }
                    input type="hidden" name="key" value=(attempt.key);
                    label for="name" { "Name" }
                    input #name name="name" required maxlength="80" autocomplete="name" value=(attempt.name);
                    label for="address" { "Where is your terrace?" }
                    textarea #address name="address" required maxlength="300" rows="3" autocomplete="street-address"
                        placeholder="12 Terrace Road, Sunnyville" { (attempt.address) }
                    label for="card" { "Card number" }
                    input #card name="card" required inputmode="numeric" maxlength="23" autocomplete="off"
                        value="4242 4242 4242 4242" aria-describedby="card-hint";
                    (card_hint())
                    button.wide {
                        @if matches!(attempt.trouble, Some(Trouble::Waits(_))) { "Try again: pay " } @else { "Pay " }
                        (euros(total_cents(lines)))
                    }
                }
                aside.panel aria-labelledby="summary" {
                    h2 #summary { "Your order" }
                    ul.summary {
                        @for line in lines {
                            li { span { (line.quantity) " × " (line.product.name) } span { (euros(line.product.price_cents * i64::from(line.quantity))) } }
                        }
                    }
                    p.total { span { "Total" } strong { (euros(total_cents(lines))) } }
                }
            }
        },
    )
}

/// The bank's trouble is nobody's fault here, and nothing is lost by it.
fn patience(why: Option<&str>) -> Markup {
    html! {
        div.patience role="alert" {
            strong { "Your bank takes a break" }
            p { (why.unwrap_or("Your order is kept.")) " So is your cart. Press the button again in a moment." }
        }
    }
}

/// Whose fault it was and what to do now.
fn advice(problem: &Problem) -> String {
    if problem.status.is_server_error() {
        return format!("{} Press the button again: you will not be charged twice.", problem.detail);
    }
    problem.detail.clone()
}

fn card_hint() -> Markup {
    html! {
        details #card-hint {
            summary { "It is a make-believe bank. Other endings have other outcomes." }
            dl {
                dt { "0002" } dd { "declined, not enough money" }
                dt { "0069" } dd { "declined, expired" }
                dt { "0101" } dd { "authorised, captured when shipped" }
                dt { "0119" } dd { "works, after three slow seconds" }
            }
        }
    }
}

pub(in crate::web) fn orders(visitor: &Visitor, orders: &[Order]) -> Markup {
    layout(
        Some(visitor),
        "Your orders",
        &html! {
            h1 { "Your orders" }
            @if orders.is_empty() {
                section.notice { p.lead { "No orders yet." } p { a.button href="/" { "Look around" } } }
            } @else {
                ul.lines {
                    @for order in orders { (order_row(order)) }
                }
            }
        },
    )
}

fn order_row(order: &Order) -> Markup {
    let names: Vec<&str> = order.lines.iter().map(|line| line.name.as_str()).collect();
    html! {
        li {
            div.grow {
                h2 { a href={ "/orders/" (order.id) } { (clock::for_people(order.created_at_ms)) } }
                p.quiet { (names.join(", ")) }
            }
            span.badge data-status=(status_name(order.status)) { (status_name(order.status)) }
            span.price { (euros(order.total_cents)) }
        }
    }
}

pub(in crate::web) fn order(visitor: &Visitor, order: &Order) -> Markup {
    layout(
        Some(visitor),
        "Your order",
        &html! {
            nav.crumbs aria-label="You are here" { a href="/orders" { "Your orders" } " / " (clock::for_people(order.created_at_ms)) }
            h1 { @if order.status == Status::Declined { "This order did not work out" } @else { "Thank you, " (order.name) "!" } }
            (progress(order))
            div.columns {
                ul.lines {
                    @for line in &order.lines {
                        li {
                            img src={ "/pictures/" (line.product) ".svg" } width="120" height="90" alt="";
                            div.grow { h2 { a href={ "/products/" (line.product) } { (line.name) } } p.quiet { (line.quantity) " × " (euros(line.price_cents)) } }
                            span.price { (euros(line.price_cents * i64::from(line.quantity))) }
                        }
                    }
                }
                aside.panel aria-label="Details" {
                    p.total { span { "Total" } strong { (euros(order.total_cents)) } }
                    p.quiet { "Card ending in " (order.last4) }
                    p.quiet.address { (order.name) "\n" (order.address) }
                    p.quiet { "Order " code { (order.id) } }
                }
            }
        },
    )
}

/// The steps of an order; the script moves them on as events come in.
fn progress(order: &Order) -> Markup {
    const STEPS: [Status; 4] = [Status::Paid, Status::Packed, Status::Shipped, Status::Delivered];
    let text = match (&order.reason, order.status) {
        (Some(reason), Status::Declined) => reason,
        _ => status_text(order.status),
    };
    let events = (!order.status.is_final()).then(|| format!("/orders/{}/events", order.id));
    html! {
        section.progress data-order-events=[events] {
            p.lead role="status" data-status-text { (text) }
            @if order.status != Status::Declined {
                ol.steps {
                    @for step in STEPS {
                        li data-step=(status_name(step)) data-done[order.status >= step] aria-current=[(order.status == step).then_some("step")] {
                            (status_name(step))
                        }
                    }
                }
            }
        }
    }
}

/// The status in a word, as in the interface of the orders service.
fn status_name(status: Status) -> &'static str {
    match status {
        Status::Placing => "placing",
        Status::Declined => "declined",
        Status::Paid => "paid",
        Status::Packed => "packed",
        Status::Shipped => "shipped",
        Status::Delivered => "delivered",
    }
}

/// The status in a sentence.
pub(in crate::web) fn status_text(status: Status) -> &'static str {
    match status {
        Status::Placing => "Not paid yet: the order is kept, and we are waiting for your bank.",
        Status::Declined => "The order was declined.",
        Status::Paid => "Paid. We are looking for a box that fits.",
        Status::Packed => "Packed, with plenty of straw.",
        Status::Shipped => "On its way to your terrace.",
        Status::Delivered => "Delivered. Put your feet up.",
    }
}

//! What the shop counts about its business, as text for Prometheus at `/metrics`, the way many apps do.
//!
//! How busy it is and how fast, whoever stands in front sees without being told. What an order is, only the shop knows.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A number that only grows.
pub(crate) struct Counter {
    name: &'static str,
    help: &'static str,
    value: AtomicU64,
}

/// What the orders service counts.
static OF_ORDERS: [&Counter; 4] = [&ORDERS_PLACED, &ORDERS_DECLINED, &ORDERS_KEPT, &REVENUE];
/// What the bank counts.
static OF_PAYMENTS: [&Counter; 2] = [&CHARGES_MADE, &CHARGES_REPEATED];

/// Orders that were paid for.
pub(crate) static ORDERS_PLACED: Counter = counter("shop_orders_placed_total", "Orders that were paid for.");
/// Orders that were not to be.
pub(crate) static ORDERS_DECLINED: Counter =
    counter("shop_orders_declined_total", "Orders that the bank declined, or for which nothing was left.");
/// Orders that could not be paid for yet.
pub(crate) static ORDERS_KEPT: Counter =
    counter("shop_orders_kept_total", "Times that an order was kept because the bank gave no answer.");
/// What the orders that were paid for come to.
pub(crate) static REVENUE: Counter =
    counter("shop_revenue_cents_total", "What the orders that were paid for come to, in cents.");

/// Charges that the bank made.
pub(crate) static CHARGES_MADE: Counter =
    counter("shop_charges_made_total", "Charges that the bank made or declined.");
/// Charges that were asked for again.
pub(crate) static CHARGES_REPEATED: Counter = counter(
    "shop_charges_repeated_total",
    "Times that a charge was asked for again under the key it was made with, and not made again.",
);

const fn counter(name: &'static str, help: &'static str) -> Counter {
    Counter { name, help, value: AtomicU64::new(0) }
}

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.value.fetch_add(more, Relaxed);
    }
}

/// What a service counts, in the text format 0.0.4.
pub(crate) async fn show(service: &str) -> ([(&'static str, &'static str); 1], String) {
    let line = |counter: &Counter| {
        let Counter { name, help, value } = counter;
        format!("# HELP {name} {help}\n# TYPE {name} counter\n{name} {}\n", value.load(Relaxed))
    };
    let counters: &[&Counter] = match service {
        "orders" => &OF_ORDERS,
        "payments" => &OF_PAYMENTS,
        _ => &[],
    };
    let text: String = counters.iter().copied().map(line).collect();
    ([("content-type", "text/plain; version=0.0.4; charset=utf-8")], text)
}

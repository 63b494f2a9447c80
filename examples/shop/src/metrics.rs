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

/// Orders that were paid for.
pub(crate) static ORDERS_PLACED: Counter = counter("shop_orders_placed_total", "Orders that were paid for.");
/// Orders that were not to be.
pub(crate) static ORDERS_DECLINED: Counter =
    counter("shop_orders_declined_total", "Orders that the bank declined, or for which nothing was left.");
/// What the orders that were paid for come to.
pub(crate) static REVENUE: Counter =
    counter("shop_revenue_cents_total", "What the orders that were paid for come to, in cents.");

const fn counter(name: &'static str, help: &'static str) -> Counter {
    Counter { name, help, value: AtomicU64::new(0) }
}

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.value.fetch_add(more, Relaxed);
    }
}

/// All of them, in the text format 0.0.4.
pub(crate) async fn show() -> ([(&'static str, &'static str); 1], String) {
    let line = |counter: &Counter| {
        let Counter { name, help, value } = counter;
        format!("# HELP {name} {help}\n# TYPE {name} counter\n{name} {}\n", value.load(Relaxed))
    };
    let text = [&ORDERS_PLACED, &ORDERS_DECLINED, &REVENUE].map(line).concat();
    ([("content-type", "text/plain; version=0.0.4; charset=utf-8")], text)
}

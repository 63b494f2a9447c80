//! Stock: what is reserved for an order is off the shelf, once, until the order gives it back.

use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use crate::database::Database;
use crate::problem::Problem;

/// Kinds of products in one order, and pieces of one kind, at most.
pub(crate) const LINES_MAX: usize = 24;
pub(crate) const QUANTITY_MAX: u32 = 9;

/// One kind of product that somebody wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WantedLine {
    pub(crate) product: String,
    pub(crate) quantity: u32,
}

/// What to reserve, and for which order.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ReservationRequest {
    pub(crate) order: String,
    pub(crate) lines: Vec<WantedLine>,
}

/// One kind of product at the price it was reserved for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) product: String,
    pub(crate) name: String,
    pub(crate) quantity: u32,
    pub(crate) price_cents: i64,
}

/// What is reserved, with prices that hold.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Reservation {
    pub(crate) lines: Vec<Line>,
    pub(crate) total_cents: i64,
}

/// Why nothing was reserved.
enum Refusal {
    Unknown(String),
    SoldOut { name: String, left: i64 },
}

/// Refuses what no cart could hold.
pub(crate) fn check_lines(lines: &[WantedLine]) -> Result<(), Problem> {
    if lines.is_empty() || lines.len() > LINES_MAX {
        return Err(Problem::invalid(format!("An order has 1 to {LINES_MAX} kinds of products.")));
    }
    if lines.iter().any(|line| !(1..=QUANTITY_MAX).contains(&line.quantity) || line.product.len() > 64) {
        return Err(Problem::invalid(format!("Order 1 to {QUANTITY_MAX} pieces of a kind.")));
    }
    let mut products: Vec<&str> = lines.iter().map(|line| line.product.as_str()).collect();
    products.sort_unstable();
    match products.windows(2).any(|pair| pair[0] == pair[1]) {
        true => Err(Problem::invalid("Name each product once.")),
        false => Ok(()),
    }
}

/// Takes everything wanted off the shelf, or nothing. Asked again for the same order, it tells what was reserved.
pub(crate) async fn reserve(database: &Database, wanted: ReservationRequest) -> Result<Reservation, Problem> {
    check_lines(&wanted.lines)?;
    if !(8..=64).contains(&wanted.order.len()) {
        return Err(Problem::invalid("An order's name has 8 to 64 characters."));
    }
    let looked = database.change(move |db| {
        let reserved = select(db, &wanted.order)?;
        if !reserved.is_empty() {
            return Ok(Ok(reserved));
        }
        match refusal(db, &wanted.lines)? {
            Some(refusal) => Ok(Err(refusal)),
            None => take(db, &wanted).map(Ok),
        }
    });
    match looked.await? {
        Ok(lines) => {
            let total_cents = lines.iter().map(|line| line.price_cents * i64::from(line.quantity)).sum();
            Ok(Reservation { lines, total_cents })
        }
        Err(Refusal::Unknown(product)) => {
            Err(Problem::invalid(format!("There is no product called '{product}'.")))
        }
        Err(Refusal::SoldOut { name, left }) => Err(Problem::conflict(
            "sold-out",
            format!("{name}: only {left} left just now. A delivery is on its way; try again soon."),
        )),
    }
}

fn refusal(db: &Connection, lines: &[WantedLine]) -> rusqlite::Result<Option<Refusal>> {
    for line in lines {
        let query = "SELECT name, stock FROM products WHERE id = ?1";
        let found = db.query_row(query, [&line.product], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        let Some((name, left)) = found else {
            return Ok(Some(Refusal::Unknown(line.product.clone())));
        };
        if left < i64::from(line.quantity) {
            return Ok(Some(Refusal::SoldOut { name, left }));
        }
    }
    Ok(None)
}

fn take(db: &Connection, wanted: &ReservationRequest) -> rusqlite::Result<Vec<Line>> {
    for line in &wanted.lines {
        db.execute(
            "UPDATE products SET stock = stock - ?2 WHERE id = ?1",
            params![line.product, line.quantity],
        )?;
        db.execute(
            "INSERT INTO reservations (order_id, product, name, quantity, price_cents)
             SELECT ?1, id, name, ?3, price_cents FROM products WHERE id = ?2",
            params![wanted.order, line.product, line.quantity],
        )?;
    }
    select(db, &wanted.order)
}

fn select(db: &Connection, order: &str) -> rusqlite::Result<Vec<Line>> {
    let mut select = db.prepare(
        "SELECT product, name, quantity, price_cents FROM reservations WHERE order_id = ?1 ORDER BY product",
    )?;
    let lines = select.query_map([order], |row| {
        Ok(Line { product: row.get(0)?, name: row.get(1)?, quantity: row.get(2)?, price_cents: row.get(3)? })
    })?;
    lines.collect()
}

/// Puts what was reserved for `order` back; never above what the shelf holds, for a delivery may have come between.
pub(crate) fn release(db: &Connection, order: &str) -> rusqlite::Result<()> {
    db.execute(
        "UPDATE products SET stock = min(shelf, stock + r.quantity)
         FROM reservations AS r WHERE r.order_id = ?1 AND r.product = products.id",
        [order],
    )?;
    db.execute("DELETE FROM reservations WHERE order_id = ?1", [order])?;
    Ok(())
}

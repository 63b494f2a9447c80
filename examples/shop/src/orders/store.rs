//! Orders in SQLite. How far a paid order is follows from when it was paid, so no instance has to move it along.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Order, Recent, Status};
use crate::catalog::Line;
use crate::clock;

/// Orders told in one list.
const LIST_MAX: u32 = 50;

pub(super) const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS orders (
        id TEXT PRIMARY KEY,
        person TEXT NOT NULL,
        key TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('placing', 'paid', 'declined')),
        reason TEXT,
        total_cents INTEGER NOT NULL DEFAULT 0,
        last4 TEXT NOT NULL,
        name TEXT NOT NULL,
        address TEXT NOT NULL,
        charge TEXT,
        to_capture INTEGER NOT NULL DEFAULT 0,
        created_at_ms INTEGER NOT NULL,
        touched_at_ms INTEGER NOT NULL,
        paid_at_ms INTEGER,
        UNIQUE (person, key)
    ) STRICT;
    CREATE INDEX IF NOT EXISTS orders_by_person ON orders (person, created_at_ms);
    CREATE INDEX IF NOT EXISTS orders_by_payment ON orders (paid_at_ms);
    CREATE TABLE IF NOT EXISTS lines (
        order_id TEXT NOT NULL REFERENCES orders (id),
        product TEXT NOT NULL,
        name TEXT NOT NULL,
        quantity INTEGER NOT NULL,
        price_cents INTEGER NOT NULL,
        PRIMARY KEY (order_id, product)
    ) STRICT, WITHOUT ROWID;";

/// Where an order stands in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Placing,
    Paid { at_ms: i64 },
    Declined,
}

/// An order with what its owner need not see.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) id: String,
    pub(super) person: String,
    pub(super) fingerprint: String,
    pub(super) state: State,
    pub(super) reason: Option<String>,
    pub(super) total_cents: i64,
    pub(super) last4: String,
    pub(super) name: String,
    pub(super) address: String,
    pub(super) charge: Option<String>,
    /// The bank only set the money aside; it is to be captured when the order ships.
    pub(super) to_capture: bool,
    pub(super) created_at_ms: i64,
    pub(super) touched_at_ms: i64,
    pub(super) lines: Vec<Line>,
}

/// An order that is about to be placed.
pub(super) struct Draft {
    pub(super) id: String,
    pub(super) person: String,
    pub(super) key: String,
    pub(super) fingerprint: String,
    pub(super) last4: String,
    pub(super) name: String,
    pub(super) address: String,
}

impl Stored {
    /// As its owner sees it at this moment, when each step takes `pace_ms`.
    pub(super) fn shown(&self, pace_ms: i64) -> Order {
        Order {
            id: self.id.clone(),
            status: self.status(pace_ms, clock::wall_ms()),
            reason: self.reason.clone(),
            total_cents: self.total_cents,
            last4: self.last4.clone(),
            name: self.name.clone(),
            address: self.address.clone(),
            created_at_ms: self.created_at_ms,
            lines: self.lines.clone(),
        }
    }

    /// How far the order is at `now_ms`.
    pub(super) fn status(&self, pace_ms: i64, now_ms: i64) -> Status {
        let State::Paid { at_ms } = self.state else {
            return if self.state == State::Declined { Status::Declined } else { Status::Placing };
        };
        match (now_ms - at_ms) / pace_ms.max(1) {
            ..1 => Status::Paid,
            1 => Status::Packed,
            2 => Status::Shipped,
            3.. => Status::Delivered,
        }
    }
}

const COLUMNS: &str = "id, person, fingerprint, state, paid_at_ms, reason, total_cents, last4, name, address,
    charge, to_capture, created_at_ms, touched_at_ms";

fn stored_of(row: &Row<'_>) -> rusqlite::Result<Stored> {
    let state: String = row.get(3)?;
    let paid_at_ms: Option<i64> = row.get(4)?;
    Ok(Stored {
        id: row.get(0)?,
        person: row.get(1)?,
        fingerprint: row.get(2)?,
        state: match state.as_str() {
            "paid" => State::Paid { at_ms: paid_at_ms.unwrap_or_default() },
            "declined" => State::Declined,
            _ => State::Placing,
        },
        reason: row.get(5)?,
        total_cents: row.get(6)?,
        last4: row.get(7)?,
        name: row.get(8)?,
        address: row.get(9)?,
        charge: row.get(10)?,
        to_capture: row.get(11)?,
        created_at_ms: row.get(12)?,
        touched_at_ms: row.get(13)?,
        lines: Vec::new(),
    })
}

/// The order of this person and key: the one that is there already, else the draft. If it is still being placed, it
/// is noted that somebody is at it now.
pub(super) fn open(db: &Connection, draft: &Draft) -> rusqlite::Result<Stored> {
    let now_ms = clock::wall_ms();
    db.execute(
        "INSERT INTO orders (id, person, key, fingerprint, state, last4, name, address, created_at_ms, touched_at_ms)
         VALUES (?1, ?2, ?3, ?4, 'placing', ?5, ?6, ?7, ?8, ?8)
         ON CONFLICT (person, key) DO UPDATE SET touched_at_ms = excluded.touched_at_ms
             WHERE state = 'placing' AND fingerprint = excluded.fingerprint",
        params![
            draft.id,
            draft.person,
            draft.key,
            draft.fingerprint,
            draft.last4,
            draft.name,
            draft.address,
            now_ms
        ],
    )?;
    let query = format!("SELECT {COLUMNS} FROM orders WHERE person = ?1 AND key = ?2");
    let stored = db.query_row(&query, params![draft.person, draft.key], stored_of)?;
    with_lines(db, stored)
}

/// The order of this id.
pub(super) fn find(db: &Connection, id: &str) -> rusqlite::Result<Option<Stored>> {
    let query = format!("SELECT {COLUMNS} FROM orders WHERE id = ?1");
    match db.query_row(&query, [id], stored_of).optional()? {
        Some(stored) => with_lines(db, stored).map(Some),
        None => Ok(None),
    }
}

/// The newest orders of a person.
pub(super) fn list(db: &Connection, person: &str, pace_ms: i64) -> rusqlite::Result<Vec<Order>> {
    let query = format!(
        "SELECT {COLUMNS} FROM orders WHERE person = ?1 ORDER BY created_at_ms DESC, id LIMIT {LIST_MAX}"
    );
    let mut select = db.prepare(&query)?;
    let mut orders = Vec::new();
    for stored in select.query_map([person], stored_of)? {
        orders.push(with_lines(db, stored?)?.shown(pace_ms));
    }
    Ok(orders)
}

fn with_lines(db: &Connection, mut stored: Stored) -> rusqlite::Result<Stored> {
    let mut select = db.prepare(
        "SELECT product, name, quantity, price_cents FROM lines WHERE order_id = ?1 ORDER BY product",
    )?;
    let lines = select.query_map([&stored.id], |row| {
        Ok(Line { product: row.get(0)?, name: row.get(1)?, quantity: row.get(2)?, price_cents: row.get(3)? })
    })?;
    stored.lines = lines.collect::<Result<_, _>>()?;
    Ok(stored)
}

/// Notes what was reserved and at which price. Repeatable.
pub(super) fn note_lines(
    db: &Connection,
    id: &str,
    lines: &[Line],
    total_cents: i64,
) -> rusqlite::Result<()> {
    for line in lines {
        db.execute(
            "INSERT INTO lines (order_id, product, name, quantity, price_cents) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO NOTHING",
            params![id, line.product, line.name, line.quantity, line.price_cents],
        )?;
    }
    db.execute("UPDATE orders SET total_cents = ?2 WHERE id = ?1", params![id, total_cents])?;
    Ok(())
}

/// The money is there, or set aside.
pub(super) fn note_paid(db: &Connection, id: &str, charge: &str, to_capture: bool) -> rusqlite::Result<()> {
    db.execute(
        "UPDATE orders SET state = 'paid', charge = ?2, to_capture = ?3, paid_at_ms = ?4
         WHERE id = ?1 AND state = 'placing'",
        params![id, charge, to_capture, clock::wall_ms()],
    )?;
    Ok(())
}

/// There will be no money, or nothing to buy with it.
pub(super) fn note_declined(db: &Connection, id: &str, reason: &str) -> rusqlite::Result<()> {
    let update = "UPDATE orders SET state = 'declined', reason = ?2 WHERE id = ?1 AND state = 'placing'";
    db.execute(update, params![id, reason])?;
    Ok(())
}

/// Gives up on an order that nobody has been at since `before_ms`. Tells whether it was so.
pub(super) fn abandon(db: &Connection, id: &str, before_ms: i64) -> rusqlite::Result<bool> {
    let changed = db.execute(
        "UPDATE orders SET state = 'declined', reason = 'The order was not completed; nothing was charged.'
         WHERE id = ?1 AND state = 'placing' AND touched_at_ms < ?2",
        params![id, before_ms],
    )?;
    Ok(changed == 1)
}

/// The money set aside is ours now.
pub(super) fn note_captured(db: &Connection, id: &str) -> rusqlite::Result<()> {
    db.execute("UPDATE orders SET to_capture = 0 WHERE id = ?1", [id])?;
    Ok(())
}

/// The newest paid order's first product.
pub(super) fn recent(db: &Connection) -> rusqlite::Result<Recent> {
    let newest = db
        .query_row(
            "SELECT id, paid_at_ms FROM orders WHERE paid_at_ms IS NOT NULL ORDER BY paid_at_ms DESC LIMIT 1",
            (),
            |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)),
        )
        .optional()?;
    let Some((id, at_ms)) = newest else {
        return Ok(Recent { product: None, at_ms: None });
    };
    let query = "SELECT name FROM lines WHERE order_id = ?1 ORDER BY price_cents DESC LIMIT 1";
    let product = db.query_row(query, [id], |row| row.get(0)).optional()?;
    Ok(Recent { product, at_ms: Some(at_ms) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(key: &str, fingerprint: &str) -> Draft {
        Draft {
            id: format!("order-{key}-{fingerprint}"),
            person: "ada".into(),
            key: key.into(),
            fingerprint: fingerprint.into(),
            last4: "4242".into(),
            name: "Ada".into(),
            address: "12 Terrace Road".into(),
        }
    }

    fn empty() -> Connection {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(SCHEMA).unwrap();
        db
    }

    #[test]
    fn the_same_key_is_the_same_order() {
        let db = empty();
        let first = open(&db, &draft("k1", "a")).unwrap();
        assert_eq!(open(&db, &draft("k1", "b")).unwrap().id, first.id);
        assert_ne!(open(&db, &draft("k2", "a")).unwrap().id, first.id);
    }

    #[test]
    fn a_paid_order_moves_on_by_itself_and_is_not_declined_any_more() {
        let db = empty();
        let id = open(&db, &draft("k1", "a")).unwrap().id;
        note_paid(&db, &id, "charge", false).unwrap();
        note_declined(&db, &id, "too late").unwrap();
        assert!(!abandon(&db, &id, i64::MAX).unwrap());
        let stored = find(&db, &id).unwrap().unwrap();
        let State::Paid { at_ms } = stored.state else { panic!("{:?}", stored.state) };
        let expected = [Status::Paid, Status::Packed, Status::Shipped, Status::Delivered, Status::Delivered];
        for (step, status) in (0..).zip(expected) {
            assert_eq!(stored.status(1000, at_ms + step * 1000), status);
        }
    }

    #[test]
    fn an_order_is_abandoned_only_when_nobody_is_at_it() {
        let db = empty();
        let stored = open(&db, &draft("k1", "a")).unwrap();
        assert!(!abandon(&db, &stored.id, stored.touched_at_ms).unwrap());
        assert!(abandon(&db, &stored.id, stored.touched_at_ms + 1).unwrap());
        assert_eq!(find(&db, &stored.id).unwrap().unwrap().state, State::Declined);
    }
}

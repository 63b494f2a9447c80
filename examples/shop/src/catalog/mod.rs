//! What the shop sells: products with search and paging, their pictures, and the stock on the shelves.
//!
//! Stock is taken by reservation, once per order however often it is asked for. A delivery fills the shelves up every
//! few seconds, so that a shop under a load test does not sell out for ever.

mod pictures;
mod seed;
mod stock;

use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use ring::digest::{SHA256, digest};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use crate::database::Database;
use crate::log;
use crate::problem::{Input, Problem};
use crate::serve::{self, StartError, Stop};
use crate::settings::Settings;

pub(crate) use stock::{
    LINES_MAX, Line, QUANTITY_MAX, Reservation, ReservationRequest, WantedLine, check_lines,
};

/// Products on a page at most.
const PER_PAGE_MAX: u32 = 50;
const PER_PAGE_DEFAULT: u32 = 12;
/// Pages and search terms beyond these are nobody's honest question.
const PAGE_MAX: u32 = 1000;
const SEARCH_CHARS_MAX: usize = 60;
/// How often a delivery fills the shelves.
const DELIVERY_EVERY: Duration = Duration::from_secs(10);

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS products (
        id TEXT PRIMARY KEY,
        position INTEGER NOT NULL,
        name TEXT NOT NULL,
        category TEXT NOT NULL,
        blurb TEXT NOT NULL,
        price_cents INTEGER NOT NULL,
        shelf INTEGER NOT NULL,
        stock INTEGER NOT NULL CHECK (stock >= 0)
    ) STRICT;
    CREATE TABLE IF NOT EXISTS reservations (
        order_id TEXT NOT NULL,
        product TEXT NOT NULL,
        name TEXT NOT NULL,
        quantity INTEGER NOT NULL,
        price_cents INTEGER NOT NULL,
        PRIMARY KEY (order_id, product)
    ) STRICT, WITHOUT ROWID;";

/// A product as everybody sees it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Product {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) category: String,
    pub(crate) blurb: String,
    pub(crate) price_cents: i64,
    pub(crate) stock: i64,
    pub(crate) picture: String,
}

/// One page of products.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Page {
    pub(crate) products: Vec<Product>,
    pub(crate) categories: Vec<String>,
    pub(crate) page: u32,
    pub(crate) pages: u32,
    pub(crate) total: u32,
}

/// What `GET /products` understands.
#[derive(Default, Deserialize)]
struct Wanted {
    q: Option<String>,
    category: Option<String>,
    /// Comma-separated; for carts.
    ids: Option<String>,
    page: Option<u32>,
    per: Option<u32>,
}

/// Runs the service until it is asked to stop.
pub(crate) async fn run(settings: Settings, stop: Stop) -> Result<(), StartError> {
    let database = Database::open(&settings.data, "catalog", SCHEMA, |db| seed::fill(db))?;
    let routes = Router::new()
        .route("/products", get(list))
        .route("/products/{id}", get(show))
        .route("/pictures/{file}", get(picture))
        .route("/reservations", post(reserve))
        .route("/reservations/{order}", delete(release))
        .with_state(database.clone());
    tokio::spawn(deliver(database.clone(), stop.clone()));
    serve::serve(&settings, &stop, database, routes, Problem::into_response).await
}

async fn list(
    State(database): State<Database>,
    headers: HeaderMap,
    wanted: Result<Query<Wanted>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Problem> {
    let wanted = match wanted {
        Ok(Query(wanted)) => wanted,
        Err(rejection) => return Err(Problem::malformed(rejection.status(), rejection.body_text())),
    };
    let page = database.read(move |db| select_page(db, &wanted)).await?;
    Ok(tagged(&headers, "application/json", json_bytes(&page), "public, max-age=2"))
}

async fn show(
    State(database): State<Database>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let query = format!("SELECT {COLUMNS} FROM products WHERE id = ?1");
    match database.read(move |db| db.query_row(&query, [id], product_of).optional()).await? {
        Some(product) => Ok(tagged(&headers, "application/json", json_bytes(&product), "public, max-age=2")),
        None => Err(Problem::not_found("product")),
    }
}

async fn picture(headers: HeaderMap, Path(file): Path<String>) -> Result<Response, Problem> {
    let svg = file.strip_suffix(".svg").and_then(pictures::draw);
    let Some(svg) = svg else { return Err(Problem::not_found("picture")) };
    Ok(tagged(&headers, "image/svg+xml", svg.into_bytes(), "public, max-age=86400"))
}

async fn reserve(
    State(database): State<Database>,
    Input(wanted): Input<ReservationRequest>,
) -> Result<Json<Reservation>, Problem> {
    stock::reserve(&database, wanted).await.map(Json)
}

async fn release(State(database): State<Database>, Path(order): Path<String>) -> Result<StatusCode, Problem> {
    database.change(move |db| stock::release(db, &order)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Fills the shelves up now and then. Any instance may do it, any number of times.
async fn deliver(database: Database, stop: Stop) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(DELIVERY_EVERY) => (),
            () = stop.requested() => return,
        }
        let fill = "UPDATE products SET stock = shelf WHERE stock < shelf";
        if let Err(problem) = database.change(move |db| db.execute(fill, ())).await {
            log::warn("delivery.late", serde_json::json!({ "why": problem.detail }));
        }
    }
}

fn json_bytes(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("our own types serialize to JSON")
}

/// An answer with a strong entity tag, or 304 when the caller has it already (RFC 9110, section 13.1.2).
fn tagged(headers: &HeaderMap, kind: &'static str, body: Vec<u8>, caching: &'static str) -> Response {
    let hash = digest(&SHA256, &body);
    let tag = format!("\"{}\"", data_encoding::HEXLOWER.encode(&hash.as_ref()[..12]));
    let known = headers.get(IF_NONE_MATCH).and_then(|known| known.to_str().ok()).unwrap_or_default();
    let is_known = known == "*" || known.split(',').any(|k| k.trim().trim_start_matches("W/") == tag);
    let tag = HeaderValue::from_str(&tag).expect("hexadecimal digits make a header value");
    let about = [(ETAG, tag), (CACHE_CONTROL, HeaderValue::from_static(caching))];
    if is_known {
        return (StatusCode::NOT_MODIFIED, about).into_response();
    }
    (about, [(CONTENT_TYPE, kind)], body).into_response()
}

const COLUMNS: &str = "id, name, category, blurb, price_cents, stock";

fn product_of(row: &Row<'_>) -> rusqlite::Result<Product> {
    let id: String = row.get(0)?;
    Ok(Product {
        picture: format!("/pictures/{id}.svg"),
        id,
        name: row.get(1)?,
        category: row.get(2)?,
        blurb: row.get(3)?,
        price_cents: row.get(4)?,
        stock: row.get(5)?,
    })
}

fn select_page(db: &Connection, wanted: &Wanted) -> rusqlite::Result<Page> {
    let per = wanted.per.unwrap_or(PER_PAGE_DEFAULT).clamp(1, PER_PAGE_MAX);
    let page = wanted.page.unwrap_or(1).clamp(1, PAGE_MAX);
    let like = like_pattern(wanted.q.as_deref().unwrap_or_default());
    let category = wanted.category.as_deref().unwrap_or_default();
    let ids: Vec<&str> = wanted.ids.iter().flat_map(|ids| ids.split(',')).take(50).collect();
    let ids = serde_json::to_string(&ids).expect("texts serialize to JSON");

    let filter = "(name LIKE ?1 ESCAPE '\\' OR blurb LIKE ?1 ESCAPE '\\' OR category LIKE ?1 ESCAPE '\\')
        AND (?2 = '' OR category = ?2)
        AND (NOT ?3 OR id IN (SELECT value FROM json_each(?4)))";
    let by_ids = wanted.ids.is_some();
    let count = format!("SELECT count(*) FROM products WHERE {filter}");
    let total: u32 = db.query_row(&count, params![like, category, by_ids, ids], |row| row.get(0))?;
    let select =
        format!("SELECT {COLUMNS} FROM products WHERE {filter} ORDER BY position LIMIT ?5 OFFSET ?6");
    let mut select = db.prepare(&select)?;
    let found = select.query_map(params![like, category, by_ids, ids, per, (page - 1) * per], product_of)?;
    let products = found.collect::<Result<_, _>>()?;
    Ok(Page { products, categories: categories(db)?, page, pages: total.div_ceil(per).max(1), total })
}

fn categories(db: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut select = db.prepare("SELECT category FROM products GROUP BY category ORDER BY min(position)")?;
    let names = select.query_map((), |row| row.get(0))?;
    names.collect()
}

/// Text as typed by a person, as a LIKE pattern in which `%` and `_` mean themselves.
fn like_pattern(text: &str) -> String {
    let mut pattern = String::from("%");
    for c in text.trim().chars().take(SEARCH_CHARS_MAX) {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled() -> Connection {
        let mut db = Connection::open_in_memory().unwrap();
        db.execute_batch(SCHEMA).unwrap();
        let transaction = db.transaction().unwrap();
        seed::fill(&transaction).unwrap();
        transaction.commit().unwrap();
        db
    }

    #[test]
    fn paging_shows_every_product_once() {
        let db = filled();
        let mut seen = std::collections::BTreeSet::new();
        for page in 1..=5 {
            let wanted = Wanted { page: Some(page), per: Some(5), ..Wanted::default() };
            let page = select_page(&db, &wanted).unwrap();
            assert_eq!((page.total, page.pages), (24, 5));
            seen.extend(page.products.into_iter().map(|product| product.id));
        }
        assert_eq!(seen.len(), 24);
    }

    #[test]
    fn a_search_finds_by_name_and_takes_wildcards_for_letters() {
        let db = filled();
        let total =
            |q: &str| select_page(&db, &Wanted { q: Some(q.into()), ..Wanted::default() }).unwrap().total;
        assert_eq!(total("lavender"), 1);
        assert_eq!(total("LAVENDER"), 1);
        assert_eq!(total("%"), 0);
        assert_eq!(total("_"), 0);
        assert_eq!(total("' OR 1=1 --"), 0);
    }

    #[test]
    fn every_product_has_a_picture() {
        let wanted = Wanted { per: Some(50), ..Wanted::default() };
        for product in select_page(&filled(), &wanted).unwrap().products {
            assert!(pictures::draw(&product.id).is_some(), "{}", product.id);
        }
    }
}

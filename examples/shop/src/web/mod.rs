//! What a person shops on: server-rendered pages with a little script on top, and nothing kept in memory that another
//! instance would miss. The cart and the login travel in cookies, everything else is asked of the neighbours.

mod account;
mod assets;
mod buying;
mod live;
mod pages;
mod shelves;
mod upload;
mod visitor;

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use crate::client::Neighbour;
use crate::database::Database;
use crate::serve::{self, StartError, Stop};
use crate::settings::Settings;

use live::Live;
use pages::Oops;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS presence (
        instance TEXT PRIMARY KEY,
        people INTEGER NOT NULL,
        at_ms INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS photos (
        product TEXT NOT NULL,
        sha256 TEXT NOT NULL,
        kind TEXT NOT NULL,
        person TEXT NOT NULL,
        at_ms INTEGER NOT NULL,
        PRIMARY KEY (product, sha256)
    ) STRICT, WITHOUT ROWID;";

/// What all requests share.
pub(crate) struct Web {
    database: Database,
    catalog: Neighbour,
    orders: Neighbour,
    auth: Neighbour,
    live: Live,
    stop: Stop,
    photos: PathBuf,
}

/// Runs the service until it is asked to stop.
pub(crate) async fn run(settings: Settings, stop: Stop) -> Result<(), StartError> {
    let database = Database::open(&settings.data, "web", SCHEMA, |_| Ok(()))?;
    let web = Arc::new(Web {
        database: database.clone(),
        catalog: Neighbour::new("catalog", settings.catalog_url.as_ref())?,
        orders: Neighbour::new("orders", settings.orders_url.as_ref())?,
        auth: Neighbour::new("auth", settings.auth_url.as_ref())?,
        live: Live::default(),
        stop: stop.clone(),
        photos: settings.data.join("photos"),
    });
    let name = format!("{}/{}", settings.instance(), std::process::id());
    let ticker = tokio::spawn(live::run(Arc::clone(&web), name));
    let served = serve::serve(&settings, &stop, database, routes(web), refuse).await;
    let _ = ticker.await; // it takes this instance's people out of the count
    served
}

fn refuse(problem: crate::problem::Problem) -> Response {
    Oops(problem).into_response()
}

fn routes(web: Arc<Web>) -> Router {
    Router::new()
        .route("/", get(shelves::catalogue))
        .route("/products/{id}", get(shelves::product))
        .route("/pictures/{file}", get(shelves::picture))
        .route("/cart", get(shelves::cart).post(shelves::change_cart))
        .route("/login", get(account::login_page).post(account::login))
        .route("/register", get(account::register_page).post(account::register))
        .route("/logout", post(account::logout))
        .route("/checkout", get(buying::checkout_page).post(buying::checkout))
        .route("/orders", get(buying::orders))
        .route("/orders/{id}", get(buying::order))
        .route("/orders/{id}/events", get(buying::events))
        .route("/live", get(live::connect))
        .route("/upload", post(upload::upload))
        .route("/photos/{sha256}", get(upload::photo))
        .route("/assets/{file}", get(assets::asset))
        .layer(middleware::map_response(kept_fresh))
        .with_state(web)
}

/// A page is somebody's own, and looked at again each time, unless it says otherwise.
async fn kept_fresh(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("private, no-cache"));
    response
}

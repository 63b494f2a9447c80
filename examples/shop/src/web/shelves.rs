//! Looking around: the catalogue, a product, the cart.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG};
use axum::response::{IntoResponse, Response};
use maud::Markup;
use serde::Deserialize;

use super::Web;
use super::pages::{self, Filled, Oops};
use super::upload;
use super::visitor::{Cart, Visitor, is_product_id, see_other};
use crate::catalog::{Page, Product};
use crate::client::encode;
use crate::problem::Problem;

/// Products on a page of the catalogue.
const PER_PAGE: u32 = 12;

/// What the catalogue's address may ask for.
#[derive(Debug, Default, Clone, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    pub(super) q: String,
    #[serde(default)]
    pub(super) category: String,
    pub(super) page: Option<u32>,
}

impl Asked {
    /// The query for page `page` of the same question.
    pub(super) fn query(&self, page: u32) -> String {
        let (q, category) = (encode(&self.q), encode(&self.category));
        let mut parts = Vec::new();
        if !q.is_empty() {
            parts.push(format!("q={q}"));
        }
        if !category.is_empty() {
            parts.push(format!("category={category}"));
        }
        if page > 1 {
            parts.push(format!("page={page}"));
        }
        parts.join("&")
    }
}

/// A line of the cart with all there is to know about its product.
pub(super) struct CartLine {
    pub(super) product: Product,
    pub(super) quantity: u32,
}

pub(super) async fn catalogue(
    State(web): State<Arc<Web>>,
    visitor: Visitor,
    asked: Result<Query<Asked>, axum::extract::rejection::QueryRejection>,
) -> Result<Markup, Oops> {
    // An address that makes no sense shows everything.
    let asked = match asked {
        Ok(Query(asked)) => asked,
        Err(_) => Asked::default(),
    };
    let query = asked.query(asked.page.unwrap_or(1));
    let page = web.catalog.get(format!("/products?per={PER_PAGE}&{query}")).fetch::<Page>().await?;
    Ok(pages::catalogue(&visitor, &asked, &page))
}

pub(super) async fn product(
    State(web): State<Arc<Web>>,
    visitor: Visitor,
    Path(id): Path<String>,
) -> Result<Markup, Oops> {
    if !is_product_id(&id) {
        return Err(Oops(Problem::not_found("product")));
    }
    let product = web.catalog.get(format!("/products/{id}")).fetch::<Product>().await?;
    let path = format!("/products?per=5&category={}", encode(&product.category));
    // Neither company nor photos are worth failing for.
    let (others, photos) = tokio::join!(web.catalog.get(path).fetch::<Page>(), upload::photos_of(&web, &id));
    let mut others = others.map(|page| page.products).unwrap_or_default();
    others.retain(|other| other.id != id);
    others.truncate(4);
    Ok(pages::product(&visitor, &product, &others, &photos.unwrap_or_default()))
}

/// A gateway may send these straight to the catalog; without one they come through here.
pub(super) async fn picture(State(web): State<Arc<Web>>, Path(file): Path<String>) -> Result<Response, Oops> {
    if !file.strip_suffix(".svg").is_some_and(is_product_id) {
        return Err(Oops(Problem::not_found("picture")));
    }
    let answer = web.catalog.get(format!("/pictures/{file}")).send().await?;
    let mut headers = HeaderMap::new();
    for name in [CONTENT_TYPE, CACHE_CONTROL, ETAG] {
        if let Some(value) = answer.headers.get(&name) {
            headers.insert(name, value.clone());
        }
    }
    Ok((answer.status, headers, answer.body).into_response())
}

pub(super) async fn cart(State(web): State<Arc<Web>>, visitor: Visitor) -> Result<Markup, Oops> {
    let lines = cart_lines(&web, &visitor.cart).await?;
    Ok(pages::cart(&visitor, &lines))
}

/// A change of the cart; `set` says how many there are to be, `quantity` how many more.
#[derive(Deserialize)]
pub(super) struct Change {
    product: String,
    set: Option<u32>,
    quantity: Option<u32>,
}

pub(super) async fn change_cart(visitor: Visitor, Filled(change): Filled<Change>) -> Response {
    let mut cart = visitor.cart.clone();
    match change.set {
        Some(quantity) => cart.set(&change.product, quantity),
        None => cart.add(&change.product, change.quantity.unwrap_or(1)),
    }
    see_other("/cart", vec![visitor.cart_cookie(&cart)])
}

/// What is in the cart, as far as the shop still sells it.
pub(super) async fn cart_lines(web: &Web, cart: &Cart) -> Result<Vec<CartLine>, Problem> {
    if cart.lines().is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<&str> = cart.lines().iter().map(|line| line.product.as_str()).collect();
    let page = web.catalog.get(format!("/products?per=50&ids={}", ids.join(","))).fetch::<Page>().await?;
    let mut products: HashMap<String, Product> =
        page.products.into_iter().map(|product| (product.id.clone(), product)).collect();
    let known = cart.lines().iter().filter_map(|line| {
        products.remove(&line.product).map(|product| CartLine { product, quantity: line.quantity })
    });
    Ok(known.collect())
}

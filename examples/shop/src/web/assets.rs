//! Style, script and drawings, compiled in. Their addresses carry a fingerprint, so that browsers may keep them for ever
//! and still get the new ones after a deploy.

use std::sync::LazyLock;

use axum::extract::{Path, RawQuery};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use ring::digest::{SHA256, digest};

use super::pages::Oops;
use crate::problem::Problem;

/// Name, type, content.
type Asset = (&'static str, &'static str, &'static [u8]);

const ASSETS: [Asset; 4] = [
    ("shop.css", "text/css; charset=utf-8", include_bytes!("../../assets/shop.css")),
    ("shop.js", "text/javascript; charset=utf-8", include_bytes!("../../assets/shop.js")),
    ("hero.svg", "image/svg+xml", include_bytes!("../../assets/hero.svg")),
    ("icon.svg", "image/svg+xml", include_bytes!("../../assets/icon.svg")),
];

/// One fingerprint for all of them: they change together, with the binary.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let all: Vec<u8> = ASSETS.iter().flat_map(|(_, _, content)| content.iter().copied()).collect();
    data_encoding::HEXLOWER.encode(&digest(&SHA256, &all).as_ref()[..6])
});

/// Where an asset is found.
pub(super) fn address(name: &str) -> String {
    format!("/assets/{name}?v={}", *VERSION)
}

pub(super) async fn asset(Path(file): Path<String>, RawQuery(query): RawQuery) -> Result<Response, Oops> {
    let Some((_, kind, content)) = ASSETS.iter().find(|(name, _, _)| *name == file) else {
        return Err(Oops(Problem::not_found("asset")));
    };
    // Another version than asked for: a deploy is under way, and nobody shall keep the mixture.
    let is_version_asked = query.is_some_and(|query| query == format!("v={}", *VERSION));
    let caching = if is_version_asked { "public, max-age=31536000, immutable" } else { "no-store" };
    Ok(([(CONTENT_TYPE, *kind), (CACHE_CONTROL, caching)], *content).into_response())
}

//! Uploads: counted and hashed as they stream through, whatever they are; a photo of a product is kept.
//!
//! Memory stays flat: only what may be a photo is held, and only up to the size of a photo. How much and how slowly one may
//! upload is for the gateway to say.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use ring::digest::{Context, SHA256};
use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::Web;
use super::pages::Oops;
use super::visitor::{Visitor, is_product_id};
use crate::clock;
use crate::problem::Problem;

/// Larger photos are counted and hashed but not kept.
const PHOTO_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Photos kept of a product; the oldest make room.
const PHOTOS_MAX: u32 = 8;

#[derive(Default, Deserialize)]
pub(super) struct About {
    product: Option<String>,
}

/// What is told about an upload.
#[derive(Serialize)]
struct Receipt {
    bytes: u64,
    sha256: String,
    /// Where the photo can be seen, if it was kept.
    photo: Option<String>,
    note: &'static str,
}

/// An upload that has come through.
struct Received {
    bytes: u64,
    sha256: String,
    /// The whole of it, if it is small enough.
    content: Option<Vec<u8>>,
}

pub(super) async fn upload(
    State(web): State<Arc<Web>>,
    visitor: Visitor,
    Query(about): Query<About>,
    body: Body,
) -> Result<Response, Problem> {
    let received = receive(body).await?;
    let (note, photo) = match (visitor.person(), about.product, received.content) {
        (_, None, _) => ("Counted and hashed.", None),
        (None, _, _) => ("Sign in to have your photo shown.", None),
        (_, _, None) => ("Too large to be shown; 4 MB at most.", None),
        (Some(person), Some(product), Some(content)) => {
            match keep(&web, &person.id, &product, &received.sha256, content).await? {
                true => {
                    ("Thank you! Your photo is shown below.", Some(format!("/photos/{}", received.sha256)))
                }
                false => ("Only JPEG, PNG and WebP photos can be shown.", None),
            }
        }
    };
    let receipt = Receipt { bytes: received.bytes, sha256: received.sha256, photo, note };
    Ok((StatusCode::CREATED, Json(receipt)).into_response())
}

async fn receive(mut body: Body) -> Result<Received, Problem> {
    let (mut bytes, mut hash, mut content) = (0, Context::new(&SHA256), Some(Vec::new()));
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return Err(Problem::malformed(StatusCode::BAD_REQUEST, "The upload broke off."));
        };
        let Ok(data) = frame.into_data() else { continue };
        bytes += data.len() as u64;
        hash.update(&data);
        content = content.filter(|held| held.len() + data.len() <= PHOTO_BYTES_MAX);
        if let Some(held) = &mut content {
            held.extend_from_slice(&data);
        }
    }
    let sha256 = data_encoding::HEXLOWER.encode(hash.finish().as_ref());
    Ok(Received { bytes, sha256, content })
}

/// The kind of picture by its first bytes; what the sender calls it counts for nothing.
fn kind_of(content: &[u8]) -> Option<&'static str> {
    match content {
        [0xFF, 0xD8, 0xFF, ..] => Some("image/jpeg"),
        [0x89, b'P', b'N', b'G', 0x0D, 0x0A, 0x1A, 0x0A, ..] => Some("image/png"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        _ => None,
    }
}

/// Keeps a photo of a product; `false` when it is none.
async fn keep(
    web: &Web,
    person: &str,
    product: &str,
    sha256: &str,
    content: Vec<u8>,
) -> Result<bool, Problem> {
    let Some(kind) = kind_of(&content) else { return Ok(false) };
    if !is_product_id(product) {
        return Err(Problem::not_found("product"));
    }
    web.catalog.get(format!("/products/{product}")).send().await?;
    store(web, sha256, &content).await.map_err(|error| Problem::internal(&error))?;
    let row = (product.to_owned(), sha256.to_owned(), person.to_owned());
    let dropped = web.database.change(move |db| note(db, &row.0, &row.1, kind, &row.2)).await?;
    for sha256 in dropped {
        let _ = tokio::fs::remove_file(web.photos.join(sha256)).await; // a file too many harms nobody
    }
    Ok(true)
}

/// Written beside and renamed, so that nobody is shown half a photo.
async fn store(web: &Web, sha256: &str, content: &[u8]) -> std::io::Result<()> {
    tokio::fs::create_dir_all(&web.photos).await?;
    let beside = web.photos.join(format!("{}.new", crate::random::id()));
    tokio::fs::write(&beside, content).await?;
    tokio::fs::rename(&beside, web.photos.join(sha256)).await
}

/// Notes the photo, and returns those that made room and are shown nowhere else.
fn note(
    db: &rusqlite::Connection,
    product: &str,
    sha256: &str,
    kind: &str,
    person: &str,
) -> rusqlite::Result<Vec<String>> {
    db.execute(
        "INSERT INTO photos (product, sha256, kind, person, at_ms) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT DO NOTHING",
        params![product, sha256, kind, person, clock::wall_ms()],
    )?;
    let mut delete = db.prepare(
        "DELETE FROM photos WHERE product = ?1 AND sha256 NOT IN
             (SELECT sha256 FROM photos WHERE product = ?1 ORDER BY at_ms DESC LIMIT ?2)
         RETURNING sha256",
    )?;
    let old: Vec<String> =
        delete.query_map(params![product, PHOTOS_MAX], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut dropped = Vec::new();
    for sha256 in old {
        let query = "SELECT count(*) FROM photos WHERE sha256 = ?1";
        if db.query_row(query, [&sha256], |row| row.get::<_, i64>(0))? == 0 {
            dropped.push(sha256);
        }
    }
    Ok(dropped)
}

/// The photos of a product, newest first.
pub(super) async fn photos_of(web: &Web, product: &str) -> Result<Vec<String>, Problem> {
    let product = product.to_owned();
    let read = move |db: &rusqlite::Connection| {
        let mut select = db.prepare("SELECT sha256 FROM photos WHERE product = ?1 ORDER BY at_ms DESC")?;
        let found = select.query_map([product], |row| row.get(0))?;
        found.collect::<Result<Vec<String>, _>>()
    };
    web.database.read(read).await
}

pub(super) async fn photo(State(web): State<Arc<Web>>, Path(sha256): Path<String>) -> Result<Response, Oops> {
    let name = sha256.clone();
    let query = "SELECT kind FROM photos WHERE sha256 = ?1";
    // Only names that are in the database reach the file system.
    let kind =
        web.database.read(move |db| db.query_row(query, [name], |row| row.get::<_, String>(0)).optional());
    let not_found = || Oops(Problem::not_found("photo"));
    let kind = kind.await?.ok_or_else(not_found)?;
    let Ok(content) = tokio::fs::read(web.photos.join(&sha256)).await else { return Err(not_found()) };
    let about = [(CONTENT_TYPE, kind.as_str()), (CACHE_CONTROL, "public, max-age=31536000, immutable")];
    Ok((about, content).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_photo_is_known_by_its_first_bytes() {
        assert_eq!(kind_of(b"\xFF\xD8\xFF\xE0rest"), Some("image/jpeg"));
        assert_eq!(kind_of(b"\x89PNG\r\n\x1a\nrest"), Some("image/png"));
        assert_eq!(kind_of(b"RIFF\0\0\0\0WEBPVP8 "), Some("image/webp"));
        assert_eq!(kind_of(b"<svg onload=alert(1)>"), None);
        assert_eq!(kind_of(b""), None);
    }
}

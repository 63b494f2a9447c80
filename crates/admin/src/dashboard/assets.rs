//! The files that pages need, from the binary.
//!
//! Their address holds a digest of all of them, so that a browser may keep each for ever and a new Terrace's pages name
//! new ones; modules import each other by relative names and stay in one generation. An address of another generation
//! (a page that was open across an upgrade) gets the present file, not to be kept.

use std::sync::OnceLock;

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use ring::digest;

use crate::control::ControlError;

use super::Dashboard;

/// A file's name under `/assets/…/`, and what is in it.
type File = (&'static str, &'static [u8]);

/// All files. The type follows from the name's end.
const FILES: &[File] = &[
    ("app.css", include_bytes!("../../assets/app.css")),
    ("app.js", include_bytes!("../../assets/app.js")),
    ("charts.js", include_bytes!("../../assets/charts.js")),
    ("ground.css", include_bytes!("../../assets/ground.css")),
    ("icon.svg", include_bytes!("../../assets/icon.svg")),
    ("logs.js", include_bytes!("../../assets/logs.js")),
    ("map.js", include_bytes!("../../assets/map.js")),
    ("theme.js", include_bytes!("../../assets/theme.js")),
    ("uplot/LICENSE", include_bytes!("../../assets/uplot/LICENSE")),
    ("uplot/uPlot.iife.min.js", include_bytes!("../../assets/uplot/uPlot.iife.min.js")),
    ("uplot/uPlot.min.css", include_bytes!("../../assets/uplot/uPlot.min.css")),
    ("waterfall.js", include_bytes!("../../assets/waterfall.js")),
];

pub(super) fn router() -> Router<Dashboard> {
    Router::new().route("/assets/{generation}/{*name}", get(serve))
}

/// Where a file is to be had.
pub(crate) fn url(name: &str) -> String {
    debug_assert!(FILES.iter().any(|(known, _)| *known == name), "{name} is a file of ours");
    format!("/assets/{}/{name}", generation())
}

/// The digest of all files, short: it tells versions apart, it protects nothing.
fn generation() -> &'static str {
    static GENERATION: OnceLock<String> = OnceLock::new();
    GENERATION.get_or_init(|| {
        let mut all = digest::Context::new(&digest::SHA256);
        for (name, bytes) in FILES {
            all.update(name.as_bytes());
            all.update(&(bytes.len() as u64).to_be_bytes());
            all.update(bytes);
        }
        all.finish().as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    })
}

async fn serve(Path((asked, name)): Path<(String, String)>) -> Result<Response, ControlError> {
    let Some((_, bytes)) = FILES.iter().find(|(known, _)| *known == name) else {
        return Err(ControlError::not_found("There is no such file."));
    };
    let mut response = (*bytes).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type(&name)));
    let kept = if asked == generation() { "public, max-age=31536000, immutable" } else { "no-cache" };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(kept));
    Ok(response)
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("woff2") => "font/woff2",
        _ => "text/plain; charset=utf-8",
    }
}

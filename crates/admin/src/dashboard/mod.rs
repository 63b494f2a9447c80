//! The dashboard: what one sees and does in a browser.
//!
//! Pages are written by the server and complete without a script; what scripts add is that figures move, that actions
//! answer without a new page, and keys. There is no build step and nothing from elsewhere: every file is in the
//! binary, and the Content-Security-Policy allows nothing else.
//!
//! A request passes `guard` first: who followed a link from another page is led on to the same address, who is not
//! signed in to the login, and a change must come from a form of ours (CSRF token) and from somebody who may. So a page
//! module holds only pages: `fn router() -> Router<Dashboard>`, with handlers that take `State<Dashboard>` and
//! [`Visitor`] and return `Result<Response, ControlError>`; an error becomes a page here too.
//!
//! Where things are: `/` and `/routes/…`, `/services/…`, `/objectives/…` lead along the request's way; `/traces`, `/logs`,
//! `/alerts`, `/config`, `/audit` are what their names say; `/live` is the stream of events, `/assets/…` the files.

mod actions;
mod alerts;
mod assets;
mod audit;
mod charts;
mod charts_drawn;
mod config;
mod explore;
mod factor;
mod faults;
mod figures;
mod guard;
mod instance;
mod layout;
mod lists;
mod live;
mod login;
mod logs;
mod machine;
mod objective;
mod overview;
mod overview_map;
mod pages;
mod past;
mod peer;
mod route;
mod service;
mod session;
mod shapes;
#[cfg(test)]
mod testing;
mod throttle;
mod traces;
mod traces_list;
mod traces_waterfall;
mod visitor;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::Uri;
use axum::middleware;
use terrace_telemetry::Handle;

use crate::audit::Audit;
use crate::control::{Control, ControlError};

pub(crate) use factor::{SecondFactor, Shown};
pub(crate) use guard::guard_headers;
pub(crate) use session::{CODE_LASTS, Sessions};

/// Forms are small; a larger one is refused.
const FORM_BYTES_MAX: usize = 64 << 10;

/// What pages are made of. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Dashboard {
    /// What runs, and what can be done with it.
    pub(crate) control: Arc<dyn Control>,
    /// Numbers, traces, records, alerts.
    pub(crate) telemetry: Handle,
    pub(crate) audit: Audit,
    pub(crate) sessions: Arc<Sessions>,
    live: live::Live,
}

impl Dashboard {
    pub(crate) fn new(
        control: Arc<dyn Control>,
        telemetry: Handle,
        audit: Audit,
        sessions: &Arc<Sessions>,
    ) -> Self {
        let live = live::Live::new(Arc::clone(&control), telemetry.clone());
        Self { control, telemetry, audit, sessions: Arc::clone(sessions), live }
    }
}

/// All pages, to be served on the loopback face with what its gate knows of the caller in each request's extensions.
pub(crate) fn router(dashboard: Dashboard) -> Router {
    Router::new()
        .merge(login::router())
        .merge(overview::router())
        .merge(route::router())
        .merge(service::router())
        .merge(instance::router())
        .merge(objective::router())
        .merge(lists::router())
        .merge(machine::router())
        .merge(traces::router())
        .merge(explore::router())
        .merge(pages::router())
        .merge(logs::router())
        .merge(alerts::router())
        .merge(config::router())
        .merge(audit::router())
        .merge(actions::router())
        .merge(live::router())
        .merge(assets::router())
        .fallback(nothing_here)
        .method_not_allowed_fallback(nothing_here)
        .layer(middleware::from_fn_with_state(dashboard.clone(), guard::guard))
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .with_state(dashboard)
}

async fn nothing_here(uri: Uri) -> ControlError {
    ControlError::not_found(format!("There is no page at {}.", uri.path()))
}

//! Who looks at a page: put into the request by the guard, taken out by handlers as an argument.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use maud::{Markup, html};

use crate::config::Role;
use crate::control::ControlError;
use crate::gate;

use super::session::{Flash, Session};

/// Somebody signed in.
#[derive(Debug, Clone)]
pub(crate) struct Visitor {
    pub(crate) role: Role,
    pub(crate) session: Session,
    /// Path and query of the page, to come back to after an action.
    pub(crate) here: String,
    /// A message that an action left.
    pub(crate) flash: Option<Flash>,
    /// Alerts that fire now: page, ticket.
    pub(crate) firing: [usize; 2],
    csrf: String,
}

impl Visitor {
    pub(super) fn new(session: Session, csrf: String, here: String) -> Self {
        Self { role: session.role, session, here, flash: None, firing: [0, 0], csrf }
    }

    /// Whether to show what changes something.
    pub(crate) fn may_act(&self) -> bool {
        self.role == Role::Operator
    }

    /// What scripts send as `X-CSRF-Token`.
    pub(crate) fn csrf(&self) -> &str {
        &self.csrf
    }

    /// What every form with `method="post"` must contain: the CSRF token, and where to come back to.
    pub(crate) fn form_fields(&self) -> Markup {
        html! {
            input type="hidden" name="csrf" value=(self.csrf);
            input type="hidden" name="back" value=(self.here);
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Visitor {
    type Rejection = ControlError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ControlError> {
        parts.extensions.get::<Self>().cloned().ok_or_else(gate::nobody)
    }
}

//! What an operator can do, and the forms to do it with.
//!
//! Each action is a form that works without a script: it is sent, and one comes back to the page one was on, with a
//! message. A script sends it in the background and is answered in JSON. What hurts when done by mistake (a restart, fewer
//! instances, an instance out of rotation) is asked back first, here and nowhere else: as a page with the same
//! fields, or to a script as `{"confirm": "…"}`, upon which the form is sent again with `confirmed=yes`.
//!
//! Everything is carried out by [`Control`] or telemetry, and noted in the audit log with who asked for it.

use std::time::Duration;

use axum::Router;
use axum::extract::{Extension, FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use maud::{Markup, html};
use serde_json::{Value, json};
use terrace_signals::alerts::AlertView;

use crate::api::{INSTANCES_MAX, Outcome, carry_out, service_name};
use crate::audit::Change;
use crate::control::ControlError;
use crate::gate::Caller;
use crate::map::Service;

use super::Dashboard;
use super::figures;
use super::guard::{Fields, local_place, see_other, set_cookie, wants_json};
use super::layout::{self, Nav};
use super::session::Flash;
use super::visitor::Visitor;

/// An instance's name, an alert's id, a receiver's name: longer is none of ours.
const NAME_BYTES_MAX: usize = 200;
const COMMENT_BYTES_MAX: usize = 500;
/// How long an answer waits for an action's end. A rollout takes minutes; it goes on when nobody waits for it, and the
/// service's page shows how far it is.
const PATIENCE: Duration = Duration::from_secs(2);
/// The same for what is over soon, or matters only by its outcome.
const PATIENCE_TO_THE_END: Duration = Duration::from_secs(60);

pub(super) fn router() -> Router<Dashboard> {
    Router::new()
        .route("/services/{name}/scale", post(scale))
        .route("/services/{name}/restart", post(restart))
        .route("/services/{name}/instances/{instance}/drain", post(drain))
        .route("/silences", post(silence))
        .route("/silences/end", post(unsilence))
        .route("/receivers/test", post(test_receivers))
        .route("/faults/end", post(end_fault))
        .route("/reload", post(reload))
}

// ── the forms ──

/// Sets how many instances a service has; nothing for a viewer, or where there is nothing to scale.
pub(crate) fn scale_form(visitor: &Visitor, service: &Service) -> Markup {
    html! {
        @if visitor.may_act() && service.is_managed {
            form.inline method="post" action={ "/services/" (service.name) "/scale" } data-action {
                (visitor.form_fields())
                label.field {
                    "Instances"
                    input type="number" name="instances" min="0" max=(INSTANCES_MAX) value=(service.desired) required;
                }
                button type="submit" { "Scale" }
            }
        }
    }
}

/// Replaces a service's instances one by one.
pub(crate) fn restart_form(visitor: &Visitor, service: &Service) -> Markup {
    html! {
        @if visitor.may_act() && service.is_managed {
            form.inline method="post" action={ "/services/" (service.name) "/restart" } data-action {
                (visitor.form_fields())
                button type="submit" { "Restart" }
            }
        }
    }
}

/// Takes an instance out of rotation, or lets it in again.
pub(crate) fn drain_form(visitor: &Visitor, service: &str, instance: &str, is_drained: bool) -> Markup {
    let (out, label) = if is_drained { ("no", "Let in again") } else { ("yes", "Drain") };
    html! {
        @if visitor.may_act() {
            form.inline method="post" action={ "/services/" (service) "/instances/" (layout::escape_query(instance)) "/drain" } data-action {
                (visitor.form_fields())
                input type="hidden" name="out" value=(out);
                button type="submit" { (label) span.visually-hidden { " " (instance) } }
            }
        }
    }
}

/// How long silences may last, as they are offered.
const SILENCE_CHOICES: &[(&str, &str)] =
    &[("30m", "30 min"), ("2h", "2 h"), ("8h", "8 h"), ("1d", "1 day"), ("7d", "7 days")];

/// Keeps an objective, a rule or one alert quiet for a while: what it may be, as the target and a name for people, the most
/// likely first.
pub(crate) fn silence_form(visitor: &Visitor, targets: &[(&str, &str)]) -> Markup {
    let first = targets.first().map(|(_, name)| *name).unwrap_or_default();
    html! {
        @if visitor.may_act() {
            details.popover {
                summary.button { "Silence…" span.visually-hidden { " " (first) } }
                form.panel.stack method="post" action="/silences" data-action data-refresh {
                    (visitor.form_fields())
                    @if let [(target, _)] = targets { input type="hidden" name="target" value=(target); }
                    @else {
                        label.field {
                            "What"
                            select name="target" { @for (target, name) in targets { option value=(target) { (name) } } }
                        }
                    }
                    (silence_fields())
                    button.primary type="submit" { "Silence" span.visually-hidden { " " (first) } }
                }
            }
        }
    }
}

/// For how long, and why.
fn silence_fields() -> Markup {
    html! {
        label.field {
            "For"
            select name="lasts" {
                @for (value, text) in SILENCE_CHOICES {
                    option value=(value) selected[*value == "2h"] { (text) }
                }
            }
        }
        label.field { "Why" input type="text" name="comment" maxlength=(COMMENT_BYTES_MAX) placeholder="deploying the new checkout"; }
    }
}

/// Ends a fault on purpose before its time.
pub(crate) fn end_fault_form(visitor: &Visitor, id: u64, route: &str) -> Markup {
    html! {
        @if visitor.may_act() {
            form.inline method="post" action="/faults/end" data-action data-refresh {
                (visitor.form_fields())
                input type="hidden" name="id" value=(id);
                button type="submit" { "End" span.visually-hidden { " the fault on route " (route) } }
            }
        }
    }
}

// ── what they do ──

async fn scale(
    State(dashboard): State<Dashboard>,
    Path(name): Path<String>,
    asked: Asked,
) -> Result<Response, ControlError> {
    let service = service_name(name)?;
    let instances = wanted_instances(&asked.fields)?;
    let now = dashboard.control.map().await?;
    let desired = now.services.iter().find(|known| known.name == service).map(|known| known.desired);
    if let Some(desired) = desired.filter(|desired| instances < *desired) {
        let question = format!(
            "Scale {service} down from {desired} to {instances}? The instances taken away finish their requests first."
        );
        if let Some(asked_back) = asked.confirm(&question) {
            return Ok(asked_back);
        }
    }
    let change = Change::new(asked.caller, "scale").service(service.as_str()).instances(instances);
    let wanted = figures::plural(u64::from(instances), "instance");
    let done = Done::begun(format!("{service} is to have {wanted} now."));
    let control = dashboard.control.clone();
    let outcome = Box::pin(async move { control.scale(service, instances).await });
    asked.carry_out(&dashboard, change, outcome, done).await
}

fn wanted_instances(fields: &Fields) -> Result<u32, ControlError> {
    let given = fields.get("instances").unwrap_or_default();
    match given.parse() {
        Ok(instances) if instances <= INSTANCES_MAX => Ok(instances),
        _ => Err(ControlError::invalid(format!(
            "The number of instances must be between 0 and {INSTANCES_MAX}, not {given:?}."
        ))),
    }
}

async fn restart(
    State(dashboard): State<Dashboard>,
    Path(name): Path<String>,
    asked: Asked,
) -> Result<Response, ControlError> {
    let service = service_name(name)?;
    let question =
        format!("Restart {service}? Its instances are replaced one by one; requests go on being served.");
    if let Some(asked_back) = asked.confirm(&question) {
        return Ok(asked_back);
    }
    let change = Change::new(asked.caller, "restart").service(service.as_str());
    let done = Done::begun(format!("{service} is being restarted, one instance after the other."));
    let control = dashboard.control.clone();
    let outcome = Box::pin(async move { control.restart(service).await });
    asked.carry_out(&dashboard, change, outcome, done).await
}

async fn drain(
    State(dashboard): State<Dashboard>,
    Path((service, instance)): Path<(String, String)>,
    asked: Asked,
) -> Result<Response, ControlError> {
    let service = service_name(service)?;
    let instance = name(Some(&instance), "instance")?;
    let is_out = asked.fields.get("out") == Some("yes");
    let question = format!(
        "Take {instance} out of rotation? It finishes its requests and gets no new ones until it is let in again or replaced."
    );
    if is_out && let Some(asked_back) = asked.confirm(&question) {
        return Ok(asked_back);
    }
    let (action, done) = match is_out {
        true => ("drain", Done::ended(format!("{instance} gets no new requests."))),
        false => ("undrain", Done::ended(format!("{instance} gets requests again."))),
    };
    let change = Change::new(asked.caller, action).service(service.as_str()).target(instance.as_str());
    let control = dashboard.control.clone();
    let outcome = Box::pin(async move { control.drain(service, instance, is_out).await });
    asked.carry_out(&dashboard, change, outcome, done).await
}

async fn silence(State(dashboard): State<Dashboard>, asked: Asked) -> Result<Response, ControlError> {
    let target = name(asked.fields.get("target"), "objective, rule or alert")?;
    let lasts = duration(asked.fields.get("lasts").unwrap_or_default())?;
    let comment = asked.fields.get("comment").unwrap_or_default();
    if comment.len() > COMMENT_BYTES_MAX {
        return Err(ControlError::invalid(format!("The reason is longer than {COMMENT_BYTES_MAX} bytes.")));
    }
    let by = format!("dashboard {}", asked.visitor.role.as_str());
    let called = called(&dashboard.telemetry.alerts(), &target);
    let change = Change::new(asked.caller, "silence").target(called.as_str());
    let done = Done::ended(format!("Nobody is told about {called} for {}.", figures::words(lasts)));
    let (telemetry, comment) = (dashboard.telemetry.clone(), comment.to_owned());
    let outcome = Box::pin(async move {
        let begun = telemetry.silence(&target, lasts, &comment, &by).await;
        let (silence, is_kept) = begun.map_err(ControlError::invalid)?;
        Ok(json!({ "id": silence.id, "but": unless_kept(is_kept) }))
    });
    asked.carry_out(&dashboard, change, outcome, done).await
}

/// What is said besides where the state folder took nothing.
fn unless_kept(is_kept: bool) -> Option<&'static str> {
    match is_kept {
        true => None,
        false => Some("The state folder cannot be written, so a restart will forget that."),
    }
}

/// What people call a silence's target: an alert has an id that says nothing.
fn called(alerts: &[AlertView], target: &str) -> String {
    match alerts.iter().find(|alert| alert.id == target) {
        Some(alert) if !alert.detail.is_empty() => format!("{} ({})", alert.name, alert.detail),
        Some(alert) => alert.name.clone(),
        None => target.to_owned(),
    }
}

async fn unsilence(State(dashboard): State<Dashboard>, asked: Asked) -> Result<Response, ControlError> {
    let id = name(asked.fields.get("id"), "silence")?;
    let telemetry = dashboard.telemetry.clone();
    let silence = telemetry.silences().into_iter().find(|silence| silence.id == id);
    let target = silence.map_or_else(|| id.clone(), |silence| called(&telemetry.alerts(), &silence.target));
    let change = Change::new(asked.caller, "unsilence").target(target);
    let outcome = Box::pin(async move {
        match telemetry.unsilence(&id).await {
            Some(is_kept) => Ok(json!({ "but": unless_kept(is_kept) })),
            None => Err(ControlError::not_found("That silence is over already.")),
        }
    });
    asked.carry_out(&dashboard, change, outcome, Done::ended("The silence is over.")).await
}

async fn end_fault(State(dashboard): State<Dashboard>, asked: Asked) -> Result<Response, ControlError> {
    let id = name(asked.fields.get("id"), "fault")?;
    let change = Change::new(asked.caller, "end-fault").target(id.as_str());
    let control = dashboard.control.clone();
    let outcome = Box::pin(async move { Ok(json!({ "ended": control.end_faults(id).await? })) });
    asked.carry_out(&dashboard, change, outcome, Done::ended("The fault is over.")).await
}

async fn test_receivers(State(dashboard): State<Dashboard>, asked: Asked) -> Result<Response, ControlError> {
    let receiver = match asked.fields.get("name") {
        Some(given) => Some(name(Some(given), "receiver")?),
        None => None,
    };
    let mut change = Change::new(asked.caller, "test-receivers");
    change.target.clone_from(&receiver);
    let telemetry = dashboard.telemetry.clone();
    let outcome = Box::pin(async move { told(&telemetry.test_receivers(receiver.as_deref()).await) });
    asked.carry_out(&dashboard, change, outcome, Done::ended("The test alert was delivered.")).await
}

/// What came of a test: an error when one receiver was not reached.
fn told(results: &[(String, Result<(), String>)]) -> Result<Value, ControlError> {
    if results.is_empty() {
        return Err(ControlError::not_found("There is no such receiver; [notify.…] in the file makes one."));
    }
    let failed: Vec<_> = results
        .iter()
        .filter_map(|(name, result)| result.as_ref().err().map(|why| format!("{name}: {why}")))
        .collect();
    match failed.is_empty() {
        true => Ok(json!({})),
        false => Err(ControlError::new(502, "Not delivered", failed.join("; "), true)),
    }
}

async fn reload(State(dashboard): State<Dashboard>, asked: Asked) -> Result<Response, ControlError> {
    let change = Change::new(asked.caller, "reload");
    let control = dashboard.control.clone();
    let outcome = Box::pin(async move { control.reload(None).await });
    asked.carry_out(&dashboard, change, outcome, Done::ended("The file was read anew and is in force.")).await
}

// ── common to all ──

/// An action as it was asked for; what [`super::guard`] let through.
struct Asked {
    visitor: Visitor,
    caller: Caller,
    fields: Fields,
    place: String,
    by_script: bool,
}

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = ControlError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ControlError> {
        let visitor = Visitor::from_request_parts(parts, state).await?;
        let Extension(caller) = extension::<Caller, S>(parts, state).await?;
        let Extension(fields) = extension::<Fields, S>(parts, state).await?;
        let (place, by_script) = (parts.uri.path().to_owned(), wants_json(&parts.headers));
        Ok(Self { visitor, caller, fields, place, by_script })
    }
}

async fn extension<T: Clone + Send + Sync + 'static, S: Send + Sync>(
    parts: &mut Parts,
    state: &S,
) -> Result<Extension<T>, ControlError> {
    let found = Extension::<T>::from_request_parts(parts, state).await;
    found.map_err(|_| ControlError::failed("An action came past the guard."))
}

impl Asked {
    /// Asks back whether that is meant; `None` when it was said already.
    fn confirm(&self, question: &str) -> Option<Response> {
        if self.fields.get("confirmed") == Some("yes") {
            return None;
        }
        if self.by_script {
            return Some(answer_json(&json!({ "confirm": question })));
        }
        let content = html! {
            div.page-head { div { h1 { "Are you sure?" } p.sub { (question) } } }
            form.actions method="post" action=(self.place) {
                input type="hidden" name="csrf" value=(self.visitor.csrf());
                input type="hidden" name="back" value=(self.back());
                @for (name, value) in self.fields.others() { input type="hidden" name=(name) value=(value); }
                input type="hidden" name="confirmed" value="yes";
                button.primary type="submit" autofocus { "Go ahead" }
                a.button href=(self.back()) { "Cancel" }
            }
        };
        Some(layout::page("Are you sure?", &self.visitor, Nav::Elsewhere, content))
    }

    fn back(&self) -> &str {
        local_place(self.fields.get("back"))
    }

    /// Carries it out, notes it, and says how it went where it was asked for; `done` is said when it went well, or goes on, with
    /// what the outcome calls `but`.
    async fn carry_out(
        self,
        dashboard: &Dashboard,
        change: Change,
        outcome: Outcome,
        mut done: Done,
    ) -> Result<Response, ControlError> {
        let carried_out = carry_out(dashboard.audit.clone(), change, outcome);
        // It is carried out to its end also when nobody waits for it any more.
        let problem = match tokio::time::timeout(done.patience, carried_out).await {
            Ok(Ok(value)) => {
                done.but(&value);
                None
            }
            Ok(Err(problem)) => Some(problem),
            Err(_) => done.late(),
        };
        let flash = match (&problem, self.by_script) {
            (Some(problem), true) => return Ok(problem.clone().into_response()),
            (None, true) => return Ok(answer_json(&json!({ "message": done.text }))),
            (Some(problem), false) => Flash { is_good: false, text: problem.detail.clone() },
            (None, false) => Flash { is_good: true, text: done.text },
        };
        let mut response = see_other(self.back());
        if let Some(cookie) = dashboard.sessions.flash(&self.visitor.session, &flash) {
            set_cookie(&mut response, &cookie);
        }
        Ok(response)
    }
}

/// What is said of an action that went well, and how long its answer waits to know.
struct Done {
    text: String,
    patience: Duration,
}

impl Done {
    /// Of one that may go on after the answer.
    fn begun(text: String) -> Self {
        Self { text, patience: PATIENCE }
    }

    /// Of one whose end matters.
    fn ended(text: impl Into<String>) -> Self {
        Self { text: text.into(), patience: PATIENCE_TO_THE_END }
    }

    /// Adds what is to be said besides.
    fn but(&mut self, value: &Value) {
        if let Some(more) = value["but"].as_str() {
            self.text.push(' ');
            self.text.push_str(more);
        }
    }

    /// What is wrong with it not being over when patience is.
    fn late(&self) -> Option<ControlError> {
        if self.patience < PATIENCE_TO_THE_END {
            return None;
        }
        Some(ControlError::new(504, "Not over yet", "It goes on. The audit page tells how it ends.", false))
    }
}

fn answer_json(value: &Value) -> Response {
    let json = HeaderValue::from_static("application/json");
    (StatusCode::OK, [(header::CONTENT_TYPE, json)], value.to_string()).into_response()
}

fn name(given: Option<&str>, what: &str) -> Result<String, ControlError> {
    match given {
        Some(name) if name.len() <= NAME_BYTES_MAX && !name.contains(char::is_control) => Ok(name.to_owned()),
        _ => Err(ControlError::invalid(format!("That is not the name of an {what}."))),
    }
}

/// `30m`, `2h`, `1d`: as the file writes it, with one unit.
fn duration(text: &str) -> Result<Duration, ControlError> {
    let number = text.get(..text.len().saturating_sub(1)).and_then(|digits| digits.parse::<u32>().ok());
    let unit_seconds = match text.bytes().last() {
        Some(b's') => 1,
        Some(b'm') => 60,
        Some(b'h') => 3_600,
        Some(b'd') => 86_400,
        _ => 0,
    };
    match number {
        Some(number) if number > 0 && unit_seconds > 0 => {
            Ok(Duration::from_secs(u64::from(number) * unit_seconds))
        }
        _ => Err(ControlError::invalid(format!("{text:?} is no time span; write 30m, 2h or 1d."))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_span_is_a_number_and_a_unit() {
        for (text, seconds) in [("45s", 45), ("30m", 1_800), ("2h", 7_200), ("7d", 604_800)] {
            assert_eq!(duration(text).unwrap().as_secs(), seconds);
        }
        for text in ["", "m", "0m", "-1h", "2", "2 weeks", "2µ", "99999999999d"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn one_receiver_that_was_not_reached_makes_a_test_fail() {
        assert_eq!(told(&[]).unwrap_err().status, 404);
        assert!(told(&[("oncall".to_owned(), Ok(()))]).is_ok());
        let mixed = [("oncall".to_owned(), Ok(())), ("mail".to_owned(), Err("timed out".to_owned()))];
        assert_eq!(told(&mixed).unwrap_err().detail, "mail: timed out");
    }
}

//! Switches to make an instance slow or failing on purpose, so that what stands around the shop has something to do.
//!
//! A setting made at run time is a lease: it ends by itself, so that nobody leaves a broken shop behind.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::log;
use crate::problem::Problem;
use crate::random;

/// A delay longer than this would only be a hole.
const DELAY_MAX: Duration = Duration::from_secs(60);
/// How often who keeps silent looks whether that is over.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The longest lease.
const LEASE_MAX: Duration = Duration::from_secs(600);
const LEASE_DEFAULT: Duration = Duration::from_secs(60);

/// How this instance misbehaves just now.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Setting {
    delay: Duration,
    fail_share: f64,
    /// Of what is done, this share is told to nobody.
    mute_share: f64,
    unhealthy: bool,
}

/// A cheap handle to the switch of this instance.
#[derive(Clone)]
pub(crate) struct Switch {
    base: Setting,
    lease: Arc<Mutex<Option<(Setting, Instant)>>>,
}

/// What `POST /switch` understands; leaving all out ends the lease.
#[derive(Deserialize)]
struct Wanted {
    delay: Option<String>,
    fail: Option<String>,
    mute: Option<String>,
    health: Option<String>,
    r#for: Option<String>,
}

#[derive(Serialize)]
struct Shown {
    delay_ms: i64,
    fail: String,
    mute: String,
    health: &'static str,
    /// Until the lease ends; absent when what holds is what the instance was started with.
    left_ms: Option<i64>,
}

impl Switch {
    /// A switch that falls back to `delay` and `fail_share`.
    pub(crate) fn new(delay: Option<Duration>, fail_share: Option<f64>) -> Self {
        let delay = delay.unwrap_or_default().min(DELAY_MAX);
        let base = Setting { delay, fail_share: fail_share.unwrap_or_default(), ..Setting::default() };
        Self { base, lease: Arc::new(Mutex::new(None)) }
    }

    /// Waits as long as set, then says whether this request is to fail.
    pub(crate) async fn interfere(&self) -> Option<Problem> {
        let (setting, _) = self.current();
        if !setting.delay.is_zero() {
            tokio::time::sleep(setting.delay).await;
        }
        if setting.fail_share > 0.0 && random::chance() < setting.fail_share {
            return Some(Problem::unavailable("This instance was told to fail; try again."));
        }
        None
    }

    /// Where the work is done and it is to be told to nobody, waits until the setting is over: the worst that can happen to
    /// whoever must not do a thing twice.
    pub(crate) async fn keep_silent(&self) {
        if random::chance() >= self.current().0.mute_share {
            return;
        }
        let begun = clock::now();
        while self.current().0.mute_share > 0.0 && begun.elapsed() < DELAY_MAX {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Whether the instance was told to call itself unhealthy.
    pub(crate) fn is_unhealthy(&self) -> bool {
        self.current().0.unhealthy
    }

    /// The setting that holds, and what is left of its lease.
    fn current(&self) -> (Setting, Option<Duration>) {
        let mut lease = self.lease.lock().expect("nobody panics while holding the lease");
        let now = clock::now();
        match *lease {
            Some((setting, until)) if until > now => (setting, Some(until - now)),
            _ => {
                *lease = None;
                (self.base, None)
            }
        }
    }

    fn set(&self, lease: Option<(Setting, Instant)>) {
        *self.lease.lock().expect("nobody panics while holding the lease") = lease;
    }

    fn show(&self) -> Json<Shown> {
        let (setting, left) = self.current();
        Json(Shown {
            delay_ms: clock::millis(setting.delay),
            fail: format!("{}%", setting.fail_share * 100.0),
            mute: format!("{}%", setting.mute_share * 100.0),
            health: if setting.unhealthy { "down" } else { "up" },
            left_ms: left.map(clock::millis),
        })
    }
}

/// `GET /switch` shows, `POST /switch?delay=300ms&fail=30%&mute=5%&health=down&for=60s` sets.
pub(crate) fn routes(switch: Switch) -> Router {
    Router::new().route("/switch", get(show).post(set)).with_state(switch)
}

async fn show(State(switch): State<Switch>, headers: HeaderMap) -> Result<Json<Shown>, Problem> {
    refuse_strangers(&headers)?;
    Ok(switch.show())
}

async fn set(
    State(switch): State<Switch>,
    headers: HeaderMap,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Shown>, Problem> {
    refuse_strangers(&headers)?;
    let lease = wanted.lease().map_err(Problem::invalid)?;
    switch.set(lease);
    let shown = switch.show();
    log::warn("switch.set", serde_json::json!({ "switch": &shown.0 }));
    Ok(shown)
}

impl Wanted {
    fn lease(&self) -> Result<Option<(Setting, Instant)>, String> {
        let is_empty = [&self.delay, &self.fail, &self.mute, &self.health].iter().all(|wish| wish.is_none());
        if is_empty {
            return Ok(None);
        }
        let mut setting = Setting::default();
        if let Some(text) = &self.delay {
            setting.delay = clock::parse_duration(text)?.min(DELAY_MAX);
        }
        if let Some(text) = &self.fail {
            setting.fail_share = parse_share(text)?;
        }
        if let Some(text) = &self.mute {
            setting.mute_share = parse_share(text)?;
        }
        setting.unhealthy = match self.health.as_deref() {
            None | Some("up") => false,
            Some("down") => true,
            Some(other) => return Err(format!("health is 'up' or 'down', not '{other}'")),
        };
        let lease = match &self.r#for {
            Some(text) => clock::parse_duration(text)?.min(LEASE_MAX),
            None => LEASE_DEFAULT,
        };
        Ok(Some((setting, clock::now() + lease)))
    }
}

/// Services listen on loopback alone, but a proxy or a browser on this machine calls from loopback too, on behalf of
/// somebody who may be anywhere. Both leave a mark in the headers.
fn refuse_strangers(headers: &HeaderMap) -> Result<(), Problem> {
    const MARKS: [&str; 5] = ["via", "forwarded", "x-forwarded-for", "origin", "sec-fetch-site"];
    if MARKS.iter().any(|mark| headers.contains_key(*mark)) {
        return Err(Problem::forbidden(
            "The switch answers only direct callers on this machine, e.g. curl to the instance's own port.",
        ));
    }
    Ok(())
}

/// Reads `"30%"` into 0.3.
pub(crate) fn parse_share(text: &str) -> Result<f64, String> {
    let wrong = || format!("'{text}' is no share; write it like 30%");
    // `fail=30%` typed into a query loses nothing: a lone percent sign is passed through undecoded.
    let digits = text.strip_suffix('%').ok_or_else(wrong)?;
    match digits.parse::<f64>() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent / 100.0),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_percentages() {
        assert_eq!(parse_share("30%"), Ok(0.3));
        assert_eq!(parse_share("0%"), Ok(0.0));
        for wrong in ["", "30", "%", "101%", "-1%", "NaN%", "inf%"] {
            assert!(parse_share(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_lease_ends_by_itself_and_the_start_setting_comes_back() {
        let switch = Switch::new(None, Some(0.25));
        let broken = Setting { fail_share: 1.0, ..Setting::default() };
        switch.set(Some((broken, clock::now() + Duration::from_secs(60))));
        assert_eq!(switch.current().0, broken);
        switch.set(Some((broken, clock::now())));
        assert_eq!(switch.current(), (Setting { fail_share: 0.25, ..Setting::default() }, None));
    }

    #[test]
    fn callers_behind_a_proxy_or_in_a_browser_may_not_touch_the_switch() {
        assert!(refuse_strangers(&HeaderMap::new()).is_ok());
        for mark in ["via", "x-forwarded-for", "origin"] {
            let mut headers = HeaderMap::new();
            headers.insert(mark, "x".parse().unwrap());
            assert!(refuse_strangers(&headers).is_err(), "{mark}");
        }
    }
}

//! One alert's life: the condition holds (pending), holds for long enough (firing), holds no more (resolved).
//!
//! What is not known neither fires nor clears at once: a firing alert of which nothing is heard stays for five minutes,
//! and one that comes back after a restart stays until there was time to see for itself. Only the engine's own clock
//! decides, which no jump of the wall clock moves; wall times are for people.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{AlertState, SILENCE_MAX, Severity, Subject};

/// A firing alert of which nothing is known is over after that long (as long as Prometheus looks back for a sample).
const STALE_AFTER: Duration = Duration::from_secs(300);
/// A firing alert that was brought over a restart cannot end sooner: the short window of a page has to fill first.
const RESTORED_HOLD: Duration = Duration::from_secs(300);
/// An alert without notes is looked at once more after that long.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(600);
/// A resolved alert is shown that long.
const RESOLVED_KEPT: Duration = Duration::from_secs(24 * 3_600);
/// … and one of which somebody still believes that it fires, for they were not told of its end (a silence, or their own fault), is
/// kept for as long as a silence can last and a day.
const UNTOLD_KEPT: Duration = SILENCE_MAX.saturating_add(RESOLVED_KEPT);
/// Alerts kept at most, whatever the rules find; further ones are counted and not raised.
pub(crate) const ALERTS_MAX: usize = 2_000;

/// What raised an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Origin {
    Objective,
    Threshold,
}

/// What tells an alert from all others, and what is said of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// Hash of name and labels.
    pub(crate) id: String,
    pub(crate) origin: Origin,
    /// Name of the objective or rule.
    pub(crate) name: String,
    /// Which rule or line.
    pub(crate) detail: String,
    /// Labels for those who are told.
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) severity: Severity,
    pub(crate) subject: Option<Subject>,
    /// Receivers by name; empty: all.
    pub(crate) notify: Vec<String>,
}

/// Whether a rule's condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Holds,
    Clear,
    /// There are no data.
    Unknown,
}

/// An alert, and where it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Alert {
    pub(crate) identity: Identity,
    pub(crate) state: AlertState,
    /// When it came into its state, by the engine's clock.
    pub(crate) since: Duration,
    /// The same for people.
    pub(crate) since_wall: SystemTime,
    /// When it began to fire, for people; with the id it tells one episode from the next.
    pub(crate) starts_at: SystemTime,
    /// When it last ended, if it is pending anew.
    ended: Option<(Duration, SystemTime)>,
    /// Last time the condition was known to hold.
    seen: Duration,
    /// It cannot end sooner.
    keep_until: Duration,
    pub(crate) value: f64,
    pub(crate) summary: String,
    pub(crate) notes: Vec<String>,
    /// Whether what is unusual was asked for anew after a while.
    asked_again: bool,
}

/// What an alert did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    Fired,
    Resolved,
}

/// All alerts by their ids.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Alerts {
    pub(crate) all: BTreeMap<String, Alert>,
    /// Findings that were one too many.
    pub(crate) refused: u64,
}

/// A moment: the engine's clock, and what people call it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) at: Duration,
    pub(crate) wall: SystemTime,
}

impl Alerts {
    /// Takes note of a verdict; `hold` is how long it must hold to fire. `identity` and `words` (the figure and the
    /// sentence) are asked for only when there is something to say.
    pub(crate) fn observe(
        &mut self,
        moment: Moment,
        id: &str,
        (verdict, hold): (Verdict, Duration),
        identity: impl FnOnce() -> Identity,
        words: impl FnOnce() -> (f64, String),
    ) -> Option<Turn> {
        if verdict != Verdict::Holds {
            return self.observe_calm(moment, id, verdict);
        }
        let (value, summary) = words();
        let full = !self.all.contains_key(id) && !self.has_room();
        let alert = match self.all.get_mut(id) {
            Some(alert) => alert,
            None if full => {
                self.refused = self.refused.saturating_add(1);
                return None;
            }
            None => self.all.entry(id.to_owned()).or_insert_with(|| Alert::pending(moment, identity())),
        };
        alert.holds(moment, hold, finite(value), summary)
    }

    /// Whether one more may be raised; the alert that ended longest ago gives way to it.
    fn has_room(&mut self) -> bool {
        if self.all.len() < ALERTS_MAX {
            return true;
        }
        let over = self.all.values().filter(|alert| alert.state == AlertState::Resolved);
        let oldest = over.min_by_key(|alert| alert.since).map(|alert| alert.identity.id.clone());
        oldest.is_some_and(|id| self.all.remove(&id).is_some())
    }

    fn observe_calm(&mut self, moment: Moment, id: &str, verdict: Verdict) -> Option<Turn> {
        let alert = self.all.get_mut(id)?;
        match alert.state {
            AlertState::Pending => {
                self.drop_pending(id);
                None
            }
            AlertState::Resolved => None,
            AlertState::Firing => {
                let stale_at = alert.seen.saturating_add(STALE_AFTER);
                let over = verdict == Verdict::Clear || moment.at >= stale_at;
                (over && moment.at >= alert.keep_until).then(|| alert.resolve(moment))
            }
        }
    }

    /// Ends an alert whose rule is gone.
    pub(crate) fn withdraw(&mut self, moment: Moment, id: &str) -> Option<Turn> {
        let alert = self.all.get_mut(id)?;
        match alert.state {
            AlertState::Firing => Some(alert.resolve(moment)),
            AlertState::Resolved => None,
            AlertState::Pending => {
                self.drop_pending(id);
                None
            }
        }
    }

    /// A pending alert that came to nothing is gone, or is again what it was: one that ended, of which not everybody
    /// may have been told yet.
    fn drop_pending(&mut self, id: &str) {
        let Some(alert) = self.all.get_mut(id) else { return };
        match alert.ended.take() {
            Some((since, wall)) => {
                alert.state = AlertState::Resolved;
                (alert.since, alert.since_wall) = (since, wall);
            }
            None => {
                self.all.remove(id);
            }
        }
    }

    /// Forgets what was resolved long ago. `is_owed`: whether somebody has yet to be told of an alert's end.
    pub(crate) fn forget(&mut self, at: Duration, is_owed: impl Fn(&Alert) -> bool) {
        self.all.retain(|_, alert| {
            let age = at.saturating_sub(alert.since);
            let is_kept = age < RESOLVED_KEPT || (age < UNTOLD_KEPT && is_owed(alert));
            alert.state != AlertState::Resolved || is_kept
        });
    }

    /// After a restart at `at`, `away` after the alerts were saved: nobody watched meanwhile, so that time counts for
    /// no alert's pending, and no firing one ends before it was looked at again.
    pub(crate) fn resume(&mut self, at: Duration, away: Duration) {
        for alert in self.all.values_mut() {
            match alert.state {
                AlertState::Pending => alert.since = alert.since.saturating_add(away).min(at),
                AlertState::Firing => {
                    alert.keep_until = at.saturating_add(RESTORED_HOLD);
                    alert.seen = at;
                }
                AlertState::Resolved => {}
            }
        }
    }

    pub(crate) fn firing(&self) -> impl Iterator<Item = &Alert> {
        self.all.values().filter(|alert| alert.state == AlertState::Firing)
    }
}

impl Alert {
    fn pending(moment: Moment, identity: Identity) -> Self {
        Self {
            identity,
            state: AlertState::Pending,
            since: moment.at,
            since_wall: moment.wall,
            starts_at: moment.wall,
            ended: None,
            seen: moment.at,
            keep_until: Duration::ZERO,
            value: 0.0,
            summary: String::new(),
            notes: Vec::new(),
            asked_again: false,
        }
    }

    fn holds(&mut self, moment: Moment, hold: Duration, value: f64, summary: String) -> Option<Turn> {
        (self.value, self.summary, self.seen) = (value, summary, moment.at);
        if self.state == AlertState::Resolved {
            self.ended = Some((self.since, self.since_wall));
            self.enter(AlertState::Pending, moment);
            self.notes.clear();
        }
        let due = self.since.saturating_add(hold) <= moment.at;
        if self.state == AlertState::Firing || !due {
            return None;
        }
        self.enter(AlertState::Firing, moment);
        (self.starts_at, self.ended, self.asked_again) = (moment.wall, None, false);
        Some(Turn::Fired)
    }

    /// Whether it is time to ask once more what is unusual: what is judged by five-minute means was not to be seen when
    /// the alert began. Says yes once.
    pub(crate) fn is_to_be_asked_again(&mut self, at: Duration) -> bool {
        let is_time = self.state == AlertState::Firing && at >= self.since.saturating_add(ASK_AGAIN_AFTER);
        is_time && self.notes.is_empty() && !std::mem::replace(&mut self.asked_again, true)
    }

    fn resolve(&mut self, moment: Moment) -> Turn {
        self.enter(AlertState::Resolved, moment);
        Turn::Resolved
    }

    fn enter(&mut self, state: AlertState, moment: Moment) {
        (self.state, self.since, self.since_wall) = (state, moment.at, moment.wall);
    }
}

/// JSON has no infinity, and state that cannot be read back would be lost whole.
fn finite(value: f64) -> f64 {
    if value.is_nan() { 0.0 } else { value.clamp(f64::MIN, f64::MAX) }
}

/// Sixteen hexadecimal digits that stand for these texts, the same in every build and on every machine (FNV-1a, 64 bit).
pub(crate) fn stable_id<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        // 0xff occurs in no text, so that ("a", "bc") and ("ab", "c") differ.
        for byte in part.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(seconds: u64) -> Moment {
        Moment {
            at: Duration::from_secs(seconds),
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
        }
    }

    fn identity() -> Identity {
        named("a")
    }

    fn named(id: &str) -> Identity {
        Identity {
            id: id.to_owned(),
            origin: Origin::Threshold,
            name: "orders".to_owned(),
            detail: String::new(),
            labels: Vec::new(),
            severity: Severity::Page,
            subject: None,
            notify: Vec::new(),
        }
    }

    fn observe(alerts: &mut Alerts, at: u64, verdict: Verdict) -> Option<Turn> {
        let hold = Duration::from_secs(10);
        alerts.observe(moment(at), "a", (verdict, hold), identity, || (f64::INFINITY, "too much".to_owned()))
    }

    #[test]
    fn an_alert_fires_when_its_condition_held_long_enough_and_not_sooner() {
        let mut alerts = Alerts::default();
        assert_eq!(observe(&mut alerts, 0, Verdict::Holds), None);
        assert_eq!(observe(&mut alerts, 9, Verdict::Holds), None);
        assert_eq!(observe(&mut alerts, 9, Verdict::Clear), None);
        assert_eq!(observe(&mut alerts, 10, Verdict::Holds), None, "it begins anew");
        assert_eq!(observe(&mut alerts, 20, Verdict::Holds), Some(Turn::Fired));
        assert_eq!(observe(&mut alerts, 21, Verdict::Holds), None, "once");
        assert_eq!(observe(&mut alerts, 22, Verdict::Clear), Some(Turn::Resolved));
    }

    #[test]
    fn a_firing_alert_of_which_nothing_is_heard_stays_for_five_minutes() {
        let mut alerts = Alerts::default();
        observe(&mut alerts, 0, Verdict::Holds);
        observe(&mut alerts, 10, Verdict::Holds);
        assert_eq!(observe(&mut alerts, 309, Verdict::Unknown), None);
        assert_eq!(observe(&mut alerts, 310, Verdict::Unknown), Some(Turn::Resolved));
    }

    #[test]
    fn what_fired_before_a_restart_fires_after_it_and_ends_only_on_evidence() {
        let mut alerts = Alerts::default();
        observe(&mut alerts, 0, Verdict::Holds);
        observe(&mut alerts, 10, Verdict::Holds);
        let json = serde_json::to_string(&alerts).unwrap();
        let mut alerts: Alerts = serde_json::from_str(&json).unwrap();
        alerts.resume(Duration::from_secs(1_000), Duration::from_secs(980));
        assert_eq!(observe(&mut alerts, 1_001, Verdict::Clear), None);
        assert_eq!(observe(&mut alerts, 1_300, Verdict::Clear), Some(Turn::Resolved));
    }

    #[test]
    fn time_away_does_not_make_a_pending_alert_fire() {
        let mut alerts = Alerts::default();
        observe(&mut alerts, 0, Verdict::Holds);
        observe(&mut alerts, 4, Verdict::Holds);
        alerts.resume(Duration::from_secs(1_004), Duration::from_secs(1_000));
        assert_eq!(observe(&mut alerts, 1_005, Verdict::Holds), None);
        assert_eq!(observe(&mut alerts, 1_010, Verdict::Holds), Some(Turn::Fired));
    }

    #[test]
    fn alerts_are_bounded_and_what_was_too_much_is_counted() {
        let mut alerts = Alerts::default();
        for number in 0..ALERTS_MAX + 3 {
            let id = number.to_string();
            let verdict = (Verdict::Holds, Duration::ZERO);
            alerts.observe(moment(0), &id, verdict, || named(&id), || (0.0, String::new()));
        }
        assert_eq!((alerts.all.len(), alerts.refused), (ALERTS_MAX, 3));
        let clear = (Verdict::Clear, Duration::ZERO);
        alerts.observe(moment(1), "7", clear, || named("7"), || (0.0, String::new()));
        let holds = (Verdict::Holds, Duration::ZERO);
        let fired = alerts.observe(moment(2), "new", holds, || named("new"), || (0.0, String::new()));
        assert_eq!(fired, Some(Turn::Fired), "what ended gives way");
        assert!(alerts.all.len() == ALERTS_MAX && !alerts.all.contains_key("7"));
    }

    #[test]
    fn ids_are_the_same_for_ever_and_tell_borders_apart() {
        assert_eq!(stable_id(["checkout", "success"]), stable_id(["checkout", "success"]));
        assert_ne!(stable_id(["a", "bc"]), stable_id(["ab", "c"]));
        assert_eq!(stable_id([]), "cbf29ce484222325");
    }
}

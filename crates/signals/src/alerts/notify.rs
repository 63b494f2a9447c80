//! Who is told what, and when.
//!
//! Alerts of one name go to a receiver together: the first waits a moment for others (`group-wait`), what changes
//! later waits until five minutes after the last word unless it is graver than all that was told, and what goes on is
//! told again after `repeat`. So a flapping alert costs a receiver a message every five minutes, not one a flap.
//!
//! What a receiver was told is remembered, not what was sent: after a restart nobody is told twice, and nothing that
//! was under way is lost. A group has at most one message under way. What changes meanwhile waits and goes with the
//! next, so a receiver that is down for a day owes us one message a group, and no queue grows.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::alert::{Alert, Alerts};
use super::silence::Silences;
use super::{AlertState, Severity, Subject};

/// Between two messages about changes of one group, and before one that failed is tried anew.
pub const GROUP_INTERVAL: Duration = Duration::from_secs(300);
/// Alerts in one message; the gravest and oldest first.
const ALERTS_TOLD_MAX: usize = 200;

/// Whom alerts may be told, as far as the decision goes.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// The receiver's name.
    pub receiver: String,
    /// Only alerts that matter at least so much.
    pub severity_min: Severity,
    /// Whether it is told when an alert is over.
    pub resolved: bool,
    /// So long the first alerts of a group wait for others.
    pub group_wait: Duration,
    /// An alert that goes on is told again after that long.
    pub repeat: Duration,
}

/// A message to one receiver about the alerts of one name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notification {
    /// To say what became of it.
    pub id: u64,
    /// The receiver's name.
    pub receiver: String,
    /// Name of the objective or rule.
    pub name: String,
    /// Never empty.
    pub alerts: Vec<Told>,
    /// Alerts of the group that did not fit.
    pub left_out: usize,
}

impl Notification {
    /// Whether any of its alerts fires.
    pub fn is_firing(&self) -> bool {
        self.alerts.iter().any(|told| told.ends_at.is_none())
    }
}

/// An alert in a [`Notification`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// The alert's id.
    pub id: String,
    /// Labels: `alertname`, `severity`, and what tells it from others of its name.
    pub labels: Vec<(String, String)>,
    /// How much it matters.
    pub severity: Severity,
    /// Which rule or line.
    pub detail: String,
    /// Route or service it is about.
    pub subject: Option<Subject>,
    /// What is wrong, in a sentence with figures.
    pub summary: String,
    /// What else was unusual.
    pub notes: Vec<String>,
    /// The figure watched.
    pub value: f64,
    /// When it began to fire.
    pub starts_at: SystemTime,
    /// When it ended; `None` while it fires.
    pub ends_at: Option<SystemTime>,
}

impl Told {
    fn of(alert: &Alert) -> Self {
        let identity = &alert.identity;
        Self {
            id: identity.id.clone(),
            labels: identity.labels.clone(),
            severity: identity.severity,
            detail: identity.detail.clone(),
            subject: identity.subject.clone(),
            summary: alert.summary.clone(),
            notes: alert.notes.clone(),
            value: alert.value,
            starts_at: alert.starts_at,
            ends_at: (alert.state == AlertState::Resolved).then_some(alert.since_wall),
        }
    }
}

/// What one receiver knows of the alerts of one name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Group {
    receiver: String,
    name: String,
    /// Alerts it believes to fire: id, and which episode.
    told: BTreeMap<String, (Severity, SystemTime)>,
    sent_at: Option<Duration>,
    /// When there first was something to tell.
    changed_at: Option<Duration>,
    under_way: Option<UnderWay>,
    /// After a message that did not arrive, nothing is sent sooner.
    retry_at: Option<Duration>,
}

/// A message that was handed out and not yet reported back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct UnderWay {
    message: Notification,
    /// What the receiver believed before.
    before: BTreeMap<String, (Severity, SystemTime)>,
}

/// All groups.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Groups {
    all: Vec<Group>,
    sent: u64,
}

impl Groups {
    /// What is to be told now.
    pub(crate) fn due(
        &mut self,
        at: Duration,
        routes: &[Route],
        alerts: &Alerts,
        silences: &Silences,
    ) -> Vec<Notification> {
        self.all.retain(|group| routes.iter().any(|route| route.receiver == group.receiver));
        let mut due = Vec::new();
        for route in routes {
            self.open(route, alerts);
            for group in self.all.iter_mut().filter(|group| group.receiver == route.receiver) {
                let heard = |alert: &&Alert| {
                    alert.identity.name == group.name
                        && takes(route, alert)
                        && silences.until(at, alert).is_none()
                };
                let heard: Vec<&Alert> = alerts.all.values().filter(heard).collect();
                group.told.retain(|id, _| alerts.all.contains_key(id));
                due.extend(group.next(at, route, &heard, &mut self.sent));
            }
        }
        self.all.retain(|group| !group.is_idle(at));
        due
    }

    /// Whether a receiver that wants to hear of ends believes that this alert fires.
    pub(crate) fn owe_end(&self, alert: &Alert, routes: &[Route]) -> bool {
        let believes = |group: &&Group| group.believes(&alert.identity.id);
        let wants = |group: &Group| {
            let is_its = |route: &&Route| route.receiver == group.receiver;
            routes.iter().find(is_its).is_some_and(|route| route.resolved && takes(route, alert))
        };
        self.all.iter().filter(believes).any(wants)
    }

    /// Makes a group for each name that has something to say.
    fn open(&mut self, route: &Route, alerts: &Alerts) {
        for alert in alerts.firing().filter(|alert| takes(route, alert)) {
            let (receiver, name) = (&route.receiver, &alert.identity.name);
            if !self.all.iter().any(|group| group.receiver == *receiver && group.name == *name) {
                self.all.push(Group { receiver: receiver.clone(), name: name.clone(), ..Group::default() });
            }
        }
    }

    /// Takes note that a message arrived, or never will.
    pub(crate) fn settled(&mut self, at: Duration, id: u64, arrived: bool) {
        let is_its = |group: &&mut Group| group.under_way.as_ref().is_some_and(|way| way.message.id == id);
        let Some(group) = self.all.iter_mut().find(is_its) else { return };
        let Some(way) = group.under_way.take() else { return };
        group.retry_at = None;
        if !arrived {
            group.told = way.before;
            group.retry_at = Some(at.saturating_add(GROUP_INTERVAL));
        }
    }

    /// Messages that were under way when the state was saved.
    pub(crate) fn under_way(&self) -> Vec<Notification> {
        self.all.iter().filter_map(|group| group.under_way.as_ref()).map(|way| way.message.clone()).collect()
    }
}

/// Whether a receiver is to hear of an alert at all.
fn takes(route: &Route, alert: &Alert) -> bool {
    let named = &alert.identity.notify;
    alert.identity.severity >= route.severity_min && (named.is_empty() || named.contains(&route.receiver))
}

impl Group {
    /// The group's next message, if it is time. `heard` are the alerts of its name that are not silenced.
    fn next(
        &mut self,
        at: Duration,
        route: &Route,
        heard: &[&Alert],
        sent: &mut u64,
    ) -> Option<Notification> {
        if self.under_way.is_some() || self.retry_at.is_some_and(|retry| at < retry) {
            return None;
        }
        let news = self.news(route, heard);
        if news.is_empty() {
            self.changed_at = None;
            let firing = heard.iter().any(|alert| alert.state == AlertState::Firing);
            let again = self.sent_at.is_some_and(|sent| at >= sent.saturating_add(route.repeat));
            return (firing && again && !self.told.is_empty()).then(|| self.send(at, heard, sent));
        }
        let changed_at = *self.changed_at.get_or_insert(at);
        let mut due = changed_at.saturating_add(route.group_wait);
        if let (Some(sent), false) = (self.sent_at, self.is_graver(&news)) {
            due = due.max(sent.saturating_add(GROUP_INTERVAL));
        }
        (at >= due).then(|| self.send(at, heard, sent))
    }

    /// Alerts of which the receiver believes something else. One that ended is forgotten at once by who does not want
    /// to hear of ends.
    fn news<'a>(&mut self, route: &Route, heard: &[&'a Alert]) -> Vec<&'a Alert> {
        let mut news = Vec::new();
        for alert in heard {
            let told = self.told.get(&alert.identity.id);
            match alert.state {
                AlertState::Firing if told.is_none_or(|(_, began)| *began != alert.starts_at) => {
                    news.push(*alert)
                }
                AlertState::Resolved if told.is_some() && route.resolved => news.push(*alert),
                AlertState::Resolved => {
                    self.told.remove(&alert.identity.id);
                }
                _ => {}
            }
        }
        news
    }

    /// Whether something began that matters more than all the receiver knows of.
    fn is_graver(&self, news: &[&Alert]) -> bool {
        let known = self.told.values().map(|(severity, _)| *severity).max();
        let began = news.iter().filter(|alert| alert.state == AlertState::Firing);
        began.map(|alert| alert.identity.severity).max() > known
    }

    fn send(&mut self, at: Duration, heard: &[&Alert], sent: &mut u64) -> Notification {
        let before = self.told.clone();
        let is_told = |alert: &&&Alert| match alert.state {
            AlertState::Firing => true,
            AlertState::Resolved => before.contains_key(&alert.identity.id),
            AlertState::Pending => false,
        };
        let mut tell: Vec<&Alert> = heard.iter().filter(is_told).copied().collect();
        tell.sort_by_key(|alert| {
            (alert.state != AlertState::Firing, std::cmp::Reverse(alert.identity.severity), alert.since)
        });
        self.told.retain(|id, _| !tell.iter().any(|alert| alert.identity.id == *id));
        for alert in tell.iter().filter(|alert| alert.state == AlertState::Firing) {
            self.told.insert(alert.identity.id.clone(), (alert.identity.severity, alert.starts_at));
        }
        *sent = sent.wrapping_add(1);
        let message = Notification {
            id: *sent,
            receiver: self.receiver.clone(),
            name: self.name.clone(),
            alerts: tell.iter().take(ALERTS_TOLD_MAX).map(|alert| Told::of(alert)).collect(),
            left_out: tell.len().saturating_sub(ALERTS_TOLD_MAX),
        };
        (self.sent_at, self.changed_at) = (Some(at), None);
        self.under_way = Some(UnderWay { message: message.clone(), before });
        message
    }

    /// Whether the receiver takes the alert to fire, or would again if the message under way did not arrive.
    fn believes(&self, id: &str) -> bool {
        let before = self.under_way.as_ref().is_some_and(|way| way.before.contains_key(id));
        before || self.told.contains_key(id)
    }

    /// Nothing is told, and it is so long ago that the next word need not wait.
    fn is_idle(&self, at: Duration) -> bool {
        let rested = self.sent_at.is_none_or(|sent| at >= sent.saturating_add(GROUP_INTERVAL));
        self.told.is_empty() && self.under_way.is_none() && self.changed_at.is_none() && rested
    }
}

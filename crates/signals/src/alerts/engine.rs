//! The engine: rules and numbers in, alerts and messages out.

use std::time::{Duration, SystemTime};

use terrace_instruments::FamilySnapshot;

use super::alert::{Alert, Alerts, Identity, Moment, Origin, Turn, Verdict, stable_id};
use super::burn::{BURN_RULES, BURN_WINDOWS, BurnRule, budget_left, burn_rate, span};
use super::ledger::{Counts, Ledger};
use super::notify::{Groups, Notification, Route};
use super::reading::{Promise, Reading};
use super::silence::Silences;
use super::state::{Saved, SavedPromise};
use super::threshold::{self, Finding, figure};
use super::{AlertState, AlertView, Objective, ObjectiveView, SilenceView, Subject, Threshold};
use crate::series::{Chart, Query};

/// How often questions about series are asked; objectives are judged at every tick.
const THRESHOLDS_EVERY: Duration = Duration::from_secs(5);
/// Points of an objective's history.
const HISTORY_POINTS: u32 = 200;
/// Notes on one alert.
const NOTES_MAX: usize = 5;

/// What is watched, and who is told.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rules {
    /// What users are promised.
    pub objectives: Vec<Objective>,
    /// Alerts on metrics.
    pub thresholds: Vec<Threshold>,
    /// Receivers.
    pub routes: Vec<Route>,
}

/// What the engine is shown at a tick.
pub struct Sight<'a> {
    /// All of the meter's numbers.
    pub own: &'a [FamilySnapshot],
    /// Answers questions about series.
    pub ask: &'a dyn Fn(&Query) -> Chart,
    /// What is unusual now, in sentences; asked when an alert begins to fire, and ten minutes later.
    pub unusual: &'a dyn Fn() -> Vec<String>,
}

/// What follows from a tick.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ticked {
    /// Alerts that began or ended to fire.
    pub changes: Vec<Change>,
    /// Messages to hand to receivers. Report each with [`Engine::settled`]. Save the state before.
    pub notifications: Vec<Notification>,
}

/// An alert that began to fire or was resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The alert after it.
    pub alert: AlertView,
}

/// Judges objectives and thresholds, and says who is to be told what.
#[derive(Debug)]
pub struct Engine {
    rules: Rules,
    promises: Vec<Tracked>,
    alerts: Alerts,
    silences: Silences,
    groups: Groups,
    clock: Clock,
    thresholds_at: Option<Duration>,
    /// Messages that were under way before a restart.
    unsettled: Vec<Notification>,
}

/// The engine's own clock: the process's, moved so that it goes on where the saved one stood.
#[derive(Debug, Clone, Copy, Default)]
struct Clock {
    /// Its last moment.
    at: Duration,
    /// The process's clock at that moment.
    now: Duration,
}

impl Clock {
    fn read(&mut self, now: Duration) -> Duration {
        let passed = now.saturating_sub(self.now);
        *self = Self { at: self.at.saturating_add(passed), now: self.now.max(now) };
        self.at
    }
}

/// One promise of an objective and what is known of it.
#[derive(Debug)]
struct Tracked {
    name: String,
    subject: Subject,
    promise: Promise,
    goal: f64,
    window: Duration,
    notify: Vec<String>,
    reading: Reading,
    ledger: Ledger,
}

impl Engine {
    /// An engine that knows nothing yet.
    pub fn new(rules: Rules, now: Duration) -> Self {
        let mut engine = Self {
            rules: Rules::default(),
            promises: Vec::new(),
            alerts: Alerts::default(),
            silences: Silences::default(),
            groups: Groups::default(),
            clock: Clock { at: now, now },
            thresholds_at: None,
            unsettled: Vec::new(),
        };
        engine.configure(rules, now);
        engine
    }

    /// An engine that goes on where another stood. What cannot be made sense of is left out.
    pub fn restore(rules: Rules, saved: Saved, now: Duration, wall: SystemTime) -> Self {
        let away = saved.away(wall);
        let mut engine = Self::new(Rules::default(), now);
        engine.clock = Clock { at: saved.at.saturating_add(away), now };
        engine.promises = saved.promises.into_iter().filter_map(Tracked::restored).collect();
        (engine.alerts, engine.silences, engine.groups) = (saved.alerts, saved.silences, saved.groups);
        engine.alerts.resume(engine.clock.at, away);
        engine.unsettled = engine.groups.under_way();
        engine.configure(rules, now);
        engine
    }

    /// Takes other rules. What is known of objectives that go on is kept; alerts of rules that are gone end at the next
    /// tick.
    pub fn configure(&mut self, rules: Rules, now: Duration) {
        let at = self.clock.read(now);
        let mut before = std::mem::take(&mut self.promises);
        for objective in &rules.objectives {
            for (promise, goal) in promises(objective) {
                let same = before.iter().position(|tracked| tracked.is(objective, promise));
                let mut tracked = match same {
                    Some(index) => before.swap_remove(index),
                    None => Tracked::new(at, objective, promise),
                };
                tracked.adopt(at, objective, (promise, goal));
                self.promises.push(tracked);
            }
        }
        self.rules = rules;
        self.thresholds_at = None;
    }

    /// Looks at everything once. `now` is monotone; `wall` is for people.
    pub fn tick(&mut self, now: Duration, wall: SystemTime, sight: &Sight<'_>) -> Ticked {
        let moment = Moment { at: self.clock.read(now), wall };
        let mut turns = self.judge_objectives(moment, sight.own);
        if self.thresholds_at.is_none_or(|last| moment.at >= last.saturating_add(THRESHOLDS_EVERY)) {
            self.thresholds_at = Some(moment.at);
            turns.extend(self.judge_thresholds(moment, sight.ask));
        }
        turns.extend(self.withdraw(moment));
        self.annotate(moment.at, &turns, sight.unusual);
        let (groups, routes) = (&self.groups, &self.rules.routes);
        self.alerts.forget(moment.at, |alert| groups.owe_end(alert, routes));
        self.silences.forget(moment.at);
        let changes = turns.iter().filter_map(|(id, _)| self.alerts.all.get(id));
        let changes = changes.map(|alert| Change { alert: self.view(alert, moment) }).collect();
        let mut notifications = std::mem::take(&mut self.unsettled);
        notifications.extend(self.groups.due(moment.at, &self.rules.routes, &self.alerts, &self.silences));
        Ticked { changes, notifications }
    }

    fn judge_objectives(&mut self, moment: Moment, own: &[FamilySnapshot]) -> Vec<(String, Turn)> {
        let mut turns = Vec::new();
        for tracked in &mut self.promises {
            let counted = tracked.reading.read(&tracked.subject, tracked.promise, own);
            tracked.ledger.add(moment.at, counted);
            for rule in &BURN_RULES {
                let (id, verdict) = (tracked.id(rule), tracked.judge(moment.at, rule));
                let identity = || tracked.identity(rule);
                let words = || tracked.words(moment.at, rule);
                let turn = self.alerts.observe(moment, &id, (verdict, Duration::ZERO), identity, words);
                turns.extend(turn.map(|turn| (id, turn)));
            }
        }
        turns
    }

    fn judge_thresholds(&mut self, moment: Moment, ask: &dyn Fn(&Query) -> Chart) -> Vec<(String, Turn)> {
        let mut turns = Vec::new();
        for threshold in &self.rules.thresholds {
            let chart = ask(&threshold.query);
            let refused = (chart.lines.len().saturating_sub(threshold::LINES_MAX) + chart.left_out) as u64;
            self.alerts.refused = self.alerts.refused.saturating_add(refused);
            let mut findings = threshold::judge(threshold, &chart);
            findings.extend(unheard(&self.alerts, threshold, &findings));
            for finding in &findings {
                let identity = || threshold::identity(threshold, finding);
                let words = || (finding.value.unwrap_or_default(), threshold::summary(threshold, finding));
                let verdict = (finding.verdict, finding.hold);
                let turn = self.alerts.observe(moment, &finding.id, verdict, identity, words);
                turns.extend(turn.map(|turn| (finding.id.clone(), turn)));
            }
        }
        turns
    }

    /// Ends alerts whose objective or rule is no longer in the file.
    fn withdraw(&mut self, moment: Moment) -> Vec<(String, Turn)> {
        let is_gone = |alert: &&Alert| match alert.identity.origin {
            Origin::Objective => !self.promises.iter().any(|tracked| tracked.raises(&alert.identity)),
            Origin::Threshold => {
                !self.rules.thresholds.iter().any(|threshold| threshold.name == alert.identity.name)
            }
        };
        let gone: Vec<String> =
            self.alerts.all.values().filter(is_gone).map(|alert| alert.identity.id.clone()).collect();
        let mut turns = Vec::new();
        for id in gone {
            let turn = self.alerts.withdraw(moment, &id);
            turns.extend(turn.map(|turn| (id, turn)));
        }
        turns
    }

    /// Adds what is unusual at the time to alerts that begin, and once more to those that began ten minutes ago.
    fn annotate(&mut self, at: Duration, turns: &[(String, Turn)], unusual: &dyn Fn() -> Vec<String>) {
        let began = turns.iter().filter(|(_, turn)| *turn == Turn::Fired).map(|(id, _)| id.clone());
        let mut asking: Vec<String> = began.collect();
        let again = self
            .alerts
            .all
            .values_mut()
            .filter_map(|alert| alert.is_to_be_asked_again(at).then(|| alert.identity.id.clone()));
        asking.extend(again);
        if asking.is_empty() {
            return;
        }
        let notes: Vec<String> = unusual().into_iter().take(NOTES_MAX).collect();
        for id in asking {
            if let Some(alert) = self.alerts.all.get_mut(&id) {
                alert.notes.clone_from(&notes);
            }
        }
    }

    /// Takes note that a message arrived at its receiver, or that delivery was given up; then what it said is told
    /// anew with the next message, after [`GROUP_INTERVAL`](super::GROUP_INTERVAL).
    pub fn settled(&mut self, now: Duration, notification: u64, arrived: bool) {
        let at = self.clock.read(now);
        self.groups.settled(at, notification, arrived);
    }

    /// All that is to survive, as of the last tick.
    pub fn save(&self, wall: SystemTime) -> Saved {
        let promises = self.promises.iter().map(Tracked::saved).collect();
        let rest = (self.alerts.clone(), self.silences.clone(), self.groups.clone());
        Saved::new((self.clock.at, wall), promises, rest)
    }

    /// Alerts that are pending, firing or were resolved in the last day; what matters most comes first.
    pub fn alerts(&self, wall: SystemTime) -> Vec<AlertView> {
        let moment = Moment { at: self.clock.at, wall };
        let mut all: Vec<&Alert> = self.alerts.all.values().collect();
        let order = |state| match state {
            AlertState::Firing => 0,
            AlertState::Pending => 1,
            AlertState::Resolved => 2,
        };
        all.sort_by_key(|alert| {
            let severity = std::cmp::Reverse(alert.identity.severity);
            (order(alert.state), severity, std::cmp::Reverse(alert.since))
        });
        all.into_iter().map(|alert| self.view(alert, moment)).collect()
    }

    fn view(&self, alert: &Alert, moment: Moment) -> AlertView {
        let identity = &alert.identity;
        let silenced = self.silences.until(moment.at, alert);
        AlertView {
            id: identity.id.clone(),
            name: identity.name.clone(),
            detail: identity.detail.clone(),
            severity: identity.severity,
            state: alert.state,
            since: alert.since_wall,
            summary: alert.summary.clone(),
            subject: identity.subject.clone(),
            value: alert.value,
            notes: alert.notes.clone(),
            silenced_until: silenced.map(|ends| later(moment, ends)),
        }
    }

    /// How the objectives stand, in the order of the file.
    pub fn objectives(&self) -> Vec<ObjectiveView> {
        self.promises.iter().map(|tracked| tracked.view(self.clock.at)).collect()
    }

    /// Silences in force.
    pub fn silences(&self, wall: SystemTime) -> Vec<SilenceView> {
        let moment = Moment { at: self.clock.at, wall };
        let in_force = self.silences.all.iter().filter(|silence| silence.ends > moment.at);
        let view = |silence: &super::silence::Silence| SilenceView {
            id: silence.id.clone(),
            target: silence.target.clone(),
            until: later(moment, silence.ends),
            comment: silence.comment.clone(),
            by: silence.by.clone(),
        };
        in_force.map(view).collect()
    }

    /// Tells nobody about `target` for so long: an objective's or rule's name, or an alert's id.
    ///
    /// # Errors
    /// A sentence for the user.
    pub fn silence(
        &mut self,
        (now, wall): (Duration, SystemTime),
        target: &str,
        lasts: Duration,
        about: (&str, &str),
    ) -> Result<SilenceView, String> {
        if !self.is_target(target) {
            return Err(format!(
                "there is no objective, alert rule or alert {target}; terrace alerts lists them"
            ));
        }
        let moment = Moment { at: self.clock.read(now), wall };
        let silence = self.silences.add(moment.at, target, lasts, about)?;
        Ok(SilenceView {
            id: silence.id.clone(),
            target: silence.target.clone(),
            until: later(moment, silence.ends),
            comment: silence.comment.clone(),
            by: silence.by.clone(),
        })
    }

    fn is_target(&self, target: &str) -> bool {
        self.promises.iter().any(|tracked| tracked.name == target)
            || self.rules.thresholds.iter().any(|threshold| threshold.name == target)
            || self.alerts.all.contains_key(target)
    }

    /// Ends a silence; says whether there was one.
    pub fn unsilence(&mut self, id: &str) -> bool {
        self.silences.remove(id)
    }

    /// Alerts that were one too many and are not kept, since the state began.
    pub fn refused(&self) -> u64 {
        self.alerts.refused
    }
}

/// Alerts of a rule's lines that the answer does not hold any more.
fn unheard(alerts: &Alerts, threshold: &Threshold, findings: &[Finding]) -> Vec<Finding> {
    let is_unheard = |alert: &&Alert| {
        let identity = &alert.identity;
        identity.origin == Origin::Threshold
            && identity.name == threshold.name
            && !findings.iter().any(|finding| finding.id == identity.id)
    };
    let unknown = |alert: &Alert| Finding {
        id: alert.identity.id.clone(),
        labels: Vec::new(),
        verdict: Verdict::Unknown,
        hold: threshold.hold,
        value: None,
    };
    alerts.all.values().filter(is_unheard).map(unknown).collect()
}

/// What people call the engine's moment `ends`.
fn later(moment: Moment, ends: Duration) -> SystemTime {
    moment.wall.checked_add(ends.saturating_sub(moment.at)).unwrap_or(moment.wall)
}

/// What an objective promises, each with its share.
fn promises(objective: &Objective) -> Vec<(Promise, f64)> {
    let success = objective.success.map(|goal| (Promise::Success, goal));
    let latency = objective.latency.map(|goal| (Promise::Latency(goal), goal.share));
    success.into_iter().chain(latency).collect()
}

impl Tracked {
    fn new(at: Duration, objective: &Objective, promise: Promise) -> Self {
        Self {
            name: objective.name.clone(),
            subject: objective.subject.clone(),
            promise,
            goal: 1.0,
            window: objective.window,
            notify: Vec::new(),
            reading: Reading::default(),
            ledger: Ledger::new(at, objective.window),
        }
    }

    /// Takes what may change without forgetting what was counted.
    fn adopt(&mut self, at: Duration, objective: &Objective, (promise, goal): (Promise, f64)) {
        if self.window != objective.window {
            self.ledger.resize(at, objective.window);
        }
        self.window = objective.window;
        (self.promise, self.goal) = (promise, goal);
        self.notify.clone_from(&objective.notify);
    }

    fn restored(saved: SavedPromise) -> Option<Self> {
        let ledger = Ledger::restored(&saved.ledger).ok()?;
        let promise = saved.promise();
        Some(Self {
            name: saved.name,
            subject: saved.subject,
            promise,
            goal: 1.0,
            window: ledger.asked(),
            notify: Vec::new(),
            reading: Reading::default(),
            ledger,
        })
    }

    fn saved(&self) -> SavedPromise {
        let latency = match self.promise {
            Promise::Latency(goal) => Some(goal),
            Promise::Success => None,
        };
        SavedPromise {
            name: self.name.clone(),
            subject: self.subject.clone(),
            latency,
            ledger: self.ledger.saved(),
        }
    }

    /// Whether it counts the same thing: another bound on latency makes other requests bad.
    fn is(&self, objective: &Objective, promise: Promise) -> bool {
        let same_count = match (self.promise, promise) {
            (Promise::Success, Promise::Success) => true,
            (Promise::Latency(a), Promise::Latency(b)) => a.under == b.under,
            _ => false,
        };
        same_count && self.name == objective.name && self.subject == objective.subject
    }

    fn kind(&self) -> &'static str {
        match self.promise {
            Promise::Success => "success",
            Promise::Latency(_) => "latency",
        }
    }

    fn id(&self, rule: &BurnRule) -> String {
        stable_id([self.name.as_str(), "burn", self.kind(), &span(rule.long)])
    }

    fn raises(&self, identity: &Identity) -> bool {
        self.name == identity.name && BURN_RULES.iter().any(|rule| self.id(rule) == identity.id)
    }

    fn judge(&self, at: Duration, rule: &BurnRule) -> Verdict {
        let (long, short) = (self.ledger.window(at, rule.long), self.ledger.window(at, rule.short));
        if rule.holds((long, self.ledger.covered(at, rule.long)), short, self.goal) {
            Verdict::Holds
        } else {
            Verdict::Clear
        }
    }

    fn identity(&self, rule: &BurnRule) -> Identity {
        let (kind, name) = match &self.subject {
            Subject::Route(name) => ("route", name),
            Subject::Service(name) => ("service", name),
        };
        let labels = [
            ("alertname", self.name.as_str()),
            ("severity", rule.severity.as_str()),
            ("objective", self.kind()),
            ("window", &span(rule.long)),
            (kind, name),
        ];
        Identity {
            id: self.id(rule),
            origin: Origin::Objective,
            name: self.name.clone(),
            detail: format!("{}: {}", self.kind(), rule.describe()),
            labels: labels.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            severity: rule.severity,
            subject: Some(self.subject.clone()),
            notify: self.notify.clone(),
        }
    }

    /// The burn rate over the rule's long window, and what it means.
    fn words(&self, at: Duration, rule: &BurnRule) -> (f64, String) {
        let long = self.ledger.window(at, rule.long);
        let rate = burn_rate(long, self.goal);
        let what = match self.promise {
            Promise::Success => "failed".to_owned(),
            Promise::Latency(goal) => format!("failed or took longer than {}", span(goal.under)),
        };
        let summary = format!(
            "{}% of requests {what} in the last {} ({} of {}), {} times what {}% allows; {}",
            figure(share(long) * 100.0),
            span(rule.long),
            long.bad,
            long.total,
            figure(rate),
            figure(self.goal * 100.0),
            budget_words(budget_left(self.ledger.window(at, self.window), self.goal), self.window),
        );
        (rate, summary)
    }

    /// How many times faster than allowed the budget was spent over a window, as the rules judge it.
    fn burn(&self, at: Duration, window: Duration) -> f64 {
        burn_rate(self.ledger.window(at, window), self.goal) * self.ledger.covered(at, window)
    }

    fn view(&self, at: Duration) -> ObjectiveView {
        let whole = self.ledger.window(at, self.window);
        let allowed = whole.total as f64 * super::burn::budget(self.goal);
        let left = |counts: Option<Counts>| match counts {
            Some(counts) if counts.bad == 0 => 1.0,
            Some(counts) => 1.0 - counts.bad as f64 / allowed,
            None => f64::NAN,
        };
        let history = self.ledger.course(at, self.window, HISTORY_POINTS);
        ObjectiveView {
            name: self.name.clone(),
            kind: self.kind(),
            subject: self.subject.clone(),
            goal: self.goal,
            under: match self.promise {
                Promise::Latency(goal) => Some(goal.under),
                Promise::Success => None,
            },
            window: self.window,
            total: whole.total,
            bad: whole.bad,
            budget_left: budget_left(whole, self.goal),
            burn: BURN_WINDOWS.map(|window| (window, self.burn(at, window))).to_vec(),
            history: history.into_iter().map(left).collect(),
        }
    }
}

/// What is left of a budget as people say it: nobody has less than nothing left of something.
fn budget_words(left: f64, window: Duration) -> String {
    let (percent, window) = ((left * 100.0).floor(), span(window));
    match left {
        left if left > 0.0 => format!("{}% of the budget of {window} is left", figure(percent)),
        left if left > -0.01 => format!("the budget of {window} is spent"),
        left if left > -1.0 => format!("the budget of {window} is spent, and {}% more", figure(-percent)),
        left => format!("the budget of {window} is spent {} times", figure(1.0 - left)),
    }
}

fn share(counts: Counts) -> f64 {
    match counts.total {
        0 => 0.0,
        total => counts.bad as f64 / total as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_told_as_people_say_it() {
        let told = |left| budget_words(left, Duration::from_secs(30 * 86_400));
        assert_eq!(told(0.874), "87% of the budget of 30d is left");
        assert_eq!(told(0.0), "the budget of 30d is spent");
        assert_eq!(told(-0.25), "the budget of 30d is spent, and 25% more");
        assert_eq!(told(-27.67), "the budget of 30d is spent 28.7 times");
    }
}

//! How fast a budget is spent, and when that is too fast.
//!
//! An objective of 99.9 % leaves a budget of 0.1 % of all requests. Who fails exactly so many burns at rate 1 and has
//! spent the budget when the window ends; at rate 14.4 an hour costs 2 % of thirty days' budget. Each rule looks at two
//! windows: the long one says that it matters, the short one that it still goes on, so that an alert ends soon after
//! its cause. (The Site Reliability Workbook, chapter 5, "Multiwindow, Multi-Burn-Rate Alerts".)
//!
//! The Workbook's windows are full. Just after a start they are not, and six failures of the first hundred requests
//! would be sixty times the budget "of the last three days". A page may come from what little is known: whoever fails in
//! the first minute fails users now. A ticket says that the budget wears away over days, which no first minute can show;
//! so the part of a window of days that nobody counted is taken to have been as busy and without a failure. Then a ticket
//! needs as long after a start as it needs after a calm month: rate × long window × (1 − goal) / share that fails.

use std::time::Duration;

use super::Severity;
use super::ledger::Counts;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// When a budget is spent too fast.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BurnRule {
    /// Times the rate that would spend the budget exactly.
    pub rate: f64,
    /// Over this window the rate shows that it matters.
    pub long: Duration,
    /// Over this window it shows that it goes on.
    pub short: Duration,
    /// How much it matters.
    pub severity: Severity,
}

/// The Workbook's numbers, for every objective: 2 % of thirty days' budget in an hour, 5 % in six hours, 10 % in a day
/// and in three days.
pub const BURN_RULES: [BurnRule; 4] = [
    BurnRule { rate: 14.4, long: HOUR, short: Duration::from_secs(5 * 60), severity: Severity::Page },
    BurnRule {
        rate: 6.0,
        long: Duration::from_secs(6 * 3_600),
        short: Duration::from_secs(30 * 60),
        severity: Severity::Page,
    },
    BurnRule { rate: 3.0, long: DAY, short: Duration::from_secs(2 * 3_600), severity: Severity::Ticket },
    BurnRule {
        rate: 1.0,
        long: Duration::from_secs(3 * 86_400),
        short: Duration::from_secs(6 * 3_600),
        severity: Severity::Ticket,
    },
];

/// So many requests must have failed in the long window before a rule may fire. At low traffic one failure is a large
/// share: of a hundred requests an hour, one is ten times the budget of 99.9 %. Five are no accident. Where the long
/// window holds more than `5 / (rate × (1 − goal))` requests (347 for 14.4 and 99.9 %), this changes nothing: the rule
/// itself asks for more.
pub const BAD_MIN: u64 = 5;

/// The windows of all rules, shortest first.
pub const BURN_WINDOWS: [Duration; 7] = [
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    HOUR,
    Duration::from_secs(2 * 3_600),
    Duration::from_secs(6 * 3_600),
    DAY,
    Duration::from_secs(3 * 86_400),
];

/// The share of requests that may fail. Rounded to twelve decimals, so that 1 − 0.999 is 0.001; never 0, so that a
/// goal of 100 % gives large burn rates and no infinite ones.
pub(crate) fn budget(goal: f64) -> f64 {
    let exact = ((1.0 - goal) * 1e12).round() / 1e12;
    exact.clamp(1e-9, 1.0)
}

/// How many times faster than allowed the budget was spent; 0 where nothing was asked.
pub(crate) fn burn_rate(counts: Counts, goal: f64) -> f64 {
    match counts.total {
        0 => 0.0,
        total => counts.bad as f64 / total as f64 / budget(goal),
    }
}

/// Share of the budget that is left of these requests.
pub(crate) fn budget_left(counts: Counts, goal: f64) -> f64 {
    1.0 - burn_rate(counts, goal)
}

impl BurnRule {
    /// Whether it fires, given what was counted in both windows, and the share of the long one in which there was
    /// counting at all.
    pub(crate) fn holds(&self, (long, covered): (Counts, f64), short: Counts, goal: f64) -> bool {
        let rate = burn_rate(long, goal) * covered;
        long.bad >= BAD_MIN && rate > self.rate && burn_rate(short, goal) > self.rate
    }

    /// `burn 14.4x over 1h and 5m`.
    pub(crate) fn describe(&self) -> String {
        format!("burn {}x over {} and {}", self.rate, span(self.long), span(self.short))
    }
}

/// A round span as the file writes it: `5m`, `6h`, `30d`.
pub fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let whole = |unit: Duration| seconds >= unit.as_secs() && seconds.is_multiple_of(unit.as_secs());
    if whole(DAY) {
        format!("{}d", seconds / DAY.as_secs())
    } else if whole(HOUR) {
        format!("{}h", seconds / HOUR.as_secs())
    } else if whole(MINUTE) {
        format!("{}m", seconds / MINUTE.as_secs())
    } else if span.subsec_nanos() == 0 {
        format!("{seconds}s")
    } else {
        format!("{}ms", span.as_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_spend_the_shares_of_the_budget_that_the_workbook_names() {
        let month = Duration::from_secs(30 * 86_400);
        let spent = BURN_RULES.map(|rule| rule.rate * rule.long.as_secs_f64() / month.as_secs_f64());
        for (spent, expected) in spent.iter().zip([0.02, 0.05, 0.10, 0.10]) {
            assert!((spent - expected).abs() < 1e-12, "{spent}");
        }
        for rule in BURN_RULES {
            assert_eq!(rule.long.as_secs(), rule.short.as_secs() * 12);
            assert!(BURN_WINDOWS.contains(&rule.long) && BURN_WINDOWS.contains(&rule.short));
        }
    }

    #[test]
    fn one_failure_at_low_traffic_fires_nothing_and_five_do() {
        let rule = BURN_RULES[0];
        let few = |bad| Counts { total: 100, bad };
        assert!(!rule.holds((few(4), 1.0), few(4), 0.999));
        assert!(rule.holds((few(5), 1.0), few(5), 0.999));
    }

    #[test]
    fn a_rate_of_exactly_the_rules_does_not_fire() {
        let rule = BURN_RULES[1];
        let counts = |bad| Counts { total: 1_000_000, bad };
        assert!(!rule.holds((counts(6_000), 1.0), counts(6_000), 0.999));
        assert!(rule.holds((counts(6_001), 1.0), counts(6_001), 0.999));
        assert!(!rule.holds((counts(6_001), 1.0), counts(6_000), 0.999), "it no longer goes on");
    }

    #[test]
    fn spans_read_as_in_the_file() {
        let of = |seconds| span(Duration::from_secs(seconds));
        assert_eq!([of(300), of(21_600), of(2_592_000), of(90), of(0)], ["5m", "6h", "30d", "90s", "0s"]);
        assert_eq!(span(Duration::from_millis(300)), "300ms");
    }
}

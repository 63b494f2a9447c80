//! Which of a route's targets a request goes to, where that is more than a share of chance: rules about what the request
//! carries, and a client that stays on its side.
//!
//! # The law
//! 1. The **rules**, in the order in which they are written. The first whose conditions all hold, and in whose share the
//!    request falls, decides. A rule without a share asks for nothing but its conditions.
//! 2. The **side** that the client was led to before, where it still has one: a target whose weight is not 0.
//! 3. The **weights**: by the client's key where there is one, else by chance.
//!
//! A rule's share is drawn for a client, not for a request, where the client is known: by its key, so that a share that
//! grows keeps all who were in it; or by its side, so that whoever was drawn once stays, and whoever was not is not drawn
//! again. Only a client of whom neither is known is drawn each time. A share of nothing lets nobody in, whatever side
//! they had, and so ends an experiment at once.

use std::borrow::Cow;

use crate::{
    consistent::{Consistent, seed, uniform},
    rule::HeaderMatch,
    split::{Split, SplitError},
};

/// How many rules one choice may have.
pub const CHOICE_RULES_MAX: usize = 32;

/// What rules ask of a request.
pub trait Asker {
    /// The first value of the header with this name, which is given in lower case.
    fn header(&self, name_lower: &str) -> Option<&[u8]>;
    /// The value of the first cookie of that name.
    fn cookie(&self, name: &str) -> Option<&[u8]>;
    /// What is claimed of the client under that name, as text.
    fn claim(&self, name: &str) -> Option<Cow<'_, str>>;
}

/// One rule: requests that carry all of this go there.
#[derive(Debug, Clone, PartialEq)]
pub struct ChoiceRule {
    /// The target's place among the choice's targets.
    pub to: usize,
    /// Headers by name, in any case.
    pub headers: Vec<(String, HeaderMatch)>,
    /// Cookies by name.
    pub cookies: Vec<(String, HeaderMatch)>,
    /// Claims by name.
    pub claims: Vec<(String, HeaderMatch)>,
    /// The share of those requests, 0 to 1; nothing: all.
    pub share: Option<f64>,
}

/// What is known of a client beside its request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Client {
    /// A number of its own, the same for all its requests.
    pub key: Option<u64>,
    /// The target that it was led to before.
    pub side: Option<usize>,
}

/// Why a target was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ground {
    /// That rule, from 0, by what the request carries.
    Rule(usize),
    /// That rule, for the share that the client is in.
    Share(usize),
    /// The client was led there before.
    Side,
    /// By weights, the client's key deciding.
    Key,
    /// By weights and chance.
    Chance,
}

/// A choice that cannot be made. The fault is the file's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChoiceError {
    /// The weights choose nothing.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// More than [`CHOICE_RULES_MAX`] rules.
    #[error("more than {CHOICE_RULES_MAX} rules in one `choose`")]
    TooMany,
    /// A rule leads to a target that is not there.
    #[error("a rule of `choose` leads to no target of the route")]
    NoTarget,
    /// A rule that asks for nothing: all that follows it would be in vain.
    #[error("a rule of `choose` asks for nothing; without a condition or a share every request fits it")]
    AsksNothing,
}

/// The rules and weights of one route.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    rules: Box<[Rule]>,
    by_chance: Split<usize>,
    by_key: Consistent<usize>,
    /// For each target whether its weight is above 0.
    is_weighted: Box<[bool]>,
}

#[derive(Debug, Clone, PartialEq)]
struct Rule {
    asks: ChoiceRule,
    /// What the share is drawn with, apart from the draw by weights.
    seed: u64,
}

impl Choice {
    /// A choice among named targets with weights; a target that only rules lead to has a weight of 0.
    ///
    /// # Errors
    /// [`ChoiceError`] when nothing could be chosen, or a rule is pointless.
    pub fn new(targets: &[(&str, u32)], rules: Vec<ChoiceRule>) -> Result<Self, ChoiceError> {
        if rules.len() > CHOICE_RULES_MAX {
            return Err(ChoiceError::TooMany);
        }
        for rule in &rules {
            if rule.to >= targets.len() {
                return Err(ChoiceError::NoTarget);
            }
            if rule.asks_nothing() {
                return Err(ChoiceError::AsksNothing);
            }
        }
        let weights = targets.iter().enumerate();
        let by_chance = Split::new(weights.clone().map(|(place, (_, weight))| (place, *weight)).collect())?;
        let by_key =
            Consistent::new(weights.map(|(place, (name, weight))| (place, *name, *weight)).collect())?;
        let ready = |rule: ChoiceRule| {
            let seed = seed(targets[rule.to].0).rotate_left(32);
            Rule { asks: rule.lowered(), seed }
        };
        Ok(Self {
            rules: rules.into_iter().map(ready).collect(),
            by_chance,
            by_key,
            is_weighted: targets.iter().map(|(_, weight)| *weight > 0).collect(),
        })
    }

    /// Whether a rule asks for claims, so that who asks must be known before.
    #[must_use]
    pub fn asks_for_claims(&self) -> bool {
        self.rules.iter().any(|rule| !rule.asks.claims.is_empty())
    }

    /// The target of a request, and why. `random` gives numbers evenly spread over all there are.
    pub fn pick(
        &self,
        asker: &impl Asker,
        client: Client,
        random: &mut dyn FnMut() -> u64,
    ) -> (usize, Ground) {
        let side = client.side.filter(|side| self.is_open(*side));
        for (place, rule) in self.rules.iter().enumerate() {
            if !rule.asks.holds(asker) {
                continue;
            }
            let Some(share) = rule.asks.share else { return (rule.asks.to, Ground::Rule(place)) };
            let is_in = match (side, client.key) {
                _ if share <= 0.0 => false,
                (Some(side), _) => side == rule.asks.to,
                (None, Some(key)) => uniform(key, rule.seed) < share,
                (None, None) => uniform(random(), rule.seed) < share,
            };
            if is_in {
                return (rule.asks.to, Ground::Share(place));
            }
        }
        match (side, client.key) {
            (Some(side), _) if self.is_weighted[side] => (side, Ground::Side),
            (_, Some(key)) => (*self.by_key.pick(key), Ground::Key),
            (_, None) => (*self.by_chance.pick(random()), Ground::Chance),
        }
    }

    /// Whether a client that was led to that target may still be there.
    fn is_open(&self, side: usize) -> bool {
        let is_drawn = |rule: &Rule| rule.asks.to == side && rule.asks.share.is_some_and(|share| share > 0.0);
        self.is_weighted.get(side).copied().unwrap_or(false) || self.rules.iter().any(is_drawn)
    }
}

impl ChoiceRule {
    fn asks_nothing(&self) -> bool {
        self.headers.is_empty() && self.cookies.is_empty() && self.claims.is_empty() && self.share.is_none()
    }

    fn lowered(mut self) -> Self {
        for (name, _) in &mut self.headers {
            name.make_ascii_lowercase();
        }
        self
    }

    fn holds(&self, asker: &impl Asker) -> bool {
        let claim = |name: &str, wanted: &HeaderMatch| match asker.claim(name) {
            Some(value) => wanted.admits(Some(value.as_bytes())),
            None => wanted.admits(None),
        };
        self.headers.iter().all(|(name, wanted)| wanted.admits(asker.header(name)))
            && self.cookies.iter().all(|(name, wanted)| wanted.admits(asker.cookie(name)))
            && self.claims.iter().all(|(name, wanted)| claim(name, wanted))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    struct Sent(HashMap<&'static str, &'static str>);

    impl Asker for Sent {
        fn header(&self, name_lower: &str) -> Option<&[u8]> {
            self.0.get(name_lower).map(|value| value.as_bytes())
        }

        fn cookie(&self, name: &str) -> Option<&[u8]> {
            self.0.get(format!("cookie:{name}").as_str()).map(|value| value.as_bytes())
        }

        fn claim(&self, name: &str) -> Option<Cow<'_, str>> {
            self.0.get(format!("claim:{name}").as_str()).map(|value| Cow::Borrowed(*value))
        }
    }

    fn sent(pairs: &[(&'static str, &'static str)]) -> Sent {
        Sent(pairs.iter().copied().collect())
    }

    fn rule(to: usize) -> ChoiceRule {
        ChoiceRule { to, headers: Vec::new(), cookies: Vec::new(), claims: Vec::new(), share: None }
    }

    fn exact(name: &str, value: &str) -> Vec<(String, HeaderMatch)> {
        vec![(name.to_owned(), HeaderMatch::Exact(value.to_owned()))]
    }

    const SIDES: [(&str, u32); 3] = [("web", 1), ("beta", 0), ("gold", 0)];

    fn picked(choice: &Choice, asker: &Sent, client: Client) -> (usize, Ground) {
        let mut numbers = (0_u64..).map(|step| step.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        choice.pick(asker, client, &mut || numbers.next().expect("endless"))
    }

    fn by_rules(rules: Vec<ChoiceRule>) -> Choice {
        Choice::new(&SIDES, rules).expect("a valid choice")
    }

    #[test]
    fn the_first_rule_that_fits_decides_and_all_that_it_names_must_hold() {
        let beta = ChoiceRule { headers: exact("X-Beta", "1"), cookies: exact("beta", "yes"), ..rule(1) };
        let gold = ChoiceRule { claims: exact("tier", "gold"), ..rule(2) };
        let choice = by_rules(vec![beta, gold]);
        assert!(choice.asks_for_claims());
        let at = |pairs: &[_]| picked(&choice, &sent(pairs), Client::default());
        assert_eq!(at(&[]), (0, Ground::Chance));
        assert_eq!(at(&[("x-beta", "1")]), (0, Ground::Chance), "half of what is asked is not enough");
        assert_eq!(at(&[("x-beta", "1"), ("cookie:beta", "yes")]), (1, Ground::Rule(0)));
        let all = [("x-beta", "1"), ("cookie:beta", "yes"), ("claim:tier", "gold")];
        assert_eq!(at(&all), (1, Ground::Rule(0)), "the order decides");
        assert_eq!(at(&[("claim:tier", "gold")]), (2, Ground::Rule(1)));
    }

    #[test]
    fn what_is_absent_can_be_asked_for_too() {
        let none = ChoiceRule { claims: vec![("sub".to_owned(), HeaderMatch::Absent)], ..rule(1) };
        let choice = by_rules(vec![none]);
        assert_eq!(picked(&choice, &sent(&[]), Client::default()).0, 1);
        assert_eq!(picked(&choice, &sent(&[("claim:sub", "ann")]), Client::default()).0, 0);
    }

    #[test]
    fn a_client_stays_on_its_side_until_the_side_is_closed() {
        let with = |weight| Choice::new(&[("web", 9), ("next", weight)], Vec::new()).expect("valid");
        let client = Client { key: None, side: Some(1) };
        assert_eq!(picked(&with(1), &sent(&[]), client), (1, Ground::Side));
        assert_eq!(picked(&with(0), &sent(&[]), client), (0, Ground::Chance));
        let nowhere = Client { key: None, side: Some(7) };
        assert_eq!(picked(&with(1), &sent(&[]), nowhere).1, Ground::Chance);
    }

    #[test]
    fn who_was_drawn_for_a_share_stays_and_who_was_not_is_not_drawn_again() {
        let share = |share| by_rules(vec![ChoiceRule { share: Some(share), ..rule(1) }]);
        let on = |side| Client { key: None, side: Some(side) };
        assert_eq!(picked(&share(0.01), &sent(&[]), on(1)), (1, Ground::Share(0)));
        assert_eq!(picked(&share(0.99), &sent(&[]), on(0)), (0, Ground::Side));
        assert_eq!(picked(&share(0.0), &sent(&[]), on(1)), (0, Ground::Chance), "the experiment is over");
        assert_eq!(picked(&share(1.0), &sent(&[]), Client::default()), (1, Ground::Share(0)));
        let nobody = ChoiceRule { share: Some(0.0), ..rule(1) };
        let rules = vec![nobody, ChoiceRule { headers: exact("x-gold", "1"), ..rule(2) }];
        let choice = Choice::new(&[("web", 1), ("beta", 1), ("gold", 0)], rules).expect("valid");
        assert_eq!(picked(&choice, &sent(&[("x-gold", "1")]), on(1)), (2, Ground::Rule(1)));
        assert_eq!(picked(&choice, &sent(&[]), on(1)), (1, Ground::Side), "its weight is another matter");
    }

    #[test]
    fn a_choice_that_cannot_be_made_is_refused() {
        assert_eq!(Choice::new(&SIDES, vec![rule(0)]).err(), Some(ChoiceError::AsksNothing));
        let far = ChoiceRule { share: Some(0.5), ..rule(3) };
        assert_eq!(Choice::new(&SIDES, vec![far.clone()]).err(), Some(ChoiceError::NoTarget));
        assert_eq!(Choice::new(&[("a", 0)], Vec::new()).err(), Some(ChoiceError::Split(SplitError::AllZero)));
        let many = vec![ChoiceRule { to: 0, ..far }; CHOICE_RULES_MAX + 1];
        assert_eq!(Choice::new(&SIDES, many).err(), Some(ChoiceError::TooMany));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_share_that_grows_keeps_all_who_were_in_it(low in 0.0_f64..1.0, more in 0.0_f64..1.0, from: u64) {
            let high = (low + more).min(1.0);
            let choice = |share| by_rules(vec![ChoiceRule { share: Some(share), ..rule(1) }]);
            let (before, after) = (choice(low), choice(high));
            let mut inside = 0_u64;
            for key in (0..10_000).map(|step| from.wrapping_add(step)) {
                let client = Client { key: Some(key), side: None };
                let (old, new) = (picked(&before, &sent(&[]), client).0, picked(&after, &sent(&[]), client).0);
                prop_assert!(old != 1 || new == 1, "key {} was in {} and is not in {}", key, low, high);
                inside += u64::from(new == 1);
            }
            prop_assert!((inside as f64 - high * 10_000.0).abs() < 250.0, "{inside} of a share of {high}");
        }

        #[test]
        fn a_share_and_the_weights_are_drawn_apart(from: u64) {
            // Of those outside a share of half, the weights of one to one still take half each.
            let rules = vec![ChoiceRule { share: Some(0.5), ..rule(1) }];
            let choice = Choice::new(&[("web", 1), ("beta", 1)], rules).expect("valid");
            let mut counts = [0_u64; 2];
            for key in (0..10_000).map(|step| from.wrapping_add(step)) {
                counts[picked(&choice, &sent(&[]), Client { key: Some(key), side: None }).0] += 1;
            }
            prop_assert!((counts[0] as f64 - 2_500.0).abs() < 250.0, "{counts:?}");
        }
    }
}

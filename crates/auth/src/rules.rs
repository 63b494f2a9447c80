//! What somebody must have to be let in: roles, scopes and claims, joined by all, any and not.
//!
//! A rule is read from the file once and asked when a proof is checked, not at each request. It has a bound of depth and
//! size, so that asking it is cheap however it was written.

use serde_json::Value;

use crate::identity::Identity;

/// Rules within rules.
pub const RULE_DEPTH_MAX: usize = 8;
/// Parts of a rule in all.
pub const RULE_PARTS_MAX: usize = 128;

/// An expression over who somebody is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// Every one of them holds; holds when there is none.
    All(Vec<Rule>),
    /// One of them holds; does not hold when there is none.
    Any(Vec<Rule>),
    /// It does not hold.
    Not(Box<Rule>),
    /// They have that role.
    Role(String),
    /// They were granted that scope.
    Scope(String),
    /// The claim at that path is there, and is that value or a list with it.
    Claim {
        /// As [`Identity::claim`] takes it.
        path: String,
        /// As text; nothing for whatever it is, but `false` and `null`.
        value: Option<String>,
    },
}

/// Why a rule is none; the file's to put right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// Not one of the words.
    #[error("`{0}` is no rule; write `role:NAME`, `scope:NAME`, `claim:PATH` or `claim:PATH=VALUE`")]
    Unknown(String),
    /// Too many rules within rules.
    #[error("rules may stand within each other {RULE_DEPTH_MAX} deep, this goes deeper")]
    TooDeep,
    /// Too many parts.
    #[error("a rule may have {RULE_PARTS_MAX} parts, this has more")]
    TooLarge,
}

impl Rule {
    /// Reads one word: `role:admin`, `scope:orders:read`, `claim:tier=gold`, `claim:email_verified`.
    ///
    /// # Errors
    /// [`RuleError::Unknown`] for any other.
    pub fn parse(word: &str) -> Result<Self, RuleError> {
        let unknown = || RuleError::Unknown(word.to_owned());
        let (kind, rest) = word.split_once(':').ok_or_else(unknown)?;
        if rest.is_empty() {
            return Err(unknown());
        }
        match (kind, rest.split_once('=')) {
            ("role", _) => Ok(Self::Role(rest.to_owned())),
            ("scope", _) => Ok(Self::Scope(rest.to_owned())),
            ("claim", None) => Ok(Self::Claim { path: rest.to_owned(), value: None }),
            ("claim", Some((path, value))) if !path.is_empty() => {
                Ok(Self::Claim { path: path.to_owned(), value: Some(value.to_owned()) })
            }
            _ => Err(unknown()),
        }
    }

    /// Any of these roles.
    #[must_use]
    pub fn any_role(roles: &[String]) -> Self {
        Self::Any(roles.iter().cloned().map(Self::Role).collect())
    }

    /// Whether it keeps the bounds.
    ///
    /// # Errors
    /// [`RuleError::TooDeep`], [`RuleError::TooLarge`].
    pub fn check(&self) -> Result<(), RuleError> {
        let mut parts = 0;
        self.count(1, &mut parts)
    }

    fn count(&self, depth: usize, parts: &mut usize) -> Result<(), RuleError> {
        *parts += 1;
        if *parts > RULE_PARTS_MAX {
            return Err(RuleError::TooLarge);
        }
        let inner = match self {
            Self::All(inner) | Self::Any(inner) => inner.as_slice(),
            Self::Not(inner) => std::slice::from_ref(&**inner),
            Self::Role(_) | Self::Scope(_) | Self::Claim { .. } => return Ok(()),
        };
        if depth >= RULE_DEPTH_MAX {
            return Err(RuleError::TooDeep);
        }
        inner.iter().try_for_each(|rule| rule.count(depth + 1, parts))
    }

    /// Whether it holds of them.
    #[must_use]
    pub fn holds(&self, identity: &Identity) -> bool {
        match self {
            Self::All(rules) => rules.iter().all(|rule| rule.holds(identity)),
            Self::Any(rules) => rules.iter().any(|rule| rule.holds(identity)),
            Self::Not(rule) => !rule.holds(identity),
            Self::Role(role) => identity.has_role(role),
            Self::Scope(scope) => identity.has_scope(scope),
            Self::Claim { path, value: None } => {
                !matches!(identity.claim(path), None | Some(Value::Null | Value::Bool(false)))
            }
            Self::Claim { path, value: Some(wanted) } => match identity.claim(path) {
                Some(Value::Array(list)) => list.iter().any(|value| is(value, wanted)),
                Some(value) => is(value, wanted),
                None => {
                    matches!(path.as_str(), "sub" | "iss")
                        && identity.claim_text(path).is_some_and(|text| text == wanted.as_str())
                }
            },
        }
    }

    /// The scopes it speaks of and that they lack, for `scope` of RFC 6750 section 3. Those under a `not` are not among
    /// them.
    pub(crate) fn missing_scopes<'a>(&'a self, identity: &Identity, into: &mut Vec<&'a str>) {
        match self {
            Self::All(rules) | Self::Any(rules) => {
                rules.iter().for_each(|rule| rule.missing_scopes(identity, into));
            }
            Self::Scope(scope) if !identity.has_scope(scope) && !into.contains(&scope.as_str()) => {
                into.push(scope);
            }
            Self::Not(_) | Self::Role(_) | Self::Scope(_) | Self::Claim { .. } => {}
        }
    }
}

fn is(value: &Value, wanted: &str) -> bool {
    match value {
        Value::String(text) => text == wanted,
        Value::Bool(value) => wanted == if *value { "true" } else { "false" },
        Value::Number(number) => number.to_string() == wanted,
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use crate::identity::Method;

    fn role(name: &str) -> Rule {
        Rule::Role(name.to_owned())
    }

    fn ann() -> Identity {
        let claims = serde_json::from_str(
            r#"{"tier":"gold","groups":["a","b"],"age":7,"verified":true,
            "off":false,"nothing":null,"realm_access":{"roles":["deep"]}}"#,
        );
        Identity {
            roles: vec!["customer".to_owned()],
            scopes: vec!["orders:read".to_owned()],
            claims: claims.expect("an object"),
            ..Identity::new(Method::Token, "https://id.example.com", "ann")
        }
    }

    #[test]
    fn words_of_the_file_say_what_they_mean() {
        for word in [
            "role:customer",
            "scope:orders:read",
            "claim:tier=gold",
            "claim:groups=b",
            "claim:age=7",
            "claim:verified",
            "claim:verified=true",
            "claim:realm_access.roles=deep",
            "claim:sub=ann",
            "claim:tier",
        ] {
            assert!(Rule::parse(word).expect("a rule").holds(&ann()), "{word}");
        }
        for word in [
            "role:admin",
            "role:Customer",
            "scope:orders",
            "claim:tier=silver",
            "claim:groups=c",
            "claim:off",
            "claim:nothing",
            "claim:absent",
            "claim:absent=",
            "claim:sub=bob",
            "claim:realm_access",
        ] {
            let holds = Rule::parse(word).expect("a rule").holds(&ann());
            assert_eq!(holds, word == "claim:realm_access", "{word}");
        }
        for word in ["", "role", "role:", "roles:admin", "claim:=x", "customer"] {
            assert!(matches!(Rule::parse(word), Err(RuleError::Unknown(_))), "{word}");
        }
    }

    #[test]
    fn a_rule_has_a_bound_of_depth_and_of_size() {
        let nested = |depth: usize| (1..depth).fold(role("a"), |rule, _| Rule::Not(Box::new(rule)));
        assert_eq!(nested(RULE_DEPTH_MAX).check(), Ok(()));
        assert_eq!(nested(RULE_DEPTH_MAX + 1).check(), Err(RuleError::TooDeep));
        let wide = |parts: usize| Rule::Any(vec![role("a"); parts - 1]);
        assert_eq!(wide(RULE_PARTS_MAX).check(), Ok(()));
        assert_eq!(wide(RULE_PARTS_MAX + 1).check(), Err(RuleError::TooLarge));
    }

    #[test]
    fn who_lacks_a_scope_is_told_which() {
        let scope = |name: &str| Rule::Scope(name.to_owned());
        let without = Rule::Not(Box::new(scope("never")));
        let rule = Rule::All(vec![
            scope("orders:read"),
            scope("orders:write"),
            Rule::Any(vec![scope("x")]),
            without,
        ]);
        let mut missing = Vec::new();
        rule.missing_scopes(&ann(), &mut missing);
        assert_eq!(missing, ["orders:write", "x"]);
    }

    /// A formula over four roles, as data that both readings start from.
    fn formula() -> impl Strategy<Value = Rule> {
        let leaf = (0..4u8).prop_map(|which| role(&which.to_string()));
        leaf.prop_recursive(5, 40, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Rule::All),
                prop::collection::vec(inner.clone(), 0..4).prop_map(Rule::Any),
                inner.prop_map(|rule| Rule::Not(Box::new(rule))),
            ]
        })
    }

    /// The naive reading: the set of all role sets for which it holds.
    fn models(rule: &Rule) -> HashSet<u8> {
        let every = || (0..16u8).collect::<HashSet<_>>();
        match rule {
            Rule::All(rules) => rules.iter().fold(every(), |all, rule| &all & &models(rule)),
            Rule::Any(rules) => rules.iter().fold(HashSet::new(), |any, rule| &any | &models(rule)),
            Rule::Not(rule) => &every() - &models(rule),
            Rule::Role(name) => {
                let bit: u8 = name.parse().expect("a digit");
                every().into_iter().filter(|set| set & (1 << bit) != 0).collect()
            }
            Rule::Scope(_) | Rule::Claim { .. } => HashSet::new(),
        }
    }

    proptest! {
        #[test]
        fn a_formula_holds_of_exactly_those_that_its_sets_name(rule in formula()) {
            let expected = models(&rule);
            for set in 0..16u8 {
                let given = (0..4).filter(|bit| set & (1 << bit) != 0).map(|bit| bit.to_string());
                let who = Identity { roles: given.collect(), ..Identity::new(Method::Token, "i", "s") };
                prop_assert_eq!(rule.holds(&who), expected.contains(&set), "{:?} of {:04b}", rule, set);
            }
        }
    }
}

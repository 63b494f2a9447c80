//! What people write in plain although it is none of everybody's business: a token in a header, a password in a variable.
//!
//! A secret belongs elsewhere, and is a reference in the file. But a header that a vendor invented, or `DB_PASSWORD`, looks like
//! any other text, and what `terrace check`, the dashboard and the admin API show ends up in tickets and on walls. So of the values
//! below keys that somebody named, those are shown that are known to be harmless (headers that Terrace sends) or do not sound like
//! a secret (variables and fields of the app's requests); the others are there, and not what they are.

/// What is shown instead.
pub(crate) const NOT_SHOWN: &str = "\"•••\"";

/// Headers that Terrace sends with requests of its own and that give nothing away: what is asked for, by whom, for which tenant.
const HARMLESS_HEADERS: [&str; 8] = [
    "accept",
    "accept-language",
    "cache-control",
    "from",
    "prefer",
    "referer",
    "user-agent",
    "x-scope-orgid",
];

/// Parts of the names of what is secret.
const SOUND_SECRET: [&str; 12] = [
    "auth",
    "cookie",
    "credential",
    "dsn",
    "key",
    "pass",
    "private",
    "pwd",
    "secret",
    "session",
    "signature",
    "token",
];

/// Keys below which the names are the user's and the values texts for others.
fn named_below(kind: &str) -> &'static [&'static str] {
    match kind {
        "notify" => &["headers."],
        "otlp" => &["export.headers."],
        "route" => &["request.set.", "request.add.", "request.query.set."],
        _ => &["env.", "request.set.", "request.add.", "request.query.set."],
    }
}

/// The user's own name in the dotted `key` of a table of that kind, if it ends with one.
fn own_name<'k>(kind: &str, key: &'k str) -> Option<&'k str> {
    named_below(kind).iter().find_map(|above| key.strip_prefix(above))
}

/// Whether the values of a key stay out of logs, whatever they are.
pub(crate) fn is_private(kind: &str, key: &str) -> bool {
    own_name(kind, key).is_some()
}

/// Whether `value`, as TOML on one line, is shown to whoever may look at the configuration. References to secrets are.
pub(crate) fn is_shown(kind: &str, key: &str, value: &str) -> bool {
    let Some(name) = own_name(kind, key).filter(|_| value.starts_with('"')) else { return true };
    let name = name.trim_matches('"').to_ascii_lowercase();
    match kind {
        "notify" | "otlp" => HARMLESS_HEADERS.contains(&name.as_str()),
        _ => !SOUND_SECRET.iter().any(|part| name.contains(part)) && !has_password(value),
    }
}

/// Whether a text has user and password before a host, as in `postgres://app:secret@db/shop`.
fn has_password(text: &str) -> bool {
    text.split("://").skip(1).any(|rest| {
        let authority = rest.split(['/', '?', '#', '"', ' ']).next().unwrap_or_default();
        authority.split_once('@').is_some_and(|(user, _)| user.contains(':'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_shown_when_it_is_known_to_give_nothing_away() {
        assert!(is_shown("notify", "headers.User-Agent", "\"shop\""));
        assert!(is_shown("otlp", "export.headers.X-Scope-OrgID", "\"shop\""));
        assert!(
            is_shown("notify", "headers.Authorization", "{ env = \"TOKEN\" }"),
            "it is no secret where one is"
        );
        for key in ["headers.X-Api-Token", "headers.X-Team", "headers.\"X.Odd\""] {
            assert!(!is_shown("notify", key, "\"hunter2\""), "{key}");
        }
        assert!(!is_shown("otlp", "export.headers.x-honeycomb-team", "\"hunter2\""));
    }

    #[test]
    fn a_variable_is_shown_unless_it_sounds_like_a_secret_or_holds_a_password() {
        for (key, value) in [
            ("env.NODE_ENV", "\"production\""),
            ("env.DATABASE_URL", "\"postgres://db.internal:5432/shop?user=a@b\""),
            ("run", "\"node token.js\""),
        ] {
            assert!(is_shown("service", key, value), "{key}");
        }
        for (key, value) in [
            ("env.DB_PASSWORD", "\"hunter2\""),
            ("env.STRIPE_KEY", "\"hunter2\""),
            ("env.DATABASE_URL", "\"postgres://app:hunter2@db.internal/shop\""),
            ("request.set.X-Api-Key", "\"hunter2\""),
            ("request.query.set.token", "\"hunter2\""),
        ] {
            assert!(!is_shown("service", key, value), "{key}");
        }
    }
}

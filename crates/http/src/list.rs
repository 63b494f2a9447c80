//! Comma-separated lists in field values (RFC 9110 section 5.6.1), as far as `Connection`, `Upgrade`, `TE` need them.

/// The members of a list of tokens, trimmed; empty members are skipped as a recipient must.
pub fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

/// Whether the list has the member `token`, in any case.
#[must_use]
pub fn contains_token(value: &[u8], token: &str) -> bool {
    tokens(value).any(|member| member.eq_ignore_ascii_case(token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc9110_5_6_1_empty_members_are_skipped() {
        assert_eq!(tokens(b" , close,,Upgrade ,").collect::<Vec<_>>(), [&b"close"[..], b"Upgrade"]);
        assert!(contains_token(b"keep-alive, UPGRADE", "upgrade"));
        assert!(!contains_token(b"upgraded", "upgrade"));
    }
}

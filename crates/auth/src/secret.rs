//! Bytes that nobody shall see: they are compared without telling how much of them was right, and never printed.

use std::fmt;

/// A secret of the file, or one that a client sent.
#[derive(Clone, Eq)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// The secret with those bytes.
    #[must_use]
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// Its bytes, for whoever has to use them.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

/// Takes the same time wherever the first difference is; the lengths are no secret.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        is_same(&self.0, &other.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

/// Whether both are the same, in a time that depends on their lengths alone.
#[must_use]
pub(crate) fn is_same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let difference = one.iter().zip(other).fold(0, |difference, (a, b)| difference | (a ^ b));
    // The compiler must not learn that the first difference decides.
    std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_compared_and_never_shown() {
        let secret = Secret::new(*b"hunter2");
        assert_eq!(secret, Secret::new(*b"hunter2"));
        assert_ne!(secret, Secret::new(*b"hunter3"));
        assert_ne!(secret, Secret::new(*b"hunter"));
        assert_eq!(format!("{secret:?}"), "Secret(…)");
    }
}

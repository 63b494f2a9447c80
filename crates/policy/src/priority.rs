//! How much a request matters when not all can be served.

/// Higher is served first, and shed last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Shed first: what nobody waits for.
    Low,
    /// What nothing else is said of.
    #[default]
    Normal,
    /// Shed last.
    High,
}

impl Priority {
    /// All, the lowest first.
    pub const ALL: [Self; 3] = [Self::Low, Self::Normal, Self::High];

    /// In lower case, as in the file, in labels and events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
        }
    }

    /// The next higher one; of the highest it is that.
    #[must_use]
    pub const fn raised(self) -> Self {
        match self {
            Self::Low => Self::Normal,
            Self::Normal | Self::High => Self::High,
        }
    }

    /// The priority of that name; case does not matter.
    pub fn parse(text: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|priority| text.eq_ignore_ascii_case(priority.as_str().as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_priority_is_read_as_it_is_written() {
        assert!(Priority::ALL.iter().all(|one| Priority::parse(one.as_str().as_bytes()) == Some(*one)));
        assert_eq!(Priority::parse(b"HIGH"), Some(Priority::High));
        assert_eq!(Priority::parse(b"urgent"), None);
        assert!(Priority::Low < Priority::Normal && Priority::Normal < Priority::High);
    }
}

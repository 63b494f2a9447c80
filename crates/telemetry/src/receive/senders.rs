//! By which name a sender goes among the others.
//!
//! Who sends says itself who it is, and everything that is shared fairly among services, records and traces, is shared by
//! that name. So a name is what people would read in it, nobody is called as Terrace is, and whoever invents names without
//! end goes by one name for all of them: else each would have a share, and those of the real services would be worth
//! nothing.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use terrace_signals::records::clean;

/// Names that are of no service with instances of ours; what has a further one is [`OTHERS`].
const STRANGERS_MAX: usize = 64;
/// Bytes of a name; the rest is cut off.
const NAME_BYTES_MAX: usize = 200;
/// Whose name nobody else may bear.
const TERRACE: &str = "terrace";
/// Who was one too many.
const OTHERS: &str = "other services";

/// The names that are known.
#[derive(Debug, Default)]
pub(super) struct Senders(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    names: HashSet<Arc<str>>,
    strangers: usize,
}

impl Senders {
    /// The name for what calls itself `said`. Services for which `is_ours` holds always have their own.
    pub(super) fn name(&self, said: &str, is_ours: impl FnOnce(&str) -> bool) -> Arc<str> {
        let name = readable(said);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = known.names.get(name.as_str()) {
            return Arc::clone(name);
        }
        if !is_ours(&name) {
            if known.strangers >= STRANGERS_MAX {
                return Arc::from(OTHERS);
            }
            known.strangers += 1;
        }
        let name: Arc<str> = name.into();
        known.names.insert(Arc::clone(&name));
        name
    }
}

/// What is left of a name counts, not what was sent: what cannot be seen must not make another of it.
pub(super) fn readable(said: &str) -> String {
    let clean = clean(said);
    let mut end = clean.len().min(NAME_BYTES_MAX);
    while !clean.is_char_boundary(end) {
        end -= 1;
    }
    match clean[..end].trim() {
        "" => "unknown_service".to_owned(),
        // What bears that name is believed to be ours.
        TERRACE => "terrace (app)".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_invents_names_without_end_has_one_for_all_of_them_and_real_services_keep_theirs() {
        let senders = Senders::default();
        let is_ours = |name: &str| name == "orders";
        let names: HashSet<Arc<str>> =
            (0..10_000).map(|number| senders.name(&format!("s{number}"), is_ours)).collect();
        assert_eq!(names.len(), STRANGERS_MAX + 1);
        assert!(names.contains(OTHERS));
        assert_eq!((&*senders.name("orders", is_ours), &*senders.name("s1", is_ours)), ("orders", "s1"));
    }

    #[test]
    fn nobody_is_called_as_terrace_is() {
        for said in ["terrace", "terr\u{0}ace", "\u{1b}[1mterrace", " terrace\n"] {
            assert_eq!(readable(said), "terrace (app)", "{said:?}");
        }
        assert_eq!(
            (readable("\u{1b}[0m"), readable("")),
            ("unknown_service".into(), "unknown_service".into())
        );
        assert_eq!(readable(&"é".repeat(500)).len(), NAME_BYTES_MAX);
    }
}

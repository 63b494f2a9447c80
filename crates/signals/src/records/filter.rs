//! Which records are wanted.
//!
//! What costs least is asked first: most records fail at a name or a level, and only the rest is searched for text.

use std::time::SystemTime;

use terrace_instruments::{Level, TraceId};

use super::LogRecord;

/// Which records are wanted; one that is empty wants all.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LogFilter {
    /// Of this service; `terrace` for Terrace itself.
    pub service: Option<String>,
    /// Of this instance.
    pub instance: Option<String>,
    /// This level and above.
    pub level_min: Option<Level>,
    /// Of this trace.
    pub trace: Option<TraceId>,
    /// With this text in the event's name, the message, or a field's name or value (as JSON), whatever its case.
    pub text: Option<String>,
    /// Not before.
    pub since: Option<SystemTime>,
    /// Not after.
    pub until: Option<SystemTime>,
}

impl LogFilter {
    /// Whether a record is wanted.
    pub fn wants(&self, record: &LogRecord) -> bool {
        self.wants_but_for_text(record) && self.text.as_deref().is_none_or(|text| says(record, text))
    }

    fn wants_but_for_text(&self, record: &LogRecord) -> bool {
        self.service.as_deref().is_none_or(|service| service == record.owner())
            && self.instance.as_deref().is_none_or(|instance| instance == record.instance)
            && self.level_min.is_none_or(|level| level <= record.level)
            && (self.trace.is_none() || self.trace == record.trace)
            && self.since.is_none_or(|since| since <= record.time)
            && self.until.is_none_or(|until| record.time <= until)
    }
}

fn says(record: &LogRecord, text: &str) -> bool {
    contains(&record.message, text)
        || contains(&record.event, text)
        || record.fields.iter().any(|(name, value)| contains(value, text) || contains(name, text))
}

/// Whether `needle` is in `text`, whatever the case of either. For a needle of ASCII, which most are, nothing is
/// allocated.
fn contains(text: &str, needle: &str) -> bool {
    if !needle.is_ascii() {
        return text.to_lowercase().contains(&needle.to_lowercase());
    }
    let (text, needle) = (text.as_bytes(), needle.as_bytes());
    let Some(first) = needle.first() else { return true };
    let (low, high) = (first.to_ascii_lowercase(), first.to_ascii_uppercase());
    let Some(last_start) = text.len().checked_sub(needle.len()) else { return false };
    (0..=last_start).any(|at| {
        (text[at] == low || text[at] == high) && text[at..at + needle.len()].eq_ignore_ascii_case(needle)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn record() -> LogRecord {
        LogRecord {
            service: "orders".to_owned(),
            instance: "orders-1".to_owned(),
            trace: Some(TraceId(7)),
            message: "Straße GESPERRT".to_owned(),
            fields: vec![("route".to_owned(), "\"checkout\"".to_owned())],
            ..LogRecord::new(SystemTime::UNIX_EPOCH + Duration::from_secs(100), Level::Warn, "road.closed")
        }
    }

    #[track_caller]
    fn check(wanted: bool, filter: LogFilter) {
        assert_eq!(filter.wants(&record()), wanted, "{filter:?}");
    }

    fn of(change: impl FnOnce(&mut LogFilter)) -> LogFilter {
        let mut filter = LogFilter::default();
        change(&mut filter);
        filter
    }

    #[test]
    fn each_condition_is_asked_of_its_own_part() {
        check(true, LogFilter::default());
        check(true, of(|filter| filter.service = Some("orders".to_owned())));
        check(false, of(|filter| filter.service = Some("order".to_owned())));
        check(false, of(|filter| filter.service = Some("terrace".to_owned())));
        check(false, of(|filter| filter.instance = Some("orders-2".to_owned())));
        check(true, of(|filter| filter.level_min = Some(Level::Warn)));
        check(false, of(|filter| filter.level_min = Some(Level::Error)));
        check(true, of(|filter| filter.trace = Some(TraceId(7))));
        check(false, of(|filter| filter.trace = Some(TraceId(8))));
    }

    #[test]
    fn the_bounds_of_time_belong_to_it() {
        let at = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        check(true, of(|filter| (filter.since, filter.until) = (at(100), at(100))));
        check(false, of(|filter| filter.since = at(101)));
        check(false, of(|filter| filter.until = at(99)));
    }

    #[test]
    fn text_is_found_wherever_a_person_would_look_and_in_any_case() {
        for text in
            ["", "gesperrt", "STRASSE".to_lowercase().as_str(), "ROAD.", "Checkout", "route", "straße"]
        {
            let wanted = text != "strasse";
            check(wanted, of(|filter| filter.text = Some(text.to_owned())));
        }
    }

    #[test]
    fn what_terrace_says_of_itself_is_found_under_its_name() {
        let own = LogRecord::new(SystemTime::UNIX_EPOCH, Level::Info, "ready");
        assert!(of(|filter| filter.service = Some("terrace".to_owned())).wants(&own));
    }

    proptest! {
        #[test]
        fn text_is_searched_as_the_simplest_way_would(text in "[aAbBc]{0,12}", needle in "[aAbB]{0,4}") {
            let simple = text.to_lowercase().contains(&needle.to_lowercase());
            prop_assert_eq!(contains(&text, &needle), simple);
        }

        #[test]
        fn any_texts_can_be_compared(text in any::<String>(), needle in any::<String>()) {
            let whole = format!("{text}{needle}{text}");
            prop_assert!(contains(&whole, &needle));
        }
    }
}

//! What a family is called in the Prometheus text, which is the name that files, charts and people use.

use terrace_instruments::{Family, Kind};

/// A family's name without `_total`, with its unit last.
pub fn base_name(name: &str, unit: &str, kind: Kind) -> String {
    let base = match name.strip_suffix("_total") {
        Some(base) if kind == Kind::Counter => base,
        _ => name,
    };
    let has_unit = unit.is_empty() || base.strip_suffix(unit).is_some_and(|rest| rest.ends_with('_'));
    if has_unit { base.to_owned() } else { format!("{base}_{unit}") }
}

/// The name of a family's samples: with `_total` for a counter. Of a histogram that of the family.
pub fn text_name(family: &Family) -> String {
    let base = base_name(family.name, unit(family), family.kind);
    if family.kind == Kind::Counter { format!("{base}_total") } else { base }
}

/// The unit; a histogram records durations, so it is in seconds whatever its family forgot to say.
pub fn unit(family: &Family) -> &'static str {
    if family.kind == Kind::Histogram { "seconds" } else { family.unit }
}

/// Names under which a person may mean the family `name`, likeliest first.
pub(crate) fn spellings(name: &str) -> impl Iterator<Item = String> {
    let bare = name.strip_suffix("_total").unwrap_or(name);
    let endings = ["", "_total", "_seconds", "_seconds_total", "_bytes", "_bytes_total"];
    std::iter::once(name.to_owned()).chain(endings.into_iter().map(move |ending| format!("{bare}{ending}")))
}

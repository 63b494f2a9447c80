//! OpenTelemetry's names as Prometheus has them ("Prometheus and OpenMetrics compatibility", section OTLP metric points to
//! Prometheus): `http.server.request.duration` in `s` is `http_server_request_duration_seconds`.

/// The name of a metric's samples, without `_total` of a counter.
pub(super) fn metric(name: &str, unit: &str) -> String {
    let mut text = sanitised(name);
    if text.starts_with(|first: char| first.is_ascii_digit()) {
        text.insert(0, '_');
    }
    let unit = unit_words(unit);
    let bare = text.strip_suffix("_total").unwrap_or(&text);
    let has_unit = unit.is_empty() || bare == unit || bare.ends_with(&format!("_{unit}"));
    if has_unit { bare.to_owned() } else { format!("{bare}_{unit}") }
}

/// The name of a label.
pub(super) fn label(name: &str) -> String {
    let text = sanitised(name);
    if text.starts_with(|first: char| first.is_ascii_digit()) { format!("key_{text}") } else { text }
}

/// What Prometheus does not allow becomes `_`, of several in a row one.
fn sanitised(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for character in name.chars() {
        let character = if character.is_ascii_alphanumeric() { character } else { '_' };
        if character != '_' || !text.ends_with('_') {
            text.push(character);
        }
    }
    text
}

/// A unit of UCUM as words: `By/s` is `bytes_per_second`; what is in braces is a remark.
fn unit_words(unit: &str) -> String {
    let (of, per) = match unit.split_once('/') {
        Some((of, per)) => (of, Some(per)),
        None => (unit, None),
    };
    match (word(of), per.map(singular)) {
        (of, Some(per)) if !per.is_empty() => format!("{of}_per_{per}").trim_start_matches('_').to_owned(),
        (of, _) => of,
    }
}

fn word(unit: &str) -> String {
    let known = match unit.trim() {
        "d" => "days",
        "h" => "hours",
        "min" => "minutes",
        "s" => "seconds",
        "ms" => "milliseconds",
        "us" => "microseconds",
        "ns" => "nanoseconds",
        "By" => "bytes",
        "KiBy" => "kibibytes",
        "MiBy" => "mebibytes",
        "GiBy" => "gibibytes",
        "kBy" | "KBy" => "kilobytes",
        "MBy" => "megabytes",
        "GBy" => "gigabytes",
        "m" => "meters",
        "V" => "volts",
        "A" => "amperes",
        "J" => "joules",
        "W" => "watts",
        "g" => "grams",
        "Cel" => "celsius",
        "Hz" => "hertz",
        "%" => "percent",
        "1" => "",
        other if other.starts_with('{') => "",
        other => return sanitised(other).trim_matches('_').to_owned(),
    };
    known.to_owned()
}

fn singular(unit: &str) -> String {
    let word = word(unit);
    match word.strip_suffix('s') {
        Some(one) if word != "celsius" => one.to_owned(),
        _ => word,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_the_collector_gives() {
        for (name, unit, expected) in [
            ("http.server.request.duration", "s", "http_server_request_duration_seconds"),
            ("orders.placed", "{order}", "orders_placed"),
            ("orders_placed_total", "", "orders_placed"),
            ("process.memory_bytes", "By", "process_memory_bytes"),
            ("net  io..rate", "By/s", "net_io_rate_bytes_per_second"),
            ("requests", "{request}/s", "requests_per_second"),
            ("1st", "1", "_1st"),
            ("größe", "foo bar", "gr_e_foo_bar"),
        ] {
            assert_eq!(metric(name, unit), expected, "{name} in {unit}");
        }
        assert_eq!((label("http.route").as_str(), label("0").as_str()), ("http_route", "key_0"));
    }
}

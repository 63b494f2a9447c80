//! What the fuzzers call, and what must hold of every input.

use std::time::{Duration, SystemTime};

use terrace_signals::alerts::{Engine, Objective, Rules, Saved, Sight, Subject};
use terrace_signals::records::{LINE_BYTES_MAX, read_line};
use terrace_signals::series::Chart;
use terrace_signals::series::text::{Dialect, TextBounds, merge, parse, write};

/// A line: what is read of it holds nothing that a terminal would obey, every field is JSON under a name of its own, and
/// it is not much longer than the line was.
pub(crate) fn line(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for is_cut in [false, true] {
        let line = read_line(&text, is_cut);
        holds_no_control(&line.message);
        line.event.as_deref().map(holds_no_control);
        holds_no_control(&line.request_id);
        let mut length = line.message.len() + line.request_id.len();
        for (at, (name, value)) in line.fields.iter().enumerate() {
            holds_no_control(name);
            assert!(serde_json::from_str::<serde_json::Value>(value).is_ok(), "{name}: {value} is no JSON");
            assert!(!line.fields[..at].iter().any(|(other, _)| other == name), "{name} is twice in it");
            length += name.len() + value.len();
        }
        // A quarter of an escaped control character is left of it, and a number may be written out in full.
        assert!(length <= 400 + 6 * text.len().min(LINE_BYTES_MAX), "{length} bytes of {}", text.len());
    }
}

fn holds_no_control(text: &str) {
    assert!(text.chars().all(|c| !c.is_control() || matches!(c, '\t' | '\n')), "{text:?}");
}

/// Metrics of others: what is accepted and written again, in either format, is read as the same, and nothing is left
/// out of it a second time.
pub(crate) fn text(data: &[u8]) {
    let bounds = TextBounds { bytes_max: 1 << 16, samples_max: 50, labels_max: 8 };
    for dialect in [Dialect::Prometheus, Dialect::OpenMetrics] {
        let Ok(text) = parse(data, dialect, &bounds) else { continue };
        assert!(text.samples() <= bounds.samples_max);
        assert!(text.to_samples().iter().all(|sample| sample.labels.is_sorted()));
        let (families, _dropped) = merge([&text]);
        let written = write(&families, Dialect::OpenMetrics);
        let roomy = TextBounds { bytes_max: 1 << 20, ..bounds };
        let again = parse(written.as_bytes(), Dialect::OpenMetrics, &roomy);
        let again = again.unwrap_or_else(|error| panic!("{error}: {written}"));
        assert_eq!(again.dropped, 0, "{written}");
        assert_eq!(write(&merge([&again]).0, Dialect::OpenMetrics), written);
        let older = write(&families, Dialect::Prometheus);
        let again = parse(older.as_bytes(), Dialect::Prometheus, &roomy);
        let again = again.unwrap_or_else(|error| panic!("{error}: {older}"));
        let count = |families: &[terrace_signals::series::text::TextFamily]| -> usize {
            families.iter().map(|family| family.samples.len()).sum()
        };
        assert_eq!((again.samples(), again.dropped), (count(&families), 0), "{older}");
    }
}

/// The state of alerts on disk: what is accepted can be gone on with, and what is then saved is accepted.
pub(crate) fn alerts_state(data: &[u8]) {
    let Ok(saved) = Saved::parse(data) else { return };
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_100_000);
    let checkout = Objective {
        name: "checkout".to_owned(),
        subject: Subject::Route("orders".to_owned()),
        success: Some(0.999),
        latency: None,
        window: Duration::from_secs(30 * 86_400),
        notify: Vec::new(),
    };
    let rules = Rules { objectives: vec![checkout], ..Rules::default() };
    let mut engine = Engine::restore(rules, saved, Duration::from_secs(1), wall);
    for seconds in [2, 400, 100_000] {
        let sight = Sight { own: &[], ask: &|_| Chart::default(), unusual: &Vec::new };
        let ticked = engine.tick(Duration::from_secs(seconds), wall, &sight);
        ticked
            .notifications
            .iter()
            .for_each(|message| engine.settled(Duration::from_secs(seconds), message.id, true));
        engine.objectives();
        engine.alerts(wall);
        engine.silences(wall);
    }
    let json = engine.save(wall).to_json();
    assert!(Saved::parse(&json).is_ok(), "{}", String::from_utf8_lossy(&json));
}

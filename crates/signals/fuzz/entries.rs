//! What the fuzzers call, and what must hold of every input.

use terrace_signals::records::{LINE_BYTES_MAX, read_line};

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

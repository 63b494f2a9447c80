//! What a line that is not JSON says of its own level, guessed only where there is little doubt.
//!
//! A wrong guess is worse than none: `no errors found` is no error. So a level counts only at the head of a line,
//! behind nothing but a time, process numbers and brackets, and written as logging libraries write it.

use terrace_instruments::Level;

use super::levels::{level_of, level_of_number};

/// Words at the head of a line that may be a time or a process's number: `2026-01-31 23:59:59.123 UTC [42]`.
const PREFIXES_MAX: usize = 5;

/// The level that a line begins with, and the line without a mark that only says that:
///
/// | begins with | as written by |
/// |---|---|
/// | `<3>` | `sd-daemon(3)`; the mark is taken off |
/// | `E1122 13:14:15` | glog, klog |
/// | `ERROR`, `WARN:`, `WARNING -` | log4j, Python, env_logger, zap's console |
/// | `[error]`, `[WARN]` in any case | nginx, gunicorn |
/// | `error:`, `warning:` in any case | compilers, winston, `PostgreSQL` |
/// | `TypeError:`, `java.io.IOException:` | Node, Java, Python |
/// | `Traceback (most recent call last):`, `Exception in thread`, `panic:`, `thread 'main' panicked at` | crashes |
/// | `time=… level=warn …` | logfmt |
pub(crate) fn level_at_head(line: &str) -> (Option<Level>, &str) {
    if let Some((level, rest)) = daemon_mark(line) {
        return (Some(level), rest);
    }
    let level = glog(line).or_else(|| crash(line)).or_else(|| logfmt(line)).or_else(|| word_at_head(line));
    (level, line)
}

fn daemon_mark(line: &str) -> Option<(Level, &str)> {
    let digit = line.strip_prefix('<')?.chars().next()?.to_digit(8)?;
    let rest = line.get(2..)?.strip_prefix('>')?;
    Some((level_of_number(u64::from(digit))?, rest))
}

/// `E1122 13:14:15.000000   1 file.go:1] text`: level, month and day.
fn glog(line: &str) -> Option<Level> {
    let level = match line.as_bytes().first()? {
        b'I' => Level::Info,
        b'W' => Level::Warn,
        b'E' | b'F' => Level::Error,
        _ => return None,
    };
    let (date, rest) = line[1..].split_once(' ')?;
    let is_time = |text: &str| {
        text.len() >= 8 && text.bytes().take(8).all(|byte| byte.is_ascii_digit() || byte == b':')
    };
    let is_date = date.len() == 4 && date.bytes().all(|byte| byte.is_ascii_digit());
    (is_date && is_time(rest.trim_start())).then_some(level)
}

fn crash(line: &str) -> Option<Level> {
    let first = line.split(' ').next().unwrap_or_default();
    let is_crash = first.ends_with("Error:")
        || first.ends_with("Exception:")
        || line.starts_with("Traceback (most recent call last):")
        || line.starts_with("Exception in thread ")
        || line.starts_with("Uncaught ")
        || (line.starts_with("thread '") && line.contains(" panicked at "));
    is_crash.then_some(Level::Error)
}

fn logfmt(line: &str) -> Option<Level> {
    let (key, _) = line.split_once('=')?;
    if key.is_empty()
        || !key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'@'))
    {
        return None;
    }
    line.split(' ').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        matches!(key, "level" | "lvl" | "severity").then(|| level_of(value.trim_matches('"')))?
    })
}

fn word_at_head(line: &str) -> Option<Level> {
    let mut words = line.split_ascii_whitespace();
    for _ in 0..=PREFIXES_MAX {
        let word = words.next()?;
        if !is_prefix(word) {
            return level_word(word);
        }
    }
    None
}

/// A part of a time, a time zone, or a process's number.
fn is_prefix(word: &str) -> bool {
    let inner = word.trim_matches(['[', ']', '(', ')', ',', '|', '-']);
    let has_digit = inner.bytes().any(|byte| byte.is_ascii_digit());
    let is_time = inner
        .bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b':' | b'-' | b'/' | b'.' | b',' | b'+' | b'T' | b'Z'));
    inner.is_empty() || (has_digit && is_time) || matches!(inner, "UTC" | "GMT" | "CET" | "CEST")
}

fn level_word(word: &str) -> Option<Level> {
    let open = word.trim_start_matches(['[', '(', '|']);
    let end = open.find(|character: char| !character.is_ascii_alphabetic()).unwrap_or(open.len());
    let (name, after) = open.split_at(end);
    let is_bracketed = open.len() < word.len() && after.starts_with([']', ')']);
    let is_shouted = name.len() > 1 && name.bytes().all(|byte| byte.is_ascii_uppercase());
    let is_alone = after.is_empty() || after.starts_with([':', ']', ')', ',', '|', '-']);
    if is_bracketed || (is_shouted && is_alone) || after == ":" { level_of(name) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Level::{Debug, Error, Info, Warn};

    #[track_caller]
    fn check(line: &str, level: impl Into<Option<Level>>) {
        assert_eq!(level_at_head(line), (level.into(), line));
    }

    #[test]
    fn a_level_at_the_head_is_read_as_libraries_write_it() {
        check("ERROR cannot connect", Error);
        check("WARNING:root:careful", Warn);
        check("[error] no", Error);
        check("info: listening", Info);
        check("2026-01-31 23:59:59,123 - WARN - slow", Warn);
        check("[2026-01-31T23:59:59Z DEBUG app] x", Debug);
        check("2026/01/31 23:59:59 [error] 12#12: *1 open() failed", Error);
        check("[2026-01-31 23:59:59 +0000] [7] [INFO] Booting", Info);
        check("2026-01-31 23:59:59.123 UTC [42] FATAL:  no such database", Error);
        check("E1122 13:14:15.678901   1 main.go:10] no", Error);
        check("I0102 03:04:05.000000 7 x.go:1] yes", Info);
        check("time=\"2026-01-31\" level=warning msg=\"slow\"", Warn);
    }

    #[test]
    fn a_crash_is_an_error() {
        check("TypeError: x is not a function", Error);
        check("java.io.IOException: broken pipe", Error);
        check("Traceback (most recent call last):", Error);
        check("Exception in thread \"main\" java.lang.Error", Error);
        check("panic: runtime error: index out of range", Error);
        check("thread 'main' panicked at src/main.rs:1:1:", Error);
    }

    #[test]
    fn what_only_speaks_of_errors_is_none() {
        for line in [
            "no errors found",
            "Error handling is on",
            "0 ERRORS",
            "listening on 8080",
            "",
            "error",
            "INFORMED SOURCES",
            "ERROR_CODE 3",
            "a warning: look",
            "E11 x",
            "Errors: 3",
            "http://example.com/error: no",
            "level of water=high",
            "W1234",
            "ERRORS everywhere",
            "1 2 3 4 5 6 7 ERROR",
            "informed: yes",
        ] {
            check(line, None);
        }
    }

    #[test]
    fn the_mark_for_a_service_manager_is_taken_off() {
        assert_eq!(level_at_head("<3>disk is gone"), (Some(Error), "disk is gone"));
        assert_eq!(level_at_head("<6>fine"), (Some(Info), "fine"));
        assert_eq!(level_at_head("<9>x"), (None, "<9>x"));
        assert_eq!(level_at_head("<b>bold</b>"), (None, "<b>bold</b>"));
    }
}

//! How much a line matters, in the many words that logging libraries have for it.

use terrace_instruments::Level;

/// The level that a word means, whatever its case: those of syslog, log4j, Python, Go, Rust, Node and .NET. `None` for a
/// word that is none.
pub fn level_of(word: &str) -> Option<Level> {
    const WORD_BYTES_MAX: usize = 16;
    if word.len() > WORD_BYTES_MAX {
        return None;
    }
    match word.to_ascii_lowercase().as_str() {
        "trace" | "debug" | "verbose" | "silly" | "fine" | "finer" | "finest" | "dbg" | "vrb" => {
            Some(Level::Debug)
        }
        "info" | "information" | "informational" | "notice" | "inf" | "log" | "http" => Some(Level::Info),
        "warn" | "warning" | "wrn" => Some(Level::Warn),
        "error" | "err" | "severe" | "critical" | "crit" | "fatal" | "alert" | "emerg" | "emergency"
        | "panic" | "dpanic" | "ftl" => Some(Level::Error),
        _ => None,
    }
}

/// The level that a number means: 0 to 7 are syslog's (RFC 5424 section 6.2.1), 10 to 60 those of pino and bunyan and
/// (from 50 on) Python, from 100 on Monolog's.
pub(crate) fn level_of_number(number: u64) -> Option<Level> {
    match number {
        0..=3 => Some(Level::Error),
        4 => Some(Level::Warn),
        5 | 6 => Some(Level::Info),
        7 | 10..=29 | 100..=199 => Some(Level::Debug),
        30..=39 | 200..=299 => Some(Level::Info),
        40..=49 | 300..=399 => Some(Level::Warn),
        50..=69 | 400..=699 => Some(Level::Error),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_many_libraries_are_known() {
        for (words, level) in [
            ("TRACE debug Verbose FINEST", Level::Debug),
            ("INFO Information notice http", Level::Info),
            ("WARN Warning", Level::Warn),
            ("ERROR err CRITICAL fatal emerg panic", Level::Error),
        ] {
            words.split(' ').for_each(|word| assert_eq!(level_of(word), Some(level), "{word}"));
        }
        assert_eq!((level_of("terrible"), level_of("")), (None, None));
        assert_eq!(level_of(&"x".repeat(1 << 20)), None);
    }

    #[test]
    fn numbers_are_those_of_pino_syslog_and_monolog() {
        let levels = |numbers: [u64; 6]| numbers.map(level_of_number);
        use Level::{Debug, Error, Info, Warn};
        assert_eq!(levels([10, 20, 30, 40, 50, 60]), [Debug, Debug, Info, Warn, Error, Error].map(Some));
        assert_eq!(levels([0, 3, 4, 5, 6, 7]), [Error, Error, Warn, Info, Info, Debug].map(Some));
        assert_eq!(levels([100, 200, 250, 300, 400, 600]), [Debug, Info, Info, Warn, Error, Error].map(Some));
        assert_eq!((level_of_number(8), level_of_number(u64::MAX)), (None, None));
    }
}

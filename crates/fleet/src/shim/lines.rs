//! Bytes of a pipe to lines of text, with a bound on how long a line may grow while it waits for its end.

use super::protocol::LINE_BYTES_MAX;

/// The lines of one stream.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// The line that has no end yet; at most [`LINE_BYTES_MAX`].
    open: Vec<u8>,
    /// Whether the rest of the present line is left out, because what was kept of it was told already.
    skipping: bool,
}

impl Lines {
    /// Takes bytes in and calls `line(text, cut)` for each line that is complete, or too long.
    pub(crate) fn push(&mut self, mut bytes: &[u8], mut line: impl FnMut(String, bool)) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.extend(&bytes[..end], &mut line);
            self.close(&mut line);
            bytes = &bytes[end + 1..];
        }
        self.extend(bytes, &mut line);
    }

    /// The stream ended: what is open is a line too.
    pub(crate) fn finish(&mut self, mut line: impl FnMut(String, bool)) {
        if !self.open.is_empty() {
            self.close(&mut line);
        }
    }

    fn extend(&mut self, bytes: &[u8], line: &mut impl FnMut(String, bool)) {
        if self.skipping {
            return;
        }
        let room = LINE_BYTES_MAX - self.open.len();
        self.open.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if bytes.len() > room {
            line(text(&self.open), true);
            self.open.clear();
            self.skipping = true;
        }
    }

    fn close(&mut self, line: &mut impl FnMut(String, bool)) {
        if self.skipping {
            self.skipping = false;
            return;
        }
        let bytes = self.open.strip_suffix(b"\r").unwrap_or(&self.open);
        line(text(bytes), false);
        self.open.clear();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(chunks: &[&[u8]]) -> Vec<(String, bool)> {
        let (mut lines, mut told) = (Lines::default(), Vec::new());
        for chunk in chunks {
            lines.push(chunk, |text, cut| told.push((text, cut)));
        }
        lines.finish(|text, cut| told.push((text, cut)));
        told
    }

    #[test]
    fn a_line_may_come_in_pieces_and_the_last_needs_no_end() {
        let told = split(&[b"on", b"e\r\ntw", b"o\n\nthree"]);
        let texts: Vec<&str> = told.iter().map(|(text, _)| text.as_str()).collect();
        assert_eq!(texts, ["one", "two", "", "three"]);
    }

    #[test]
    fn a_line_without_end_is_cut_and_the_next_one_is_whole() {
        let long = vec![b'x'; 3 * LINE_BYTES_MAX];
        let told = split(&[&long, &long, b"\nnext\n"]);
        assert_eq!(told.len(), 2);
        assert!(told[0].1 && told[0].0.len() == LINE_BYTES_MAX);
        assert_eq!(told[1], ("next".to_owned(), false));
    }

    #[test]
    fn a_line_of_just_the_longest_length_is_not_cut() {
        let mut line = vec![b'x'; LINE_BYTES_MAX];
        line.push(b'\n');
        assert_eq!(split(&[&line]), [("x".repeat(LINE_BYTES_MAX), false)]);
    }

    proptest! {
        #[test]
        fn where_the_pipe_breaks_the_bytes_makes_no_difference(
            text in "[a-c\n]{0,200}", cuts in prop::collection::vec(0_usize..200, 0..8)
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &text.as_bytes()[pair[0]..pair[1]]).collect();
            let expected: Vec<(String, bool)> = text.lines().map(|line| (line.to_owned(), false)).collect();
            prop_assert_eq!(split(&pieces), expected);
        }
    }
}

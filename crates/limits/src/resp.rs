//! What is said to a Redis and what it answers, in the protocol RESP2 (redis.io, "Redis serialization protocol"). Of it we
//! need little: commands out, and answers of a few shapes in. A bound stands on each, so that whoever answers in the place of
//! a Redis cannot fill our memory.
//!
//! The `redis` crate does all of this and far more; with its smallest set of features it brings twenty further crates and
//! doubles what this crate takes to build, for what are two hundred lines here.

/// An answer larger than this is not one of ours.
const ANSWER_BYTES_MAX: usize = 1 << 20;
const ITEMS_MAX: usize = 32_768;
const DEPTH_MAX: usize = 6;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// `+OK`, or a text in bytes.
    Text(Vec<u8>),
    /// `-ERR …`: its first word and the rest.
    Error(String),
    /// `:1`.
    Number(i64),
    /// Several.
    List(Vec<Answer>),
    /// There is none.
    Nothing,
}

/// Bytes that no Redis sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it does not speak the protocol of Redis ({0})")]
pub(crate) struct Malformed(&'static str);

/// Appends a command: a list of texts.
pub(crate) fn push_command(out: &mut Vec<u8>, parts: &[&[u8]]) {
    push_head(out, b'*', parts.len());
    for part in parts {
        push_head(out, b'$', part.len());
        out.extend_from_slice(part);
        out.extend_from_slice(b"\r\n");
    }
}

fn push_head(out: &mut Vec<u8>, kind: u8, number: usize) {
    out.push(kind);
    out.extend_from_slice(number.to_string().as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// The first answer in `bytes` and how many of them it took; nothing when more have to come.
///
/// # Errors
/// [`Malformed`] when no answer can begin like this: the peer's fault.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Answer, usize)>, Malformed> {
    let mut reader = Reader { bytes, at: 0, items_left: ITEMS_MAX };
    match reader.answer(DEPTH_MAX) {
        Ok(answer) => Ok(Some((answer, reader.at))),
        Err(Stop::Malformed(malformed)) => Err(malformed),
        Err(Stop::More) if bytes.len() > ANSWER_BYTES_MAX => Err(Malformed("an answer of more than 1 MiB")),
        Err(Stop::More) => Ok(None),
    }
}

enum Stop {
    More,
    Malformed(Malformed),
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    items_left: usize,
}

impl<'a> Reader<'a> {
    fn answer(&mut self, depth: usize) -> Result<Answer, Stop> {
        let line = self.line()?;
        let Some((kind, rest)) = line.split_first() else { return malformed("an empty line") };
        match kind {
            b'+' => Ok(Answer::Text(rest.to_vec())),
            b'-' => Ok(Answer::Error(String::from_utf8_lossy(rest).into_owned())),
            b':' => Ok(Answer::Number(number(rest)?)),
            b'$' => self.text(number(rest)?),
            b'*' => self.list(number(rest)?, depth),
            _ => malformed("an unknown kind of answer"),
        }
    }

    fn text(&mut self, length: i64) -> Result<Answer, Stop> {
        let length = match usize::try_from(length) {
            Ok(length) if length <= ANSWER_BYTES_MAX => length,
            Err(_) if length == -1 => return Ok(Answer::Nothing),
            _ => return malformed("a text of an impossible length"),
        };
        let Some(text) = self.bytes.get(self.at..self.at + length) else { return Err(Stop::More) };
        match self.bytes.get(self.at + length..self.at + length + 2) {
            Some(b"\r\n") => {}
            Some(_) => return malformed("a text without its end"),
            None => return Err(Stop::More),
        }
        self.at += length + 2;
        Ok(Answer::Text(text.to_vec()))
    }

    fn list(&mut self, count: i64, depth: usize) -> Result<Answer, Stop> {
        let count = match usize::try_from(count) {
            Ok(count) if depth > 0 && count <= self.items_left => count,
            Err(_) if count == -1 => return Ok(Answer::Nothing),
            _ => return malformed("a list of too many"),
        };
        self.items_left -= count;
        (0..count).map(|_| self.answer(depth - 1)).collect::<Result<_, _>>().map(Answer::List)
    }

    fn line(&mut self) -> Result<&'a [u8], Stop> {
        let rest = &self.bytes[self.at..];
        let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") else { return Err(Stop::More) };
        self.at += end + 2;
        Ok(&rest[..end])
    }
}

fn number(text: &[u8]) -> Result<i64, Stop> {
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    number.map_or_else(|| malformed("what should be a number is none"), Ok)
}

fn malformed<T>(what: &'static str) -> Result<T, Stop> {
    Err(Stop::Malformed(Malformed(what)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: &str) -> Answer {
        Answer::Text(text.as_bytes().to_vec())
    }

    #[test]
    fn a_command_is_a_list_of_texts_each_with_its_length() {
        let mut out = Vec::new();
        push_command(&mut out, &[b"SET", b"key", b"a\r\nb"]);
        assert_eq!(out, b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$4\r\na\r\nb\r\n");
    }

    #[test]
    fn answers_of_all_shapes_are_read() {
        let bytes = b"*5\r\n+OK\r\n:-7\r\n$4\r\na\r\nb\r\n$-1\r\n*1\r\n-NOSCRIPT No matching\r\nrest";
        let inner = Answer::List(vec![Answer::Error("NOSCRIPT No matching".to_owned())]);
        let list = Answer::List(vec![text("OK"), Answer::Number(-7), text("a\r\nb"), Answer::Nothing, inner]);
        assert_eq!(parse(bytes), Ok(Some((list, bytes.len() - 4))));
    }

    #[test]
    fn what_is_not_whole_yet_is_waited_for_at_every_byte() {
        let bytes = b"*3\r\n+OK\r\n$4\r\nabcd\r\n:12\r\n";
        for end in 0..bytes.len() {
            assert_eq!(parse(&bytes[..end]), Ok(None), "{end}");
        }
        assert!(parse(bytes).is_ok_and(|answer| answer.is_some()));
    }

    #[test]
    fn what_no_redis_sends_is_refused_before_it_takes_memory() {
        for bytes in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            b"$99999999999\r\n",
            b"$-2\r\n",
            b"*99999999\r\n",
            b"*-7\r\n",
            b":one\r\n",
            b"\r\n",
            b"$1\r\nabc",
            b"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n",
        ] {
            assert!(parse(bytes).is_err(), "{}", String::from_utf8_lossy(bytes));
        }
        assert!(parse(&vec![b'+'; ANSWER_BYTES_MAX + 1]).is_err());
    }

    proptest! {
        #[test]
        fn nothing_that_comes_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(Some((_, used))) = parse(&bytes) {
                prop_assert!(used <= bytes.len());
            }
        }
    }
}

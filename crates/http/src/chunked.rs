//! The chunked transfer coding (RFC 9112 section 7.1), read strictly and written plainly.
//!
//! The decoder is a state machine that never holds body bytes: it says how many of the bytes it was shown are framing
//! and how many after them are data. Chunk extensions are skipped within a bound and never passed on, because two
//! readers that disagree about where an extension ends are what some smuggling attacks are made of.

use crate::Fields;

/// At most that many bytes of extensions in one body.
const EXTENSION_BYTES_MAX: u32 = 4096;
/// Sixteen hexadecimal digits fill a `u64`.
const SIZE_DIGITS_MAX: u8 = 16;

/// Reads one chunked body.
#[derive(Debug, Clone)]
pub struct ChunkedDecoder {
    state: State,
    /// Bytes of data left in the current chunk.
    left: u64,
    extension_bytes: u32,
    trailer: Vec<u8>,
    trailer_bytes_max: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size {
        digits: u8,
    },
    /// Space after the size, which only an extension or the line's end may follow (section 7.1.1).
    SizeSpace,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Trailer,
    Done,
}

/// What comes next in the bytes that the decoder was shown, after `framing` bytes that are to be skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// More bytes are needed.
    Partial {
        /// Bytes that were read and can be dropped.
        framing: usize,
    },
    /// Body data.
    Data {
        /// Bytes to drop before the data.
        framing: usize,
        /// Bytes of data that follow them.
        data: usize,
    },
    /// The body has ended; trailers, if any, are in [`ChunkedDecoder::trailers`].
    End {
        /// Bytes to drop, the last of this body.
        framing: usize,
    },
}

/// Why a body is not in the chunked coding. The sender's fault; the connection cannot be used further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChunkedError {
    /// The size is no hexadecimal number, or none at all.
    #[error("a chunk's size is not a hexadecimal number")]
    Size,
    /// A line does not end in CR LF.
    #[error("a line in the chunked coding does not end in CR LF")]
    LineEnd,
    /// The extensions are longer than 4 KiB, or hold control characters.
    #[error("the chunk extensions are too long or not text")]
    Extension,
    /// The trailer section is longer than the bound, or is not made of fields.
    #[error("the trailer section is too long or not made of fields")]
    Trailer,
}

impl ChunkedDecoder {
    /// A decoder at the start of a body, with a bound on its trailer section in bytes.
    #[must_use]
    pub fn new(trailer_bytes_max: usize) -> Self {
        Self {
            state: State::Size { digits: 0 },
            left: 0,
            extension_bytes: 0,
            trailer: Vec::new(),
            trailer_bytes_max,
        }
    }

    /// Looks at `input`, the bytes that follow those it took before.
    ///
    /// # Errors
    /// [`ChunkedError`] when the bytes are not in the coding.
    pub fn decode(&mut self, input: &[u8]) -> Result<Decoded, ChunkedError> {
        let mut framing = 0;
        loop {
            if self.state == State::Done {
                return Ok(Decoded::End { framing });
            }
            let rest = &input[framing..];
            if rest.is_empty() {
                return Ok(Decoded::Partial { framing });
            }
            match self.state {
                State::Data => {
                    let data = usize::try_from(self.left).unwrap_or(usize::MAX).min(rest.len());
                    self.left -= data as u64;
                    if self.left == 0 {
                        self.state = State::DataCr;
                    }
                    return Ok(Decoded::Data { framing, data });
                }
                State::Trailer => framing += self.take_trailer(rest)?,
                _ => {
                    self.state = self.step(rest[0])?;
                    framing += 1;
                }
            }
        }
    }

    fn step(&mut self, byte: u8) -> Result<State, ChunkedError> {
        match (self.state, byte) {
            (State::Size { digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                self.size_digit(digits, byte)
            }
            (State::Size { digits: 0 }, _) => Err(ChunkedError::Size),
            (State::Size { .. } | State::SizeSpace | State::Extension, b'\r') => Ok(State::SizeLf),
            (State::Size { .. } | State::SizeSpace, b';') => Ok(State::Extension),
            (State::Size { .. }, b' ' | b'\t') => Ok(State::SizeSpace),
            (State::SizeSpace, b' ' | b'\t') => self.extension_byte(byte).map(|_| State::SizeSpace),
            (State::Size { .. } | State::SizeSpace, _) => Err(ChunkedError::Size),
            (State::Extension, byte) => self.extension_byte(byte),
            (State::SizeLf, b'\n') if self.left == 0 => Ok(State::Trailer),
            (State::SizeLf, b'\n') => Ok(State::Data),
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::Size { digits: 0 }),
            _ => Err(ChunkedError::LineEnd),
        }
    }

    fn size_digit(&mut self, digits: u8, byte: u8) -> Result<State, ChunkedError> {
        if digits == SIZE_DIGITS_MAX {
            return Err(ChunkedError::Size);
        }
        let digit = char::from(byte).to_digit(16).ok_or(ChunkedError::Size)?;
        self.left = (self.left << 4) | u64::from(digit);
        Ok(State::Size { digits: digits + 1 })
    }

    fn extension_byte(&mut self, byte: u8) -> Result<State, ChunkedError> {
        self.extension_bytes += 1;
        let is_text = matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
        if !is_text || self.extension_bytes > EXTENSION_BYTES_MAX {
            return Err(ChunkedError::Extension);
        }
        Ok(State::Extension)
    }

    /// Takes bytes of the trailer section up to and with the empty line that ends it.
    fn take_trailer(&mut self, input: &[u8]) -> Result<usize, ChunkedError> {
        for (index, &byte) in input.iter().enumerate() {
            if byte == b'\n' && self.trailer.last() != Some(&b'\r') {
                return Err(ChunkedError::LineEnd);
            }
            self.trailer.push(byte);
            if self.trailer == b"\r\n" || self.trailer.ends_with(b"\r\n\r\n") {
                self.state = State::Done;
                return Ok(index + 1);
            }
            if self.trailer.len() > self.trailer_bytes_max {
                return Err(ChunkedError::Trailer);
            }
        }
        Ok(input.len())
    }

    /// The trailer fields of a body that has ended (RFC 9110 section 6.5), without those that would change framing or
    /// routing; `None` when there are none.
    ///
    /// # Errors
    /// [`ChunkedError::Trailer`] when the section is not made of fields.
    pub fn trailers(&self) -> Result<Option<Fields>, ChunkedError> {
        const FIELDS_MAX: usize = 32;
        if self.trailer.len() <= 2 {
            return Ok(None);
        }
        let mut parsed = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let Ok(httparse::Status::Complete((_, parsed))) = httparse::parse_headers(&self.trailer, &mut parsed)
        else {
            return Err(ChunkedError::Trailer);
        };
        let mut fields = Fields::new();
        for field in parsed.iter().filter(|field| may_trail(field.name.as_bytes())) {
            fields.append(field.name.as_bytes(), field.value);
        }
        Ok(Some(fields))
    }
}

/// Whether a field may stand in a trailer section: none for framing, routing, authentication or content handling, and
/// none by which a client would say who it is (RFC 9110 section 6.5.1). Some servers merge trailers into the head.
#[must_use]
pub fn may_trail(name: &[u8]) -> bool {
    use crate::Known as K;
    !matches!(
        K::lookup_as_read(name),
        Some(
            K::TransferEncoding
                | K::ContentLength
                | K::Host
                | K::Connection
                | K::KeepAlive
                | K::Upgrade
                | K::Te
                | K::Trailer
                | K::Expect
                | K::Authorization
                | K::ProxyAuthorization
                | K::ProxyConnection
                | K::ContentType
                | K::ContentEncoding
                | K::CacheControl
                | K::Cookie
                | K::SetCookie
                | K::Forwarded
                | K::Via
                | K::XForwardedFor
                | K::XForwardedHost
                | K::XForwardedPort
                | K::XForwardedProto
                | K::XRealIp
                | K::XRequestDeadline
                | K::XRequestId
                | K::XTerraceAttempt
        )
    )
}

/// Writes the line before a chunk of `bytes` bytes (not zero); CR LF must follow the data.
pub fn chunk_header(bytes: usize, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    debug_assert!(bytes > 0, "an empty chunk would end the body");
    let digits = (usize::BITS - bytes.leading_zeros()).div_ceil(4);
    for place in (0..digits).rev() {
        out.push(DIGITS[(bytes >> (4 * place)) & 15]);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the end of a chunked body, with trailers if there are any.
pub fn end_of_chunks(trailers: Option<&Fields>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flat_map(Fields::iter) {
        out.extend_from_slice(name);
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Decodes `input` shown in pieces of `piece` bytes: the data, and how many bytes the body took.
    fn decode(input: &[u8], piece: usize) -> Result<Option<(Vec<u8>, usize)>, ChunkedError> {
        let mut decoder = ChunkedDecoder::new(1024);
        let (mut data, mut at, mut end) = (Vec::new(), 0, 0);
        loop {
            end = (end + piece).min(input.len());
            loop {
                match decoder.decode(&input[at..end])? {
                    Decoded::Partial { framing } => {
                        at += framing;
                        break;
                    }
                    Decoded::Data { framing, data: bytes } => {
                        data.extend_from_slice(&input[at + framing..at + framing + bytes]);
                        at += framing + bytes;
                    }
                    Decoded::End { framing } => {
                        decoder.trailers()?;
                        return Ok(Some((data, at + framing)));
                    }
                }
            }
            if end == input.len() {
                return Ok(None);
            }
        }
    }

    #[test]
    fn rfc9112_7_1_chunks_are_put_together() {
        let body = b"4\r\nWiki\r\n5;ext=\"v\"\r\npedia\r\n0\r\nTrail: er\r\n\r\nGET";
        for piece in 1..body.len() {
            assert_eq!(decode(body, piece), Ok(Some((b"Wikipedia".to_vec(), body.len() - 3))), "{piece}");
        }
        assert_eq!(decode(b"0\r\n\r\n", 9), Ok(Some((vec![], 5))));
        assert_eq!(decode(b"4\r\nWi", 9), Ok(None));
    }

    #[test]
    fn rfc9112_7_1_what_is_no_chunk_is_refused() {
        use ChunkedError::{Extension, LineEnd, Size, Trailer};
        for (body, error) in [
            (&b"\r\n"[..], Size),
            (b" 4\r\nWiki\r\n", Size),
            (b"+4\r\nWiki\r\n", Size),
            (b"4 4\r\nWiki\r\n", Size),
            (b"0x4\r\nWiki\r\n", Size),
            (b"00000000000000004\r\nWiki\r\n", Size),
            (b"4\nWiki\r\n", Size),
            (b"4;a\nWiki\r\n", Extension),
            (b"4;\0\r\nWiki\r\n", Extension),
            (b"4\r\rWiki\r\n", LineEnd),
            (b"4\r\nWikiX\r\n", LineEnd),
            (b"4\r\nWiki\n0\r\n\r\n", LineEnd),
            (b"0\r\nA: b\n\r\n", LineEnd),
            (b"0\r\nA b\r\n\r\n", Trailer),
            (b"0\r\n A: b\r\n\r\n", Trailer),
        ] {
            assert_eq!(decode(body, 3), Err(error), "{:?}", String::from_utf8_lossy(body));
        }
        let long = [b"4;".to_vec(), vec![b'x'; 5000], b"\r\n".to_vec()].concat();
        assert_eq!(decode(&long, 64), Err(Extension));
        let long = [b"0\r\nA: ".to_vec(), vec![b'x'; 5000]].concat();
        assert_eq!(decode(&long, 64), Err(Trailer));
    }

    #[test]
    fn rfc9110_6_5_1_a_trailer_cannot_set_framing_or_routing() {
        let mut decoder = ChunkedDecoder::new(1024);
        let body = b"0\r\nContent-Length: 5\r\nHost: evil\r\nGrpc-Status: 0\r\n\r\n";
        assert_eq!(decoder.decode(body), Ok(Decoded::End { framing: body.len() }));
        let trailers = decoder.trailers().expect("fields").expect("some");
        assert_eq!(trailers.iter().collect::<Vec<_>>(), [(&b"Grpc-Status"[..], &b"0"[..])]);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..600), 0..6), piece in 1usize..700) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                chunk_header(chunk.len(), &mut wire);
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(b"\r\n");
            }
            end_of_chunks(None, &mut wire);
            prop_assert_eq!(decode(&wire, piece), Ok(Some((chunks.concat(), wire.len()))));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), piece in 1usize..50) {
            let _refused = decode(&bytes, piece);
        }
    }
}

//! Writing a content coding, piece by piece.
//!
//! Bodies come as they come: a page is shown while it is still made, so an encoder can be told to give out all that it has
//! whenever the source pauses. And a body may be large while its core has others to serve: an encoder is fed in
//! slices, each of which costs about 100 µs or less, and gives out what it has gathered at the latest after
//! [`FLUSH_BYTES`], because what it gathers it works off at one go. Windows are small, since every answer under way holds
//! one.

mod brotli;
mod gzip;
mod zstd;

use crate::coding::Coding;

/// How much work is spent on making a body small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Effort {
    /// The least.
    Low,
    /// What suits bodies that are made anew for each request.
    #[default]
    Medium,
    /// More than most would spend on each request.
    High,
}

impl Effort {
    /// The effort of that name: `low`, `medium`, `high`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "low" => Some(Self::Low),
            "medium" => Some(Self::Medium),
            "high" => Some(Self::High),
            _ => None,
        }
    }
}

/// The library that writes a coding failed, which it does only for want of memory. The body cannot be completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the {} encoder failed: {reason}", coding.name())]
pub struct EncodeError {
    /// The coding.
    pub coding: Coding,
    /// What its library says.
    pub reason: &'static str,
}

/// After so many bytes at the latest an encoder gives out what it has gathered: it costs a hundredth in size, and bounds
/// what is worked off at one go.
pub const FLUSH_BYTES: usize = 16 << 10;

/// One body's encoder.
#[derive(Debug)]
pub struct Encoder {
    engine: Engine,
    coding: Coding,
    /// Bytes that went in since it last gave out all.
    gathered_bytes: usize,
    /// When so many have, it gives out all unasked.
    gather_bytes_max: usize,
    slice_bytes: usize,
}

#[derive(Debug)]
enum Engine {
    Gzip(Box<gzip::Gzip>),
    Brotli(Box<brotli::Brotli>),
    Zstd(Box<zstd::Zstd>),
}

/// What an engine shall do with what it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    /// Gather it.
    Process,
    /// Give out all.
    Flush,
    /// Give out all; nothing follows.
    Finish,
}

impl Encoder {
    /// An encoder for one body; `length_bytes` is the body's length where that is known, and must be right then.
    ///
    /// # Errors
    /// [`EncodeError`] for want of memory.
    pub fn new(coding: Coding, effort: Effort, length_bytes: Option<u64>) -> Result<Self, EncodeError> {
        let engine = match coding {
            Coding::Gzip => Engine::Gzip(Box::new(gzip::Gzip::new(effort))),
            Coding::Brotli => Engine::Brotli(Box::new(brotli::Brotli::new(effort))),
            Coding::Zstd => {
                let zstd = zstd::Zstd::new(effort, length_bytes);
                Engine::Zstd(Box::new(zstd.map_err(|reason| EncodeError { coding, reason })?))
            }
        };
        let (slice_bytes, gather_bytes_max) = slices(coding, effort);
        Ok(Self { engine, coding, gathered_bytes: 0, gather_bytes_max, slice_bytes })
    }

    /// How many bytes to give it at one go, so that it costs about 100 µs at most.
    #[must_use]
    pub fn slice_bytes(&self) -> usize {
        self.slice_bytes
    }

    /// Takes `data`, and appends to `out` what comes of it already.
    ///
    /// # Errors
    /// [`EncodeError`] for want of memory.
    pub fn encode(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.gathered_bytes += data.len();
        if self.gathered_bytes < self.gather_bytes_max {
            return self.run(data, Operation::Process, out);
        }
        self.gathered_bytes = 0;
        self.run(data, Operation::Flush, out)
    }

    /// Whether it has gathered what its reader could be shown.
    #[must_use]
    pub fn has_gathered(&self) -> bool {
        self.gathered_bytes > 0
    }

    /// Appends to `out` all that it has gathered, so that its reader can decode every byte that went in.
    ///
    /// # Errors
    /// [`EncodeError`] for want of memory.
    pub fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if self.gathered_bytes == 0 {
            return Ok(());
        }
        self.gathered_bytes = 0;
        self.run(&[], Operation::Flush, out)
    }

    /// Appends to `out` the rest. Nothing may be given to it any more.
    ///
    /// # Errors
    /// [`EncodeError`] for want of memory, or when the body was not as long as was said.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.gathered_bytes = 0;
        self.run(&[], Operation::Finish, out)
    }

    fn run(&mut self, data: &[u8], operation: Operation, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let done = match &mut self.engine {
            Engine::Gzip(gzip) => gzip.run(data, operation, out),
            Engine::Brotli(brotli) => brotli.run(data, operation, out),
            Engine::Zstd(zstd) => zstd.run(data, operation, out),
        };
        done.map_err(|reason| EncodeError { coding: self.coding, reason })
    }
}

/// How many bytes go in at one go, and after how many all is given out. Gzip works as it goes; the other two gather, and
/// then work it all off.
fn slices(coding: Coding, effort: Effort) -> (usize, usize) {
    match (coding, effort) {
        (Coding::Gzip, _) => (4 << 10, FLUSH_BYTES),
        (Coding::Brotli, _) => (4 << 10, 4 << 10),
        (Coding::Zstd, Effort::Low | Effort::Medium) => (FLUSH_BYTES, FLUSH_BYTES),
        (Coding::Zstd, Effort::High) => (8 << 10, 8 << 10),
    }
}

impl Coding {
    /// What one encoder of that coding holds at most, in bytes; measured, and rounded up.
    #[must_use]
    pub const fn memory_bytes(self, effort: Effort) -> usize {
        let kib = match (self, effort) {
            (Self::Gzip, _) => 336,
            (Self::Brotli, Effort::Low) => 640,
            (Self::Brotli, Effort::Medium) => 1536,
            (Self::Brotli, Effort::High) => 2560,
            (Self::Zstd, Effort::Low | Effort::Medium) => 560,
            (Self::Zstd, Effort::High) => 1408,
        };
        kib << 10
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use proptest::prelude::*;

    use super::*;

    /// What a reader has decoded once all that came is worked off; bodies may be cut off.
    fn decoded(coding: Coding, coded: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        let mut piece = [0; 4096];
        let mut reader: Box<dyn std::io::Read> = match coding {
            Coding::Gzip => Box::new(flate2::read::GzDecoder::new(coded)),
            Coding::Brotli => Box::new(::brotli::Decompressor::new(coded, 4096)),
            Coding::Zstd => return decoded_zstd(coded),
        };
        while let Ok(bytes @ 1..) = reader.read(&mut piece) {
            body.extend_from_slice(&piece[..bytes]);
        }
        body
    }

    fn decoded_zstd(coded: &[u8]) -> Vec<u8> {
        let mut context = zstd_safe::DCtx::create();
        let mut input = zstd_safe::InBuffer::around(coded);
        let (mut body, mut piece) = (Vec::new(), [0; 4096]);
        loop {
            let mut output = zstd_safe::OutBuffer::around(&mut piece[..]);
            context.decompress_stream(&mut output, &mut input).expect("a frame");
            let written = output.pos();
            body.extend_from_slice(&piece[..written]);
            if written < piece.len() && input.pos() == coded.len() {
                return body;
            }
        }
    }

    fn effort() -> impl Strategy<Value = Effort> {
        prop_oneof![Just(Effort::Low), Just(Effort::Medium), Just(Effort::High)]
    }

    fn coding() -> impl Strategy<Value = Coding> {
        prop_oneof![Just(Coding::Zstd), Just(Coding::Brotli), Just(Coding::Gzip)]
    }

    fn pieces() -> impl Strategy<Value = Vec<(Vec<u8>, bool)>> {
        let text = prop_oneof![
            "[a-f ]{0,200}".prop_map(String::into_bytes),
            proptest::collection::vec(any::<u8>(), 0..9000),
            (1..30_000_usize).prop_map(|bytes| vec![b'x'; bytes]),
        ];
        proptest::collection::vec((text, any::<bool>()), 0..12)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn whatever_was_flushed_can_be_read_and_the_whole_is_what_went_in(
            coding in coding(), effort in effort(), pieces in pieces(), is_length_known in any::<bool>(),
        ) {
            let body: Vec<u8> = pieces.iter().flat_map(|(piece, _)| piece.clone()).collect();
            let length = is_length_known.then_some(body.len() as u64);
            let mut encoder = Encoder::new(coding, effort, length).expect("memory");
            let (mut coded, mut shown) = (Vec::new(), Vec::new());
            for (piece, is_flushed) in &pieces {
                for slice in piece.chunks(encoder.slice_bytes()) {
                    encoder.encode(slice, &mut coded).expect("memory");
                }
                shown.extend_from_slice(piece);
                if *is_flushed {
                    encoder.flush(&mut coded).expect("memory");
                    prop_assert!(!encoder.has_gathered());
                    prop_assert!(decoded(coding, &coded) == shown, "{:?} after {} bytes", coding, shown.len());
                }
            }
            encoder.finish(&mut coded).expect("memory");
            prop_assert!(decoded(coding, &coded) == body);
        }
    }

    #[test]
    fn an_empty_body_is_a_whole_one() {
        for coding in Coding::ALL {
            let mut coded = Vec::new();
            let mut encoder = Encoder::new(coding, Effort::Medium, None).expect("memory");
            encoder.flush(&mut coded).expect("memory");
            encoder.finish(&mut coded).expect("memory");
            assert!(!coded.is_empty() && decoded(coding, &coded).is_empty(), "{coding:?}");
        }
    }

    #[test]
    fn what_an_encoder_gathers_is_given_out_in_time() {
        for coding in Coding::ALL {
            let mut coded = Vec::new();
            let mut encoder = Encoder::new(coding, Effort::Medium, None).expect("memory");
            for _ in 0..FLUSH_BYTES / 100 + 1 {
                encoder.encode(&[b'x'; 100], &mut coded).expect("memory");
            }
            assert!(decoded(coding, &coded).len() >= FLUSH_BYTES / 2, "{coding:?}");
        }
    }

    #[test]
    fn rfc1952_a_gzip_member_has_its_sum_and_length() {
        let mut coded = Vec::new();
        let mut encoder = Encoder::new(Coding::Gzip, Effort::Medium, None).expect("memory");
        encoder.encode(b"hello, hello", &mut coded).expect("memory");
        encoder.finish(&mut coded).expect("memory");
        let mut text = String::new();
        flate2::read::GzDecoder::new(&coded[..]).read_to_string(&mut text).expect("whole, and its sum right");
        assert_eq!(text, "hello, hello");
    }
}

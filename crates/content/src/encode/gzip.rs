//! `gzip` (RFC 1952): deflate between a head of ten bytes and the sum and length of what went in.

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

use super::{Effort, Operation};

/// No name, no time, an unknown system (RFC 1952 section 2.3): an answer has all of that in its own head.
const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// Room that the output is given at a time.
const ROOM_BYTES: usize = 4 << 10;

#[derive(Debug)]
pub(super) struct Gzip {
    deflate: Compress,
    sum: Crc,
    is_begun: bool,
}

impl Gzip {
    pub(super) fn new(effort: Effort) -> Self {
        let level = match effort {
            Effort::Low => 1,
            Effort::Medium => 4,
            Effort::High => 6,
        };
        Self { deflate: Compress::new(Compression::new(level), false), sum: Crc::new(), is_begun: false }
    }

    pub(super) fn run(
        &mut self,
        mut data: &[u8],
        operation: Operation,
        out: &mut Vec<u8>,
    ) -> Result<(), &'static str> {
        if !self.is_begun {
            out.extend_from_slice(&HEAD);
            self.is_begun = true;
        }
        self.sum.update(data);
        let flush = match operation {
            Operation::Process => FlushCompress::None,
            Operation::Flush => FlushCompress::Sync,
            Operation::Finish => FlushCompress::Finish,
        };
        loop {
            if out.capacity() - out.len() < ROOM_BYTES / 4 {
                out.reserve(ROOM_BYTES);
            }
            let before = self.deflate.total_in();
            let status = self.deflate.compress_vec(data, out, flush).map_err(|_| "deflate lost its place")?;
            let taken = usize::try_from(self.deflate.total_in() - before).unwrap_or(data.len());
            data = &data[taken..];
            let has_room_left = out.len() < out.capacity();
            match status {
                Status::StreamEnd => break,
                _ if operation != Operation::Finish && data.is_empty() && has_room_left => break,
                Status::Ok | Status::BufError => {}
            }
        }
        if operation == Operation::Finish {
            out.extend_from_slice(&self.sum.sum().to_le_bytes());
            out.extend_from_slice(&self.sum.amount().to_le_bytes());
        }
        Ok(())
    }
}

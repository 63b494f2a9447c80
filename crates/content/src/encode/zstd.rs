//! `zstd` (RFC 8878). Its window and tables are set by hand: what its levels would take, for files, is several times what
//! an answer needs.

use zstd_safe::zstd_sys::ZSTD_EndDirective;
use zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer, get_error_name};

use super::{Effort, Operation};

/// Room that the output is given at a time.
const ROOM_BYTES: usize = 4 << 10;

pub(super) struct Zstd {
    context: CCtx<'static>,
}

impl std::fmt::Debug for Zstd {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Zstd").finish_non_exhaustive()
    }
}

impl Zstd {
    pub(super) fn new(effort: Effort, length_bytes: Option<u64>) -> Result<Self, &'static str> {
        let mut context = CCtx::try_create().ok_or("no memory")?;
        for parameter in parameters(effort) {
            context.set_parameter(parameter).map_err(get_error_name)?;
        }
        // A known length makes tables no larger than the body needs, and stands in the frame's head.
        context.set_pledged_src_size(length_bytes).map_err(get_error_name)?;
        Ok(Self { context })
    }

    pub(super) fn run(
        &mut self,
        data: &[u8],
        operation: Operation,
        out: &mut Vec<u8>,
    ) -> Result<(), &'static str> {
        let directive = match operation {
            Operation::Process => ZSTD_EndDirective::ZSTD_e_continue,
            Operation::Flush => ZSTD_EndDirective::ZSTD_e_flush,
            Operation::Finish => ZSTD_EndDirective::ZSTD_e_end,
        };
        let mut input = InBuffer::around(data);
        loop {
            if out.capacity() - out.len() < ROOM_BYTES / 4 {
                out.reserve(ROOM_BYTES);
            }
            let written = out.len();
            let mut output = OutBuffer::around_pos(out, written);
            let left = self.context.compress_stream2(&mut output, &mut input, directive);
            let left = left.map_err(get_error_name)?;
            let is_done = match operation {
                Operation::Process => input.pos() == data.len(),
                Operation::Flush | Operation::Finish => left == 0,
            };
            if is_done {
                return Ok(());
            }
        }
    }
}

fn parameters(effort: Effort) -> [CParameter; 4] {
    let (level, window_log, hash_log, chain_log) = match effort {
        Effort::Low => (1, 16, 14, 13),
        Effort::Medium => (3, 16, 14, 13),
        Effort::High => (6, 17, 16, 15),
    };
    [
        CParameter::CompressionLevel(level),
        CParameter::WindowLog(window_log),
        CParameter::HashLog(hash_log),
        CParameter::ChainLog(chain_log),
    ]
}

//! `br` (RFC 7932), for browsers that have no zstd yet: smaller than gzip, and dearer in work and memory.

use brotli::enc::StandardAlloc;
use brotli::enc::encode::{
    BrotliEncoderOperation as Told, BrotliEncoderParameter as Parameter, BrotliEncoderStateStruct,
};
use brotli::interface::{InputPair, InputReferenceMut, PredictionModeContextMap, StaticCommand};

use super::{Effort, Operation};

/// Room that the output is given at a time.
const ROOM_BYTES: usize = 4 << 10;

pub(super) struct Brotli {
    state: BrotliEncoderStateStruct<StandardAlloc>,
}

impl std::fmt::Debug for Brotli {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Brotli").finish_non_exhaustive()
    }
}

impl Brotli {
    pub(super) fn new(effort: Effort) -> Self {
        // Not below 17 with quality 5 and above: there it takes another way, with 34 MiB of tables and a tenth of the speed.
        let (quality, window_log) = match effort {
            Effort::Low => (3, 17),
            Effort::Medium => (5, 17),
            Effort::High => (6, 18),
        };
        let mut state = BrotliEncoderStateStruct::new(StandardAlloc::default());
        state.set_parameter(Parameter::BROTLI_PARAM_QUALITY, quality);
        state.set_parameter(Parameter::BROTLI_PARAM_LGWIN, window_log);
        Self { state }
    }

    pub(super) fn run(
        &mut self,
        data: &[u8],
        operation: Operation,
        out: &mut Vec<u8>,
    ) -> Result<(), &'static str> {
        let told = match operation {
            Operation::Process => Told::BROTLI_OPERATION_PROCESS,
            Operation::Flush => Told::BROTLI_OPERATION_FLUSH,
            Operation::Finish => Told::BROTLI_OPERATION_FINISH,
        };
        let (mut left, mut taken) = (data.len(), 0);
        loop {
            let written = out.len();
            out.resize(written + ROOM_BYTES, 0);
            let (mut room, mut given) = (ROOM_BYTES, 0);
            let went_well = self.state.compress_stream(
                told,
                &mut left,
                data,
                &mut taken,
                &mut room,
                &mut out[written..],
                &mut given,
                &mut None,
                &mut look_away,
            );
            out.truncate(written + given);
            if !went_well {
                return Err("it lost its place");
            }
            let is_done = left == 0 && !self.state.has_more_output();
            if is_done && (operation != Operation::Finish || self.state.is_finished()) {
                return Ok(());
            }
        }
    }
}

/// The library shows what it decided upon to whoever wants to change it.
fn look_away(
    _: &mut PredictionModeContextMap<InputReferenceMut<'_>>,
    _: &mut [StaticCommand],
    _: InputPair<'_>,
    _: &mut StandardAlloc,
) {
}

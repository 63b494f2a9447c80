//! Answers coded for clients that take it: decided when the answer's head is there, done while its body passes.
//!
//! The work stays on the core that serves the request, in slices of some tens of microseconds between which others have
//! their turn: to hand every piece to another thread and back would cost as much as coding it. What encoders hold is bounded
//! for each core; who comes when that is spent gets the body as it is, which is always right, and is counted.

use std::cell::Cell;

use bytes::Bytes;
use terrace_content::{Coding, Compression, Effort, Encoder, Plan, Wish};
use terrace_http::{BodyLength, Fields, Method, ResponseHead};
use terrace_wire::{Change, ChangeError};

use crate::chain::Request;
use crate::journal::Journal;
use crate::metrics::CodingMetrics;
use crate::note::Note;

/// What the encoders of one core hold together, in bytes, at most: some forty of the largest usual ones.
const MEMORY_BYTES_MAX: usize = 64 << 20;

thread_local! {
    static MEMORY_BYTES: Cell<usize> = const { Cell::new(0) };
}

/// A share of the core's memory for encoders, until this is dropped.
#[derive(Debug)]
struct Memory(usize);

impl Memory {
    fn take(coding: Coding, effort: Effort) -> Option<Self> {
        let bytes = coding.memory_bytes(effort);
        let taken = MEMORY_BYTES.get() + bytes;
        if taken > MEMORY_BYTES_MAX {
            return None;
        }
        MEMORY_BYTES.set(taken);
        Some(Self(bytes))
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        MEMORY_BYTES.set(MEMORY_BYTES.get().saturating_sub(self.0));
    }
}

/// Notes which codings the client takes, before anything changes the request's fields.
pub(crate) fn ask(compression: &Compression, request: &mut Request<'_, '_>) {
    request.passed.coding = Some(Box::new(compression.ask(request.exchange.head)));
}

/// Makes the answer's head that of a coded one where it shall be, and gives what its body goes through. To HEAD the head alone
/// is coded.
pub(crate) fn begin(
    compression: &Compression,
    wish: &Wish,
    method: &Method,
    response: &mut ResponseHead,
    coming: BodyLength,
    journal: &mut Journal<'_>,
) -> Option<Coder> {
    if coming == BodyLength::Empty && *method != Method::Head && response.status != 304 {
        return None;
    }
    let plan = compression.judge(wish, response)?;
    if *method == Method::Head {
        plan.dress(response);
        return None;
    }
    let metrics = journal.rules().and_then(|rules| rules.coding.as_ref());
    let coder = Coder::new(plan);
    if let Some(metrics) = metrics {
        metrics.began(coder.is_some().then_some(plan.coding));
    }
    let coder = coder?;
    journal.note(Note::Coded(plan.coding.name()));
    plan.dress(response);
    Some(coder)
}

/// A body's way through an encoder.
#[derive(Debug)]
pub(crate) struct Coder {
    encoder: Encoder,
    taken_bytes: u64,
    _memory: Memory,
}

impl Coder {
    /// An encoder, while there is memory for one.
    fn new(plan: Plan) -> Option<Self> {
        let memory = Memory::take(plan.coding, plan.effort)?;
        let encoder = Encoder::new(plan.coding, plan.effort, plan.length_bytes).ok()?;
        Some(Self { encoder, taken_bytes: 0, _memory: memory })
    }

    /// Counts what went in and what came out.
    pub(crate) fn tell(&self, metrics: Option<&CodingMetrics>, given_bytes: u64) {
        if let Some(metrics) = metrics {
            metrics.ended(self.taken_bytes, given_bytes);
        }
    }
}

fn failed(error: terrace_content::EncodeError) -> ChangeError {
    ChangeError(error.to_string())
}

impl Change for Coder {
    fn data(&mut self, data: Bytes, out: &mut Vec<u8>) -> Result<Option<Bytes>, ChangeError> {
        self.taken_bytes += data.len() as u64;
        self.encoder.encode(&data, out).map_err(failed)?;
        Ok(None)
    }

    fn pause(&mut self, out: &mut Vec<u8>) -> Result<(), ChangeError> {
        self.encoder.flush(out).map_err(failed)
    }

    fn end(&mut self, trailers: Option<Fields>, out: &mut Vec<u8>) -> Result<Option<Fields>, ChangeError> {
        self.encoder.finish(out).map_err(failed)?;
        Ok(trailers)
    }

    fn slice_bytes(&self) -> usize {
        self.encoder.slice_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_encoders_hold_on_a_core_is_bounded_and_given_back() {
        let mut held = Vec::new();
        while let Some(memory) = Memory::take(Coding::Brotli, Effort::High) {
            held.push(memory);
        }
        assert!((8..200).contains(&held.len()), "{}", held.len());
        assert!(Memory::take(Coding::Brotli, Effort::High).is_none());
        held.clear();
        assert_eq!(MEMORY_BYTES.get(), 0);
    }
}

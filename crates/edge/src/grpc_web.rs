//! gRPC-Web: a browser's call becomes one of gRPC before the service sees it, and the service's answer becomes one that a
//! browser can read. The framing is [`terrace_content`]'s; here it is put into the bodies' way.

use bytes::Bytes;
use terrace_content::{TextDecoder, TextError, WebAnswer, WebCall, WebReply};
use terrace_http::{BodyLength, Fields, ResponseHead};
use terrace_wire::{Change, ChangeError};

use crate::chain::Request;
use crate::journal::Journal;
use crate::note::Note;

/// Makes a call of gRPC-Web one of gRPC; any other request stays as it is.
pub(crate) fn ask(request: &mut Request<'_, '_>, journal: &mut Journal<'_>) {
    let Some(call) = WebCall::ask(request.exchange.head) else { return };
    if call.is_text && request.exchange.length != BodyLength::Empty {
        // Decoded it is shorter; how much shorter shows only at its end.
        request.exchange.length = BodyLength::Framed;
    }
    request.passed.web = Some(call);
    journal.note(Note::GrpcWeb);
}

/// Makes the head of the service's answer one of gRPC-Web. Says how long its body is then, and what it goes through: also
/// one that ends without a word, which is told of in a frame of its own.
pub(crate) fn answer(call: WebCall, response: &mut ResponseHead) -> (BodyLength, Option<Answer>) {
    match call.answer(response) {
        WebReply::Body(answer) => (BodyLength::Framed, Some(Answer(answer))),
        WebReply::HeadOnly => (BodyLength::Empty, None),
    }
}

/// The body of a call in base64, on its way to the service.
#[derive(Debug, Default)]
pub(crate) struct Call(TextDecoder);

fn no_text(error: TextError) -> ChangeError {
    ChangeError(format!("it is to be base64: {error}"))
}

impl Change for Call {
    fn data(&mut self, data: Bytes, out: &mut Vec<u8>) -> Result<Option<Bytes>, ChangeError> {
        self.0.decode(&data, out).map_err(no_text)?;
        Ok(None)
    }

    fn pause(&mut self, _out: &mut Vec<u8>) -> Result<(), ChangeError> {
        Ok(())
    }

    fn end(&mut self, trailers: Option<Fields>, _out: &mut Vec<u8>) -> Result<Option<Fields>, ChangeError> {
        self.0.finish().map_err(no_text)?;
        Ok(trailers)
    }

    fn slice_bytes(&self) -> usize {
        SLICE_BYTES
    }
}

/// base64 takes a nanosecond or two a byte.
const SLICE_BYTES: usize = 32 << 10;

/// The body of an answer on its way to a browser.
#[derive(Debug)]
pub(crate) struct Answer(WebAnswer);

impl Change for Answer {
    fn data(&mut self, data: Bytes, out: &mut Vec<u8>) -> Result<Option<Bytes>, ChangeError> {
        if self.0.is_plain() {
            return Ok(Some(data));
        }
        self.0.data(&data, out);
        Ok(None)
    }

    fn pause(&mut self, out: &mut Vec<u8>) -> Result<(), ChangeError> {
        self.0.flush(out);
        Ok(())
    }

    fn end(&mut self, trailers: Option<Fields>, out: &mut Vec<u8>) -> Result<Option<Fields>, ChangeError> {
        self.0.end(trailers.as_ref(), out);
        Ok(None)
    }

    fn slice_bytes(&self) -> usize {
        if self.0.is_plain() { usize::MAX } else { SLICE_BYTES }
    }
}

//! The body of an answer on its way to the client: as it is, which is the rule, or through what makes gRPC-Web of it or codes
//! it. At most one of the two, since gRPC-Web is not coded.

use bytes::Bytes;
use terrace_http::{BodyLength, Fields, Known, RequestHead, ResponseHead};
use terrace_wire::{Body, Change, ChangeError, Pace, PumpError, Sink, pump, pump_changed};

use crate::compress::{self, Coder};
use crate::grpc_web;
use crate::guards::{Guards, Passed};
use crate::journal::Journal;

/// What becomes of an answer's body.
#[derive(Debug)]
pub(crate) enum Download {
    /// It goes on as it is.
    Plain,
    /// It goes through this.
    Changed(Box<Changing>),
    /// The head says all, and whatever the service sent after it is not passed on.
    HeadOnly,
}

/// What a body goes through.
#[derive(Debug)]
pub(crate) enum Changing {
    Web(grpc_web::Answer),
    Coded(Coder),
}

/// Makes the service's head one of gRPC-Web where that was asked; the body's length may be another then.
pub(crate) fn translate(
    passed: &Passed,
    response: &mut ResponseHead,
    coming: BodyLength,
) -> (BodyLength, Download) {
    let Some(call) = passed.web else { return (coming, Download::Plain) };
    match grpc_web::answer(call, response) {
        (length, Some(answer)) => (length, Download::Changed(Box::new(Changing::Web(answer)))),
        (length, None) => (length, Download::HeadOnly),
    }
}

/// Makes the head that of a coded answer where it shall be one.
pub(crate) fn code(
    guards: &Guards,
    passed: &Passed,
    request: &RequestHead,
    response: &mut ResponseHead,
    (coming, download): (BodyLength, Download),
    journal: &mut Journal<'_>,
) -> (BodyLength, Download) {
    let (Some(compression), Some(wish), Download::Plain) = (&guards.compress, &passed.coding, &download)
    else {
        return (coming, download);
    };
    match compress::begin(compression, wish, &request.method, response, coming, journal) {
        Some(coder) => (BodyLength::Framed, Download::Changed(Box::new(Changing::Coded(coder)))),
        None => (coming, download),
    }
}

impl Download {
    /// Moves the body, and counts in `given` what the client is given of it.
    pub(crate) async fn run(
        &mut self,
        body: &mut Body<'_>,
        sink: &mut Sink<'_>,
        pace: &mut impl Pace,
        given: &mut u64,
    ) -> Result<(), PumpError> {
        match self {
            Self::Plain => pump(body, sink, pace).await,
            // On the heap, since it is large and not the rule.
            Self::Changed(changing) => Box::pin(pump_changed(body, sink, pace, &mut **changing, given)).await,
            Self::HeadOnly => {
                sink.end(None).map_err(PumpError::Sink)?;
                sink.flush().await.map_err(PumpError::Sink)
            }
        }
    }

    /// Bytes that the client was given, of so many that the service gave.
    pub(crate) fn bytes_out(&self, taken: u64, given: u64, journal: &Journal<'_>) -> u64 {
        match self {
            Self::Plain => taken,
            Self::HeadOnly => 0,
            Self::Changed(changing) => {
                if let Changing::Coded(coder) = &**changing {
                    coder.tell(journal.rules().and_then(|rules| rules.coding.as_ref()), given);
                }
                given
            }
        }
    }
}

impl Change for Changing {
    fn data(&mut self, data: Bytes, out: &mut Vec<u8>) -> Result<Option<Bytes>, ChangeError> {
        match self {
            Self::Web(answer) => answer.data(data, out),
            Self::Coded(coder) => coder.data(data, out),
        }
    }

    fn pause(&mut self, out: &mut Vec<u8>) -> Result<(), ChangeError> {
        match self {
            Self::Web(answer) => answer.pause(out),
            Self::Coded(coder) => coder.pause(out),
        }
    }

    fn end(&mut self, trailers: Option<Fields>, out: &mut Vec<u8>) -> Result<Option<Fields>, ChangeError> {
        match self {
            Self::Web(answer) => answer.end(trailers, out),
            Self::Coded(coder) => coder.end(trailers, out),
        }
    }

    fn slice_bytes(&self) -> usize {
        match self {
            Self::Web(answer) => answer.slice_bytes(),
            Self::Coded(coder) => coder.slice_bytes(),
        }
    }
}

/// Moves the body of a request up; one of gRPC-Web in base64 is decoded on its way.
pub(crate) async fn upload(
    passed: &Passed,
    body: &mut Body<'_>,
    sink: &mut Sink<'_>,
    pace: &mut impl Pace,
) -> Result<(), PumpError> {
    match passed.web {
        Some(call) if call.is_text => {
            let mut change = grpc_web::Call::default();
            Box::pin(pump_changed(body, sink, pace, &mut change, &mut 0)).await
        }
        _ => pump(body, sink, pace).await,
    }
}

/// The media type of Terrace's own answer to a call of gRPC, which is that of the call.
pub(crate) fn own_content_type(passed: &Passed, request: &Fields) -> &'static str {
    let asked = request.get(Known::ContentType).unwrap_or_default();
    let is_text = match passed.web {
        Some(call) => call.wants_text,
        None if asked.starts_with(b"application/grpc-web-text") => true,
        None if asked.starts_with(b"application/grpc-web") => false,
        None => return "application/grpc",
    };
    if is_text { "application/grpc-web-text" } else { "application/grpc-web" }
}

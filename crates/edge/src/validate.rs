//! Requests held against a schema before the service sees them: the body is read within a bound, judged, and sent on byte
//! for byte.
//!
//! A body that is being judged is held in memory, so there is a bound for one and a bound for all of a core. To judge a
//! large one takes milliseconds: that is done elsewhere, a few at a time, while the core serves others.

use std::cell::Cell;
use std::task::{Context, Poll};

use bytes::Bytes;
use terrace_content::{BodyCheck, Refusal, Validator};
use terrace_http::{BodyLength, Fields, Known, ResponseHead};
use terrace_runtime::timer::NEVER;
use terrace_wire::{Body, Held, Pace, PumpError, Side, WireError, collect};
use tokio::sync::Semaphore;

use crate::chain::{CLIENT_GONE, Ending, Request, Way};
use crate::journal::Journal;
use crate::note::Note;
use crate::pace::{BodyPace, Patience};
use crate::problem::{Fault, Problem};

/// What a request must look like.
#[derive(Debug, Clone)]
pub struct Schema {
    /// What it is held against.
    pub validator: Validator,
    /// Bytes of a body that is judged; a larger one is refused.
    pub body_bytes_max: u64,
}

impl Schema {
    /// What is judged of a body where nobody says otherwise: 1 MiB.
    pub const BODY_BYTES_MAX: u64 = 1 << 20;
}

/// Bytes of bodies that one core holds to be judged, together.
const HELD_BYTES_MAX: usize = 64 << 20;
/// A body of so many bytes is judged on the spot: it takes about 100 µs.
const INLINE_BYTES_MAX: usize = 16 << 10;
/// Larger bodies that are judged at once, over all cores.
const JUDGED_AT_ONCE_MAX: usize = 4;

static JUDGES: Semaphore = Semaphore::const_new(JUDGED_AT_ONCE_MAX);

thread_local! {
    static HELD_BYTES: Cell<usize> = const { Cell::new(0) };
}

/// A share of what the core may hold, until this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Share(usize);

impl Share {
    fn grow(&mut self, bytes: usize) -> bool {
        let held = HELD_BYTES.get() + bytes;
        if held > HELD_BYTES_MAX {
            return false;
        }
        HELD_BYTES.set(held);
        self.0 += bytes;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        HELD_BYTES.set(HELD_BYTES.get().saturating_sub(self.0));
    }
}

/// Refuses a request that does not fit.
pub(crate) async fn admit(
    way: Way<'_>,
    schema: &Schema,
    request: &mut Request<'_, '_>,
    journal: &mut Journal<'_>,
) -> Result<(), Ending> {
    let has_body = request.exchange.length != BodyLength::Empty;
    let judged = match schema.validator.check_head(request.exchange.head, has_body) {
        Ok(None) => Ok(()),
        // What holds a body is large, and rare beside what does not.
        Ok(Some(check)) => Box::pin(judge_body(way, schema, check, request)).await?,
        Err(refusal) => Err(refusal),
    };
    if let Some(metrics) = journal.rules().and_then(|rules| rules.validation.as_ref()) {
        metrics.count(judged.as_ref().err().map(|refusal| refusal.status));
    }
    judged.map_err(|refusal| {
        journal.note(Note::Invalid(refusal.status));
        problem(refusal).into()
    })
}

/// Reads the body, judges it, and puts it back to be sent on.
async fn judge_body(
    way: Way<'_>,
    schema: &Schema,
    check: BodyCheck,
    request: &mut Request<'_, '_>,
) -> Result<Result<(), Refusal>, Ending> {
    let bytes_max = schema.body_bytes_max;
    if matches!(request.exchange.length, BodyLength::Known(bytes) if bytes > bytes_max) {
        return Err(too_large(bytes_max).into());
    }
    if request.asked.expects_continue {
        request.asked.expects_continue = false;
        request.exchange.head.fields.remove(Known::Expect);
        request.exchange.reply.interim(&ResponseHead::new(100)).await?;
    }
    let (share, body, trailers) = read(way, bytes_max, request).await?;
    // It was read whole: whatever the verdict, the connection can go on.
    request.exchange.body = Body::Empty;
    request.exchange.length = BodyLength::Empty;
    let verdict = match body.len() <= INLINE_BYTES_MAX {
        true => check.check(&body),
        false => elsewhere(check, body.clone()).await?,
    };
    if verdict.is_ok() {
        request.exchange.length = match (&trailers, body.len() as u64) {
            (Some(_), _) => BodyLength::Framed,
            (None, 0) => BodyLength::Empty,
            (None, bytes) => BodyLength::Known(bytes),
        };
        request.exchange.body = Body::Held(Held::new(body, trailers));
        request.passed.held = share;
    }
    Ok(verdict)
}

/// The whole body, and the share of the core's memory that it takes.
async fn read(
    way: Way<'_>,
    bytes_max: u64,
    request: &mut Request<'_, '_>,
) -> Result<(Share, Bytes, Option<Fields>), Ending> {
    let rate = Patience::Rate(way.listener.config.bounds.body_rate_min);
    let exchange = &mut *request.exchange;
    let pace = BodyPace::new(&mut exchange.reused.up, rate, Patience::Idle(None), NEVER);
    let mut reading =
        Reading { pace: pace.at_most(Some(bytes_max)), share: Share::default(), is_full: false };
    let read = collect(&mut exchange.body, &mut reading).await;
    let Reading { share, is_full, .. } = reading;
    match read {
        Ok((body, trailers)) => Ok((share, body, trailers)),
        Err(PumpError::TooLarge) if is_full => Err(no_room().into()),
        Err(PumpError::TooLarge) => Err(too_large(bytes_max).into()),
        Err(PumpError::Source(WireError::Chunked(error))) => {
            let detail = format!("the body is not in the chunked coding: {error}");
            Err(Problem::client(400, "http_request_error", detail).into())
        }
        Err(PumpError::Stalled(Side::Source)) => {
            let detail = "the body came slower than the listener's body-rate";
            Err(Problem::client(408, "http_request_error", detail).into())
        }
        Err(_) => Err(Ending::Gone(CLIENT_GONE)),
    }
}

/// The pace of a client whose body is held.
struct Reading<'t> {
    pace: BodyPace<'t>,
    share: Share,
    /// Whether it was the core's bound that was met.
    is_full: bool,
}

impl Pace for Reading<'_> {
    fn admit(&mut self, bytes: usize) -> bool {
        if !self.pace.admit(bytes) {
            return false;
        }
        self.is_full = !self.share.grow(bytes);
        !self.is_full
    }

    fn poll_stalled(&mut self, cx: &mut Context<'_>, side: Side) -> Poll<()> {
        self.pace.poll_stalled(cx, side)
    }
}

/// Judges a large body on another thread.
async fn elsewhere(check: BodyCheck, body: Bytes) -> Result<Result<(), Refusal>, Ending> {
    let _place = JUDGES.acquire().await.expect("invariant: the judges are never sent home");
    let judged = tokio::task::spawn_blocking(move || check.check(&body)).await;
    // It ends early only with the core.
    judged.map_err(|_| Ending::Gone("terrace.ended"))
}

fn too_large(bytes_max: u64) -> Problem {
    let detail = format!(
        "the body is larger than {bytes_max} bytes, which is what is held against a schema (validate)"
    );
    Problem::client(413, "http_request_error", detail)
}

fn no_room() -> Problem {
    let detail = "too many bodies are being held against schemas at the moment";
    let mut problem = Problem::new(503, "destination_unavailable", Fault::Terrace, true, detail);
    problem.retry_after_s = Some(1);
    problem
}

fn problem(refusal: Refusal) -> Problem {
    let mut problem = Problem::client(refusal.status, "http_request_error", refusal.detail.as_str());
    match (refusal.status, &refusal.instead) {
        (405, Some(methods)) => problem.allow = Some(methods.as_str().into()),
        (415, Some(types)) => problem.fields.push(("accept".into(), types.clone())),
        _ => {}
    }
    if !refusal.flaws.is_empty() {
        problem.errors = Some(refusal.errors_json().into());
    }
    problem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_core_holds_is_bounded_and_given_back() {
        let mut first = Share::default();
        assert!(first.grow(HELD_BYTES_MAX));
        let mut second = Share::default();
        assert!(!second.grow(1));
        drop(first);
        assert!(second.grow(1));
        drop(second);
        assert_eq!(HELD_BYTES.get(), 0);
    }
}

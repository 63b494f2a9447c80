//! Decisions about a request, noted for its trace: small values while it is served, words only when the trace is kept.
//!
//! Most requests have none, and pay for one empty pointer.

use std::time::Duration;

use terrace_instruments::{BLOCK_BYTES, Value};
use terrace_route::Ground;

/// Notes on one request; further ones are not taken.
const NOTES_MAX: usize = 16;

/// A decision about a request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Note {
    /// Which of a route's services, and why.
    Chosen(Ground),
    /// A fault on purpose made it wait.
    Delayed(Duration),
    /// A fault on purpose answered it.
    Aborted,
    /// A copy goes to another service.
    Mirrored,
    /// Somebody proved who they are, by that method.
    Identified(&'static str),
    /// Nobody did who may pass: why.
    Refused(&'static str),
    /// Its answer is coded so.
    Coded(&'static str),
    /// It was a call of gRPC-Web.
    GrpcWeb,
    /// It is not what its service expects: the status that it got.
    Invalid(u16),
    /// It waited in line for a place at its service.
    Queued(Duration),
    /// It was sent away to protect others: why.
    Shed(&'static str),
    /// It was sent once more while its answer was waited for: why.
    Hedged(&'static str),
    /// It was sent to an endpoint that is out, to see whether that is well again.
    Probed,
    /// Something else answered in the place of the service.
    FellBack,
    /// A limit refused it: which.
    Limited(Box<str>),
    /// A limit that only counts would have refused it: which.
    WouldLimit(Box<str>),
    /// It waited for its turn at a limit.
    Shaped(Duration),
}

impl Note {
    /// As an attribute of the request's span.
    pub(crate) fn attribute(&self) -> (&'static str, Value) {
        match self {
            Self::Chosen(ground) => ("terrace.choice", chosen(*ground).into()),
            Self::Delayed(time) => ("terrace.fault.delay", (*time).into()),
            Self::Aborted => ("terrace.fault.abort", true.into()),
            Self::Mirrored => ("terrace.mirrored", true.into()),
            Self::Identified(method) => ("terrace.auth.method", (*method).into()),
            Self::Refused(outcome) => ("terrace.auth.refused", (*outcome).into()),
            Self::Coded(coding) => ("terrace.coding", (*coding).into()),
            Self::GrpcWeb => ("terrace.grpc_web", true.into()),
            Self::Invalid(status) => ("terrace.invalid", i64::from(*status).into()),
            Self::Queued(time) => ("terrace.queue.wait", (*time).into()),
            Self::Shed(why) => ("terrace.shed", (*why).into()),
            Self::Hedged(why) => ("terrace.hedge", (*why).into()),
            Self::Probed => ("terrace.probe", true.into()),
            Self::FellBack => ("terrace.fallback", true.into()),
            Self::Limited(limit) => ("terrace.limit.refused", limit.to_string().into()),
            Self::WouldLimit(limit) => ("terrace.limit.would_refuse", limit.to_string().into()),
            Self::Shaped(time) => ("terrace.limit.wait", (*time).into()),
        }
    }
}

fn chosen(ground: Ground) -> String {
    match ground {
        Ground::Rule(place) => format!("rule {}", place + 1),
        Ground::Share(place) => format!("rule {}, by share", place + 1),
        Ground::Side => "side".to_owned(),
        Ground::Key => "key".to_owned(),
        Ground::Chance => "chance".to_owned(),
    }
}

/// The notes on one request: a pointer, since they are copied with every request that is remembered.
#[derive(Debug, Clone, Default)]
pub(crate) struct Notes(Option<Box<Taken>>);

#[derive(Debug, Clone, Default)]
struct Taken {
    notes: Vec<Note>,
}

impl Notes {
    pub(crate) fn push(&mut self, note: Note) {
        let taken = self.0.get_or_insert_default();
        if taken.notes.len() < NOTES_MAX {
            taken.notes.push(note);
        }
    }

    /// Bytes of them, estimated from above.
    pub(crate) fn bytes(&self) -> usize {
        let Some(taken) = &self.0 else { return 0 };
        let named = |note: &Note| match note {
            Note::Limited(limit) | Note::WouldLimit(limit) => limit.len() + BLOCK_BYTES,
            _ => 0,
        };
        let texts: usize = taken.notes.iter().map(named).sum();
        size_of::<Taken>() + taken.notes.capacity() * size_of::<Note>() + 2 * BLOCK_BYTES + texts
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Note> {
        self.0.iter().flat_map(|taken| taken.notes.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_bounded_and_read_in_their_order() {
        let mut notes = Notes::default();
        notes.push(Note::Chosen(Ground::Share(0)));
        (0..100).for_each(|_| notes.push(Note::Aborted));
        let attributes: Vec<_> = notes.iter().map(Note::attribute).collect();
        assert_eq!(attributes[0], ("terrace.choice", "rule 1, by share".into()));
        assert_eq!((attributes.len(), attributes[1].0), (NOTES_MAX, "terrace.fault.abort"));
    }
}

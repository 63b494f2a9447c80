//! What is answered: nothing, how much was refused, or why all was.

use std::time::Duration;

use terrace_instruments::push_json_string;

use crate::request::messages;
use crate::wire::{Fields, Message, Raw, text};
use crate::{DecodeError, Signal, TEXT_BYTES_MAX, base64};

/// What a receiver says of a request that it took.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Partial {
    /// Items that it refused.
    pub refused: u64,
    /// Why, or a warning when it refused none; may be empty.
    pub why: String,
}

/// An Export…ServiceResponse; empty when there is nothing to say.
pub fn write_response(signal: Signal, partial: &Partial, is_json: bool) -> Vec<u8> {
    match (partial == &Partial::default(), is_json) {
        (true, true) => b"{}".to_vec(),
        (true, false) => Vec::new(),
        (false, true) => partial_json(signal, partial),
        (false, false) => {
            let mut response = Message::default();
            response.message(1, |message| {
                message.varint(1, partial.refused);
                message.text(2, &partial.why);
            });
            response.0
        }
    }
}

fn partial_json(signal: Signal, partial: &Partial) -> Vec<u8> {
    let field = match signal {
        Signal::Traces => "rejectedSpans",
        Signal::Metrics => "rejectedDataPoints",
        Signal::Logs => "rejectedLogRecords",
    };
    let mut json =
        format!("{{\"partialSuccess\":{{\"{field}\":\"{}\",\"errorMessage\":", partial.refused).into_bytes();
    push_json_string(&mut json, &partial.why);
    json.extend_from_slice(b"}}");
    json
}

/// Reads an Export…ServiceResponse.
///
/// # Errors
/// [`DecodeError::Malformed`].
pub fn read_response(response: &[u8]) -> Result<Partial, DecodeError> {
    let mut partial = Partial::default();
    for message in messages(response, 1) {
        for field in Fields::new(message?) {
            match field? {
                // A signed number; less than none is none.
                (1, Raw::Varint(count)) => partial.refused = (count as i64).max(0) as u64,
                (2, Raw::Bytes(bytes)) => partial.why = text(bytes, TEXT_BYTES_MAX).into_owned(),
                _ => {}
            }
        }
    }
    Ok(partial)
}

/// A google.rpc.Status, which is the body of an HTTP answer that refuses: 1 code (as gRPC numbers them), 2 message.
pub fn write_status(code: u32, why: &str, is_json: bool) -> Vec<u8> {
    if is_json {
        let mut json = format!("{{\"code\":{code},\"message\":").into_bytes();
        push_json_string(&mut json, why);
        json.push(b'}');
        return json;
    }
    let mut status = Message::default();
    status.varint(1, u64::from(code));
    status.text(2, why);
    status.0
}

/// How long a gRPC server asks to wait: the RetryInfo in its `grpc-status-details-bin` (google.rpc.Status: 3 details; Any:
/// 1 type_url, 2 value; RetryInfo: 1 retry_delay; Duration: 1 seconds, 2 nanos).
pub fn read_grpc_retry_delay(details: &str) -> Option<Duration> {
    let status = base64::decode(details)?;
    for any in messages(&status, 3) {
        let any = any.ok()?;
        let is_retry_info =
            messages(any, 1).any(|url| url.is_ok_and(|url| url.ends_with(b"/google.rpc.RetryInfo")));
        if is_retry_info {
            let info = messages(any, 2).next()?.ok()?;
            return read_duration(messages(info, 1).next()?.ok()?);
        }
    }
    None
}

fn read_duration(duration: &[u8]) -> Option<Duration> {
    let (mut seconds, mut nanos) = (0, 0);
    for field in Fields::new(duration) {
        match field.ok()? {
            (1, Raw::Varint(value)) => seconds = (value as i64).max(0) as u64,
            (2, Raw::Varint(value)) => nanos = (value as i64).clamp(0, 999_999_999) as u32,
            _ => {}
        }
    }
    Some(Duration::new(seconds, nanos))
}

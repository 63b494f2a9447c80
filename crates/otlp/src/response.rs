//! What is answered: nothing, how much was refused, or why all was.

use terrace_instruments::push_json_string;

use crate::request::messages;
use crate::wire::{Fields, Message, Raw, text};
use crate::{DecodeError, Signal, TEXT_BYTES_MAX};

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

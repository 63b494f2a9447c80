//! Bodies: read whole within a bound and a time, and unpacked within another.

use std::io::Read as _;
use std::time::Duration;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;

use super::request::{Refusal, Wanted, Wire};

/// Bytes of a body as it comes.
const BODY_BYTES_MAX: usize = 4 << 20;
/// Bytes of a message once it is unpacked.
const MESSAGE_BYTES_MAX: u64 = 8 << 20;
/// For a whole body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Of a gRPC message: whether it is packed, and its length.
const FRAME_BYTES: usize = 5;

/// Reads a body.
pub(super) async fn read(body: Incoming) -> Result<Bytes, Refusal> {
    let whole = Limited::new(body, BODY_BYTES_MAX).collect();
    match tokio::time::timeout(BODY_TIMEOUT, whole).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large("the body is larger than 4 MiB")),
        Ok(Err(_)) => Err(Refusal::new(400, 1, "malformed", "the body broke off")),
        Err(_elapsed) => Err(Refusal::new(408, 4, "slow", "the body took longer than 10 s")),
    }
}

/// The message in a body.
pub(super) fn unpack(wanted: Wanted, body: &Bytes) -> Result<Bytes, Refusal> {
    let (message, is_packed) = match wanted.wire {
        Wire::Grpc => frame(body)?,
        Wire::Protobuf | Wire::Json => (body.clone(), wanted.is_gzip),
    };
    match (is_packed, wanted.is_gzip) {
        (false, _) => Ok(message),
        (true, true) => gunzip(&message),
        (true, false) => Err(Refusal::new(400, 13, "malformed", "a message is packed, but nobody said how")),
    }
}

/// The one message of a unary call, and whether it is packed.
fn frame(body: &Bytes) -> Result<(Bytes, bool), Refusal> {
    let malformed = || Refusal::new(400, 13, "malformed", "the body is not one gRPC message");
    let (head, _) = body.split_first_chunk::<FRAME_BYTES>().ok_or_else(malformed)?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if body.len() != FRAME_BYTES + length || head[0] > 1 {
        return Err(malformed());
    }
    Ok((body.slice(FRAME_BYTES..), head[0] == 1))
}

fn gunzip(packed: &[u8]) -> Result<Bytes, Refusal> {
    let mut message = Vec::new();
    let read = MultiGzDecoder::new(packed).take(MESSAGE_BYTES_MAX + 1).read_to_end(&mut message);
    match read {
        Ok(_) if message.len() as u64 > MESSAGE_BYTES_MAX => {
            Err(too_large("the message is larger than 8 MiB once it is unpacked"))
        }
        Ok(_) => Ok(message.into()),
        Err(_) => Err(Refusal::new(400, 3, "malformed", "the body is no gzip")),
    }
}

fn too_large(why: &str) -> Refusal {
    Refusal::new(413, 8, "too-large", why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write as _;
    use terrace_otlp::Signal;

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).expect("to memory");
        encoder.finish().expect("to memory")
    }

    fn unpacked(wire: Wire, is_gzip: bool, body: Vec<u8>) -> Result<Bytes, u16> {
        let wanted = Wanted { signal: Signal::Logs, wire, is_gzip };
        unpack(wanted, &body.into()).map_err(|refusal| refusal.status)
    }

    fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
        [&[flag][..], &(message.len() as u32).to_be_bytes(), message].concat()
    }

    #[test]
    fn packed_and_plain_bodies_are_read() {
        let hello = Bytes::from_static(b"hello");
        assert_eq!(unpacked(Wire::Json, false, b"hello".to_vec()), Ok(hello.clone()));
        assert_eq!(unpacked(Wire::Json, true, packed(b"hello")), Ok(hello.clone()));
        assert_eq!(unpacked(Wire::Grpc, true, framed(1, &packed(b"hello"))), Ok(hello.clone()));
        assert_eq!(unpacked(Wire::Grpc, true, framed(0, b"hello")), Ok(hello));
    }

    #[test]
    fn a_bomb_goes_off_outside() {
        let bomb = packed(&vec![0; 9 << 20]);
        assert!(bomb.len() < 1 << 20);
        assert_eq!(unpacked(Wire::Protobuf, true, bomb), Err(413));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        assert_eq!(unpacked(Wire::Protobuf, true, b"hello".to_vec()), Err(400));
        let mut short = packed(b"hello");
        short.truncate(12);
        assert_eq!(unpacked(Wire::Protobuf, true, short), Err(400));
        let two = [framed(0, b"a"), framed(0, b"b")].concat();
        for body in [Vec::new(), vec![0, 0, 0, 0], framed(2, b"a"), two, vec![0, 255, 255, 255, 255]] {
            assert_eq!(unpacked(Wire::Grpc, false, body), Err(400));
        }
        assert_eq!(unpacked(Wire::Grpc, false, framed(1, &packed(b"a"))), Err(400));
    }
}

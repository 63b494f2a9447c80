//! What the fuzzer calls, and what must hold of every input.

use terrace_edge::ProxyProtocol;
use terrace_edge::proxy_protocol::{Progress, parse};

/// The first byte says which versions are accepted. A header is told from its first bytes on, takes no byte beyond its
/// own, and is read the same whatever follows it.
pub(crate) fn proxy_protocol(data: &[u8]) {
    let Some((accepted, bytes)) = data.split_first() else { return };
    let accepted = match accepted % 3 {
        0 => ProxyProtocol::Any,
        1 => ProxyProtocol::V1,
        _ => ProxyProtocol::V2,
    };
    let Ok(Progress::Complete { bytes: length, named }) = parse(bytes, accepted) else { return };
    assert!(length <= bytes.len());
    assert_eq!(parse(&bytes[..length], accepted), Ok(Progress::Complete { bytes: length, named }));
    for end in 1..length {
        let Ok(Progress::Partial(wanted)) = parse(&bytes[..end], accepted) else {
            panic!("{end} of {length} bytes are not told to be a part");
        };
        assert!(wanted > end && wanted <= length, "at {end} of {length} bytes {wanted} are asked for");
    }
}

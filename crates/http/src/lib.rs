//! HTTP message heads, fields and HTTP/1.1 framing: pure, no socket.
#![forbid(unsafe_code)]

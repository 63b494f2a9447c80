//! The edge before clients and origins that keep to no rule: raw bytes on real sockets, a test for each trap, the
//! section of the RFC it is about in its path.
#![expect(clippy::tests_outside_test_module, reason = "each module of this binary is one of tests")]

mod bounds;
mod compressing;
mod frames;
mod grpc_web;
mod identity;
mod limiting;
mod message;
mod mirroring;
mod proxy_protocol;
mod resilience;
mod rfc3986;
mod rfc6455;
mod rfc7239;
mod rfc8446;
mod rfc8737;
mod rfc9110;
mod rfc9112;
mod rfc9113;
mod rfc9457;
mod rig;
mod trace_context;
mod traffic;
mod upstream_http2;
mod validating;

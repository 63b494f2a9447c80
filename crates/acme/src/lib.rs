//! Certificates by ACME (RFC 8555): an account, orders, challenges, renewal, and the folder in which several machines share
//! them.
#![forbid(unsafe_code)]

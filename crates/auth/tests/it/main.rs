//! Gates as their users meet them: tokens made by other people's programs and by attackers, and issuers on real sockets that
//! rotate, fall silent and lie.
#![expect(clippy::tests_outside_test_module, reason = "each module of this binary is one of tests")]

mod attacks;
mod authority;
mod foreign;
mod house;
mod introspection;
mod issuers;
mod liar;
mod login;

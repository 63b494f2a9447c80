//! A value alone on its cache lines, so that cores writing it do not slow down those that read its neighbours.

use std::ops::Deref;

/// 128 bytes: x86-64 fetches lines in adjacent pairs, and some ARM cores have lines of that length.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Padded<T>(T);

impl<T> Deref for Padded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

//! The shim's end of its connection to the Terrace in control.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::protocol::{ORDER_BYTES_MAX, Order};

/// Whether the other side is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    Here,
    Gone,
}

/// A connected Terrace.
#[derive(Debug)]
pub(crate) struct Controller {
    stream: UnixStream,
    /// What was read and is no whole line yet.
    input: Vec<u8>,
}

impl Controller {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream, input: Vec::new() }
    }

    /// Reads one line of at most `bytes_max`; what follows it is kept.
    pub(crate) fn read_blocking<T: DeserializeOwned>(
        &mut self,
        within: Duration,
        bytes_max: usize,
    ) -> io::Result<T> {
        self.stream.set_read_timeout(Some(within))?;
        loop {
            if let Some(line) = self.line() {
                return serde_json::from_slice(&line).map_err(io::Error::from);
            }
            if self.input.len() > bytes_max || self.fill()? == 0 {
                return Err(ErrorKind::InvalidData.into());
            }
        }
    }

    pub(crate) fn write_blocking(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    pub(crate) fn set_nonblocking(&self) -> io::Result<()> {
        self.stream.set_nonblocking(true)
    }

    /// Takes every order that has arrived. One that is not understood is passed over: it is of a later version.
    pub(crate) fn orders(&mut self) -> (Vec<Order>, Presence) {
        let presence = self.fill_all();
        let mut orders = Vec::new();
        while let Some(line) = self.line() {
            orders.extend(serde_json::from_slice::<Order>(&line));
        }
        (orders, presence)
    }

    fn fill_all(&mut self) -> Presence {
        while self.input.len() <= ORDER_BYTES_MAX {
            match self.fill() {
                Ok(0) => return Presence::Gone,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Presence::Here,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Presence::Gone,
            }
        }
        if self.input.contains(&b'\n') { Presence::Here } else { Presence::Gone }
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 4096];
        let count = self.stream.read(&mut buffer)?;
        self.input.extend_from_slice(&buffer[..count]);
        Ok(count)
    }

    fn line(&mut self) -> Option<Vec<u8>> {
        let end = self.input.iter().position(|byte| *byte == b'\n')?;
        Some(self.input.drain(..=end).collect())
    }
}

impl Write for Controller {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.stream.write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Controller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

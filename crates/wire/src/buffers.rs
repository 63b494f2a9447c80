//! Read buffers, lent to connections while bytes are there and taken back while they idle, so that ten thousand idle
//! connections hold none. Each thread has its own small stock.

use std::cell::RefCell;

use bytes::BytesMut;

/// Bytes of a fresh buffer: holds nearly every head and small body in one read.
pub(crate) const BUFFER_BYTES: usize = 16 << 10;
/// Buffers a thread keeps for the next who needs one: 1 MiB.
const STOCK_MAX: usize = 64;

thread_local! {
    static STOCK: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
    static WRITE_STOCK: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer with room for at least [`BUFFER_BYTES`].
pub(crate) fn take() -> BytesMut {
    STOCK.with_borrow_mut(Vec::pop).unwrap_or_else(|| BytesMut::with_capacity(BUFFER_BYTES))
}

/// Takes back an empty buffer. One whose bytes somebody still holds is let go.
pub(crate) fn give(mut buffer: BytesMut) {
    debug_assert!(buffer.is_empty(), "bytes that nobody has read would be lost");
    if buffer.try_reclaim(BUFFER_BYTES) && buffer.capacity() <= 2 * BUFFER_BYTES {
        STOCK.with_borrow_mut(|stock| {
            if stock.len() < STOCK_MAX {
                stock.push(buffer);
            }
        });
    }
}

/// An empty buffer to write into.
pub(crate) fn take_to_write() -> Vec<u8> {
    WRITE_STOCK.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES / 4))
}

/// Takes back a buffer that was written out.
pub(crate) fn give_written(mut buffer: Vec<u8>) {
    buffer.clear();
    if buffer.capacity() > 0 && buffer.capacity() <= 2 * BUFFER_BYTES {
        WRITE_STOCK.with_borrow_mut(|stock| {
            if stock.len() < STOCK_MAX {
                stock.push(buffer);
            }
        });
    }
}

//! Per-thread buffers for records: a connection borrows one while it holds bytes, and an idle connection has none.

use std::cell::RefCell;

use proxy_model::limits::{TLS_BUFFERS, TLS_READ_BYTES, TLS_WRITE_BYTES};

use crate::record::{OVERHEAD, PLAINTEXT};

/// Sealed bytes that wait to be sent together.
pub(crate) const WRITE_BYTES: usize = TLS_WRITE_BYTES.value / PLAINTEXT * (PLAINTEXT + OVERHEAD);
/// Room for a KeyUpdate on top of them.
const ROOM: usize = WRITE_BYTES + 2 * OVERHEAD + 64;

thread_local! {
    static READ: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
    static WRITE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Borrows a read buffer.
pub(crate) fn to_read() -> Box<[u8]> {
    let free = READ.with_borrow_mut(Vec::pop);
    free.unwrap_or_else(|| vec![0; TLS_READ_BYTES.value].into_boxed_slice())
}

/// Returns a read buffer. Its first `used` bytes may be plaintext, and are wiped: the next connection, or whatever the
/// allocator puts there, finds none.
pub(crate) fn give_read(mut buffer: Box<[u8]>, used: usize) {
    buffer[..used].fill(0);
    // The stores are not dead even if the buffer is freed.
    let buffer = std::hint::black_box(buffer);
    keep(&READ, buffer);
}

/// Borrows an empty write buffer for sealed records.
pub(crate) fn to_write() -> Vec<u8> {
    let free = WRITE.with_borrow_mut(Vec::pop);
    free.unwrap_or_else(|| Vec::with_capacity(ROOM))
}

/// Returns a write buffer.
pub(crate) fn give_write(mut buffer: Vec<u8>) {
    buffer.clear();
    keep(&WRITE, buffer);
}

fn keep<T>(free: &'static std::thread::LocalKey<RefCell<Vec<T>>>, buffer: T) {
    // A thread that is exiting no longer has a pool.
    let _ = free.try_with(|free| {
        let mut free = free.borrow_mut();
        if free.len() < TLS_BUFFERS.value {
            free.push(buffer);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returned_read_buffers_hold_no_plaintext() {
        let mut buffer = to_read();
        buffer[..6].copy_from_slice(b"secret");
        give_read(buffer, 6);
        assert!(to_read().iter().all(|byte| *byte == 0));
    }
}

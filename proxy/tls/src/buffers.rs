//! The thread's buffers for records: a connection borrows them while it has bytes in them, and an idle one has none.

use std::cell::RefCell;

use proxy_model::limits::{TLS_BUFFERS, TLS_READ_BYTES, TLS_WRITE_BYTES};

use crate::record::{OVERHEAD, PLAINTEXT};

/// Sealed bytes that wait to be sent, and leave together.
pub(crate) const WRITE_BYTES: usize = TLS_WRITE_BYTES.value / PLAINTEXT * (PLAINTEXT + OVERHEAD);
/// A KeyUpdate may come on top of them.
const ROOM: usize = WRITE_BYTES + 2 * OVERHEAD + 64;

thread_local! {
    static READ: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
    static WRITE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer to read into, with anything in it.
pub(crate) fn to_read() -> Box<[u8]> {
    let free = READ.with_borrow_mut(Vec::pop);
    free.unwrap_or_else(|| vec![0; TLS_READ_BYTES.value].into_boxed_slice())
}

/// Takes back a buffer to read into.
pub(crate) fn give_read(buffer: Box<[u8]>) {
    keep(&READ, buffer);
}

/// An empty buffer for sealed records.
pub(crate) fn to_write() -> Vec<u8> {
    let free = WRITE.with_borrow_mut(Vec::pop);
    free.unwrap_or_else(|| Vec::with_capacity(ROOM))
}

/// Takes back a buffer for sealed records.
pub(crate) fn give_write(mut buffer: Vec<u8>) {
    buffer.clear();
    keep(&WRITE, buffer);
}

fn keep<T>(free: &'static std::thread::LocalKey<RefCell<Vec<T>>>, buffer: T) {
    // A thread that is ending has none any more.
    let _ = free.try_with(|free| {
        let mut free = free.borrow_mut();
        if free.len() < TLS_BUFFERS.value {
            free.push(buffer);
        }
    });
}

//! The allocator: of the whole program, the cryptography in C included, so that what a burst took is given back.

use tikv_jemalloc_ctl::background_thread;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Gives memory back also when nothing happens any more; `.cargo/config.toml` says how soon.
///
/// Called by the program, not configured: the C library allocates before it is ready to start a thread.
pub(crate) fn give_back_when_idle() {
    if let Err(error) = background_thread::write(true) {
        tracing::warn!(%error, "memory is given back only when more is asked for");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn memory_is_given_back_by_a_thread() {
        super::give_back_when_idle();
        assert!(super::background_thread::read().expect("jemalloc"));
    }
}

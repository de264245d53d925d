//! Allocator of the whole program, cryptography in C included, so that memory of a burst is returned.

use tikv_jemalloc_ctl::background_thread;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Returns memory to the system while idle, too; `.cargo/config.toml` sets the delay.
///
/// Called, not configured: the C library allocates before it can start a thread.
pub(crate) fn give_back_when_idle() {
    if let Err(error) = background_thread::write(true) {
        tracing::warn!(%error, "cannot return memory while idle");
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

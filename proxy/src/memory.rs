//! Allocator of the whole program, cryptography in C included, so that memory of a burst is returned.

use proxy_model::limits::BUFFERED_BYTES;
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

/// Bytes that one of `workers` may buffer: together at most [`BUFFERED_BYTES`], or a quarter of the container's memory.
pub(crate) fn buffered_bytes(workers: usize) -> usize {
    // Version 2 of control groups; a container sees its own group as the root.
    let limit = std::fs::read_to_string("/sys/fs/cgroup/memory.max");
    share(limit.unwrap_or_default().trim(), workers)
}

fn share(limit: &str, workers: usize) -> usize {
    let quarter = limit.parse::<usize>().map_or(usize::MAX, |bytes| bytes / 4);
    BUFFERED_BYTES.value.min(quarter) / workers.max(1)
}

#[cfg(test)]
mod tests {
    use super::{BUFFERED_BYTES, share};

    #[test]
    fn workers_share_the_budget_which_a_small_container_lowers() {
        assert_eq!(share("max", 1), BUFFERED_BYTES.value);
        assert_eq!(share("", 4), BUFFERED_BYTES.value / 4);
        assert_eq!(share("67108864", 2), 8 << 20);
        assert_eq!(share("33554432", 1), 8 << 20);
    }

    #[test]
    fn memory_is_given_back_by_a_thread() {
        super::give_back_when_idle();
        assert!(super::background_thread::read().expect("jemalloc"));
    }
}

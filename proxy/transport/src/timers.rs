//! Timers of a worker, driven by the runtime of another thread.
//!
//! A runtime with its own timer passes a time limit to the kernel whenever it sleeps: the kernel sets and cancels a
//! timer, and the clock is read twice. With four connections that cost 0.7 µs of each request (3 %). A worker therefore
//! sleeps without a limit and is woken by the thread that drives its timers. Timers driven there fire with the usual
//! resolution of a millisecond. Without a designated thread they run locally: in tests, whose clock can be paused.

use std::{
    cell::OnceCell,
    future::Future,
    time::{Duration, Instant},
};

use tokio::{
    runtime::Handle,
    time::{Sleep, Timeout},
};

thread_local! {
    static KEEPER: OnceCell<Handle> = const { OnceCell::new() };
}

/// Has `runtime`, which must outlive this thread, drive this thread's timers. Later calls have no effect.
pub fn keep_in(runtime: Handle) {
    KEEPER.with(|keeper| {
        // The first call wins.
        let _ = keeper.set(runtime);
    });
}

/// Sleeps for `time`. Panics when created outside a runtime with a clock, as tokio's does.
pub fn sleep(time: Duration) -> Sleep {
    kept(|| tokio::time::sleep(time))
}

/// Sleeps until `then`.
pub fn sleep_until(then: Instant) -> Sleep {
    kept(|| tokio::time::sleep_until(then.into()))
}

/// Limits `future` to `time`.
pub fn timeout<F: Future>(time: Duration, future: F) -> Timeout<F> {
    kept(|| tokio::time::timeout(time, future))
}

/// Creates a timer in the context of the runtime that drives this thread's timers: a timer belongs to the runtime in
/// whose context it is created.
fn kept<T>(make: impl FnOnce() -> T) -> T {
    KEEPER.with(|keeper| {
        let _context = keeper.get().map(Handle::enter);
        make()
    })
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use super::*;

    /// Runs `work` on a thread whose own runtime has no clock, so that a local timer would panic.
    fn on_a_worker<F: Future<Output = ()>>(work: impl FnOnce() -> F + Send + 'static) {
        let keeper = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let (ended, end) = tokio::sync::oneshot::channel();
        let handle = keeper.handle().clone();
        let worker = thread::spawn(move || {
            keep_in(handle);
            let worker = tokio::runtime::Builder::new_current_thread().build().unwrap();
            worker.block_on(work());
            let _ = ended.send(());
        });
        let _ = keeper.block_on(end);
        worker.join().unwrap();
    }

    #[test]
    fn another_thread_drives_the_timers() {
        on_a_worker(|| async {
            let before = Instant::now();
            sleep(Duration::from_millis(20)).await;
            sleep_until(before + Duration::from_millis(40)).await;
            let late = timeout(Duration::from_millis(20), std::future::pending::<()>()).await;
            assert!(late.is_err());
            assert!(before.elapsed() >= Duration::from_millis(60), "{:?}", before.elapsed());
        });
    }

    #[test]
    fn timeout_returns_a_result_that_is_ready_in_time() {
        on_a_worker(|| async {
            let answer = timeout(Duration::from_secs(60), async { 7 }).await;
            assert_eq!(answer.ok(), Some(7));
        });
    }

    #[test]
    fn dropping_timers_early_is_harmless() {
        let (sender, receiver) = mpsc::channel();
        on_a_worker(move || async move {
            for _ in 0..1000 {
                let _ = timeout(Duration::from_secs(3600), tokio::task::yield_now()).await;
            }
            sender.send(()).unwrap();
        });
        receiver.recv().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_keeper_the_local_clock_is_used() {
        let before = tokio::time::Instant::now();
        sleep(Duration::from_secs(3600)).await;
        assert!(before.elapsed() >= Duration::from_secs(3600));
    }
}

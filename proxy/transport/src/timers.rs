//! Timers of a worker, kept by the runtime of another thread.
//!
//! A runtime with a timer of its own gives the kernel a time limit whenever it sleeps: the kernel sets a timer and cancels
//! it again, and the clock is read twice. Over four connections that was 0.7 µs of each request (3 %). A worker therefore
//! sleeps without a limit, and is woken by the thread that keeps its timers. What is kept there fires as it would here (a
//! millisecond's resolution), and is kept here where nobody was named: in tests, whose clock can stand.

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

/// From now on the timers of this thread are kept by `runtime`, which has to outlive it. A second call changes nothing.
pub fn keep_in(runtime: Handle) {
    KEEPER.with(|keeper| {
        // Whoever was first keeps them all.
        let _ = keeper.set(runtime);
    });
}

/// Waits as long as that. Made outside of a runtime with a clock it panics, as tokio's does.
pub fn sleep(time: Duration) -> Sleep {
    kept(|| tokio::time::sleep(time))
}

/// Waits until then.
pub fn sleep_until(then: Instant) -> Sleep {
    kept(|| tokio::time::sleep_until(then.into()))
}

/// Gives `future` that much time.
pub fn timeout<F: Future>(time: Duration, future: F) -> Timeout<F> {
    kept(|| tokio::time::timeout(time, future))
}

/// Makes a timer where those of this thread are kept: it belongs to the runtime in whose context it is made.
pub fn kept<T>(make: impl FnOnce() -> T) -> T {
    KEEPER.with(|keeper| {
        let _context = keeper.get().map(Handle::enter);
        make()
    })
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use super::*;

    /// Runs `work` on a thread whose own runtime has no clock, so that a timer of its own would panic.
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
    fn another_thread_keeps_the_time() {
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
    fn what_is_in_time_is_not_cut_short() {
        on_a_worker(|| async {
            let answer = timeout(Duration::from_secs(60), async { 7 }).await;
            assert_eq!(answer.ok(), Some(7));
        });
    }

    #[test]
    fn a_timer_may_go_away_before_its_time() {
        let (told, tell) = mpsc::channel();
        on_a_worker(move || async move {
            for _ in 0..1000 {
                let _ = timeout(Duration::from_secs(3600), tokio::task::yield_now()).await;
            }
            told.send(()).unwrap();
        });
        tell.recv().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_keeper_the_clock_is_the_runtimes_own() {
        let before = tokio::time::Instant::now();
        sleep(Duration::from_secs(3600)).await;
        assert!(before.elapsed() >= Duration::from_secs(3600));
    }
}

//! Waker that wakes a task only while it is not running. Bytes that a connection's streams write while its task runs
//! are sent in the same run; the runtime would otherwise run the task once more for nothing.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering::AcqRel, Ordering::Acquire},
    },
    task::{Context, Poll, Wake, Waker},
};

/// Consecutive runs before other tasks get a turn.
const RUNS: usize = 8;

const IDLE: u8 = 0;
const RUNNING: u8 = 1;
/// Woken; the task will run.
const WOKEN: u8 = 2;

/// Waker of one task. Its wakers may be used on any thread.
pub(crate) struct CoalescingWaker {
    inner: Arc<Inner>,
    waker: Waker,
    known: Option<Waker>,
}

struct Inner {
    /// Kept across wakes: a task nearly always has the same waker.
    task: Mutex<Option<Waker>>,
    state: AtomicU8,
}

impl Inner {
    fn task(&self) -> MutexGuard<'_, Option<Waker>> {
        // Nothing panics while holding the lock.
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CoalescingWaker {
    pub(crate) fn new() -> Self {
        let inner = Arc::new(Inner {
            task: Mutex::default(),
            state: AtomicU8::new(IDLE),
        });
        Self {
            waker: Waker::from(inner.clone()),
            inner,
            known: None,
        }
    }

    /// Waker of the task.
    pub(crate) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Runs `poll` until nothing wakes it any more.
    pub(crate) fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        if !self.known.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *self.inner.task() = Some(cx.waker().clone());
            self.known = Some(cx.waker().clone());
        }
        let mut inside = Context::from_waker(&self.waker);
        for _ in 0..RUNS {
            self.inner.state.swap(RUNNING, AcqRel);
            if let Poll::Ready(done) = poll(&mut inside) {
                return Poll::Ready(done);
            }
            if self
                .inner
                .state
                .compare_exchange(RUNNING, IDLE, AcqRel, Acquire)
                .is_ok()
            {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Wake for Inner {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.swap(WOKEN, AcqRel) == IDLE
            && let Some(task) = &*self.task()
        {
            task.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn running_task_is_polled_again_instead_of_woken() {
        let count = Arc::new(Count::default());
        let task = Waker::from(count.clone());
        let mut cx = Context::from_waker(&task);
        let (mut waker, mut runs, mut inside) = (CoalescingWaker::new(), 0, None);
        let polled = waker.poll(&mut cx, |cx| {
            runs += 1;
            if runs == 1 {
                cx.waker().wake_by_ref();
            }
            inside = Some(cx.waker().clone());
            Poll::<()>::Pending
        });
        assert!(polled.is_pending());
        assert_eq!((runs, count.0.load(Relaxed)), (2, 0));
        let inside = inside.expect("it ran");
        inside.wake_by_ref();
        inside.wake_by_ref();
        assert_eq!(count.0.load(Relaxed), 1, "once is enough");
        assert!(waker.poll(&mut cx, |_| Poll::<()>::Pending).is_pending());
        inside.wake_by_ref();
        assert_eq!(count.0.load(Relaxed), 2);
    }

    #[test]
    fn self_waking_task_yields_to_others() {
        let count = Arc::new(Count::default());
        let task = Waker::from(count.clone());
        let mut cx = Context::from_waker(&task);
        let mut runs = 0;
        let polled = CoalescingWaker::new().poll(&mut cx, |cx| {
            runs += 1;
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        assert!(polled.is_pending());
        assert_eq!((runs, count.0.load(Relaxed)), (RUNS, 1));
    }
}

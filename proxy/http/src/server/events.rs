//! Wakes of a connection that do not come from its I/O: a drain, and the end of a time. They are polled with the
//! connection, several times per request, so a poll costs one load unless one of them has notified.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use futures_util::task::AtomicWaker;
use proxy_transport::timers;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFuture;

/// Event of a connection.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The connection should end gracefully; once.
    Drain,
    /// The time has passed.
    Time,
}

/// Sources of events.
pub(super) struct Events<'a, 'd> {
    drain: Option<Pin<&'a mut WaitForCancellationFuture<'d>>>,
    timer: Option<Pin<Box<Sleep>>>,
    is_timing: bool,
    signal: Arc<Signal>,
    waker: Waker,
    registered: Option<Waker>,
}

impl<'a, 'd> Events<'a, 'd> {
    pub(super) fn new(drain: Pin<&'a mut WaitForCancellationFuture<'d>>) -> Self {
        let signal = Arc::new(Signal {
            task: AtomicWaker::new(),
            is_set: AtomicBool::new(true),
        });
        Self {
            drain: Some(drain),
            timer: None,
            is_timing: false,
            waker: Waker::from(signal.clone()),
            signal,
            registered: None,
        }
    }

    /// Waker of the connection's task.
    pub(super) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Starts a time, in place of the previous one.
    pub(super) fn start(&mut self, time: Duration) {
        match &mut self.timer {
            Some(timer) => timer.as_mut().reset(Instant::now() + time),
            None => self.timer = Some(Box::pin(timers::sleep(time))),
        }
        self.is_timing = true;
        if self.poll_timer() {
            self.waker.wake_by_ref();
        }
    }

    fn poll_timer(&mut self) -> bool {
        let mut cx = Context::from_waker(&self.waker);
        self.timer
            .as_mut()
            .is_some_and(|timer| timer.as_mut().poll(&mut cx).is_ready())
    }

    /// Returns the next event.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Option<Event> {
        let is_set = self.signal.is_set.load(Ordering::Acquire);
        // A wake takes the registered waker.
        if is_set
            || !self
                .registered
                .as_ref()
                .is_some_and(|known| known.will_wake(cx.waker()))
        {
            self.signal.task.register(cx.waker());
            self.registered = Some(cx.waker().clone());
        }
        if !is_set && !self.signal.is_set.load(Ordering::Acquire) {
            return None;
        }
        // The swap synchronises with the waking thread.
        self.signal.is_set.swap(false, Ordering::AcqRel);
        let mut inside = Context::from_waker(&self.waker);
        let is_drained = |drain: &mut Pin<&mut WaitForCancellationFuture<'_>>| drain.as_mut().poll(&mut inside);
        if self.drain.as_mut().map(is_drained) == Some(Poll::Ready(())) {
            self.drain = None;
            // The time may have passed, too.
            self.signal.is_set.store(true, Ordering::Release);
            return Some(Event::Drain);
        }
        if self.is_timing && self.poll_timer() {
            self.is_timing = false;
            return Some(Event::Time);
        }
        None
    }
}

/// Notification of the task, recorded until the task looks.
struct Signal {
    task: AtomicWaker,
    is_set: AtomicBool,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_set.store(true, Ordering::Release);
        self.task.wake();
    }
}

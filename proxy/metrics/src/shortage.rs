//! Note from a worker that there was no room for a series, to the thread that makes room: an atomic and, once, a wake.

use std::{
    future::poll_fn,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering::AcqRel},
    },
    task::{Poll, Waker},
};

#[derive(Debug, Default)]
pub(crate) struct Shortage {
    noted: AtomicBool,
    waiting: Mutex<Option<Waker>>,
}

impl Shortage {
    /// Notes a series without room.
    pub(crate) fn note(&self) {
        if !self.noted.swap(true, AcqRel)
            && let Some(waiting) = self.lock().take()
        {
            waiting.wake();
        }
    }

    /// Waits for a note, and takes it. One task may wait at a time.
    pub(crate) async fn noted(&self) {
        poll_fn(|cx| {
            *self.lock() = Some(cx.waker().clone());
            // Looked at after the waker is there, so that no note is missed.
            if self.noted.swap(false, AcqRel) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waiting.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

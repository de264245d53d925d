//! Runs hyper's futures on the calling worker, so that they need not be `Send`.

use std::future::Future;

/// Size in bytes above which a future is boxed before it is spawned: a task's future is moved about ten times from the
/// call to its end, and a box is cheaper to move.
const LARGE: usize = 256;

/// Executor that spawns on the current `LocalSet`, inside which it must be used.
#[derive(Copy, Clone, Debug, Default)]
pub struct LocalExec;

impl<F> hyper::rt::Executor<F> for LocalExec
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        // The connection that spawned it ends it: hyper's futures end with their connection.
        if size_of::<F>() > LARGE {
            drop(tokio::task::spawn_local(Box::pin(future)));
        } else {
            drop(tokio::task::spawn_local(future));
        }
    }
}

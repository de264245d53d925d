//! Runs hyper's own futures on the worker that called it, so that they need not be `Send`.

use std::future::Future;

/// Futures above it go into a box before they are spawned: a task's future is moved some ten times from the call to its
/// end, a box is moved in its stead. In bytes.
const LARGE: usize = 256;

/// Spawns on the current `LocalSet`. Must be used inside one.
#[derive(Copy, Clone, Debug, Default)]
pub struct LocalExec;

impl<F> hyper::rt::Executor<F> for LocalExec
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        // The connection that spawned it ends it: hyper's futures end when their connection does.
        if size_of::<F>() > LARGE {
            drop(tokio::task::spawn_local(Box::pin(future)));
        } else {
            drop(tokio::task::spawn_local(future));
        }
    }
}

//! Runs hyper's own futures on the worker that called it, so that they need not be `Send`.

use std::future::Future;

/// Spawns on the current `LocalSet`. Must be used inside one.
#[derive(Copy, Clone, Debug, Default)]
pub struct LocalExec;

impl<F> hyper::rt::Executor<F> for LocalExec
where
    F: Future + 'static,
{
    fn execute(&self, future: F) {
        // The connection that spawned it ends it: hyper's futures end when their connection does.
        drop(tokio::task::spawn_local(async move {
            future.await;
        }));
    }
}

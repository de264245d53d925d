//! Owned tasks: the first that ends before the stop stops the process.

use std::{collections::HashMap, convert::Infallible, fmt::Display, future::Future, time::Duration};

use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::Error;

/// The long-lived tasks of a process.
#[derive(Debug)]
pub struct Tasks {
    set: JoinSet<Result<(), String>>,
    names: HashMap<Id, &'static str>,
    stop: CancellationToken,
}

impl Tasks {
    /// An empty set; its tasks end after `stop`.
    pub fn new(stop: CancellationToken) -> Self {
        Self {
            set: JoinSet::new(),
            names: HashMap::new(),
            stop,
        }
    }

    /// Starts a task that ends with an error, or after the stop.
    pub fn spawn<E: Display>(
        &mut self,
        name: &'static str,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let handle = self
            .set
            .spawn(async move { task.await.map_err(|error| error.to_string()) });
        self.names.insert(handle.id(), name);
    }

    /// Starts a task that never ends by itself; the stop cancels it.
    pub fn spawn_until_stop(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.spawn(name, async move {
            stop.run_until_cancelled(task).await;
            Ok::<_, Infallible>(())
        });
    }

    /// Like [`Tasks::spawn`], for a task that cannot leave its thread.
    pub fn spawn_local<E: Display>(&mut self, name: &'static str, task: impl Future<Output = Result<(), E>> + 'static) {
        let handle = self
            .set
            .spawn_local(async move { task.await.map_err(|error| error.to_string()) });
        self.names.insert(handle.id(), name);
    }

    /// Waits for the stop, then up to `grace` for all tasks. A task that ends early causes the stop, and is the error.
    pub async fn finish(mut self, grace: Duration) -> Result<(), Error> {
        let stop = self.stop.clone();
        let early = tokio::select! {
            // The stop first: a task that it ended did not end early.
            biased;
            () = stop.cancelled() => None,
            Some(ended) = self.set.join_next_with_id() => Some(self.ended(ended)),
        };
        stop.cancel();
        let early = early.map(|(name, reason)| {
            tracing::error!(task = name, %reason, "task ended early; stopping");
            Error::TaskEnded { name, reason }
        });
        let all = async {
            while let Some(ended) = self.set.join_next_with_id().await {
                let (name, reason) = self.ended(ended);
                tracing::debug!(task = name, %reason, "ended");
            }
        };
        let drained = tokio::time::timeout(grace, all).await.is_ok();
        match early {
            Some(error) => Err(error),
            None if drained => Ok(()),
            None => Err(self.undrained(grace)),
        }
    }

    fn ended(&mut self, ended: Result<(Id, Result<(), String>), JoinError>) -> (&'static str, String) {
        let (id, reason) = match ended {
            Ok((id, Ok(()))) => (id, "finished early".to_owned()),
            Ok((id, Err(error))) => (id, error),
            Err(error) => (error.id(), error.to_string()),
        };
        (self.names.remove(&id).unwrap_or("unnamed"), reason)
    }

    fn undrained(&self, grace: Duration) -> Error {
        let mut names: Vec<_> = self.names.values().copied().collect();
        names.sort_unstable();
        Error::Undrained {
            count: names.len(),
            names: names.join(", "),
            grace,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_ends_with_the_stop_is_not_an_error() {
        for _ in 0..64 {
            let stop = CancellationToken::new();
            let mut tasks = Tasks::new(stop.clone());
            let stopped = stop.clone().cancelled_owned();
            tasks.spawn("quick", async {
                stopped.await;
                Ok::<_, Error>(())
            });
            let finished = tokio::spawn(tasks.finish(Duration::from_secs(1)));
            tokio::task::yield_now().await;
            stop.cancel();
            tokio::task::yield_now().await;
            assert!(matches!(finished.await, Ok(Ok(()))));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_ends_early_stops_the_others_and_is_named() {
        let stop = CancellationToken::new();
        let mut tasks = Tasks::new(stop.clone());
        let other = stop.clone();
        tasks.spawn("other", async move {
            other.cancelled().await;
            Ok::<_, Error>(())
        });
        tasks.spawn("broken", async { Err("no more files") });
        let error = tasks
            .finish(Duration::from_secs(1))
            .await
            .expect_err("broken")
            .to_string();
        assert_eq!(error, "task \"broken\" ended: no more files");
        assert!(stop.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn the_grace_period_limits_the_wait() {
        let stop = CancellationToken::new();
        let mut tasks = Tasks::new(stop.clone());
        tasks.spawn("idle", std::future::pending::<Result<(), String>>());
        stop.cancel();
        let error = tasks
            .finish(Duration::from_secs(5))
            .await
            .expect_err("still busy")
            .to_string();
        assert_eq!(error, "1 tasks still running 5s after the stop: idle");
        let tasks = Tasks::new(stop);
        tasks.finish(Duration::ZERO).await.expect("nothing to wait for");
    }
}

//! Periodic scrapes of every proxy into the window.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use tokio::sync::watch;
use viz_api::Source;
use viz_query::{Limits, Objects, Pod, Window};

use crate::client::Fetcher;

/// Concurrent scrapes: enough for a thousand pods a second at 30 ms each, few enough for the sidecar.
const CONCURRENT: usize = 32;
/// Time between two scrapes of a proxy per proxy: ten scrapes a second cost next to nothing.
const PER_PROXY: Duration = Duration::from_millis(100);
/// Longest timeout of a scrape.
const TIMEOUT_MAX: Duration = Duration::from_secs(5);
/// Shortest timeout of a scrape: a busy machine is not a failing proxy.
const TIMEOUT_MIN: Duration = Duration::from_secs(1);

/// Objects, window of scrapes and client, shared by the tasks of the program.
#[derive(Clone)]
pub(crate) struct Telemetry {
    objects: watch::Receiver<Arc<Objects>>,
    window: Arc<Mutex<Window>>,
    pub(crate) fetcher: Fetcher,
    started: Instant,
    interval: Interval,
    window_max: Duration,
}

/// Time between two scrapes of a proxy.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Interval {
    /// With few proxies.
    pub(crate) min: Duration,
    /// With any number of proxies.
    pub(crate) max: Duration,
}

impl Interval {
    /// Interval with this number of proxies.
    fn among(self, proxies: usize) -> Duration {
        (PER_PROXY * proxies as u32).clamp(self.min, self.max.max(self.min))
    }
}

impl Telemetry {
    pub(crate) fn new(objects: watch::Receiver<Arc<Objects>>, interval: Interval, window_max: Duration) -> Self {
        let limits = Limits {
            window_ms: window_max.as_millis() as u64,
            ..Limits::default()
        };
        Self {
            objects,
            window: Arc::new(Mutex::new(Window::new(limits))),
            fetcher: Fetcher::new(),
            started: Instant::now(),
            interval,
            window_max,
        }
    }

    /// Current objects.
    pub(crate) fn objects(&self) -> Arc<Objects> {
        Arc::clone(&self.objects.borrow())
    }

    /// Locks the window, for one scrape or one answer at a time, never across an await.
    pub(crate) fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Milliseconds on the monotonic clock of the window.
    pub(crate) fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// Longest window that can be requested, in milliseconds.
    pub(crate) fn window_max_ms(&self) -> u64 {
        self.window_max.as_millis() as u64
    }

    /// Source of an answer over `window_ms`.
    pub(crate) fn source(&self, window_ms: u64) -> Source {
        let proxies = self.objects().pods.iter().filter(|pod| is_scraped(pod)).count();
        let scrape_interval_ms = self.interval.among(proxies).as_millis() as u64;
        Source {
            scrape_interval_ms,
            ..self.window().source(self.now_ms(), window_ms)
        }
    }

    /// Timeout of one scrape.
    pub(crate) fn timeout(&self) -> Duration {
        self.interval.min.clamp(TIMEOUT_MIN, TIMEOUT_MAX)
    }
}

fn is_scraped(pod: &Pod) -> bool {
    pod.is_running() && pod.metrics_addr().is_some()
}

/// Scrapes until the future is dropped.
pub(crate) async fn run(telemetry: Telemetry) -> Result<(), Infallible> {
    loop {
        let began = tokio::time::Instant::now();
        let objects = telemetry.objects();
        telemetry.window().retain(&objects, telemetry.now_ms());
        let pods: Vec<_> = objects.pods.iter().filter(|pod| is_scraped(pod)).collect();
        let interval = telemetry.interval.among(pods.len());
        stream::iter(pods)
            .for_each_concurrent(CONCURRENT, |pod| scrape(&telemetry, pod))
            .await;
        // A late round starts at once, but other tasks run first.
        tokio::time::sleep_until(began + interval).await;
        tokio::task::yield_now().await;
    }
}

async fn scrape(telemetry: &Telemetry, pod: &Arc<Pod>) {
    let Some(address) = pod.metrics_addr() else { return };
    match telemetry.fetcher.metrics(address, telemetry.timeout()).await {
        Ok(text) => {
            let at = telemetry.now_ms();
            telemetry.window().observe(pod, at, &text);
        }
        Err(error) => {
            tracing::debug!(namespace = %pod.key.namespace, pod = %pod.key.name, %error, "scrape failed");
            telemetry.window().fail(pod, error.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interval_grows_with_the_number_of_proxies() {
        let interval = Interval {
            min: Duration::from_secs(1),
            max: Duration::from_secs(10),
        };
        let seconds = [0, 8, 30, 2000].map(|proxies| interval.among(proxies).as_secs());
        assert_eq!(seconds, [1, 1, 3, 10]);
    }
}

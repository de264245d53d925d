//! Scrapes every proxy again and again into the window.

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

/// Scrapes under way at a time: enough for a thousand pods a second at 30 ms each, few enough for the sidecar.
const CONCURRENT: usize = 32;
/// Time between two scrapes of a proxy for each proxy there is: ten scrapes a second cost nobody anything.
const PER_PROXY: Duration = Duration::from_millis(100);
/// Longest time for one scrape.
const TIMEOUT_MAX: Duration = Duration::from_secs(5);
/// Shortest time for one scrape: a busy machine is no failing proxy.
const TIMEOUT_MIN: Duration = Duration::from_secs(1);

/// What all parts of the program share.
#[derive(Clone)]
pub(crate) struct Shared {
    objects: watch::Receiver<Arc<Objects>>,
    window: Arc<Mutex<Window>>,
    pub(crate) fetcher: Fetcher,
    started: Instant,
    interval: Interval,
    window_max: Duration,
}

/// The time between two scrapes of a proxy.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Interval {
    /// While there are few proxies.
    pub(crate) min: Duration,
    /// However many there are.
    pub(crate) max: Duration,
}

impl Interval {
    /// Among so many proxies.
    fn among(self, proxies: usize) -> Duration {
        (PER_PROXY * proxies as u32).clamp(self.min, self.max.max(self.min))
    }
}

impl Shared {
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

    /// The objects as they are now.
    pub(crate) fn objects(&self) -> Arc<Objects> {
        Arc::clone(&self.objects.borrow())
    }

    /// The window. It is locked for one scrape or one answer at a time, never across an await.
    pub(crate) fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Milliseconds on the clock of the window: it only goes forward.
    pub(crate) fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// The longest window that can be asked for, in milliseconds.
    pub(crate) fn window_max_ms(&self) -> u64 {
        self.window_max.as_millis() as u64
    }

    /// What an answer over `window_ms` rests on.
    pub(crate) fn source(&self, window_ms: u64) -> Source {
        let proxies = self.objects().pods.iter().filter(|pod| is_scraped(pod)).count();
        let scrape_interval_ms = self.interval.among(proxies).as_millis() as u64;
        Source {
            scrape_interval_ms,
            ..self.window().source(self.now_ms(), window_ms)
        }
    }

    /// Time for one scrape.
    pub(crate) fn timeout(&self) -> Duration {
        self.interval.min.clamp(TIMEOUT_MIN, TIMEOUT_MAX)
    }
}

fn is_scraped(pod: &Pod) -> bool {
    pod.is_running() && pod.metrics_addr().is_some()
}

/// Scrapes until it is dropped.
pub(crate) async fn run(shared: Shared) -> Result<(), Infallible> {
    loop {
        let began = tokio::time::Instant::now();
        let objects = shared.objects();
        shared.window().retain(&objects, shared.now_ms());
        let pods: Vec<_> = objects.pods.iter().filter(|pod| is_scraped(pod)).collect();
        let interval = shared.interval.among(pods.len());
        stream::iter(pods)
            .for_each_concurrent(CONCURRENT, |pod| scrape(&shared, pod))
            .await;
        // After a round that took too long the next one begins at once, but lets others run.
        tokio::time::sleep_until(began + interval).await;
        tokio::task::yield_now().await;
    }
}

async fn scrape(shared: &Shared, pod: &Arc<Pod>) {
    let Some(address) = pod.metrics_addr() else { return };
    match shared.fetcher.metrics(address, shared.timeout()).await {
        Ok(text) => {
            let at = shared.now_ms();
            shared.window().observe(pod, at, &text);
        }
        Err(error) => {
            tracing::debug!(namespace = %pod.key.namespace, pod = %pod.key.name, %error, "scrape failed");
            shared.window().fail(pod, error.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_proxies_are_scraped_less_often() {
        let interval = Interval {
            min: Duration::from_secs(1),
            max: Duration::from_secs(10),
        };
        let seconds = [0, 8, 30, 2000].map(|proxies| interval.among(proxies).as_secs());
        assert_eq!(seconds, [1, 1, 3, 10]);
    }
}

//! Scrapes every proxy again and again into the window.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use tokio::{sync::watch, time::MissedTickBehavior};
use viz_api::Source;
use viz_query::{Limits, Objects, Pod, Window};

use crate::client::Fetcher;

/// Scrapes under way at a time: enough for a thousand pods a second at 30 ms each, few enough for the sidecar.
const CONCURRENT: usize = 32;
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
    interval: Duration,
    window_max: Duration,
}

impl Shared {
    pub(crate) fn new(objects: watch::Receiver<Arc<Objects>>, interval: Duration, window_max: Duration) -> Self {
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
        let scrape_interval_ms = self.interval.as_millis() as u64;
        Source {
            scrape_interval_ms,
            ..self.window().source(self.now_ms(), window_ms)
        }
    }

    /// Time for one scrape.
    pub(crate) fn timeout(&self) -> Duration {
        self.interval.clamp(TIMEOUT_MIN, TIMEOUT_MAX)
    }
}

/// Scrapes until it is dropped.
pub(crate) async fn run(shared: Shared) -> Result<(), Infallible> {
    let mut ticks = tokio::time::interval(shared.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let objects = shared.objects();
        shared.window().retain(&objects, shared.now_ms());
        let pods = objects
            .pods
            .iter()
            .filter(|pod| pod.meshed && pod.is_running() && pod.ip.is_some());
        stream::iter(pods)
            .for_each_concurrent(CONCURRENT, |pod| scrape(&shared, pod))
            .await;
    }
}

async fn scrape(shared: &Shared, pod: &Arc<Pod>) {
    let Some(ip) = pod.ip else { return };
    match shared.fetcher.metrics(ip, shared.timeout()).await {
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

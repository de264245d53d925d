//! The streams that are open, each with its age, so that it can be seen who was told what, and when.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use crate::{call::Rpc, metrics::Metrics};

/// One open stream, as `/streams` shows it.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct StreamRow {
    /// The call.
    pub rpc: &'static str,
    /// What was asked.
    pub target: String,
    /// Who asked, by its own token.
    pub client: String,
    /// Messages that were sent.
    pub messages: u64,
    /// Age of the stream.
    pub age_seconds: f64,
    /// Time since the last message.
    pub last_message_seconds: Option<f64>,
}

#[derive(Debug)]
struct Open {
    rpc: Rpc,
    target: Box<str>,
    client: Box<str>,
    since: Instant,
    messages: AtomicU64,
    /// Milliseconds after `since`.
    last: AtomicU64,
}

/// All open streams.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    open: Mutex<BTreeMap<u64, Arc<Open>>>,
    next: AtomicU64,
}

impl Streams {
    fn open(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Arc<Open>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The open streams, oldest first.
    pub(crate) fn rows(&self) -> Vec<StreamRow> {
        let row = |open: &Arc<Open>| {
            let age = open.since.elapsed().as_secs_f64();
            let messages = open.messages.load(Ordering::Relaxed);
            let last = open.last.load(Ordering::Relaxed) as f64 / 1e3;
            StreamRow {
                rpc: open.rpc.as_str(),
                target: open.target.to_string(),
                client: open.client.to_string(),
                messages,
                age_seconds: age,
                last_message_seconds: (messages > 0).then(|| (age - last).max(0.0)),
            }
        };
        self.open().values().map(row).collect()
    }

    /// Age of the oldest stream of each call, in seconds.
    pub(crate) fn oldest(&self) -> BTreeMap<&'static str, f64> {
        let mut oldest = BTreeMap::new();
        for open in self.open().values() {
            oldest
                .entry(open.rpc.as_str())
                .or_insert_with(|| open.since.elapsed().as_secs_f64());
        }
        oldest
    }
}

/// An open stream; it is closed when this goes.
pub(crate) struct Guard {
    id: u64,
    open: Arc<Open>,
    metrics: Metrics,
}

impl Guard {
    pub(crate) fn new(metrics: &Metrics, rpc: Rpc, target: String, client: &str) -> Self {
        let open = Open {
            rpc,
            target: target.into(),
            client: client.trim().into(),
            since: Instant::now(),
            messages: AtomicU64::new(0),
            last: AtomicU64::new(0),
        };
        let open = Arc::new(open);
        let streams = metrics.streams();
        let id = streams.next.fetch_add(1, Ordering::Relaxed);
        streams.open().insert(id, open.clone());
        metrics.opened(rpc);
        Self {
            id,
            open,
            metrics: metrics.clone(),
        }
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Messages go out.
    pub(crate) fn sent(&self, messages: u32) {
        self.open.messages.fetch_add(u64::from(messages), Ordering::Relaxed);
        self.open
            .last
            .store(self.open.since.elapsed().as_millis() as u64, Ordering::Relaxed);
        self.metrics.sent(self.open.rpc, messages);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.metrics.streams().open().remove(&self.id);
        self.metrics.closed(self.open.rpc);
    }
}

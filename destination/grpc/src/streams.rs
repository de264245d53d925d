//! Table of open streams, for `/streams` and metrics.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use crate::rpc::Rpc;

/// Open stream, as shown by `/streams`.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct StreamRow {
    /// Call.
    pub rpc: &'static str,
    /// Target of the lookup.
    pub target: String,
    /// Client, by its own token.
    pub client: String,
    /// Number of messages sent.
    pub messages: u64,
    /// Age of the stream.
    pub age_seconds: f64,
    /// Time since the last message.
    pub last_message_seconds: Option<f64>,
}

/// Row of an open stream.
#[derive(Debug)]
pub(crate) struct OpenStream {
    pub(crate) rpc: Rpc,
    target: Box<str>,
    client: Box<str>,
    since: Instant,
    messages: AtomicU64,
    /// Milliseconds after `since`.
    last: AtomicU64,
}

impl OpenStream {
    /// Counts messages that are sent.
    pub(crate) fn sent(&self, messages: u32) {
        self.messages.fetch_add(u64::from(messages), Ordering::Relaxed);
        self.last
            .store(self.since.elapsed().as_millis() as u64, Ordering::Relaxed);
    }
}

/// Table of all open streams.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    open: Mutex<BTreeMap<u64, Arc<OpenStream>>>,
    next: AtomicU64,
}

impl Streams {
    /// Adds a stream and returns its id and row.
    pub(crate) fn add(&self, rpc: Rpc, target: String, client: &str) -> (u64, Arc<OpenStream>) {
        let open = Arc::new(OpenStream {
            rpc,
            target: target.into(),
            client: client.trim().into(),
            since: Instant::now(),
            messages: AtomicU64::new(0),
            last: AtomicU64::new(0),
        });
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.open().insert(id, open.clone());
        (id, open)
    }

    /// Removes a stream.
    pub(crate) fn remove(&self, id: u64) {
        self.open().remove(&id);
    }

    fn open(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Arc<OpenStream>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the open streams, oldest first.
    pub(crate) fn rows(&self) -> Vec<StreamRow> {
        let row = |open: &Arc<OpenStream>| {
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

    /// Returns the age of the oldest stream of each call, in seconds.
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

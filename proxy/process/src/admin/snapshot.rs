//! Text of `/metrics`: made at most once a second in the long run, and shared by its readers. To print everything takes
//! a thread milliseconds, and any client may ask.

use std::{
    io::Write,
    sync::{Arc, Mutex, MutexGuard, OnceLock, Weak},
    time::Instant,
};

use axum::body::Bytes;
use flate2::{Compression, write::GzEncoder};

use crate::serve::{
    Refusals,
    limits::{METRICS_EVERY, METRICS_IN_A_ROW, METRICS_UNREAD_BYTES},
};

/// Prints the metrics.
type Render = Arc<dyn Fn() -> String + Send + Sync>;

/// Texts of a program's metrics; a shared handle.
#[derive(Clone)]
pub(super) struct Snapshots {
    render: Render,
    refusals: Refusals,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    current: Option<Arc<Snapshot>>,
    /// Earlier ones that are still being read.
    unread: Vec<Weak<Snapshot>>,
    /// Time at which all texts made so far have been paid for.
    paid: Option<Instant>,
}

/// One text.
#[derive(Debug)]
pub(super) struct Snapshot {
    text: String,
    zipped: OnceLock<Option<Vec<u8>>>,
}

/// Bytes that keep their snapshot.
struct Plain(Arc<Snapshot>);

struct Zipped(Arc<Snapshot>);

impl AsRef<[u8]> for Plain {
    fn as_ref(&self) -> &[u8] {
        self.0.text.as_bytes()
    }
}

impl AsRef<[u8]> for Zipped {
    fn as_ref(&self) -> &[u8] {
        self.0.zipped().unwrap_or_default()
    }
}

impl Snapshot {
    fn new(text: String) -> Arc<Self> {
        let zipped = OnceLock::new();
        Arc::new(Self { text, zipped })
    }

    fn zipped(&self) -> Option<&[u8]> {
        let zip = || {
            let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
            gzip.write_all(self.text.as_bytes()).and_then(|()| gzip.finish()).ok()
        };
        self.zipped.get_or_init(zip).as_deref()
    }

    fn len(&self) -> usize {
        self.text.len() + self.zipped.get().into_iter().flatten().map(Vec::len).sum::<usize>()
    }

    /// The text.
    pub(super) fn plain(self: &Arc<Self>) -> Bytes {
        Bytes::from_owner(Plain(Arc::clone(self)))
    }

    /// The compressed text.
    pub(super) fn gzip(self: &Arc<Self>) -> Option<Bytes> {
        self.zipped()?;
        Some(Bytes::from_owner(Zipped(Arc::clone(self))))
    }
}

impl Snapshots {
    pub(super) fn new(render: Render, refusals: Refusals) -> Self {
        let state = Arc::default();
        Self {
            render,
            refusals,
            state,
        }
    }

    /// The current text, or a new one if that is due.
    pub(super) fn get(&self) -> Arc<Snapshot> {
        let mut state = self.lock();
        let now = Instant::now();
        if let Some(current) = state.current.clone() {
            if !state.is_due(now) {
                return current;
            }
            if state.unread_bytes() + current.len() > METRICS_UNREAD_BYTES.value {
                self.refusals.count(METRICS_UNREAD_BYTES.row());
                return current;
            }
            state.retire(current);
        }
        let mut text = (self.render)();
        self.refusals.append(&mut text);
        let snapshot = Snapshot::new(text);
        state.pay(now);
        state.current = Some(Arc::clone(&snapshot));
        snapshot
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl State {
    /// Returns true if a text may be made: some in a row, then one at a time.
    fn is_due(&self, now: Instant) -> bool {
        let ahead = METRICS_EVERY.value * (METRICS_IN_A_ROW.value - 1);
        self.paid.is_none_or(|paid| paid <= now + ahead)
    }

    fn pay(&mut self, now: Instant) {
        let from = self.paid.map_or(now, |paid| paid.max(now));
        self.paid = Some(from + METRICS_EVERY.value);
    }

    /// Drops the current text, unless it is being read, so that the next one can take its place in memory.
    fn retire(&mut self, current: Arc<Snapshot>) {
        self.current = None;
        let weak = Arc::downgrade(&current);
        drop(current);
        if weak.strong_count() > 0 {
            self.unread.push(weak);
        }
    }

    fn unread_bytes(&mut self) -> usize {
        self.unread.retain(|unread| unread.strong_count() > 0);
        let unread = self.unread.iter().filter_map(Weak::upgrade);
        unread.map(|unread| unread.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    fn snapshots(bytes: usize) -> (Snapshots, Arc<AtomicUsize>) {
        let made = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&made);
        let render = move || {
            count.fetch_add(1, Relaxed);
            "x".repeat(bytes)
        };
        (Snapshots::new(Arc::new(render), Refusals::default()), made)
    }

    #[test]
    fn readers_in_a_loop_share_a_text() {
        let (snapshots, made) = snapshots(10);
        let texts: Vec<_> = (0..1000).map(|_| snapshots.get().plain()).collect();
        assert_eq!(made.load(Relaxed), METRICS_IN_A_ROW.value as usize);
        assert!(texts.iter().all(|text| text.len() == 10));
        assert!(!snapshots.lock().is_due(Instant::now()));
        assert!(snapshots.lock().is_due(Instant::now() + METRICS_EVERY.value));
    }

    #[test]
    fn unread_texts_take_bounded_memory() {
        let (snapshots, made) = snapshots(METRICS_UNREAD_BYTES.value / 2);
        let unread: Vec<_> = (0..5).map(|_| snapshots.get().plain()).collect();
        assert_eq!(made.load(Relaxed), 3, "two unread ones and the current one");
        drop(unread);
        snapshots.get();
        assert_eq!(made.load(Relaxed), 4, "read, so there is room");
    }
}

//! Messages that many streams need, encoded once: what a new stream gets of a state, and what leads from one state to
//! another, whether it is the next or one far behind.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use crate::{limits, message::Encoded, metrics::Metrics};

/// Encodes what leads from the state that was sent last, if any, to the one that holds now.
pub(crate) type Encode<T> = fn(Option<&T>, &T) -> Encoded;

struct Entry<T> {
    /// Kept, so that no other state gets their addresses.
    _states: (Option<Arc<T>>, Arc<T>),
    encoded: Encoded,
    used: Instant,
}

/// Messages about one kind of state.
pub(crate) struct Shared<T> {
    entries: Mutex<HashMap<(usize, usize), Entry<T>>>,
    encode: Encode<T>,
    /// Whether a message says how a state differs from the one before; else it says all of it.
    differences: bool,
}

impl<T> Shared<T> {
    /// Messages that say all of a state.
    pub(crate) fn whole(encode: Encode<T>) -> Arc<Self> {
        Self::new(encode, false)
    }

    /// Messages that say how states differ.
    pub(crate) fn differences(encode: Encode<T>) -> Arc<Self> {
        Self::new(encode, true)
    }

    fn new(encode: Encode<T>, differences: bool) -> Arc<Self> {
        Arc::new(Self {
            entries: Mutex::default(),
            encode,
            differences,
        })
    }

    /// The messages that lead from `last` to `now`.
    pub(crate) fn messages(&self, last: Option<&Arc<T>>, now: &Arc<T>, metrics: &Metrics) -> Encoded {
        let last = last.filter(|_| self.differences);
        let address = |state: &Arc<T>| Arc::as_ptr(state).addr();
        let key = (last.map_or(0, address), address(now));
        let mut entries = self.entries();
        if let Some(entry) = entries.get_mut(&key) {
            entry.used = Instant::now();
            return entry.encoded.clone();
        }
        // The lock is held meanwhile: the others want the same.
        let encoded = (self.encode)(last.map(|last| &**last), now);
        metrics.encoded();
        if entries.len() >= limits::SHARED_MESSAGES {
            entries.clear();
            metrics.forgotten();
        }
        let entry = Entry {
            _states: (last.cloned(), now.clone()),
            encoded: encoded.clone(),
            used: Instant::now(),
        };
        entries.insert(key, entry);
        encoded
    }

    /// Forgets what was not used for a while.
    pub(crate) fn sweep(&self) {
        let mut entries = self.entries();
        entries.retain(|_, entry| entry.used.elapsed() < limits::SHARED_FOR);
        entries.shrink_to_fit();
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<(usize, usize), Entry<T>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

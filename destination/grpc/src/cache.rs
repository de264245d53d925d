//! Cache of encoded messages that many streams need: a whole state for new streams, and the difference between two
//! states, consecutive or not.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use crate::{limits, message::Encoded, metrics::Metrics};

/// Encodes the messages from the last sent state, if any, to the current one.
pub(crate) type Encode<T> = fn(Option<&T>, &T) -> Encoded;

struct Entry<T> {
    /// Kept, so that no other state gets their addresses.
    _states: (Option<Arc<T>>, Arc<T>),
    encoded: Encoded,
    used: Instant,
}

/// Cache of messages about one kind of state.
pub(crate) struct MessageCache<T> {
    entries: Mutex<HashMap<(usize, usize), Entry<T>>>,
    encode: Encode<T>,
    /// Messages encode the difference to the last state, not the whole.
    differences: bool,
}

impl<T> MessageCache<T> {
    /// Makes a cache of messages with a whole state.
    pub(crate) fn whole(encode: Encode<T>) -> Arc<Self> {
        Self::new(encode, false)
    }

    /// Makes a cache of messages with the difference between states.
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

    /// Returns the messages from `last` to `now`.
    pub(crate) fn messages(&self, last: Option<&Arc<T>>, now: &Arc<T>, metrics: &Metrics) -> Encoded {
        let last = last.filter(|_| self.differences);
        let address = |state: &Arc<T>| Arc::as_ptr(state).addr();
        let key = (last.map_or(0, address), address(now));
        let mut entries = self.entries();
        if let Some(entry) = entries.get_mut(&key) {
            entry.used = Instant::now();
            return entry.encoded.clone();
        }
        // The lock is held while encoding, as others want the same messages.
        let encoded = (self.encode)(last.map(|last| &**last), now);
        metrics.encoded();
        if entries.len() >= limits::SHARED_MESSAGES.value {
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

    /// Drops messages that have not been used for a while.
    pub(crate) fn sweep(&self) {
        let mut entries = self.entries();
        entries.retain(|_, entry| entry.used.elapsed() < limits::SHARED_FOR.value);
        entries.shrink_to_fit();
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<(usize, usize), Entry<T>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

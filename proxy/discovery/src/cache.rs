//! Lookups by key: the first caller starts one, later callers share it, and the least recently used idle one is
//! evicted.

use std::{
    collections::hash_map::Entry as MapEntry,
    hash::Hash,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use proxy_metrics::Metrics;
use proxy_model::limits::Limit;
use rustc_hash::FxHashMap;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// Status of one lookup.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Status {
    /// `outbound`, `endpoints` or `inbound`.
    pub kind: &'static str,
    /// Key of the lookup.
    pub target: String,
    /// True if its streams are up.
    pub live: bool,
    /// True if the answer is from an earlier process.
    pub remembered: bool,
    /// Seconds since the last message of the control plane; none if never.
    pub age_seconds: Option<f64>,
    /// Number of holders of its watch.
    pub users: usize,
    /// Number of times its streams were restarted.
    pub resubscribed: u64,
}

/// Health of one lookup; written by its task, read from any thread.
#[derive(Debug)]
pub(crate) struct Health {
    born: Instant,
    live: AtomicBool,
    /// Milliseconds from `born` to the last message, plus one; 0 is never.
    answered: AtomicU64,
    resubscribed: AtomicU64,
    /// There is an answer, possibly from an earlier process.
    known: AtomicBool,
    kind: Arc<KindHealth>,
}

/// Health of the lookups of one kind.
#[derive(Debug, Default)]
struct KindHealth {
    /// The control plane has sent a message: answers of an earlier process are obsolete.
    has_message: AtomicBool,
    /// Number of changed answers.
    changes: AtomicU64,
}

impl Health {
    fn new(known: bool, kind: &Arc<KindHealth>) -> Self {
        Self {
            born: Instant::now(),
            live: AtomicBool::new(false),
            answered: AtomicU64::new(0),
            resubscribed: AtomicU64::new(0),
            known: AtomicBool::new(known),
            kind: Arc::clone(kind),
        }
    }

    pub(crate) fn set_live(&self, live: bool) {
        self.live.store(live, Relaxed);
    }

    pub(crate) fn answered(&self) {
        self.answered.store(self.born.elapsed().as_millis() as u64 + 1, Relaxed);
        self.known.store(true, Relaxed);
        self.kind.has_message.store(true, Relaxed);
    }

    /// Counts a changed answer.
    pub(crate) fn changed(&self) {
        self.kind.changes.fetch_add(1, Relaxed);
    }

    /// Returns true if there is an answer, possibly from an earlier process.
    pub(crate) fn is_known(&self) -> bool {
        self.known.load(Relaxed)
    }

    pub(crate) fn resubscribed(&self) {
        self.resubscribed.fetch_add(1, Relaxed);
    }

    fn age(&self) -> Option<Duration> {
        let at = self.answered.load(Relaxed).checked_sub(1)?;
        Some(self.born.elapsed().saturating_sub(Duration::from_millis(at)))
    }
}

/// Lookup as its task sees it.
#[derive(Clone, Debug)]
pub(crate) struct Lookup<K, V> {
    pub(crate) key: K,
    pub(crate) answer: watch::Sender<V>,
    pub(crate) health: Arc<Health>,
    /// Cancelled when the lookup is evicted.
    pub(crate) evicted: CancellationToken,
}

#[derive(Debug)]
pub(crate) struct Lookups<K, V> {
    state: Mutex<State<K, V>>,
    /// Notified when `fresh` gets an entry.
    wake: Notify,
    /// Limit that a refusal is counted by.
    limit: Limit,
    /// Lookups allowed beyond the limit, which are in use for good.
    reserved: AtomicUsize,
    metrics: Metrics,
    health: Arc<KindHealth>,
}

#[derive(Debug)]
struct State<K, V> {
    map: FxHashMap<K, (Lookup<K, V>, u64)>,
    /// Lookups that were requested but not started. Never longer than the map.
    fresh: Vec<K>,
    tick: u64,
    /// Answers of an earlier process, for lookups before the first message of the control plane.
    remembered: FxHashMap<K, V>,
}

impl<K: Clone + Eq + Hash, V> Lookups<K, V> {
    pub(crate) fn new(limit: Limit, metrics: Metrics, remembered: impl IntoIterator<Item = (K, V)>) -> Self {
        let state = State {
            map: FxHashMap::default(),
            fresh: Vec::new(),
            tick: 0,
            remembered: remembered.into_iter().collect(),
        };
        Self {
            state: Mutex::new(state),
            wake: Notify::new(),
            limit,
            reserved: AtomicUsize::new(0),
            metrics,
            health: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<K, V>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the watch on `key`. If all lookups are in use, counts the refusal and returns a watch that stays
    /// `initial`.
    pub(crate) fn subscribe(&self, key: &K, initial: impl FnOnce() -> V) -> watch::Receiver<V> {
        let mut state = self.lock();
        state.tick += 1;
        let tick = state.tick;
        if let Some((lookup, used)) = state.map.get_mut(key) {
            *used = tick;
            return lookup.answer.subscribe();
        }
        if state.map.len() >= self.limit.value + self.reserved.load(Relaxed) && !state.evict() {
            self.metrics.limit_refused(self.limit);
            return watch::channel(initial()).1;
        }
        if self.health.has_message.load(Relaxed) {
            state.remembered = FxHashMap::default();
        }
        let remembered = state.remembered.remove(key);
        let health = Arc::new(Health::new(remembered.is_some(), &self.health));
        let (answer, receiver) = watch::channel(remembered.unwrap_or_else(initial));
        let evicted = CancellationToken::new();
        state.map.insert(
            key.clone(),
            (
                Lookup {
                    key: key.clone(),
                    answer,
                    health,
                    evicted,
                },
                tick,
            ),
        );
        state.fresh.push(key.clone());
        drop(state);
        self.wake.notify_one();
        receiver
    }

    /// Allows one lookup more, for a key whose watch is held for good.
    pub(crate) fn reserve(&self) {
        self.reserved.fetch_add(1, Relaxed);
    }

    /// Waits for lookups that have not been started.
    pub(crate) async fn next_fresh(&self) -> Vec<Lookup<K, V>>
    where
        V: Clone,
    {
        loop {
            let fresh = self.take_fresh();
            if !fresh.is_empty() {
                return fresh;
            }
            self.wake.notified().await;
        }
    }

    fn take_fresh(&self) -> Vec<Lookup<K, V>>
    where
        V: Clone,
    {
        let mut state = self.lock();
        let keys = std::mem::take(&mut state.fresh);
        keys.iter()
            .filter_map(|key| state.map.get(key))
            .map(|(lookup, _)| lookup.clone())
            .collect()
    }

    /// Removes an unused lookup; false if it is in use.
    pub(crate) fn retire(&self, lookup: &Lookup<K, V>) -> bool {
        let mut state = self.lock();
        match state.map.entry(lookup.key.clone()) {
            // A new receiver may exist by now; receivers are created under this lock only.
            MapEntry::Occupied(entry) if entry.get().0.answer.same_channel(&lookup.answer) => {
                let unused = lookup.answer.receiver_count() == 0;
                if unused {
                    entry.remove();
                }
                unused
            }
            _ => true,
        }
    }

    /// Returns every answer, including unused ones of an earlier process.
    pub(crate) fn answers(&self) -> Vec<(K, V)>
    where
        V: Clone,
    {
        let state = self.lock();
        let known = state.map.values().map(|(lookup, _)| lookup);
        let known = known.filter(|lookup| lookup.health.is_known());
        let mut all: Vec<_> = known
            .map(|lookup| (lookup.key.clone(), lookup.answer.borrow().clone()))
            .collect();
        if !self.health.has_message.load(Relaxed) {
            all.extend(
                state
                    .remembered
                    .iter()
                    .map(|(key, answer)| (key.clone(), answer.clone())),
            );
        }
        all
    }

    /// Returns the number of changed answers.
    pub(crate) fn changes(&self) -> u64 {
        self.health.changes.load(Relaxed)
    }

    /// Sets the answer of `key`, for scripts.
    #[cfg(any(test, feature = "script"))]
    pub(crate) fn answer(&self, key: &K, value: V)
    where
        V: Clone,
    {
        drop(self.subscribe(key, || value.clone()));
        if let Some((lookup, _)) = self.lock().map.get(key) {
            lookup.answer.send_replace(value);
            lookup.health.answered();
            lookup.health.changed();
        }
    }

    #[cfg(any(test, feature = "script"))]
    pub(crate) fn keys(&self) -> Vec<K> {
        self.lock().map.keys().cloned().collect()
    }

    pub(crate) fn status(&self, kind: &'static str, show: impl Fn(&K) -> String) -> Vec<Status> {
        let state = self.lock();
        let status = |lookup: &Lookup<K, V>| Status {
            kind,
            target: show(&lookup.key),
            live: lookup.health.live.load(Relaxed),
            remembered: lookup.health.is_known() && lookup.health.age().is_none(),
            age_seconds: lookup.health.age().map(|age| age.as_secs_f64()),
            users: lookup.answer.receiver_count(),
            resubscribed: lookup.health.resubscribed.load(Relaxed),
        };
        state.map.values().map(|(lookup, _)| status(lookup)).collect()
    }
}

impl<K: Clone + Eq + Hash, V> State<K, V> {
    /// Evicts the oldest idle lookup; false if every lookup is in use.
    fn evict(&mut self) -> bool {
        let idle = self
            .map
            .values()
            .filter(|(lookup, _)| lookup.answer.receiver_count() == 0);
        let Some(key) = idle.min_by_key(|(_, used)| *used).map(|(lookup, _)| lookup.key.clone()) else {
            return false;
        };
        if let Some((lookup, _)) = self.map.remove(&key) {
            lookup.evicted.cancel();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn shares_lookups_and_evicts_the_oldest_idle_one() {
        let metrics = Metrics::default();
        let limit = Limit {
            value: 1,
            ..proxy_model::limits::UNDECLARED_PORTS
        };
        let lookups: Lookups<u16, u32> = Lookups::new(limit, metrics.clone(), []);
        lookups.reserve();
        let one = lookups.subscribe(&1, || 0);
        let again = lookups.subscribe(&1, || 7);
        assert!(again.same_channel(&one) && *again.borrow() == 0);
        let two = lookups.subscribe(&2, || 0);
        let fresh = lookups.next_fresh().await;
        assert_eq!(fresh.iter().map(|l| l.key).collect::<Vec<_>>(), [1, 2]);

        assert_eq!(*lookups.subscribe(&3, || 9).borrow(), 9);
        assert!(metrics.render().contains("UNDECLARED_PORTS"), "both are in use");
        drop(two);
        let _three = lookups.subscribe(&3, || 9);
        assert!(fresh[1].evicted.is_cancelled() && !fresh[0].evicted.is_cancelled());
        assert!(lookups.retire(&fresh[1]), "it is gone already");
        assert!(!lookups.retire(&fresh[0]), "in use");
        drop((one, again));
        assert!(lookups.retire(&fresh[0]));
        assert_eq!(lookups.keys(), [3]);
    }
}

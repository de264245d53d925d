//! Answers that somebody reads: one watch channel for each distinct question, and what each answer was made of.

use std::{collections::VecDeque, hash::Hash};

use rustc_hash::{FxHashMap, FxHashSet};
use tokio::sync::watch;

use crate::{Refused, reader::Dep};

/// Distinct questions of one kind at a time; a proxy asks a few dozen, so this is thousands of proxies.
const VIEWS: usize = 200_000;
/// Questions after which those that nobody reads any more are swept for the first time.
const FIRST_SWEEP: usize = 256;
/// Answers that are looked at for one that is equal: the pods of a workload have the same policies, and clients of many
/// nodes see the same endpoints. What is shared is kept, compared and encoded once.
const RECENT: usize = 8;

#[derive(Debug)]
struct View<V> {
    sender: watch::Sender<V>,
    /// Sorted.
    deps: Box<[Dep]>,
}

/// The answers to one kind of question.
#[derive(Debug)]
pub(crate) struct Views<K, V> {
    views: FxHashMap<K, View<V>>,
    readers: FxHashMap<Dep, FxHashSet<K>>,
    recent: VecDeque<V>,
    sweep_at: usize,
}

impl<K, V> Default for Views<K, V> {
    fn default() -> Self {
        Self {
            views: FxHashMap::default(),
            readers: FxHashMap::default(),
            recent: VecDeque::new(),
            sweep_at: FIRST_SWEEP,
        }
    }
}

impl<K: Clone + Eq + Hash, V: Clone + PartialEq> Views<K, V> {
    pub(crate) fn len(&self) -> usize {
        self.views.len()
    }

    /// The answer to `key`, computed if nobody asked it yet; `compute` also says what the answer depends on.
    pub(crate) fn subscribe(
        &mut self,
        key: K,
        compute: impl FnOnce(&K) -> (Result<V, Refused>, FxHashSet<Dep>),
    ) -> Result<watch::Receiver<V>, Refused> {
        if let Some(view) = self.views.get(&key) {
            return Ok(view.sender.subscribe());
        }
        if self.views.len() >= self.sweep_at {
            self.sweep();
        }
        if self.views.len() >= VIEWS {
            return Err(Refused::TooMany(VIEWS));
        }
        let (answer, deps) = compute(&key);
        let (sender, receiver) = watch::channel(shared(&mut self.recent, answer?));
        let mut deps: Vec<Dep> = deps
            .into_iter()
            .map(|dep| remember(&mut self.readers, dep, &key))
            .collect();
        deps.sort_unstable();
        let deps = deps.into_boxed_slice();
        self.views.insert(key, View { sender, deps });
        Ok(receiver)
    }

    /// Computes again what depends on `changed`; `compute` also gets the last answer. Where there is no answer any more the
    /// last one stays.
    pub(crate) fn refresh(
        &mut self,
        changed: &FxHashSet<Dep>,
        compute: impl Fn(&K, &V) -> (Result<V, Refused>, FxHashSet<Dep>),
    ) {
        let concerned = changed.iter().filter_map(|dep| self.readers.get(dep));
        let keys: FxHashSet<K> = concerned.flatten().cloned().collect();
        for key in keys {
            let Some(view) = self.views.get_mut(&key) else { continue };
            if view.sender.is_closed() {
                self.remove(&key);
                continue;
            }
            let (answer, deps) = compute(&key, &view.sender.borrow());
            if let Ok(answer) = answer {
                let answer = shared(&mut self.recent, answer);
                view.sender.send_if_modified(|current| {
                    let differs = *current != answer;
                    *current = answer;
                    differs
                });
            }
            for dep in view.deps.iter().filter(|dep| !deps.contains(*dep)) {
                forget(&mut self.readers, dep, &key);
            }
            if deps.len() == view.deps.len() && deps.iter().all(|dep| view.deps.binary_search(dep).is_ok()) {
                continue;
            }
            let mut deps: Vec<Dep> = deps
                .into_iter()
                .map(|dep| remember(&mut self.readers, dep, &key))
                .collect();
            deps.sort_unstable();
            view.deps = deps.into_boxed_slice();
        }
    }

    fn remove(&mut self, key: &K) {
        let Some(view) = self.views.remove(key) else { return };
        for dep in &view.deps {
            forget(&mut self.readers, dep, key);
        }
    }

    fn sweep(&mut self) {
        let closed: Vec<K> = self
            .views
            .iter()
            .filter(|(_, v)| v.sender.is_closed())
            .map(|(k, _)| k.clone())
            .collect();
        for key in &closed {
            self.remove(key);
        }
        self.sweep_at = (self.views.len() * 2).max(FIRST_SWEEP);
    }
}

/// The answer, or one that is equal.
fn shared<V: Clone + PartialEq>(recent: &mut VecDeque<V>, answer: V) -> V {
    if let Some(known) = recent.iter().find(|known| **known == answer) {
        return known.clone();
    }
    recent.truncate(RECENT - 1);
    recent.push_front(answer.clone());
    answer
}

/// Notes that `key` reads `dep`; what is noted already is used again.
fn remember<K: Clone + Eq + Hash>(readers: &mut FxHashMap<Dep, FxHashSet<K>>, dep: Dep, key: &K) -> Dep {
    let known = readers.get_key_value(&dep).map(|(known, _)| known.clone());
    let dep = known.unwrap_or(dep);
    readers.entry(dep.clone()).or_default().insert(key.clone());
    dep
}

fn forget<K: Eq + Hash>(readers: &mut FxHashMap<Dep, FxHashSet<K>>, dep: &Dep, key: &K) {
    if let Some(keys) = readers.get_mut(dep) {
        keys.remove(key);
        if keys.is_empty() {
            readers.remove(dep);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dep(name: &str) -> Dep {
        Dep::Slices("ns".into(), name.into())
    }

    #[test]
    fn a_view_follows_what_it_read_and_goes_with_its_last_reader() {
        let mut views: Views<u8, u32> = Views::default();
        let mut answer = views
            .subscribe(1, |_| (Ok(10), [dep("a")].into_iter().collect()))
            .expect("an answer");
        let other = views
            .subscribe(2, |_| (Ok(20), [dep("b")].into_iter().collect()))
            .expect("an answer");
        let changed = |name| [dep(name)].into_iter().collect();

        // Now it reads "c" instead of "a".
        views.refresh(&changed("a"), |_, _| (Ok(11), [dep("c")].into_iter().collect()));
        assert!(answer.has_changed().expect("open"));
        assert_eq!((*answer.borrow_and_update(), *other.borrow()), (11, 20));
        views.refresh(&changed("a"), |_, _| unreachable!("nobody reads it"));
        // An answer that is the same wakes nobody; no answer at all keeps the last one.
        views.refresh(&changed("c"), |_, _| (Ok(11), [dep("c")].into_iter().collect()));
        views.refresh(&changed("c"), |_, _| {
            (Err(Refused::NotFound(String::new())), [dep("c")].into_iter().collect())
        });
        assert!(!answer.has_changed().expect("open"));

        // What is equal is kept once.
        views.refresh(&changed("b"), |_, _| (Ok(11), [dep("b")].into_iter().collect()));
        assert_eq!(views.recent, [11, 20, 10]);
        drop(other);
        views.refresh(&changed("b"), |_, _| unreachable!("nobody listens"));
        assert_eq!(views.len(), 1);
        assert!(views.readers.contains_key(&dep("c")) && !views.readers.contains_key(&dep("b")));
    }
}

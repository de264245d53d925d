//! Views: one watch channel for each distinct lookup that has readers, with the dependencies of its answer.

use std::{collections::VecDeque, hash::Hash, sync::Arc};

use rustc_hash::{FxHashMap, FxHashSet};
use tokio::sync::watch;

use crate::{Refused, dep::Dep, limits::LOOKUPS, reader::Reader};

/// Number of views at which those without readers are swept for the first time.
const FIRST_SWEEP: usize = 256;
/// Recent answers that are searched for an equal one: the pods of a workload have the same policies, and clients on
/// many nodes see the same endpoints. A shared answer is kept, compared and encoded once.
const RECENT: usize = 8;

/// Answer to a lookup; equal ones are shared.
pub(crate) trait Answer: Clone + PartialEq {
    /// Returns true if both are the same shared value, which is much faster than a comparison.
    fn is(&self, other: &Self) -> bool;
}

impl<T: PartialEq> Answer for Arc<T> {
    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(self, other)
    }
}

impl<T: PartialEq> Answer for Option<Arc<T>> {
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            _ => false,
        }
    }
}

#[derive(Debug)]
struct View<K, V> {
    key: K,
    sender: watch::Sender<V>,
    /// Dependencies, shared with the keys of `readers`, sorted by address.
    deps: Box<[Arc<Dep>]>,
}

/// Views of one kind of lookup.
#[derive(Debug)]
pub(crate) struct Views<K, V> {
    /// Positions in `views`, by lookup.
    places: FxHashMap<K, u32>,
    views: Vec<Option<View<K, V>>>,
    free: Vec<u32>,
    /// Positions of the views that depend on a key.
    readers: FxHashMap<Arc<Dep>, FxHashSet<u32>>,
    recent: VecDeque<V>,
    sweep_at: usize,
}

impl<K, V> Default for Views<K, V> {
    fn default() -> Self {
        Self {
            places: FxHashMap::default(),
            views: vec![],
            free: vec![],
            readers: FxHashMap::default(),
            recent: VecDeque::new(),
            sweep_at: FIRST_SWEEP,
        }
    }
}

impl<K: Clone + Eq + Hash, V: Answer> Views<K, V> {
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// Subscribes to the answer to `key`, computing it on first use; the answer depends on all that `compute` reads.
    pub(crate) fn subscribe(
        &mut self,
        reader: &Reader<'_>,
        key: K,
        compute: impl FnOnce(&K) -> Result<V, Refused>,
    ) -> Result<watch::Receiver<V>, Refused> {
        let place = self.places.get(&key).and_then(|place| self.views.get(*place as usize));
        if let Some(Some(view)) = place {
            return Ok(view.sender.subscribe());
        }
        if self.len() >= self.sweep_at {
            self.sweep();
        }
        if self.len() >= LOOKUPS.value {
            return Err(Refused::TooMany(LOOKUPS));
        }
        reader.begin();
        let answer = compute(&key)?;
        let (sender, receiver) = watch::channel(shared(&mut self.recent, answer));
        let place = self.free.pop().unwrap_or_else(|| {
            self.views.push(None);
            // At most LOOKUPS, which fits.
            self.views.len() as u32 - 1
        });
        let read = reader.deps();
        let deps = sorted(read.iter().map(|dep| register(&mut self.readers, dep, place)).collect());
        self.places.insert(key.clone(), place);
        self.views[place as usize] = Some(View { key, sender, deps });
        Ok(receiver)
    }

    /// Recomputes the views that depend on `changed`; `compute` also gets the last answer, which stays if it fails.
    pub(crate) fn refresh(
        &mut self,
        reader: &Reader<'_>,
        changed: &FxHashSet<Dep>,
        compute: impl Fn(&K, &V) -> Result<V, Refused>,
    ) {
        let concerned = changed.iter().filter_map(|dep| self.readers.get(dep));
        let places: FxHashSet<u32> = concerned.flatten().copied().collect();
        // Two answers known to differ: the next view often changes from the same one to the same other.
        let mut differed: Option<(V, V)> = None;
        let mut addresses = vec![];
        for place in places {
            let Some(Some(view)) = self.views.get_mut(place as usize) else {
                continue;
            };
            if view.sender.is_closed() {
                self.remove(place);
                continue;
            }
            reader.begin();
            let answer = compute(&view.key, &view.sender.borrow());
            if let Ok(answer) = answer {
                let answer = shared(&mut self.recent, answer);
                view.sender.send_if_modified(|current| {
                    if current.is(&answer) {
                        return false;
                    }
                    let pair = differed.as_ref();
                    let known = pair.is_some_and(|(from, to)| from.is(current) && to.is(&answer));
                    let differs = known || *current != answer;
                    let last = std::mem::replace(current, answer.clone());
                    if differs && !known {
                        differed = Some((last, answer));
                    }
                    differs
                });
            }
            let deps = reader.deps();
            addresses.clear();
            addresses.extend(
                deps.iter()
                    .filter_map(|dep| self.readers.get_key_value(dep))
                    .map(|(dep, _)| address(dep)),
            );
            addresses.sort_unstable();
            let same = addresses.len() == deps.len() && addresses.iter().copied().eq(view.deps.iter().map(address));
            if same {
                continue;
            }
            for dep in view.deps.iter().filter(|dep| !deps.contains(&***dep)) {
                unregister(&mut self.readers, dep, place);
            }
            let deps = deps.iter().map(|dep| register(&mut self.readers, dep, place));
            view.deps = sorted(deps.collect());
        }
    }

    fn remove(&mut self, place: u32) {
        let view = self.views.get_mut(place as usize).and_then(Option::take);
        let Some(view) = view else { return };
        self.places.remove(&view.key);
        self.free.push(place);
        for dep in &view.deps {
            unregister(&mut self.readers, dep, place);
        }
    }

    fn sweep(&mut self) {
        let is_closed = |view: &Option<View<K, V>>| view.as_ref().is_some_and(|view| view.sender.is_closed());
        let closed: Vec<u32> = (0..)
            .zip(&self.views)
            .filter(|(_, view)| is_closed(view))
            .map(|(place, _)| place)
            .collect();
        for place in closed {
            self.remove(place);
        }
        // Before a lookup is refused, those without readers have gone.
        self.sweep_at = (self.len() * 2).clamp(FIRST_SWEEP, LOOKUPS.value);
    }
}

/// Returns an equal recent answer, or the answer itself.
fn shared<V: Answer>(recent: &mut VecDeque<V>, answer: V) -> V {
    if recent.iter().any(|known| known.is(&answer)) {
        return answer;
    }
    if let Some(known) = recent.iter().find(|known| **known == answer) {
        return known.clone();
    }
    recent.truncate(RECENT - 1);
    recent.push_front(answer.clone());
    answer
}

fn address(dep: &Arc<Dep>) -> usize {
    Arc::as_ptr(dep).addr()
}

fn sorted(mut deps: Vec<Arc<Dep>>) -> Box<[Arc<Dep>]> {
    deps.sort_unstable_by_key(address);
    deps.into_boxed_slice()
}

/// Registers a view as reader of `dep` and returns the shared key.
fn register(readers: &mut FxHashMap<Arc<Dep>, FxHashSet<u32>>, dep: &Dep, place: u32) -> Arc<Dep> {
    let known = readers.get_key_value(dep).map(|(known, _)| known.clone());
    let dep = known.unwrap_or_else(|| Arc::new(dep.clone()));
    readers.entry(dep.clone()).or_default().insert(place);
    dep
}

fn unregister(readers: &mut FxHashMap<Arc<Dep>, FxHashSet<u32>>, dep: &Dep, place: u32) {
    if let Some(places) = readers.get_mut(dep) {
        places.remove(&place);
        if places.is_empty() {
            readers.remove(dep);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, store::Store};

    impl Answer for u32 {
        fn is(&self, _: &Self) -> bool {
            false
        }
    }

    fn dep(name: &str) -> Dep {
        Dep::Slices("ns".into(), name.into())
    }

    #[test]
    fn view_follows_its_dependencies_and_ends_with_its_last_reader() {
        let (store, config) = (Store::default(), Config::default());
        let reader = Reader::new(&store, &config);
        let reads = |name: &str, answer: u32| {
            reader.read(dep(name));
            Ok(answer)
        };
        let mut views: Views<u8, u32> = Views::default();
        let mut answer = views.subscribe(&reader, 1, |_| reads("a", 10)).expect("an answer");
        let other = views.subscribe(&reader, 2, |_| reads("b", 20)).expect("an answer");
        let changed = |name| [dep(name)].into_iter().collect();

        // It now depends on "c" instead of "a".
        views.refresh(&reader, &changed("a"), |_, _| reads("c", 11));
        assert!(answer.has_changed().expect("open"));
        assert_eq!((*answer.borrow_and_update(), *other.borrow()), (11, 20));
        views.refresh(&reader, &changed("a"), |_, _| unreachable!("it has no readers"));
        // An equal answer is not sent, and a failure keeps the last one.
        views.refresh(&reader, &changed("c"), |_, _| reads("c", 11));
        views.refresh(&reader, &changed("c"), |_, _| {
            reads("c", 0).and(Err(Refused::NotFound(String::new())))
        });
        assert!(!answer.has_changed().expect("open"));

        // Equal answers are kept once.
        views.refresh(&reader, &changed("b"), |_, _| reads("b", 11));
        assert_eq!(views.recent, [11, 20, 10]);
        drop(other);
        views.refresh(&reader, &changed("b"), |_, _| unreachable!("it has no readers"));
        assert_eq!(views.len(), 1);
        assert!(views.readers.contains_key(&dep("c")) && !views.readers.contains_key(&dep("b")));
        // The next view reuses its position.
        let _next = views.subscribe(&reader, 3, |_| reads("b", 20)).expect("an answer");
        assert_eq!((views.views.len(), views.places[&3]), (2, 1));
    }

    #[test]
    fn equal_answers_are_shared() {
        let (store, config) = (Store::default(), Config::default());
        let reader = Reader::new(&store, &config);
        let mut views: Views<u8, Arc<String>> = Views::default();
        let mut subscribe = |key: u8| {
            let answer = views.subscribe(&reader, key, |_| {
                reader.read(dep("a"));
                Ok(Arc::new("one".to_owned()))
            });
            answer.expect("an answer")
        };
        let mut answers: Vec<_> = (0..3).map(&mut subscribe).collect();
        let changed = [dep("a")].into_iter().collect();
        views.refresh(&reader, &changed, |_, _| {
            reader.read(dep("a"));
            Ok(Arc::new("two".to_owned()))
        });
        let received: Vec<_> = answers
            .iter_mut()
            .map(|answer| answer.borrow_and_update().clone())
            .collect();
        assert!(
            received
                .iter()
                .all(|one| **one == "two" && Arc::ptr_eq(one, &received[0]))
        );
        // An equal but newly made answer is not sent.
        views.refresh(&reader, &changed, |_, _| {
            reader.read(dep("a"));
            Ok(Arc::new("two".to_owned()))
        });
        assert!(!answers[1].has_changed().expect("open"));
    }
}

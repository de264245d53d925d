//! From the changes of all kinds to the updates of one reader: a reset when everything was read once, then changes, as
//! many as there are in one update. Pure.

use std::collections::{BTreeMap, BTreeSet};

use destination_k8s::{Object, ObjectRef};

use super::book::Change;
use crate::{Refusal, Update};

/// What one watch has to say.
#[derive(Debug)]
pub(super) struct Heard {
    /// Which watch.
    pub watch: usize,
    /// What changed.
    pub change: Change,
    /// Whether the watch has read everything once: its first list is complete, or there is nothing to list.
    pub synced: bool,
}

/// What is not told yet.
#[derive(Debug)]
pub(super) struct Merge {
    /// Watches that have not read everything once.
    unread: BTreeSet<usize>,
    /// Whether the reset was told.
    began: bool,
    /// The last word on each object; none means that it is gone.
    pending: BTreeMap<ObjectRef, Option<Object>>,
    refused: Vec<Refusal>,
}

impl Merge {
    pub(super) fn new(watches: usize) -> Self {
        Self {
            unread: (0..watches).collect(),
            began: false,
            pending: BTreeMap::new(),
            refused: vec![],
        }
    }

    pub(super) fn take(&mut self, heard: Heard) {
        let Heard { watch, change, synced } = heard;
        self.pending.extend(change.deleted.into_iter().map(|gone| (gone, None)));
        let applied = change
            .applied
            .into_iter()
            .map(|object| (object.object_ref(), Some(object)));
        self.pending.extend(applied);
        self.refused.extend(change.refused);
        if synced {
            self.unread.remove(&watch);
        }
    }

    /// What to tell now.
    pub(super) fn updates(&mut self) -> Vec<Update> {
        let mut updates = vec![];
        if self.unread.is_empty() {
            let (mut applied, mut deleted) = (vec![], vec![]);
            for (key, object) in std::mem::take(&mut self.pending) {
                match object {
                    Some(object) => applied.push(object),
                    None => deleted.push(key),
                }
            }
            if !self.began {
                updates.push(Update::Reset(applied));
                self.began = true;
            } else if !applied.is_empty() || !deleted.is_empty() {
                updates.push(Update::Changed { applied, deleted });
            }
        }
        if !self.refused.is_empty() {
            updates.push(Update::Refused(std::mem::take(&mut self.refused)));
        }
        updates
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Namespace;

    use super::*;

    fn namespace(name: &str, label: &str) -> Object {
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some(name.to_owned());
        namespace.metadata.labels = Some(BTreeMap::from([("l".to_owned(), label.to_owned())]));
        namespace.into()
    }

    fn heard(watch: usize, applied: &[Object], deleted: &[Object]) -> Heard {
        Heard {
            watch,
            change: Change {
                applied: applied.to_vec(),
                deleted: deleted.iter().map(Object::object_ref).collect(),
                refused: vec![],
            },
            synced: true,
        }
    }

    #[test]
    fn the_first_update_waits_for_all_watches_and_is_a_reset() {
        let mut merge = Merge::new(2);
        let (a, b) = (namespace("a", "1"), namespace("b", "1"));
        merge.take(heard(0, &[a.clone(), b.clone()], &[]));
        assert_eq!(merge.updates(), []);
        merge.take(heard(0, &[], &[b]));
        merge.take(heard(1, &[], &[]));
        assert_eq!(merge.updates(), [Update::Reset(vec![a])]);
        assert_eq!(merge.updates(), []);
    }

    #[test]
    fn a_burst_is_one_update_with_the_last_word_on_each() {
        let mut merge = Merge::new(1);
        merge.take(heard(0, &[], &[]));
        merge.updates();
        let (a, newer, b) = (namespace("a", "1"), namespace("a", "2"), namespace("b", "1"));
        merge.take(heard(0, &[a.clone(), b.clone()], &[]));
        merge.take(heard(0, &[], std::slice::from_ref(&a)));
        merge.take(heard(0, std::slice::from_ref(&newer), std::slice::from_ref(&b)));
        let expected = Update::Changed {
            applied: vec![newer],
            deleted: vec![b.object_ref()],
        };
        assert_eq!(merge.updates(), [expected]);
    }
}

//! Merges the changes of all kinds into updates for one reader: a reset once everything is listed, then changes, all
//! that are pending in one update. Pure.

use std::collections::{BTreeMap, BTreeSet};

use destination_k8s::{Object, ObjectRef};

use super::dedup::Change;
use crate::{Refusal, Update};

/// Batch of changes from one watch.
#[derive(Debug)]
pub(super) struct WatchBatch {
    /// Index of the watch.
    pub watch: usize,
    /// Changes.
    pub change: Change,
    /// The first list of the watch is complete, or there is nothing to list.
    pub synced: bool,
}

/// Pending changes.
#[derive(Debug)]
pub(super) struct Merge {
    /// Watches whose first list is not complete.
    unread: BTreeSet<usize>,
    /// The reset has been sent.
    began: bool,
    /// Latest state of each object; none means deleted.
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

    pub(super) fn take(&mut self, batch: WatchBatch) {
        let WatchBatch { watch, change, synced } = batch;
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

    /// Returns the updates to send now.
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

    fn batch(watch: usize, applied: &[Object], deleted: &[Object]) -> WatchBatch {
        WatchBatch {
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
    fn first_update_waits_for_all_watches_and_is_a_reset() {
        let mut merge = Merge::new(2);
        let (a, b) = (namespace("a", "1"), namespace("b", "1"));
        merge.take(batch(0, &[a.clone(), b.clone()], &[]));
        assert_eq!(merge.updates(), []);
        merge.take(batch(0, &[], &[b]));
        merge.take(batch(1, &[], &[]));
        assert_eq!(merge.updates(), [Update::Reset(vec![a])]);
        assert_eq!(merge.updates(), []);
    }

    #[test]
    fn merges_a_burst_into_one_update_of_latest_states() {
        let mut merge = Merge::new(1);
        merge.take(batch(0, &[], &[]));
        merge.updates();
        let (a, newer, b) = (namespace("a", "1"), namespace("a", "2"), namespace("b", "1"));
        merge.take(batch(0, &[a.clone(), b.clone()], &[]));
        merge.take(batch(0, &[], std::slice::from_ref(&a)));
        merge.take(batch(0, std::slice::from_ref(&newer), std::slice::from_ref(&b)));
        let expected = Update::Changed {
            applied: vec![newer],
            deleted: vec![b.object_ref()],
        };
        assert_eq!(merge.updates(), [expected]);
    }
}

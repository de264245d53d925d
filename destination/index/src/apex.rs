//! Apexes of TrafficSplits: the Service that a split is for, and the one split that applies to it.

use std::sync::Arc;

use destination_k8s::TrafficSplit;
use rustc_hash::FxHashMap;

use crate::{Config, store};

/// Selects the split of each apex among those of a namespace: the oldest, then the first by name.
pub(crate) fn by_name<'a>(
    splits: impl Iterator<Item = &'a Arc<TrafficSplit>>,
    config: &Config,
) -> FxHashMap<&'a str, &'a Arc<TrafficSplit>> {
    let mut found = FxHashMap::default();
    for split in splits.filter(|split| split.spec.matches.is_empty()) {
        let Some(apex) = name(split, config) else { continue };
        let first = found.entry(apex).or_insert(split);
        if store::age(&split.metadata) < store::age(&first.metadata) {
            *first = split;
        }
    }
    found
}

/// Returns the apex of a split; a full name counts if it is in the split's own namespace.
pub(crate) fn name<'a>(split: &'a TrafficSplit, config: &Config) -> Option<&'a str> {
    let ns = split.metadata.namespace.as_deref().unwrap_or_default();
    let text = split.spec.service.trim_end_matches('.');
    let Some((name, rest)) = text.split_once('.') else {
        return Some(text);
    };
    let rest = rest.strip_prefix(ns)?;
    let known = rest.is_empty() || rest == ".svc" || rest.strip_prefix(".svc.") == Some(config.cluster_domain.as_str());
    known.then_some(name)
}

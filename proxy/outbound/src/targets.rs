//! Targets of splits in the place of the backends that a rule refers to. Once: the targets of a target do not count.

use std::sync::Arc;

use proxy_model::{
    Backend,
    limits::RULE_TARGETS,
    outbound::{Dispatch, Distribution, RouteBackend, Targets},
    profile::Target,
};

/// Parts of a reference's weight among which its targets share, unless the sum would exceed what a weight holds.
const PARTS: u64 = 1_000_000;

/// A rule's reference: its backend, its weight, and the targets that take its place.
type Reference<'a> = (&'a RouteBackend, u32, Option<Vec<(RouteBackend, u32)>>);

/// Puts targets in the place of the backends that have some. None if there is nothing to replace. Backends beyond the
/// limit of one rule stay, which is counted by `refused`.
pub(crate) fn replace(distribution: &Distribution, targets: &Targets, refused: &dyn Fn()) -> Option<Distribution> {
    let mut room = RULE_TARGETS.value;
    let mut replacement = |found: &RouteBackend| {
        let Some(Dispatch::Balance { path, .. }) = &found.backend.dispatch else {
            return None;
        };
        let targets = targets.get(path).filter(|targets| !targets.is_empty())?;
        let Some(left) = room.checked_sub(targets.len()) else {
            refused();
            return None;
        };
        room = left;
        Some(
            targets
                .iter()
                .map(|target| (backend(found, target), target.weight))
                .collect(),
        )
    };
    match distribution {
        Distribution::Empty => None,
        Distribution::FirstAvailable(backends) => match backends.as_slice() {
            [only] => replacement(only).map(Distribution::RandomAvailable),
            _ => None,
        },
        Distribution::RandomAvailable(backends) => {
            let reference = |(found, weight): &'_ (RouteBackend, u32)| (*weight, replacement(found));
            let replaced: Vec<_> = backends.iter().map(reference).collect();
            if replaced.iter().all(|(_, targets)| targets.is_none()) {
                return None;
            }
            let references = backends.iter().zip(replaced);
            let references = references.map(|((found, _), (weight, targets))| (found, weight, targets));
            Some(Distribution::RandomAvailable(weigh(references.collect())))
        }
    }
}

/// Returns the backend of a target, with what the rule says of the backend that it replaces.
fn backend(found: &RouteBackend, target: &Target) -> RouteBackend {
    let Backend { meta, dispatch, queue } = &*found.backend;
    let dispatch = dispatch.clone().map(|dispatch| match dispatch {
        Dispatch::Balance { load, .. } => Dispatch::Balance {
            path: target.authority.to_string().into(),
            load,
        },
        forward @ Dispatch::Forward(_) => forward,
    });
    RouteBackend {
        backend: Arc::new(Backend {
            meta: target.backend.clone().unwrap_or_else(|| meta.clone()),
            dispatch,
            queue: *queue,
        }),
        filters: found.filters.clone(),
    }
}

/// Weighs the backends of a rule: the targets of a reference share its weight.
fn weigh(mut references: Vec<Reference<'_>>) -> Vec<(RouteBackend, u32)> {
    if references.len() == 1
        && let Some(targets) = references[0].2.take()
    {
        return targets;
    }
    let total: u64 = references.iter().map(|(_, weight, _)| u64::from(*weight)).sum();
    let parts = (u64::from(u32::MAX) / total.max(1)).clamp(1, PARTS);
    let cut = |weight: u64| u32::try_from(weight).unwrap_or(u32::MAX);
    let mut weighed = vec![];
    for (found, weight, targets) in references {
        let weight = u64::from(weight) * parts;
        let Some(targets) = targets else {
            weighed.push((found.clone(), cut(weight)));
            continue;
        };
        let sum: u64 = targets.iter().map(|(_, own)| u64::from(*own)).sum();
        let least = u64::from(weight > 0);
        let share = |own: u32| cut((weight * u64::from(own) / sum.max(1)).max(least));
        weighed.extend(targets.into_iter().map(|(backend, own)| (backend, share(own))));
    }
    weighed
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proxy_model::{
        Meta,
        outbound::Load,
        route::{Filter, HeaderModifier},
    };

    use super::*;

    fn reference(path: &str) -> RouteBackend {
        let backend = Backend {
            meta: Meta::default_named(path),
            dispatch: Some(Dispatch::Balance {
                path: path.into(),
                load: Load::PeakEwma(proxy_core::balance::DEFAULT),
            }),
            queue: None,
        };
        RouteBackend {
            backend: Arc::new(backend),
            filters: vec![],
        }
    }

    fn targets(all: &[(&str, &[(&str, u32)])]) -> Targets {
        let target = |(path, weight): &(&str, u32)| Target {
            authority: path.parse().expect("valid"),
            weight: *weight,
            backend: None,
        };
        let service = |(path, of): &(&str, &[(&str, u32)])| (Arc::from(*path), of.iter().map(target).collect());
        all.iter().map(service).collect()
    }

    /// Replaces the backends of a rule; returns paths and weights, and the number of refusals.
    fn replaced(rule: &[(&str, u32)], all: &Targets) -> (Option<Vec<(String, u32)>>, u32) {
        let rule = rule.iter().map(|(path, weight)| (reference(path), *weight));
        let refusals = Cell::new(0);
        let refused = || refusals.set(refusals.get() + 1);
        let found = replace(&Distribution::RandomAvailable(rule.collect()), all, &refused);
        let path = |found: &RouteBackend| match &found.backend.dispatch {
            Some(Dispatch::Balance { path, .. }) => path.to_string(),
            other => panic!("{other:?}"),
        };
        let found = found.map(|found| match found {
            Distribution::RandomAvailable(all) => all.iter().map(|(found, weight)| (path(found), *weight)).collect(),
            other => panic!("{other:?}"),
        });
        (found, refusals.get())
    }

    fn pairs(all: &[(&str, u32)]) -> Option<Vec<(String, u32)>> {
        Some(all.iter().map(|(path, weight)| ((*path).to_owned(), *weight)).collect())
    }

    #[test]
    fn targets_share_the_weight_of_their_root_and_are_not_replaced_themselves() {
        let all = targets(&[
            ("web:80", &[("web:80", 9000), ("v2:80", 1000)]),
            ("v2:80", &[("v3:80", 1)]),
        ]);
        let alone = pairs(&[("web:80", 9000), ("v2:80", 1000)]);
        for weight in [0, 1, 7] {
            assert_eq!(replaced(&[("web:80", weight)], &all), (alone.clone(), 0));
        }
        let among = pairs(&[
            ("web:80", 2_700_000),
            ("v2:80", 300_000),
            ("other:80", 1_000_000),
            ("v3:80", 0),
        ]);
        let rule = [("web:80", 3), ("other:80", 1), ("v2:80", 0)];
        assert_eq!(replaced(&rule, &all), (among, 0));
        assert_eq!(replaced(&[("other:80", 3), ("web:81", 1)], &all), (None, 0));
    }

    #[test]
    fn weights_keep_their_ratio_within_what_a_weight_holds() {
        let all = targets(&[("web:80", &[("v1:80", u32::MAX), ("v2:80", 1)])]);
        let most = pairs(&[("v1:80", 2_146_999_999), ("v2:80", 1), ("b:80", 2_147_000_000)]);
        assert_eq!(replaced(&[("web:80", 1_000_000), ("b:80", 1_000_000)], &all), (most, 0));
        let beyond = pairs(&[("v1:80", u32::MAX - 1), ("v2:80", 1), ("b:80", u32::MAX)]);
        assert_eq!(replaced(&[("web:80", u32::MAX), ("b:80", u32::MAX)], &all), (beyond, 0));
    }

    #[test]
    fn backends_beyond_the_room_of_a_rule_stay_and_are_counted() {
        let most = RULE_TARGETS.value;
        let many = vec![("v1:80", 1); most];
        let all = targets(&[("web:80", &many[1..]), ("api:80", &many[..2]), ("big:80", &many)]);
        let (found, refusals) = replaced(&[("web:80", 1), ("api:80", 1)], &all);
        let found = found.expect("a split");
        assert_eq!((found.len(), refusals), (most, 1));
        assert_eq!(found.last().map(|(path, _)| path.as_str()), Some("api:80"));
        assert_eq!(replaced(&[("big:80", 1)], &all).0.map(|all| all.len()), Some(most));
    }

    #[test]
    fn filters_and_load_of_the_reference_hold_for_its_targets() {
        let mut found = reference("web:80");
        found.filters = vec![Filter::RequestHeaders(HeaderModifier::default())];
        let all = targets(&[("web:80", &[("v1:80", 1)])]);
        let replaced = replace(&Distribution::FirstAvailable(vec![found.clone()]), &all, &|| {});
        let Some(Distribution::RandomAvailable(replaced)) = replaced else {
            panic!("{replaced:?}")
        };
        assert_eq!(replaced[0].0.filters, found.filters);
        assert_eq!(
            replaced[0].0.backend.meta, found.backend.meta,
            "without an object of its own"
        );
    }
}

//! A controller manager's part for Deployments: which pods to make and which to end. Pure.

use k8s_openapi::{api::apps::v1::DeploymentSpec, apimachinery::pkg::util::intstr::IntOrString};

/// What a Deployment wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// How many pods.
    pub(super) replicas: usize,
    /// How many more there may be while they change.
    pub(super) surge: usize,
    /// How many fewer may be ready while they change.
    pub(super) unavailable: usize,
    /// Old pods end before new ones begin.
    pub(super) recreate: bool,
}

/// A pod that is there and not on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Existing<K> {
    /// Which one.
    pub(super) key: K,
    /// Whether it is of the template as it is now.
    pub(super) current: bool,
    /// Whether it is ready.
    pub(super) ready: bool,
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step<K> {
    /// So many new pods.
    pub(super) create: usize,
    /// These end.
    pub(super) end: Vec<K>,
}

impl Wanted {
    /// Reads a Deployment, with another number of replicas if one was ordered.
    pub(super) fn of(spec: &DeploymentSpec, replicas: Option<u32>) -> Self {
        let own = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0);
        let replicas = replicas.map_or(own, |count| count as usize);
        let strategy = spec.strategy.as_ref();
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        // Kubernetes' defaults; a share of the surge is rounded up, of the unavailable down.
        let surge = count(rolling.and_then(|rolling| rolling.max_surge.as_ref()), replicas, true);
        let mut unavailable = count(
            rolling.and_then(|rolling| rolling.max_unavailable.as_ref()),
            replicas,
            false,
        );
        if surge == 0 && unavailable == 0 {
            unavailable = 1;
        }
        let recreate = strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate");
        Self {
            replicas,
            surge,
            unavailable,
            recreate,
        }
    }
}

fn count(value: Option<&IntOrString>, of: usize, up: bool) -> usize {
    let share = |percent: usize| {
        if up {
            (of * percent).div_ceil(100)
        } else {
            of * percent / 100
        }
    };
    match value {
        None => share(25),
        Some(IntOrString::Int(number)) => usize::try_from(*number).unwrap_or(0),
        Some(IntOrString::String(text)) => share(text.trim_end_matches('%').parse().unwrap_or(25)),
    }
}

/// The next step from what is there to what is wanted. Called again whenever something changes.
pub(super) fn next<K: Copy>(wanted: Wanted, pods: &[Existing<K>], all: usize) -> Step<K> {
    let (new, old): (Vec<&Existing<K>>, Vec<_>) = pods.iter().partition(|pod| pod.current);
    let mut end = Vec::new();
    if new.len() > wanted.replicas {
        // Those that are not ready go first, then the youngest.
        let mut extra: Vec<&Existing<K>> = new.iter().rev().copied().collect();
        extra.sort_by_key(|pod| pod.ready);
        end.extend(extra.iter().take(new.len() - wanted.replicas).map(|pod| pod.key));
    }
    if wanted.recreate {
        end.extend(old.iter().map(|pod| pod.key));
        // `all` counts those that are still on their way out.
        let create = if all > new.len() {
            0
        } else {
            wanted.replicas.saturating_sub(new.len())
        };
        return Step { create, end };
    }
    let missing = wanted.replicas.saturating_sub(new.len());
    let room = (wanted.replicas + wanted.surge).saturating_sub(pods.len());
    let create = missing.min(room);
    // Old pods that are not ready serve nobody; the ready ones stay while they are needed.
    let ready = pods.iter().filter(|pod| pod.ready).count();
    let mut spare = ready.saturating_sub(wanted.replicas.saturating_sub(wanted.unavailable));
    for pod in &old {
        if !pod.ready {
            end.push(pod.key);
        } else if spare > 0 {
            spare -= 1;
            end.push(pod.key);
        }
    }
    Step { create, end }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLLING: Wanted = Wanted {
        replicas: 3,
        surge: 1,
        unavailable: 0,
        recreate: false,
    };

    fn pod(key: u32, current: bool, ready: bool) -> Existing<u32> {
        Existing { key, current, ready }
    }

    #[test]
    fn a_new_deployment_starts_all_its_pods() {
        assert_eq!(next::<u32>(ROLLING, &[], 0), Step { create: 3, end: vec![] });
    }

    #[test]
    fn a_rollout_makes_one_more_and_ends_an_old_one_only_when_it_is_ready() {
        let old = [pod(1, false, true), pod(2, false, true), pod(3, false, true)];
        assert_eq!(next(ROLLING, &old, 3), Step { create: 1, end: vec![] });
        let starting = [&old[..], &[pod(4, true, false)]].concat();
        assert_eq!(next(ROLLING, &starting, 4), Step { create: 0, end: vec![] });
        let started = [&old[..], &[pod(4, true, true)]].concat();
        assert_eq!(
            next(ROLLING, &started, 4),
            Step {
                create: 0,
                end: vec![1]
            }
        );
        let between = [pod(2, false, true), pod(3, false, true), pod(4, true, true)];
        assert_eq!(next(ROLLING, &between, 4), Step { create: 1, end: vec![] });
    }

    #[test]
    fn old_pods_that_are_not_ready_make_room_at_once() {
        let pods = [pod(1, false, false), pod(2, false, true), pod(3, false, true)];
        assert_eq!(
            next(ROLLING, &pods, 3),
            Step {
                create: 1,
                end: vec![1]
            }
        );
    }

    #[test]
    fn fewer_replicas_end_the_unready_and_the_youngest() {
        let pods = [pod(1, true, true), pod(2, true, false), pod(3, true, true)];
        let wanted = Wanted { replicas: 1, ..ROLLING };
        assert_eq!(
            next(wanted, &pods, 3),
            Step {
                create: 0,
                end: vec![2, 3]
            }
        );
    }

    #[test]
    fn recreate_waits_until_the_old_are_gone() {
        let wanted = Wanted {
            recreate: true,
            ..ROLLING
        };
        assert_eq!(
            next(wanted, &[pod(1, false, true)], 1),
            Step {
                create: 0,
                end: vec![1]
            }
        );
        assert_eq!(
            next::<u32>(wanted, &[], 1),
            Step { create: 0, end: vec![] },
            "one is on its way out"
        );
        assert_eq!(next::<u32>(wanted, &[], 0), Step { create: 3, end: vec![] });
    }

    #[test]
    fn defaults_are_a_quarter_and_never_nothing() {
        let spec = |value| serde_json::from_value::<DeploymentSpec>(value).expect("a spec");
        let base = |rest: serde_json::Value| {
            let mut all = serde_json::json!({ "replicas": 2, "selector": {}, "template": {} });
            all.as_object_mut()
                .expect("a map")
                .extend(rest.as_object().expect("a map").clone());
            spec(all)
        };
        let wanted = Wanted::of(&base(serde_json::json!({})), None);
        assert_eq!((wanted.replicas, wanted.surge, wanted.unavailable), (2, 1, 0));
        let none = serde_json::json!({ "strategy": { "rollingUpdate": { "maxSurge": 0, "maxUnavailable": "0%" } } });
        assert_eq!(Wanted::of(&base(none), Some(5)).unavailable, 1);
    }
}

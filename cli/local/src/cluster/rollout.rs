//! The deployment controller: number of pods to create, and pods to terminate. Pure.

use crate::plan::scale::Scale;

/// A pod that is not terminating.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Existing<K> {
    pub(crate) key: K,
    /// It matches the current template.
    pub(crate) current: bool,
    pub(crate) ready: bool,
}

/// Next step of a rollout.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Step<K> {
    /// Number of new pods.
    pub(crate) create: usize,
    /// Pods to terminate.
    pub(crate) end: Vec<K>,
}

/// Next step from the existing pods to the desired ones; recomputed after each change.
pub(crate) fn next<K: Copy>(scale: Scale, pods: &[Existing<K>], all: usize) -> Step<K> {
    let (new, old): (Vec<&Existing<K>>, Vec<_>) = pods.iter().partition(|pod| pod.current);
    let mut end = Vec::new();
    if new.len() > scale.replicas {
        // Unready pods first, then the youngest.
        let mut extra: Vec<&Existing<K>> = new.iter().rev().copied().collect();
        extra.sort_by_key(|pod| pod.ready);
        end.extend(extra.iter().take(new.len() - scale.replicas).map(|pod| pod.key));
    }
    if scale.recreate {
        end.extend(old.iter().map(|pod| pod.key));
        // `all` includes terminating pods.
        let create = if all > new.len() {
            0
        } else {
            scale.replicas.saturating_sub(new.len())
        };
        return Step { create, end };
    }
    let missing = scale.replicas.saturating_sub(new.len());
    let room = (scale.replicas + scale.surge).saturating_sub(pods.len());
    let create = missing.min(room);
    // Unready old pods serve no traffic; ready ones stay while they are needed.
    let ready = pods.iter().filter(|pod| pod.ready).count();
    let mut spare = ready.saturating_sub(scale.replicas.saturating_sub(scale.unavailable));
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

    const ROLLING: Scale = Scale {
        replicas: 3,
        surge: 1,
        unavailable: 0,
        recreate: false,
    };

    fn pod(key: u32, current: bool, ready: bool) -> Existing<u32> {
        Existing { key, current, ready }
    }

    #[test]
    fn starts_all_pods_of_a_new_deployment() {
        assert_eq!(next::<u32>(ROLLING, &[], 0), Step { create: 3, end: vec![] });
    }

    #[test]
    fn terminates_an_old_pod_only_when_a_new_one_is_ready() {
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
    fn terminates_unready_old_pods_at_once() {
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
    fn scaling_down_terminates_unready_then_youngest() {
        let pods = [pod(1, true, true), pod(2, true, false), pod(3, true, true)];
        let scale = Scale { replicas: 1, ..ROLLING };
        assert_eq!(
            next(scale, &pods, 3),
            Step {
                create: 0,
                end: vec![2, 3]
            }
        );
    }

    #[test]
    fn recreate_waits_until_old_pods_are_gone() {
        let scale = Scale {
            recreate: true,
            ..ROLLING
        };
        assert_eq!(
            next(scale, &[pod(1, false, true)], 1),
            Step {
                create: 0,
                end: vec![1]
            }
        );
        assert_eq!(
            next::<u32>(scale, &[], 1),
            Step { create: 0, end: vec![] },
            "one is terminating"
        );
        assert_eq!(next::<u32>(scale, &[], 0), Step { create: 3, end: vec![] });
    }
}

//! Desired scale of a Deployment.

use k8s_openapi::{api::apps::v1::DeploymentSpec, apimachinery::pkg::util::intstr::IntOrString};

/// Desired number of pods and the limits of a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scale {
    pub(crate) replicas: usize,
    /// Pods allowed above `replicas` during a rollout.
    pub(crate) surge: usize,
    /// Pods that may be missing from `replicas` during a rollout.
    pub(crate) unavailable: usize,
    /// Old pods terminate before new ones start.
    pub(crate) recreate: bool,
}

impl Scale {
    /// Scale of a bare pod, which has one name and so cannot exist twice.
    pub(crate) const POD: Self = Self {
        replicas: 1,
        surge: 0,
        unavailable: 1,
        recreate: true,
    };

    /// Reads a Deployment; `replicas` overrides its number of pods.
    pub(crate) fn from_spec(spec: &DeploymentSpec, replicas: Option<u32>) -> Self {
        let own = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0);
        let replicas = replicas.map_or(own, |count| count as usize);
        let strategy = spec.strategy.as_ref();
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        // Kubernetes' defaults; a percentage is rounded up for the surge and down for the unavailable.
        let surge = count(rolling.and_then(|rolling| rolling.max_surge.as_ref()), |percent| {
            (replicas * percent).div_ceil(100)
        });
        let mut unavailable = count(
            rolling.and_then(|rolling| rolling.max_unavailable.as_ref()),
            |percent| replicas * percent / 100,
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

fn count(value: Option<&IntOrString>, share: impl Fn(usize) -> usize) -> usize {
    match value {
        None => share(25),
        Some(IntOrString::Int(number)) => usize::try_from(*number).unwrap_or(0),
        Some(IntOrString::String(text)) => share(text.trim_end_matches('%').parse().unwrap_or(25)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(rest: serde_json::Value) -> DeploymentSpec {
        let mut all = json!({ "replicas": 2, "selector": {}, "template": {} });
        let map = all.as_object_mut().expect("a map");
        map.extend(rest.as_object().expect("a map").clone());
        serde_json::from_value(all).expect("a spec")
    }

    #[test]
    fn rollout_limits_default_to_a_quarter_and_are_never_both_zero() {
        let scale = Scale::from_spec(&spec(json!({})), None);
        assert_eq!((scale.replicas, scale.surge, scale.unavailable), (2, 1, 0));
        let none = json!({ "strategy": { "rollingUpdate": { "maxSurge": 0, "maxUnavailable": "0%" } } });
        assert_eq!(Scale::from_spec(&spec(none), Some(5)).unavailable, 1);
    }
}

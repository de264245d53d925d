//! Default policies of pods without a Server.

use ipnet::IpNet;
use proxy_model::{Authentication, Authorization, DefaultPolicy, NetworkMatch, defaults::EVERYWHERE};

use super::labels;
use crate::Config;

/// Builds the authorization of a default policy; none if the policy denies.
pub(super) fn authorization(policy: DefaultPolicy, config: &Config) -> Option<Authorization> {
    if policy == DefaultPolicy::Deny {
        return None;
    }
    let networks = if policy.is_cluster_only() {
        config.cluster_networks.as_slice()
    } else {
        &EVERYWHERE
    };
    // Upstream accepts any identity here, of any trust domain.
    let authentication = if policy.requires_identity() {
        Authentication::any_identity()
    } else {
        Authentication::Unauthenticated
    };
    Some(named(policy.as_str(), networks, authentication))
}

/// Builds the authorization of probes.
pub(super) fn probe(config: &Config) -> Authorization {
    named("probe", &config.probe_networks, Authentication::Unauthenticated)
}

fn named(name: &str, nets: &[IpNet], authentication: Authentication) -> Authorization {
    Authorization {
        labels: labels("", "default", name),
        ..Authorization::default_named(name, nets, authentication)
    }
}

/// Matches networks without exceptions.
pub(super) fn whole(nets: &[IpNet]) -> Vec<NetworkMatch> {
    nets.iter().copied().map(NetworkMatch::whole).collect()
}

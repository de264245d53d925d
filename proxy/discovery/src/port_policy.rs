//! Default policy of a port, and normalisation of every policy before use.

use std::time::Duration;

use ipnet::IpNet;
use proxy_model::{
    Authentication, Authorization, DefaultPolicy, ServerPolicy, ServerProtocol, defaults,
    inbound::{HttpRoute, catch_all},
    ports::PortSet,
    route::Filter,
};

/// Policy of a port without one, as named by `LINKERD2_PROXY_INBOUND_DEFAULT_POLICY`.
#[derive(Clone, Debug, PartialEq)]
pub struct PortPolicy {
    default: DefaultPolicy,
    cluster_networks: Vec<IpNet>,
    detect_timeout: Duration,
}

/// Error for a default policy that needs the cluster networks, when none are configured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("default policy {0:?} needs cluster networks, but none are configured")]
pub struct NoClusterNetworks(String);

impl Default for PortPolicy {
    fn default() -> Self {
        Self {
            default: DefaultPolicy::default(),
            cluster_networks: Vec::new(),
            detect_timeout: defaults::DETECT_TIMEOUT,
        }
    }
}

impl PortPolicy {
    /// Creates the policy. The cluster policies, and `audit`, need the cluster networks.
    pub fn new(
        default: DefaultPolicy,
        cluster_networks: Vec<IpNet>,
        detect_timeout: Duration,
    ) -> Result<Self, NoClusterNetworks> {
        let needs_networks = default.is_cluster_only() || default == DefaultPolicy::Audit;
        if needs_networks && cluster_networks.is_empty() {
            return Err(NoClusterNetworks(default.to_string()));
        }
        Ok(Self {
            default,
            cluster_networks,
            detect_timeout,
        })
    }

    /// Returns the normalised policy of `port`.
    pub(crate) fn for_port(&self, port: u16, opaque: &PortSet) -> ServerPolicy {
        let protocol = if self.default == DefaultPolicy::Deny || opaque.contains(port) {
            ServerProtocol::Opaque
        } else {
            ServerProtocol::Detect {
                timeout: Some(self.detect_timeout),
                routes: Vec::new(),
                rate_limit: None,
            }
        };
        normalise(ServerPolicy {
            protocol,
            authorizations: self.authorization().into_iter().collect(),
            labels: labels(self.default.as_str()),
            server_ips: Vec::new(),
        })
    }

    fn authorization(&self) -> Option<Authorization> {
        if self.default == DefaultPolicy::Deny {
            return None;
        }
        let networks = if self.default.is_cluster_only() {
            self.cluster_networks.as_slice()
        } else {
            &defaults::EVERYWHERE
        };
        let authentication = if self.default.requires_identity() {
            Authentication::any_identity()
        } else {
            Authentication::Unauthenticated
        };
        Some(Authorization::default_named(
            self.default.as_str(),
            networks,
            authentication,
        ))
    }
}

fn labels(name: &str) -> std::collections::BTreeMap<String, String> {
    [("group", ""), ("kind", "default"), ("name", name)]
        .map(|(label, value)| (label.to_owned(), value.to_owned()))
        .into()
}

/// Normalises a policy: authorizes the loopback addresses, which happens here alone, and adds a catch-all route to HTTP
/// without routes.
pub(crate) fn normalise(mut policy: ServerPolicy) -> ServerPolicy {
    policy.authorizations.push(Authorization::localhost());
    match &mut policy.protocol {
        ServerProtocol::Detect { routes, .. }
        | ServerProtocol::Http1 { routes, .. }
        | ServerProtocol::Http2 { routes, .. }
            if routes.is_empty() =>
        {
            routes.push(catch_all());
        }
        ServerProtocol::Grpc { routes } if routes.is_empty() => routes.push(catch_all()),
        _ => {}
    }
    policy
}

/// Returns the normalised policy that fails closed: opaque connections are refused, HTTP is answered with the reason.
pub(crate) fn invalid(reason: &str) -> ServerPolicy {
    const NAME: &str = "invalid";
    let mut route: HttpRoute = catch_all();
    route.meta = proxy_model::Meta::default_named(NAME);
    route.authorizations = vec![Authorization::everyone(NAME)];
    for rule in &mut route.rules {
        rule.filters = vec![Filter::Invalid(reason.to_owned())];
    }
    normalise(ServerPolicy {
        protocol: ServerProtocol::Detect {
            timeout: Some(defaults::DETECT_TIMEOUT),
            routes: vec![route],
            rate_limit: None,
        },
        authorizations: Vec::new(),
        labels: labels(NAME),
        server_ips: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use proxy_model::Meta;

    use super::*;

    fn policy(name: &str) -> ServerPolicy {
        let networks = vec!["10.0.0.0/8".parse().expect("a network")];
        let default = name.parse().expect("a default policy");
        let default = PortPolicy::new(default, networks, Duration::from_secs(10)).expect("networks");
        default.for_port(8080, &PortSet::default())
    }

    #[test]
    fn parses_upstreams_default_policies() {
        let deny = policy("deny");
        assert_eq!(deny.protocol, ServerProtocol::Opaque);
        assert_eq!(deny.authorizations.len(), 1, "this host only");
        let open = policy("all-unauthenticated");
        assert!(matches!(&open.protocol, ServerProtocol::Detect { routes, .. } if routes.len() == 1));
        assert_eq!(open.authorizations[0].networks.len(), 2);
        assert_eq!(open.labels["name"], "all-unauthenticated");
        let cluster = policy("cluster-authenticated");
        assert_eq!(cluster.authorizations[0].networks[0].net.to_string(), "10.0.0.0/8");
        assert_eq!(cluster.authorizations[0].authentication, Authentication::any_identity());
        assert_eq!(
            policy("audit").authorizations[0].meta,
            Some(Meta::default_named("audit"))
        );
    }

    #[test]
    fn requires_cluster_networks_for_cluster_policies() {
        let new = |policy| PortPolicy::new(policy, Vec::new(), Duration::ZERO);
        for policy in DefaultPolicy::ALL {
            let needs = policy.is_cluster_only() || policy == DefaultPolicy::Audit;
            assert_eq!(new(policy).is_err(), needs, "{policy}");
        }
        let error = new(DefaultPolicy::ClusterAuthenticated)
            .expect_err("no networks")
            .to_string();
        assert!(
            error.contains("\"cluster-authenticated\" needs cluster networks"),
            "{error}"
        );
    }

    #[test]
    fn authorizes_loopback_exactly_once_at_the_end_of_every_policy() {
        let policies = DefaultPolicy::ALL.map(|policy| self::policy(policy.as_str()));
        for policy in policies.into_iter().chain([invalid("reason")]) {
            let is_localhost = |authz: &&Authorization| **authz == Authorization::localhost();
            assert_eq!(
                policy.authorizations.iter().filter(is_localhost).count(),
                1,
                "{policy:?}"
            );
            assert_eq!(
                policy.authorizations.last(),
                Some(&Authorization::localhost()),
                "{policy:?}"
            );
        }
    }

    #[test]
    fn an_opaque_port_stays_opaque() {
        let opaque = PortPolicy::default().for_port(3306, &[3306].into_iter().collect());
        assert_eq!(
            (opaque.protocol, opaque.authorizations.len()),
            (ServerProtocol::Opaque, 2)
        );
    }
}

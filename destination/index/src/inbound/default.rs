//! The policies that a pod can have without a Server, by name.

use std::str::FromStr;

use ipnet::IpNet;
use proxy_model::{Authentication, Authorization, Meta, NetworkMatch};

use crate::{Config, config::everywhere};

/// Who may reach a port for which nothing else is said.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum DefaultPolicy {
    /// Everybody.
    #[default]
    AllUnauthenticated,
    /// Everybody with an identity.
    AllAuthenticated,
    /// Everybody in the cluster's networks.
    ClusterUnauthenticated,
    /// Everybody in the cluster's networks with an identity.
    ClusterAuthenticated,
    /// Nobody.
    Deny,
    /// Everybody, but seen in metrics as not allowed by anything.
    Audit,
}

/// Why a text is no [`DefaultPolicy`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not one of all-unauthenticated, all-authenticated, cluster-unauthenticated, cluster-authenticated, deny, audit"
)]
pub struct InvalidPolicy(pub String);

impl FromStr for DefaultPolicy {
    type Err = InvalidPolicy;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let all = [
            Self::AllUnauthenticated,
            Self::AllAuthenticated,
            Self::ClusterUnauthenticated,
            Self::ClusterAuthenticated,
            Self::Deny,
            Self::Audit,
        ];
        all.into_iter()
            .find(|policy| policy.as_str() == text)
            .ok_or_else(|| InvalidPolicy(text.to_owned()))
    }
}

impl DefaultPolicy {
    /// The policy's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AllUnauthenticated => "all-unauthenticated",
            Self::AllAuthenticated => "all-authenticated",
            Self::ClusterUnauthenticated => "cluster-unauthenticated",
            Self::ClusterAuthenticated => "cluster-authenticated",
            Self::Deny => "deny",
            Self::Audit => "audit",
        }
    }

    /// The same policy, for clients with an identity only.
    pub(crate) fn with_identity(self) -> Self {
        match self {
            Self::AllUnauthenticated | Self::Audit => Self::AllAuthenticated,
            Self::ClusterUnauthenticated => Self::ClusterAuthenticated,
            Self::AllAuthenticated | Self::ClusterAuthenticated | Self::Deny => self,
        }
    }

    /// What the policy allows; nothing if it denies.
    pub(crate) fn authorization(self, config: &Config) -> Option<Authorization> {
        // Upstream takes any identity here, whatever trust domain it is of.
        let any_identity = || Authentication::TlsAuthenticated {
            identities: vec![],
            suffixes: vec![String::new()],
        };
        let (networks, authentication) = match self {
            Self::AllUnauthenticated | Self::Audit => (everywhere(), Authentication::Unauthenticated),
            Self::AllAuthenticated => (everywhere(), any_identity()),
            Self::ClusterUnauthenticated => (config.cluster_networks.clone(), Authentication::Unauthenticated),
            Self::ClusterAuthenticated => (config.cluster_networks.clone(), any_identity()),
            Self::Deny => return None,
        };
        Some(named(self.as_str(), &networks, authentication))
    }
}

/// What probes may do.
pub(super) fn probe(config: &Config) -> Authorization {
    named("probe", &config.probe_networks, Authentication::Unauthenticated)
}

fn named(name: &str, nets: &[IpNet], authentication: Authentication) -> Authorization {
    Authorization {
        networks: whole(nets),
        authentication,
        labels: super::labels("", "default", name),
        meta: Some(Meta::default_named(name)),
    }
}

/// Networks without exceptions.
pub(super) fn whole(nets: &[IpNet]) -> Vec<NetworkMatch> {
    nets.iter()
        .map(|net| NetworkMatch {
            net: *net,
            except: vec![],
        })
        .collect()
}

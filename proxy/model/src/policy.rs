//! The six policies that a port without a Server can have.

use std::{fmt, str::FromStr};

/// Clients that may reach a port for which nothing else is configured.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DefaultPolicy {
    /// All clients.
    #[default]
    AllUnauthenticated,
    /// Clients with a mesh identity.
    AllAuthenticated,
    /// Clients in the cluster's networks.
    ClusterUnauthenticated,
    /// Clients in the cluster's networks that have a mesh identity.
    ClusterAuthenticated,
    /// No client but the loopback addresses.
    Deny,
    /// All clients, counted as not authorized by any policy.
    Audit,
}

/// Error for a text that names none of the policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidPolicy(pub String);

impl fmt::Display for InvalidPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = DefaultPolicy::ALL.map(DefaultPolicy::as_str).join(", ");
        write!(f, "{:?} is not one of {known}", self.0)
    }
}

impl std::error::Error for InvalidPolicy {}

impl DefaultPolicy {
    /// All policies, in the order in which messages list them.
    pub const ALL: [Self; 6] = [
        Self::AllUnauthenticated,
        Self::AllAuthenticated,
        Self::ClusterUnauthenticated,
        Self::ClusterAuthenticated,
        Self::Deny,
        Self::Audit,
    ];

    /// Name in annotations, the environment, CRDs and labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AllUnauthenticated => "all-unauthenticated",
            Self::AllAuthenticated => "all-authenticated",
            Self::ClusterUnauthenticated => "cluster-unauthenticated",
            Self::ClusterAuthenticated => "cluster-authenticated",
            Self::Deny => "deny",
            Self::Audit => "audit",
        }
    }

    /// Returns true if clients need a mesh identity.
    pub const fn requires_identity(self) -> bool {
        matches!(self, Self::AllAuthenticated | Self::ClusterAuthenticated)
    }

    /// Returns true if clients must be in the cluster's networks.
    pub const fn is_cluster_only(self) -> bool {
        matches!(self, Self::ClusterUnauthenticated | Self::ClusterAuthenticated)
    }

    /// The same policy, for clients with an identity only.
    #[must_use]
    pub const fn with_identity(self) -> Self {
        match self {
            Self::AllUnauthenticated | Self::Audit => Self::AllAuthenticated,
            Self::ClusterUnauthenticated => Self::ClusterAuthenticated,
            Self::AllAuthenticated | Self::ClusterAuthenticated | Self::Deny => self,
        }
    }
}

impl FromStr for DefaultPolicy {
    type Err = InvalidPolicy;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|policy| policy.as_str() == text)
            .ok_or_else(|| InvalidPolicy(text.to_owned()))
    }
}

impl fmt::Display for DefaultPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for policy in DefaultPolicy::ALL {
            assert_eq!(policy.to_string().parse(), Ok(policy));
        }
    }

    #[test]
    fn unknown_names_are_rejected_with_the_list() {
        let error = "everyone".parse::<DefaultPolicy>().expect_err("unknown").to_string();
        assert_eq!(
            error,
            "\"everyone\" is not one of all-unauthenticated, all-authenticated, cluster-unauthenticated, \
             cluster-authenticated, deny, audit"
        );
    }

    #[test]
    fn with_identity_only_ever_narrows() {
        for policy in DefaultPolicy::ALL {
            let narrowed = policy.with_identity();
            assert!(narrowed.requires_identity() || narrowed == DefaultPolicy::Deny);
            assert_eq!(narrowed.is_cluster_only(), policy.is_cluster_only());
        }
    }
}

//! Default policy of a port, and normalisation of every policy before use.

use std::{collections::BTreeMap, str::FromStr, time::Duration};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proxy_model::{
    Authentication, Authorization, Meta, NetworkMatch, ServerPolicy, ServerProtocol,
    inbound::{Action, GrpcRoute, HttpRoute},
    ports::PortSet,
    route::{GrpcMatch, HttpMatch, Route, Rule},
};

/// Policy of a port without one, as named by `LINKERD2_PROXY_INBOUND_DEFAULT_POLICY`.
#[derive(Clone, Debug, PartialEq)]
pub struct DefaultPolicy {
    word: Word,
    cluster_networks: Vec<IpNet>,
    detect_timeout: Duration,
}

/// Error in a default policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDefaultPolicy {
    /// The name is unknown.
    #[error(
        "unknown default policy {0:?}: expected one of deny, all-authenticated, all-unauthenticated, cluster-authenticated, cluster-unauthenticated, audit"
    )]
    Unknown(String),
    /// The policy needs the cluster networks, and none are configured.
    #[error("default policy {0:?} needs cluster networks, but none are configured")]
    NoNetworks(String),
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Word {
    Deny,
    AllAuthenticated,
    AllUnauthenticated,
    ClusterAuthenticated,
    ClusterUnauthenticated,
    Audit,
}

const WORDS: [(&str, Word); 6] = [
    ("deny", Word::Deny),
    ("all-authenticated", Word::AllAuthenticated),
    ("all-unauthenticated", Word::AllUnauthenticated),
    ("cluster-authenticated", Word::ClusterAuthenticated),
    ("cluster-unauthenticated", Word::ClusterUnauthenticated),
    ("audit", Word::Audit),
];

impl FromStr for Word {
    type Err = InvalidDefaultPolicy;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = WORDS.iter().find(|(name, _)| *name == text);
        known
            .map(|(_, word)| *word)
            .ok_or_else(|| InvalidDefaultPolicy::Unknown(text.to_owned()))
    }
}

impl Default for DefaultPolicy {
    fn default() -> Self {
        let (word, detect_timeout) = (Word::AllUnauthenticated, Duration::from_secs(10));
        Self {
            word,
            cluster_networks: Vec::new(),
            detect_timeout,
        }
    }
}

impl DefaultPolicy {
    /// Parses a name. The cluster policies need the cluster networks.
    pub fn parse(
        word: &str,
        cluster_networks: Vec<IpNet>,
        detect_timeout: Duration,
    ) -> Result<Self, InvalidDefaultPolicy> {
        let parsed: Word = word.parse()?;
        let of_cluster = matches!(
            parsed,
            Word::ClusterAuthenticated | Word::ClusterUnauthenticated | Word::Audit
        );
        if of_cluster && cluster_networks.is_empty() {
            return Err(InvalidDefaultPolicy::NoNetworks(word.to_owned()));
        }
        Ok(Self {
            word: parsed,
            cluster_networks,
            detect_timeout,
        })
    }

    /// Returns the normalised policy of `port`.
    pub(crate) fn for_port(&self, port: u16, opaque: &PortSet) -> ServerPolicy {
        let name = WORDS
            .iter()
            .find(|(_, word)| *word == self.word)
            .map_or("", |(name, _)| name);
        let labels = [("group", ""), ("kind", "default"), ("name", name)];
        let protocol = if self.word == Word::Deny || opaque.contains(port) {
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
            authorizations: self.authorization(name).into_iter().collect(),
            labels: labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            server_ips: Vec::new(),
        })
    }

    fn authorization(&self, name: &str) -> Option<Authorization> {
        let anyone = || vec![IpNet::from(Ipv4Net::default()), IpNet::from(Ipv6Net::default())];
        let networks = match self.word {
            Word::Deny => return None,
            Word::AllAuthenticated | Word::AllUnauthenticated | Word::Audit => anyone(),
            Word::ClusterAuthenticated | Word::ClusterUnauthenticated => self.cluster_networks.clone(),
        };
        let authentication = match self.word {
            Word::AllAuthenticated | Word::ClusterAuthenticated => Authentication::TlsAuthenticated {
                identities: Vec::new(),
                suffixes: vec![String::new()],
            },
            _ => Authentication::Unauthenticated,
        };
        Some(authorization(networks, authentication, name))
    }
}

fn authorization(networks: Vec<IpNet>, authentication: Authentication, name: &str) -> Authorization {
    let networks = networks
        .into_iter()
        .map(|net| NetworkMatch {
            net,
            except: Vec::new(),
        })
        .collect();
    Authorization {
        networks,
        authentication,
        labels: BTreeMap::new(),
        meta: Some(Meta::default_named(name)),
    }
}

/// Normalises a policy: authorizes this host, and adds a catch-all route to HTTP without routes.
pub(crate) fn normalise(mut policy: ServerPolicy) -> ServerPolicy {
    let loopback = vec![
        IpNet::from(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)),
        IpNet::from(std::net::IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)),
    ];
    policy
        .authorizations
        .push(authorization(loopback, Authentication::Unauthenticated, "localhost"));
    match &mut policy.protocol {
        ServerProtocol::Detect { routes, .. }
        | ServerProtocol::Http1 { routes, .. }
        | ServerProtocol::Http2 { routes, .. }
            if routes.is_empty() =>
        {
            let everything: HttpRoute = catch_all(HttpMatch::default());
            routes.push(everything);
        }
        ServerProtocol::Grpc { routes } if routes.is_empty() => {
            let everything: GrpcRoute = catch_all(GrpcMatch::default());
            routes.push(everything);
        }
        _ => {}
    }
    policy
}

fn catch_all<M>(matches: M) -> Route<M, Action> {
    let rule = Rule {
        matches: vec![matches],
        filters: Vec::new(),
        action: Action,
    };
    Route {
        meta: Meta::default_named("default"),
        hosts: Vec::new(),
        rules: vec![rule],
        authorizations: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(word: &str) -> ServerPolicy {
        let networks = vec!["10.0.0.0/8".parse().expect("a network")];
        let default = DefaultPolicy::parse(word, networks, Duration::from_secs(10)).expect("a word");
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
        let identities = Authentication::TlsAuthenticated {
            identities: vec![],
            suffixes: vec![String::new()],
        };
        assert_eq!(cluster.authorizations[0].authentication, identities);
        assert_eq!(
            policy("audit").authorizations[0].meta,
            Some(Meta::default_named("audit"))
        );
    }

    #[test]
    fn rejects_unknown_names_and_missing_networks() {
        let parse = |word| DefaultPolicy::parse(word, Vec::new(), Duration::ZERO);
        assert!(matches!(parse("everyone"), Err(InvalidDefaultPolicy::Unknown(_))));
        assert!(matches!(
            parse("cluster-authenticated"),
            Err(InvalidDefaultPolicy::NoNetworks(_))
        ));
        assert!(parse("all-authenticated").is_ok());
    }

    #[test]
    fn an_opaque_port_stays_opaque() {
        let opaque = DefaultPolicy::default().for_port(3306, &[3306].into_iter().collect());
        assert_eq!(
            (opaque.protocol, opaque.authorizations.len()),
            (ServerProtocol::Opaque, 2)
        );
    }
}

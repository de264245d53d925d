//! Authorization of clients: the first authorization that matches a client, or none.

use std::net::IpAddr;

use proxy_model::{
    Authentication, Authorization, Id, ServerProtocol,
    inbound::HttpRoute,
    route::{HttpMatch, PathMatch},
};

/// Returns true if a detected protocol must be HTTP, because the policy may refuse, change or limit requests: bytes
/// that are not recognized as HTTP would go around it.
pub fn requires_http(protocol: &ServerProtocol) -> bool {
    let ServerProtocol::Detect { routes, rate_limit, .. } = protocol else {
        return false;
    };
    let mut rules = routes.iter().flat_map(|route| &route.rules);
    rate_limit.is_some() || rules.any(|rule| !rule.filters.is_empty()) || !routes.iter().any(matches_everything)
}

fn matches_everything(route: &HttpRoute) -> bool {
    let everything = |matched: &HttpMatch| {
        let path = match &matched.path {
            None => true,
            Some(PathMatch::Prefix(prefix)) => matches!(prefix.as_str(), "" | "/"),
            Some(PathMatch::Exact(_) | PathMatch::Regex(_)) => false,
        };
        path && matched.headers.is_empty() && matched.query.is_empty() && matched.method.is_none()
    };
    let mut rules = route.rules.iter();
    route.hosts.is_empty() && rules.any(|rule| rule.matches.is_empty() || rule.matches.iter().any(everything))
}

/// Mesh TLS state of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ClientTls {
    /// No mesh TLS: plaintext, or TLS of the application's own.
    #[default]
    None,
    /// Mesh TLS; with an identity if the client presented a leaf.
    Mesh {
        /// The client's verified identity.
        client_id: Option<Id>,
    },
}

impl ClientTls {
    /// Returns the verified identity.
    pub fn client_id(&self) -> Option<&Id> {
        match self {
            Self::Mesh { client_id } => client_id.as_ref(),
            Self::None => None,
        }
    }
}

/// Returns the first of `authorizations` that matches this client. Discovery has added the loopback addresses to them.
pub fn allows<'a>(authorizations: &'a [Authorization], client: IpAddr, tls: &ClientTls) -> Option<&'a Authorization> {
    let client = client.to_canonical();
    authorizations.iter().find(|authz| matches(authz, client, tls))
}

/// Like [`allows`], for a route: its own authorizations come before the server's. Returns the index among both, too.
pub fn allows_route<'a>(
    route: &'a [Authorization],
    server: &'a [Authorization],
    client: IpAddr,
    tls: &ClientTls,
) -> Option<(usize, &'a Authorization)> {
    let client = client.to_canonical();
    let mut all = route.iter().chain(server).enumerate();
    all.find(|(_, authz)| matches(authz, client, tls))
}

fn matches(authz: &Authorization, client: IpAddr, tls: &ClientTls) -> bool {
    authz.networks.iter().any(|network| network.contains(&client)) && authenticates(&authz.authentication, tls)
}

fn authenticates(authentication: &Authentication, tls: &ClientTls) -> bool {
    match (authentication, tls) {
        (Authentication::Unauthenticated, _) | (Authentication::TlsUnauthenticated, ClientTls::Mesh { .. }) => true,
        (Authentication::TlsAuthenticated { identities, suffixes }, ClientTls::Mesh { client_id: Some(id) }) => {
            identities.contains(id) || suffixes.iter().any(|suffix| id.has_suffix(suffix))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proxy_model::NetworkMatch;

    use super::*;

    fn authz(net: &str, authentication: Authentication) -> Authorization {
        let networks = vec![NetworkMatch {
            net: net.parse().expect("net"),
            except: vec!["10.9.0.0/16".parse().expect("net")],
        }];
        Authorization {
            networks,
            authentication,
            labels: Default::default(),
            meta: None,
        }
    }

    fn mesh(name: Option<&str>) -> ClientTls {
        ClientTls::Mesh {
            client_id: name.map(|n| n.parse().expect("id")),
        }
    }

    #[test]
    fn requires_both_network_and_authentication() {
        let identities = vec!["web.ns.local".parse().expect("id")];
        let named = Authentication::TlsAuthenticated {
            identities,
            suffixes: vec!["trusted.local".into()],
        };
        let list = [authz("10.0.0.0/8", named)];
        let ip = "10.1.2.3".parse().expect("ip");
        assert!(allows(&list, ip, &mesh(Some("web.ns.local"))).is_some());
        assert!(allows(&list, ip, &mesh(Some("x.trusted.local"))).is_some());
        assert!(allows(&list, ip, &mesh(Some("x.untrusted.local"))).is_none());
        assert!(allows(&list, ip, &mesh(None)).is_none());
        assert!(allows(&list, ip, &ClientTls::None).is_none());
        assert!(allows(&list, "10.9.1.1".parse().expect("ip"), &mesh(Some("web.ns.local"))).is_none());
        assert!(allows(&list, "11.1.1.1".parse().expect("ip"), &mesh(Some("web.ns.local"))).is_none());
    }

    #[test]
    fn accepts_tls_without_a_leaf_only_for_tls_unauthenticated() {
        let list = [authz("0.0.0.0/0", Authentication::TlsUnauthenticated)];
        let ip = "10.1.2.3".parse().expect("ip");
        assert!(allows(&list, ip, &mesh(None)).is_some());
        assert!(allows(&list, ip, &ClientTls::None).is_none());
    }

    #[test]
    fn empty_suffix_matches_dns_names_but_not_uris() {
        let any = Authentication::TlsAuthenticated {
            identities: Vec::new(),
            suffixes: vec![String::new()],
        };
        let list = [authz("0.0.0.0/0", any)];
        let ip = "10.1.2.3".parse().expect("ip");
        assert!(allows(&list, ip, &mesh(Some("any.name"))).is_some());
        assert!(allows(&list, ip, &mesh(Some("spiffe://td/x"))).is_none());
    }

    #[test]
    fn unwraps_mapped_addresses_and_authorizes_only_by_the_lists() {
        let mapped = "::ffff:127.0.0.1".parse().expect("ip");
        let localhost = [Authorization::localhost()];
        assert_eq!(allows(&localhost, mapped, &ClientTls::None), Some(&localhost[0]));
        assert!(allows(&localhost, "127.0.0.2".parse().expect("ip"), &ClientTls::None).is_none());
        assert!(allows(&[], mapped, &ClientTls::None).is_none());
        let list = [authz("127.0.0.0/8", Authentication::Unauthenticated)];
        let found = allows_route(&list, &localhost, mapped, &ClientTls::None).expect("the route's own");
        assert_eq!(found, (0, &list[0]), "a route's authorizations come first");
    }
}

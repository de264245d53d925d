//! Who may: the first authorization that fits a client, or none.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::LazyLock,
};

use proxy_model::{Authentication, Authorization, Id, Meta, NetworkMatch};

/// What mesh TLS says of the client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ClientTls {
    /// No mesh TLS: plaintext, or TLS of the application's own.
    #[default]
    None,
    /// Mesh TLS; the name is there if the client showed a leaf.
    Mesh {
        /// The client's verified identity.
        client_id: Option<Id>,
    },
}

impl ClientTls {
    /// The verified identity, if there is one.
    pub fn client_id(&self) -> Option<&Id> {
        match self {
            Self::Mesh { client_id } => client_id.as_ref(),
            Self::None => None,
        }
    }
}

static LOCALHOST: LazyLock<Authorization> = LazyLock::new(|| {
    let host = |addr: IpAddr| NetworkMatch {
        net: addr.into(),
        except: Vec::new(),
    };
    Authorization {
        networks: vec![host(Ipv4Addr::LOCALHOST.into()), host(Ipv6Addr::LOCALHOST.into())],
        authentication: Authentication::Unauthenticated,
        labels: Default::default(),
        meta: Some(Meta::default_named("localhost")),
    }
});

/// The authorization that every list ends with: the loopback addresses, without authentication.
pub fn localhost() -> &'static Authorization {
    &LOCALHOST
}

/// The first of `authorizations`, then of [`localhost`], that lets this client in.
pub fn allows<'a>(authorizations: &'a [Authorization], client: IpAddr, tls: &ClientTls) -> Option<&'a Authorization> {
    let client = client.to_canonical();
    authorizations
        .iter()
        .chain([localhost()])
        .find(|authz| fits(authz, client, tls))
}

/// As [`allows`], for a route: its own authorizations come before the server's.
pub fn allows_route<'a>(
    route: &'a [Authorization],
    server: &'a [Authorization],
    client: IpAddr,
    tls: &ClientTls,
) -> Option<&'a Authorization> {
    let client = client.to_canonical();
    route
        .iter()
        .chain(server)
        .chain([localhost()])
        .find(|authz| fits(authz, client, tls))
}

fn fits(authz: &Authorization, client: IpAddr, tls: &ClientTls) -> bool {
    authz.networks.iter().any(|network| network.contains(&client)) && proves(&authz.authentication, tls)
}

fn proves(authentication: &Authentication, tls: &ClientTls) -> bool {
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
    fn the_network_and_the_proof_must_both_fit() {
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
    fn tls_without_a_leaf_is_enough_only_where_it_says_so() {
        let list = [authz("0.0.0.0/0", Authentication::TlsUnauthenticated)];
        let ip = "10.1.2.3".parse().expect("ip");
        assert!(allows(&list, ip, &mesh(None)).is_some());
        assert!(allows(&list, ip, &ClientTls::None).is_none());
    }

    #[test]
    fn an_empty_suffix_takes_dns_names_but_no_uri() {
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
    fn localhost_is_always_last_and_mapped_addresses_are_unwrapped() {
        let found = allows(&[], "::ffff:127.0.0.1".parse().expect("ip"), &ClientTls::None).expect("localhost");
        assert_eq!(found.meta, Some(Meta::default_named("localhost")));
        assert!(allows(&[], "127.0.0.2".parse().expect("ip"), &ClientTls::None).is_none());
        let list = [authz("127.0.0.0/8", Authentication::Unauthenticated)];
        let found = allows_route(&[], &list, "127.0.0.1".parse().expect("ip"), &ClientTls::None).expect("own");
        assert_eq!(found.meta, None);
    }
}

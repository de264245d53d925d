//! Server policy: the control plane's answer for a port of this workload (`InboundServerPolicies.WatchPort`).

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use ipnet::IpNet;

use crate::{
    Id, Meta, defaults,
    route::{GrpcMatch, HttpMatch, Route, Rule},
};

/// A route of an HTTP server.
pub type HttpRoute = Route<HttpMatch, Action>;
/// A route of a gRPC server.
pub type GrpcRoute = Route<GrpcMatch, Action>;

/// Group of routes that only add: a request is allowed if any of them that it matches allows its client, whichever
/// route is the best match. SMI's TrafficTargets are such routes, because several of one destination add up.
pub const ADDITIVE_GROUP: &str = "specs.smi-spec.io";

/// The route of a port without routes: it matches all requests and has no authorization of its own.
pub fn catch_all<M: Default>() -> Route<M, Action> {
    Route {
        meta: Meta::default_named("default"),
        hosts: Vec::new(),
        rules: vec![Rule {
            matches: vec![M::default()],
            filters: Vec::new(),
            action: Action,
        }],
        authorizations: Vec::new(),
    }
}

/// Action of an inbound rule: forward to the application, always.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Action;

/// Policy of one port.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerPolicy {
    /// Protocol and routes.
    pub protocol: ServerProtocol,
    /// Authorized clients; an empty list denies all.
    pub authorizations: Vec<Authorization>,
    /// `group`, `kind`, `name` of the Server or default (`srv_*` labels).
    pub labels: BTreeMap<String, String>,
    /// Addresses of the server, as on upstream's wire; not used.
    pub server_ips: Vec<IpAddr>,
}

/// Protocol of a port, with its routes.
#[derive(Clone, Debug, PartialEq)]
pub enum ServerProtocol {
    /// Detected from the first bytes.
    Detect {
        /// Time for the first bytes, after which the connection is opaque.
        timeout: Option<Duration>,
        /// Routes for HTTP.
        routes: Vec<HttpRoute>,
        /// Rate limit for HTTP.
        rate_limit: Option<RateLimit>,
    },
    /// HTTP/1.
    Http1 {
        /// Routes.
        routes: Vec<HttpRoute>,
        /// Rate limit.
        rate_limit: Option<RateLimit>,
    },
    /// HTTP/2.
    Http2 {
        /// Routes.
        routes: Vec<HttpRoute>,
        /// Rate limit.
        rate_limit: Option<RateLimit>,
    },
    /// gRPC.
    Grpc {
        /// Routes.
        routes: Vec<GrpcRoute>,
    },
    /// Opaque bytes, without detection of TLS either.
    Opaque,
    /// TLS of the application's own.
    Tls,
}

/// Clients that are authorized, and the object that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorization {
    /// Clients' networks.
    pub networks: Vec<NetworkMatch>,
    /// Proof of the client's identity; missing on the wire, the policy is invalid.
    pub authentication: Authentication,
    /// Labels, from older control planes.
    pub labels: BTreeMap<String, String>,
    /// The object (`authz_*` labels).
    pub meta: Option<Meta>,
}

impl Authorization {
    /// Authorization of a default of the mesh, in whole networks.
    pub fn default_named(name: &str, networks: &[IpNet], authentication: Authentication) -> Self {
        Self {
            networks: networks.iter().copied().map(NetworkMatch::whole).collect(),
            authentication,
            labels: BTreeMap::new(),
            meta: Some(Meta::default_named(name)),
        }
    }

    /// Authorization that holds for every port, whatever its policy: the loopback addresses, without authentication.
    pub fn localhost() -> Self {
        Self::default_named("localhost", &defaults::LOOPBACK, Authentication::Unauthenticated)
    }

    /// Authorization of all clients, under the name of the default that allows it.
    pub fn everyone(name: &str) -> Self {
        Self::default_named(name, &defaults::EVERYWHERE, Authentication::Unauthenticated)
    }
}

/// A network with exceptions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkMatch {
    /// The network.
    pub net: IpNet,
    /// Parts that are excluded.
    pub except: Vec<IpNet>,
}

impl NetworkMatch {
    /// A network without exceptions.
    pub const fn whole(net: IpNet) -> Self {
        Self {
            net,
            except: Vec::new(),
        }
    }

    /// Returns true if `addr` is in the network and in none of the exceptions.
    pub fn contains(&self, addr: &IpAddr) -> bool {
        self.net.contains(addr) && !self.except.iter().any(|net| net.contains(addr))
    }
}

/// Proof of identity that a client needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// None.
    Unauthenticated,
    /// Mesh TLS, with or without a client leaf.
    TlsUnauthenticated,
    /// Mesh TLS with one of these identities.
    TlsAuthenticated {
        /// Identities.
        identities: Vec<Id>,
        /// Suffixes of DNS identities (`cluster.local`); the empty one matches every DNS identity.
        suffixes: Vec<String>,
    },
}

impl Authentication {
    /// Mesh TLS with any identity, whatever its trust domain.
    pub fn any_identity() -> Self {
        Self::TlsAuthenticated {
            identities: Vec::new(),
            suffixes: vec![String::new()],
        }
    }
}

/// Requests per second that a port accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// The object.
    pub meta: Option<Meta>,
    /// For all clients together.
    pub total: Option<u32>,
    /// For each identity.
    pub identity: Option<u32>,
    /// For particular identities, instead.
    pub overrides: Vec<RateLimitOverride>,
}

/// Requests per second of particular identities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimitOverride {
    /// Requests per second.
    pub requests_per_second: u32,
    /// The identities.
    pub clients: Vec<Id>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localhost_is_the_loopback_addresses_alone() {
        let authorization = Authorization::localhost();
        let holds = |ip: &str| {
            let ip = ip.parse().expect("an IP");
            authorization.networks.iter().any(|network| network.contains(&ip))
        };
        assert!(holds("127.0.0.1") && holds("::1"));
        assert!(!holds("127.0.0.2") && !holds("10.0.0.1") && !holds("::2"));
    }
}

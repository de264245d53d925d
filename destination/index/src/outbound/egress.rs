//! Destinations outside the cluster: EgressNetworks of the client's namespace or the global one, else plain forwarding.

use std::{net::SocketAddr, sync::Arc};

use destination_k8s::{
    EgressNetwork, Kind, keys,
    policy::{Network, TrafficPolicy},
};
use proxy_model::{
    Backend, ClientPolicy, ClientProtocol, Meta,
    defaults::DETECT_TIMEOUT,
    outbound::{Action, Distribution, Http, HttpRoute, Opaque, RouteBackend, Targets, TcpRoute},
    route::{HttpMatch, Rule, Timeouts},
};

use super::{Apex, Fallback, Protocol, annotations::Annotations, backend};
use crate::{dep::Parent, reader::Reader, store};

pub(super) fn policy(reader: &Reader<'_>, addr: SocketAddr, client_ns: &str) -> ClientPolicy {
    let own: Vec<_> = reader.egress_networks(client_ns).collect();
    let candidates = if own.is_empty() {
        reader.egress_networks(&reader.config.global_egress_namespace).collect()
    } else {
        own
    };
    match select(candidates.into_iter().map(|network| &**network), addr) {
        Some(network) => network_policy(reader, network, addr, client_ns),
        None => fallback(addr),
    }
}

/// Selects the network with the longest prefix for an address, then the oldest.
fn select<'a>(networks: impl Iterator<Item = &'a EgressNetwork>, addr: SocketAddr) -> Option<&'a EgressNetwork> {
    let ip = addr.ip();
    let holds = |network: &&Network| network.cidr.0.contains(&ip) && !network.except.iter().any(|e| e.0.contains(&ip));
    let length = |network: &EgressNetwork| match &network.spec.networks {
        // Everything outside the cluster; addresses inside never get here.
        None => Some(0),
        Some(networks) => networks
            .iter()
            .filter(holds)
            .map(|network| network.cidr.0.prefix_len())
            .max(),
    };
    let mut found: Vec<_> = networks
        .filter_map(|network| Some((length(network)?, network)))
        .collect();
    found.sort_by(|(a, left), (b, right)| {
        b.cmp(a)
            .then_with(|| store::age(&left.metadata).cmp(&store::age(&right.metadata)))
    });
    found.first().map(|(_, network)| *network)
}

fn network_policy(reader: &Reader<'_>, network: &EgressNetwork, addr: SocketAddr, client_ns: &str) -> ClientPolicy {
    let ns = network.metadata.namespace.as_deref().unwrap_or_default();
    let name = network.metadata.name.as_deref().unwrap_or_default();
    let meta = Meta::resource(keys::POLICY_GROUP, "EgressNetwork", ns, name).with_port(addr.port());
    let annotations = Annotations::new(network.metadata.annotations.as_ref());
    let apex = Apex {
        backend: Arc::new(backend::forward(meta.clone(), addr)),
        meta,
        parent: Parent::new(Kind::EgressNetwork, ns, name),
        port: addr.port(),
        client_ns,
        settings: annotations.settings(),
        failure_accrual: annotations.failure_accrual().ok().flatten(),
        fallback: match network.spec.traffic_policy {
            TrafficPolicy::Allow => Fallback::Allow,
            TrafficPolicy::Deny => Fallback::Deny,
        },
        egress: Some(addr),
    };
    let opaque = annotations
        .get(keys::OPAQUE_PORTS)
        .is_some_and(|list| crate::ports::contains(list, addr.port(), None));
    apex.policy(reader, if opaque { Protocol::Opaque } else { Protocol::Detect })
}

/// Policy for an address without a network: detect the protocol and forward.
fn fallback(addr: SocketAddr) -> ClientPolicy {
    let meta = Meta::default_named("egress-fallback");
    let backend: Arc<Backend> = Arc::new(backend::forward(meta.clone(), addr));
    let distribution = || {
        Distribution::FirstAvailable(vec![RouteBackend {
            backend: backend.clone(),
            filters: vec![],
        }])
    };
    let action = Action {
        distribution: distribution(),
        timeouts: Timeouts::default(),
        retry: None,
        allow_l5d_request_headers: false,
    };
    let rule = Rule {
        matches: vec![HttpMatch::default()],
        filters: vec![],
        action,
    };
    let route = HttpRoute {
        meta: meta.clone(),
        hosts: vec![],
        rules: vec![rule],
        authorizations: vec![],
    };
    let http = Http {
        routes: vec![route],
        failure_accrual: None,
    };
    let rule = Rule {
        matches: vec![],
        filters: vec![],
        action: distribution(),
    };
    let opaque = Opaque {
        routes: vec![TcpRoute {
            meta: meta.clone(),
            snis: vec![],
            rules: vec![rule],
        }],
    };
    ClientPolicy {
        meta,
        protocol: ClientProtocol::Detect {
            timeout: DETECT_TIMEOUT,
            http1: http.clone(),
            http2: http,
            opaque,
        },
        targets: Some(Targets::new()),
    }
}

//! Common answers, as Linkerd's control plane gives them.

use std::{collections::BTreeMap, net::SocketAddr, num::NonZeroU16, sync::Arc, time::Duration};

use proxy_model::{
    Authentication, Authorization, Backend, ClientPolicy, ClientProtocol, Endpoint, EndpointSet, Hint, Meta,
    NetworkMatch, ServerPolicy, ServerProtocol, TlsIdentity, inbound, outbound,
    outbound::{Dispatch, Distribution, Load, PeakEwma, RouteBackend, TcpRoute},
    ports,
    route::{HttpMatch, PathMatch, Route, Rule, Timeouts},
};

const DETECT: Duration = Duration::from_secs(10);

/// All clients are allowed and the protocol is detected: the default of an installation.
pub fn all_unauthenticated() -> ServerPolicy {
    const NAME: &str = "all-unauthenticated";
    let labels: BTreeMap<String, String> = [("group", ""), ("kind", "default"), ("name", NAME)]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into();
    let everywhere = ["0.0.0.0/0", "::/0"].map(|net| NetworkMatch {
        net: net.parse().expect("a network"),
        except: vec![],
    });
    ServerPolicy {
        protocol: ServerProtocol::Detect {
            timeout: Some(DETECT),
            routes: vec![inbound_route()],
            rate_limit: None,
        },
        authorizations: vec![Authorization {
            networks: everywhere.into(),
            authentication: Authentication::Unauthenticated,
            labels: labels.clone(),
            meta: Some(Meta::default_named(NAME)),
        }],
        labels,
        server_ips: Vec::new(),
    }
}

/// The default route of a port.
pub fn inbound_route() -> inbound::HttpRoute {
    let rule = Rule {
        matches: vec![everything()],
        filters: vec![],
        action: inbound::Action,
    };
    Route {
        meta: Meta::default_named("default"),
        hosts: vec![],
        rules: vec![rule],
        authorizations: vec![],
    }
}

/// A Service without routes of its own: the protocol is detected, and `path` (`name:port`) is balanced over.
pub fn service(namespace: &str, name: &str, port: u16) -> ClientPolicy {
    let meta = Meta::resource("core", "Service", namespace, name).with_port(port);
    let path = format!("{name}.{namespace}.svc.cluster.local:{port}");
    detect(meta.clone(), balance(meta, &path))
}

/// A policy that detects the protocol and sends everything by `distribution`.
pub fn detect(meta: Meta, distribution: Distribution) -> ClientPolicy {
    let http = outbound::Http {
        routes: vec![outbound_route(distribution.clone())],
        failure_accrual: None,
    };
    let rules = vec![Rule {
        matches: vec![],
        filters: vec![],
        action: distribution,
    }];
    let opaque = TcpRoute {
        meta: Meta::default_named("opaque"),
        snis: vec![],
        rules,
    };
    let protocol = ClientProtocol::Detect {
        timeout: DETECT,
        http1: http.clone(),
        http2: http,
        opaque: outbound::Opaque { routes: vec![opaque] },
    };
    ClientPolicy {
        meta,
        protocol,
        targets: None,
    }
}

/// The route that sends everything by `distribution`.
pub fn outbound_route(distribution: Distribution) -> outbound::HttpRoute {
    let timeouts = Timeouts::default();
    let action = outbound::Action {
        distribution,
        timeouts,
        retry: None,
        allow_l5d_request_headers: false,
    };
    let rule = Rule {
        matches: vec![everything()],
        filters: vec![],
        action,
    };
    Route {
        meta: Meta::default_named("http"),
        hosts: vec![],
        rules: vec![rule],
        authorizations: vec![],
    }
}

/// One backend, balanced over the endpoints of `path`.
pub fn balance(meta: Meta, path: &str) -> Distribution {
    let ewma = PeakEwma {
        default_rtt: Duration::from_millis(30),
        decay: Duration::from_secs(10),
    };
    let dispatch = Dispatch::Balance {
        path: path.into(),
        load: Load::PeakEwma(ewma),
    };
    let queue = outbound::Queue {
        capacity: 100,
        failfast_timeout: Some(Duration::from_secs(3)),
    };
    let backend = Arc::new(Backend {
        meta,
        dispatch: Some(dispatch),
        queue: Some(queue),
    });
    Distribution::FirstAvailable(vec![RouteBackend {
        backend,
        filters: vec![],
    }])
}

/// The endpoints of a Service that exists.
pub fn endpoints(endpoints: impl IntoIterator<Item = Endpoint>) -> EndpointSet {
    let endpoints = endpoints
        .into_iter()
        .map(|endpoint| (endpoint.addr, Arc::new(endpoint)))
        .collect();
    EndpointSet {
        exists: true,
        labels: Arc::default(),
        endpoints,
    }
}

/// An endpoint with a sidecar that has this identity, and its inbound port at 4143.
pub fn meshed(addr: SocketAddr, identity: &str) -> Endpoint {
    Endpoint {
        identity: Some(TlsIdentity::dns(identity).expect("a DNS name")),
        hint: Hint::Http2,
        opaque_transport_port: NonZeroU16::new(ports::INBOUND),
        ..Endpoint::bare(addr)
    }
}

fn everything() -> HttpMatch {
    HttpMatch {
        path: Some(PathMatch::Prefix("/".to_owned())),
        ..HttpMatch::default()
    }
}

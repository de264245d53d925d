//! Policies that the proxy makes: for targets unknown to the control plane, and for invalid answers.

use std::{sync::Arc, time::Duration};

use proxy_model::{
    Backend, ClientPolicy, ClientProtocol, Endpoint, Meta, Profile,
    outbound::{Action, Dispatch, Distribution, Http, HttpRoute, Opaque, RouteBackend, TcpRoute},
    route::{Filter, HttpMatch, Rule, Timeouts},
};

/// Policy that forwards to one endpoint, with detection. Labels are upstream's: parent and route default/`endpoint`,
/// backend default/`unknown`.
pub fn forward_policy(endpoint: Arc<Endpoint>, detect_timeout: Duration) -> ClientPolicy {
    let backend = Backend {
        meta: endpoint
            .resource
            .clone()
            .unwrap_or_else(|| Meta::default_named("unknown")),
        dispatch: Some(Dispatch::Forward(endpoint)),
        queue: None,
    };
    let backend = RouteBackend {
        backend: Arc::new(backend),
        filters: Vec::new(),
    };
    detect(Distribution::FirstAvailable(vec![backend]), &[], detect_timeout)
}

/// Policy that refuses everything with `reason`, why the control plane's answer is invalid.
pub fn invalid_policy(reason: &str, detect_timeout: Duration) -> ClientPolicy {
    detect(
        Distribution::Empty,
        &[Filter::Invalid(reason.to_owned())],
        detect_timeout,
    )
}

fn detect(distribution: Distribution, filters: &[Filter], timeout: Duration) -> ClientPolicy {
    let meta = Meta::default_named("endpoint");
    let action = Action {
        distribution: distribution.clone(),
        timeouts: Timeouts::default(),
        retry: None,
        allow_l5d_request_headers: false,
    };
    let rule = Rule {
        matches: vec![HttpMatch::default()],
        filters: filters.to_vec(),
        action,
    };
    let route = HttpRoute {
        meta: meta.clone(),
        hosts: Vec::new(),
        rules: vec![rule],
        authorizations: Vec::new(),
    };
    let http = Http {
        routes: vec![route],
        failure_accrual: None,
    };
    let rule = Rule {
        matches: Vec::new(),
        filters: filters.to_vec(),
        action: distribution,
    };
    let opaque = Opaque {
        routes: vec![TcpRoute {
            meta: meta.clone(),
            snis: Vec::new(),
            rules: vec![rule],
        }],
    };
    ClientPolicy {
        meta,
        protocol: ClientProtocol::Detect {
            timeout,
            http1: http.clone(),
            http2: http,
            opaque,
        },
        targets: None,
    }
}

/// Policy for an address without one: forwards to the profile's endpoint, else to the address itself.
pub(crate) fn address_policy(
    addr: std::net::SocketAddr,
    profile: Option<&Profile>,
    detect_timeout: Duration,
) -> ClientPolicy {
    let endpoint = profile.and_then(|profile| profile.endpoint.clone());
    forward_policy(
        endpoint.unwrap_or_else(|| Arc::new(Endpoint::bare(addr))),
        detect_timeout,
    )
}

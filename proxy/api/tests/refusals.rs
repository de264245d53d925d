//! Messages that break the API's rules are rejected with the path of the field, and filters that a route cannot carry
//! become failures of requests.

use std::sync::Arc;

use outbound_wire::proxy_protocol::Kind as Protocol;
use proxy_api::{
    Kind, decode, encode,
    wire::{
        destination::{self, TlsIdentity, tls_identity},
        http_route as http_route_wire, inbound as inbound_wire, meta as meta_wire, net, outbound as outbound_wire,
        tap as tap_wire,
    },
};
use proxy_model::{
    Authentication, Authorization, ClientPolicy, ClientProtocol, Endpoint, EndpointUpdate, Meta, NetworkMatch,
    ServerPolicy, ServerProtocol,
    inbound::{self, RateLimit},
    outbound::{
        Action, Backend, Dispatch, Distribution, Ejection, FailureAccrual, Http, Load, Opaque, PeakEwma, Queue,
        RouteBackend, TcpRoute,
    },
    route::{Filter, HeaderModifier, Ratio, Redirect, Rewrite, Route, Rule, Timeouts},
};

const SECOND: std::time::Duration = std::time::Duration::from_secs(1);

fn service() -> Meta {
    Meta::resource("core", "Service", "ns", "web")
}

fn balanced() -> Distribution {
    let ewma = PeakEwma {
        default_rtt: SECOND,
        decay: SECOND,
    };
    let dispatch = Dispatch::Balance {
        path: "web.ns:80".into(),
        load: Load::PeakEwma(ewma),
    };
    let queue = Queue {
        capacity: 1,
        failfast_timeout: Some(SECOND),
    };
    let backend = Arc::new(Backend {
        meta: service(),
        dispatch: Some(dispatch),
        queue: Some(queue),
    });
    Distribution::FirstAvailable(vec![RouteBackend {
        backend,
        filters: Vec::new(),
    }])
}

fn http(filters: Vec<Filter>) -> Http {
    let action = Action {
        distribution: balanced(),
        timeouts: Timeouts::default(),
        retry: None,
        allow_l5d_request_headers: false,
    };
    let rules = vec![Rule {
        matches: Vec::new(),
        filters,
        action,
    }];
    let routes = vec![Route {
        meta: service(),
        hosts: Vec::new(),
        rules,
        authorizations: Vec::new(),
    }];
    Http {
        routes,
        failure_accrual: None,
    }
}

fn opaque(filters: Vec<Filter>) -> Opaque {
    let rules = vec![Rule {
        matches: Vec::new(),
        filters,
        action: balanced(),
    }];
    Opaque {
        routes: vec![TcpRoute {
            meta: service(),
            snis: Vec::new(),
            rules,
        }],
    }
}

fn detect() -> outbound_wire::OutboundPolicy {
    let protocol = ClientProtocol::Detect {
        timeout: SECOND,
        http1: http(Vec::new()),
        http2: http(Vec::new()),
        opaque: opaque(Vec::new()),
    };
    encode::client_policy(&ClientPolicy {
        meta: service(),
        protocol,
        targets: None,
    })
}

fn parts(policy: &mut outbound_wire::OutboundPolicy) -> &mut outbound_wire::proxy_protocol::Detect {
    match policy.protocol.as_mut().and_then(|protocol| protocol.kind.as_mut()) {
        Some(Protocol::Detect(detect)) => detect,
        _ => unreachable!("made so"),
    }
}

/// Returns the error of the policy after `harm`.
fn said(harm: impl FnOnce(&mut outbound_wire::OutboundPolicy)) -> String {
    let mut policy = detect();
    harm(&mut policy);
    decode::client_policy(policy).expect_err("refused").to_string()
}

#[test]
fn errors_of_client_policies_name_the_field() {
    assert!(decode::client_policy(detect()).is_ok());
    assert_eq!(said(|p| p.metadata = None), "invalid message: metadata: is missing");
    assert_eq!(said(|p| p.protocol = None), "invalid message: protocol: is missing");
    assert_eq!(
        said(|p| parts(p).timeout = None),
        "invalid message: protocol.detect.timeout: is missing"
    );
    assert_eq!(
        said(|p| parts(p).http1 = None),
        "invalid message: protocol.detect.http1: is missing"
    );
    assert_eq!(
        said(|p| parts(p).http2 = None),
        "invalid message: protocol.detect.http2: is missing"
    );
    assert_eq!(
        said(|p| parts(p).opaque = None),
        "invalid message: protocol.detect.opaque: is missing"
    );
    let negative = prost_types::Duration { seconds: -1, nanos: 0 };
    assert_eq!(
        said(|p| parts(p).timeout = Some(negative)),
        "invalid message: protocol.detect.timeout: is negative"
    );
    let nameless = meta_wire::Resource {
        group: "core".into(),
        kind: "Service".into(),
        ..Default::default()
    };
    let nameless = meta_wire::Metadata {
        kind: Some(meta_wire::metadata::Kind::Resource(nameless)),
    };
    assert_eq!(
        said(|p| p.metadata = Some(nameless)),
        "invalid message: metadata.resource.name: is empty"
    );
    let rule = "invalid message: protocol.detect.http2.routes[0].rules[0]";
    let no_backends = |p: &mut outbound_wire::OutboundPolicy| {
        parts(p).http2.as_mut().expect("http2").routes[0].rules[0].backends = None;
    };
    assert_eq!(said(no_backends), format!("{rule}.backends: is missing"));
    let bad_regex = |p: &mut outbound_wire::OutboundPolicy| {
        use proxy_api::wire::http_route::{HttpRouteMatch, PathMatch, path_match::Kind};
        let path = Some(PathMatch {
            kind: Some(Kind::Regex("(".into())),
        });
        parts(p).http2.as_mut().expect("http2").routes[0].rules[0].matches = vec![HttpRouteMatch {
            path,
            ..Default::default()
        }];
    };
    assert!(said(bad_regex).starts_with(&format!(
        "{rule}.matches[0].path.regex: invalid regular expression \"(\""
    )));
}

#[test]
fn opaque_routes_are_at_most_one_with_one_rule() {
    let two = |p: &mut outbound_wire::OutboundPolicy| {
        let routes = &mut parts(p).opaque.as_mut().expect("opaque").routes;
        routes.push(routes[0].clone());
    };
    assert!(said(two).ends_with("opaque.routes: there are 2 instead of at most one"));
    let none =
        |p: &mut outbound_wire::OutboundPolicy| parts(p).opaque.as_mut().expect("opaque").routes[0].rules.clear();
    assert!(said(none).ends_with("opaque.routes[0].rules: there are 0 instead of one"));
}

#[test]
fn rejects_a_breaker_with_an_invalid_backoff() {
    let with = |backoff: Option<outbound_wire::ExponentialBackoff>| {
        said(|p| {
            let unified = outbound_wire::failure_accrual::Unified {
                backoff,
                ..Default::default()
            };
            let kind = Some(outbound_wire::failure_accrual::Kind::Unified(unified));
            let accrual = outbound_wire::FailureAccrual { kind, ejection: None };
            parts(p).http1.as_mut().expect("http1").failure_accrual = Some(accrual);
        })
    };
    assert!(with(None).ends_with("http1.failure_accrual.unified.backoff: is missing"));
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let sound = outbound_wire::ExponentialBackoff {
        min_backoff: seconds(1),
        max_backoff: seconds(2),
        jitter_ratio: 0.5,
        respect_retry_after_hint: false,
    };
    assert!(
        with(Some(outbound_wire::ExponentialBackoff {
            max_backoff: seconds(0),
            ..sound
        }))
        .contains("max_backoff")
    );
    assert!(
        with(Some(outbound_wire::ExponentialBackoff {
            jitter_ratio: f32::NAN,
            ..sound
        }))
        .contains("jitter_ratio")
    );
    assert!(
        with(Some(outbound_wire::ExponentialBackoff {
            min_backoff: None,
            ..sound
        }))
        .contains("min_backoff")
    );
}

fn server() -> inbound_wire::Server {
    let network = NetworkMatch {
        net: "10.0.0.0/8".parse().expect("net"),
        except: Vec::new(),
    };
    let authorization = Authorization {
        networks: vec![network],
        authentication: Authentication::TlsUnauthenticated,
        labels: Default::default(),
        meta: None,
    };
    encode::server_policy(&ServerPolicy {
        protocol: ServerProtocol::Detect {
            timeout: None,
            routes: Vec::new(),
            rate_limit: None::<RateLimit>,
        },
        authorizations: vec![authorization],
        labels: Default::default(),
        server_ips: Vec::new(),
    })
}

#[test]
fn errors_of_server_policies_name_the_field() {
    let said = |harm: fn(&mut inbound_wire::Server)| {
        let mut server = server();
        harm(&mut server);
        decode::server_policy(server).expect_err("refused").to_string()
    };
    assert!(decode::server_policy(server()).is_ok());
    assert_eq!(said(|s| s.protocol = None), "invalid message: protocol: is missing");
    assert_eq!(
        said(|s| s.authorizations[0].networks.clear()),
        "invalid message: authorizations[0].networks: are empty"
    );
    assert_eq!(
        said(|s| s.authorizations[0].authentication = None),
        "invalid message: authorizations[0].authentication: is missing"
    );
    let bad_prefix = |s: &mut inbound_wire::Server| {
        s.authorizations[0].networks[0].net.as_mut().expect("net").prefix_len = 33;
    };
    assert!(said(bad_prefix).starts_with("invalid message: authorizations[0].networks[0].net: "));
}

#[test]
fn errors_of_endpoints_name_the_field() {
    let said = |harm: fn(&mut destination::WeightedAddr)| {
        let mut wire = encode::endpoint(&Endpoint::bare("10.0.0.1:80".parse().expect("addr")));
        harm(&mut wire);
        decode::endpoint(wire).expect_err("refused").to_string()
    };
    assert_eq!(said(|e| e.addr = None), "invalid message: addr: is missing");
    assert_eq!(
        said(|e| e.addr = Some(net::TcpAddress { ip: None, port: 1 })),
        "invalid message: addr.ip: is missing"
    );
    assert!(said(|e| e.addr.as_mut().expect("addr").port = 70_000).starts_with("invalid message: addr.port: 70000"));
    // Without the required name nothing could be verified; it must not become plaintext.
    let uri = |e: &mut destination::WeightedAddr| {
        let uri = tls_identity::UriLikeIdentity {
            uri: "spiffe://td/web".into(),
        };
        let strategy = Some(tls_identity::Strategy::UriLikeIdentity(uri));
        e.tls_identity = Some(TlsIdentity {
            strategy,
            server_name: None,
        });
    };
    assert_eq!(said(uri), "invalid message: tls_identity.server_name: is missing");
    let nothing = destination::Update { update: None };
    assert!(decode::update(nothing).is_err());
}

#[test]
fn a_dns_identity_is_its_own_server_name() {
    let mut wire = encode::endpoint(&Endpoint::bare("10.0.0.1:80".parse().expect("addr")));
    let name = tls_identity::DnsLikeIdentity {
        name: "Web.NS.local.".into(),
    };
    let strategy = Some(tls_identity::Strategy::DnsLikeIdentity(name));
    wire.tls_identity = Some(TlsIdentity {
        strategy,
        server_name: None,
    });
    let identity = decode::endpoint(wire).expect("valid").identity.expect("identity");
    assert_eq!(
        (identity.server_id.as_str(), &*identity.server_name),
        ("web.ns.local", "web.ns.local")
    );
}

#[test]
fn observations_need_a_limit_and_a_match() {
    let mut wire = tap_wire::ObserveRequest::default();
    let said = |wire: &tap_wire::ObserveRequest| decode::observe_request(wire.clone()).expect_err("refused");
    assert_eq!(said(&wire).to_string(), "invalid message: limit: is 0");
    wire.limit = 1;
    assert_eq!(said(&wire).to_string(), "invalid message: match: is missing");
    assert_eq!(said(&wire).kind(), Kind::InvalidArgument);
    let mut nested = tap_wire::observe_request::Match::default();
    for _ in 0..90 {
        use tap_wire::observe_request::r#match::Match;
        nested = tap_wire::observe_request::Match {
            r#match: Some(Match::Not(Box::new(nested))),
        };
    }
    wire.r#match = Some(nested);
    assert!(said(&wire).to_string().ends_with("is nested more than 32 deep"));
}

#[test]
fn filters_that_a_route_cannot_carry_fail_requests() {
    let unable = [
        Filter::RequestHeaders(HeaderModifier::default()),
        Filter::ResponseHeaders(HeaderModifier::default()),
        Filter::Redirect(Redirect::default()),
        Filter::Rewrite(Rewrite::default()),
        Filter::FailGrpc {
            code: 14,
            message: "no".into(),
            ratio: Ratio::ALL,
        },
    ];
    let protocol = ClientProtocol::Opaque(opaque(unable.to_vec()));
    let policy = encode::client_policy(&ClientPolicy {
        meta: service(),
        protocol,
        targets: None,
    });
    let ClientProtocol::Opaque(opaque) = decode::client_policy(policy).expect("valid").protocol else {
        panic!("opaque")
    };
    let filters = &opaque.routes[0].rules[0].filters;
    assert_eq!(filters.len(), unable.len());
    assert!(
        filters
            .iter()
            .all(|filter| matches!(filter, Filter::Invalid(text) if !text.is_empty())),
        "{filters:?}"
    );

    let protocol = ClientProtocol::Http1(http(vec![Filter::Forbidden, Filter::Invalid("why".into())]));
    let policy = encode::client_policy(&ClientPolicy {
        meta: service(),
        protocol,
        targets: None,
    });
    let ClientProtocol::Http1(http) = decode::client_policy(policy).expect("valid").protocol else {
        panic!("http1")
    };
    let refusal = |status, message: &str| Filter::FailHttp {
        status,
        message: message.into(),
        ratio: Ratio::ALL,
    };
    assert_eq!(
        http.routes[0].rules[0].filters,
        [refusal(403, "forbidden"), refusal(500, "why")]
    );
}

#[test]
fn filters_that_a_server_cannot_carry_fail_requests_unless_they_change_responses() {
    let rules = vec![Rule {
        matches: Vec::new(),
        filters: vec![
            Filter::ResponseHeaders(HeaderModifier::default()),
            Filter::Rewrite(Rewrite::default()),
        ],
        action: inbound::Action,
    }];
    let routes = vec![Route {
        meta: service(),
        hosts: Vec::new(),
        rules,
        authorizations: Vec::new(),
    }];
    let policy = ServerPolicy {
        protocol: ServerProtocol::Http2 {
            routes,
            rate_limit: None,
        },
        authorizations: Vec::new(),
        labels: Default::default(),
        server_ips: Vec::new(),
    };
    let decoded = decode::server_policy(encode::server_policy(&policy)).expect("valid");
    let ServerProtocol::Http2 { routes, .. } = decoded.protocol else {
        panic!("http2")
    };
    assert!(matches!(
        &routes[0].rules[0].filters[..],
        [Filter::FailHttp { status: 500, message, .. }] if message == "this proxy cannot rewrite a URL"
    ));
}

#[test]
fn a_breaker_of_no_kind_keeps_its_floor() {
    let mut http = http(Vec::new());
    http.failure_accrual = Some(FailureAccrual::None {
        ejection: Ejection {
            min_ready: Some(2),
            max_percent: None,
        },
    });
    let policy = ClientPolicy {
        meta: service(),
        protocol: ClientProtocol::Http2(http),
        targets: None,
    };
    assert_eq!(decode::client_policy(encode::client_policy(&policy)), Ok(policy));
    assert_eq!(
        decode::update(encode::no_endpoints(true)),
        Ok(EndpointUpdate::NoEndpoints { exists: true })
    );
}

#[test]
fn routes_over_their_budget_are_rejected_before_anything_is_compiled() {
    use destination::{DestinationProfile, PathMatch, RequestMatch, request_match::Match};
    let dear = |at: usize| RequestMatch {
        r#match: Some(Match::Path(PathMatch {
            regex: format!("/{at}/\\w{{8}}"),
        })),
    };
    let profile = |routes: usize| {
        let route = |at| destination::Route {
            condition: Some(dear(at)),
            ..Default::default()
        };
        decode::profile(DestinationProfile {
            routes: (0..routes).map(route).collect(),
            ..Default::default()
        })
    };
    assert!(profile(2).is_ok());
    let error = profile(3).expect_err("too dear").to_string();
    assert!(
        error.contains("routes: has more than 1048576 bytes of compiled regular expressions"),
        "{error}"
    );
    let error = profile(20_000).expect_err("too many").to_string();
    assert!(
        error.contains("has more than 256 routes or rules (limit OBJECT_ROUTES)"),
        "{error}"
    );

    let regex = |at: usize| http_route_wire::HttpRouteMatch {
        path: Some(http_route_wire::PathMatch {
            kind: Some(http_route_wire::path_match::Kind::Regex(format!("/{at}/\\w{{8}}"))),
        }),
        ..Default::default()
    };
    let too_dear = said(|policy| {
        let rule = &mut parts(policy).http2.as_mut().expect("HTTP/2").routes[0].rules[0];
        rule.matches = (0..3).map(regex).collect();
    });
    assert!(
        too_dear.contains("protocol.detect.http2.routes[0]: has more than 1048576 bytes"),
        "{too_dear}"
    );
    let too_dear = said(|policy| {
        let routes = &mut parts(policy).http2.as_mut().expect("HTTP/2").routes;
        routes[0].rules[0].matches = vec![regex(0)];
        *routes = vec![routes[0].clone(); 50];
    });
    assert!(too_dear.contains("(limit POLICY_PATTERN_BYTES)"), "{too_dear}");
    let mut wire = server();
    let Some(inbound_wire::proxy_protocol::Kind::Detect(detect)) =
        wire.protocol.as_mut().and_then(|protocol| protocol.kind.as_mut())
    else {
        panic!("detect")
    };
    let rule = inbound_wire::http_route::Rule {
        matches: (0..300).map(regex).collect(),
        filters: vec![],
    };
    detect.http_routes.push(inbound_wire::HttpRoute {
        rules: vec![rule],
        ..Default::default()
    });
    let error = decode::server_policy(wire).expect_err("too dear").to_string();
    assert!(
        error.contains("protocol.detect.http_routes[0]: has more than"),
        "{error}"
    );
}

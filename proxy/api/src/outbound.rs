//! `OutboundPolicies`: the policy of a destination.

use linkerd2_proxy_api::outbound::{
    EjectionConfig, ExponentialBackoff, FailureAccrual as WireAccrual, GrpcRoute as WireGrpc, HttpRoute as WireHttp,
    OpaqueRoute, OutboundPolicy, ProxyProtocol, TlsRoute,
    failure_accrual::{ConsecutiveFailures, Kind as AccrualKind, Unified},
    grpc_route as wire_grpc, http_route as wire_http, opaque_route as wire_opaque,
    proxy_protocol::{self as protocol, Kind},
    tls_route as wire_tls,
};
use proxy_model::{
    ClientPolicy, ClientProtocol,
    outbound::{Action, Ejection, FailureAccrual, Grpc, GrpcRoute, Http, HttpRoute, Opaque, TcpRoute, Tls},
    route::{Backoff, GrpcRetry, Retry, Rule},
};

use crate::{
    Error, Result,
    backend::{self, Interner},
    budget,
    error::{Within, each, optional, required},
    filter,
    meta::{decode_full_meta, encode_meta},
    net::{decode_duration, decode_u16, encode_duration},
    route::{
        decode_backoff, decode_grpc_match, decode_host, decode_http_match, decode_sni, decode_timeouts, encode_backoff,
        encode_grpc_match, encode_host, encode_http_match, encode_sni, encode_timeouts,
    },
};

/// Decodes one message of `OutboundPolicies.Watch`.
pub fn decode_client_policy(wire: OutboundPolicy) -> Result<ClientPolicy> {
    budget::client_policy(&wire)?;
    let interner = Interner::default();
    let kind = wire.protocol.and_then(|protocol| protocol.kind);
    Ok(ClientPolicy {
        meta: required("metadata", wire.metadata, decode_full_meta)?,
        protocol: required("protocol", kind, |kind| decode_protocol(kind, &interner))?,
        targets: None,
    })
}

/// Encodes one message of `OutboundPolicies.Watch`.
pub fn encode_client_policy(policy: &ClientPolicy) -> OutboundPolicy {
    OutboundPolicy {
        protocol: Some(ProxyProtocol {
            kind: Some(encode_protocol(&policy.protocol)),
        }),
        metadata: Some(encode_meta(&policy.meta)),
    }
}

fn decode_protocol(wire: Kind, interner: &Interner) -> Result<ClientProtocol> {
    let http1 = |wire: protocol::Http1| decode_http(wire.routes, wire.failure_accrual, interner);
    let http2 = |wire: protocol::Http2| decode_http(wire.routes, wire.failure_accrual, interner);
    match wire {
        Kind::Detect(detect) => Ok(ClientProtocol::Detect {
            timeout: required("detect.timeout", detect.timeout, decode_duration)?,
            http1: required("detect.http1", detect.http1, http1)?,
            http2: required("detect.http2", detect.http2, http2)?,
            opaque: required("detect.opaque", detect.opaque, |wire| decode_opaque(wire, interner))?,
        }),
        Kind::Http1(wire) => http1(wire).within("http1").map(ClientProtocol::Http1),
        Kind::Http2(wire) => http2(wire).within("http2").map(ClientProtocol::Http2),
        Kind::Grpc(wire) => decode_grpc(wire, interner).within("grpc").map(ClientProtocol::Grpc),
        Kind::Opaque(wire) => decode_opaque(wire, interner)
            .within("opaque")
            .map(ClientProtocol::Opaque),
        Kind::Tls(wire) => decode_tls(wire, interner).within("tls").map(ClientProtocol::Tls),
    }
}

fn encode_protocol(protocol: &ClientProtocol) -> Kind {
    let http1 = |http: &Http| protocol::Http1 {
        routes: http.routes.iter().map(encode_http_route).collect(),
        failure_accrual: http.failure_accrual.as_ref().map(encode_accrual),
    };
    let http2 = |http: &Http| protocol::Http2 {
        routes: http.routes.iter().map(encode_http_route).collect(),
        failure_accrual: http.failure_accrual.as_ref().map(encode_accrual),
    };
    let opaque = |opaque: &Opaque| protocol::Opaque {
        routes: opaque.routes.iter().map(encode_opaque_route).collect(),
    };
    match protocol {
        ClientProtocol::Detect {
            timeout,
            http1: first,
            http2: second,
            opaque: other,
        } => Kind::Detect(protocol::Detect {
            timeout: Some(encode_duration(*timeout)),
            opaque: Some(opaque(other)),
            http1: Some(http1(first)),
            http2: Some(http2(second)),
        }),
        ClientProtocol::Http1(http) => Kind::Http1(http1(http)),
        ClientProtocol::Http2(http) => Kind::Http2(http2(http)),
        ClientProtocol::Grpc(grpc) => Kind::Grpc(protocol::Grpc {
            routes: grpc.routes.iter().map(encode_grpc_route).collect(),
            failure_accrual: grpc.failure_accrual.as_ref().map(encode_accrual),
        }),
        ClientProtocol::Opaque(routes) => Kind::Opaque(opaque(routes)),
        ClientProtocol::Tls(tls) => Kind::Tls(protocol::Tls {
            routes: tls.routes.iter().map(encode_tls_route).collect(),
        }),
    }
}

fn decode_http(routes: Vec<WireHttp>, accrual: Option<WireAccrual>, interner: &Interner) -> Result<Http> {
    Ok(Http {
        routes: each("routes", routes, |wire| decode_http_route(wire, interner))?,
        failure_accrual: optional("failure_accrual", accrual, decode_accrual)?,
    })
}

fn decode_grpc(wire: protocol::Grpc, interner: &Interner) -> Result<Grpc> {
    Ok(Grpc {
        routes: each("routes", wire.routes, |wire| decode_grpc_route(wire, interner))?,
        failure_accrual: optional("failure_accrual", wire.failure_accrual, decode_accrual)?,
    })
}

/// Checks that an opaque destination has no more than one route.
fn decode_opaque(wire: protocol::Opaque, interner: &Interner) -> Result<Opaque> {
    if wire.routes.len() > 1 {
        return Err(Error::invalid(
            "routes",
            format_args!("there are {} instead of at most one", wire.routes.len()),
        ));
    }
    each("routes", wire.routes, |wire| decode_opaque_route(wire, interner)).map(|routes| Opaque { routes })
}

fn decode_tls(wire: protocol::Tls, interner: &Interner) -> Result<Tls> {
    each("routes", wire.routes, |wire| decode_tls_route(wire, interner)).map(|routes| Tls { routes })
}

/// Codec of routes for requests; the wire has two, which differ in their conditions only.
macro_rules! request_routes {
    (
        $route:ident = $wire:ident in $module:ident,
        routes: $decode:ident $encode:ident,
        matches: $decode_match:ident $encode_match:ident,
        retries: $decode_retry:ident $encode_retry:ident,
        filters: $filters:ident,
        backends: $backends:ident $(,)?
    ) => {
        fn $decode(wire: $wire, interner: &Interner) -> Result<$route> {
            let rule = |wire: $module::Rule| {
                let timeouts = optional("timeouts", wire.timeouts, decode_timeouts)?.unwrap_or_default();
                let backends = |wire| backend::$backends::decode(wire, interner);
                Ok(Rule {
                    matches: each("matches", wire.matches, $decode_match)?,
                    filters: each("filters", wire.filters, filter::$filters::decode)?,
                    action: Action {
                        distribution: required("backends", wire.backends, backends)?,
                        timeouts,
                        retry: optional("retry", wire.retry, $decode_retry)?,
                        allow_l5d_request_headers: wire.allow_l5d_request_headers,
                    },
                })
            };
            Ok($route {
                meta: required("metadata", wire.metadata, decode_full_meta)?,
                hosts: each("hosts", wire.hosts, decode_host)?,
                rules: each("rules", wire.rules, rule)?,
                authorizations: Vec::new(),
            })
        }

        #[expect(
            deprecated,
            reason = "upstream writes the request timeout twice, and older proxies read only the first"
        )]
        fn $encode(route: &$route) -> $wire {
            let rule = |rule: &Rule<_, Action>| $module::Rule {
                matches: rule.matches.iter().map($encode_match).collect(),
                filters: rule.filters.iter().filter_map(filter::$filters::encode).collect(),
                backends: Some(backend::$backends::encode(&rule.action.distribution)),
                request_timeout: rule.action.timeouts.request.map(encode_duration),
                timeouts: Some(encode_timeouts(&rule.action.timeouts)),
                retry: rule.action.retry.as_ref().map($encode_retry),
                allow_l5d_request_headers: rule.action.allow_l5d_request_headers,
            };
            $wire {
                metadata: Some(encode_meta(&route.meta)),
                hosts: route.hosts.iter().map(encode_host).collect(),
                rules: route.rules.iter().map(rule).collect(),
            }
        }
    };
}

request_routes! {
    HttpRoute = WireHttp in wire_http,
    routes: decode_http_route encode_http_route,
    matches: decode_http_match encode_http_match,
    retries: decode_http_retry encode_http_retry,
    filters: outbound_http,
    backends: http,
}
request_routes! {
    GrpcRoute = WireGrpc in wire_grpc,
    routes: decode_grpc_route encode_grpc_route,
    matches: decode_grpc_match encode_grpc_match,
    retries: decode_grpc_retry encode_grpc_retry,
    filters: outbound_grpc,
    backends: grpc,
}

fn one_rule<W>(rules: &[W]) -> Result<()> {
    match rules.len() {
        1 => Ok(()),
        n => Err(Error::invalid("rules", format_args!("there are {n} instead of one"))),
    }
}

fn decode_opaque_route(wire: OpaqueRoute, interner: &Interner) -> Result<TcpRoute> {
    one_rule(&wire.rules)?;
    let rule = |wire: wire_opaque::Rule| {
        Ok(Rule {
            matches: Vec::new(),
            filters: each("filters", wire.filters, filter::opaque::decode)?,
            action: required("backends", wire.backends, |wire| {
                backend::opaque::decode(wire, interner)
            })?,
        })
    };
    Ok(TcpRoute {
        meta: required("metadata", wire.metadata, decode_full_meta)?,
        snis: Vec::new(),
        rules: each("rules", wire.rules, rule)?,
    })
}

fn encode_opaque_route(route: &TcpRoute) -> OpaqueRoute {
    let rule = |rule: &Rule<_, _>| wire_opaque::Rule {
        backends: Some(backend::opaque::encode(&rule.action)),
        filters: rule.filters.iter().filter_map(filter::opaque::encode).collect(),
    };
    OpaqueRoute {
        metadata: Some(encode_meta(&route.meta)),
        rules: route.rules.iter().map(rule).collect(),
    }
}

fn decode_tls_route(wire: TlsRoute, interner: &Interner) -> Result<TcpRoute> {
    one_rule(&wire.rules)?;
    let rule = |wire: wire_tls::Rule| {
        Ok(Rule {
            matches: Vec::new(),
            filters: each("filters", wire.filters, filter::tls::decode)?,
            action: required("backends", wire.backends, |wire| backend::tls::decode(wire, interner))?,
        })
    };
    Ok(TcpRoute {
        meta: required("metadata", wire.metadata, decode_full_meta)?,
        snis: each("snis", wire.snis, decode_sni)?,
        rules: each("rules", wire.rules, rule)?,
    })
}

fn encode_tls_route(route: &TcpRoute) -> TlsRoute {
    let rule = |rule: &Rule<_, _>| wire_tls::Rule {
        backends: Some(backend::tls::encode(&rule.action)),
        filters: rule.filters.iter().filter_map(filter::tls::encode).collect(),
    };
    TlsRoute {
        metadata: Some(encode_meta(&route.meta)),
        snis: route.snis.iter().map(encode_sni).collect(),
        rules: route.rules.iter().map(rule).collect(),
    }
}

fn decode_http_retry(wire: wire_http::Retry) -> Result<Retry> {
    let range = |wire: wire_http::retry::conditions::StatusRange| {
        Ok((decode_u16("start", wire.start)?, decode_u16("end", wire.end)?))
    };
    Ok(Retry {
        max_retries: decode_u16("max_retries", wire.max_retries)?,
        max_request_bytes: wire.max_request_bytes,
        statuses: each(
            "conditions.status_ranges",
            wire.conditions.unwrap_or_default().status_ranges,
            range,
        )?,
        grpc: GrpcRetry::default(),
        timeout: optional("timeout", wire.timeout, decode_duration)?,
        backoff: optional("backoff", wire.backoff, decode_backoff)?,
    })
}

fn encode_http_retry(retry: &Retry) -> wire_http::Retry {
    let range = |(start, end): &(u16, u16)| wire_http::retry::conditions::StatusRange {
        start: u32::from(*start),
        end: u32::from(*end),
    };
    wire_http::Retry {
        max_retries: u32::from(retry.max_retries),
        max_request_bytes: retry.max_request_bytes,
        conditions: Some(wire_http::retry::Conditions {
            status_ranges: retry.statuses.iter().map(range).collect(),
        }),
        timeout: retry.timeout.map(encode_duration),
        backoff: retry.backoff.as_ref().map(encode_backoff),
    }
}

fn decode_grpc_retry(wire: wire_grpc::Retry) -> Result<Retry> {
    let conditions = wire.conditions.unwrap_or_default();
    Ok(Retry {
        max_retries: decode_u16("max_retries", wire.max_retries)?,
        max_request_bytes: wire.max_request_bytes,
        statuses: Vec::new(),
        grpc: GrpcRetry {
            cancelled: conditions.cancelled,
            deadline_exceeded: conditions.deadine_exceeded,
            resource_exhausted: conditions.resource_exhausted,
            internal: conditions.internal,
            unavailable: conditions.unavailable,
        },
        timeout: optional("timeout", wire.timeout, decode_duration)?,
        backoff: optional("backoff", wire.backoff, decode_backoff)?,
    })
}

fn encode_grpc_retry(retry: &Retry) -> wire_grpc::Retry {
    wire_grpc::Retry {
        max_retries: u32::from(retry.max_retries),
        max_request_bytes: retry.max_request_bytes,
        conditions: Some(wire_grpc::retry::Conditions {
            cancelled: retry.grpc.cancelled,
            deadine_exceeded: retry.grpc.deadline_exceeded,
            resource_exhausted: retry.grpc.resource_exhausted,
            internal: retry.grpc.internal,
            unavailable: retry.grpc.unavailable,
        }),
        timeout: retry.timeout.map(encode_duration),
        backoff: retry.backoff.as_ref().map(encode_backoff),
    }
}

fn decode_accrual(wire: WireAccrual) -> Result<FailureAccrual> {
    let ejection = Ejection {
        min_ready: wire.ejection.map(|ejection| ejection.min_ready_endpoints),
        max_percent: None,
    };
    let backoff = |wire: Option<ExponentialBackoff>| required("backoff", wire, decode_backoff).map(Some);
    match wire.kind {
        None => Ok(FailureAccrual::None { ejection }),
        Some(AccrualKind::ConsecutiveFailures(ConsecutiveFailures {
            max_failures,
            backoff: wire,
        })) => {
            let backoff = backoff(wire).within("consecutive_failures")?;
            Ok(FailureAccrual::Consecutive {
                max_failures,
                backoff,
                ejection,
            })
        }
        Some(AccrualKind::Unified(unified)) => decode_unified(unified, ejection).within("unified"),
    }
}

fn decode_unified(wire: Unified, ejection: Ejection) -> Result<FailureAccrual> {
    let threshold = wire.success_rate_threshold;
    if !(0.0..=1.0).contains(&threshold) {
        return Err(Error::invalid(
            "success_rate_threshold",
            format_args!("{threshold} is not from 0 to 1"),
        ));
    }
    Ok(FailureAccrual::Unified {
        success_rate_threshold: threshold,
        decay: optional("decay", wire.decay, decode_duration)?,
        min_requests: wire.min_requests,
        max_consecutive_failures: wire.max_consecutive_failures,
        backoff: Some(required("backoff", wire.backoff, decode_backoff)?),
        ejection,
    })
}

fn encode_accrual(accrual: &FailureAccrual) -> WireAccrual {
    let encode = |backoff: &Option<Backoff>| backoff.as_ref().map(encode_backoff);
    let (kind, ejection) = match accrual {
        FailureAccrual::None { ejection } => (None, ejection),
        FailureAccrual::Consecutive {
            max_failures,
            backoff,
            ejection,
        } => {
            let consecutive = ConsecutiveFailures {
                max_failures: *max_failures,
                backoff: encode(backoff),
            };
            (Some(AccrualKind::ConsecutiveFailures(consecutive)), ejection)
        }
        FailureAccrual::Unified {
            success_rate_threshold,
            decay,
            min_requests,
            max_consecutive_failures,
            backoff,
            ejection,
        } => {
            let unified = Unified {
                success_rate_threshold: *success_rate_threshold,
                decay: decay.map(encode_duration),
                min_requests: *min_requests,
                max_consecutive_failures: *max_consecutive_failures,
                backoff: encode(backoff),
            };
            (Some(AccrualKind::Unified(unified)), ejection)
        }
    };
    WireAccrual {
        kind,
        ejection: ejection
            .min_ready
            .map(|min_ready_endpoints| EjectionConfig { min_ready_endpoints }),
    }
}

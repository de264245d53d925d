//! Client policies.

use std::{sync::Arc, time::Duration};

use proptest::{collection::vec, option, prelude::*};
use proxy_model::{ClientPolicy, outbound::*, route::*};

use crate::{destination::endpoint, route::*, values::*};

pub(crate) fn backend() -> impl Strategy<Value = Arc<Backend>> {
    let ewma = || (duration(), duration()).prop_map(|(default_rtt, decay)| PeakEwma { default_rtt, decay });
    let penalties = (option::of(duration()), option::of(duration()), option::of(duration()));
    let load = prop_oneof![
        ewma().prop_map(Load::PeakEwma),
        (ewma(), penalties).prop_map(
            |(ewma, (penalty, max_retry_after, penalty_decay))| Load::PenaltyPeakEwma {
                ewma,
                penalty,
                max_retry_after,
                penalty_decay,
            }
        ),
    ];
    let dispatch = prop_oneof![
        endpoint().prop_map(|endpoint| Dispatch::Forward(Arc::new(endpoint))),
        (name(), load).prop_map(|(path, load)| Dispatch::Balance {
            path: path.into(),
            load
        }),
    ];
    let queue = (any::<u32>(), option::of(duration())).prop_map(|(capacity, failfast_timeout)| Queue {
        capacity,
        failfast_timeout,
    });
    (meta(), option::of(dispatch), queue).prop_map(|(meta, dispatch, queue)| {
        Arc::new(Backend {
            meta,
            dispatch,
            queue: Some(queue),
        })
    })
}

pub(crate) fn distribution(
    filter: impl Strategy<Value = Filter> + Clone + 'static,
) -> impl Strategy<Value = Distribution> {
    let route_backend = || {
        (backend(), vec(filter.clone(), 0..2))
            .prop_map(|(backend, filters)| RouteBackend { backend, filters })
            .boxed()
    };
    prop_oneof![
        Just(Distribution::Empty),
        vec(route_backend(), 0..3).prop_map(Distribution::FirstAvailable),
        vec((route_backend(), any::<u32>()), 0..3).prop_map(Distribution::RandomAvailable),
    ]
}

pub(crate) fn backoff() -> impl Strategy<Value = Backoff> {
    (duration(), duration(), 0.0_f32..2.0, any::<bool>()).prop_map(|(a, b, jitter, respect_retry_after_hint)| {
        let max = a.max(b).max(Duration::from_nanos(1));
        Backoff {
            min: a.min(b),
            max,
            jitter,
            respect_retry_after_hint,
        }
    })
}

pub(crate) fn accrual() -> impl Strategy<Value = FailureAccrual> {
    let ejection = || {
        option::of(any::<u32>()).prop_map(|min_ready| Ejection {
            min_ready,
            max_percent: None,
        })
    };
    let unified = (
        0.0_f64..1.0,
        option::of(duration()),
        any::<(u32, u32)>(),
        backoff(),
        ejection(),
    );
    prop_oneof![
        ejection().prop_map(|ejection| FailureAccrual::None { ejection }),
        (any::<u32>(), backoff(), ejection()).prop_map(|(max_failures, backoff, ejection)| {
            FailureAccrual::Consecutive {
                max_failures,
                backoff: Some(backoff),
                ejection,
            }
        }),
        unified.prop_map(
            |(threshold, decay, (min_requests, max), backoff, ejection)| FailureAccrual::Unified {
                success_rate_threshold: threshold,
                decay,
                min_requests,
                max_consecutive_failures: max,
                backoff: Some(backoff),
                ejection,
            }
        ),
    ]
}

/// An action; `of_grpc` says which conditions of a retry there are.
pub(crate) fn action(
    filter: impl Strategy<Value = Filter> + Clone + 'static,
    of_grpc: bool,
) -> impl Strategy<Value = Action> {
    let timeouts = (option::of(duration()), option::of(duration()), option::of(duration())).prop_map(
        |(response, request, idle)| Timeouts {
            response,
            request,
            idle,
        },
    );
    let codes = any::<(bool, bool, bool)>();
    let figures = (
        any::<(u16, u32)>(),
        vec(any::<(u16, u16)>(), 0..3),
        codes,
        option::of(duration()),
        option::of(backoff()),
    );
    let retry = figures.prop_map(
        move |((max_retries, bytes), statuses, (a, b, c), timeout, backoff)| Retry {
            max_retries,
            max_request_bytes: bytes,
            statuses: if of_grpc { Vec::new() } else { statuses },
            grpc: GrpcRetry {
                cancelled: a && of_grpc,
                deadline_exceeded: b && of_grpc,
                resource_exhausted: c && of_grpc,
                internal: a && b && of_grpc,
                unavailable: b && c && of_grpc,
            },
            timeout,
            backoff,
        },
    );
    (distribution(filter), timeouts, option::of(retry), any::<bool>()).prop_map(
        |(distribution, timeouts, retry, allow_l5d_request_headers)| Action {
            distribution,
            timeouts,
            retry,
            allow_l5d_request_headers,
        },
    )
}

/// Filters of HTTP and gRPC routes.
#[derive(Clone)]
pub(crate) struct Filters {
    http: BoxedStrategy<Filter>,
    grpc: BoxedStrategy<Filter>,
}

impl Filters {
    /// Those that the API has a field for.
    pub(crate) fn api() -> Self {
        Self {
            http: prop_oneof![http_filter(), modifier().prop_map(Filter::ResponseHeaders)].boxed(),
            grpc: grpc_filter().boxed(),
        }
    }

    /// All.
    pub(crate) fn whole() -> Self {
        let Self { http, grpc } = Self::api();
        Self {
            http: prop_oneof![http, extra_filter()].boxed(),
            grpc: prop_oneof![grpc, extra_filter()].boxed(),
        }
    }
}

pub(crate) fn http_routes(filters: &Filters) -> impl Strategy<Value = Http> + use<> {
    let filter = || filters.http.clone();
    let rule = rule(http_match(), filter(), action(filter(), false));
    let route = (meta(), vec(host(), 0..2), vec(rule, 0..2)).prop_map(|(meta, hosts, rules)| Route {
        meta,
        hosts,
        rules,
        authorizations: Vec::new(),
    });
    (vec(route, 0..2), option::of(accrual())).prop_map(|(routes, failure_accrual)| Http {
        routes,
        failure_accrual,
    })
}

pub(crate) fn grpc_routes(filters: &Filters) -> impl Strategy<Value = Grpc> + use<> {
    let rule = rule(grpc_match(), filters.grpc.clone(), action(filters.grpc.clone(), true));
    let route = (meta(), vec(host(), 0..2), vec(rule, 0..2)).prop_map(|(meta, hosts, rules)| Route {
        meta,
        hosts,
        rules,
        authorizations: Vec::new(),
    });
    (vec(route, 0..2), option::of(accrual())).prop_map(|(routes, failure_accrual)| Grpc {
        routes,
        failure_accrual,
    })
}

pub(crate) fn tcp_route(snis: impl Strategy<Value = Vec<HostMatch>>) -> impl Strategy<Value = TcpRoute> {
    let rule = (vec(tcp_filter(), 0..2), distribution(tcp_filter().boxed())).prop_map(|(filters, action)| Rule {
        matches: Vec::new(),
        filters,
        action,
    });
    (meta(), snis, rule).prop_map(|(meta, snis, rule)| TcpRoute {
        meta,
        snis,
        rules: vec![rule],
    })
}

pub(crate) fn client_policy(filters: &Filters) -> impl Strategy<Value = ClientPolicy> + use<> {
    let opaque = || vec(tcp_route(Just(Vec::new())), 0..2).prop_map(|routes| Opaque { routes });
    let tls = vec(tcp_route(vec(host(), 0..2)), 0..3).prop_map(|routes| Tls { routes });
    let detect = (duration(), http_routes(filters), http_routes(filters), opaque()).prop_map(
        |(timeout, http1, http2, opaque)| ClientProtocol::Detect {
            timeout,
            http1,
            http2,
            opaque,
        },
    );
    let protocol = prop_oneof![
        detect,
        http_routes(filters).prop_map(ClientProtocol::Http1),
        http_routes(filters).prop_map(ClientProtocol::Http2),
        grpc_routes(filters).prop_map(ClientProtocol::Grpc),
        opaque().prop_map(ClientProtocol::Opaque),
        tls.prop_map(ClientProtocol::Tls),
    ];
    (meta(), protocol).prop_map(|(meta, protocol)| ClientPolicy {
        meta,
        protocol,
        targets: None,
    })
}

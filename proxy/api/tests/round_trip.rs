//! Whatever the model can say comes back from the wire as it was said: model, encoded, to bytes, from bytes, decoded.
//!
//! The generators stay within what the wire can say (a gRPC route has no redirect, for example); what lies outside is encoded
//! as a refusal, which the tests of `refusals.rs` look at.

use std::{collections::BTreeMap, net::SocketAddr, num::NonZeroU16, sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, Method};
use proptest::{collection::vec, option, prelude::*};
use prost::Message;
use proxy_api::{DestinationRequest, InboundRequest, Observation, OutboundRequest, decode, encode};
use proxy_model::{
    endpoint::{FlowControl, Http2Internals, KeepAlive},
    inbound,
    outbound::*,
    profile::*,
    route::*,
    tap::{TapMatch, TcpMatch, TextMatch},
    *,
};

/// To bytes and back, as the wire does it.
fn over_the_wire<W: Message + Default>(wire: W) -> W {
    W::decode(wire.encode_to_vec().as_slice()).expect("what was encoded")
}

fn text() -> impl Strategy<Value = String> {
    "[a-z]{1,6}"
}

fn name() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9]{0,4}(\\.[a-z][a-z0-9]{0,4}){0,3}"
}

fn duration() -> impl Strategy<Value = Duration> {
    (0_u64..1_000_000, 0_u32..1_000_000_000).prop_map(|(seconds, nanos)| Duration::new(seconds, nanos))
}

fn addr() -> impl Strategy<Value = SocketAddr> {
    (any::<std::net::IpAddr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    prop::collection::btree_map(text(), "[a-z]{0,3}", 0..3)
}

fn port() -> impl Strategy<Value = Option<NonZeroU16>> {
    any::<u16>().prop_map(NonZeroU16::new)
}

fn pattern() -> impl Strategy<Value = Pattern> {
    prop_oneof!["/[a-z]{1,3}", "\\[a-z\\]\\+"].prop_map(|text| Pattern::anchored(&text).expect("pattern"))
}

fn method() -> impl Strategy<Value = Method> {
    prop_oneof![
        Just(Method::GET),
        Just(Method::TRACE),
        "[A-Z]{3,5}".prop_map(|m| m.parse().expect("method"))
    ]
}

fn meta() -> impl Strategy<Value = Meta> {
    let resource = (text(), text(), text(), text(), "[a-z]{0,2}", port());
    prop_oneof![
        text().prop_map(|name| Meta::default_named(&name)),
        resource.prop_map(|(group, kind, name, namespace, section, port)| Meta::Resource {
            group: group.into(),
            kind: kind.into(),
            name: name.into(),
            namespace: namespace.into(),
            section: section.into(),
            port,
        })
    ]
}

fn id() -> impl Strategy<Value = Id> {
    prop_oneof![name(), text().prop_map(|t| format!("spiffe://TD/{t}"))].prop_map(|text| text.parse().expect("id"))
}

fn authority() -> impl Strategy<Value = Authority> {
    (name(), 1_u16..).prop_map(|(host, port)| Authority::new(&host, port))
}

fn http2() -> impl Strategy<Value = Http2Params> {
    let flow = any::<(u32, u32, bool)>().prop_map(|(connection, stream, adaptive)| FlowControl {
        initial_connection_window_size: connection,
        initial_stream_window_size: stream,
        adaptive_flow_control: adaptive,
    });
    let keep = (option::of(duration()), option::of(duration()), any::<bool>());
    let keep = keep.prop_map(|(interval, timeout, while_idle)| KeepAlive {
        interval,
        timeout,
        while_idle,
    });
    let internals = any::<(u32, u32, u32)>().prop_map(|(reset, frame, send)| Http2Internals {
        max_concurrent_reset_streams: reset,
        max_frame_size: frame,
        max_send_buf_size: send,
    });
    (option::of(flow), option::of(keep), option::of(internals)).prop_map(|(flow_control, keep_alive, internals)| {
        Http2Params {
            flow_control,
            keep_alive,
            internals,
        }
    })
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    let hint = prop_oneof![Just(Hint::Unknown), Just(Hint::Http2), Just(Hint::Opaque)];
    let identity = (id(), name()).prop_map(|(server_id, name)| TlsIdentity {
        server_id,
        server_name: name.into(),
    });
    let more = (
        option::of(authority()),
        labels(),
        option::of(http2()),
        option::of(meta()),
    );
    (addr(), any::<u32>(), option::of(identity), hint, port(), more).prop_map(
        |(addr, weight, identity, hint, opaque_transport_port, (authority_override, labels, http2, resource))| {
            Endpoint {
                addr,
                weight,
                identity,
                hint,
                opaque_transport_port,
                authority_override,
                labels: Arc::new(labels),
                http2,
                resource,
            }
        },
    )
}

fn update() -> impl Strategy<Value = EndpointUpdate> {
    prop_oneof![
        (labels(), vec(endpoint(), 0..3)).prop_map(|(labels, endpoints)| EndpointUpdate::Add {
            labels: Arc::new(labels),
            endpoints
        }),
        vec(addr(), 0..3).prop_map(EndpointUpdate::Remove),
        any::<bool>().prop_map(|exists| EndpointUpdate::NoEndpoints { exists }),
    ]
}

fn request_match() -> impl Strategy<Value = RequestMatch> {
    let leaf = prop_oneof![
        pattern().prop_map(RequestMatch::Path),
        method().prop_map(RequestMatch::Method)
    ];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(RequestMatch::All),
            vec(inner.clone(), 0..3).prop_map(RequestMatch::Any),
            inner.prop_map(|not| RequestMatch::Not(Box::new(not))),
        ]
    })
}

fn response_match() -> impl Strategy<Value = ResponseMatch> {
    let leaf = any::<(u16, u16)>().prop_map(|(min, max)| ResponseMatch::Status { min, max });
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(ResponseMatch::All),
            vec(inner.clone(), 0..3).prop_map(ResponseMatch::Any),
            inner.prop_map(|not| ResponseMatch::Not(Box::new(not))),
        ]
    })
}

fn profile() -> impl Strategy<Value = Profile> {
    let class = (option::of(response_match()), any::<bool>())
        .prop_map(|(condition, is_failure)| ResponseClass { condition, is_failure });
    let route = (
        option::of(request_match()),
        vec(class, 0..3),
        labels(),
        any::<bool>(),
        option::of(duration()),
    );
    let route = route.prop_map(
        |(condition, response_classes, labels, is_retryable, timeout)| ProfileRoute {
            condition,
            response_classes,
            labels: Arc::new(labels),
            is_retryable,
            timeout,
            retry_budget: None,
        },
    );
    let budget =
        (0.0_f32..2.0, any::<u32>(), option::of(duration())).prop_map(|(ratio, min_per_second, ttl)| RetryBudget {
            ratio,
            min_per_second,
            ttl,
        });
    let target = (authority(), any::<u32>(), option::of(meta())).prop_map(|(authority, weight, backend)| Target {
        authority,
        weight,
        backend,
    });
    let head = (
        prop_oneof![Just(String::new()), name()],
        any::<bool>(),
        option::of(endpoint()),
    );
    (
        head,
        vec(route, 0..3),
        option::of(budget),
        vec(target, 0..3),
        option::of(meta()),
        option::of(meta()),
    )
        .prop_map(
            |((fully_qualified_name, opaque_protocol, endpoint), routes, retry_budget, targets, parent, profile)| {
                Profile {
                    fully_qualified_name,
                    opaque_protocol,
                    routes,
                    retry_budget,
                    targets,
                    endpoint: endpoint.map(Arc::new),
                    parent,
                    profile,
                }
            },
        )
}

fn host() -> impl Strategy<Value = HostMatch> {
    prop_oneof![
        name().prop_map(HostMatch::Exact),
        vec(text(), 1..4).prop_map(HostMatch::Suffix)
    ]
}

fn header() -> impl Strategy<Value = HeaderMatch> {
    let value = prop_oneof![
        header_value().prop_map(HeaderValueMatch::Exact),
        pattern().prop_map(HeaderValueMatch::Regex),
    ];
    (header_name(), value).prop_map(|(name, value)| HeaderMatch { name, value })
}

fn header_name() -> impl Strategy<Value = HeaderName> {
    "x-[a-z]{1,4}".prop_map(|name| name.parse().expect("name"))
}

fn header_value() -> impl Strategy<Value = HeaderValue> {
    vec(0x80_u8.., 0..4).prop_map(|bytes| HeaderValue::from_bytes(&bytes).expect("value"))
}

fn http_match() -> impl Strategy<Value = HttpMatch> {
    let path = prop_oneof![
        text().prop_map(PathMatch::Exact),
        text().prop_map(PathMatch::Prefix),
        pattern().prop_map(PathMatch::Regex),
    ];
    let value = prop_oneof![
        text().prop_map(QueryValueMatch::Exact),
        pattern().prop_map(QueryValueMatch::Regex)
    ];
    let query = (text(), value).prop_map(|(name, value)| QueryMatch { name, value });
    (
        option::of(path),
        vec(header(), 0..2),
        vec(query, 0..2),
        option::of(method()),
    )
        .prop_map(|(path, headers, query, method)| HttpMatch {
            path,
            headers,
            query,
            method,
        })
}

fn grpc_match() -> impl Strategy<Value = GrpcMatch> {
    (
        option::of(text()),
        option::of(text()),
        vec(header(), 0..2),
        any::<bool>(),
    )
        .prop_map(|(service, method, headers, has_rpc)| {
            let has_rpc = has_rpc || service.is_some() || method.is_some();
            GrpcMatch {
                service,
                method,
                headers,
                has_rpc,
            }
        })
}

fn ratio() -> impl Strategy<Value = Ratio> {
    prop_oneof![
        Just(Ratio::ALL),
        (0_u32..9, 2_u32..9).prop_map(|(numerator, denominator)| Ratio { numerator, denominator })
    ]
}

fn modifier() -> impl Strategy<Value = HeaderModifier> {
    let headers = || vec((header_name(), header_value()), 0..2);
    (headers(), headers(), vec(header_name(), 0..2)).prop_map(|(add, set, remove)| HeaderModifier { add, set, remove })
}

fn fail_http() -> impl Strategy<Value = Filter> {
    (100_u16..=999, text(), ratio()).prop_map(|(status, message, ratio)| Filter::FailHttp { status, message, ratio })
}

fn fail_grpc() -> impl Strategy<Value = Filter> {
    (0_u16..17, text(), ratio()).prop_map(|(code, message, ratio)| Filter::FailGrpc { code, message, ratio })
}

fn redirect() -> impl Strategy<Value = Filter> {
    let path = prop_oneof![
        text().prop_map(PathModifier::Full),
        text().prop_map(PathModifier::Prefix)
    ];
    let scheme = prop_oneof![
        Just("http".to_owned()),
        Just("https".to_owned()),
        Just("ftp".to_owned())
    ];
    let numbers = (option::of(1_u16..), option::of(300_u16..400));
    (option::of(scheme), option::of(name()), option::of(path), numbers).prop_map(
        |(scheme, host, path, (port, status))| {
            Filter::Redirect(Redirect {
                scheme,
                host,
                path,
                port,
                status,
            })
        },
    )
}

/// Filters that both directions have.
fn http_filter() -> impl Strategy<Value = Filter> {
    prop_oneof![fail_http(), modifier().prop_map(Filter::RequestHeaders), redirect()]
}

fn grpc_filter() -> impl Strategy<Value = Filter> {
    prop_oneof![fail_grpc(), modifier().prop_map(Filter::RequestHeaders)]
}

fn tcp_filter() -> impl Strategy<Value = Filter> {
    prop_oneof![Just(Filter::Forbidden), text().prop_map(Filter::Invalid)]
}

fn backend() -> impl Strategy<Value = Arc<Backend>> {
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

fn distribution(filter: impl Strategy<Value = Filter> + Clone + 'static) -> impl Strategy<Value = Distribution> {
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

fn backoff() -> impl Strategy<Value = Backoff> {
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

fn accrual() -> impl Strategy<Value = FailureAccrual> {
    let min_ready = || option::of(any::<u32>());
    let unified = (
        0.0_f64..1.0,
        option::of(duration()),
        any::<(u32, u32)>(),
        backoff(),
        min_ready(),
    );
    prop_oneof![
        min_ready().prop_map(|min_ready| FailureAccrual::None { min_ready }),
        (any::<u32>(), backoff(), min_ready()).prop_map(|(max_failures, backoff, min_ready)| {
            FailureAccrual::Consecutive {
                max_failures,
                backoff: Some(backoff),
                min_ready,
            }
        }),
        unified.prop_map(
            |(threshold, decay, (min_requests, max), backoff, min_ready)| FailureAccrual::Unified {
                success_rate_threshold: threshold,
                decay,
                min_requests,
                max_consecutive_failures: max,
                backoff: Some(backoff),
                min_ready,
            }
        ),
    ]
}

/// An action; `of_grpc` says which conditions of a retry there are.
fn action(filter: impl Strategy<Value = Filter> + Clone + 'static, of_grpc: bool) -> impl Strategy<Value = Action> {
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

fn rule<M: std::fmt::Debug, T: std::fmt::Debug>(
    matches: impl Strategy<Value = M>,
    filters: impl Strategy<Value = Filter>,
    action: impl Strategy<Value = T>,
) -> impl Strategy<Value = Rule<M, T>> {
    (vec(matches, 0..2), vec(filters, 0..2), action).prop_map(|(matches, filters, action)| Rule {
        matches,
        filters,
        action,
    })
}

fn http_routes() -> impl Strategy<Value = Http> {
    let filter = || prop_oneof![http_filter(), modifier().prop_map(Filter::ResponseHeaders)].boxed();
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

fn grpc_routes() -> impl Strategy<Value = Grpc> {
    let rule = rule(grpc_match(), grpc_filter(), action(grpc_filter().boxed(), true));
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

fn tcp_route(snis: impl Strategy<Value = Vec<HostMatch>>) -> impl Strategy<Value = TcpRoute> {
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

fn client_policy() -> impl Strategy<Value = ClientPolicy> {
    let opaque = || vec(tcp_route(Just(Vec::new())), 0..2).prop_map(|routes| Opaque { routes });
    let tls = vec(tcp_route(vec(host(), 0..2)), 0..3).prop_map(|routes| Tls { routes });
    let detect = (duration(), http_routes(), http_routes(), opaque()).prop_map(|(timeout, http1, http2, opaque)| {
        ClientProtocol::Detect {
            timeout,
            http1,
            http2,
            opaque,
        }
    });
    let protocol = prop_oneof![
        detect,
        http_routes().prop_map(ClientProtocol::Http1),
        http_routes().prop_map(ClientProtocol::Http2),
        grpc_routes().prop_map(ClientProtocol::Grpc),
        opaque().prop_map(ClientProtocol::Opaque),
        tls.prop_map(ClientProtocol::Tls),
    ];
    (meta(), protocol).prop_map(|(meta, protocol)| ClientPolicy { meta, protocol })
}

fn net() -> impl Strategy<Value = ipnet::IpNet> {
    (any::<std::net::IpAddr>(), 0_u8..=32).prop_map(|(ip, length)| ipnet::IpNet::new(ip, length).expect("net"))
}

fn authorization() -> impl Strategy<Value = Authorization> {
    let network = (net(), vec(net(), 0..2)).prop_map(|(net, except)| NetworkMatch { net, except });
    let authentication = prop_oneof![
        Just(Authentication::Unauthenticated),
        Just(Authentication::TlsUnauthenticated),
        (vec(id(), 0..3), vec(prop_oneof![Just(String::new()), name()], 0..3))
            .prop_map(|(identities, suffixes)| Authentication::TlsAuthenticated { identities, suffixes }),
    ];
    (vec(network, 1..3), authentication, labels(), option::of(meta())).prop_map(
        |(networks, authentication, labels, meta)| Authorization {
            networks,
            authentication,
            labels,
            meta,
        },
    )
}

fn inbound_route<M: std::fmt::Debug + Clone>(
    matches: impl Strategy<Value = M>,
    filters: impl Strategy<Value = Filter>,
) -> impl Strategy<Value = Route<M, inbound::Action>> {
    let rules = vec(rule(matches, filters, Just(inbound::Action)), 0..2);
    (meta(), vec(host(), 0..2), rules, vec(authorization(), 0..2)).prop_map(|(meta, hosts, rules, authorizations)| {
        Route {
            meta,
            hosts,
            rules,
            authorizations,
        }
    })
}

fn server_policy() -> impl Strategy<Value = ServerPolicy> {
    let http = || vec(inbound_route(http_match(), http_filter()), 0..2);
    let limit_override =
        (any::<u32>(), vec(id(), 0..2)).prop_map(|(requests_per_second, clients)| inbound::RateLimitOverride {
            requests_per_second,
            clients,
        });
    let limit = (
        option::of(meta()),
        option::of(any::<u32>()),
        option::of(any::<u32>()),
        vec(limit_override, 0..2),
    )
        .prop_map(|(meta, total, identity, overrides)| inbound::RateLimit {
            meta,
            total,
            identity,
            overrides,
        });
    let limit = option::of(limit).boxed();
    let protocol = prop_oneof![
        (option::of(duration()), http(), limit.clone()).prop_map(|(timeout, routes, rate_limit)| {
            ServerProtocol::Detect {
                timeout,
                routes,
                rate_limit,
            }
        }),
        (http(), limit.clone()).prop_map(|(routes, rate_limit)| ServerProtocol::Http1 { routes, rate_limit }),
        (http(), limit).prop_map(|(routes, rate_limit)| ServerProtocol::Http2 { routes, rate_limit }),
        vec(inbound_route(grpc_match(), grpc_filter()), 0..2).prop_map(|routes| ServerProtocol::Grpc { routes }),
        Just(ServerProtocol::Opaque),
        Just(ServerProtocol::Tls),
    ];
    (
        protocol,
        vec(authorization(), 0..3),
        labels(),
        vec(any::<std::net::IpAddr>(), 0..2),
    )
        .prop_map(|(protocol, authorizations, labels, server_ips)| ServerPolicy {
            protocol,
            authorizations,
            labels,
            server_ips,
        })
}

fn tap_match() -> impl Strategy<Value = TapMatch> {
    let tcp = || {
        prop_oneof![
            (any::<std::net::IpAddr>(), 1_u8..=32)
                .prop_map(|(ip, length)| TcpMatch::Net(ipnet::IpNet::new(ip, length).expect("net"))),
            (1_u16.., 1_u16..).prop_map(|(a, b)| TcpMatch::Ports(a.min(b), a.max(b))),
        ]
    };
    let words = || prop_oneof![text().prop_map(TextMatch::Exact), text().prop_map(TextMatch::Prefix)];
    let leaf = prop_oneof![
        tcp().prop_map(TapMatch::Source),
        tcp().prop_map(TapMatch::Destination),
        (text(), text()).prop_map(|(key, value)| TapMatch::DestinationLabel(key, value)),
        (text(), text()).prop_map(|(key, value)| TapMatch::RouteLabel(key, value)),
        text().prop_map(TapMatch::Scheme),
        method().prop_map(TapMatch::Method),
        words().prop_map(TapMatch::Authority),
        words().prop_map(TapMatch::Path),
    ];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(TapMatch::All),
            vec(inner.clone(), 0..3).prop_map(TapMatch::Any),
            inner.prop_map(|not| TapMatch::Not(Box::new(not))),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn endpoint_updates(update in update()) {
        prop_assert_eq!(decode::update(over_the_wire(encode::update(&update))), Ok(update));
    }

    #[test]
    fn profiles(profile in profile()) {
        prop_assert_eq!(decode::profile(over_the_wire(encode::profile(&profile))), Ok(profile));
    }

    #[test]
    fn client_policies(policy in client_policy()) {
        prop_assert_eq!(decode::client_policy(over_the_wire(encode::client_policy(&policy))), Ok(policy));
    }

    #[test]
    fn server_policies(policy in server_policy()) {
        prop_assert_eq!(decode::server_policy(over_the_wire(encode::server_policy(&policy))), Ok(policy));
    }

    #[test]
    fn observations(matches in tap_match(), limit in 1_u32.., headers: bool) {
        let observation = Observation { matches, limit, headers };
        let wire = over_the_wire(encode::observe_request(&observation));
        prop_assert_eq!(decode::observe_request(wire), Ok(observation));
    }

    #[test]
    fn requests(addr in addr(), authority in authority(), path in text(), port in 1_u16..) {
        let addr = SocketAddr::new(addr.ip(), port);
        for target in [OutboundTarget::Addr(addr), OutboundTarget::Authority(authority)] {
            let request = OutboundRequest { workload: path.clone(), target };
            prop_assert_eq!(decode::traffic_spec(over_the_wire(encode::traffic_spec(&request))), Ok(request));
        }
        let request = InboundRequest { workload: path.clone(), port };
        prop_assert_eq!(decode::port_spec(over_the_wire(encode::port_spec(&request))), Ok(request));
        let request = DestinationRequest { context: path.clone(), path };
        prop_assert_eq!(decode::get_destination(over_the_wire(encode::get_destination(&request))), request);
    }

    #[test]
    fn no_bytes_make_decoding_panic(bytes in vec(any::<u8>(), 0..200)) {
        use proxy_api::wire::{destination, inbound, outbound, tap};
        let bytes = bytes.as_slice();
        let _ = destination::Update::decode(bytes).map(decode::update);
        let _ = destination::DestinationProfile::decode(bytes).map(decode::profile);
        let _ = outbound::OutboundPolicy::decode(bytes).map(decode::client_policy);
        let _ = inbound::Server::decode(bytes).map(decode::server_policy);
        let _ = tap::ObserveRequest::decode(bytes).map(decode::observe_request);
    }
}

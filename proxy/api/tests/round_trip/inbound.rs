//! Server policies.

use proptest::{collection::vec, option, prelude::*};
use proxy_model::{
    Authentication, Authorization, NetworkMatch, ServerPolicy, ServerProtocol, inbound,
    route::{Filter, Route},
};

use crate::{route::*, values::*};

pub(crate) fn net() -> impl Strategy<Value = ipnet::IpNet> {
    (any::<std::net::IpAddr>(), 0_u8..=32).prop_map(|(ip, length)| ipnet::IpNet::new(ip, length).expect("net"))
}

pub(crate) fn authorization() -> impl Strategy<Value = Authorization> {
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

pub(crate) fn inbound_route<M: std::fmt::Debug + Clone>(
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

/// Filters of HTTP and gRPC routes that the API has a field for.
pub(crate) fn filters_of_the_api() -> [BoxedStrategy<Filter>; 2] {
    [http_filter().boxed(), grpc_filter().boxed()]
}

/// All filters of HTTP and gRPC routes.
pub(crate) fn all_filters() -> [BoxedStrategy<Filter>; 2] {
    filters_of_the_api().map(|filter| prop_oneof![filter, extra_filter()].boxed())
}

pub(crate) fn server_policy([http, grpc]: [BoxedStrategy<Filter>; 2]) -> impl Strategy<Value = ServerPolicy> {
    let http = || vec(inbound_route(http_match(), http.clone()), 0..2);
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
        vec(inbound_route(grpc_match(), grpc), 0..2).prop_map(|routes| ServerProtocol::Grpc { routes }),
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

//! `InboundServerPolicies`: the policy of a port of a workload.

use linkerd2_proxy_api::inbound::{
    Authn, Authz, GrpcRoute as WireGrpc, HttpLocalRateLimit, HttpRoute as WireHttp, Identity, IdentitySuffix, Network,
    ProxyProtocol, Server,
    authn::{
        Permit, PermitMeshTls, PermitUnauthenticated,
        permit_mesh_tls::{Clients, PermitClientIdentities},
    },
    grpc_route as wire_grpc, http_local_rate_limit as wire_limit, http_route as wire_http,
    proxy_protocol::{self as protocol, Kind},
};
use proxy_model::{
    Authentication, Authorization, Id, NetworkMatch, ServerPolicy, ServerProtocol,
    inbound::{Action, GrpcRoute, HttpRoute, RateLimit, RateLimitOverride},
    route::Rule,
};

use crate::{
    Error, Result, budget,
    error::{each, optional, required},
    filter,
    meta::{decode_meta, encode_meta},
    net::{decode_duration, decode_ip, decode_labels, decode_net, encode_duration, encode_labels},
    route::{decode_grpc_match, decode_host, decode_http_match, encode_grpc_match, encode_host, encode_http_match},
};

/// Decodes one message of `InboundServerPolicies.WatchPort`.
pub fn decode_server_policy(wire: Server) -> Result<ServerPolicy> {
    budget::server_policy(&wire)?;
    let kind = wire.protocol.and_then(|protocol| protocol.kind);
    Ok(ServerPolicy {
        protocol: required("protocol", kind, decode_protocol)?,
        authorizations: each("authorizations", wire.authorizations, decode_authorization)?,
        labels: decode_labels(wire.labels),
        server_ips: each("server_ips", wire.server_ips, decode_ip)?,
    })
}

/// Encodes one message of `InboundServerPolicies.WatchPort`.
pub fn encode_server_policy(policy: &ServerPolicy) -> Server {
    Server {
        protocol: Some(ProxyProtocol {
            kind: Some(encode_protocol(&policy.protocol)),
        }),
        server_ips: policy.server_ips.iter().map(|ip| (*ip).into()).collect(),
        authorizations: policy.authorizations.iter().map(encode_authorization).collect(),
        labels: encode_labels(&policy.labels),
    }
}

fn decode_protocol(wire: Kind) -> Result<ServerProtocol> {
    match wire {
        Kind::Detect(detect) => Ok(ServerProtocol::Detect {
            timeout: optional("detect.timeout", detect.timeout, decode_duration)?,
            routes: each("detect.http_routes", detect.http_routes, decode_http_route)?,
            rate_limit: optional(
                "detect.http_local_rate_limit",
                detect.http_local_rate_limit,
                decode_rate_limit,
            )?,
        }),
        Kind::Http1(http) => Ok(ServerProtocol::Http1 {
            routes: each("http1.routes", http.routes, decode_http_route)?,
            rate_limit: optional("http1.local_rate_limit", http.local_rate_limit, decode_rate_limit)?,
        }),
        Kind::Http2(http) => Ok(ServerProtocol::Http2 {
            routes: each("http2.routes", http.routes, decode_http_route)?,
            rate_limit: optional("http2.local_rate_limit", http.local_rate_limit, decode_rate_limit)?,
        }),
        Kind::Grpc(grpc) => Ok(ServerProtocol::Grpc {
            routes: each("grpc.routes", grpc.routes, decode_grpc_route)?,
        }),
        Kind::Opaque(_) => Ok(ServerProtocol::Opaque),
        Kind::Tls(_) => Ok(ServerProtocol::Tls),
    }
}

fn encode_protocol(protocol: &ServerProtocol) -> Kind {
    let http = |routes: &[HttpRoute]| routes.iter().map(encode_http_route).collect();
    let limit = |limit: &Option<RateLimit>| limit.as_ref().map(encode_rate_limit);
    match protocol {
        ServerProtocol::Detect {
            timeout,
            routes,
            rate_limit,
        } => Kind::Detect(protocol::Detect {
            timeout: timeout.map(encode_duration),
            http_routes: http(routes),
            http_local_rate_limit: limit(rate_limit),
        }),
        ServerProtocol::Http1 { routes, rate_limit } => Kind::Http1(protocol::Http1 {
            routes: http(routes),
            local_rate_limit: limit(rate_limit),
        }),
        ServerProtocol::Http2 { routes, rate_limit } => Kind::Http2(protocol::Http2 {
            routes: http(routes),
            local_rate_limit: limit(rate_limit),
        }),
        ServerProtocol::Grpc { routes } => Kind::Grpc(protocol::Grpc {
            routes: routes.iter().map(encode_grpc_route).collect(),
        }),
        ServerProtocol::Opaque => Kind::Opaque(protocol::Opaque {}),
        ServerProtocol::Tls => Kind::Tls(protocol::Tls {}),
    }
}

fn decode_http_route(wire: WireHttp) -> Result<HttpRoute> {
    let rule = |wire: wire_http::Rule| {
        Ok(Rule {
            matches: each("matches", wire.matches, decode_http_match)?,
            filters: each("filters", wire.filters, filter::inbound_http::decode)?,
            action: Action,
        })
    };
    Ok(HttpRoute {
        meta: required("metadata", wire.metadata, decode_meta)?,
        hosts: each("hosts", wire.hosts, decode_host)?,
        rules: each("rules", wire.rules, rule)?,
        authorizations: each("authorizations", wire.authorizations, decode_authorization)?,
    })
}

fn encode_http_route(route: &HttpRoute) -> WireHttp {
    let rule = |rule: &Rule<_, Action>| wire_http::Rule {
        matches: rule.matches.iter().map(encode_http_match).collect(),
        filters: rule.filters.iter().filter_map(filter::inbound_http::encode).collect(),
    };
    WireHttp {
        metadata: Some(encode_meta(&route.meta)),
        hosts: route.hosts.iter().map(encode_host).collect(),
        authorizations: route.authorizations.iter().map(encode_authorization).collect(),
        rules: route.rules.iter().map(rule).collect(),
    }
}

fn decode_grpc_route(wire: WireGrpc) -> Result<GrpcRoute> {
    let rule = |wire: wire_grpc::Rule| {
        Ok(Rule {
            matches: each("matches", wire.matches, decode_grpc_match)?,
            filters: each("filters", wire.filters, filter::inbound_grpc::decode)?,
            action: Action,
        })
    };
    Ok(GrpcRoute {
        meta: required("metadata", wire.metadata, decode_meta)?,
        hosts: each("hosts", wire.hosts, decode_host)?,
        rules: each("rules", wire.rules, rule)?,
        authorizations: each("authorizations", wire.authorizations, decode_authorization)?,
    })
}

fn encode_grpc_route(route: &GrpcRoute) -> WireGrpc {
    let rule = |rule: &Rule<_, Action>| wire_grpc::Rule {
        matches: rule.matches.iter().map(encode_grpc_match).collect(),
        filters: rule.filters.iter().filter_map(filter::inbound_grpc::encode).collect(),
    };
    WireGrpc {
        metadata: Some(encode_meta(&route.meta)),
        hosts: route.hosts.iter().map(encode_host).collect(),
        authorizations: route.authorizations.iter().map(encode_authorization).collect(),
        rules: route.rules.iter().map(rule).collect(),
    }
}

/// Decodes networks. An empty list would authorize no client, which cannot be meant.
fn decode_authorization(wire: Authz) -> Result<Authorization> {
    if wire.networks.is_empty() {
        return Err(Error::invalid("networks", "are empty"));
    }
    let network = |wire: Network| {
        Ok(NetworkMatch {
            net: required("net", wire.net, decode_net)?,
            except: each("except", wire.except, decode_net)?,
        })
    };
    let permit = wire.authentication.and_then(|authn| authn.permit);
    Ok(Authorization {
        networks: each("networks", wire.networks, network)?,
        authentication: required("authentication", permit, decode_permit)?,
        labels: decode_labels(wire.labels),
        meta: optional("metadata", wire.metadata, decode_meta)?,
    })
}

fn encode_authorization(authorization: &Authorization) -> Authz {
    let network = |network: &NetworkMatch| Network {
        net: Some(network.net.into()),
        except: network.except.iter().map(|net| (*net).into()).collect(),
    };
    Authz {
        networks: authorization.networks.iter().map(network).collect(),
        authentication: Some(Authn {
            permit: Some(encode_permit(&authorization.authentication)),
        }),
        labels: encode_labels(&authorization.labels),
        metadata: authorization.meta.as_ref().map(encode_meta),
    }
}

fn decode_permit(wire: Permit) -> Result<Authentication> {
    match wire {
        Permit::Unauthenticated(_) => Ok(Authentication::Unauthenticated),
        Permit::MeshTls(tls) => match tls.clients.ok_or_else(|| Error::missing("mesh_tls.clients"))? {
            Clients::Unauthenticated(_) => Ok(Authentication::TlsUnauthenticated),
            Clients::Identities(clients) => Ok(Authentication::TlsAuthenticated {
                identities: each("mesh_tls.clients.identities", clients.identities, decode_identity)?,
                suffixes: each("mesh_tls.clients.suffixes", clients.suffixes, decode_suffix)?,
            }),
        },
    }
}

fn encode_permit(authentication: &Authentication) -> Permit {
    let clients = match authentication {
        Authentication::Unauthenticated => return Permit::Unauthenticated(PermitUnauthenticated {}),
        Authentication::TlsUnauthenticated => Clients::Unauthenticated(PermitUnauthenticated {}),
        Authentication::TlsAuthenticated { identities, suffixes } => {
            let suffix = |suffix: &String| IdentitySuffix {
                // No parts are the suffix of all names.
                parts: if suffix.is_empty() {
                    Vec::new()
                } else {
                    suffix.split('.').map(str::to_owned).collect()
                },
            };
            Clients::Identities(PermitClientIdentities {
                identities: identities.iter().map(encode_identity).collect(),
                suffixes: suffixes.iter().map(suffix).collect(),
            })
        }
    };
    Permit::MeshTls(PermitMeshTls { clients: Some(clients) })
}

fn decode_suffix(wire: IdentitySuffix) -> Result<String> {
    if wire.parts.iter().any(|part| part.is_empty() || part.contains('.')) {
        return Err(Error::invalid("parts", "has an empty label"));
    }
    Ok(wire.parts.join(".").to_ascii_lowercase())
}

fn decode_identity(wire: Identity) -> Result<Id> {
    wire.name.parse().map_err(|error| Error::invalid("name", error))
}

fn encode_identity(id: &Id) -> Identity {
    Identity { name: id.to_string() }
}

fn decode_rate_limit(wire: HttpLocalRateLimit) -> Result<RateLimit> {
    let per_second = |limit: wire_limit::Limit| limit.requests_per_second;
    let limit_override = |wire: wire_limit::Override| {
        Ok(RateLimitOverride {
            requests_per_second: per_second(wire.limit.ok_or_else(|| Error::missing("limit"))?),
            clients: each(
                "clients.identities",
                wire.clients.unwrap_or_default().identities,
                decode_identity,
            )?,
        })
    };
    Ok(RateLimit {
        meta: optional("metadata", wire.metadata, decode_meta)?,
        total: wire.total.map(per_second),
        identity: wire.identity.map(per_second),
        overrides: each("overrides", wire.overrides, limit_override)?,
    })
}

fn encode_rate_limit(limit: &RateLimit) -> HttpLocalRateLimit {
    let per_second = |requests_per_second: u32| wire_limit::Limit { requests_per_second };
    let limit_override = |limit: &RateLimitOverride| wire_limit::Override {
        limit: Some(per_second(limit.requests_per_second)),
        clients: Some(wire_limit::r#override::ClientIdentities {
            identities: limit.clients.iter().map(encode_identity).collect(),
        }),
    };
    HttpLocalRateLimit {
        metadata: limit.meta.as_ref().map(encode_meta),
        total: limit.total.map(per_second),
        identity: limit.identity.map(per_second),
        overrides: limit.overrides.iter().map(limit_override).collect(),
    }
}

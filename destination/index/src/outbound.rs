//! `OutboundPolicies`: the client policy for a destination. Protocol and routes of a Service or an EgressNetwork.

pub(crate) mod annotations;
mod backend;
mod egress;
mod routes;

use std::{net::SocketAddr, sync::Arc};

use destination_k8s::{Kind, keys};
use k8s_openapi::api::core::v1::{Service, ServicePort};
use proxy_model::{
    Backend, ClientPolicy, ClientProtocol, Meta, OutboundTarget,
    defaults::DETECT_TIMEOUT,
    outbound::{Distribution, FailureAccrual, Grpc, Http, Opaque, RouteBackend, Targets, TcpRoute, Tls},
    route::{Filter, Rule},
};

use crate::{Config, Refused, Workload, dep::Parent, name::ServiceName, reader::Reader, route::Traffic, target};
use annotations::{Annotations, Settings};

pub(crate) use routes::problem as route_problem;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Target {
    Name(Arc<str>, Arc<str>, u16),
    Addr(SocketAddr),
}

/// Lookup of a client policy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    target: Target,
    client_ns: Arc<str>,
}

impl Key {
    pub(crate) fn parse(target: &OutboundTarget, client: &Workload, config: &Config) -> Result<Self, Refused> {
        let target = match target {
            OutboundTarget::Addr(addr) => Target::Addr(*addr),
            OutboundTarget::Authority(authority) => match crate::service_name(authority.host(), config) {
                Some(ServiceName {
                    ns,
                    name,
                    instance: None,
                }) => Target::Name(ns, name, authority.port()),
                _ => {
                    let form = format!("<name>.<namespace>.svc.{}", config.cluster_domain);
                    return Err(Refused::NotFound(format!("authority must be of the form {form}")));
                }
            },
        };
        Ok(Self {
            target,
            client_ns: client.ns.clone(),
        })
    }
}

/// Builds the current policy.
pub(crate) fn policy(reader: &Reader<'_>, key: &Key) -> Result<ClientPolicy, Refused> {
    match &key.target {
        Target::Name(ns, name, port) => {
            let service = reader.service(ns, name).map(|service| &**service);
            Ok(service_policy(
                reader,
                &ServiceApex {
                    ns,
                    name,
                    port: *port,
                    service,
                },
                &key.client_ns,
            ))
        }
        Target::Addr(addr) => match reader.service_of_ip(addr.ip()) {
            Some(service) => {
                let ns = service.metadata.namespace.as_deref().unwrap_or_default();
                let name = service.metadata.name.as_deref().unwrap_or_default();
                let apex = ServiceApex {
                    ns,
                    name,
                    port: addr.port(),
                    service: Some(service),
                };
                Ok(service_policy(reader, &apex, &key.client_ns))
            }
            None if reader
                .config
                .cluster_networks
                .iter()
                .any(|net| net.contains(&addr.ip())) =>
            {
                Err(Refused::NotFound("No such service".to_owned()))
            }
            None => Ok(egress::policy(reader, *addr, &key.client_ns)),
        },
    }
}

/// Port of a Service, which need not exist if looked up by name.
struct ServiceApex<'a> {
    ns: &'a str,
    name: &'a str,
    port: u16,
    service: Option<&'a Service>,
}

/// Parent of the routes, with their defaults.
struct Apex<'a> {
    meta: Meta,
    parent: Parent,
    port: u16,
    client_ns: &'a str,
    /// Settings of the parent, for routes without their own.
    settings: Settings,
    failure_accrual: Option<FailureAccrual>,
    /// Backend of rules without any.
    backend: Arc<Backend>,
    fallback: Fallback,
    /// Dialed address, if the parent is an EgressNetwork.
    egress: Option<SocketAddr>,
}

/// Handling of traffic that no route matches.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Fallback {
    /// Forwards it to the Service, if there are no routes at all.
    Service,
    /// Forwards it, after all routes.
    Allow,
    /// Rejects it, after all routes.
    Deny,
}

impl Fallback {
    /// Names the default route of a protocol.
    fn name(self, service: &str, egress: &str) -> Meta {
        Meta::default_named(&match self {
            Self::Service => service.to_owned(),
            Self::Allow => format!("{egress}-egress-allow"),
            Self::Deny => format!("{egress}-egress-deny"),
        })
    }
}

/// Protocol of a port.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Protocol {
    Detect,
    Http1,
    Http2,
    Opaque,
}

fn service_policy(reader: &Reader<'_>, found: &ServiceApex<'_>, client_ns: &str) -> ClientPolicy {
    let ServiceApex {
        ns,
        name,
        port,
        service,
    } = *found;
    let meta = Meta::resource(keys::CORE_GROUP, "Service", ns, name).with_port(port);
    let declared = service.and_then(|service| service_port(service, port));
    if service.is_some() && declared.is_none() {
        return undefined_port(meta);
    }
    let annotations = Annotations::new(service.and_then(|service| service.metadata.annotations.as_ref()));
    let path = format!("{name}.{ns}.svc.{}:{port}", reader.config.cluster_domain);
    let apex = Apex {
        backend: Arc::new(backend::balancer(
            meta.clone(),
            &path,
            annotations.load().unwrap_or(backend::PLAIN),
        )),
        meta,
        parent: Parent::new(Kind::Service, ns, name),
        port,
        client_ns,
        settings: annotations.settings(),
        failure_accrual: annotations.failure_accrual().ok().flatten(),
        fallback: Fallback::Service,
        egress: None,
    };
    let protocol = match declared.and_then(|p| p.app_protocol.as_deref()) {
        Some(name) => app_protocol(name),
        None if service.is_some_and(|service| crate::profile::is_opaque(reader, service, port)) => Protocol::Opaque,
        None => Protocol::Detect,
    };
    apex.policy(reader, protocol)
}

fn service_port(service: &Service, port: u16) -> Option<&ServicePort> {
    service
        .spec
        .as_ref()?
        .ports
        .iter()
        .flatten()
        .find(|p| p.port == i32::from(port))
}

/// Parses an `appProtocol`; unknown ones are opaque, as in upstream.
fn app_protocol(name: &str) -> Protocol {
    match name.to_ascii_lowercase().as_str() {
        "http" => Protocol::Http1,
        "kubernetes.io/h2c" => Protocol::Http2,
        _ => Protocol::Opaque,
    }
}

fn undefined_port(meta: Meta) -> ClientPolicy {
    let rule = Rule {
        matches: vec![],
        filters: vec![Filter::Forbidden],
        action: Distribution::Empty,
    };
    let route = TcpRoute {
        meta: Meta::default_named("undefined-port"),
        snis: vec![],
        rules: vec![rule],
    };
    ClientPolicy {
        meta,
        protocol: ClientProtocol::Opaque(Opaque { routes: vec![route] }),
        targets: Some(Targets::new()),
    }
}

impl Apex<'_> {
    fn policy(self, reader: &Reader<'_>, protocol: Protocol) -> ClientPolicy {
        let traffic = routes::traffic(reader, &self);
        let protocol = match (protocol, traffic) {
            (Protocol::Opaque, _) | (Protocol::Detect, Some(Traffic::Tcp)) => ClientProtocol::Opaque(self.tcp(reader)),
            (Protocol::Detect, Some(Traffic::Tls)) => {
                let routes = routes::tls(reader, &self);
                ClientProtocol::Tls(Tls { routes })
            }
            (Protocol::Http1, _) => ClientProtocol::Http1(self.http(reader)),
            (Protocol::Http2 | Protocol::Detect, Some(Traffic::Grpc)) => {
                let routes = routes::grpc(reader, &self);
                ClientProtocol::Grpc(Grpc {
                    routes,
                    failure_accrual: self.failure_accrual,
                })
            }
            (Protocol::Http2, _) => ClientProtocol::Http2(self.http(reader)),
            (Protocol::Detect, _) => {
                let http = self.http(reader);
                ClientProtocol::Detect {
                    timeout: DETECT_TIMEOUT,
                    http1: http.clone(),
                    http2: http,
                    opaque: self.opaque(),
                }
            }
        };
        ClientPolicy {
            targets: Some(target::for_rules(reader, self.client_ns, &protocol)),
            meta: self.meta,
            protocol,
        }
    }

    /// Builds the policy of an opaque port: a TCPRoute's, if there is one.
    fn tcp(&self, reader: &Reader<'_>) -> Opaque {
        match routes::tcp(reader, self) {
            Some(route) => Opaque { routes: vec![route] },
            None => self.opaque(),
        }
    }

    fn http(&self, reader: &Reader<'_>) -> Http {
        Http {
            routes: routes::http(reader, self),
            failure_accrual: self.failure_accrual,
        }
    }

    fn opaque(&self) -> Opaque {
        let route = self.opaque_route(self.fallback.name("opaq", "tcp"));
        Opaque { routes: vec![route] }
    }

    /// Builds the default route for opaque traffic.
    fn opaque_route(&self, meta: Meta) -> TcpRoute {
        let filters = if self.fallback == Fallback::Deny {
            vec![Filter::Forbidden]
        } else {
            vec![]
        };
        let rule = Rule {
            matches: vec![],
            filters,
            action: self.own_backend(),
        };
        TcpRoute {
            meta,
            snis: vec![],
            rules: vec![rule],
        }
    }

    /// Returns the parent itself as backend.
    fn own_backend(&self) -> Distribution {
        Distribution::FirstAvailable(vec![RouteBackend {
            backend: self.backend.clone(),
            filters: vec![],
        }])
    }
}

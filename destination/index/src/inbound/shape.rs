//! Policies of ports without a Server: one per shape of port, shared by all pods.

use std::{cell::RefCell, collections::BTreeSet, sync::Arc};

use destination_k8s::keys;
use http::Method;
use k8s_openapi::{api::core::v1::HTTPGetAction, apimachinery::pkg::util::intstr::IntOrString};
use proxy_model::{
    Authentication, Authorization, DefaultPolicy, Meta, ServerPolicy, ServerProtocol,
    defaults::DETECT_TIMEOUT,
    env,
    inbound::{Action, HttpRoute},
    ports,
    route::{HttpMatch, PathMatch, Rule},
};

use super::{default, labels};
use crate::{Config, limits::PORT_SHAPES, pod::IndexedPod, reader::Reader};

/// Ports of the control plane's gRPC services.
const GRPC_PORTS: [u16; 3] = [ports::IDENTITY, ports::DESTINATION, ports::POLICY];

fn is_control_plane<'a>(reader: &Reader<'a>, pod: IndexedPod<'a>) -> bool {
    pod.namespace() == reader.config.control_plane_namespace && pod.label(keys::CONTROL_PLANE_COMPONENT).is_some()
}

/// Inputs of the policy of such a port, besides the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    policy: DefaultPolicy,
    /// Clients must use mesh TLS.
    tls: bool,
    opaque: bool,
    /// A program of the control plane serves gRPC there.
    grpc: bool,
    probes: BTreeSet<String>,
}

impl Shape {
    pub(super) fn new<'a>(reader: &Reader<'a>, pod: IndexedPod<'a>, port: u16) -> Self {
        let annotated = pod
            .annotation(reader, keys::DEFAULT_INBOUND_POLICY)
            .and_then(|text| text.parse().ok());
        let mut policy: DefaultPolicy = annotated.unwrap_or(reader.config.default_inbound_policy);
        let is_listed =
            |list: Option<&str>| list.is_some_and(|list| crate::ports::contains(list, port, pod.port_name(port)));
        // The environment has what the pod was injected with, from its annotations and the chart's values.
        let identity = [
            pod.annotation(reader, keys::REQUIRE_IDENTITY_PORTS),
            pod.sidecar_env(env::INBOUND_PORTS_REQUIRE_IDENTITY),
        ];
        if identity.into_iter().any(is_listed) {
            policy = policy.with_identity();
        }
        let opaque = pod.is_opaque_inbound(reader, port);
        Self {
            policy,
            tls: is_listed(pod.sidecar_env(env::INBOUND_PORTS_REQUIRE_TLS)),
            opaque,
            grpc: is_control_plane(reader, pod) && GRPC_PORTS.contains(&port),
            // Opaque ports have no paths.
            probes: if opaque {
                BTreeSet::new()
            } else {
                probe_paths(pod, port)
            },
        }
    }

    pub(super) fn policy(&self, config: &Config) -> ServerPolicy {
        let protocol = if self.opaque {
            ServerProtocol::Opaque
        } else if self.grpc {
            // Not detected: the programs trust `l5d-client-id`, which a client could write in bytes that are passed on
            // as they are.
            ServerProtocol::Http2 {
                routes: default_routes(config, self.probes.clone()),
                rate_limit: None,
            }
        } else {
            ServerProtocol::Detect {
                timeout: Some(DETECT_TIMEOUT),
                routes: default_routes(config, self.probes.clone()),
                rate_limit: None,
            }
        };
        let mut authorizations: Vec<_> = default::authorization(self.policy, config).into_iter().collect();
        for authorization in authorizations.iter_mut().filter(|_| self.tls) {
            if authorization.authentication == Authentication::Unauthenticated {
                authorization.authentication = Authentication::TlsUnauthenticated;
            }
        }
        ServerPolicy {
            protocol,
            authorizations,
            labels: labels("", "default", self.policy.as_str()),
            server_ips: vec![],
        }
    }
}

/// Cache of policies by shape.
#[derive(Debug, Default)]
pub(crate) struct Defaults(RefCell<Vec<(Shape, Arc<ServerPolicy>)>>);

impl Defaults {
    pub(super) fn policy(&self, reader: &Reader<'_>, shape: Shape) -> Arc<ServerPolicy> {
        let mut known = self.0.borrow_mut();
        if let Some((_, policy)) = known.iter().find(|(known, _)| *known == shape) {
            return policy.clone();
        }
        if known.len() >= PORT_SHAPES.value {
            known.clear();
        }
        let policy = Arc::new(shape.policy(reader.config));
        known.push((shape, policy.clone()));
        policy
    }
}

/// Builds the default routes: one that matches everything, and one for the pod's probes.
pub(super) fn default_routes(config: &Config, probes: BTreeSet<String>) -> Vec<HttpRoute> {
    let everything = HttpMatch {
        path: Some(PathMatch::Prefix("/".to_owned())),
        ..HttpMatch::default()
    };
    let route = |name: &str, matches: Vec<HttpMatch>, authorizations: Vec<Authorization>| HttpRoute {
        meta: Meta::default_named(name),
        hosts: vec![],
        rules: vec![Rule {
            matches,
            filters: vec![],
            action: Action,
        }],
        authorizations,
    };
    let mut routes = vec![route("default", vec![everything], vec![])];
    if !probes.is_empty() {
        let matches = probes.into_iter().map(|path| HttpMatch {
            path: Some(PathMatch::Exact(path)),
            method: Some(Method::GET),
            ..HttpMatch::default()
        });
        routes.push(route("probe", matches.collect(), vec![default::probe(config)]));
    }
    routes
}

/// Returns the paths of a port's HTTP probes, without query, sorted.
pub(super) fn probe_paths(pod: IndexedPod<'_>, port: u16) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for container in pod.containers() {
        let probes = [
            &container.liveness_probe,
            &container.readiness_probe,
            &container.startup_probe,
        ];
        for get in probes.into_iter().flatten().filter_map(|probe| probe.http_get.as_ref()) {
            let number = |get: &HTTPGetAction| match &get.port {
                IntOrString::Int(number) => u16::try_from(*number).ok(),
                IntOrString::String(name) => {
                    let mut ports = container.ports.iter().flatten();
                    let found = ports.find(|p| p.name.as_deref() == Some(name))?;
                    u16::try_from(found.container_port).ok()
                }
            };
            if number(get) == Some(port) {
                let path = get.path.as_deref().unwrap_or("/");
                let path = path.split(['?', '#']).next().unwrap_or("/");
                paths.insert(if path.starts_with('/') {
                    path.to_owned()
                } else {
                    format!("/{path}")
                });
            }
        }
    }
    paths
}

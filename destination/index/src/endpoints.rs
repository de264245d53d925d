//! `Destination.Get`: the endpoints of a Service's port, as seen by one client.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    num::NonZeroU16,
    sync::Arc,
};

use k8s_openapi::api::{
    core::v1::Service,
    discovery::v1::{Endpoint as SliceEndpoint, EndpointSlice},
};
use proxy_model::{Endpoint, EndpointSet, Hint, TlsIdentity};

use crate::{
    Config, Context, Refused,
    name::{PathHost, ServiceName},
    pod::IndexedPod,
    reader::Reader,
};

/// Lookup of a Service's port from a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    service: ServiceName,
    port: u16,
    node: Arc<str>,
}

impl Key {
    pub(crate) fn parse(path: &str, context: &Context, config: &Config) -> Result<Self, Refused> {
        let invalid = || Refused::Invalid(format!("Invalid authority: {path}"));
        match crate::split_path(path).ok_or_else(invalid)? {
            (PathHost::Ip(ip), _) => Err(Refused::Invalid(format!(
                "IP queries not supported by Get API: host={ip}"
            ))),
            (PathHost::Name(host), port) => {
                let service = crate::service_name(host, config).ok_or_else(|| {
                    let domain = &config.cluster_domain;
                    Refused::Invalid(format!(
                        "Invalid authority: {path}: expected <service>.<namespace>.svc.{domain}:<port>"
                    ))
                })?;
                Ok(Self {
                    service,
                    port,
                    node: context.node.clone(),
                })
            }
        }
    }

    /// Checks that the Service exists.
    pub(crate) fn check(&self, reader: &Reader<'_>, path: &str) -> Result<(), Refused> {
        let ServiceName { ns, name, .. } = &self.service;
        match reader.service(ns, name) {
            None => Err(Refused::NotFound(format!("Service {name}.{ns} not found"))),
            Some(service) if is_external_name(service) => Err(Refused::Invalid(format!("Invalid authority: {path}"))),
            Some(_) => Ok(()),
        }
    }
}

pub(crate) fn is_external_name(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("ExternalName")
}

/// Builds the current endpoints.
pub(crate) fn endpoints(reader: &Reader<'_>, key: &Key) -> EndpointSet {
    let ServiceName { ns, name, .. } = &key.service;
    let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
    let labels = BTreeMap::from([pair("namespace", ns), pair("service", name)]);
    let Some(service) = reader.service(ns, name).filter(|service| !is_external_name(service)) else {
        return EndpointSet {
            exists: false,
            labels: Arc::new(labels),
            endpoints: BTreeMap::new(),
        };
    };
    let mut candidates: Vec<Candidate<'_>> = reader
        .slices(ns, name)
        .filter(|slice| slice.metadata.deletion_timestamp.is_none())
        .flat_map(|slice| slice_candidates(reader, slice, service, key))
        .collect();
    prefer_ipv4(&mut candidates);
    keep_zone(reader, &mut candidates, &key.node);
    keep_node(service, &mut candidates, &key.node, reader);
    let client_zone = reader.zone(&key.node);
    let endpoints = candidates.iter().map(|candidate| {
        let endpoint = candidate.endpoint(reader, client_zone);
        (endpoint.addr, Arc::new(endpoint))
    });
    EndpointSet {
        exists: true,
        labels: Arc::new(labels),
        endpoints: endpoints.collect(),
    }
}

/// Candidate for an endpoint.
struct Candidate<'a> {
    addr: SocketAddr,
    pod: Option<IndexedPod<'a>>,
    slice: &'a SliceEndpoint,
}

fn slice_candidates<'a>(
    reader: &Reader<'a>,
    slice: &'a EndpointSlice,
    service: &Service,
    key: &Key,
) -> impl Iterator<Item = Candidate<'a>> {
    let port = target_port(slice, service, key.port);
    let ready = slice.endpoints.iter().flatten().filter(|endpoint| {
        let conditions = endpoint.conditions.as_ref();
        conditions.and_then(|conditions| conditions.ready) != Some(false)
    });
    let instance = key.service.instance.as_deref();
    let named = ready.filter(move |endpoint| instance.is_none() || endpoint.hostname.as_deref() == instance);
    let mut found = vec![];
    for endpoint in named {
        let target = endpoint.target_ref.as_ref();
        let pod = match target.map(|target| target.kind.as_deref()) {
            None => None,
            Some(Some("Pod")) => {
                let target = target.expect("it has a kind");
                let ns = target
                    .namespace
                    .as_deref()
                    .or(slice.metadata.namespace.as_deref())
                    .unwrap_or_default();
                // The endpoint appears with its pod, which is not known yet.
                let Some(pod) = reader.pod(ns, target.name.as_deref().unwrap_or_default()) else {
                    continue;
                };
                Some(IndexedPod::new(pod))
            }
            Some(_) => continue,
        };
        let ips = endpoint.addresses.iter().filter_map(|ip| ip.parse::<IpAddr>().ok());
        found.extend(port.into_iter().flat_map(|port| {
            ips.clone().map(move |ip| Candidate {
                addr: SocketAddr::new(ip, port),
                pod,
                slice: endpoint,
            })
        }));
    }
    found.into_iter()
}

/// Returns the port of a slice's endpoints behind a Service's port. A port that the Service does not have maps to
/// itself.
fn target_port(slice: &EndpointSlice, service: &Service, port: u16) -> Option<u16> {
    let is_tcp = |protocol: Option<&str>| protocol.is_none_or(|protocol| protocol == "TCP");
    let ports = service
        .spec
        .as_ref()
        .and_then(|spec| spec.ports.as_deref())
        .unwrap_or_default();
    let wanted = ports
        .iter()
        .find(|p| p.port == i32::from(port) && is_tcp(p.protocol.as_deref()));
    let Some(wanted) = wanted else { return Some(port) };
    let name = wanted.name.as_deref().unwrap_or_default();
    let mut slice_candidates = slice.ports.iter().flatten().filter(|p| is_tcp(p.protocol.as_deref()));
    let found = slice_candidates.find(|p| p.name.as_deref().unwrap_or_default() == name)?;
    found.port.and_then(|port| u16::try_from(port).ok())
}

/// Keeps one address per pod: IPv4, where it has both.
fn prefer_ipv4(candidates: &mut Vec<Candidate<'_>>) {
    let pod = |c: &Candidate<'_>| c.pod.map(|pod| (pod.namespace().to_owned(), pod.name().to_owned()));
    let with_ipv4: BTreeSet<_> = candidates
        .iter()
        .filter(|c| c.addr.is_ipv4())
        .filter_map(&pod)
        .collect();
    if with_ipv4.is_empty() || candidates.iter().all(|c| c.addr.is_ipv4()) {
        return;
    }
    candidates.retain(|c| c.addr.is_ipv4() || pod(c).is_none_or(|pod| !with_ipv4.contains(&pod)));
}

/// Keeps the endpoints hinted for the client's zone, if every endpoint has hints and any is for that zone.
fn keep_zone(reader: &Reader<'_>, candidates: &mut Vec<Candidate<'_>>, node: &str) {
    let zones = |c: &Candidate<'_>| {
        c.slice
            .hints
            .as_ref()
            .and_then(|hints| hints.for_zones.clone())
            .unwrap_or_default()
    };
    if candidates.is_empty() || candidates.iter().any(|c| zones(c).is_empty()) {
        return;
    }
    let Some(zone) = reader.zone(node) else { return };
    let is_ours = |c: &Candidate<'_>| zones(c).iter().any(|z| z.name == zone);
    if candidates.iter().any(is_ours) {
        candidates.retain(is_ours);
    }
}

/// Keeps only the endpoints on the client's node, if the Service's internal traffic policy is local.
fn keep_node(service: &Service, candidates: &mut Vec<Candidate<'_>>, node: &str, reader: &Reader<'_>) {
    let policy = service
        .spec
        .as_ref()
        .and_then(|spec| spec.internal_traffic_policy.as_deref());
    if policy != Some("Local") {
        return;
    }
    let known = !node.is_empty() && reader.object(destination_k8s::Kind::Node, "", node).is_some();
    candidates.retain(|c| known && c.pod.is_some_and(|pod| pod.node() == Some(node)));
}

impl<'a> Candidate<'a> {
    fn endpoint(&self, reader: &Reader<'a>, client_zone: Option<&str>) -> Endpoint {
        let mut labels;
        let mut endpoint = match self.pod {
            Some(pod) => {
                labels = pod.metric_labels(reader);
                labels.insert("zone".to_owned(), self.slice.zone.clone().unwrap_or_default());
                pod_endpoint(reader, pod, self.addr, self.addr.port())
            }
            None => {
                labels = BTreeMap::new();
                Endpoint::bare(self.addr)
            }
        };
        let zone = self.pod.and(self.slice.zone.as_deref());
        let locality = match (client_zone, zone) {
            (Some(client), Some(own)) if client == own => "local",
            (Some(_), Some(_)) => "remote",
            _ => "unknown",
        };
        labels.insert("zone_locality".to_owned(), locality.to_owned());
        endpoint.labels = Arc::new(labels);
        endpoint
    }
}

/// Builds the endpoint of a pod, without labels. `port` is the application's, even behind a port of the host.
pub(crate) fn pod_endpoint<'a>(reader: &Reader<'a>, pod: IndexedPod<'a>, addr: SocketAddr, port: u16) -> Endpoint {
    let bare = Endpoint::bare(addr);
    if !pod.is_meshed(reader) || pod.skips(reader, port) {
        return bare;
    }
    let identity = reader.config.identity(pod.namespace(), pod.service_account());
    let Ok(identity) = TlsIdentity::dns(&identity) else {
        return bare;
    };
    let inbound = NonZeroU16::new(pod.inbound_port()).filter(|_| !pod.is_sidecar_port(port));
    Endpoint {
        identity: Some(identity),
        hint: if pod.is_opaque(reader, port) {
            Hint::Opaque
        } else {
            Hint::Http2
        },
        opaque_transport_port: inbound,
        http2: reader.config.meshed_http2.clone(),
        ..bare
    }
}

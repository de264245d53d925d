//! What a pod is to the mesh: meshed or not, who it is, which of its ports are opaque or skipped.

use std::{collections::BTreeMap, net::IpAddr};

use destination_k8s::{
    keys,
    policy::{PortRef, ProxyProtocol},
    selector,
};
use k8s_openapi::{
    api::core::v1::{Container, Pod},
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta},
};
use proxy_model::{env, ports};

use crate::{reader::Reader, store};

/// A pod, with what the cluster says about it.
#[derive(Copy, Clone, Debug)]
pub(crate) struct PodView<'a> {
    pub pod: &'a Pod,
    pub ns: &'a str,
    pub name: &'a str,
}

/// All containers that run: the ordinary ones, and init containers that stay (native sidecars).
pub(crate) fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    let spec = pod.spec.iter();
    let init = spec.clone().flat_map(|spec| spec.init_containers.iter().flatten());
    let staying = init.filter(|c| c.restart_policy.as_deref() == Some("Always"));
    spec.flat_map(|spec| &spec.containers).chain(staying)
}

impl<'a> PodView<'a> {
    pub(crate) fn new(pod: &'a Pod) -> Self {
        let meta = &pod.metadata;
        Self {
            pod,
            ns: meta.namespace.as_deref().unwrap_or_default(),
            name: meta.name.as_deref().unwrap_or_default(),
        }
    }

    pub(crate) fn labels(self) -> Option<&'a BTreeMap<String, String>> {
        self.pod.metadata.labels.as_ref()
    }

    fn label(self, key: &str) -> Option<&'a str> {
        self.labels()?.get(key).map(String::as_str)
    }

    /// An annotation of the pod, or of its namespace.
    pub(crate) fn annotation(self, reader: &Reader<'a>, key: &str) -> Option<&'a str> {
        let own = self
            .pod
            .metadata
            .annotations
            .as_ref()
            .and_then(|annotations| annotations.get(key));
        own.map(String::as_str)
            .or_else(|| reader.namespace_annotation(self.ns, key))
    }

    /// Whether the pod has a sidecar of this control plane.
    pub(crate) fn is_meshed(self, reader: &Reader<'_>) -> bool {
        self.label(keys::CONTROL_PLANE_NS) == Some(reader.config.control_plane_namespace.as_str())
    }

    /// Whether the pod's processes have ended.
    pub(crate) fn is_over(self) -> bool {
        let phase = self.pod.status.as_ref().and_then(|status| status.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    }

    pub(crate) fn node(self) -> Option<&'a str> {
        self.pod.spec.as_ref()?.node_name.as_deref()
    }

    pub(crate) fn service_account(self) -> &'a str {
        let spec = self.pod.spec.as_ref();
        spec.and_then(|spec| spec.service_account_name.as_deref())
            .filter(|name| !name.is_empty())
            .unwrap_or("default")
    }

    /// Containers' ports: number and name.
    pub(crate) fn ports(self) -> impl Iterator<Item = (u16, Option<&'a str>)> {
        let ports = containers(self.pod).flat_map(|c| c.ports.iter().flatten());
        ports.filter_map(|p| Some((u16::try_from(p.container_port).ok()?, p.name.as_deref())))
    }

    pub(crate) fn port_name(self, port: u16) -> Option<&'a str> {
        self.ports()
            .find(|(number, _)| *number == port)
            .and_then(|(_, name)| name)
    }

    fn sidecar_env(self, name: &str) -> Option<&'a str> {
        let spec = self.pod.spec.as_ref()?;
        let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        let sidecar = all
            .filter(|c| c.name == keys::PROXY_CONTAINER)
            .flat_map(|c| c.env.iter().flatten());
        sidecar
            .filter(|var| var.name == name)
            .find_map(|var| var.value.as_deref())
    }

    fn sidecar_port(self, name: &str, default: u16) -> u16 {
        let port = self
            .sidecar_env(name)
            .and_then(|addr| addr.rsplit(':').next())
            .and_then(|port| port.parse().ok());
        port.filter(|port| *port != 0).unwrap_or(default)
    }

    /// The port at which the sidecar takes connections for the application.
    pub(crate) fn inbound_port(self) -> u16 {
        self.sidecar_port(env::INBOUND_LISTEN_ADDR, ports::INBOUND)
    }

    /// Whether a port is the sidecar's own.
    pub(crate) fn is_sidecar_port(self, port: u16) -> bool {
        port == self.sidecar_port(env::ADMIN_LISTEN_ADDR, ports::ADMIN)
            || port == self.sidecar_port(env::CONTROL_LISTEN_ADDR, ports::TAP)
    }

    /// Whether the sidecar never sees a port.
    pub(crate) fn skips(self, reader: &Reader<'a>, port: u16) -> bool {
        let list = self.annotation(reader, keys::SKIP_INBOUND_PORTS);
        list.is_some_and(|list| crate::ports::contains(list, port, self.port_name(port)))
    }

    /// Whether a port is opaque for who connects to it: by the pod's list, else the default one, or by a Server.
    pub(crate) fn is_opaque(self, reader: &Reader<'a>, port: u16) -> bool {
        let list = self
            .annotation(reader, keys::OPAQUE_PORTS)
            .filter(|list| !list.trim().is_empty());
        let listed = match list {
            Some(list) => crate::ports::contains(list, port, self.port_name(port)),
            None => reader.config.default_opaque_ports.contains(port),
        };
        listed || self.has_opaque_server(reader, port)
    }

    fn has_opaque_server(self, reader: &Reader<'a>, port: u16) -> bool {
        reader.servers(self.ns).any(|server| {
            server.spec.proxy_protocol == ProxyProtocol::Opaque
                && self.is_server(server.spec.pod_selector.as_ref(), &server.spec.port, port)
        })
    }

    /// Whether a Server with this selector and port is for `port` of this pod.
    pub(crate) fn is_server(self, pods: Option<&LabelSelector>, server: &PortRef, port: u16) -> bool {
        let same_port = match server {
            PortRef::Number(number) => *number == port,
            PortRef::Name(name) => self.ports().any(|(number, own)| number == port && own == Some(name)),
        };
        same_port && pods.is_some_and(|pods| selector::matches(pods, self.labels()))
    }

    /// Whether a port is opaque for the pod's own sidecar, when no Server says what it is. A default opaque port counts
    /// only where the pod declares it.
    pub(crate) fn is_opaque_inbound(self, reader: &Reader<'a>, port: u16) -> bool {
        match self.annotation(reader, keys::OPAQUE_PORTS) {
            Some(list) => crate::ports::contains(list, port, self.port_name(port)),
            None => reader.config.default_opaque_ports.contains(port) && self.ports().any(|(own, _)| own == port),
        }
    }

    /// The container port behind a port of the pod's host.
    pub(crate) fn behind_host_port(self, host: IpAddr, port: u16) -> Option<u16> {
        let status = self.pod.status.as_ref()?;
        let is_host = status.host_ip.as_deref().and_then(|ip| ip.parse::<IpAddr>().ok()) == Some(host);
        let mut ports = containers(self.pod).flat_map(|c| c.ports.iter().flatten());
        let found = ports.find(|p| is_host && p.host_port == Some(i32::from(port)))?;
        u16::try_from(found.container_port).ok()
    }

    /// Whether an address is the pod's own, not its host's.
    pub(crate) fn has_ip(self, ip: IpAddr) -> bool {
        let shares = self.pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
        !shares && store::own_ips(self.pod).any(|own| own == ip)
    }

    /// Kind (lower case) and name of what made the pod, as the metrics name it.
    pub(crate) fn owner(self, reader: &Reader<'a>) -> Option<(String, String)> {
        let (kind, name) = controller(&self.pod.metadata)?;
        let above = match kind {
            "ReplicaSet" => match reader.replica_set(self.ns, name) {
                Some(set) => controller(&set.metadata),
                // Not known (yet): its name is the Deployment's, and the hash that the pod carries too.
                None => self.label(keys::POD_TEMPLATE_HASH).and_then(|hash| {
                    let deployment = name.strip_suffix(hash)?.strip_suffix('-')?;
                    Some(("Deployment", deployment))
                }),
            },
            "Job" => reader.job(self.ns, name).and_then(|job| controller(&job.metadata)),
            _ => None,
        };
        let (kind, name) = above.unwrap_or((kind, name));
        Some((kind.to_ascii_lowercase(), name.to_owned()))
    }

    /// Metric labels of the pod: who made it, who it is.
    pub(crate) fn metric_labels(self, reader: &Reader<'a>) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::new();
        labels.insert("pod".to_owned(), self.name.to_owned());
        labels.insert("serviceaccount".to_owned(), self.service_account().to_owned());
        labels.extend(self.owner(reader));
        if let Some(ns) = self.label(keys::CONTROL_PLANE_NS) {
            labels.insert("control_plane_ns".to_owned(), ns.to_owned());
        }
        if let Some(hash) = self.label(keys::POD_TEMPLATE_HASH) {
            labels.insert("pod_template_hash".to_owned(), hash.to_owned());
        }
        labels
    }
}

fn controller(meta: &ObjectMeta) -> Option<(&str, &str)> {
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    let owner = owners
        .iter()
        .find(|owner| owner.controller == Some(true))
        .or(owners.first())?;
    Some((owner.kind.as_str(), owner.name.as_str()))
}

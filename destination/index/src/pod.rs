//! Pods in the mesh: meshed or not, opaque and skipped ports, owner and metric labels.

use std::{collections::BTreeMap, net::IpAddr, ops::Deref};

use crate::reader::Reader;
use destination_k8s::{
    PodView, keys, pod,
    policy::{PortRef, ProxyProtocol},
    selector,
};
use k8s_openapi::{
    api::core::v1::Pod,
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta},
};

/// A pod as the index sees it: the object, and the rest of the cluster through a [`Reader`].
#[derive(Copy, Clone, Debug)]
pub(crate) struct IndexedPod<'a> {
    view: PodView<'a>,
}

impl<'a> Deref for IndexedPod<'a> {
    type Target = PodView<'a>;

    fn deref(&self) -> &PodView<'a> {
        &self.view
    }
}

impl<'a> IndexedPod<'a> {
    pub(crate) fn new(pod: &'a Pod) -> Self {
        Self {
            view: PodView::new(pod),
        }
    }

    /// Returns an annotation of the pod, or of its namespace.
    pub(crate) fn annotation(self, reader: &Reader<'a>, key: &str) -> Option<&'a str> {
        let own = self.view.annotation(key);
        own.or_else(|| reader.namespace_annotation(self.namespace(), key))
    }

    /// Returns true if the pod is meshed by this control plane.
    pub(crate) fn is_meshed(self, reader: &Reader<'_>) -> bool {
        self.is_meshed_by(&reader.config.control_plane_namespace)
    }

    pub(crate) fn port_name(self, port: u16) -> Option<&'a str> {
        self.ports()
            .find(|(number, _)| *number == port)
            .and_then(|(_, name)| name)
    }

    /// Returns true if a port is the sidecar's own.
    pub(crate) fn is_sidecar_port(self, port: u16) -> bool {
        port == self.admin_port() || port == self.tap_port()
    }

    /// Returns true if a port bypasses the sidecar.
    pub(crate) fn skips(self, reader: &Reader<'a>, port: u16) -> bool {
        let list = self.annotation(reader, keys::SKIP_INBOUND_PORTS);
        list.is_some_and(|list| crate::ports::contains(list, port, self.port_name(port)))
    }

    /// Returns true if a port is opaque for clients: by the pod's list, else the default one, or by a Server.
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
        reader.servers(self.namespace()).any(|server| {
            server.spec.proxy_protocol == ProxyProtocol::Opaque
                && self.is_server(server.spec.pod_selector.as_ref(), &server.spec.port, port)
        })
    }

    /// Returns true if a Server with this selector and port is for `port` of this pod.
    pub(crate) fn is_server(self, pods: Option<&LabelSelector>, server: &PortRef, port: u16) -> bool {
        let same_port = match server {
            PortRef::Number(number) => *number == port,
            PortRef::Name(name) => self.ports().any(|(number, own)| number == port && own == Some(name)),
        };
        same_port && pods.is_some_and(|pods| selector::matches(pods, self.labels()))
    }

    /// Returns true if a port without a Server is opaque for the pod's own sidecar. A default opaque port counts only
    /// if the pod declares it.
    pub(crate) fn is_opaque_inbound(self, reader: &Reader<'a>, port: u16) -> bool {
        match self.annotation(reader, keys::OPAQUE_PORTS) {
            Some(list) => crate::ports::contains(list, port, self.port_name(port)),
            None => reader.config.default_opaque_ports.contains(port) && self.ports().any(|(own, _)| own == port),
        }
    }

    /// Returns the container port behind a port of the pod's host.
    pub(crate) fn behind_host_port(self, host: IpAddr, port: u16) -> Option<u16> {
        let status = self.object().status.as_ref()?;
        let is_host = status.host_ip.as_deref().and_then(|ip| ip.parse::<IpAddr>().ok()) == Some(host);
        let mut ports = self.containers().flat_map(|c| c.ports.iter().flatten());
        let found = ports.find(|p| is_host && p.host_port == Some(i32::from(port)))?;
        u16::try_from(found.container_port).ok()
    }

    /// Returns true if an address is the pod's own, not its host's.
    pub(crate) fn has_ip(self, ip: IpAddr) -> bool {
        !self.has_host_network() && self.ips().any(|own| own == ip)
    }

    /// Returns kind (lower case) and name of the pod's workload, as in metrics.
    pub(crate) fn workload(self, reader: &Reader<'a>) -> Option<(String, String)> {
        let (kind, name) = controller(&self.object().metadata)?;
        let above = match kind {
            "ReplicaSet" => match reader.replica_set(self.namespace(), name) {
                Some(set) => controller(&set.metadata),
                // Not known (yet): its name is the Deployment's with the hash that labels the pod.
                None => self.label(keys::POD_TEMPLATE_HASH).and_then(|hash| {
                    let deployment = name.strip_suffix(hash)?.strip_suffix('-')?;
                    Some(("Deployment", deployment))
                }),
            },
            "Job" => reader
                .job(self.namespace(), name)
                .and_then(|job| controller(&job.metadata)),
            _ => None,
        };
        let (kind, name) = above.unwrap_or((kind, name));
        Some((kind.to_ascii_lowercase(), name.to_owned()))
    }

    /// Returns the pod's metric labels: workload and identity.
    pub(crate) fn metric_labels(self, reader: &Reader<'a>) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::new();
        labels.insert("pod".to_owned(), self.name().to_owned());
        labels.insert("serviceaccount".to_owned(), self.service_account().to_owned());
        labels.extend(self.workload(reader));
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
    let owner = pod::owner(meta)?;
    Some((owner.kind.as_str(), owner.name.as_str()))
}

//! A pod or pod template inside any object that holds one. Read as JSON, because unknown fields must pass through
//! unchanged.

use std::collections::{BTreeMap, BTreeSet};

use destination_k8s::keys;
use proxy_model::ports::PortSet;
use serde_json::Value;

/// Names of sidecars and their init containers, the mesh's own and Istio's.
const SIDECARS: [&str; 2] = [keys::PROXY_CONTAINER, "istio-proxy"];
const SIDECAR_IMAGES: [&str; 2] = ["cr.l5d.io/linkerd/proxy:", "gcr.io/istio-release/proxyv2:"];
const INITS: [&str; 2] = ["linkerd-init", "istio-init"];
const INIT_IMAGES: [&str; 2] = ["cr.l5d.io/linkerd/proxy-init:", "gcr.io/istio-release/proxy_init:"];

/// Returns the path of the pod template in objects of a kind; none for kinds without one.
pub fn template_path(kind: &str) -> Option<&'static [&'static str]> {
    match kind {
        "Pod" => Some(&[]),
        "Deployment" | "ReplicaSet" | "ReplicationController" | "StatefulSet" | "DaemonSet" | "Job" => {
            Some(&["spec", "template"])
        }
        "CronJob" => Some(&["spec", "jobTemplate", "spec", "template"]),
        _ => None,
    }
}

/// Returns the pod at a path of an object.
pub fn template<'a>(object: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter()
        .try_fold(object, |value, key| value.get(key))
        .filter(|pod| pod.is_object())
}

/// Pod or pod template.
#[derive(Copy, Clone, Debug)]
pub struct Pod<'a>(pub &'a Value);

impl<'a> Pod<'a> {
    /// Returns the metadata.
    pub fn metadata(self) -> Option<&'a Value> {
        self.0.get("metadata")
    }

    pub(crate) fn label(self, key: &str) -> Option<&'a str> {
        self.metadata()?.get("labels")?.get(key)?.as_str()
    }

    /// Returns the spec.
    pub fn spec(self) -> Option<&'a Value> {
        self.0.get("spec").filter(|spec| spec.is_object())
    }

    fn list(self, key: &str) -> &'a [Value] {
        self.spec()
            .and_then(|spec| spec.get(key)?.as_array())
            .map_or(&[], Vec::as_slice)
    }

    /// Returns the containers.
    pub fn containers(self) -> &'a [Value] {
        self.list("containers")
    }

    pub(crate) fn init_containers(self) -> &'a [Value] {
        self.list("initContainers")
    }

    pub(crate) fn uses_host_network(self) -> bool {
        self.flag("hostNetwork") == Some(true)
    }

    pub(crate) fn mounts_no_token(self) -> bool {
        self.flag("automountServiceAccountToken") == Some(false)
    }

    fn flag(self, key: &str) -> Option<bool> {
        self.spec()?.get(key)?.as_bool()
    }

    /// Returns true if the pod has a sidecar of this or another mesh.
    pub(crate) fn has_sidecar(self) -> bool {
        let text = |container: &'a Value, key: &str| container.get(key).and_then(Value::as_str).unwrap_or_default();
        let is = |container: &'a Value, names: &[&str], images: &[&str]| {
            names.contains(&text(container, "name"))
                || images.iter().any(|image| text(container, "image").starts_with(image))
        };
        let sidecar = |container| is(container, &SIDECARS, &SIDECAR_IMAGES);
        self.containers().iter().any(sidecar)
            || self
                .init_containers()
                .iter()
                .any(|c| sidecar(c) || is(c, &INITS, &INIT_IMAGES))
    }

    pub(crate) fn uses_udp(self) -> bool {
        let ports = self
            .containers()
            .iter()
            .filter_map(|c| c.get("ports")?.as_array())
            .flatten();
        let mut protocols = ports.filter_map(|port| port.get("protocol")?.as_str());
        protocols.any(|protocol| protocol == "UDP")
    }

    /// Returns the mount of the API server's token, for installations that project none.
    pub fn token_mount(self) -> Option<&'a Value> {
        let mounts = self
            .containers()
            .iter()
            .filter_map(|c| c.get("volumeMounts")?.as_array())
            .flatten();
        let mut mounts = mounts.into_iter();
        let path = "/var/run/secrets/kubernetes.io/serviceaccount";
        mounts.find(|mount| mount.get("mountPath").and_then(Value::as_str) == Some(path))
    }
}

/// Control plane component that a pod belongs to, by its label. A component reaches itself on loopback and references
/// the ConfigMap of the trust anchors, so that it follows their rotation.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Component {
    /// An ordinary pod.
    #[default]
    None,
    /// linkerd-destination.
    Destination,
    /// linkerd-identity.
    Identity,
    /// Another component.
    Other,
}

/// Facts about a pod that its sidecar depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodFacts {
    component: Component,
    /// TCP ports of containers.
    declared: BTreeSet<u16>,
    /// Ports of HTTP probes.
    probed: BTreeSet<u16>,
    names: BTreeMap<String, u16>,
}

impl PodFacts {
    /// Reads a pod or pod template.
    pub fn new(pod: Pod<'_>) -> Self {
        let mut found = Self {
            component: match pod.label(keys::CONTROL_PLANE_COMPONENT) {
                None => Component::None,
                Some("destination" | "linkerd-destination") => Component::Destination,
                Some("identity" | "linkerd-identity") => Component::Identity,
                Some(_) => Component::Other,
            },
            ..Self::default()
        };
        let native = |container: &&Value| container.get("restartPolicy").and_then(Value::as_str) == Some("Always");
        for container in pod
            .containers()
            .iter()
            .chain(pod.init_containers().iter().filter(native))
        {
            for port in container.get("ports").and_then(Value::as_array).into_iter().flatten() {
                found.declare(port);
            }
            for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
                let port = container
                    .get(probe)
                    .and_then(|probe| probe.get("httpGet")?.get("port")?.as_u64());
                found.probed.extend(port.and_then(|port| u16::try_from(port).ok()));
            }
        }
        found
    }

    fn declare(&mut self, port: &Value) {
        let protocol = port.get("protocol").and_then(Value::as_str).unwrap_or("TCP");
        let number = port.get("containerPort").and_then(Value::as_u64);
        let Some(number) = number
            .and_then(|number| u16::try_from(number).ok())
            .filter(|_| protocol == "TCP")
        else {
            return;
        };
        self.declared.insert(number);
        if let Some(name) = port.get("name").and_then(Value::as_str) {
            self.names.entry(name.to_owned()).or_insert(number);
        }
    }

    /// Returns the control plane component.
    pub fn component(&self) -> Component {
        self.component
    }

    pub(crate) fn named(&self, name: &str) -> Option<u16> {
        self.names.get(name).copied()
    }

    /// Declared and probed ports, in Linkerd's order: sorted as text.
    pub(crate) fn inbound_ports(&self) -> PortSet {
        let mut all: Vec<_> = self.declared.union(&self.probed).copied().collect();
        all.sort_unstable_by_key(u16::to_string);
        all.into_iter().collect()
    }

    /// Returns those of `ports` that containers declare.
    pub fn declared_in(&self, ports: &PortSet) -> String {
        let found: Vec<_> = self
            .declared
            .iter()
            .filter(|port| ports.contains(**port))
            .map(u16::to_string)
            .collect();
        found.join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redirection::port_list;

    #[test]
    fn inbound_ports_are_tcp_and_probe_ports() {
        let pod = serde_json::json!({"spec": {
            "initContainers": [{"name": "i", "ports": [{"containerPort": 1}]},
                {"name": "s", "restartPolicy": "Always", "ports": [{"containerPort": 2}]}],
            "containers": [{"name": "c", "ports": [{"containerPort": 9090, "name": "http"},
                {"containerPort": 53, "protocol": "UDP"}, {"containerPort": 10000}],
                "readinessProbe": {"httpGet": {"port": 8081}}, "livenessProbe": {"httpGet": {"port": "http"}}}]}});
        let ports = PodFacts::new(Pod(&pod));
        assert_eq!(port_list(&ports.inbound_ports()), "10000,2,8081,9090");
        assert_eq!(ports.named("http"), Some(9090));
        assert_eq!(ports.declared_in(&"9090,8081".parse().expect("ports")), "9090");
        assert!(Pod(&pod).uses_udp());
    }

    #[test]
    fn recognizes_sidecars_by_name_or_image() {
        let with = |key: &str, container: Value| {
            let pod = serde_json::json!({"spec": {key: [container]}});
            Pod(&pod).has_sidecar()
        };
        assert!(with("containers", serde_json::json!({"name": "linkerd-proxy"})));
        assert!(with("initContainers", serde_json::json!({"name": "linkerd-proxy"})));
        assert!(with("initContainers", serde_json::json!({"name": "istio-init"})));
        assert!(with(
            "containers",
            serde_json::json!({"name": "x", "image": "cr.l5d.io/linkerd/proxy:edge"})
        ));
        assert!(!with("containers", serde_json::json!({"name": "linkerd-init"})));
    }
}

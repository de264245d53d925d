//! Read-only view of a pod: its sidecar, its state, its owner.
//!
//! The one definition of "the sidecar's container", "ready", "finished" and "meshed". A pod that is at hand as JSON is
//! read with `Pod::deserialize(&value)` first.

use std::{collections::BTreeMap, net::IpAddr};

use k8s_openapi::{
    api::core::v1::{Container, ContainerStatus, Pod},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use proxy_model::{env, ports};

use crate::keys;

/// Name of the sidecar's admin port, as the injector declares it.
const ADMIN_PORT_NAME: &str = "linkerd-admin";

/// View of one pod.
#[derive(Copy, Clone, Debug)]
pub struct PodView<'a> {
    pod: &'a Pod,
}

impl<'a> PodView<'a> {
    /// Views a pod.
    pub fn new(pod: &'a Pod) -> Self {
        Self { pod }
    }

    /// Returns the pod itself.
    pub fn object(self) -> &'a Pod {
        self.pod
    }

    /// Returns the name; empty if there is none yet.
    pub fn name(self) -> &'a str {
        self.pod.metadata.name.as_deref().unwrap_or_default()
    }

    /// Returns the namespace; empty if there is none.
    pub fn namespace(self) -> &'a str {
        self.pod.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// Returns the labels.
    pub fn labels(self) -> Option<&'a BTreeMap<String, String>> {
        self.pod.metadata.labels.as_ref()
    }

    /// Returns the value of a label.
    pub fn label(self, key: &str) -> Option<&'a str> {
        self.labels()?.get(key).map(String::as_str)
    }

    /// Returns the value of an annotation of the pod itself.
    pub fn annotation(self, key: &str) -> Option<&'a str> {
        let annotations = self.pod.metadata.annotations.as_ref()?;
        annotations.get(key).map(String::as_str)
    }

    /// Returns the service account; `default` unless the pod names one.
    pub fn service_account(self) -> &'a str {
        let spec = self.pod.spec.as_ref();
        spec.and_then(|spec| spec.service_account_name.as_deref())
            .filter(|name| !name.is_empty())
            .unwrap_or("default")
    }

    /// Returns the name of the node.
    pub fn node(self) -> Option<&'a str> {
        self.pod.spec.as_ref()?.node_name.as_deref()
    }

    /// Returns the containers that keep running: the ordinary ones, and init containers that restart (native sidecars).
    pub fn containers(self) -> impl Iterator<Item = &'a Container> {
        let spec = self.pod.spec.iter();
        let init = spec.clone().flat_map(|spec| spec.init_containers.iter().flatten());
        let native = init.filter(|container| container.restart_policy.as_deref() == Some("Always"));
        spec.flat_map(|spec| &spec.containers).chain(native)
    }

    /// Returns number and name of each declared container port.
    pub fn ports(self) -> impl Iterator<Item = (u16, Option<&'a str>)> {
        let ports = self.containers().flat_map(|container| container.ports.iter().flatten());
        ports.filter_map(|port| Some((u16::try_from(port.container_port).ok()?, port.name.as_deref())))
    }

    /// Returns the sidecar's container, an ordinary one or a native sidecar.
    pub fn sidecar(self) -> Option<&'a Container> {
        self.containers()
            .find(|container| container.name == keys::PROXY_CONTAINER)
    }

    /// Returns a variable of the sidecar's environment that is set to a literal value.
    pub fn sidecar_env(self, name: &str) -> Option<&'a str> {
        let mut variables = self.sidecar()?.env.iter().flatten();
        variables.find(|variable| variable.name == name)?.value.as_deref()
    }

    /// Returns the port of one of the sidecar's listeners, if the environment sets it: that of `name`, or the first of
    /// its plural (`…_LISTEN_ADDRS`).
    pub fn listen_port(self, name: &str) -> Option<u16> {
        let addrs = self
            .sidecar_env(name)
            .or_else(|| self.sidecar_env(&format!("{name}S")))?;
        let (_, port) = addrs.split(',').next()?.rsplit_once(':')?;
        port.parse().ok().filter(|port| *port != 0)
    }

    /// Returns the port at which the sidecar accepts connections for the application.
    pub fn inbound_port(self) -> u16 {
        self.listen_port(env::INBOUND_LISTEN_ADDR).unwrap_or(ports::INBOUND)
    }

    /// Returns the sidecar's admin port: that of its environment, else the declared one, else the default.
    pub fn admin_port(self) -> u16 {
        let declared = || {
            let mut ports = self.sidecar()?.ports.iter().flatten();
            let port = ports.find(|port| port.name.as_deref() == Some(ADMIN_PORT_NAME))?;
            u16::try_from(port.container_port).ok()
        };
        self.listen_port(env::ADMIN_LISTEN_ADDR)
            .or_else(declared)
            .unwrap_or(ports::ADMIN)
    }

    /// Returns the sidecar's tap port. Whether tap is enabled there is another question.
    pub fn tap_port(self) -> u16 {
        self.listen_port(env::CONTROL_LISTEN_ADDR).unwrap_or(ports::TAP)
    }

    /// Returns true if the sidecar belongs to the control plane of `namespace`.
    pub fn is_meshed_by(self, namespace: &str) -> bool {
        self.label(keys::CONTROL_PLANE_NS) == Some(namespace)
    }

    /// Returns true if the pod's condition `Ready` holds. A pod that is being deleted may still be ready.
    pub fn is_ready(self) -> bool {
        let conditions = self
            .pod
            .status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten());
        let mut ready = conditions.filter(|condition| condition.type_ == "Ready");
        ready.any(|condition| condition.status == "True")
    }

    /// Returns the status of the sidecar's container.
    pub fn sidecar_status(self) -> Option<&'a ContainerStatus> {
        let status = self.pod.status.as_ref()?;
        let ordinary = status.container_statuses.iter().flatten();
        let mut all = ordinary.chain(status.init_container_statuses.iter().flatten());
        all.find(|status| status.name == keys::PROXY_CONTAINER)
    }

    /// Returns true if the sidecar's container is ready.
    pub fn is_sidecar_ready(self) -> bool {
        self.sidecar_status().is_some_and(|status| status.ready)
    }

    /// Returns the phase, as Kubernetes names it.
    pub fn phase(self) -> Option<&'a str> {
        self.pod.status.as_ref()?.phase.as_deref()
    }

    /// Returns true if all containers have ended for good.
    pub fn is_finished(self) -> bool {
        matches!(self.phase(), Some("Succeeded" | "Failed"))
    }

    /// Returns true if the pod is being deleted.
    pub fn is_terminating(self) -> bool {
        self.pod.metadata.deletion_timestamp.is_some()
    }

    /// Returns true if the pod shares its node's network.
    pub fn has_host_network(self) -> bool {
        self.pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true)
    }

    /// Returns the addresses in the pod's status.
    pub fn ips(self) -> impl Iterator<Item = IpAddr> {
        let status = self.pod.status.iter();
        let many = status.clone().flat_map(|status| status.pod_ips.iter().flatten());
        let many = many.map(|ip| &ip.ip);
        many.chain(status.flat_map(|status| &status.pod_ip))
            .filter_map(|ip| ip.parse().ok())
    }

    /// Returns the direct owner: the controller, else the first owner.
    pub fn owner(self) -> Option<&'a OwnerReference> {
        owner(&self.pod.metadata)
    }
}

/// Returns the direct owner of any object: its controller, else its first owner.
pub fn owner(meta: &ObjectMeta) -> Option<&OwnerReference> {
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    let controller = owners.iter().find(|owner| owner.controller == Some(true));
    controller.or(owners.first())
}

#[cfg(test)]
mod tests {
    use serde::Deserialize as _;
    use serde_json::{Value, json};

    use super::*;

    fn pod(value: &Value) -> Pod {
        Pod::deserialize(value).expect("it is a pod")
    }

    #[test]
    fn finds_ordinary_and_native_sidecars_only() {
        let ordinary = pod(&json!({"spec": {"containers": [{"name": "app"}, {"name": "linkerd-proxy"}]}}));
        assert!(PodView::new(&ordinary).sidecar().is_some());
        let native = json!({"spec": {"containers": [{"name": "app"}],
            "initContainers": [{"name": "linkerd-proxy", "restartPolicy": "Always"}]}});
        assert!(PodView::new(&pod(&native)).sidecar().is_some());
        let once = json!({"spec": {"containers": [{"name": "app"}], "initContainers": [{"name": "linkerd-proxy"}]}});
        assert!(PodView::new(&pod(&once)).sidecar().is_none());
    }

    #[test]
    fn admin_port_prefers_environment_over_declared_port() {
        let with = |proxy: Value| {
            let mut proxy = proxy;
            proxy["name"] = json!("linkerd-proxy");
            PodView::new(&pod(&json!({"spec": {"containers": [proxy]}}))).admin_port()
        };
        let declared = json!([{"name": "linkerd-admin", "containerPort": 5191}]);
        let env = json!([{"name": "LINKERD2_PROXY_ADMIN_LISTEN_ADDR", "value": "[::]:6191"}]);
        assert_eq!(with(json!({})), 4191);
        assert_eq!(with(json!({"ports": declared})), 5191);
        assert_eq!(with(json!({"ports": declared, "env": env})), 6191);
    }

    #[test]
    fn listen_port_reads_the_plural_variable() {
        let env = json!([{"name": "LINKERD2_PROXY_INBOUND_LISTEN_ADDRS", "value": "0.0.0.0:5143,[::]:5143"}]);
        let pod = pod(&json!({"spec": {"containers": [{"name": "linkerd-proxy", "env": env}]}}));
        assert_eq!(PodView::new(&pod).inbound_port(), 5143);
    }

    #[test]
    fn state_follows_conditions_phase_and_deletion() {
        let mut value = json!({"metadata": {"labels": {"linkerd.io/control-plane-ns": "linkerd"}},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
                "initContainerStatuses": [{"name": "linkerd-proxy", "ready": true, "restartCount": 0, "image": "", "imageID": ""}]}});
        let running = pod(&value);
        let view = PodView::new(&running);
        assert!(view.is_ready() && view.is_sidecar_ready() && !view.is_finished() && !view.is_terminating());
        assert!(view.is_meshed_by("linkerd") && !view.is_meshed_by("other"));
        value["status"]["phase"] = json!("Succeeded");
        value["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        let ended = pod(&value);
        assert!(PodView::new(&ended).is_finished() && PodView::new(&ended).is_terminating());
    }

    #[test]
    fn owner_is_the_controller() {
        let owner = |name: &str, controller: bool| json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "uid": "", "controller": controller});
        let pod = pod(&json!({"metadata": {"ownerReferences": [owner("a", false), owner("b", true)]}}));
        assert_eq!(PodView::new(&pod).owner().map(|owner| owner.name.as_str()), Some("b"));
    }
}

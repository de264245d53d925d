//! Objects of the scripted cluster, and a change for each kind of stream.

use serde_json::{Value, json};

/// Namespace of all objects.
pub const NAMESPACE: &str = "bench";
/// Nodes of clients.
const NODES: usize = 10;
/// Pods with watched inbound policies.
pub const PODS: usize = 50;

/// Kind of stream.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `Destination.Get`.
    Endpoints,
    /// `Destination.GetProfile`.
    Profile,
    /// `OutboundPolicies.Watch`.
    Outbound,
    /// `InboundServerPolicies.WatchPort`.
    Inbound,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Endpoints, Self::Profile, Self::Outbound, Self::Inbound];

    /// Service and method.
    pub fn name(self) -> &'static str {
        match self {
            Self::Endpoints => "Destination.Get",
            Self::Profile => "Destination.GetProfile",
            Self::Outbound => "OutboundPolicies.Watch",
            Self::Inbound => "InboundServerPolicies.WatchPort",
        }
    }

    /// Change that every stream of this kind gets; consecutive ones differ.
    pub fn change(self, turn: usize, endpoints: usize) -> (&'static str, Value) {
        let even = turn.is_multiple_of(2);
        match self {
            Self::Endpoints => (SLICES, slice(if even { endpoints - 1 } else { endpoints })),
            Self::Profile => (SPLITS, split(if even { 10 } else { 20 })),
            Self::Outbound => (ROUTES, route(if even { 10 } else { 20 })),
            Self::Inbound => (NAMESPACES, namespace(if even { "all-authenticated" } else { "deny" })),
        }
    }
}

const NAMESPACES: &str = "/api/v1/namespaces";
const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";
const SPLITS: &str = "/apis/split.smi-spec.io/v1alpha2/trafficsplits";
const ROUTES: &str = "/apis/policy.linkerd.io/v1beta3/httproutes";

/// Token of a client.
pub fn token(stream: usize) -> String {
    let node = stream % NODES;
    format!(r#"{{"ns":"{NAMESPACE}","nodeName":"node-{node}","pod":"client-{stream}"}}"#)
}

/// Objects by the path of their list.
pub fn all(endpoints: usize) -> Vec<(&'static str, Vec<Value>)> {
    let zone = json!({"topology.kubernetes.io/zone": "zone-a"});
    let node = |n: usize| json!({"metadata": {"name": format!("node-{n}"), "labels": zone}});
    let services = ["web", "web-1", "web-2"].iter().enumerate();
    vec![
        (NAMESPACES, vec![namespace("all-unauthenticated")]),
        ("/api/v1/nodes", (0..NODES).map(node).collect()),
        ("/apis/apps/v1/replicasets", vec![]),
        ("/apis/batch/v1/jobs", vec![]),
        ("/api/v1/pods", (0..endpoints.max(PODS)).map(pod).collect()),
        (
            "/api/v1/services",
            services.map(|(n, name)| service(name, n + 1)).collect(),
        ),
        (SLICES, vec![slice(endpoints)]),
        (SPLITS, vec![split(20)]),
        (ROUTES, vec![route(20)]),
    ]
}

fn namespace(policy: &str) -> Value {
    json!({"metadata": {"name": NAMESPACE, "annotations": {"config.linkerd.io/default-inbound-policy": policy}}})
}

fn ip(n: usize) -> String {
    format!("10.1.{}.{}", n / 250, n % 250 + 1)
}

fn pod(n: usize) -> Value {
    let labels = json!({"app": "web", "linkerd.io/control-plane-ns": "linkerd", "pod-template-hash": "6b9c7"});
    let owner =
        json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-6b9c7", "uid": "u", "controller": true}]);
    json!({
        "metadata": {"name": format!("web-{n}"), "namespace": NAMESPACE, "labels": labels, "ownerReferences": owner},
        "spec": {"serviceAccountName": "web", "nodeName": format!("node-{}", n % NODES),
            "containers": [{"name": "app", "ports": [{"containerPort": 8080}]}]},
        "status": {"phase": "Running", "podIP": ip(n), "podIPs": [{"ip": ip(n)}], "hostIP": "10.0.0.1",
            "conditions": [{"type": "Ready", "status": "True"}]},
    })
}

fn service(name: &str, n: usize) -> Value {
    json!({"metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"clusterIP": format!("10.9.0.{n}"), "ports": [{"port": 80, "targetPort": 8080}]}})
}

fn slice(endpoints: usize) -> Value {
    let endpoint = |n: usize| {
        json!({"addresses": [ip(n)], "conditions": {"ready": true}, "zone": "zone-a",
            "nodeName": format!("node-{}", n % NODES),
            "targetRef": {"kind": "Pod", "name": format!("web-{n}"), "namespace": NAMESPACE}})
    };
    json!({"addressType": "IPv4", "ports": [{"port": 8080, "protocol": "TCP"}],
        "metadata": {"name": "web-s", "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": "web"}},
        "endpoints": (0..endpoints).map(endpoint).collect::<Vec<_>>()})
}

fn split(weight: u32) -> Value {
    json!({"metadata": {"name": "web", "namespace": NAMESPACE}, "spec": {"service": "web", "backends": [
        {"service": "web-1", "weight": 100 - weight}, {"service": "web-2", "weight": weight}]}})
}

fn route(weight: u32) -> Value {
    json!({"metadata": {"name": "web", "namespace": NAMESPACE}, "spec": {
        "parentRefs": [{"group": "core", "kind": "Service", "name": "web", "port": 80}],
        "rules": [{"backendRefs": [{"name": "web-1", "port": 80, "weight": 100 - weight},
            {"name": "web-2", "port": 80, "weight": weight}]}]}})
}

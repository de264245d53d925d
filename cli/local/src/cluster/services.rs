//! The parts of kube-proxy and the endpoint controller: addresses of Services, endpoints, translation rules, hosts
//! files. Pure; the random choice between endpoints is the kernel's.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::{Ipv4Addr, SocketAddrV4},
};

use destination_k8s::{keys, selector};
use injector_redirect::nft::{AddressSet, Chain, Expr, Hook, Kind, Table};
use k8s_openapi::{
    api::core::v1::{PodSpec, Service, ServicePort},
    apimachinery::pkg::util::intstr::IntOrString,
};
use serde_json::{Value, json};

use crate::plan::names::{HOST, NODE, POD_NET, SERVICE_NET, uid};

/// A pod from the view of a Service.
#[derive(Clone, Debug)]
pub(crate) struct Backend<'a> {
    pub(crate) name: &'a str,
    pub(crate) address: Ipv4Addr,
    pub(crate) ready: bool,
    pub(crate) terminating: bool,
    /// Spec, for named ports.
    pub(crate) spec: &'a PodSpec,
}

impl Backend<'_> {
    fn takes_traffic(&self) -> bool {
        self.ready && !self.terminating
    }

    fn port(&self, port: &ServicePort) -> Option<u16> {
        match &port.target_port {
            None => u16::try_from(port.port).ok(),
            Some(IntOrString::Int(number)) => u16::try_from(*number).ok().filter(|number| *number != 0),
            Some(IntOrString::String(name)) => {
                let mut ports = self
                    .spec
                    .containers
                    .iter()
                    .flat_map(|container| container.ports.iter().flatten());
                let found = ports.find(|port| port.name.as_ref() == Some(name))?;
                u16::try_from(found.container_port).ok()
            }
        }
    }
}

/// A Service with its address and pods.
pub(crate) struct ServiceView<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    pub(crate) service: &'a Service,
    pub(crate) cluster_ip: Option<Ipv4Addr>,
    /// Selected pods.
    pub(crate) backends: Vec<Backend<'a>>,
}

impl<'a> ServiceView<'a> {
    fn ports(&self) -> impl Iterator<Item = &'a ServicePort> {
        self.service.spec.iter().flat_map(|spec| spec.ports.iter().flatten())
    }
}

/// Returns true if a Service selects a pod of its namespace.
pub(crate) fn selects(service: &Service, labels: &BTreeMap<String, String>) -> bool {
    let wanted = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector::selects(wanted, Some(labels))
}

/// EndpointSlices of a Service: one for each set of port numbers of its pods. A Service without a selector gets
/// none: its endpoints are the user's.
pub(crate) fn slices(service: &ServiceView<'_>) -> Vec<Value> {
    let selected = service.service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    if selected.is_none_or(BTreeMap::is_empty) {
        return Vec::new();
    }
    let mut groups: BTreeMap<Vec<u16>, Vec<Value>> = BTreeMap::new();
    for pod in &service.backends {
        // 0 stands for a port name that this pod does not have: omitted from its slice.
        let numbers = service.ports().map(|port| pod.port(port).unwrap_or(0)).collect();
        groups.entry(numbers).or_default().push(json!({
            "addresses": [pod.address],
            "conditions": {
                "ready": pod.takes_traffic(), "serving": pod.ready, "terminating": pod.terminating,
            },
            "nodeName": NODE,
            "targetRef": { "kind": "Pod", "namespace": service.namespace, "name": pod.name },
        }));
    }
    if groups.is_empty() {
        groups.insert(Vec::new(), Vec::new());
    }
    let slice = |(index, (numbers, endpoints)): (usize, (Vec<u16>, Vec<Value>))| {
        let port = |(port, number): (&ServicePort, u16)| {
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            (number != 0)
                .then(|| json!({ "name": port.name.clone().unwrap_or_default(), "port": number, "protocol": protocol }))
        };
        let ports: Vec<_> = service.ports().zip(numbers).filter_map(port).collect();
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": format!("{}-{index}", service.name),
                "namespace": service.namespace,
                "labels": {
                    keys::SERVICE_NAME: service.name,
                    "endpointslice.kubernetes.io/managed-by": "mesh-local",
                },
                "ownerReferences": [{
                    "apiVersion": "v1", "kind": "Service", "name": service.name,
                    "uid": uid(service.namespace, service.name), "controller": true,
                }],
            },
            "addressType": "IPv4",
            "endpoints": endpoints,
            "ports": ports,
        })
    };
    groups.into_iter().enumerate().map(slice).collect()
}

/// Rules of the supervisor's namespace, through which the traffic of all pods passes.
pub(crate) fn table(services: &[ServiceView<'_>], pods: &BTreeSet<Ipv4Addr>) -> Table {
    let mut translate = Vec::new();
    for service in services {
        let Some(cluster_ip) = service.cluster_ip else { continue };
        for port in service.ports() {
            translate.extend(translations(service, port, cluster_ip));
        }
    }
    // Connections to a removed pod, or to a Service without endpoints, are refused at once instead of timing out.
    let net = |net: [u8; 2]| Expr::DestinationNet(Ipv4Addr::new(net[0], net[1], 0, 0), 16);
    let refuse = vec![
        vec![net(SERVICE_NET), Expr::Tcp, Expr::Reset],
        vec![net(POD_NET), Expr::DestinationNotIn(0), Expr::Tcp, Expr::Reset],
    ];
    let hairpin = |pod: &Ipv4Addr| vec![Expr::Source(*pod), Expr::Destination(*pod), Expr::Masquerade];
    let mut alive: Vec<_> = pods.iter().copied().collect();
    alive.push(HOST);
    let chain = |name: &str, hook, kind, rules| Chain {
        name: name.to_owned(),
        hook,
        kind,
        rules,
    };
    Table {
        name: "mesh-services".to_owned(),
        sets: vec![AddressSet {
            name: "alive".to_owned(),
            addresses: alive,
        }],
        chains: vec![
            chain("services", Hook::PreRouting, Kind::DestinationNat, translate.clone()),
            chain("own", Hook::Output, Kind::DestinationNat, translate),
            chain("refuse", Hook::PreRouting, Kind::Filter, refuse),
            // A pod that reaches itself through its Service would receive a packet from itself.
            chain(
                "hairpin",
                Hook::PostRouting,
                Kind::SourceNat,
                pods.iter().map(hairpin).collect(),
            ),
        ],
    }
}

fn translations(service: &ServiceView<'_>, port: &ServicePort, cluster_ip: Ipv4Addr) -> Vec<Vec<Expr>> {
    let protocol = match port.protocol.as_deref() {
        None | Some("TCP") => Expr::Tcp,
        Some("UDP") => Expr::Udp,
        Some(_) => return Vec::new(),
    };
    let Ok(number) = u16::try_from(port.port) else {
        return Vec::new();
    };
    let ready = service.backends.iter().filter(|pod| pod.takes_traffic());
    let targets: Vec<_> = ready
        .filter_map(|pod| Some(SocketAddrV4::new(pod.address, pod.port(port)?)))
        .collect();
    let rule = |(index, target): (usize, &SocketAddrV4)| {
        let mut rule = vec![
            Expr::Destination(cluster_ip),
            protocol.clone(),
            Expr::DestinationPort(number, number),
        ];
        // The first takes 1/n, the next 1/(n-1) of the rest, the last the remainder: equal shares.
        let left = (targets.len() - index) as u32;
        rule.extend((left > 1).then_some(Expr::OneOf(left)));
        rule.push(Expr::DestinationNat(*target));
        rule
    };
    targets.iter().enumerate().map(rule).collect()
}

/// Contents of a pod's /etc/hosts: itself, and every Service under all its names.
pub(crate) fn hosts(pod: &str, namespace: &str, address: Ipv4Addr, services: &[ServiceView<'_>]) -> String {
    let mut text = format!("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n{address} {pod}\n");
    for service in services {
        let full = format!("{}.{}", service.name, service.namespace);
        let short = if service.namespace == namespace {
            format!(" {}", service.name)
        } else {
            String::new()
        };
        let names = format!("{full}.svc.cluster.local {full}.svc {full}{short}");
        let headless = service
            .backends
            .iter()
            .filter(|pod| pod.takes_traffic())
            .map(|pod| pod.address);
        let addresses: Vec<_> = match service.cluster_ip {
            Some(address) => vec![address],
            None => headless.collect(),
        };
        for address in addresses {
            let _ = writeln!(text, "{address} {names}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(value: Value) -> Service {
        serde_json::from_value(json!({ "metadata": {}, "spec": value })).expect("a service")
    }

    fn pod_spec() -> PodSpec {
        let value = json!({ "containers": [{ "name": "c", "ports": [{ "name": "http", "containerPort": 8080 }] }] });
        serde_json::from_value(value).expect("a pod spec")
    }

    fn view<'a>(service: &'a Service, spec: &'a PodSpec) -> ServiceView<'a> {
        let backend = |last: u8, ready: bool, terminating: bool| Backend {
            name: "p",
            address: Ipv4Addr::new(10, 42, 0, last),
            ready,
            terminating,
            spec,
        };
        ServiceView {
            namespace: "ns",
            name: "web",
            service,
            cluster_ip: Some(Ipv4Addr::new(10, 43, 1, 1)),
            backends: vec![
                backend(2, true, false),
                backend(3, true, false),
                backend(4, false, false),
                backend(5, true, true),
            ],
        }
    }

    #[test]
    fn slices_have_all_pods_and_resolve_port_names() {
        let web = service(json!({ "selector": { "app": "web" }, "ports": [{ "port": 80, "targetPort": "http" }] }));
        let spec = pod_spec();
        let slices = slices(&view(&web, &spec));
        assert_eq!(slices.len(), 1);
        assert_eq!(
            slices[0]["ports"],
            json!([{ "name": "", "port": 8080, "protocol": "TCP" }])
        );
        let ready: Vec<_> = (0..4)
            .map(|i| slices[0]["endpoints"][i]["conditions"]["ready"] == true)
            .collect();
        assert_eq!(
            ready,
            [true, true, false, false],
            "neither the unready nor the terminating one"
        );
    }

    #[test]
    fn traffic_is_spread_over_ready_pods_only() {
        let web = service(json!({ "selector": { "app": "web" }, "ports": [{ "port": 80, "targetPort": "http" }] }));
        let spec = pod_spec();
        let table = table(&[view(&web, &spec)], &BTreeSet::new());
        let rules = &table.chains[0].rules;
        let to = |last: u8| Expr::DestinationNat(SocketAddrV4::new(Ipv4Addr::new(10, 42, 0, last), 8080));
        assert_eq!(rules.len(), 2);
        assert_eq!(rules[0][3..], [Expr::OneOf(2), to(2)]);
        assert_eq!(rules[1][3..], [to(3)]);
    }

    #[test]
    fn hosts_have_the_short_name_only_in_the_services_namespace() {
        let web = service(json!({ "ports": [] }));
        let spec = pod_spec();
        let all = [view(&web, &spec)];
        let address = Ipv4Addr::new(10, 42, 0, 9);
        let here = hosts("p", "ns", address, &all);
        assert!(
            here.contains("10.43.1.1 web.ns.svc.cluster.local web.ns.svc web.ns web\n"),
            "{here}"
        );
        assert!(hosts("p", "other", address, &all).contains("web.ns.svc web.ns\n"));
    }
}

//! The part of the injector: plans a pod's sidecar and its environment. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    path::Path,
    time::Duration,
};

use destination_k8s::keys;
use k8s_openapi::{api::core::v1::PodSpec, apimachinery::pkg::util::intstr::IntOrString};
use proxy_model::{
    env,
    ports::{self, PortSet},
};

use super::{
    model::{Check, ContainerPlan, ProbePlan, SidecarPlan},
    names::{CONTROL_PLANE, NODE, VIZ},
};

/// Mark on the sidecars' sockets. Linkerd's sidecar runs as user 2102; a private user namespace has no such user.
pub(crate) const MARK: u32 = 2102;
/// Trust domain of all identities.
const TRUST_DOMAIN: &str = "cluster.local";
/// Networks of pods and Services.
pub(crate) const CLUSTER_NETWORKS: &str = "10.0.0.0/8,100.64.0.0/10,172.16.0.0/12,192.168.0.0/16,fd00::/8";
/// Ports that Linkerd's chart skips in both directions.
const ALWAYS_SKIPPED: &str = "4567,4568";
/// Linkerd's annotation that makes the application wait for its sidecar.
pub(crate) const PROXY_AWAIT: &str = "config.linkerd.io/proxy-await";
/// Linkerd's annotation for the log filter of the sidecar.
pub(crate) const PROXY_LOG_LEVEL: &str = "config.linkerd.io/proxy-log-level";
/// Default log filter of a sidecar.
const LOG: &str = "warn,linkerd=info,mesh_proxy=info";

/// Pod for which a sidecar is planned.
pub(crate) struct SidecarContext<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    pub(crate) address: Ipv4Addr,
    pub(crate) service_account: &'a str,
    pub(crate) namespace_annotations: &'a BTreeMap<String, String>,
    /// Annotations of the pod template, which take precedence over the namespace's.
    pub(crate) annotations: &'a BTreeMap<String, String>,
    /// The pod's folder in the state directory.
    pub(crate) dir: &'a Path,
    /// Trust anchors, PEM.
    pub(crate) anchors: &'a str,
    /// Path of mesh-proxy.
    pub(crate) program: &'a str,
}

impl SidecarContext<'_> {
    fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations
            .get(key)
            .or_else(|| self.namespace_annotations.get(key))
            .map(String::as_str)
    }
}

/// Plans the sidecar of a pod, if it gets one; the error names the invalid annotation.
pub(crate) fn plan_sidecar(context: &SidecarContext<'_>, spec: &PodSpec) -> Result<Option<SidecarPlan>, String> {
    let ingress = match context.annotation(keys::INJECT) {
        Some("ingress") => true,
        Some(keys::INJECT_ENABLED) => false,
        None | Some("disabled") => return Ok(None),
        Some(other) => {
            return Err(format!(
                "{}: {other:?} must be enabled, ingress or disabled",
                keys::INJECT
            ));
        }
    };
    let skip = |key: &str| {
        let own = context.annotation(key).unwrap_or_default();
        own.parse::<PortSet>().map_err(|error| format!("{key}: {error}"))?;
        Ok::<_, String>(format!("{ALWAYS_SKIPPED},{own}"))
    };
    let admin = Check::Http {
        port: ports::ADMIN,
        path: "/ready".to_owned(),
        headers: Vec::new(),
    };
    let container = ContainerPlan {
        name: keys::PROXY_CONTAINER.to_owned(),
        argv: vec![context.program.to_owned()],
        env: environment(context, spec, ingress)?,
        cwd: "/".to_owned(),
        readiness: Some(ProbePlan {
            check: admin,
            delay: Duration::ZERO,
            period: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            failures: 3,
        }),
        liveness: None,
        startup: None,
    };
    Ok(Some(SidecarPlan {
        container,
        first: context.annotation(PROXY_AWAIT) != Some("disabled"),
        inbound_skip: skip(keys::SKIP_INBOUND_PORTS)?,
        outbound_skip: skip(keys::SKIP_OUTBOUND_PORTS)?,
        identity_dir: context.dir.join("identity"),
        token: context.dir.join("token"),
    }))
}

/// The identity of a service account's pods.
pub(crate) fn identity(namespace: &str, account: &str) -> String {
    format!("{account}.{namespace}.serviceaccount.identity.{CONTROL_PLANE}.{TRUST_DOMAIN}")
}

/// Address of a control-plane component: loopback in its own pod, elsewhere its Service.
fn address(context: &SidecarContext<'_>, account: &str, service: &str, port: u16) -> String {
    if context.namespace == CONTROL_PLANE && context.service_account == account {
        format!("localhost.:{port}")
    } else {
        format!("{service}.{CONTROL_PLANE}.svc.cluster.local:{port}")
    }
}

fn environment(context: &SidecarContext<'_>, spec: &PodSpec, ingress: bool) -> Result<Vec<(String, String)>, String> {
    let mut all = control_plane(context);
    all.extend(listeners(context, spec)?);
    all.extend(FIXED.map(|(name, value)| (name, value.to_owned())));
    if ingress {
        all.push(("LINKERD2_PROXY_INGRESS_MODE", "true".to_owned()));
    }
    Ok(all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// Variables that are the same for every sidecar: the values of Linkerd's own install.
const FIXED: [(&str, &str); 21] = [
    (env::DESTINATION_PROFILE_NETWORKS, CLUSTER_NETWORKS),
    (env::POLICY_CLUSTER_NETWORKS, CLUSTER_NETWORKS),
    (env::CONTROL_STREAM_INITIAL_TIMEOUT, "3s"),
    (env::CONTROL_STREAM_IDLE_TIMEOUT, "5m"),
    (env::CONTROL_STREAM_LIFETIME, "1h"),
    (env::INBOUND_CONNECT_TIMEOUT, "100ms"),
    (env::OUTBOUND_CONNECT_TIMEOUT, "1000ms"),
    (env::OUTBOUND_DISCOVERY_IDLE_TIMEOUT, "5s"),
    (env::INBOUND_DISCOVERY_IDLE_TIMEOUT, "90s"),
    (env::DESTINATION_PROFILE_SUFFIXES, "svc.cluster.local."),
    (env::INBOUND_ACCEPT_KEEPALIVE, "10000ms"),
    (env::OUTBOUND_CONNECT_KEEPALIVE, "10000ms"),
    (env::INBOUND_ACCEPT_USER_TIMEOUT, "30s"),
    (env::OUTBOUND_CONNECT_USER_TIMEOUT, "30s"),
    (env::INBOUND_SERVER_HTTP2_KEEP_ALIVE_INTERVAL, "10s"),
    (env::INBOUND_SERVER_HTTP2_KEEP_ALIVE_TIMEOUT, "3s"),
    (env::OUTBOUND_SERVER_HTTP2_KEEP_ALIVE_INTERVAL, "10s"),
    (env::OUTBOUND_SERVER_HTTP2_KEEP_ALIVE_TIMEOUT, "3s"),
    (env::OUTBOUND_LISTEN_ADDR, "127.0.0.1:4140"),
    (env::OUTBOUND_LISTEN_ADDRS, "127.0.0.1:4140"),
    (env::SHUTDOWN_ENDPOINT_ENABLED, "false"),
];

/// Addresses and identities of the control plane, and the identity of the workload.
fn control_plane(context: &SidecarContext<'_>) -> Vec<(&'static str, String)> {
    let SidecarContext { namespace, name, .. } = context;
    let (destination, identities) = ("linkerd-destination", "linkerd-identity");
    let at = |account, service, port| address(context, account, service, port);
    let file = |name: &str| context.dir.join(name).display().to_string();
    let workload = format!("{{\"ns\":\"{namespace}\", \"pod\":\"{name}\"}}\n");
    let token = format!("{{\"ns\":\"{namespace}\", \"nodeName\":\"{NODE}\", \"pod\":\"{name}\"}}\n");
    let log = context.annotation(PROXY_LOG_LEVEL).unwrap_or(LOG);
    vec![
        (env::LOG, log.to_owned()),
        (
            env::DESTINATION_SVC_ADDR,
            at(destination, "linkerd-dst", ports::DESTINATION),
        ),
        (env::DESTINATION_SVC_NAME, identity(CONTROL_PLANE, destination)),
        (env::POLICY_SVC_ADDR, at(destination, "linkerd-policy", ports::POLICY)),
        (env::POLICY_SVC_NAME, identity(CONTROL_PLANE, destination)),
        (
            env::IDENTITY_SVC_ADDR,
            at(identities, "linkerd-identity", ports::IDENTITY),
        ),
        (env::IDENTITY_SVC_NAME, identity(CONTROL_PLANE, identities)),
        (env::POLICY_WORKLOAD, workload),
        (env::DESTINATION_CONTEXT, token),
        (env::IDENTITY_DIR, file("identity")),
        (env::IDENTITY_TRUST_ANCHORS, context.anchors.to_owned()),
        (env::IDENTITY_TOKEN_FILE, file("token")),
        (env::IDENTITY_LOCAL_NAME, identity(namespace, context.service_account)),
        (env::TAP_SVC_NAME, identity(VIZ, "mesh-viz")),
    ]
}

/// Listeners of the sidecar, and the ports of the pod.
fn listeners(context: &SidecarContext<'_>, spec: &PodSpec) -> Result<Vec<(&'static str, String)>, String> {
    let inbound: Vec<_> = inbound_ports(spec).iter().map(u16::to_string).collect();
    let default_opaque = ports::DEFAULT_OPAQUE.map(|port| port.to_string()).join(",");
    let opaque = context
        .annotation(keys::OPAQUE_PORTS)
        .map(|text| opaque_ports(text, spec))
        .transpose()?;
    let policy = context
        .annotation(keys::DEFAULT_INBOUND_POLICY)
        .unwrap_or("all-unauthenticated");
    let any = |port: u16| format!("0.0.0.0:{port}");
    Ok(vec![
        (env::INBOUND_DEFAULT_POLICY, policy.to_owned()),
        (env::CONTROL_LISTEN_ADDR, any(ports::TAP)),
        (env::ADMIN_LISTEN_ADDR, any(ports::ADMIN)),
        (env::INBOUND_LISTEN_ADDR, any(ports::INBOUND)),
        (env::INBOUND_IPS, context.address.to_string()),
        (env::INBOUND_PORTS, inbound.join(",")),
        (
            env::INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION,
            opaque.unwrap_or(default_opaque),
        ),
        (env::SOCKET_MARK, MARK.to_string()),
    ])
}

/// Container ports, and numeric ports of HTTP probes: their policies are watched from the start.
fn inbound_ports(spec: &PodSpec) -> BTreeSet<u16> {
    let ports = spec
        .containers
        .iter()
        .flat_map(|container| container.ports.iter().flatten());
    let ports = ports.filter(|port| port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP"));
    let probes = spec
        .containers
        .iter()
        .flat_map(|c| [&c.readiness_probe, &c.liveness_probe, &c.startup_probe]);
    let probed = probes
        .flatten()
        .filter_map(|probe| match &probe.http_get.as_ref()?.port {
            IntOrString::Int(number) => u16::try_from(*number).ok(),
            IntOrString::String(_) => None,
        });
    ports
        .filter_map(|port| u16::try_from(port.container_port).ok())
        .chain(probed)
        .collect()
}

/// Ports of the annotation; names of container ports are resolved.
fn opaque_ports(text: &str, spec: &PodSpec) -> Result<String, String> {
    let named = |name: &str| {
        let mut ports = spec
            .containers
            .iter()
            .flat_map(|container| container.ports.iter().flatten());
        ports
            .find(|port| port.name.as_deref() == Some(name))
            .map(|port| port.container_port.to_string())
    };
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    let numbers: Vec<_> = items
        .map(|item| named(item).unwrap_or_else(|| item.to_owned()))
        .collect();
    let numbers = numbers.join(",");
    numbers
        .parse::<PortSet>()
        .map_err(|error| format!("{}: {error}", keys::OPAQUE_PORTS))?;
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn try_plan(namespace: &[(&str, &str)], pod: &[(&str, &str)]) -> Result<Option<SidecarPlan>, String> {
        let spec = serde_json::json!({ "containers": [{ "name": "app", "ports": [
            { "name": "http", "containerPort": 8080 }, { "name": "db", "containerPort": 9000 } ] }] });
        let context = SidecarContext {
            namespace: "shop",
            name: "web-1",
            address: Ipv4Addr::new(10, 42, 0, 9),
            service_account: "web",
            namespace_annotations: &annotations(namespace),
            annotations: &annotations(pod),
            dir: Path::new("/state/pods/web-1"),
            anchors: "PEM",
            program: "/opt/mesh-proxy",
        };
        plan_sidecar(&context, &serde_json::from_value(spec).expect("a pod spec"))
    }

    #[test]
    fn pod_annotations_take_precedence_over_the_namespace() {
        let on = [("linkerd.io/inject", "enabled")];
        let off = [("linkerd.io/inject", "disabled")];
        assert!(try_plan(&on, &[]).expect("fine").is_some());
        assert!(try_plan(&on, &off).expect("fine").is_none());
        assert!(try_plan(&off, &on).expect("fine").is_some());
        assert!(try_plan(&[], &[]).expect("fine").is_none());
        let error = try_plan(&[("linkerd.io/inject", "yes")], &[]).expect_err("no such word");
        assert!(error.contains("linkerd.io/inject") && error.contains("yes"), "{error}");
    }

    #[test]
    fn renders_the_environment_of_the_proxy() {
        let on = [
            ("linkerd.io/inject", "enabled"),
            ("config.linkerd.io/opaque-ports", "db,25"),
            ("config.linkerd.io/skip-outbound-ports", "3306"),
        ];
        let plan = try_plan(&on, &[]).expect("fine").expect("a sidecar");
        let value = |key: &str| {
            let mut env = plan.container.env.iter();
            env.find(|(name, _)| name == key)
                .map(|(_, value)| value.as_str())
                .expect("set")
        };
        assert_eq!(value(env::INBOUND_PORTS), "8080,9000");
        assert_eq!(value(env::INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION), "9000,25");
        assert_eq!(
            value(env::IDENTITY_LOCAL_NAME),
            "web.shop.serviceaccount.identity.linkerd.cluster.local"
        );
        assert_eq!(value(env::POLICY_WORKLOAD), "{\"ns\":\"shop\", \"pod\":\"web-1\"}\n");
        assert_eq!(
            value(env::DESTINATION_SVC_ADDR),
            "linkerd-dst.linkerd.svc.cluster.local:8086"
        );
        assert_eq!((plan.outbound_skip.as_str(), plan.first), ("4567,4568,3306", true));
    }

    #[test]
    fn names_the_invalid_annotation() {
        let bad = [
            ("linkerd.io/inject", "enabled"),
            ("config.linkerd.io/skip-inbound-ports", "99999"),
        ];
        let error = try_plan(&[], &bad).expect_err("no such port");
        assert!(
            error.starts_with("config.linkerd.io/skip-inbound-ports: \"99999\""),
            "{error}"
        );
    }
}

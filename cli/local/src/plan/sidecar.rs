//! A pod's sidecar: the definition that a cluster's injector has, rendered as a process of this machine. Pure.

use std::{collections::BTreeMap, path::Path, time::Duration};

use injector_sidecar::{
    Annotations, Config, Namespace, Origin, Pod, PodFacts, Reason, Report, SidecarSpec,
    config::Proxy,
    process::{Host, Reference},
};
use proxy_model::{defaults, env, ports};
use serde_json::{Value, json};

use super::{
    builtin::VIZ_CONTAINER,
    model::{Check, ContainerPlan, ProbePlan, SidecarPlan},
    names::{CONTROL_PLANE, VIZ},
    pod::PodContext,
};

/// Mark on the sidecars' sockets. A cluster's sidecar has a user of its own; a private user namespace has no such user.
const MARK: u32 = defaults::PROXY_UID;

/// Pod for which a sidecar is planned.
pub(crate) struct SidecarContext<'a> {
    pub(crate) pod: &'a PodContext<'a>,
    pub(crate) service_account: &'a str,
    pub(crate) namespace_annotations: &'a BTreeMap<String, String>,
    /// Spec of the pod.
    pub(crate) spec: &'a k8s_openapi::api::core::v1::PodSpec,
    /// The pod's folder in the state directory.
    pub(crate) dir: &'a Path,
    /// Trust anchors, PEM.
    pub(crate) anchors: &'a str,
    /// Path of mesh-proxy.
    pub(crate) program: &'a str,
}

impl SidecarContext<'_> {
    /// The pod as the injector's webhook receives it.
    fn object(&self) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": self.pod.name,
                "namespace": self.pod.namespace,
                "labels": self.pod.labels,
                "annotations": self.pod.annotations,
            },
            "spec": self.spec,
        })
    }

    /// Addresses that differ from a cluster's: without a DNS server, only the names of hosts files resolve.
    fn overrides(&self, own: bool) -> Vec<(String, String)> {
        let service = |service: &str, port: u16| format!("{service}.{CONTROL_PLANE}.svc.cluster.local:{port}");
        let mut all = Vec::new();
        let own_account = |account: &str| own && self.service_account == account;
        if !own_account("linkerd-destination") {
            all.push((
                env::DESTINATION_SVC_ADDR.to_owned(),
                service("linkerd-dst", ports::DESTINATION),
            ));
            all.push((
                env::POLICY_SVC_ADDR.to_owned(),
                service("linkerd-policy", ports::POLICY),
            ));
        }
        if !own_account("linkerd-identity") {
            all.push((
                env::IDENTITY_SVC_ADDR.to_owned(),
                service("linkerd-identity", ports::IDENTITY),
            ));
        }
        let path = self.pod.base_env.iter().filter(|(name, _)| name == "PATH");
        all.extend(path.cloned());
        all
    }
}

/// Plans the sidecar of a pod, if it gets one; the error names the invalid annotation.
pub(crate) fn plan_sidecar(context: &SidecarContext<'_>) -> Result<Option<SidecarPlan>, String> {
    let object = context.object();
    let namespace = Namespace {
        name: context.pod.namespace.to_owned(),
        annotations: context.namespace_annotations.clone(),
    };
    let config = config(context.anchors);
    let report = Report::new(&object, &namespace, Origin::Webhook, &config);
    let is_invalid = |reason: &Reason| matches!(reason, Reason::InvalidAtWorkload(_) | Reason::InvalidAtNamespace(_));
    if report.reasons.iter().any(is_invalid) {
        return Err(report.sentence());
    }
    if !report.is_injectable() {
        return Ok(None);
    }
    let pod = Pod(&object);
    let annotations = Annotations::new(pod.metadata(), &namespace);
    let spec = SidecarSpec::resolve(&config, &annotations, &PodFacts::new(pod)).map_err(|error| error.to_string())?;
    let (identity_dir, token) = (context.dir.join("identity"), context.dir.join("token"));
    let process = spec
        .process(&Host {
            program: context.program,
            identity_dir: &identity_dir,
            token: &token,
            mark: MARK,
            resolve: &|reference| match reference {
                Reference::Field(path) => context.pod.field(context.service_account, path),
                Reference::ConfigMap { .. } => Some(context.anchors.to_owned()),
            },
            env: &context.overrides(context.pod.namespace == CONTROL_PLANE),
        })
        .map_err(|error| error.to_string())?;
    let readiness = ProbePlan {
        check: Check::Http {
            port: process.readiness.port,
            path: process.readiness.path.to_owned(),
            headers: Vec::new(),
        },
        // A kubelet's delay would hold up the start: the probe is frequent until the first success.
        delay: Duration::ZERO,
        period: process.readiness.period(),
        timeout: process.readiness.timeout(),
        failures: process.readiness.failure_threshold(),
    };
    Ok(Some(SidecarPlan {
        container: ContainerPlan {
            name: injector_sidecar::names::PROXY_CONTAINER.to_owned(),
            argv: process.argv,
            env: process.env,
            cwd: "/".to_owned(),
            readiness: Some(readiness),
            // A busy machine would restart sidecars, and one that hangs should stay for a debugger.
            liveness: None,
            startup: None,
        },
        first: process.awaits_ready,
        pre_stop_sleep: process.pre_stop_sleep,
        rules: process.rules,
        inbound_port: spec.ports.inbound,
        admin_port: spec.ports.admin,
        inherited: annotations
            .inherited()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
        identity_dir,
        token,
    }))
}

/// Configuration of a default installation.
fn config(anchors: &str) -> Config {
    Config {
        identity_trust_anchors_pem: anchors.to_owned(),
        proxy: Proxy {
            tap_identity: defaults::MESH_NAMES.service_account(VIZ_CONTAINER, VIZ),
            ..Proxy::default()
        },
        ..Config::default()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn annotations(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn try_plan(namespace: &[(&str, &str)], pod: &[(&str, &str)]) -> Result<Option<SidecarPlan>, String> {
        let spec = json!({ "containers": [{ "name": "app", "ports": [
            { "name": "http", "containerPort": 8080 }, { "name": "db", "containerPort": 9000 } ] }] });
        let context = PodContext {
            namespace: "shop",
            name: "web-1",
            address: Ipv4Addr::new(10, 42, 0, 9),
            labels: &BTreeMap::new(),
            annotations: &annotations(pod),
            base_env: &[("PATH".to_owned(), "/bin".to_owned())],
            cwd: "/",
            program: "/opt/mesh",
        };
        plan_sidecar(&SidecarContext {
            pod: &context,
            service_account: "web",
            namespace_annotations: &annotations(namespace),
            spec: &serde_json::from_value(spec).expect("a pod spec"),
            dir: Path::new("/state/pods/web-1"),
            anchors: "PEM",
            program: "/opt/mesh-proxy",
        })
    }

    fn value<'a>(plan: &'a SidecarPlan, key: &str) -> &'a str {
        let mut env = plan.container.env.iter();
        env.find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
            .expect("set")
    }

    const ON: (&str, &str) = ("linkerd.io/inject", "enabled");

    #[test]
    fn pod_annotations_take_precedence_over_the_namespace() {
        let off = [("linkerd.io/inject", "disabled")];
        assert!(try_plan(&[ON], &[]).expect("valid").is_some());
        assert!(try_plan(&[ON], &off).expect("valid").is_none());
        assert!(try_plan(&off, &[ON]).expect("valid").is_some());
        assert!(try_plan(&[], &[]).expect("valid").is_none());
        let error = try_plan(&[("linkerd.io/inject", "yes")], &[]).expect_err("an invalid value");
        assert!(error.contains("linkerd.io/inject") && error.contains("yes"), "{error}");
    }

    #[test]
    fn renders_the_environment_of_the_proxy() {
        let on = [
            ON,
            ("config.linkerd.io/opaque-ports", "db,25"),
            ("config.linkerd.io/skip-outbound-ports", "3306"),
        ];
        let plan = try_plan(&on, &[]).expect("valid").expect("a sidecar");
        assert_eq!(value(&plan, env::INBOUND_PORTS), "8080,9000");
        assert_eq!(value(&plan, env::INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION), "9000,25");
        let identity = "web.shop.serviceaccount.identity.linkerd.cluster.local";
        assert_eq!(value(&plan, env::IDENTITY_LOCAL_NAME), identity);
        assert_eq!(
            value(&plan, env::POLICY_WORKLOAD),
            "{\"ns\":\"shop\", \"pod\":\"web-1\"}\n"
        );
        let destination = "linkerd-dst.linkerd.svc.cluster.local:8086";
        assert_eq!(value(&plan, env::DESTINATION_SVC_ADDR), destination);
        assert_eq!(value(&plan, env::IDENTITY_TOKEN_FILE), "/state/pods/web-1/token");
        assert_eq!(value(&plan, env::IDENTITY_TRUST_ANCHORS), "PEM");
        assert_eq!(value(&plan, env::SOCKET_MARK), MARK.to_string());
        assert!(plan.first && plan.rules.outbound_skip.contains(3306));
        assert_eq!(plan.rules.mark, Some(MARK));
    }

    #[test]
    fn follows_the_annotations_of_a_cluster() {
        let settings = [
            ON,
            ("config.linkerd.io/access-log", "json"),
            ("config.linkerd.io/admin-port", "5191"),
            ("config.linkerd.io/proxy-log-level", "debug"),
            ("config.linkerd.io/proxy-await", "disabled"),
            ("config.linkerd.io/proxy-outbound-connect-timeout", "3s"),
            ("config.linkerd.io/skip-subnets", "10.9.0.0/16"),
            ("config.linkerd.io/default-inbound-policy", "deny"),
            // As in a cluster, a native sidecar does not wait.
            ("config.linkerd.io/proxy-enable-native-sidecar", "false"),
            ("config.alpha.linkerd.io/proxy-wait-before-exit-seconds", "7"),
        ];
        let plan = try_plan(&[], &settings).expect("valid").expect("a sidecar");
        assert_eq!(value(&plan, env::ACCESS_LOG), "json");
        assert_eq!(value(&plan, env::ADMIN_LISTEN_ADDR), "0.0.0.0:5191");
        assert!(value(&plan, env::LOG).starts_with("debug,"));
        assert_eq!(value(&plan, env::OUTBOUND_CONNECT_TIMEOUT), "3000ms");
        assert_eq!(value(&plan, env::INBOUND_DEFAULT_POLICY), "deny");
        assert_eq!(plan.rules.inbound_skip_from.len(), 1);
        assert_eq!((plan.admin_port, plan.first), (5191, false));
        assert_eq!(plan.pre_stop_sleep, Duration::from_secs(7));
    }

    #[test]
    fn names_the_invalid_annotation() {
        let bad = [ON, ("config.linkerd.io/skip-inbound-ports", "99999")];
        let error = try_plan(&[], &bad).expect_err("not a port");
        assert!(
            error.contains("config.linkerd.io/skip-inbound-ports") && error.contains("99999"),
            "{error}"
        );
    }
}

//! From a pod template to the plan of a pod: pure; refused and ignored fields are named.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use injector_sidecar::process::expand;
use k8s_openapi::{
    api::core::v1::{Container, EnvVar, PodSpec, Probe},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{
    model::{Check, ContainerPlan, PodPlan, ProbePlan},
    names::{HOST, NODE, uid},
};

/// Default grace period; Kubernetes' value.
const GRACE_DEFAULT: i64 = 30;

/// Pod and environment for which a template is planned.
pub(crate) struct PodContext<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    pub(crate) address: Ipv4Addr,
    pub(crate) labels: &'a BTreeMap<String, String>,
    pub(crate) annotations: &'a BTreeMap<String, String>,
    /// Variables of every container.
    pub(crate) base_env: &'a [(String, String)],
    /// Default working directory.
    pub(crate) cwd: &'a str,
    /// Path of `mesh`, which manifests may call by that name.
    pub(crate) program: &'a str,
}

impl PodContext<'_> {
    /// Value of a `fieldRef`; `None` if it is not supported.
    pub(crate) fn field(&self, account: &str, path: &str) -> Option<String> {
        let keyed = |prefix: &str, map: &BTreeMap<String, String>| {
            let key = path.strip_prefix(prefix)?.strip_prefix("['")?.strip_suffix("']")?;
            Some(map.get(key).cloned().unwrap_or_default())
        };
        Some(match path {
            "metadata.name" => self.name.to_owned(),
            "metadata.namespace" => self.namespace.to_owned(),
            "metadata.uid" => uid(self.namespace, self.name),
            "status.podIP" | "status.podIPs" => self.address.to_string(),
            "status.hostIP" | "status.hostIPs" => HOST.to_string(),
            "spec.nodeName" => NODE.to_owned(),
            "spec.serviceAccountName" => account.to_owned(),
            _ => {
                return keyed("metadata.labels", self.labels)
                    .or_else(|| keyed("metadata.annotations", self.annotations));
            }
        })
    }
}

fn service_account(spec: &PodSpec) -> &str {
    let account = spec.service_account_name.as_deref();
    account.filter(|name| !name.is_empty()).unwrap_or("default")
}

/// Plans a pod without its sidecar; the error names the unsupported field.
pub(crate) fn plan_pod(context: &PodContext<'_>, spec: &PodSpec) -> Result<PodPlan, String> {
    if spec.host_network == Some(true) {
        return Err("hostNetwork is not supported: every pod has a network of its own".to_owned());
    }
    let all = |containers: &[Container]| {
        containers
            .iter()
            .map(|found| container(context, spec, found))
            .collect::<Result<Vec<_>, _>>()
    };
    let containers = all(&spec.containers)?;
    if containers.is_empty() {
        return Err("the pod has no container".to_owned());
    }
    Ok(PodPlan {
        namespace: context.namespace.to_owned(),
        name: context.name.to_owned(),
        address: context.address,
        service_account: service_account(spec).to_owned(),
        grace: seconds(spec.termination_grace_period_seconds.unwrap_or(GRACE_DEFAULT)),
        init: all(spec.init_containers.as_deref().unwrap_or_default())?,
        containers,
        sidecar: None,
    })
}

/// Fields that are set but have no effect here.
pub(crate) fn ignored(spec: &PodSpec) -> Vec<&'static str> {
    let containers = || spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let any = |test: fn(&Container) -> bool| containers().any(test);
    let fields = [
        (
            "volumes",
            spec.volumes.as_ref().is_some_and(|volumes| !volumes.is_empty()),
        ),
        (
            "volumeMounts",
            any(|c| c.volume_mounts.as_ref().is_some_and(|mounts| !mounts.is_empty())),
        ),
        (
            "securityContext",
            spec.security_context.is_some() || any(|c| c.security_context.is_some()),
        ),
        ("resources", any(|c| c.resources.is_some())),
        ("lifecycle", any(|c| c.lifecycle.is_some())),
        (
            "hostPort",
            any(|c| c.ports.iter().flatten().any(|port| port.host_port.is_some())),
        ),
        ("nodeSelector", spec.node_selector.is_some()),
        ("affinity", spec.affinity.is_some()),
        ("hostAliases", spec.host_aliases.is_some()),
        ("dnsConfig", spec.dns_config.is_some()),
    ];
    fields
        .into_iter()
        .filter_map(|(name, set)| set.then_some(name))
        .collect()
}

fn container(context: &PodContext<'_>, spec: &PodSpec, from: &Container) -> Result<ContainerPlan, String> {
    let refuse = |what: String| format!("container {}: {what}", from.name);
    if from.env_from.as_ref().is_some_and(|sources| !sources.is_empty()) {
        return Err(refuse("envFrom is not supported: list the variables in env".to_owned()));
    }
    if from.restart_policy.is_some() {
        return Err(refuse("restartPolicy of a container is not supported".to_owned()));
    }
    let mut env = context.base_env.to_vec();
    for variable in from.env.iter().flatten() {
        let value =
            value(context, spec, variable, &env).map_err(|what| refuse(format!("env {}: {what}", variable.name)))?;
        env.retain(|(name, _)| *name != variable.name);
        env.push((variable.name.clone(), value));
    }
    let command = from.command.as_deref().unwrap_or_default();
    if command.is_empty() {
        return Err(refuse(
            "it has no command; `mesh local` runs programs of this machine, not images".to_owned(),
        ));
    }
    let words = command.iter().chain(from.args.iter().flatten());
    let mut argv: Vec<_> = words.map(|word| expand(word, &env)).collect();
    if argv[0] == "mesh" {
        context.program.clone_into(&mut argv[0]);
    }
    let probe = |kind: &str, found: &Option<Probe>| {
        let planned = found.as_ref().map(|found| probe(from, found)).transpose();
        planned.map_err(|what| refuse(format!("{kind}: {what}")))
    };
    Ok(ContainerPlan {
        name: from.name.clone(),
        argv,
        env,
        cwd: from.working_dir.clone().unwrap_or_else(|| context.cwd.to_owned()),
        readiness: probe("readinessProbe", &from.readiness_probe)?,
        liveness: probe("livenessProbe", &from.liveness_probe)?,
        startup: probe("startupProbe", &from.startup_probe)?,
    })
}

fn value(
    context: &PodContext<'_>,
    spec: &PodSpec,
    variable: &EnvVar,
    env: &[(String, String)],
) -> Result<String, String> {
    let Some(source) = &variable.value_from else {
        return Ok(expand(variable.value.as_deref().unwrap_or_default(), env));
    };
    let Some(field) = &source.field_ref else {
        return Err("only value and valueFrom.fieldRef are supported".to_owned());
    };
    let path = field.field_path.as_str();
    context
        .field(service_account(spec), path)
        .ok_or_else(|| format!("fieldPath {path:?} is not supported"))
}

fn probe(of: &Container, from: &Probe) -> Result<ProbePlan, String> {
    let check = if let Some(get) = &from.http_get {
        if get.scheme.as_deref().is_some_and(|scheme| scheme != "HTTP") {
            return Err("httpGet.scheme HTTPS is not supported; use tcpSocket".to_owned());
        }
        let headers = get
            .http_headers
            .iter()
            .flatten()
            .map(|header| (header.name.clone(), header.value.clone()));
        let path = get
            .path
            .clone()
            .filter(|path| path.starts_with('/'))
            .unwrap_or_else(|| "/".to_owned());
        Check::Http {
            port: port(of, &get.port)?,
            path,
            headers: headers.collect(),
        }
    } else if let Some(socket) = &from.tcp_socket {
        Check::Tcp(port(of, &socket.port)?)
    } else if let Some(exec) = &from.exec {
        Check::Exec(exec.command.clone().unwrap_or_default())
    } else if from.grpc.is_some() {
        return Err("grpc is not supported; use tcpSocket".to_owned());
    } else {
        return Err("it has none of httpGet, tcpSocket, exec".to_owned());
    };
    if check == Check::Exec(Vec::new()) {
        return Err("exec has no command".to_owned());
    }
    let or = |value: Option<i32>, default: i32| seconds(i64::from(value.unwrap_or(default)));
    Ok(ProbePlan {
        check,
        delay: or(from.initial_delay_seconds, 0),
        period: or(from.period_seconds, 10).max(Duration::from_secs(1)),
        timeout: or(from.timeout_seconds, 1).max(Duration::from_secs(1)),
        failures: from.failure_threshold.map_or(3, |count| count.max(1).cast_unsigned()),
    })
}

fn port(of: &Container, port: &IntOrString) -> Result<u16, String> {
    match port {
        IntOrString::Int(number) => u16::try_from(*number).map_err(|_| format!("{number} is not a port")),
        IntOrString::String(name) => {
            let mut ports = of.ports.iter().flatten();
            let found = ports
                .find(|port| port.name.as_ref() == Some(name))
                .map(|port| port.container_port);
            let number = found.and_then(|number| u16::try_from(number).ok());
            number.ok_or_else(|| format!("the container has no port named {name:?}"))
        }
    }
}

fn seconds(count: i64) -> Duration {
    Duration::from_secs(u64::try_from(count).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn try_plan(spec: serde_json::Value) -> Result<PodPlan, String> {
        let spec: PodSpec = serde_json::from_value(spec).expect("a pod spec");
        let labels = [("app".to_owned(), "web".to_owned())].into();
        let context = PodContext {
            namespace: "ns",
            name: "web-1",
            address: Ipv4Addr::new(10, 42, 0, 9),
            labels: &labels,
            annotations: &BTreeMap::new(),
            base_env: &[("PATH".to_owned(), "/bin".to_owned())],
            cwd: "/manifests",
            program: "/opt/mesh",
        };
        plan_pod(&context, &spec)
    }

    #[test]
    fn expands_environment_and_arguments() {
        let plan = try_plan(serde_json::json!({ "containers": [{
            "name": "app",
            "command": ["mesh", "serve"],
            "args": ["--on=$(POD_IP):$(PORT)", "$(UNKNOWN)", "$$(PORT)"],
            "env": [
                { "name": "PORT", "value": "80" },
                { "name": "POD_IP", "valueFrom": { "fieldRef": { "fieldPath": "status.podIP" } } },
                { "name": "APP", "valueFrom": { "fieldRef": { "fieldPath": "metadata.labels['app']" } } },
            ],
        }] }));
        let plan = plan.expect("a plan");
        let app = &plan.containers[0];
        assert_eq!(
            app.argv,
            ["/opt/mesh", "serve", "--on=10.42.0.9:80", "$(UNKNOWN)", "$(PORT)"]
        );
        assert!(app.env.contains(&("APP".into(), "web".into())) && app.env.contains(&("PATH".into(), "/bin".into())));
        assert_eq!((plan.grace, app.cwd.as_str()), (Duration::from_secs(30), "/manifests"));
    }

    #[test]
    fn resolves_probe_ports_by_name() {
        let plan = try_plan(serde_json::json!({ "containers": [{
            "name": "app", "command": ["x"], "ports": [{ "name": "http", "containerPort": 8080 }],
            "readinessProbe": { "httpGet": { "path": "/ready", "port": "http" }, "periodSeconds": 2 },
        }] }));
        let probe = plan.expect("a plan").containers[0].readiness.clone().expect("a probe");
        let check = Check::Http {
            port: 8080,
            path: "/ready".into(),
            headers: Vec::new(),
        };
        assert_eq!(
            (probe.check, probe.period, probe.failures),
            (check, Duration::from_secs(2), 3)
        );
    }

    #[test]
    fn names_the_container_and_the_unsupported_field() {
        let cases = [
            (
                serde_json::json!({ "name": "c", "image": "x" }),
                "container c: it has no command",
            ),
            (
                serde_json::json!({ "name": "c", "command": ["x"], "envFrom": [{}] }),
                "container c: envFrom",
            ),
            (
                serde_json::json!({ "name": "c", "command": ["x"], "env": [
                    { "name": "E", "valueFrom": { "secretKeyRef": { "name": "s", "key": "k" } } }] }),
                "container c: env E: only value",
            ),
            (
                serde_json::json!({ "name": "c", "command": ["x"], "livenessProbe": { "tcpSocket": { "port": "db" } } }),
                "container c: livenessProbe: the container has no port named \"db\"",
            ),
        ];
        for (container, sentence) in cases {
            let error = try_plan(serde_json::json!({ "containers": [container] })).expect_err(sentence);
            assert!(error.starts_with(sentence), "{error}");
        }
    }
}

//! The sidecar's environment. Order matters: `$(NAME)` refers to an earlier variable.

use destination_k8s::keys;
use proxy_model::{env, identity::MeshNames};
use serde_json::Value;

use crate::{
    config::{AdditionalVar, Config, Ports},
    names,
    pod::Component,
    redirection::port_list,
    spec::{EnvDuration, EnvName, EnvValue, ProxySettings},
};

/// Inputs of the environment.
#[derive(Copy, Clone)]
pub(crate) struct Inputs<'a> {
    pub(crate) config: &'a Config,
    pub(crate) proxy: &'a ProxySettings,
    pub(crate) ports: Ports,
    pub(crate) component: Component,
}

/// Returns the environment; additional variables replace those of the same name.
pub(crate) fn environment(inputs: Inputs<'_>, additional: Vec<AdditionalVar>) -> Vec<(EnvName, EnvValue)> {
    let mut builder = Builder { inputs, env: vec![] };
    builder.pod();
    builder.process();
    builder.control();
    builder.listeners();
    builder.connections();
    builder.tracing();
    builder.identity();
    for variable in additional {
        builder.replace(variable);
    }
    builder.env
}

struct Builder<'a> {
    inputs: Inputs<'a>,
    env: Vec<(EnvName, EnvValue)>,
}

impl Builder<'_> {
    fn set(&mut self, name: impl Into<EnvName>, value: impl Into<String>) {
        self.env.push((name.into(), EnvValue::Literal(value.into())));
    }

    fn set_some(&mut self, name: &'static str, value: Option<String>) {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            self.set(name, value);
        }
    }

    fn time(&mut self, name: &'static str, value: &EnvDuration) {
        self.set(name, value.to_string());
    }

    fn field(&mut self, name: &'static str, path: &'static str) {
        self.env.push((name.into(), EnvValue::Field(path)));
    }

    fn replace(&mut self, variable: AdditionalVar) {
        let AdditionalVar { name, rest } = variable;
        let value = match rest.get("value") {
            Some(Value::String(text)) if rest.len() == 1 => EnvValue::Literal(text.clone()),
            _ => EnvValue::Manifest(rest),
        };
        match self.env.iter_mut().find(|(other, _)| other.as_str() == name) {
            Some((_, other)) => *other = value,
            None => self.env.push((name.into(), value)),
        }
    }

    fn pod(&mut self) {
        self.field("_pod_name", "metadata.name");
        self.field("_pod_ns", "metadata.namespace");
        self.field("_pod_uid", "metadata.uid");
        self.field("_pod_ip", "status.podIP");
        self.field("_pod_nodeName", "spec.nodeName");
        self.set("_pod_containerName", keys::PROXY_CONTAINER);
    }

    fn process(&mut self) {
        let Inputs { config, proxy, .. } = self.inputs;
        let workers = &proxy.workers;
        let cores = Some(config.proxy.cores).filter(|cores| *cores > 0);
        self.set_some(env::CORES, cores.map(|cores| cores.to_string()));
        self.set_some(env::CORES_MIN, workers.min.map(|cores| cores.to_string()));
        self.set_some(env::CORES_MAX, workers.max.map(|cores| cores.to_string()));
        self.set_some(env::CORES_MAX_RATIO, workers.ratio.map(|ratio| ratio.to_string()));
        self.set_some(
            env::INBOUND_PORTS_REQUIRE_IDENTITY,
            Some(port_list(&proxy.require_identity)),
        );
        let require_tls = config.proxy.require_tls_on_inbound_ports.clone();
        self.set_some(env::INBOUND_PORTS_REQUIRE_TLS, Some(require_tls));
        self.set(env::SHUTDOWN_ENDPOINT_ENABLED, proxy.admin_shutdown.to_string());
        self.set(env::LOG, proxy.log.clone());
        self.set(env::LOG_FORMAT, proxy.log_format.clone());
    }

    /// Address of a control plane service; on loopback inside its own pod.
    fn service(&self, own: Component, service: &str, port: u16) -> String {
        let Config {
            linkerd_namespace,
            cluster_domain,
            ..
        } = self.inputs.config;
        if self.inputs.component == own {
            format!("localhost.:{port}")
        } else {
            format!("{service}.{linkerd_namespace}.svc.{cluster_domain}.:{port}")
        }
    }

    fn control(&mut self) {
        use proxy_model::ports::{DESTINATION, POLICY};
        let Inputs { config, proxy, .. } = self.inputs;
        let destination = self.service(Component::Destination, "linkerd-dst-headless", DESTINATION);
        self.set(env::DESTINATION_SVC_ADDR, destination);
        self.set(env::DESTINATION_PROFILE_NETWORKS, config.cluster_networks.clone());
        let policy = self.service(Component::Destination, "linkerd-policy", POLICY);
        self.set(env::POLICY_SVC_ADDR, policy);
        self.set(
            env::POLICY_WORKLOAD,
            "{\"ns\":\"$(_pod_ns)\", \"pod\":\"$(_pod_name)\"}\n",
        );
        self.set(env::INBOUND_DEFAULT_POLICY, proxy.default_policy.as_str());
        self.set_some(env::INBOUND_FAIL_OPEN, proxy.fail_open.then(|| true.to_string()));
        self.set_some(env::INBOUND_PATH_CHECK, (!proxy.path_check).then(|| false.to_string()));
        self.set(env::POLICY_CLUSTER_NETWORKS, config.cluster_networks.clone());
        self.time(env::CONTROL_STREAM_INITIAL_TIMEOUT, &proxy.timeouts.stream_initial);
        self.time(env::CONTROL_STREAM_IDLE_TIMEOUT, &proxy.timeouts.stream_idle);
        self.time(env::CONTROL_STREAM_LIFETIME, &proxy.timeouts.stream_lifetime);
    }

    fn listeners(&mut self) {
        let Inputs {
            config, proxy, ports, ..
        } = self.inputs;
        let timeouts = &proxy.timeouts;
        self.time(env::INBOUND_CONNECT_TIMEOUT, &timeouts.inbound_connect);
        self.time(env::OUTBOUND_CONNECT_TIMEOUT, &timeouts.outbound_connect);
        self.time(env::OUTBOUND_DISCOVERY_IDLE_TIMEOUT, &timeouts.outbound_discovery_idle);
        self.time(env::INBOUND_DISCOVERY_IDLE_TIMEOUT, &timeouts.inbound_discovery_idle);
        let text = |timeout: &Option<EnvDuration>| timeout.as_ref().map(ToString::to_string);
        self.set_some(env::OUTBOUND_DETECT_TIMEOUT, text(&timeouts.outbound_detect));
        self.set_some(env::INBOUND_DETECT_TIMEOUT, text(&timeouts.inbound_detect));
        // Literal addresses: the control plane reads these ports from the pod.
        let any = |port: u16| {
            if config.disable_ipv6 {
                format!("0.0.0.0:{port}")
            } else {
                format!("[::]:{port}")
            }
        };
        self.set(env::CONTROL_LISTEN_ADDR, any(ports.control));
        self.set(env::ADMIN_LISTEN_ADDR, any(ports.admin));
        let loopback = format!("127.0.0.1:{}", ports.outbound);
        let both = format!("{loopback},[::1]:{}", ports.outbound);
        self.set(env::OUTBOUND_LISTEN_ADDR, loopback.clone());
        self.set(
            env::OUTBOUND_LISTEN_ADDRS,
            if config.disable_ipv6 { loopback } else { both },
        );
        self.set(env::INBOUND_LISTEN_ADDR, any(ports.inbound));
        self.field(env::INBOUND_IPS, "status.podIPs");
        self.set_some(env::INBOUND_PORTS, Some(port_list(&proxy.inbound_ports)));
    }

    fn connections(&mut self) {
        let Inputs { config, proxy, .. } = self.inputs;
        let suffix = format!("svc.{}.", config.cluster_domain);
        if proxy.gateway {
            self.set(env::INBOUND_GATEWAY_SUFFIXES, suffix.clone());
        }
        if proxy.ingress {
            self.set(env::INGRESS_MODE, "true");
        }
        let suffixes = if proxy.external_profiles {
            ".".to_owned()
        } else {
            suffix
        };
        self.set(env::DESTINATION_PROFILE_SUFFIXES, suffixes);
        self.set(env::INBOUND_ACCEPT_KEEPALIVE, "10000ms");
        self.set(env::OUTBOUND_CONNECT_KEEPALIVE, "10000ms");
        self.set(env::INBOUND_ACCEPT_USER_TIMEOUT, "30s");
        self.set(env::OUTBOUND_CONNECT_USER_TIMEOUT, "30s");
        self.set(env::OUTBOUND_METRICS_HOSTNAME_LABELS, proxy.hostname_labels.to_string());
        self.parameters("LINKERD2_PROXY_INBOUND", &config.proxy.inbound);
        self.parameters("LINKERD2_PROXY_OUTBOUND", &config.proxy.outbound);
        let opaque = port_list(&proxy.opaque_ports);
        self.set_some(env::INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION, Some(opaque));
        let context = "{\"ns\":\"$(_pod_ns)\", \"nodeName\":\"$(_pod_nodeName)\", \"pod\":\"$(_pod_name)\"}\n";
        self.set(env::DESTINATION_CONTEXT, context);
    }

    /// Turns `server.http2.keepAliveInterval` into `…_SERVER_HTTP2_KEEP_ALIVE_INTERVAL`.
    fn parameters(&mut self, prefix: &str, tree: &Value) {
        if let Value::Object(map) = tree {
            for (key, value) in map {
                self.parameters(&format!("{prefix}_{}", screaming(key)), value);
            }
        } else if let Some(value) = scalar(tree) {
            self.set(prefix.to_owned(), value);
        }
    }

    fn tracing(&mut self) {
        let Inputs { config, .. } = self.inputs;
        let tracing = &config.proxy.tracing;
        if !config.sends_spans() {
            return;
        }
        let identity = &tracing.collector.mesh_identity;
        let name = config
            .mesh_names()
            .service_account(&identity.service_account_name, &identity.namespace);
        let labels = tracing.labels.iter().map(|(key, value)| format!("{key}={value}"));
        let labels: Vec<_> = labels.collect();
        let service = if tracing.trace_service_name.is_empty() {
            "linkerd-proxy"
        } else {
            &tracing.trace_service_name
        };
        self.set(env::TRACE_ATTRIBUTES_PATH, format!("{}/labels", names::PODINFO_DIR));
        let annotations = format!("{}/annotations", names::PODINFO_DIR);
        self.set(env::TRACE_ANNOTATIONS_PATH, annotations);
        self.set(env::TRACE_PROTOCOL, "opentelemetry");
        self.set(env::TRACE_SERVICE_NAME, service);
        self.set(env::TRACE_COLLECTOR_SVC_ADDR, tracing.collector.endpoint.clone());
        self.set(env::TRACE_COLLECTOR_SVC_NAME, name);
        self.set_some(env::TRACE_EXTRA_ATTRIBUTES, Some(labels.join("\n")));
    }

    fn identity(&mut self) {
        let Inputs { config, proxy, .. } = self.inputs;
        self.field("_pod_sa", "spec.serviceAccountName");
        self.set("_l5d_ns", config.linkerd_namespace.clone());
        self.set("_l5d_trustdomain", config.trust_domain());
        self.set(env::IDENTITY_DIR, names::IDENTITY_DIR);
        let anchors = if self.inputs.component == Component::None {
            EnvValue::Literal(config.identity_trust_anchors_pem.clone())
        } else {
            EnvValue::ConfigMap {
                name: names::TRUST_ROOTS,
                key: names::TRUST_ROOTS_KEY,
            }
        };
        self.env.push((env::IDENTITY_TRUST_ANCHORS.into(), anchors));
        let token = if config.identity.service_account_token_projection {
            format!("{}/{}", names::TOKEN_DIR, names::TOKEN_FILE)
        } else {
            names::API_TOKEN_FILE.to_owned()
        };
        self.set(env::IDENTITY_TOKEN_FILE, token);
        let port = proxy_model::ports::IDENTITY;
        let addr = self.service(Component::Identity, "linkerd-identity-headless", port);
        self.set(env::IDENTITY_SVC_ADDR, addr);
        let mesh = MeshNames {
            control_plane_namespace: "$(_l5d_ns)",
            trust_domain: "$(_l5d_trustdomain)",
        };
        let control_plane = |account: &str| mesh.service_account(account, mesh.control_plane_namespace);
        self.set(
            env::IDENTITY_LOCAL_NAME,
            mesh.service_account("$(_pod_sa)", "$(_pod_ns)"),
        );
        self.set(env::IDENTITY_SVC_NAME, control_plane("linkerd-identity"));
        self.set(env::DESTINATION_SVC_NAME, control_plane("linkerd-destination"));
        self.set(env::POLICY_SVC_NAME, control_plane("linkerd-destination"));
        if proxy.tap {
            self.set(env::TAP_SVC_NAME, config.proxy.tap_identity.clone());
        }
        self.set_some(env::ACCESS_LOG, proxy.access_log.clone());
        let grace = proxy.timeouts.shutdown_grace.as_ref().map(ToString::to_string);
        self.set_some(env::SHUTDOWN_GRACE_PERIOD, grace);
    }
}

/// Additional variables by name: a later one replaces an earlier one.
pub(crate) fn merge(all: impl IntoIterator<Item = AdditionalVar>) -> Vec<AdditionalVar> {
    let mut merged: Vec<AdditionalVar> = vec![];
    for variable in all {
        match merged.iter_mut().find(|other| other.name == variable.name) {
            Some(other) => *other = variable,
            None => merged.push(variable),
        }
    }
    merged
}

fn screaming(camel: &str) -> String {
    let mut out = String::with_capacity(camel.len() + 4);
    for c in camel.chars() {
        if c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c.to_ascii_uppercase());
    }
    out
}

/// Text of a scalar that a chart may write as a string, number or boolean.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(boolean) => Some(boolean.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::screaming;

    #[test]
    fn parameter_names_become_variable_names() {
        assert_eq!(screaming("keepAliveInterval"), "KEEP_ALIVE_INTERVAL");
        assert_eq!(screaming("http2"), "HTTP2");
    }
}

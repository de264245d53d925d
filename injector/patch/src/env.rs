//! The sidecar's environment. Order matters: `$(name)` stands for a variable that comes before.

use proxy_model::env;
use serde_json::{Map, Value, json};

use crate::{
    component::Component,
    config::{Config, EnvVar},
    settings::{Settings, plain},
};

/// Folder of key and CSR.
pub(crate) const IDENTITY_DIR: &str = "/var/run/linkerd/identity/end-entity";
/// Folder of our token.
pub(crate) const TOKEN_DIR: &str = "/var/run/secrets/tokens";
/// File name of our token.
pub(crate) const TOKEN_FILE: &str = "linkerd-identity-token";
/// Folder of the service account's own token.
const API_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
/// Folder of the pod's labels and annotations.
pub(crate) const PODINFO_DIR: &str = "/var/run/linkerd/podinfo";

/// Makes the environment.
pub(crate) fn environment(config: &Config, settings: &Settings, component: Component) -> Vec<Value> {
    let mut list = List {
        config,
        settings,
        component,
        env: vec![],
    };
    list.pod();
    list.process();
    list.control();
    list.listeners();
    list.connections();
    list.tracing();
    list.identity();
    for variable in &settings.additional_env {
        list.replace(variable);
    }
    list.env
}

struct List<'a> {
    config: &'a Config,
    settings: &'a Settings,
    component: Component,
    env: Vec<Value>,
}

impl List<'_> {
    fn set(&mut self, name: &str, value: impl Into<String>) {
        self.env.push(json!({"name": name, "value": value.into()}));
    }

    fn some(&mut self, name: &str, value: Option<String>) {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            self.set(name, value);
        }
    }

    fn field(&mut self, name: &str, path: &str) {
        self.env
            .push(json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}));
    }

    /// A variable that somebody adds replaces ours of the same name.
    fn replace(&mut self, variable: &EnvVar) {
        let mut entry = Map::from_iter([("name".to_owned(), Value::String(variable.name.clone()))]);
        entry.extend(variable.rest.clone());
        let entry = Value::Object(entry);
        let same = |other: &&mut Value| other.get("name").and_then(Value::as_str) == Some(&variable.name);
        match self.env.iter_mut().find(same) {
            Some(other) => *other = entry,
            None => self.env.push(entry),
        }
    }

    fn pod(&mut self) {
        self.field("_pod_name", "metadata.name");
        self.field("_pod_ns", "metadata.namespace");
        self.field("_pod_uid", "metadata.uid");
        self.field("_pod_ip", "status.podIP");
        self.field("_pod_nodeName", "spec.nodeName");
        self.set("_pod_containerName", destination_k8s::keys::PROXY_CONTAINER);
    }

    fn process(&mut self) {
        let Self { config, settings, .. } = *self;
        let workers = &settings.workers;
        self.some(
            env::CORES,
            Some(config.proxy.cores)
                .filter(|cores| *cores > 0)
                .map(|cores| cores.to_string()),
        );
        self.some(env::CORES_MIN, workers.min.map(|cores| cores.to_string()));
        self.some(env::CORES_MAX, workers.max.map(|cores| cores.to_string()));
        self.some(env::CORES_MAX_RATIO, workers.ratio.map(|share| share.to_string()));
        self.some(
            env::INBOUND_PORTS_REQUIRE_IDENTITY,
            Some(settings.require_identity.clone()),
        );
        self.some(
            env::INBOUND_PORTS_REQUIRE_TLS,
            Some(config.proxy.require_tls_on_inbound_ports.clone()),
        );
        self.set(env::SHUTDOWN_ENDPOINT_ENABLED, settings.admin_shutdown.to_string());
        self.set(env::LOG, settings.log.clone());
        self.set(env::LOG_FORMAT, settings.log_format.clone());
    }

    /// Where a service of the control plane is; it reaches itself on loopback.
    fn service(&self, own: Component, service: &str, port: u16) -> String {
        let Config {
            linkerd_namespace,
            cluster_domain,
            ..
        } = self.config;
        if self.component == own {
            format!("localhost.:{port}")
        } else {
            format!("{service}.{linkerd_namespace}.svc.{cluster_domain}.:{port}")
        }
    }

    fn control(&mut self) {
        use proxy_model::ports::{DESTINATION, POLICY};
        let Self { config, settings, .. } = *self;
        self.set(
            env::DESTINATION_SVC_ADDR,
            self.service(Component::Destination, "linkerd-dst-headless", DESTINATION),
        );
        self.set(env::DESTINATION_PROFILE_NETWORKS, config.cluster_networks.clone());
        self.set(
            env::POLICY_SVC_ADDR,
            self.service(Component::Destination, "linkerd-policy", POLICY),
        );
        self.set(
            env::POLICY_WORKLOAD,
            "{\"ns\":\"$(_pod_ns)\", \"pod\":\"$(_pod_name)\"}\n",
        );
        self.set(env::INBOUND_DEFAULT_POLICY, settings.default_policy.clone());
        self.set(env::POLICY_CLUSTER_NETWORKS, config.cluster_networks.clone());
        let streams = &config.proxy.control.streams;
        self.set(env::CONTROL_STREAM_INITIAL_TIMEOUT, streams.initial_timeout.clone());
        self.set(env::CONTROL_STREAM_IDLE_TIMEOUT, streams.idle_timeout.clone());
        self.set(env::CONTROL_STREAM_LIFETIME, streams.lifetime.clone());
    }

    fn listeners(&mut self) {
        let Self { config, settings, .. } = *self;
        let times = &settings.times;
        self.set(env::INBOUND_CONNECT_TIMEOUT, times.inbound_connect.clone());
        self.set(env::OUTBOUND_CONNECT_TIMEOUT, times.outbound_connect.clone());
        self.set(env::OUTBOUND_DISCOVERY_IDLE_TIMEOUT, times.outbound_discovery.clone());
        self.set(env::INBOUND_DISCOVERY_IDLE_TIMEOUT, times.inbound_discovery.clone());
        self.some(env::OUTBOUND_DETECT_TIMEOUT, times.outbound_detect.map(str::to_owned));
        self.some(env::INBOUND_DETECT_TIMEOUT, times.inbound_detect.map(str::to_owned));
        // Literal addresses: the control plane finds these ports by reading the pod.
        let any = |port: u16| {
            if config.disable_ipv6 {
                format!("0.0.0.0:{port}")
            } else {
                format!("[::]:{port}")
            }
        };
        let ports = settings.ports;
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
        self.some(env::INBOUND_PORTS, Some(settings.inbound_ports.clone()));
    }

    fn connections(&mut self) {
        let Self { config, settings, .. } = *self;
        let suffix = format!("svc.{}.", config.cluster_domain);
        if settings.gateway {
            self.set(env::INBOUND_GATEWAY_SUFFIXES, suffix.clone());
        }
        if settings.ingress {
            self.set(env::INGRESS_MODE, "true");
        }
        self.set(
            env::DESTINATION_PROFILE_SUFFIXES,
            if settings.external_profiles {
                ".".to_owned()
            } else {
                suffix
            },
        );
        self.set(env::INBOUND_ACCEPT_KEEPALIVE, "10000ms");
        self.set(env::OUTBOUND_CONNECT_KEEPALIVE, "10000ms");
        self.set(env::INBOUND_ACCEPT_USER_TIMEOUT, "30s");
        self.set(env::OUTBOUND_CONNECT_USER_TIMEOUT, "30s");
        self.set(
            env::OUTBOUND_METRICS_HOSTNAME_LABELS,
            settings.hostname_labels.to_string(),
        );
        self.parameters("LINKERD2_PROXY_INBOUND", &config.proxy.inbound);
        self.parameters("LINKERD2_PROXY_OUTBOUND", &config.proxy.outbound);
        self.some(
            env::INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION,
            Some(settings.opaque_ports.clone()),
        );
        let context = "{\"ns\":\"$(_pod_ns)\", \"nodeName\":\"$(_pod_nodeName)\", \"pod\":\"$(_pod_name)\"}\n";
        self.set(env::DESTINATION_CONTEXT, context);
    }

    /// `server.http2.keepAliveInterval` becomes `…_SERVER_HTTP2_KEEP_ALIVE_INTERVAL`.
    fn parameters(&mut self, prefix: &str, tree: &Value) {
        if let Value::Object(map) = tree {
            for (key, value) in map {
                self.parameters(&format!("{prefix}_{}", screaming(key)), value);
            }
        } else if let Some(value) = plain(tree) {
            self.set(prefix, value);
        }
    }

    fn tracing(&mut self) {
        let tracing = &self.config.proxy.tracing;
        if !tracing.enable || tracing.collector.endpoint.is_empty() {
            return;
        }
        let identity = &tracing.collector.mesh_identity;
        let name = format!(
            "{}.{}.serviceaccount.identity.{}.{}",
            identity.service_account_name,
            identity.namespace,
            self.config.linkerd_namespace,
            self.config.trust_domain()
        );
        let labels: Vec<_> = tracing
            .labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let service = if tracing.trace_service_name.is_empty() {
            "linkerd-proxy"
        } else {
            &tracing.trace_service_name
        };
        self.set(env::TRACE_ATTRIBUTES_PATH, format!("{PODINFO_DIR}/labels"));
        self.set(env::TRACE_ANNOTATIONS_PATH, format!("{PODINFO_DIR}/annotations"));
        self.set(env::TRACE_PROTOCOL, "opentelemetry");
        self.set(env::TRACE_SERVICE_NAME, service);
        self.set(env::TRACE_COLLECTOR_SVC_ADDR, tracing.collector.endpoint.clone());
        self.set(env::TRACE_COLLECTOR_SVC_NAME, name);
        self.some(env::TRACE_EXTRA_ATTRIBUTES, Some(labels.join("\n")));
    }

    fn identity(&mut self) {
        let Self { config, settings, .. } = *self;
        self.field("_pod_sa", "spec.serviceAccountName");
        self.set("_l5d_ns", config.linkerd_namespace.clone());
        self.set("_l5d_trustdomain", config.trust_domain());
        self.set(env::IDENTITY_DIR, IDENTITY_DIR);
        if self.component == Component::None {
            self.set(env::IDENTITY_TRUST_ANCHORS, config.identity_trust_anchors_pem.clone());
        } else {
            let reference =
                json!({"configMapKeyRef": {"name": "linkerd-identity-trust-roots", "key": "ca-bundle.crt"}});
            self.env
                .push(json!({"name": env::IDENTITY_TRUST_ANCHORS, "valueFrom": reference}));
        }
        let own_token = config.identity.service_account_token_projection;
        let token = if own_token {
            format!("{TOKEN_DIR}/{TOKEN_FILE}")
        } else {
            API_TOKEN.to_owned()
        };
        self.set(env::IDENTITY_TOKEN_FILE, token);
        let addr = self.service(
            Component::Identity,
            "linkerd-identity-headless",
            proxy_model::ports::IDENTITY,
        );
        self.set(env::IDENTITY_SVC_ADDR, addr);
        self.set(
            env::IDENTITY_LOCAL_NAME,
            "$(_pod_sa).$(_pod_ns).serviceaccount.identity.$(_l5d_ns).$(_l5d_trustdomain)",
        );
        let of_control =
            |account: &str| format!("{account}.$(_l5d_ns).serviceaccount.identity.$(_l5d_ns).$(_l5d_trustdomain)");
        self.set(env::IDENTITY_SVC_NAME, of_control("linkerd-identity"));
        self.set(env::DESTINATION_SVC_NAME, of_control("linkerd-destination"));
        self.set(env::POLICY_SVC_NAME, of_control("linkerd-destination"));
        if settings.tap {
            self.set(env::TAP_SVC_NAME, config.proxy.tap_identity.clone());
        }
        self.some(env::ACCESS_LOG, settings.access_log.clone());
        self.some(env::SHUTDOWN_GRACE_PERIOD, settings.times.shutdown_grace.clone());
    }
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

#[cfg(test)]
mod tests {
    use super::screaming;

    #[test]
    fn parameters_become_variables() {
        assert_eq!(screaming("keepAliveInterval"), "KEEP_ALIVE_INTERVAL");
        assert_eq!(screaming("http2"), "HTTP2");
    }
}

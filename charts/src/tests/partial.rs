//! Generator of `_proxy.tpl`, the sidecar of the control plane's own pods.
//!
//! Containers, volumes, variables and their order come from the injector's own rendering of a pod in which everything
//! optional is set. The tables below say only which values of the chart stand behind a value or decide about an entry;
//! an entry without a row is copied as it is. The comparison with injected pods (`sidecar.rs`) holds the expressions.

use std::{collections::BTreeSet, fs, path::Path};

use injector_patch::{Config, config::AdditionalVar};
use proxy_model::env;
use serde_json::{Value, json};

use super::sidecar;

/// Variable that makes the test write the file.
const RENEW: &str = "MESH_RENEW";

/// Longest map on one line.
const LINE_MAX: usize = 150;

/// Difference between a generated entry and the copied one.
#[derive(Copy, Clone)]
enum Rule {
    /// A value of the chart.
    Value(&'static str),
    /// A condition, and the value if it is not the copied one.
    When(&'static str, &'static str),
    /// Other lines instead of the entry.
    Lines(&'static str),
    /// Other lines under a condition, else the entry.
    Unless(&'static str, &'static str),
}
use Rule::{Lines, Unless, Value as Is, When};

const PROXY: &[(&str, Rule)] = &[
    (
        "image",
        Is(r#"{{ include "mesh.image" (dict "root" .root "image" $values.proxy.image) }}"#),
    ),
    (
        "imagePullPolicy",
        Is("{{ $values.proxy.image.pullPolicy | default $values.imagePullPolicy }}"),
    ),
    (
        "ports/linkerd-proxy/containerPort",
        Is("{{ $values.proxy.ports.inbound }}"),
    ),
    (
        "ports/linkerd-admin/containerPort",
        Is("{{ $values.proxy.ports.admin }}"),
    ),
    ("livenessProbe/httpGet/port", Is("{{ $values.proxy.ports.admin }}")),
    (
        "livenessProbe/initialDelaySeconds",
        Lines("{{- with $values.proxy.livenessProbe }}\n{{- toYaml . | nindent 4 }}\n{{- end }}"),
    ),
    ("readinessProbe/httpGet/port", Is("{{ $values.proxy.ports.admin }}")),
    (
        "readinessProbe/initialDelaySeconds",
        Lines("# Frequent, because every other pod waits for these.\nperiodSeconds: 1"),
    ),
    (
        "securityContext",
        Unless(
            "$values.proxy.securityContext",
            "securityContext:\n  {{- toYaml $values.proxy.securityContext | nindent 4 }}",
        ),
    ),
    ("securityContext/runAsUser", Is("{{ int $values.proxy.uid }}")),
    (
        "securityContext/runAsGroup",
        When("if ge (int $values.proxy.gid) 0", "{{ int $values.proxy.gid }}"),
    ),
    (
        "volumeMounts/linkerd-identity-token",
        When("if $values.identity.serviceAccountTokenProjection", ""),
    ),
    ("terminationMessagePolicy", Lines(RESOURCES)),
];
const RESOURCES: &str =
    "terminationMessagePolicy: FallbackToLogsOnError\n{{- include \"mesh.sidecar-resources\" .root | nindent 2 }}";

const ENV: &[(&str, Rule)] = &[
    (env::CORES, When("if $proxy.cores", "{{ quote $proxy.cores }}")),
    (
        env::CORES_MIN,
        When("with $proxy.runtime.workers.minimum", "{{ quote . }}"),
    ),
    (
        env::CORES_MAX,
        When("with $proxy.runtime.workers.maximum", "{{ quote . }}"),
    ),
    (
        env::CORES_MAX_RATIO,
        When("with $proxy.runtime.workers.maximumCPURatio", "{{ quote . }}"),
    ),
    (
        env::INBOUND_PORTS_REQUIRE_IDENTITY,
        When(
            "with .requireIdentity | default $proxy.requireIdentityOnInboundPorts",
            "{{ quote . }}",
        ),
    ),
    (
        env::INBOUND_PORTS_REQUIRE_TLS,
        When(
            "with .requireTls | default $proxy.requireTLSOnInboundPorts",
            "{{ quote . }}",
        ),
    ),
    (
        env::SHUTDOWN_ENDPOINT_ENABLED,
        Is("{{ quote $proxy.enableShutdownEndpoint }}"),
    ),
    (
        env::LOG,
        Is(
            r#"{{ quote (printf "%s%s" $proxy.logLevel (ternary "" ",[{headers}]=off,[{request}]=off" (eq $proxy.logHTTPHeaders "insecure"))) }}"#,
        ),
    ),
    (env::LOG_FORMAT, Is("{{ quote $proxy.logFormat }}")),
    (
        env::DESTINATION_SVC_ADDR,
        Is(
            r#"{{ ternary "localhost.:8086" (printf "linkerd-dst-headless.%s:8086" $suffix) (eq .component "destination") }}"#,
        ),
    ),
    (
        env::DESTINATION_PROFILE_NETWORKS,
        Is("{{ quote $values.clusterNetworks }}"),
    ),
    (
        env::POLICY_SVC_ADDR,
        Is(
            r#"{{ ternary "localhost.:8090" (printf "linkerd-policy.%s:8090" $suffix) (eq .component "destination") }}"#,
        ),
    ),
    (env::POLICY_CLUSTER_NETWORKS, Is("{{ quote $values.clusterNetworks }}")),
    (
        env::CONTROL_STREAM_INITIAL_TIMEOUT,
        Is("{{ quote $proxy.control.streams.initialTimeout }}"),
    ),
    (
        env::CONTROL_STREAM_IDLE_TIMEOUT,
        Is("{{ quote $proxy.control.streams.idleTimeout }}"),
    ),
    (
        env::CONTROL_STREAM_LIFETIME,
        Is("{{ quote $proxy.control.streams.lifetime }}"),
    ),
    (
        env::INBOUND_CONNECT_TIMEOUT,
        Is("{{ quote $proxy.inboundConnectTimeout }}"),
    ),
    (
        env::OUTBOUND_CONNECT_TIMEOUT,
        Is("{{ quote $proxy.outboundConnectTimeout }}"),
    ),
    (
        env::OUTBOUND_DISCOVERY_IDLE_TIMEOUT,
        Is("{{ quote $proxy.outboundDiscoveryCacheUnusedTimeout }}"),
    ),
    (
        env::INBOUND_DISCOVERY_IDLE_TIMEOUT,
        Is("{{ quote $proxy.inboundDiscoveryCacheUnusedTimeout }}"),
    ),
    (
        env::OUTBOUND_DETECT_TIMEOUT,
        When("if $proxy.disableOutboundProtocolDetectTimeout", ""),
    ),
    (
        env::INBOUND_DETECT_TIMEOUT,
        When("if $proxy.disableInboundProtocolDetectTimeout", ""),
    ),
    (
        env::CONTROL_LISTEN_ADDR,
        Is(r#""{{ $any }}:{{ $proxy.ports.control }}""#),
    ),
    (env::ADMIN_LISTEN_ADDR, Is(r#""{{ $any }}:{{ $proxy.ports.admin }}""#)),
    (
        env::OUTBOUND_LISTEN_ADDR,
        Is(r#""127.0.0.1:{{ $proxy.ports.outbound }}""#),
    ),
    (
        env::OUTBOUND_LISTEN_ADDRS,
        Is(
            r#""127.0.0.1:{{ $proxy.ports.outbound }}{{ if not $values.disableIPv6 }},[::1]:{{ $proxy.ports.outbound }}{{ end }}""#,
        ),
    ),
    (
        env::INBOUND_LISTEN_ADDR,
        Is(r#""{{ $any }}:{{ $proxy.ports.inbound }}""#),
    ),
    (env::INBOUND_PORTS, Is("{{ quote .ports }}")),
    (
        env::DESTINATION_PROFILE_SUFFIXES,
        Is(r#"{{ ternary "." (printf "svc.%s." $values.clusterDomain) $proxy.enableExternalProfiles }}"#),
    ),
    (
        env::OUTBOUND_METRICS_HOSTNAME_LABELS,
        Is("{{ quote $proxy.metrics.hostnameLabels }}"),
    ),
    (env::INBOUND_SERVER_HTTP2_KEEP_ALIVE_INTERVAL, Lines(PARAMETERS)),
    (env::INBOUND_SERVER_HTTP2_KEEP_ALIVE_TIMEOUT, Lines("")),
    (env::OUTBOUND_SERVER_HTTP2_KEEP_ALIVE_INTERVAL, Lines("")),
    (env::OUTBOUND_SERVER_HTTP2_KEEP_ALIVE_TIMEOUT, Lines("")),
    (
        env::INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION,
        When("with .opaque | default $proxy.opaquePorts", "{{ quote . }}"),
    ),
    ("_l5d_ns", Is("{{ .root.Release.Namespace }}")),
    ("_l5d_trustdomain", Is(r#"{{ include "mesh.trust-domain" .root }}"#)),
    (
        env::IDENTITY_TOKEN_FILE,
        Is(
            r#"{{ ternary "/var/run/secrets/tokens/linkerd-identity-token" "/var/run/secrets/kubernetes.io/serviceaccount/token" $values.identity.serviceAccountTokenProjection }}"#,
        ),
    ),
    (
        // Not the headless Service: these pods start together, and resolvers cache a name without addresses as unknown
        // for 5 s.
        env::IDENTITY_SVC_ADDR,
        Is(r#"{{ ternary "localhost.:8080" (printf "linkerd-identity.%s:8080" $suffix) (eq .component "identity") }}"#),
    ),
    (
        env::TAP_SVC_NAME,
        When(r#"with include "mesh.tap-identity" .root"#, "{{ quote . }}"),
    ),
    (env::ACCESS_LOG, When("with $proxy.accessLog", "{{ quote . }}")),
    (
        env::SHUTDOWN_GRACE_PERIOD,
        When("with $proxy.shutdownGracePeriod", "{{ quote . }}"),
    ),
    (LAST, Lines(ADDITIONAL)),
];
/// Additional variable that marks the end of the environment.
const LAST: &str = "LAST";
const ADDITIONAL: &str = "{{- with $proxy.additionalEnv }}\n{{- toYaml . | nindent 4 }}\n{{- end }}
{{- with $proxy.experimentalEnv }}\n{{- toYaml . | nindent 4 }}\n{{- end }}";
const PARAMETERS: &str = r#"{{- range $side, $scopes := dict "INBOUND" $proxy.inbound "OUTBOUND" $proxy.outbound }}
{{- range $scope, $protocols := $scopes }}
{{- range $protocol, $parameters := $protocols }}
{{- range $parameter, $value := $parameters }}
- name: LINKERD2_PROXY_{{ $side }}_{{ upper $scope }}_{{ upper $protocol }}_{{ snakecase $parameter | upper }}
  value: {{ quote $value }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}"#;

const INIT: &[(&str, Rule)] = &[
    (
        "image",
        Is(r#"{{ include "mesh.image" (dict "root" .root "image" $init.image) }}"#),
    ),
    (
        "imagePullPolicy",
        Is("{{ $init.image.pullPolicy | default $values.imagePullPolicy }}"),
    ),
    ("args/--ipv6=false", When("if $values.disableIPv6", "")),
    (
        "args/--incoming-proxy-port",
        Is("{{ int $values.proxy.ports.inbound | quote }}"),
    ),
    (
        "args/--outgoing-proxy-port",
        Is("{{ int $values.proxy.ports.outbound | quote }}"),
    ),
    ("args/--proxy-uid", Is("{{ int $values.proxy.uid | quote }}")),
    (
        "args/--proxy-gid",
        When("if ge (int $values.proxy.gid) 0", "{{ int $values.proxy.gid | quote }}"),
    ),
    (
        "args/--inbound-ports-to-ignore",
        Is(
            r#""{{ $values.proxy.ports.control }},{{ $values.proxy.ports.admin }}{{ with $init.ignoreInboundPorts }},{{ . }}{{ end }}""#,
        ),
    ),
    (
        "args/--outbound-ports-to-ignore",
        When("with $init.kubeAPIServerPorts", "{{ quote . }}"),
    ),
    (
        "args/--timeout-close-wait-secs",
        When(
            "if gt (int $init.closeWaitTimeoutSecs) 0",
            "{{ int $init.closeWaitTimeoutSecs | quote }}",
        ),
    ),
    (
        "args/--subnets-to-ignore",
        When("with $init.skipSubnets", "{{ quote . }}"),
    ),
    ("args/--log-level", When("with $init.logLevel", "{{ quote . }}")),
    ("args/--log-format", When("with $init.logFormat", "{{ quote . }}")),
    ("securityContext/privileged", Is("{{ $privileged }}")),
    ("securityContext/allowPrivilegeEscalation", Is("{{ $privileged }}")),
    ("securityContext/capabilities/drop", When("if not $privileged", "")),
    ("securityContext/runAsNonRoot", Is("{{ not $init.runAsRoot }}")),
    (
        "securityContext/runAsUser",
        Is("{{ ternary 0 (int $init.runAsUser) $init.runAsRoot }}"),
    ),
    (
        "securityContext/runAsGroup",
        Is("{{ ternary 0 (int $init.runAsUser) $init.runAsRoot }}"),
    ),
    ("terminationMessagePolicy", Lines(RESOURCES)),
];

const VALIDATOR: &[(&str, Rule)] = &[
    (
        "image",
        Is(r#"{{ include "mesh.image" (dict "root" .root "image" $validator.image) }}"#),
    ),
    (
        "imagePullPolicy",
        Is("{{ $validator.image.pullPolicy | default $values.imagePullPolicy }}"),
    ),
    ("args/--log-format", Is("{{ quote $validator.logFormat }}")),
    ("args/--log-level", Is("{{ quote $validator.logLevel }}")),
    (
        "args/--connect-addr",
        Is(
            r#"{{ $validator.connectAddr | default (ternary "1.1.1.1:20001" "[fd00::1]:20001" $values.disableIPv6) | quote }}"#,
        ),
    ),
    (
        "args/--listen-addr",
        Is(
            r#"{{ $validator.listenAddr | default (printf "%s:%v" (ternary "0.0.0.0" "[::]" $values.disableIPv6) $values.proxy.ports.outbound) | quote }}"#,
        ),
    ),
    ("args/--timeout", Is("{{ quote $validator.timeout }}")),
    ("securityContext/runAsUser", Is("{{ int $values.proxyInit.runAsUser }}")),
    (
        "securityContext/runAsGroup",
        Is("{{ int $values.proxyInit.runAsUser }}"),
    ),
    ("terminationMessagePolicy", Lines(RESOURCES)),
];

const VOLUMES: &[(&str, Rule)] = &[(
    "linkerd-identity-token",
    When("if $values.identity.serviceAccountTokenProjection", ""),
)];

/// A configuration in which everything optional is set.
fn config(cni: bool) -> Config {
    let mut config = Config {
        identity_trust_anchors_pem: "PEM".into(),
        cni_enabled: cni,
        ..Config::default()
    };
    let (proxy, init) = (&mut config.proxy, &mut config.proxy_init);
    proxy.cores = 1;
    proxy.runtime.workers.minimum = Some(1);
    proxy.runtime.workers.maximum = Some(1);
    proxy.runtime.workers.maximum_cpu_ratio = Some(0.5);
    proxy.require_identity_on_inbound_ports = "1".into();
    proxy.require_tls_on_inbound_ports = "1".into();
    proxy.disable_outbound_protocol_detect_timeout = true;
    proxy.disable_inbound_protocol_detect_timeout = true;
    proxy.shutdown_grace_period = "1s".into();
    proxy.access_log = "json".into();
    proxy.tap_identity = "tap".into();
    proxy.gid = 1;
    proxy.additional_env = vec![AdditionalVar {
        name: LAST.into(),
        rest: [("value".to_owned(), Value::from(""))].into_iter().collect(),
    }];
    init.close_wait_timeout_secs = 1;
    init.skip_subnets = "10.0.0.0/8".into();
    init.log_level = "info".into();
    init.log_format = "plain".into();
    config
}

/// Pod spec of a control plane component, as the injector renders it.
fn injected(cni: bool) -> Value {
    let annotations = json!({"config.linkerd.io/proxy-await": "disabled",
        "config.linkerd.io/proxy-enable-native-sidecar": "false",
        "config.linkerd.io/default-inbound-policy": "all-unauthenticated"});
    let bare = json!({"kind": "Deployment", "metadata": {"name": "linkerd-x"}, "spec": {"template": {
        "metadata": {"annotations": annotations, "labels": {"linkerd.io/control-plane-component": "x"}},
        "spec": {"containers": [{"name": "x", "ports": [{"containerPort": 1}]}]}}}});
    sidecar::injected(config(cni), &bare)["spec"]["template"]["spec"].take()
}

/// Writer of YAML with template actions.
struct Writer {
    rules: Vec<(String, Rule)>,
    used: BTreeSet<String>,
    out: String,
}

impl Writer {
    fn new(rules: &[(&'static str, Rule)], env: &[(&'static str, Rule)]) -> Self {
        let env = env.iter().map(|(name, rule)| (format!("env/{name}"), *rule));
        let rules = rules.iter().map(|(path, rule)| ((*path).to_owned(), *rule)).chain(env);
        Self {
            rules: rules.collect(),
            used: BTreeSet::new(),
            out: String::new(),
        }
    }

    fn rule(&mut self, path: &str) -> Option<Rule> {
        let rule = self
            .rules
            .iter()
            .find(|(known, _)| known == path)
            .map(|(_, rule)| *rule);
        if rule.is_some() {
            self.used.insert(path.to_owned());
        }
        rule
    }

    fn line(&mut self, indent: usize, text: &str) {
        self.out.push_str(&format!("{}{text}\n", " ".repeat(indent)));
    }

    fn lines(&mut self, indent: usize, text: &str) {
        text.lines().for_each(|line| self.line(indent, line));
    }

    /// Writes an entry under its rule; `write` gets the value that replaces the copied one.
    fn entry(&mut self, path: &str, indent: usize, write: impl FnOnce(&mut Self, Option<&'static str>)) {
        match self.rule(path) {
            None => write(self, None),
            Some(Rule::Value(value)) => write(self, Some(value)),
            Some(When(condition, value)) => {
                self.line(indent, &format!("{{{{- {condition} }}}}"));
                write(self, Some(value).filter(|value| !value.is_empty()));
                self.line(indent, "{{- end }}");
            }
            Some(Lines(text)) => self.lines(indent, text),
            Some(Unless(condition, text)) => {
                self.line(indent, &format!("{{{{- if {condition} }}}}"));
                self.lines(indent, text);
                self.line(indent, "{{- else }}");
                write(self, None);
                self.line(indent, "{{- end }}");
            }
        }
    }

    fn map(&mut self, map: &Value, path: &str, indent: usize) {
        for (key, value) in map.as_object().expect("a map") {
            let path = if path.is_empty() {
                key.clone()
            } else {
                format!("{path}/{key}")
            };
            self.entry(&path, indent, |writer, other| {
                if let Some(other) = other {
                    return writer.line(indent, &format!("{key}: {other}"));
                }
                match value {
                    Value::Object(_) if writer.fits(value, &path) => writer.line(indent, &format!("{key}: {value}")),
                    Value::Object(_) => {
                        writer.line(indent, &format!("{key}:"));
                        writer.map(value, &path, indent + 2);
                    }
                    Value::Array(items) if items.iter().all(Value::is_object) || key == "args" => {
                        writer.line(indent, &format!("{key}:"));
                        writer.list(items, &path, indent + 2);
                    }
                    _ => writer.line(indent, &format!("{key}: {value}")),
                }
            });
        }
    }

    /// Returns true for maps that fit a line and have no rules inside.
    fn fits(&self, map: &Value, path: &str) -> bool {
        let inside = format!("{path}/");
        map.to_string().len() < LINE_MAX && !self.rules.iter().any(|(path, _)| path.starts_with(&inside))
    }

    fn list(&mut self, items: &[Value], path: &str, indent: usize) {
        let mut items = items.iter();
        while let Some(item) = items.next() {
            let Some(flag) = item.as_str() else {
                self.named(item, path, indent);
                continue;
            };
            let value = if flag.contains('=') { None } else { items.next() };
            self.entry(&format!("{path}/{flag}"), indent, |writer, other| {
                writer.line(indent, &format!("- {flag}"));
                if let Some(value) = value {
                    let text = other.map_or_else(|| value.to_string(), str::to_owned);
                    writer.line(indent, &format!("- {text}"));
                }
            });
        }
    }

    /// Writes an item with a name: a variable, port, mount or volume.
    fn named(&mut self, item: &Value, path: &str, indent: usize) {
        let name = item["name"].as_str().expect("a name");
        let path = [path, name].into_iter().filter(|part| !part.is_empty());
        let path = path.collect::<Vec<_>>().join("/");
        self.entry(&path, indent, |writer, other| {
            writer.line(indent, &format!("- name: {name}"));
            let mut rest = item.clone();
            rest.as_object_mut().expect("a map").remove("name");
            match other {
                Some(other) => writer.line(indent + 2, &format!("value: {other}")),
                None => writer.map(&rest, &path, indent + 2),
            }
        });
    }

    fn finish(self) -> String {
        let unused = self.rules.iter().find(|(path, _)| !self.used.contains(path));
        assert!(
            unused.is_none(),
            "the sidecar has no {}",
            unused.map_or("", |(path, _)| path)
        );
        self.out
    }
}

fn container(pod: &Value, name: &str, rules: &[(&'static str, Rule)], env: &[(&'static str, Rule)]) -> String {
    let lists = ["containers", "initContainers"].map(|list| pod[list].as_array().cloned().unwrap_or_default());
    let all = lists.concat();
    let container = all
        .iter()
        .find(|container| container["name"] == name)
        .expect("a container");
    let mut rest = container.clone();
    rest.as_object_mut().expect("a map").remove("name");
    let mut writer = Writer::new(rules, env);
    writer.line(0, &format!("- name: {name}"));
    writer.map(&rest, "", 2);
    writer.finish()
}

fn volumes(pod: &Value) -> String {
    let mut writer = Writer::new(VOLUMES, &[]);
    writer.list(pod["volumes"].as_array().expect("volumes"), "", 0);
    writer.finish()
}

/// The whole file.
fn partial() -> String {
    let (redirected, cni) = (injected(false), injected(true));
    let define = |name: &str, body: &str| format!("{{{{- define \"mesh.{name}\" -}}}}\n{body}{{{{- end -}}}}\n");
    let values = "{{- $values := .root.Values -}}\n";
    let volumes = format!("{{{{- $values := .Values -}}}}\n{}", volumes(&redirected));
    let validator = container(&cni, "linkerd-network-validator", VALIDATOR, &[]);
    let init = container(&redirected, "linkerd-init", INIT, &[]);
    let init = format!(
        "{values}{{{{- if $values.cniEnabled -}}}}\n{{{{- $validator := $values.networkValidator -}}}}\n{validator}{{{{- else -}}}}\n\
         {{{{- $init := $values.proxyInit -}}}}\n\
         {{{{- $privileged := and $init.runAsRoot (gt (int $init.closeWaitTimeoutSecs) 0) -}}}}\n{init}{{{{- end }}}}\n"
    );
    let proxy = format!(
        "{values}{{{{- $proxy := $values.proxy -}}}}\n\
         {{{{- $any := ternary \"0.0.0.0\" \"[::]\" $values.disableIPv6 -}}}}\n\
         {{{{- $suffix := printf \"%s.svc.%s.\" .root.Release.Namespace $values.clusterDomain -}}}}\n{}",
        container(&redirected, "linkerd-proxy", PROXY, ENV)
    );
    let head = format!(
        "{{{{- /* Sidecar of the control plane's own pods. Generated from the injector's by `{RENEW}=1 cargo test -p mesh-charts\n\
         partial`; do not edit. Takes a map: root, component, ports (of the containers), and optionally opaque,\n\
         requireIdentity and requireTls (ports); volumes take the root. */ -}}}}\n"
    );
    let parts = [
        define("sidecar-volumes", &volumes),
        define("sidecar-init", &init),
        define("sidecar", &proxy),
    ];
    format!("{head}\n{}", parts.join("\n"))
}

#[test]
fn the_partial_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("mesh-control-plane/templates/_proxy.tpl");
    let current = partial();
    if std::env::var_os(RENEW).is_some() {
        fs::write(&path, &current).expect("written");
    }
    let stored = fs::read_to_string(&path).expect("a file");
    assert!(
        stored == current,
        "{} is stale; renew it by `{RENEW}=1 cargo test -p mesh-charts partial`",
        path.display()
    );
}

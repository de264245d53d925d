//! The effect of each annotation, and the errors for invalid values.

use serde_json::json;

use super::{config, env, init_args, injected, injected_by, named, namespace, on, outcome, pod, proxy};
use crate::Error;

/// Annotation, value, variable it changes, value of the variable.
const CASES: &[(&str, &str, &str, &str)] = &[
    ("inbound-port", "5143", "INBOUND_LISTEN_ADDR", "0.0.0.0:5143"),
    ("outbound-port", "5140", "OUTBOUND_LISTEN_ADDRS", "127.0.0.1:5140"),
    ("admin-port", "5191", "ADMIN_LISTEN_ADDR", "0.0.0.0:5191"),
    ("control-port", "5190", "CONTROL_LISTEN_ADDR", "0.0.0.0:5190"),
    (
        "opaque-ports",
        "http,25,8000-8010,absent",
        "INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION",
        "8080,25,8000-8010",
    ),
    ("pod-inbound-ports", "1,2", "INBOUND_PORTS", "1,2"),
    ("proxy-cpu-limit", "1500m", "CORES_MAX", "2"),
    ("proxy-cpu-request", "100m", "CORES_MIN", "1"),
    ("proxy-cpu-ratio-limit", "0.5", "CORES_MAX_RATIO", "0.5"),
    (
        "proxy-log-level",
        "debug",
        "LOG",
        "debug,[{headers}]=off,[{request}]=off",
    ),
    ("proxy-log-format", "json", "LOG_FORMAT", "json"),
    (
        "proxy-log-http-headers",
        "insecure",
        "LOG",
        "warn,linkerd=info,hickory=error",
    ),
    ("access-log", "apache", "ACCESS_LOG", "apache"),
    ("enable-external-profiles", "true", "DESTINATION_PROFILE_SUFFIXES", "."),
    (
        "proxy-require-identity-inbound-ports",
        "8080",
        "INBOUND_PORTS_REQUIRE_IDENTITY",
        "8080",
    ),
    (
        "proxy-metrics-hostname-labels",
        "true",
        "OUTBOUND_METRICS_HOSTNAME_LABELS",
        "true",
    ),
    (
        "proxy-outbound-connect-timeout",
        "1.5s",
        "OUTBOUND_CONNECT_TIMEOUT",
        "1500ms",
    ),
    (
        "proxy-inbound-connect-timeout",
        "2s",
        "INBOUND_CONNECT_TIMEOUT",
        "2000ms",
    ),
    (
        "proxy-outbound-discovery-cache-unused-timeout",
        "1m",
        "OUTBOUND_DISCOVERY_IDLE_TIMEOUT",
        "60s",
    ),
    (
        "proxy-inbound-discovery-cache-unused-timeout",
        "500ms",
        "INBOUND_DISCOVERY_IDLE_TIMEOUT",
        "500ms",
    ),
    (
        "proxy-disable-outbound-protocol-detect-timeout",
        "true",
        "OUTBOUND_DETECT_TIMEOUT",
        "365d",
    ),
    (
        "proxy-disable-inbound-protocol-detect-timeout",
        "true",
        "INBOUND_DETECT_TIMEOUT",
        "365d",
    ),
    ("default-inbound-policy", "deny", "INBOUND_DEFAULT_POLICY", "deny"),
    ("shutdown-grace-period", "30s", "SHUTDOWN_GRACE_PERIOD", "30000ms"),
    ("proxy-admin-shutdown", "enabled", "SHUTDOWN_ENDPOINT_ENABLED", "true"),
    (
        "enable-gateway",
        "true",
        "INBOUND_GATEWAY_SUFFIXES",
        "svc.cluster.local.",
    ),
    (
        "proxy-additional-env",
        r#"[{"name":"LINKERD2_PROXY_LOG","value":"off"}]"#,
        "LOG",
        "off",
    ),
];

#[test]
fn every_annotation_changes_its_variable() {
    for (key, said, variable, value) in CASES {
        let key = format!("config.linkerd.io/{key}");
        let pod = injected(&json!({key.clone(): said}));
        assert_eq!(env(&pod, variable), *value, "{key}");
    }
    assert_eq!(
        env(&injected(&json!({"linkerd.io/inject": "ingress"})), "INGRESS_MODE"),
        "true"
    );
    let pod = injected(&json!({"config.linkerd.io/skip-outbound-ports": "", "config.linkerd.io/proxy-uid": "99"}));
    assert!(!init_args(&pod).contains("outbound-ports") && init_args(&pod).contains("--proxy-uid 99"));
    assert_eq!(proxy(&pod)["securityContext"]["runAsUser"], 99);
}

#[test]
fn annotations_set_images_and_resources() {
    let key = |name: &str| format!("config.linkerd.io/{name}");
    let pod = injected(
        &json!({key("proxy-image"): "x/p", key("proxy-version"): "v9", key("image-pull-policy"): "Always",
        key("proxy-cpu-request"): "10m", key("proxy-memory-limit"): "250Mi",
        key("proxy-ephemeral-storage-request"): "1Gi", key("enable-debug-sidecar"): "true",
        key("debug-image"): "x/d", key("debug-image-version"): "v8", key("debug-image-pull-policy"): "Never"}),
    );
    let proxy = proxy(&pod);
    assert_eq!(
        (&proxy["image"], &proxy["imagePullPolicy"]),
        (&json!("x/p:v9"), &json!("Always"))
    );
    let resources = json!({"limits": {"memory": "250Mi"}, "requests": {"cpu": "10m", "ephemeral-storage": "1Gi"}});
    assert_eq!(proxy["resources"], resources);
    assert_eq!(
        named(&pod["spec"]["initContainers"], "linkerd-init")["resources"],
        resources
    );
    assert_eq!(pod["metadata"]["annotations"]["linkerd.io/proxy-version"], "v9");
    let debug = named(&pod["spec"]["containers"], "linkerd-debug");
    assert_eq!(
        (&debug["image"], &debug["imagePullPolicy"]),
        (&json!("x/d:v8"), &json!("Never"))
    );
}

#[test]
fn rejects_invalid_values_and_names_the_annotation() {
    let cases = [
        ("inbound-port", "0", "a port from 1 to 65535"),
        ("skip-inbound-ports", "99999", "a list of ports"),
        ("skip-subnets", "10.0.0.0", "a list of networks"),
        ("opaque-ports", "80_80", "names of ports"),
        ("proxy-cpu-limit", "lots", "an amount"),
        ("proxy-cpu-ratio-limit", "1.5", "between 0 and 1"),
        ("proxy-uid", "root", "a whole number"),
        ("proxy-log-format", "xml", "one of plain, json"),
        ("access-log", "nginx", "one of apache, json"),
        ("default-inbound-policy", "allow", "one of all-unauthenticated"),
        ("proxy-await", "true", "enabled or disabled"),
        ("proxy-enable-native-sidecar", "yes", "true or false"),
        ("proxy-outbound-connect-timeout", "fast", "a duration"),
        ("image-pull-policy", "never", "one of Always"),
        ("proxy-additional-env", "{", "a JSON list"),
    ];
    for (key, value, expected) in cases {
        let key = format!("config.linkerd.io/{key}");
        let own = pod(&json!({key.clone(): value}));
        let error = outcome(config(), &own, &on()).expect_err(&key).to_string();
        let start = format!("invalid annotation {key} on the workload: {value:?} is not ");
        assert!(error.starts_with(&start) && error.contains(expected), "{error}");
    }
    let on = namespace(&[("linkerd.io/inject", "enabled"), ("config.linkerd.io/proxy-uid", "x")]);
    let error = outcome(config(), &pod(&json!({})), &on)
        .expect_err("no number")
        .to_string();
    assert!(
        error.starts_with("invalid annotation config.linkerd.io/proxy-uid on the namespace shop: \"x\""),
        "{error}"
    );
    let both = json!({"config.linkerd.io/proxy-cpu-request": "2", "config.linkerd.io/proxy-cpu-limit": "1"});
    let error = outcome(config(), &pod(&both), &super::on())
        .expect_err("too much")
        .to_string();
    assert!(
        error.contains("proxy-cpu-request on the workload: \"2\" is not at most the limit (1)"),
        "{error}"
    );
    let debug = pod(&json!({"config.linkerd.io/enable-debug-sidecar": "true"}));
    assert_eq!(
        outcome(config(), &debug, &super::on()),
        Err(Error::Sidecar(injector_sidecar::Error::NoDebugImage))
    );
}

#[test]
fn workload_overrides_namespace_and_pod_inherits_the_rest() {
    let namespace = namespace(&[
        ("linkerd.io/inject", "enabled"),
        ("config.linkerd.io/proxy-log-level", "info"),
        ("config.linkerd.io/proxy-cpu-request", "1"),
        (
            "config.linkerd.io/proxy-additional-env",
            r#"[{"name":"A","value":"1"},{"name":"B","value":"1"}]"#,
        ),
    ]);
    let own = json!({"config.linkerd.io/proxy-log-level": "debug",
        "config.linkerd.io/proxy-additional-env": r#"[{"name":"B","value":"2"}]"#});
    let pod = injected_by(config(), &pod(&own), &namespace);
    assert!(env(&pod, "LOG").starts_with("debug,"));
    assert_eq!(
        pod["metadata"]["annotations"]["config.linkerd.io/proxy-cpu-request"],
        "1"
    );
    assert_eq!(
        pod["metadata"]["annotations"]["config.linkerd.io/proxy-log-level"],
        "debug"
    );
    assert_eq!(named(&proxy(&pod)["env"], "A")["value"], "1");
    assert_eq!(named(&proxy(&pod)["env"], "B")["value"], "2");
}

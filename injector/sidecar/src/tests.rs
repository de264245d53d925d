//! Resolution in types, and rendering as a process.

use std::{collections::BTreeMap, path::Path, time::Duration};

use serde_json::{Value, json};

use crate::{
    Annotations, Config, EnvValue, Namespace, Pod, PodFacts, RedirectMethod, SidecarSpec,
    process::{Host, Process, Reference, Unresolved},
};

fn resolve(config: &Config, annotations: &Value) -> SidecarSpec {
    let pod = json!({"metadata": {"annotations": annotations}, "spec": {"containers": [
        {"name": "app", "ports": [{"containerPort": 8080, "name": "http"}]}]}});
    let namespace = Namespace::default();
    let pod = Pod(&pod);
    let annotations = Annotations::new(pod.metadata(), &namespace);
    SidecarSpec::resolve(config, &annotations, &PodFacts::new(pod)).expect("valid")
}

fn config() -> Config {
    Config {
        identity_trust_anchors_pem: "PEM".into(),
        ..Config::default()
    }
}

fn process(spec: &SidecarSpec, env: &[(String, String)]) -> Result<Process, Unresolved> {
    let resolve = |reference: Reference<'_>| match reference {
        Reference::Field("metadata.name") => Some("web-1".to_owned()),
        Reference::Field("metadata.namespace") => Some("shop".to_owned()),
        Reference::Field("spec.serviceAccountName") => Some("web".to_owned()),
        Reference::Field("status.podIP" | "status.podIPs") => Some("10.42.0.9".to_owned()),
        Reference::Field("metadata.uid" | "spec.nodeName") => Some(String::new()),
        _ => None,
    };
    spec.process(&Host {
        program: "/opt/mesh-proxy",
        identity_dir: Path::new("/state/identity"),
        token: Path::new("/state/token"),
        mark: 2102,
        resolve: &resolve,
        env,
    })
}

#[test]
fn rules_follow_ports_and_skip_annotations() {
    let spec = resolve(
        &config(),
        &json!({"config.linkerd.io/admin-port": "5191", "config.linkerd.io/skip-inbound-ports": "22,8000-8010",
            "config.linkerd.io/skip-subnets": "10.0.0.0/8", "config.linkerd.io/proxy-gid": "7"}),
    );
    let rules = &spec.redirection.rules;
    assert_eq!(
        rules.inbound_skip.ranges(),
        [(4190, 4190), (5191, 5191), (22, 22), (8000, 8010)]
    );
    assert_eq!(rules.outbound_skip.ranges(), [(4567, 4567), (4568, 4568)]);
    assert_eq!(
        (rules.proxy_uid, rules.proxy_gid, rules.ipv6),
        (Some(2102), Some(7), false)
    );
    assert_eq!(rules.inbound_skip_from, ["10.0.0.0/8".parse().expect("a network")]);
    assert!(matches!(spec.redirection.method, RedirectMethod::Init(_)));
}

#[test]
fn durations_keep_the_chart_spelling() {
    let mut config = config();
    config.proxy.outbound_connect_timeout = "2s".into();
    let spec = resolve(
        &config,
        &json!({"config.linkerd.io/proxy-inbound-connect-timeout": "1.5s"}),
    );
    let timeouts = &spec.proxy.timeouts;
    assert_eq!(timeouts.outbound_connect.to_string(), "2s");
    assert_eq!(timeouts.outbound_connect.value(), Duration::from_secs(2));
    assert_eq!(timeouts.inbound_connect.to_string(), "1500ms");
    assert_eq!(timeouts.stream_idle.value(), Duration::from_secs(300));
}

#[test]
fn only_the_control_plane_fails_open_unless_a_pod_asks_for_it() {
    let (fail_open, path_check) = ("MESH_PROXY_INBOUND_FAIL_OPEN", "MESH_PROXY_INBOUND_PATH_CHECK");
    let env = |spec: &SidecarSpec| -> Vec<(String, String)> {
        let ours = spec.env.iter().filter(|(name, _)| name.as_str().starts_with("MESH_"));
        let text = |value: &EnvValue| match value {
            EnvValue::Literal(text) => text.clone(),
            other => panic!("{other:?}"),
        };
        ours.map(|(name, value)| (name.as_str().to_owned(), text(value)))
            .collect()
    };
    assert_eq!(env(&resolve(&config(), &json!({}))), []);
    let asked = json!({"config.linkerd.io/proxy-inbound-fail-open": "enabled",
        "config.linkerd.io/proxy-inbound-path-check": "disabled"});
    let both = [(fail_open, "true"), (path_check, "false")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(env(&resolve(&config(), &asked)), both);
    let pod = json!({"metadata": {"labels": {"linkerd.io/control-plane-component": "identity"}}, "spec": {}});
    let (pod, namespace) = (Pod(&pod), Namespace::default());
    let annotations = Annotations::new(pod.metadata(), &namespace);
    let spec = SidecarSpec::resolve(&config(), &annotations, &PodFacts::new(pod)).expect("valid");
    assert_eq!(env(&spec), both[..1]);
}

#[test]
fn process_environment_is_literal_and_local() {
    let spec = resolve(&config(), &json!({"config.linkerd.io/opaque-ports": "http,25"}));
    let extra = ("LINKERD2_PROXY_LOG".to_owned(), "debug".to_owned());
    let process = process(&spec, &[extra]).expect("resolved");
    let env: BTreeMap<_, _> = process
        .env
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    for (name, value) in [
        ("POLICY_WORKLOAD", "{\"ns\":\"shop\", \"pod\":\"web-1\"}\n"),
        (
            "IDENTITY_LOCAL_NAME",
            "web.shop.serviceaccount.identity.linkerd.cluster.local",
        ),
        ("IDENTITY_DIR", "/state/identity"),
        ("IDENTITY_TOKEN_FILE", "/state/token"),
        ("IDENTITY_TRUST_ANCHORS", "PEM"),
        ("INBOUND_IPS", "10.42.0.9"),
        ("INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION", "8080,25"),
        ("LOG", "debug"),
    ] {
        assert_eq!(env[format!("LINKERD2_PROXY_{name}").as_str()], value, "{name}");
    }
    assert_eq!(env[proxy_model::env::SOCKET_MARK], "2102");
    assert_eq!(process.argv, ["/opt/mesh-proxy"]);
    assert_eq!((process.rules.proxy_uid, process.rules.mark), (None, Some(2102)));
    assert_eq!(process.readiness.initial_delay(), Duration::from_secs(2));
    assert_eq!(process.readiness.period(), Duration::from_secs(10));
}

#[test]
fn unresolvable_references_name_the_variable() {
    let secret = r#"[{"name":"A","valueFrom":{"secretKeyRef":{"name":"s","key":"k"}}}]"#;
    let spec = resolve(&config(), &json!({"config.linkerd.io/proxy-additional-env": secret}));
    assert!(matches!(spec.env.last(), Some((_, EnvValue::Manifest(_)))));
    let error = process(&spec, &[]).expect_err("no Secrets here").to_string();
    assert!(
        error.starts_with("cannot resolve environment variable A: unsupported reference {"),
        "{error}"
    );
}

#[test]
fn expands_earlier_variables_only() {
    let env = [("A".to_owned(), "1".to_owned())];
    for (text, expanded) in [("$(A)$(B)", "1$(B)"), ("$$(A)", "$(A)"), ("a$", "a$"), ("$(A", "$(A")] {
        assert_eq!(crate::process::expand(text, &env), expanded, "{text}");
    }
}

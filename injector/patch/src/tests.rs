//! Injection end to end: the patched pod, per annotation, and the fields left alone.

mod annotations;

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{Config, Error, Injector, Namespace, Origin, Outcome, Owner, Workload, edit};

fn config() -> Config {
    Config {
        identity_trust_anchors_pem: "PEM".into(),
        linkerd_version: "v1".into(),
        ..Config::default()
    }
}

fn namespace(annotations: &[(&str, &str)]) -> Namespace {
    let annotations = annotations
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    Namespace {
        name: "shop".into(),
        annotations,
    }
}

fn pod(annotations: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web-1", "annotations": annotations},
        "spec": {"initContainers": [{"name": "migrate", "image": "m"}],
            "containers": [{"name": "app", "image": "a", "ports": [{"containerPort": 8080, "name": "http"},
                {"containerPort": 3306, "name": "mysql"}], "readinessProbe": {"httpGet": {"path": "/", "port": 9000}}}]}})
}

fn on() -> Namespace {
    namespace(&[("linkerd.io/inject", "enabled")])
}

fn outcome(config: Config, object: &Value, namespace: &Namespace) -> Result<Outcome, Error> {
    let owner = Some(Owner {
        kind: "Deployment".into(),
        name: "web".into(),
    });
    let workload = Workload {
        object,
        namespace,
        owner,
        origin: Origin::Webhook,
    };
    Injector::new(config).expect("usable").inject(&workload)
}

fn injected_by(config: Config, object: &Value, namespace: &Namespace) -> Value {
    let Outcome::Inject(_, patch) = outcome(config, object, namespace).expect("fine") else {
        panic!("skipped");
    };
    let mut after = object.clone();
    patch.apply(&mut after).expect("fits");
    after
}

fn injected(annotations: &Value) -> Value {
    injected_by(config(), &pod(annotations), &on())
}

fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    let mut all = list.as_array().into_iter().flatten();
    all.find(|element| element["name"] == name).unwrap_or(&Value::Null)
}

fn proxy(pod: &Value) -> &Value {
    let native = named(&pod["spec"]["initContainers"], "linkerd-proxy");
    if native.is_null() {
        named(&pod["spec"]["containers"], "linkerd-proxy")
    } else {
        native
    }
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(|element| element["name"].as_str())
        .collect()
}

fn env<'a>(pod: &'a Value, name: &str) -> &'a str {
    named(&proxy(pod)["env"], &format!("LINKERD2_PROXY_{name}"))["value"]
        .as_str()
        .unwrap_or("(unset)")
}

fn init_args(pod: &Value) -> String {
    let args = named(&pod["spec"]["initContainers"], "linkerd-init")["args"]
        .as_array()
        .expect("arguments");
    args.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
}

#[test]
fn injects_a_native_sidecar() {
    let pod = injected(&json!({}));
    assert_eq!(
        names(&pod["spec"]["initContainers"]),
        ["linkerd-init", "linkerd-proxy", "migrate"]
    );
    assert_eq!(names(&pod["spec"]["containers"]), ["app"]);
    assert_eq!(
        names(&pod["spec"]["volumes"]),
        ["linkerd-identity-end-entity", "linkerd-identity-token"]
    );
    let token = &pod["spec"]["volumes"][1]["projected"]["sources"][0]["serviceAccountToken"];
    let expected = json!({"audience": "identity.l5d.io", "expirationSeconds": 86400, "path": "linkerd-identity-token"});
    assert_eq!(*token, expected);
    assert_eq!(pod["spec"]["volumes"][0]["emptyDir"], json!({"medium": "Memory"}));
    let marks = &pod["metadata"]["annotations"];
    assert_eq!(marks["linkerd.io/created-by"], "linkerd/proxy-injector v1");
    assert_eq!(marks["linkerd.io/proxy-version"], "v1");
    let sha = "59319712bdbcfb63b7ca5d2a0e69ebd3b119e5c0e68a0d3bf8a4d8d9e8ba8ccf";
    assert_eq!(
        marks["linkerd.io/trust-root-sha256"].as_str().map(str::len),
        Some(sha.len())
    );
    assert_eq!(
        marks["config.linkerd.io/opaque-ports"], "3306",
        "the default opaque ports it declares"
    );
    let labels = json!({"linkerd.io/control-plane-ns": "linkerd", "linkerd.io/workload-ns": "shop",
        "linkerd.io/proxy-deployment": "web"});
    assert_eq!(pod["metadata"]["labels"], labels);
}

#[test]
fn sidecar_container_matches_linkerds() {
    let pod = injected(&json!({}));
    let proxy = proxy(&pod);
    assert_eq!(proxy["restartPolicy"], "Always");
    assert_eq!(
        proxy["ports"][0],
        json!({"containerPort": 4143, "name": "linkerd-proxy", "protocol": "TCP"})
    );
    assert_eq!(
        proxy["ports"][1],
        json!({"containerPort": 4191, "name": "linkerd-admin", "protocol": "TCP"})
    );
    let get = |path: &str| json!({"path": path, "port": 4191});
    assert_eq!(
        proxy["livenessProbe"],
        json!({"httpGet": get("/live"), "initialDelaySeconds": 10})
    );
    assert_eq!(
        proxy["readinessProbe"],
        json!({"httpGet": get("/ready"), "initialDelaySeconds": 2})
    );
    let startup = json!({"httpGet": get("/ready"), "periodSeconds": 1, "failureThreshold": 120});
    assert_eq!(proxy["startupProbe"], startup);
    let security = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "runAsUser": 2102,
        "readOnlyRootFilesystem": true, "runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
    assert_eq!(proxy["securityContext"], security);
    let mounts = json!([
        {"mountPath": "/var/run/linkerd/identity/end-entity", "name": "linkerd-identity-end-entity"},
        {"mountPath": "/var/run/secrets/tokens", "name": "linkerd-identity-token"}]);
    assert_eq!(proxy["volumeMounts"], mounts);
    assert_eq!(proxy["terminationMessagePolicy"], "FallbackToLogsOnError");
    assert_eq!(proxy["image"], "localhost/mesh-proxy:v1");
    assert!(proxy.get("resources").is_none() && proxy.get("lifecycle").is_none());
}

#[test]
fn environment_matches_linkerds() {
    let pod = injected(&json!({}));
    let expected = [
        ("SHUTDOWN_ENDPOINT_ENABLED", "false"),
        ("LOG", "warn,linkerd=info,hickory=error,[{headers}]=off,[{request}]=off"),
        ("LOG_FORMAT", "plain"),
        (
            "DESTINATION_SVC_ADDR",
            "linkerd-dst-headless.linkerd.svc.cluster.local.:8086",
        ),
        (
            "DESTINATION_PROFILE_NETWORKS",
            "10.0.0.0/8,100.64.0.0/10,172.16.0.0/12,192.168.0.0/16,fd00::/8",
        ),
        ("POLICY_SVC_ADDR", "linkerd-policy.linkerd.svc.cluster.local.:8090"),
        ("POLICY_WORKLOAD", "{\"ns\":\"$(_pod_ns)\", \"pod\":\"$(_pod_name)\"}\n"),
        ("INBOUND_DEFAULT_POLICY", "all-unauthenticated"),
        ("CONTROL_STREAM_INITIAL_TIMEOUT", "3s"),
        ("CONTROL_STREAM_IDLE_TIMEOUT", "5m"),
        ("CONTROL_STREAM_LIFETIME", "1h"),
        ("INBOUND_CONNECT_TIMEOUT", "100ms"),
        ("OUTBOUND_CONNECT_TIMEOUT", "1000ms"),
        ("OUTBOUND_DISCOVERY_IDLE_TIMEOUT", "5s"),
        ("INBOUND_DISCOVERY_IDLE_TIMEOUT", "90s"),
        ("OUTBOUND_DETECT_TIMEOUT", "(unset)"),
        ("CONTROL_LISTEN_ADDR", "0.0.0.0:4190"),
        ("ADMIN_LISTEN_ADDR", "0.0.0.0:4191"),
        ("OUTBOUND_LISTEN_ADDR", "127.0.0.1:4140"),
        ("OUTBOUND_LISTEN_ADDRS", "127.0.0.1:4140"),
        ("INBOUND_LISTEN_ADDR", "0.0.0.0:4143"),
        ("INBOUND_PORTS", "3306,8080,9000"),
        ("DESTINATION_PROFILE_SUFFIXES", "svc.cluster.local."),
        ("INBOUND_ACCEPT_KEEPALIVE", "10000ms"),
        ("OUTBOUND_CONNECT_KEEPALIVE", "10000ms"),
        ("INBOUND_ACCEPT_USER_TIMEOUT", "30s"),
        ("OUTBOUND_CONNECT_USER_TIMEOUT", "30s"),
        ("OUTBOUND_METRICS_HOSTNAME_LABELS", "false"),
        ("INBOUND_SERVER_HTTP2_KEEP_ALIVE_INTERVAL", "10s"),
        ("OUTBOUND_SERVER_HTTP2_KEEP_ALIVE_TIMEOUT", "3s"),
        (
            "INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION",
            "25,587,3306,4444,5432,6379,9300,11211",
        ),
        (
            "DESTINATION_CONTEXT",
            "{\"ns\":\"$(_pod_ns)\", \"nodeName\":\"$(_pod_nodeName)\", \"pod\":\"$(_pod_name)\"}\n",
        ),
        ("IDENTITY_DIR", "/var/run/linkerd/identity/end-entity"),
        ("IDENTITY_TRUST_ANCHORS", "PEM"),
        ("IDENTITY_TOKEN_FILE", "/var/run/secrets/tokens/linkerd-identity-token"),
        (
            "IDENTITY_SVC_ADDR",
            "linkerd-identity-headless.linkerd.svc.cluster.local.:8080",
        ),
        (
            "IDENTITY_LOCAL_NAME",
            "$(_pod_sa).$(_pod_ns).serviceaccount.identity.$(_l5d_ns).$(_l5d_trustdomain)",
        ),
        (
            "DESTINATION_SVC_NAME",
            "linkerd-destination.$(_l5d_ns).serviceaccount.identity.$(_l5d_ns).$(_l5d_trustdomain)",
        ),
        ("TAP_SVC_NAME", "(unset)"),
    ];
    for (name, value) in expected {
        assert_eq!(env(&pod, name), value, "{name}");
    }
    let ips = &named(&proxy(&pod)["env"], "LINKERD2_PROXY_INBOUND_IPS")["valueFrom"]["fieldRef"]["fieldPath"];
    assert_eq!(ips, "status.podIPs");
}

/// Kubernetes expands `$(NAME)` only for earlier variables.
#[test]
fn variables_come_before_their_use() {
    let pod = injected(&json!({}));
    let mut known: Vec<&str> = vec![];
    for variable in proxy(&pod)["env"].as_array().expect("a list") {
        let value = variable["value"].as_str().unwrap_or_default();
        for used in value.split("$(").skip(1).filter_map(|rest| rest.split(')').next()) {
            assert!(known.contains(&used), "{used} in {variable}");
        }
        let name = variable["name"].as_str().expect("a name");
        assert!(!known.contains(&name), "{name} is there twice");
        known.push(name);
    }
}

#[test]
fn redirection_arguments_match_linkerds() {
    let pod = injected(&json!({"config.linkerd.io/skip-inbound-ports": "22, 8000-8010",
        "config.linkerd.io/skip-subnets": "10.1.0.0/16", "config.linkerd.io/proxy-gid": "7",
        "config.linkerd.io/close-wait-timeout": "20s"}));
    let expected = "--ipv6=false --incoming-proxy-port 4143 --outgoing-proxy-port 4140 --proxy-uid 2102 --proxy-gid 7 \
        --inbound-ports-to-ignore 4190,4191,22,8000-8010 --outbound-ports-to-ignore 4567,4568 \
        --timeout-close-wait-secs 20 --subnets-to-ignore 10.1.0.0/16";
    assert_eq!(init_args(&pod), expected);
    let security = &named(&pod["spec"]["initContainers"], "linkerd-init")["securityContext"];
    assert_eq!(security["capabilities"]["add"], json!(["NET_ADMIN"]));
    assert_eq!(
        (&security["runAsUser"], &security["privileged"]),
        (&json!(65534), &json!(false))
    );
    assert_eq!(proxy(&pod)["securityContext"]["runAsGroup"], 7);
}

#[test]
fn cni_pods_get_a_validator() {
    let config = Config {
        cni_enabled: true,
        ..config()
    };
    let pod = injected_by(config, &pod(&json!({})), &on());
    assert_eq!(
        names(&pod["spec"]["initContainers"]),
        ["linkerd-network-validator", "linkerd-proxy", "migrate"]
    );
    let args = json!([
        "--log-format",
        "plain",
        "--log-level",
        "debug",
        "--connect-addr",
        "1.1.1.1:20001",
        "--listen-addr",
        "0.0.0.0:4140",
        "--timeout",
        "10s"
    ]);
    let validator = &pod["spec"]["initContainers"][0];
    assert_eq!(validator["args"], args);
    assert_eq!(validator["securityContext"]["capabilities"], json!({"drop": ["ALL"]}));
}

#[test]
fn classic_sidecar_delays_the_application_by_a_hook() {
    let classic = |more: &str, value: &str| {
        injected(&json!({"config.linkerd.io/proxy-enable-native-sidecar": "false", more: value}))
    };
    let pod = classic("config.alpha.linkerd.io/proxy-wait-before-exit-seconds", "5");
    assert_eq!(names(&pod["spec"]["initContainers"]), ["migrate", "linkerd-init"]);
    assert_eq!(names(&pod["spec"]["containers"]), ["linkerd-proxy", "app"]);
    let hook = json!(["/mesh-proxy", "await", "--timeout=2m", "--port=4191"]);
    assert_eq!(proxy(&pod)["lifecycle"]["postStart"]["exec"]["command"], hook);
    assert_eq!(proxy(&pod)["lifecycle"]["preStop"], json!({"sleep": {"seconds": 5}}));
    assert!(proxy(&pod).get("startupProbe").is_none() && proxy(&pod).get("restartPolicy").is_none());
    let pod = classic("config.linkerd.io/proxy-await", "disabled");
    assert_eq!(names(&pod["spec"]["containers"]), ["app", "linkerd-proxy"]);
    assert!(proxy(&pod).get("lifecycle").is_none());
}

#[test]
fn clusters_without_native_sidecars_get_classic_ones() {
    let old = || Config {
        no_native_sidecars: true,
        ..config()
    };
    for said in ["true", "false"] {
        let pod = pod(&json!({"config.linkerd.io/proxy-enable-native-sidecar": said}));
        let pod = injected_by(old(), &pod, &on());
        assert_eq!(names(&pod["spec"]["initContainers"]), ["migrate", "linkerd-init"]);
        assert_eq!(names(&pod["spec"]["containers"]), ["linkerd-proxy", "app"]);
    }
}

#[test]
fn keeps_probes_and_unknown_fields() {
    let mut before = pod(&json!({"config.linkerd.io/enable-debug-sidecar": "true"}));
    before["spec"]["containers"][0]["startupProbe"] = json!({"grpc": {"port": 9001}});
    before["spec"]["somethingNew"] = json!({"a": [1]});
    before["spec"]["volumes"] = json!([{"name": "data", "emptyDir": {}}]);
    let mut config = config();
    config.debug_container.image.name = "debug".into();
    let after = injected_by(config, &before, &on());
    assert_eq!(after["spec"]["containers"][0], before["spec"]["containers"][0]);
    assert_eq!(
        named(&after["spec"]["initContainers"], "migrate"),
        &before["spec"]["initContainers"][0]
    );
    assert_eq!(after["spec"]["somethingNew"], before["spec"]["somethingNew"]);
    assert_eq!(names(&after["spec"]["containers"]), ["app", "linkerd-debug"]);
    assert_eq!(names(&after["spec"]["volumes"])[0], "data");
}

#[test]
fn skipped_objects_report_their_reasons() {
    let reasons = |object: &Value, namespace: &Namespace| match outcome(config(), object, namespace).expect("fine") {
        Outcome::Skip(report) => report.tokens(),
        Outcome::Inject(..) => "injected".to_owned(),
    };
    let with = |key: &str, value: Value| {
        let mut pod = pod(&json!({}));
        pod["spec"][key] = value;
        pod
    };
    let plain = pod(&json!({}));
    let said = |value: &str| pod(&json!({"linkerd.io/inject": value}));
    let off = namespace(&[("linkerd.io/inject", "disabled")]);
    assert_eq!(
        reasons(&with("hostNetwork", json!(true)), &on()),
        "host_network_enabled"
    );
    assert_eq!(reasons(&injected(&json!({})), &on()), "sidecar_already_exists");
    assert_eq!(reasons(&json!({"kind": "ConfigMap"}), &on()), "unsupported_resource");
    assert_eq!(reasons(&plain, &namespace(&[])), "injection_enable_annotation_absent");
    assert_eq!(reasons(&plain, &off), "injection_enable_annotation_absent");
    assert_eq!(
        reasons(&said("disabled"), &on()),
        "injection_disable_annotation_present"
    );
    assert_eq!(reasons(&said("enabled"), &off), "injected");
    assert_eq!(reasons(&said("yes"), &on()), "invalid_inject_annotation_at_workload");
    let invalid = namespace(&[("linkerd.io/inject", "yes")]);
    assert_eq!(reasons(&plain, &invalid), "invalid_inject_annotation_at_ns");
    let tokenless = with("automountServiceAccountToken", json!(false));
    assert_eq!(
        reasons(&tokenless, &on()),
        "injected",
        "the mesh projects its own token"
    );
    let mut config = config();
    config.identity.service_account_token_projection = false;
    let Outcome::Skip(report) = outcome(config, &tokenless, &on()).expect("fine") else {
        panic!("injected")
    };
    assert_eq!(report.tokens(), "disabled_automount_service_account_token_account");
}

#[test]
fn injects_every_kind_with_a_pod_template() {
    for kind in [
        "Deployment",
        "ReplicaSet",
        "ReplicationController",
        "StatefulSet",
        "DaemonSet",
        "Job",
        "CronJob",
    ] {
        let template = json!({"spec": {"containers": [{"name": "app", "image": "a"}]}});
        let spec = json!({"template": template});
        let spec = if kind == "CronJob" {
            json!({"jobTemplate": {"spec": spec}})
        } else {
            spec
        };
        let object = json!({"kind": kind, "metadata": {"name": "web"}, "spec": spec});
        let namespace = namespace(&[]);
        let workload = Workload {
            object: &object,
            namespace: &namespace,
            owner: None,
            origin: Origin::Command,
        };
        let outcome = Injector::new(config())
            .expect("usable")
            .inject(&workload)
            .expect("fine");
        let Outcome::Inject(_, patch) = outcome else {
            panic!("{kind} is skipped")
        };
        let mut after = object.clone();
        patch.apply(&mut after).expect("fits");
        let path = crate::template_path(kind).expect("known");
        let template = path.iter().fold(&after, |value, key| &value[*key]);
        assert_eq!(
            names(&template["spec"]["initContainers"]),
            ["linkerd-init", "linkerd-proxy"],
            "{kind}"
        );
        let label = format!("linkerd.io/proxy-{}", kind.to_lowercase());
        assert_eq!(template["metadata"]["labels"][label], "web");
        assert_eq!(
            template["metadata"]["annotations"]["linkerd.io/created-by"],
            "linkerd/cli v1"
        );
        assert!(edit::uninject(&mut after), "{kind}");
        assert_eq!(after, object, "{kind}");
    }
}

#[test]
fn services_get_their_opaque_ports() {
    let injector = Injector::new(config()).expect("usable");
    let service = json!({"kind": "Service", "metadata": {"name": "db"},
        "spec": {"ports": [{"port": 80}, {"port": 3306}, {"port": 25}]}});
    let said = |service: &Value, namespace: &Namespace| {
        let mut after = service.clone();
        injector.service(service, namespace).apply(&mut after).expect("fits");
        after["metadata"]["annotations"]["config.linkerd.io/opaque-ports"]
            .as_str()
            .map(str::to_owned)
    };
    assert_eq!(said(&service, &namespace(&[])).as_deref(), Some("3306,25"));
    let of_namespace = namespace(&[("config.linkerd.io/opaque-ports", "80")]);
    assert_eq!(said(&service, &of_namespace).as_deref(), Some("80"));
    let mut own = service.clone();
    own["metadata"]["annotations"] = json!({"config.linkerd.io/opaque-ports": ""});
    assert!(injector.service(&own, &of_namespace).is_empty());
    let plain = json!({"kind": "Service", "spec": {"ports": [{"port": 80}]}});
    assert!(injector.service(&plain, &namespace(&[])).is_empty());
}

#[test]
fn control_plane_reaches_itself_on_loopback() {
    let mut pod = pod(&json!({}));
    pod["metadata"]["labels"] = json!({"linkerd.io/control-plane-component": "destination"});
    let pod = injected_by(config(), &pod, &on());
    assert_eq!(env(&pod, "DESTINATION_SVC_ADDR"), "localhost.:8086");
    assert_eq!(env(&pod, "POLICY_SVC_ADDR"), "localhost.:8090");
    assert!(env(&pod, "IDENTITY_SVC_ADDR").starts_with("linkerd-identity-headless."));
    assert_eq!(env(&pod, "IDENTITY_TRUST_ANCHORS"), "(unset)");
    assert!(init_args(&pod).contains("--outbound-ports-to-ignore 443,6443"));
}

#[test]
fn values_enable_tap_and_tracing() {
    let mut config = config();
    config.proxy.tap_identity = "mesh-viz.id".into();
    config.proxy.tracing.enable = true;
    config.proxy.tracing.collector.endpoint = "collector:4317".into();
    config.disable_ipv6 = false;
    let tapped = injected_by(config.clone(), &pod(&json!({})), &on());
    assert_eq!(env(&tapped, "TAP_SVC_NAME"), "mesh-viz.id");
    assert_eq!(tapped["metadata"]["annotations"]["viz.linkerd.io/tap-enabled"], "true");
    assert_eq!(env(&tapped, "TRACE_COLLECTOR_SVC_ADDR"), "collector:4317");
    assert!(names(&tapped["spec"]["volumes"]).contains(&"linkerd-podinfo"));
    assert_eq!(env(&tapped, "OUTBOUND_LISTEN_ADDRS"), "127.0.0.1:4140,[::1]:4140");
    assert_eq!(env(&tapped, "INBOUND_LISTEN_ADDR"), "[::]:4143");
    let untapped = injected_by(config, &pod(&json!({"viz.linkerd.io/disable-tap": "true"})), &on());
    assert_eq!(env(&untapped, "TAP_SVC_NAME"), "(unset)");
}

#[test]
fn annotate_is_idempotent_and_uninject_keeps_settings() {
    let mut object = json!({"kind": "Deployment", "spec": {"template": {"metadata": null, "spec": {}}}});
    let wanted = [("linkerd.io/inject".to_owned(), "enabled".to_owned())];
    assert!(edit::annotate(&mut object, &wanted));
    assert_eq!(
        object["spec"]["template"]["metadata"]["annotations"]["linkerd.io/inject"],
        "enabled"
    );
    assert!(!edit::annotate(&mut object, &wanted));
    let mut kept = json!({"kind": "Pod", "metadata": {"annotations": {"linkerd.io/inject": "disabled",
        "config.linkerd.io/proxy-uid": "1"}}, "spec": {"containers": []}});
    let before = kept.clone();
    assert!(!edit::uninject(&mut kept));
    assert_eq!(kept, before);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn injection_is_idempotent_and_reversible(
        labels in proptest::option::of(proptest::collection::btree_map("[a-z/~]{1,8}", "[a-z]{0,4}", 0..3)),
        inits in proptest::option::of(0..3_usize),
        volumes in proptest::option::of(0..3_usize),
        native: bool,
        ports in proptest::collection::vec(8000..9000_u16, 0..4),
    ) {
        let ports: Vec<_> = ports.iter().map(|port| json!({"containerPort": port})).collect();
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
            "spec": {"containers": [{"name": "app", "image": "a", "ports": ports}]}});
        let list = |prefix: &str, count: usize| (0..count.max(1)).map(|i| json!({"name": format!("{prefix}{i}")})).collect();
        if let Some(labels) = labels.filter(|labels: &BTreeMap<_, _>| !labels.is_empty()) {
            pod["metadata"]["labels"] = json!(labels);
        }
        if let Some(count) = inits {
            pod["spec"]["initContainers"] = list("i", count);
        }
        if let Some(count) = volumes {
            pod["spec"]["volumes"] = list("v", count);
        }
        let mut config = config();
        config.proxy.native_sidecar = native;
        let once = injected_by(config.clone(), &pod, &on());
        let Outcome::Skip(report) = outcome(config, &once, &on()).expect("fine") else { panic!("injected twice") };
        prop_assert_eq!(report.tokens(), "sidecar_already_exists");
        let mut undone = once;
        prop_assert!(edit::uninject(&mut undone));
        prop_assert_eq!(undone, pod);
    }
}

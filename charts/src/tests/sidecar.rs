//! The chart's sidecars equal the injector's, except for the differences listed here; constants of the charts equal
//! Rust's.

use std::collections::BTreeSet;

use injector_patch::{Config, Injector, Namespace, Origin, Outcome, Owner, Workload};
use proxy_model::{env, ports};
use serde_json::Value;

use super::{difference, given, ours};
use crate::{Chart, values};

/// Variables that differ from an injected pod, by component, with the reason.
const VARIABLES: [(&str, &str, &str); 3] = [
    (
        "identity",
        env::INBOUND_PORTS_REQUIRE_TLS,
        "tokens must not be sent in plaintext; the injector has no such annotation",
    ),
    ("destination", env::IDENTITY_SVC_ADDR, STARTS_WITH_IDENTITY),
    ("proxy-injector", env::IDENTITY_SVC_ADDR, STARTS_WITH_IDENTITY),
];
const STARTS_WITH_IDENTITY: &str = "resolvers cache a headless Service without addresses as unknown";
/// Settings of the readiness probe that differ: every pod waits for these, so they are probed more often.
const TIMES: [&str; 2] = ["initialDelaySeconds", "periodSeconds"];

fn deployment(component: &str, sets: &[&str]) -> (Value, Config) {
    let objects = ours(Chart::ControlPlane, "Helm", &given(sets));
    let find = |kind: &str, name: &str| objects[&format!("\"{kind}\" \"{name}\"")].clone();
    let mut config = find("ConfigMap", "linkerd-config")["data"]["values"].take();
    // mesh-injector reads the anchors from their own ConfigMap.
    let anchors = find("ConfigMap", "linkerd-identity-trust-roots")["data"]["ca-bundle.crt"].take();
    config["identityTrustAnchorsPEM"] = anchors;
    let config = Config::from_values(&config).expect("the injector reads it");
    (find("Deployment", &format!("linkerd-{component}")), config)
}

fn without(list: &mut Value, names: &[&str]) -> Vec<Value> {
    let items = list.as_array_mut().expect("a list");
    let is = |item: &Value| names.contains(&item["name"].as_str().unwrap_or_default());
    let taken = items.iter().filter(|item| is(item)).cloned().collect();
    items.retain(|item| !is(item));
    taken
}

/// The pod without its sidecar.
fn bare(deployment: &Value) -> Value {
    let mut deployment = deployment.clone();
    let template = &mut deployment["spec"]["template"];
    let spec = &mut template["spec"];
    assert_eq!(
        without(
            &mut spec["initContainers"],
            &["linkerd-init", "linkerd-network-validator"]
        )
        .len(),
        1
    );
    assert_eq!(without(&mut spec["containers"], &["linkerd-proxy"]).len(), 1);
    without(
        &mut spec["volumes"],
        &["linkerd-identity-end-entity", "linkerd-identity-token"],
    );
    let metadata = template["metadata"].as_object_mut().expect("a map");
    for (map, keys) in [
        (
            "annotations",
            [
                "linkerd.io/created-by",
                "linkerd.io/proxy-version",
                "linkerd.io/trust-root-sha256",
            ],
        ),
        (
            "labels",
            [
                "linkerd.io/control-plane-ns",
                "linkerd.io/proxy-deployment",
                "linkerd.io/workload-ns",
            ],
        ),
    ] {
        for key in keys {
            let taken = metadata[map].as_object_mut().expect("a map").remove(key);
            assert!(taken.is_some(), "the chart does not set {key}");
        }
    }
    deployment
}

pub(super) fn injected(config: Config, bare: &Value) -> Value {
    let namespace = Namespace {
        name: config.linkerd_namespace.clone(),
        annotations: [("linkerd.io/inject".to_owned(), "enabled".to_owned())].into(),
    };
    let workload = Workload {
        object: bare,
        namespace: &namespace,
        owner: Some(Owner {
            kind: "Deployment".into(),
            name: bare["metadata"]["name"].as_str().expect("a name").into(),
        }),
        origin: Origin::Command,
    };
    let outcome = Injector::new(config)
        .expect("usable")
        .inject(&workload)
        .expect("injected");
    let Outcome::Inject(_, patch) = outcome else {
        panic!("skipped: {outcome:?}")
    };
    let mut after = bare.clone();
    patch.apply(&mut after).expect("it fits");
    after
}

/// Normal form for the comparison: lists by name, without the intended differences.
fn normal(component: &str, mut deployment: Value) -> Value {
    let template = &mut deployment["spec"]["template"];
    // The author differs: the chart or the injector.
    template["metadata"]["annotations"]["linkerd.io/created-by"] = Value::Null;
    let spec = template["spec"].as_object_mut().expect("a map");
    for list in ["initContainers", "containers", "volumes"] {
        let items = spec[list].as_array_mut().expect("a list");
        items.sort_by_key(|item| item["name"].to_string());
        for container in items {
            let names: Vec<&str> = VARIABLES
                .iter()
                .filter(|(of, ..)| *of == component)
                .map(|(_, name, _)| *name)
                .collect();
            if container["name"] == "linkerd-proxy" {
                without(&mut container["env"], &names);
                let probe = container["readinessProbe"].as_object_mut().expect("a probe");
                probe.retain(|name, _| !TIMES.contains(&name.as_str()));
            }
        }
    }
    deployment
}

#[test]
fn control_plane_sidecars_equal_injected_ones() {
    let variants: [&[&str]; 8] = [
        &[],
        &["cniEnabled=true"],
        &["cniEnabled=true,disableIPv6=false,networkValidator.timeout=3s"],
        &["proxy.uid=1000650000,proxy.gid=7,proxyInit.runAsRoot=true,proxyInit.closeWaitTimeoutSecs=60"],
        &["proxy.resources.cpu.limit=2,proxy.resources.memory.request=20Mi,proxy.cores=2,linkerdVersion=v9"],
        &[
            "proxy.defaultInboundPolicy=deny,proxy.logHTTPHeaders=insecure,proxy.accessLog=json,proxy.tapServiceAccount=null",
        ],
        &[
            "identityTrustDomain=example.org,clusterDomain=example.net,proxy.additionalEnv[0].name=A,proxy.additionalEnv[0].value=b",
        ],
        &[
            "proxy.disableInboundProtocolDetectTimeout=true,proxyInit.skipSubnets=10.0.0.0/8,proxy.shutdownGracePeriod=5s",
        ],
    ];
    for sets in variants {
        for component in ["destination", "identity", "proxy-injector"] {
            let (chart, config) = deployment(component, sets);
            let injector = injected(config, &bare(&chart));
            let (chart, injector) = (normal(component, chart), normal(component, injector));
            assert_eq!(difference(&chart, &injector, ""), None, "{component} {sets:?}");
        }
    }
}

#[test]
fn variables_keep_their_order() {
    // `$(_pod_ns)` refers to an earlier variable.
    let (chart, config) = deployment("destination", &[]);
    let names = |deployment: &Value| {
        let containers = deployment["spec"]["template"]["spec"]["containers"]
            .as_array()
            .expect("a list")
            .clone();
        let proxy = containers
            .into_iter()
            .find(|container| container["name"] == "linkerd-proxy")
            .expect("a sidecar");
        let env = proxy["env"].as_array().expect("a list").clone();
        env.into_iter()
            .map(|variable| variable["name"].to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&chart), names(&injected(config, &bare(&chart))));
}

#[test]
fn chart_defaults_equal_config_defaults() {
    let (_, config) = deployment("identity", &[]);
    let expected = Config {
        identity_trust_anchors_pem: config.identity_trust_anchors_pem.clone(),
        identity_trust_domain: "cluster.local".into(),
        ..Config::default()
    };
    let json = |config: &Config| {
        let mut json = serde_json::to_value(config).expect("JSON");
        // The chart grants tap to mesh-viz. An empty context means none.
        json["proxy"]["tapIdentity"] = "".into();
        if json["proxy"]["securityContext"] == serde_json::json!({}) {
            json["proxy"]["securityContext"] = Value::Null;
        }
        json
    };
    assert_eq!(difference(&json(&config), &json(&expected), ""), None);
}

/// Templates and values of a chart, as one text.
fn texts(chart: Chart) -> String {
    let templates = chart.templates().iter().map(|(_, text)| *text);
    templates.chain([chart.default_values()]).collect::<Vec<_>>().join("\n")
}

#[test]
fn ports_variables_and_keys_exist_in_rust() {
    let rust = [
        include_str!("../../../proxy/model/src/env.rs"),
        include_str!("../../../destination/k8s/src/keys.rs"),
        include_str!("../../../injector/sidecar/src/annotations.rs"),
        include_str!("../../../injector/patch/src/inject.rs"),
        include_str!("../../../injector/sidecar/src/env.rs"),
    ]
    .join("\n");
    for chart in Chart::ALL {
        let text = texts(chart);
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || "_./-".contains(c)));
        let words: BTreeSet<&str> = words.collect();
        for name in words.iter().filter_map(|word| word.strip_prefix("LINKERD2_PROXY_")) {
            // Parameter variables derive from the names of values.
            let known = name.is_empty() || rust.contains(&format!("    {name};"));
            assert!(
                known,
                "{}: the proxy has no variable LINKERD2_PROXY_{name}",
                chart.name()
            );
        }
        for key in words.iter().filter(|word| word.starts_with("config.linkerd.io/")) {
            let name = key.trim_start_matches("config.linkerd.io/");
            let known = rust.contains(&format!("\"{name}\""))
                || rust.contains(&format!("\"{key}\""))
                || name == "admission-webhooks";
            assert!(known, "{}: nothing reads {key}", chart.name());
        }
    }
    let text = texts(Chart::ControlPlane);
    for (port, what) in [
        (ports::DESTINATION, "dest-grpc, containerPort: "),
        (ports::POLICY, "policy-grpc, containerPort: "),
        (ports::IDENTITY, "ident-grpc, containerPort: "),
        (ports::DESTINATION, "linkerd-dst-headless.%s:"),
        (ports::POLICY, "linkerd-policy.%s:"),
        (ports::IDENTITY, "linkerd-identity.%s:"),
    ] {
        assert!(
            text.contains(&format!("{what}{port}")),
            "{what}{port} is not in the chart"
        );
    }
    let defaults = values::parse(Chart::ControlPlane.default_values()).expect("YAML");
    for (name, port) in [
        ("admin", ports::ADMIN),
        ("control", ports::TAP),
        ("inbound", ports::INBOUND),
        ("outbound", ports::OUTBOUND),
    ] {
        assert_eq!(defaults["proxy"]["ports"][name], port);
    }
}

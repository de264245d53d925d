//! The sidecar of the control plane's own pods is what the injector makes of them, but for what is listed here; and the words
//! and numbers of the charts are those of Rust.

use std::collections::BTreeSet;

use injector_patch::{Config, Injector, Namespace, Origin, Outcome, Owner, Workload};
use proxy_model::{env, ports};
use serde_json::Value;

use super::{difference, given, ours};
use crate::{Chart, values};

/// Variables that are other than in an injected pod, pod by pod, and why.
const VARIABLES: [(&str, &str, &str); 3] = [
    (
        "identity",
        env::INBOUND_PORTS_REQUIRE_TLS,
        "nobody sends a token in plaintext; the injector knows no such annotation",
    ),
    ("destination", env::IDENTITY_SVC_ADDR, STARTS_WITH_IDENTITY),
    ("proxy-injector", env::IDENTITY_SVC_ADDR, STARTS_WITH_IDENTITY),
];
const STARTS_WITH_IDENTITY: &str = "a headless Service without an address yet is remembered by DNS as unknown";
/// Times of the readiness probe, likewise: everybody waits for these pods, so they are asked more often.
const TIMES: [&str; 2] = ["initialDelaySeconds", "periodSeconds"];

fn deployment(component: &str, sets: &[&str]) -> (Value, Config) {
    let objects = ours(Chart::ControlPlane, "Helm", &given(sets));
    let find = |kind: &str, name: &str| objects[&format!("\"{kind}\" \"{name}\"")].clone();
    let mut config = find("ConfigMap", "linkerd-config")["data"]["values"].take();
    // As mesh-injector reads it.
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

/// The pod as it was before a sidecar came.
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
            assert!(taken.is_some(), "the chart does not write {key}");
        }
    }
    deployment
}

fn injected(config: Config, bare: &Value) -> Value {
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

/// Both in one form: lists by name, and without what is intended to differ.
fn normal(component: &str, mut deployment: Value) -> Value {
    let template = &mut deployment["spec"]["template"];
    // Who made it: the chart, or the injector.
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
fn the_control_planes_sidecars_are_what_the_injector_makes() {
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
fn the_order_of_variables_is_kept() {
    // `$(_pod_ns)` stands for a variable that comes before.
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
fn what_pods_get_by_default_is_the_injectors_default() {
    let (_, config) = deployment("identity", &[]);
    let expected = Config {
        identity_trust_anchors_pem: config.identity_trust_anchors_pem.clone(),
        identity_trust_domain: "cluster.local".into(),
        ..Config::default()
    };
    let json = |config: &Config| {
        let mut json = serde_json::to_value(config).expect("JSON");
        // On a cluster there is somebody to tap: viz, once it is installed. An empty context is none.
        json["proxy"]["tapIdentity"] = "".into();
        if json["proxy"]["securityContext"] == serde_json::json!({}) {
            json["proxy"]["securityContext"] = Value::Null;
        }
        json
    };
    assert_eq!(difference(&json(&config), &json(&expected), ""), None);
}

/// The texts of a chart's templates and values.
fn texts(chart: Chart) -> String {
    let templates = chart.templates().iter().map(|(_, text)| *text);
    templates.chain([chart.default_values()]).collect::<Vec<_>>().join("\n")
}

#[test]
fn ports_variables_and_keys_are_those_of_rust() {
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
            // The parameters are made of the values' names.
            let known = name.is_empty() || rust.contains(&format!("    {name};"));
            assert!(
                known,
                "{}: LINKERD2_PROXY_{name} is no variable of the proxy",
                chart.name()
            );
        }
        for key in words.iter().filter(|word| word.starts_with("config.linkerd.io/")) {
            let name = key.trim_start_matches("config.linkerd.io/");
            let known = rust.contains(&format!("\"{name}\""))
                || rust.contains(&format!("\"{key}\""))
                || name == "admission-webhooks";
            assert!(known, "{}: nobody reads {key}", chart.name());
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

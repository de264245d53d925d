//! Rendering, compared with the real Helm where available; values and schema on their own.

mod facts;
mod partial;
mod rights;
mod sidecar;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use destination_k8s::Kind;
use serde_json::Value;

use crate::{Chart, Release, render, schema, set, values};

const REQUIRED: &str = r#"
identityTrustAnchorsPEM: |
  -----BEGIN CERTIFICATE-----
  anchor
  -----END CERTIFICATE-----
identity: {issuer: {tls: {crtPEM: "certificate\n", keyPEM: "key\n"}}}
"#;

fn release(service: &str) -> Release {
    Release {
        name: "mesh".into(),
        namespace: "linkerd".into(),
        service: service.into(),
    }
}

/// Values that a chart requires.
fn required(chart: Chart) -> &'static str {
    match chart {
        Chart::Crds | Chart::ControlPlane => REQUIRED,
        Chart::Viz | Chart::Cni => "",
    }
}

fn given(sets: &[&str]) -> Value {
    given_to(Chart::ControlPlane, sets)
}

fn given_to(chart: Chart, sets: &[&str]) -> Value {
    let mut values = values::parse(required(chart)).expect("YAML");
    for text in sets {
        set(&mut values, text).expect("a good --set");
    }
    values
}

/// Objects by kind and name.
fn objects(text: &str) -> BTreeMap<String, Value> {
    destination_yaml::all(text)
        .expect("YAML")
        .into_iter()
        .filter(|object| !object.is_null())
        .map(|mut object| {
            // Values inside a ConfigMap are text; their spelling may differ, their meaning must not.
            if let Some(text) = object.pointer("/data/values").and_then(Value::as_str) {
                object["data"]["values"] = values::parse(text).expect("YAML");
            }
            object
        })
        .map(|object| (format!("{} {}", object["kind"], object["metadata"]["name"]), object))
        .collect()
}

/// Images below a value, with their paths.
fn images(value: &Value, path: &str) -> Vec<(String, String)> {
    match value {
        Value::Object(map) => map
            .iter()
            .flat_map(|(key, value)| match value {
                Value::String(image) if key == "image" => vec![(format!("{path}.{key}"), image.clone())],
                value => images(value, &format!("{path}.{key}")),
            })
            .collect(),
        Value::Array(list) => list.iter().flat_map(|value| images(value, path)).collect(),
        _ => vec![],
    }
}

#[test]
fn every_image_is_of_the_one_registry() {
    for (chart, variants, count) in [
        (Chart::Crds, &["imageRegistry=r.example/m/"][..], 0),
        // Three programs, each with a sidecar and an init container: of redirection, or of its check.
        (Chart::ControlPlane, &["imageRegistry=r.example/m/"], 9),
        (Chart::ControlPlane, &["imageRegistry=r.example/m,cniEnabled=true"], 9),
        (Chart::Viz, &["imageRegistry=r.example/m"], 1),
        (Chart::Cni, &["imageRegistry=r.example/m"], 1),
    ] {
        let rendered = ours(chart, "Helm", &given_to(chart, variants));
        let found: Vec<_> = rendered
            .iter()
            .flat_map(|(name, object)| images(object, name))
            .collect();
        assert_eq!(found.len(), count, "{found:?}");
        for (path, image) in found {
            let rest = image.strip_prefix("r.example/m/mesh-");
            assert!(rest.is_some_and(|rest| !rest.contains('/')), "{path}: {image}");
        }
    }
}

#[test]
fn an_image_with_a_registry_keeps_it() {
    let sets = ["imageRegistry=r.example/m,proxy.image.name=mirror.example/a/proxy"];
    let rendered = ours(Chart::ControlPlane, "Helm", &given_to(Chart::ControlPlane, &sets));
    let found: Vec<_> = rendered
        .iter()
        .flat_map(|(name, object)| images(object, name))
        .collect();
    let kept = found
        .iter()
        .filter(|(_, image)| image.starts_with("mirror.example/a/proxy:"));
    assert_eq!((kept.count(), found.len()), (3, 9), "{found:?}");
}

fn ours(chart: Chart, service: &str, values: &Value) -> BTreeMap<String, Value> {
    let files = render(chart, &release(service), values).expect("it renders");
    let text: Vec<String> = files.into_iter().map(|(_, text)| text).collect();
    objects(&text.join("\n---\n"))
}

/// Returns the first difference of two values with its path.
fn difference(one: &Value, other: &Value, path: &str) -> Option<String> {
    // Checked first: each key is visited from both sides, which would double the work at each depth of equal values.
    if one == other {
        return None;
    }
    let null = Value::Null;
    match (one, other) {
        (Value::Object(a), Value::Object(b)) => a.keys().chain(b.keys()).find_map(|key| {
            let (a, b) = (a.get(key).unwrap_or(&null), b.get(key).unwrap_or(&null));
            difference(a, b, &format!("{path}.{key}"))
        }),
        (Value::Array(a), Value::Array(b)) => (0..a.len().max(b.len())).find_map(|index| {
            let (a, b) = (a.get(index).unwrap_or(&null), b.get(index).unwrap_or(&null));
            difference(a, b, &format!("{path}[{index}]"))
        }),
        _ => Some(format!("{path}: {one} and {other}")),
    }
}

/// The real Helm: from the PATH, or the cluster tests' copy.
fn helm(dir: &Path) -> Option<PathBuf> {
    if Command::new("helm").arg("version").output().is_ok() {
        return Some("helm".into());
    }
    let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/kube/bin/helm.xz");
    let output = Command::new("xz").arg("-dc").arg(packed).output().ok()?;
    let program = dir.join("helm");
    fs::write(&program, output.stdout)
        .ok()
        .filter(|()| output.status.success())?;
    Command::new("chmod").arg("+x").arg(&program).status().ok()?;
    Some(program)
}

fn run(helm: &Path, arguments: &[&str]) -> String {
    let output = Command::new(helm).args(arguments).output().expect("helm runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "helm {arguments:?}: {error}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Variants of the values of the custom resources and the control plane.
const VARIANTS: &[&[&str]] = &[
    &[],
    &["controllerReplicas=3,controllerLogLevel=debug", "podLabels.team=a"],
    &["identity.issuer.scheme=kubernetes.io/tls,proxyInjector.externalSecret=true"],
    &["proxyInjector.crtPEM=certificate,proxyInjector.keyPEM=key,proxyInjector.caBundle=bundle"],
    &["cniEnabled=true,disableIPv6=false,identity.externalCA=true"],
    &["proxy.uid=1000650000,proxy.gid=1000650000,proxyInit.runAsRoot=true,proxyInit.closeWaitTimeoutSecs=60"],
    &["proxy.cores=2,proxy.additionalEnv[0].name=A,proxy.additionalEnv[0].value=b,proxy.inbound=null"],
    &["proxy.runtime.workers.minimum=1,proxy.resources.cpu.limit=1,proxy.tapServiceAccount=null"],
    &["identity.serviceAccountTokenProjection=false,proxy.enableExternalProfiles=true,proxy.logHTTPHeaders=insecure"],
    &[
        "networkPolicies.enabled=true,networkPolicies.apiServer[0].ipBlock.cidr=10.0.0.1/32",
        "networkPolicies.metrics=null,proxy.ports.inbound=5143",
    ],
    &["networkPolicies.enabled=true,networkPolicies.clients=null"],
    &["tolerations[0].key=spot,tolerations[0].operator=Exists,imagePullSecrets[0].name=pull"],
    &[
        "podAnnotations.a\\.b/c=d\\,e",
        "proxy.opaquePorts=25\\,26",
        "linkerdVersion=v9",
    ],
    &[
        "destination.resources.limits.memory=250Mi,identity.image.version=1.2",
        "proxy.image.name=null",
    ],
    &["proxyInjector.namespaceSelector.matchExpressions=null,proxy.await=false,proxy.accessLog=0"],
    &[
        "nodeSelector.a={x,y}",
        "webhookFailurePolicy=Fail,identityTrustDomain=example.org",
    ],
];
/// Variants of mesh-viz.
const VIZ_VARIANTS: &[&[&str]] = &[
    &[],
    &["controllerUID=0"],
    &["tap.externalSecret=true,uid=1000,scrapeInterval=5s", "podLabels.team=a"],
    &["tap.crtPEM=certificate,tap.keyPEM=key,tap.caBundle=bundle,replicas=2,resources.limits.memory=100Mi"],
    &["networkPolicies.enabled=true"],
    &[
        "networkPolicies.enabled=true,networkPolicies.apiServer[0].ipBlock.cidr=10.0.0.1/32",
        "networkPolicies.api[0].podSelector.matchLabels.a=b,networkPolicies.metrics[0].podSelector.matchLabels.a=b",
    ],
    &["image.version=1.2,linkerdNamespace=mesh,identityTrustDomain=example.org,podAnnotations.a=b"],
];
/// Variants of mesh-cni.
const CNI_VARIANTS: &[&[&str]] = &[
    &[],
    &[
        "destCNINetDir=/var/lib/cni/net.d,adminPort=9991,repairController.enabled=false,privileged=true,startupTaint=a/b",
    ],
    &["proxyUID=1000650000,proxyGID=5,disableIPv6=false,portsToRedirect=80\\,8000-8010,excludeNamespaces={a,b}"],
    &["image.version=1.2,podLabels.team=a,podAnnotations.a=b,updateStrategy=null,priorityClassName=,tolerations=null"],
    &["inboundProxyPort=70000"],
    &["useWaitFlag=true"],
];

#[test]
fn renders_the_same_objects_as_helm() {
    let dir = tempfile::tempdir().expect("a folder");
    let Some(helm) = helm(dir.path()) else {
        eprintln!("skipped: no helm in the PATH, and no ../shared/kube/bin/helm.xz");
        return;
    };
    let file = dir.path().join("values.yaml");
    for chart in Chart::ALL {
        fs::write(&file, required(chart)).expect("written");
        let file = file.to_str().expect("UTF-8");
        let folder = format!("{}/{}", env!("CARGO_MANIFEST_DIR"), chart.name());
        run(&helm, &["lint", "--strict", &folder, "-f", file]);
        let variants = match chart {
            Chart::Crds => &VARIANTS[..1],
            Chart::ControlPlane => VARIANTS,
            Chart::Viz => VIZ_VARIANTS,
            Chart::Cni => CNI_VARIANTS,
        };
        for sets in variants {
            // Both reject a variant with values of the wrong type.
            let mut arguments = vec!["template", "mesh", &folder, "-n", "linkerd", "-f", file];
            arguments.extend(sets.iter().flat_map(|text| ["--set", text]));
            let rendered = render(chart, &release("Helm"), &given_to(chart, sets));
            if rendered.is_err() {
                let output = Command::new(&helm).args(&arguments).output().expect("helm runs");
                assert!(
                    !output.status.success(),
                    "{sets:?}: rejected here, accepted by Helm: {rendered:?}"
                );
                continue;
            }
            let (theirs, ours) = (
                objects(&run(&helm, &arguments)),
                ours(chart, "Helm", &given_to(chart, sets)),
            );
            assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
            for (name, object) in &ours {
                let differs = difference(object, &theirs[name], "");
                assert_eq!(differs, None, "{} {sets:?}: {name}", chart.name());
            }
        }
    }
}

#[test]
fn config_map_holds_the_values_without_secrets() {
    let objects = ours(Chart::ControlPlane, "CLI", &given(&["proxy.logLevel=debug"]));
    assert!(objects.contains_key("\"Namespace\" \"linkerd\""));
    let config = &objects["\"ConfigMap\" \"linkerd-config\""]["data"]["values"];
    assert_eq!(config["proxy"]["logLevel"], "debug");
    assert_eq!(config["linkerdVersion"], env!("CARGO_PKG_VERSION"));
    assert!(!config.to_string().contains("keyPEM"), "no secret in a ConfigMap");
}

#[test]
fn cni_configuration_is_json_for_all_values() {
    for sets in &CNI_VARIANTS[..4] {
        let objects = ours(Chart::Cni, "CLI", &given_to(Chart::Cni, sets));
        let config = &objects["\"ConfigMap\" \"linkerd-cni-config\""]["data"]["cni_network_config"];
        let config: Value = serde_json::from_str(config.as_str().expect("text")).expect("JSON");
        assert_eq!(config["type"], "linkerd-cni", "{sets:?}");
        let excluded = config["kubernetes"]["exclude-namespaces"]
            .as_array()
            .expect("namespaces");
        assert_eq!(
            excluded.last(),
            Some(&Value::from("linkerd")),
            "the plugin's own namespace: {sets:?}"
        );
    }
}

#[test]
fn rejects_missing_and_invalid_values_by_name() {
    let refused = |values: &Value| {
        let error = render(Chart::ControlPlane, &release("Helm"), values).expect_err("refused");
        error.to_string()
    };
    assert!(refused(&values::parse("").expect("empty")).starts_with("identityTrustAnchorsPEM is required"));
    assert_eq!(
        refused(&given(&["proxy.uid=root"])),
        "invalid value proxy.uid: \"root\" is not an integer"
    );
    assert_eq!(
        refused(&given(&["proxy.image.nmae=x"])),
        "invalid value proxy.image.nmae: unknown value"
    );
    assert_eq!(
        refused(&given(&["controllerUID=0"])),
        "invalid value controllerUID: 0 is less than 1"
    );
    for (value, meaning) in [
        ("identity.issuer.issuanceLifetime=soon", "a duration such as 24h or 90m"),
        ("identity.issuer.clockSkewAllowance=20x", "a duration such as 20s"),
        ("clusterDomain=a b", "a domain such as cluster.local"),
        ("identityTrustDomain=A_B", "a domain such as cluster.local"),
    ] {
        let said = refused(&given(&[value]));
        assert!(said.ends_with(&format!(" is not {meaning}")), "{said}");
    }
    let policy = refused(&given(&["proxy.defaultInboundPolicy=maybe"]));
    assert!(policy.contains("is not one of all-authenticated, "), "{policy}");
    assert!(
        values::parse("a: [")
            .expect_err("not YAML")
            .to_string()
            .starts_with("invalid values: ")
    );
    for wrong in ["a", "=b", "a[x]=1", "a[99999]=1", "a..b=1"] {
        assert!(set(&mut given(&[]), wrong).is_err(), "{wrong}");
    }
}

#[test]
fn smi_kinds_have_one_schema_for_all_versions_and_no_webhook() {
    let objects = ours(Chart::Crds, "CLI", &values::parse("").expect("empty"));
    assert_eq!(objects.len(), 14);
    for (name, count) in [
        ("trafficsplits.split.smi-spec.io", 4),
        ("traffictargets.access.smi-spec.io", 3),
        ("httproutegroups.specs.smi-spec.io", 4),
        ("tcproutes.specs.smi-spec.io", 4),
        ("udproutes.specs.smi-spec.io", 1),
    ] {
        let spec = &objects[&format!("\"CustomResourceDefinition\" \"{name}\"")]["spec"];
        assert_eq!(spec["conversion"]["strategy"], "None", "{name}");
        let versions = spec["versions"].as_array().expect("versions");
        assert_eq!(versions.len(), count, "{name}");
        assert!(
            versions
                .iter()
                .all(|version| version["schema"] == versions[0]["schema"]),
            "{name}"
        );
        let (_, group) = name.split_once('.').expect("a group");
        let kind = Kind::from_group(group, spec["names"]["kind"].as_str().expect("a kind")).expect("a kind");
        let served: BTreeSet<_> = versions
            .iter()
            .map(|v| format!("{group}/{}", v["name"].as_str().expect("a name")))
            .collect();
        let read: BTreeSet<_> = kind.api_versions().iter().map(|v| (*v).to_owned()).collect();
        assert_eq!(served, read, "{name}");
    }
    for object in objects.values() {
        let versions = object["spec"]["versions"].as_array().expect("versions");
        assert_eq!(versions.iter().filter(|version| version["storage"] == true).count(), 1);
    }
}

#[test]
fn charts_have_this_version_and_schemas_use_supported_keywords() {
    fn walk(schema: &Value) {
        for (key, value) in schema.as_object().expect("a schema") {
            assert!(schema::KEYWORDS.contains(&key.as_str()), "{key} is not supported");
            if key == "pattern" {
                regex::Regex::new(value.as_str().expect("a text")).expect("a pattern");
                assert!(schema["description"].is_string(), "a pattern has a description");
            }
            if key == "properties" {
                value.as_object().expect("properties").values().for_each(walk);
            }
        }
    }
    for chart in Chart::ALL {
        assert_eq!(chart.version(), env!("CARGO_PKG_VERSION"));
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(chart.name());
        let text = fs::read_to_string(folder.join("values.schema.json")).expect("a schema");
        walk(&serde_json::from_str(&text).expect("JSON"));
        let embedded: Vec<&str> = chart.templates().iter().map(|(file, _)| *file).collect();
        for entry in fs::read_dir(folder.join("templates")).expect("a folder").flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            // Helm prints the notes after an installation; `mesh install` prints manifests alone.
            let is_notes = name == "NOTES.txt";
            assert!(is_notes || embedded.contains(&name.as_str()), "{name} is not embedded");
        }
    }
}

//! Output and errors of `mesh install`.

use std::{fs, path::Path};

use clap::Parser;
use identity_x509::{Anchor, Anchors, Issuer, Validity};

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: InstallArgs,
}

fn args(line: &[&str]) -> InstallArgs {
    let line = [&["install", "--ignore-cluster"], line].concat();
    Line::try_parse_from(line).expect("a good command line").args
}

fn printed(line: &[&str]) -> Result<Vec<Value>, String> {
    let args = args(line);
    let rendered =
        rendered(&args, &ClusterFacts::default(), SystemTime::now()).map_err(|error| format!("{error:#}"))?;
    let text = manifests::text(&rendered, args.output);
    let mut objects = destination_yaml::all(&text).expect("YAML");
    objects.retain(|object| !object.is_null());
    Ok(objects)
}

fn find<'a>(objects: &'a [Value], name: &str) -> &'a Value {
    let found = objects.iter().find(|object| object["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("no {name}"))
}

/// Writes credentials to files, and returns the three flags for them.
fn files(dir: &Path, anchors: &str, certificate: &str, key: &str) -> Vec<String> {
    let write = |name: &str, text: &str| {
        let path = dir.join(name);
        fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    vec![
        format!("--identity-trust-anchors-file={}", write("ca.crt", anchors)),
        format!(
            "--identity-issuer-certificate-file={}",
            write("issuer.crt", certificate)
        ),
        format!("--identity-issuer-key-file={}", write("issuer.key", key)),
    ]
}

#[test]
fn generates_credentials() {
    let objects = printed(&[]).expect("rendered");
    assert_eq!(objects[0]["kind"], "Namespace", "it comes before what is in it");
    let anchors = find(&objects, "linkerd-identity-trust-roots")["data"]["ca-bundle.crt"].as_str();
    Anchors::from_pem(anchors.expect("text")).expect("an anchor");
    let webhook = &find(&objects, "linkerd-proxy-injector-webhook-config")["webhooks"][0];
    assert!(
        webhook["clientConfig"]["caBundle"].is_null(),
        "the injector says it itself"
    );
    let other = printed(&[]).expect("rendered");
    assert_ne!(
        find(&objects, "linkerd-identity-issuer")["data"],
        find(&other, "linkerd-identity-issuer")["data"]
    );
    assert_eq!(printed(&["--crds"]).expect("rendered").len(), 14);
}

#[test]
fn set_overrides_values_files() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("values.yaml");
    fs::write(&file, "controllerReplicas: 2\ncontrollerLogLevel: debug\n").expect("written");
    let file = file.display().to_string();
    let objects = printed(&["-f", &file, "--set", "controllerReplicas=3", "-L", "mesh"]).expect("rendered");
    let destination = find(&objects, "linkerd-destination");
    let deployment = objects
        .iter()
        .find(|object| object["kind"] == "Deployment")
        .expect("one");
    assert_eq!(deployment["spec"]["replicas"], 3);
    assert_eq!(
        deployment["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"],
        "debug"
    );
    assert_eq!(destination["metadata"]["namespace"], "mesh");
    fs::write(&file, "- a").expect("written");
    let error = printed(&["-f", &file]).expect_err("no map");
    assert!(
        error.starts_with("invalid --values ") && error.contains("map"),
        "{error}"
    );
}

#[test]
fn rejects_unusable_credentials() {
    let dir = tempfile::tempdir().expect("a folder");
    let refused = |anchors: &Anchor, issuer: &Issuer, key: &Issuer| {
        let flags = files(
            dir.path(),
            &anchors.certificate_pem(),
            &issuer.certificate_pem(),
            &key.key_pem(),
        );
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        printed(&flags).err().unwrap_or_default()
    };
    let day = std::time::Duration::from_secs(86_400);
    let anchor = Anchor::generate("root", 10 * day).expect("made");
    let issuer = Issuer::generate(&anchor, "issuer", day).expect("made");
    let other = Issuer::generate(&anchor, "issuer", day).expect("made");
    let past = Validity::starting(SystemTime::now() - 3 * day, day);
    let expired = Issuer::generate_for(&anchor, "issuer", past).expect("made");
    let stranger = Anchor::generate("root", day).expect("made");
    assert_eq!(refused(&anchor, &issuer, &issuer), "");
    assert!(refused(&anchor, &expired, &expired).contains("the issuer's certificate expired at "));
    assert_eq!(
        refused(&anchor, &issuer, &other),
        "the issuer's key does not belong to the issuer's certificate"
    );
    assert!(refused(&stranger, &issuer, &issuer).contains("does not chain to a trust anchor"));
    let error = printed(&["--set", "identityTrustAnchorsPEM=x"]).expect_err("one of three");
    assert!(error.contains("give all three"), "{error}");
    let error = printed(&["--set", "identity.issuer.scheme=kubernetes.io/tls"]).expect_err("no anchors");
    assert!(error.contains("identityTrustAnchorsPEM"), "{error}");
    let alone = ["install", "--identity-issuer-key-file", "x"];
    assert!(Line::try_parse_from(alone).is_err());
}

#[test]
fn rejects_an_existing_mesh_with_a_hint() {
    let config = |namespace: &str, annotations: Value| {
        let metadata = serde_json::json!({"namespace": namespace, "annotations": annotations});
        present::ControlPlane::from_config(&serde_json::json!({ "metadata": metadata }))
    };
    let ours = config("linkerd", serde_json::json!({"linkerd.io/created-by": "mesh/0.1.0"}));
    let release = serde_json::json!({"linkerd.io/created-by": "mesh/0.1.0", "meta.helm.sh/release-name": "m"});
    let other = config(
        "other",
        serde_json::json!({"linkerd.io/created-by": "linkerd/cli edge-1"}),
    );
    let refused = |there: &[present::ControlPlane]| {
        let error = present::reject_existing(there, "linkerd").expect_err("refused");
        error.to_string()
    };
    present::reject_existing(&[], "linkerd").expect("no other control plane");
    assert!(refused(std::slice::from_ref(&ours)).contains("mesh upgrade | kubectl apply -f -"));
    assert!(refused(&[config("b", release)]).contains("by Helm in the namespace b (release m)"));
    let both = refused(&[ours, other]);
    assert!(
        both.contains("another Linkerd") && both.contains("linkerd/cli edge-1"),
        "{both}"
    );
    assert!(refused(&[config("x", Value::Null)]).contains("installed by an unknown program"));
}

#[test]
fn names_the_field_that_an_older_resource_lacks() {
    let ours = printed(&["--crds"]).expect("rendered");
    for resource in &ours {
        assert_eq!(present::lacks(resource, resource), None);
    }
    let splits = find(&ours, "trafficsplits.split.smi-spec.io");
    let mut older = splits.clone();
    older["spec"]["versions"].as_array_mut().expect("versions").truncate(3);
    assert_eq!(present::lacks(splits, &older).as_deref(), Some("version v1alpha4"));
    let profiles = find(&ours, "serviceprofiles.linkerd.io");
    let schema = "/spec/versions/1/schema/openAPIV3Schema/properties/spec";
    let mut older = profiles.clone();
    let routes = format!("{schema}/properties/routes/items/properties");
    let routes = older
        .pointer_mut(&routes)
        .and_then(Value::as_object_mut)
        .expect("fields");
    routes.remove("retryBudget");
    assert_eq!(
        present::lacks(profiles, &older).as_deref(),
        Some("field spec.routes[].retryBudget in v1alpha2")
    );
    *older.pointer_mut(schema).expect("a schema") =
        serde_json::json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    assert_eq!(
        present::lacks(profiles, &older),
        None,
        "what takes everything lacks nothing"
    );
}

#[test]
fn records_given_values_without_secrets() {
    let dir = tempfile::tempdir().expect("a folder");
    let anchor = Anchor::generate("root", std::time::Duration::from_secs(864_000)).expect("made");
    let issuer = Issuer::generate(&anchor, "issuer", std::time::Duration::from_secs(864_000)).expect("made");
    let mut line = files(
        dir.path(),
        &anchor.certificate_pem(),
        &issuer.certificate_pem(),
        &issuer.key_pem(),
    );
    let more = [
        "--set",
        "proxy.logLevel=debug",
        "--set-string",
        "linkerdVersion=7",
        "--ha",
        "--registry",
        "r.example/m/",
    ];
    line.extend(more.map(str::to_owned));
    let line: Vec<&str> = line.iter().map(String::as_str).collect();
    let objects = printed(&line).expect("rendered");
    let text = find(&objects, "linkerd-config")["data"]["given"]
        .as_str()
        .expect("text")
        .to_owned();
    assert!(!text.contains("PRIVATE") && !text.contains("CERTIFICATE"), "{text}");
    let given = mesh_charts::parse(&text).expect("YAML");
    assert_eq!(given["proxy"]["logLevel"], "debug");
    assert_eq!(
        (&given["linkerdVersion"], &given["controllerReplicas"]),
        (&Value::from("7"), &Value::from(3))
    );
    assert_eq!(given["imageRegistry"], "r.example/m/");
    assert_eq!(given.get("given"), None);
    let budgets = objects.iter().filter(|object| object["kind"] == "PodDisruptionBudget");
    assert_eq!(budgets.count(), 3);
}

#[test]
fn orders_manifests_by_dependency() {
    let objects = printed(&[]).expect("rendered");
    let kinds: Vec<&str> = objects.iter().filter_map(|object| object["kind"].as_str()).collect();
    let place = |kind: &str| kinds.iter().position(|other| *other == kind).expect("there");
    assert_eq!(kinds[0], "Namespace");
    assert!(place("ServiceAccount") < place("Deployment") && place("ClusterRole") < place("Deployment"));
    assert_eq!(*kinds.last().expect("some"), "ValidatingWebhookConfiguration");
    let args = args(&["--crds"]);
    let rendered = rendered(&args, &ClusterFacts::default(), SystemTime::now()).expect("rendered");
    let lines = manifests::text(&rendered, DocumentFormat::Json);
    assert!(
        lines.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()),
        "an object a line"
    );
}

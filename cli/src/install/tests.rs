//! What `mesh install` prints, and what it refuses.

use std::fs;

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
    let text = manifests(&args(line), SystemTime::now()).map_err(|error| format!("{error:#}"))?;
    let documents = serde_yaml_ng::Deserializer::from_str(&text);
    let objects = documents.map(|document| serde::Deserialize::deserialize(document).expect("YAML"));
    Ok(objects.filter(|object: &Value| !object.is_null()).collect())
}

fn find<'a>(objects: &'a [Value], name: &str) -> &'a Value {
    let found = objects.iter().find(|object| object["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("no {name}"))
}

/// The three flags, for credentials in a folder.
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
fn an_installation_makes_its_own_credentials() {
    let objects = printed(&[]).expect("rendered");
    assert_eq!(objects[0]["kind"], "Namespace", "it comes before what is in it");
    let anchors = find(&objects, "linkerd-identity-trust-roots")["data"]["ca-bundle.crt"].as_str();
    Anchors::from_pem(anchors.expect("text")).expect("an anchor");
    let webhook = &find(&objects, "linkerd-proxy-injector-webhook-config")["webhooks"][0];
    assert!(webhook["clientConfig"]["caBundle"].is_null(), "the injector says it itself");
    let other = printed(&[]).expect("rendered");
    assert_ne!(
        find(&objects, "linkerd-identity-issuer")["data"],
        find(&other, "linkerd-identity-issuer")["data"]
    );
    assert_eq!(printed(&["--crds"]).expect("rendered").len(), 10);
}

#[test]
fn files_come_before_set_and_the_namespace_is_everywhere() {
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
    assert!(error.starts_with("--values ") && error.contains("no map"), "{error}");
}

#[test]
fn credentials_that_cannot_work_are_refused_in_a_sentence() {
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
fn a_mesh_that_is_there_and_resources_that_are_not_are_refused() {
    let presence = |control_planes: &[&str], resources| Presence {
        control_planes: control_planes.iter().map(|&name| name.to_owned()).collect(),
        resources,
    };
    refuse(false, &presence(&[], true)).expect("nothing in the way");
    refuse(true, &presence(&[], false)).expect("this installs them");
    let there = refuse(false, &presence(&["linkerd"], true)).expect_err("another");
    assert!(there.to_string().contains("in the namespace linkerd"), "{there}");
    let bare = refuse(false, &presence(&[], false)).expect_err("no resources");
    assert!(bare.to_string().contains("mesh install --crds"), "{bare}");
}

//! The checks, decided by made-up facts: a healthy cluster passes all of them, and each fault is named by the one check
//! that is about it.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use identity_x509::{Anchor, Csr, Issuer, LeafTimes, make_key_and_csr};
use serde_json::{Value, json};

use super::categories;
use crate::{Ask, Facts, Missing, Mode, Outcome, What};

const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

fn pod(namespace: &str, name: &str, labels: Value, containers: &[&str]) -> Value {
    let statuses: Vec<Value> = containers
        .iter()
        .map(|name| json!({"name": name, "ready": true}))
        .collect();
    let containers: Vec<Value> = containers.iter().map(|name| json!({"name": name})).collect();
    json!({
        "metadata": {"name": name, "namespace": namespace, "labels": labels, "annotations": {}},
        "spec": {"containers": containers},
        "status": {"phase": "Running", "podIP": "10.0.0.1", "containerStatuses": statuses,
            "conditions": [{"type": "Ready", "status": "True"}]},
    })
}

fn named(name: &str) -> Value {
    json!({"metadata": {"name": name}})
}

/// A certificate for a webhook's host, its key's owner forgotten, and who signed it.
fn webhook_certificate(host: &str, now: SystemTime) -> (String, String) {
    let anchor = Anchor::generate(host, YEAR).expect("an anchor");
    let issuer = Issuer::generate(&anchor, "webhook-issuer", YEAR).expect("an issuer");
    let made = make_key_and_csr(host).expect("a request");
    let times = LeafTimes {
        lifetime: YEAR / 2,
        ..LeafTimes::DEFAULT
    };
    let csr = Csr::from_der(&made.csr_der).expect("ours");
    let leaf = issuer.sign(&csr, host, times, now).expect("signed");
    let leaf = pem::encode(&pem::Pem::new("CERTIFICATE", leaf.der));
    (leaf + &issuer.certificate_pem(), anchor.certificate_pem())
}

fn webhook(name: &str, bundle: &str) -> Value {
    json!({"metadata": {"name": name}, "webhooks": [{"failurePolicy": "Ignore", "clientConfig": {
        "service": {"name": "linkerd-proxy-injector", "namespace": "linkerd"}, "caBundle": STANDARD.encode(bundle)}}]})
}

fn secret(name: &str, data: &[(&str, &str)]) -> Value {
    let data: BTreeMap<&str, String> = data.iter().map(|(key, text)| (*key, STANDARD.encode(text))).collect();
    json!({"metadata": {"name": name}, "data": data})
}

fn control_plane(facts: &mut Facts) {
    let components = ["destination", "identity", "proxy-injector"];
    let pods = components.map(|name| {
        let labels = json!({"linkerd.io/control-plane-component": name});
        pod(
            "linkerd",
            &format!("linkerd-{name}-1"),
            labels,
            &[name, "linkerd-proxy"],
        )
    });
    let mut all = pods.to_vec();
    all.push(pod("vote", "web-1", json!({"app": "web"}), &["web", "linkerd-proxy"]));
    facts.lists.insert(What::Pods, Ok(all));
    let owners = components.map(|name| named(&format!("linkerd-{name}"))).to_vec();
    facts.lists.insert(What::Deployments, Ok(owners.clone()));
    facts.lists.insert(What::ServiceAccounts, Ok(owners));
    let roles = components
        .map(|name| named(&format!("linkerd-linkerd-{name}")))
        .to_vec();
    facts.lists.insert(What::ClusterRoles, Ok(roles.clone()));
    facts.lists.insert(What::ClusterRoleBindings, Ok(roles));
    let mut vote = named("vote");
    vote["metadata"]["annotations"] = json!({"linkerd.io/inject": "enabled"});
    facts.lists.insert(What::Namespaces, Ok(vec![named("linkerd"), vote]));
}

/// The facts of a healthy cluster.
fn healthy() -> Facts {
    let now = SystemTime::now();
    let anchor = Anchor::generate("root", YEAR).expect("an anchor");
    let issuer = Issuer::generate(&anchor, "issuer", YEAR).expect("an issuer");
    let (certificate, bundle) = webhook_certificate("linkerd-proxy-injector.linkerd.svc", now);
    let values = "linkerdVersion: \"0.1.0\"\nclusterNetworks: 10.0.0.0/8\nwebhookFailurePolicy: Ignore\n";
    let mut facts = Facts {
        now,
        ask: Ask {
            proxy: true,
            control_plane: "linkerd".to_owned(),
            viz: "linkerd-viz".to_owned(),
            version: "0.1.0".to_owned(),
            resources: vec![("servers.policy.linkerd.io".to_owned(), vec!["v1beta3".to_owned()])],
            ..Ask::default()
        },
        version: Ok("v1.34.4".to_owned()),
        ..Facts::default()
    };
    control_plane(&mut facts);
    let mut put = |what, objects: Vec<Value>| facts.lists.insert(what, Ok(objects));
    put(
        What::ConfigMaps,
        vec![
            json!({"metadata": {"name": "linkerd-config"}, "data": {"values": values}}),
            json!({"metadata": {"name": "linkerd-identity-trust-roots"},
                "data": {"ca-bundle.crt": anchor.certificate_pem()}}),
        ],
    );
    let (crt, key) = (issuer.certificate_pem(), issuer.key_pem());
    put(
        What::Secrets,
        vec![
            secret("linkerd-identity-issuer", &[("crt.pem", &crt), ("key.pem", &key)]),
            secret("linkerd-proxy-injector-k8s-tls", &[("tls.crt", &certificate)]),
        ],
    );
    put(What::Mutating, vec![webhook(super::webhooks::INJECTOR, &bundle)]);
    put(What::Validating, vec![webhook(super::webhooks::VALIDATOR, &bundle)]);
    put(
        What::Resources,
        vec![json!({"metadata": {"name": "servers.policy.linkerd.io"},
            "spec": {"group": "policy.linkerd.io", "versions": [{"name": "v1beta3", "served": true}]},
            "status": {"conditions": [{"type": "Established", "status": "True"}]}})],
    );
    put(
        What::Services,
        vec![json!({"metadata": {"name": "web", "namespace": "vote"}, "spec": {}})],
    );
    facts
}

/// What is not as it should be: the check and its sentence.
fn failures(facts: &Facts) -> Vec<(String, String)> {
    let categories = categories(&facts.ask);
    let checks = categories.iter().flat_map(|category| &category.checks);
    checks
        .filter_map(|check| match check.decide(facts) {
            Outcome::Fail(why) | Outcome::Unknown(why) => {
                assert!(!check.hint.is_empty(), "{} has no hint", check.description);
                Some((check.description.clone(), why))
            }
            _ => None,
        })
        .collect()
}

/// Facts with one fault, and the one check that names it.
fn assert_one(facts: &Facts, check: &str, sentence: &str) {
    let found = failures(facts);
    let [(description, why)] = &found[..] else {
        panic!("{check}: {found:?}")
    };
    assert_eq!(description, check);
    assert!(why.contains(sentence), "{check}: {why}");
}

fn edit(what: What, at: usize, change: impl FnOnce(&mut Value)) -> Facts {
    let mut facts = healthy();
    let list = facts.lists.get_mut(&what).expect("listed").as_mut().expect("read");
    change(&mut list[at]);
    facts
}

#[test]
fn a_healthy_cluster_passes() {
    assert_eq!(failures(&healthy()), []);
}

#[test]
fn what_is_missing_is_named() {
    let mut facts = healthy();
    facts
        .lists
        .insert(What::ServiceAccounts, Ok(vec![named("linkerd-identity")]));
    assert_one(
        &facts,
        "control plane ServiceAccounts exist",
        "linkerd-destination, linkerd-proxy-injector",
    );
    let mut facts = healthy();
    facts
        .lists
        .insert(What::ClusterRoles, Err(Missing::Error("we have no right".to_owned())));
    assert_one(&facts, "control plane ClusterRoles exist", "we have no right");
    let facts = edit(What::Resources, 0, |resource| {
        resource["spec"]["versions"][0]["name"] = json!("v1beta2");
    });
    assert_one(
        &facts,
        "control plane CustomResourceDefinitions are up-to-date",
        "servers.policy.linkerd.io (without v1beta3)",
    );
}

#[test]
fn a_pod_that_is_not_ready_is_named_with_its_reason() {
    let facts = edit(What::Pods, 0, |pod| {
        pod["status"]["conditions"][0]["status"] = json!("False");
        pod["status"]["containerStatuses"][0] =
            json!({"name": "destination", "state": {"waiting": {"reason": "CrashLoopBackOff"}}});
    });
    assert_one(
        &facts,
        "control plane pods are ready",
        "linkerd-destination-1 (destination: CrashLoopBackOff)",
    );
}

#[test]
fn pods_that_went_without_a_sidecar_are_named() {
    let bare = |pod: &mut Value| pod["spec"]["containers"] = json!([{"name": "web"}]);
    let found = failures(&edit(What::Pods, 3, bare));
    let mut about = found
        .iter()
        .filter(|(check, _)| check == "pods in annotated namespaces have their sidecar");
    assert!(
        about.next().is_some_and(|(_, why)| why.contains("vote/web-1")),
        "{found:?}"
    );
    let facts = edit(What::Pods, 3, |pod| {
        bare(pod);
        pod["metadata"]["annotations"] = json!({"linkerd.io/inject": "disabled"});
    });
    assert!(
        !failures(&facts)
            .iter()
            .any(|(check, _)| check.contains("annotated namespaces"))
    );
}

#[test]
fn an_injector_that_is_down_is_told_with_what_follows() {
    let facts = edit(What::Pods, 2, |pod| pod["metadata"]["deletionTimestamp"] = json!("now"));
    let found = failures(&facts);
    let reached = found
        .iter()
        .find(|(check, _)| check == "proxy-injector webhook can be reached");
    assert!(
        reached.is_some_and(|(_, why)| why.ends_with("new pods start without a sidecar")),
        "{found:?}"
    );
}

#[test]
fn certificates_that_do_not_belong_together_are_told() {
    let (_, other) = webhook_certificate("linkerd-proxy-injector.linkerd.svc", SystemTime::now());
    let facts = edit(What::Mutating, 0, |webhook| {
        webhook["webhooks"][0]["clientConfig"]["caBundle"] = json!(STANDARD.encode(other));
    });
    assert_one(
        &facts,
        "proxy-injector webhook has valid cert",
        "not signed by the caBundle",
    );
    let anchor = Anchor::generate("root", YEAR).expect("an anchor").certificate_pem();
    let facts = edit(What::ConfigMaps, 1, |config| {
        config["data"]["ca-bundle.crt"] = json!(anchor);
    });
    assert_one(&facts, "issuer cert is issued by the trust anchor", "");
    let mut facts = healthy();
    facts.now += Duration::from_secs(335 * 24 * 60 * 60);
    let found: Vec<_> = failures(&facts).into_iter().map(|(check, _)| check).collect();
    assert!(
        found.contains(&"issuer cert is valid for at least 60 days".to_owned()),
        "{found:?}"
    );
    assert!(!found.contains(&"issuer cert is within its validity period".to_owned()));
}

#[test]
fn objects_that_the_mesh_does_not_take_are_named_with_the_field() {
    let mut facts = healthy();
    let server = |spec: Value| json!({"metadata": {"name": "s", "namespace": "vote"}, "spec": spec});
    let good = json!({"podSelector": {"matchLabels": {"app": "web"}}, "port": 80});
    facts.lists.insert(What::Servers, Ok(vec![server(good.clone())]));
    assert_eq!(failures(&facts), []);
    let mut spelled = good.clone();
    spelled["proxyProtocl"] = json!("HTTP/1");
    facts.lists.insert(What::Servers, Ok(vec![server(spelled)]));
    let found = failures(&facts);
    assert!(
        found
            .iter()
            .any(|(_, why)| why.contains("vote/s") && why.contains("proxyProtocl")),
        "{found:?}"
    );
    let mut facts = healthy();
    let split = json!({"metadata": {"name": "t", "namespace": "vote"},
        "spec": {"service": "web", "backends": [{"service": "web-v2", "weight": 1}]}});
    facts.lists.insert(What::TrafficSplits, Ok(vec![split]));
    assert_one(
        &facts,
        "traffic splits refer to Services that exist",
        "there is no Service vote/web-v2",
    );
}

#[test]
fn a_proxy_without_a_certificate_is_named() {
    let mut facts = healthy();
    let line = |seconds: u64| format!("{} {seconds}\n", proxy_metrics::names::CERT_EXPIRATION.name);
    facts.proxies.insert("vote/web-1".to_owned(), Ok(line(10_000_000_000)));
    assert_eq!(failures(&facts), []);
    facts.proxies.insert("vote/web-1".to_owned(), Ok(line(1000)));
    assert_one(
        &facts,
        "data plane proxies have valid certificates",
        "vote/web-1 (expired)",
    );
}

#[test]
fn proxies_that_were_not_asked_are_counted() {
    let mut facts = healthy();
    facts.proxies_left = 7;
    let asked = facts.proxies.len();
    assert_one(
        &facts,
        "every data plane proxy was asked for its certificate",
        &format!("{asked} were asked, 7 were not"),
    );
}

#[test]
fn before_an_installation_rights_are_asked_for() {
    let ask = Ask {
        mode: Mode::Pre,
        control_plane: "linkerd".to_owned(),
        ..Ask::default()
    };
    let rights = ask.rights();
    let mut facts = Facts {
        now: SystemTime::now(),
        version: Ok("v1.34.4".to_owned()),
        rights: rights
            .iter()
            .map(|right| (right.clone(), Ok(right.resource != "secrets")))
            .collect(),
        ask,
        ..Facts::default()
    };
    let found = failures(&facts);
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(found[0].1, "not authorized to create secrets in the namespace linkerd");
    facts.rights.clear();
    facts.lists.insert(What::Namespaces, Ok(vec![named("linkerd")]));
    assert_one(
        &facts,
        "control plane namespace does not already exist",
        "already exists",
    );
}

#[test]
fn viz_is_checked_only_where_it_is() {
    let mut facts = healthy();
    let namespaces = facts
        .lists
        .get_mut(&What::Namespaces)
        .expect("listed")
        .as_mut()
        .expect("read");
    namespaces.push(named("linkerd-viz"));
    let found = failures(&facts);
    assert!(
        found.iter().any(|(check, _)| check == "linkerd-viz Deployment exists"),
        "{found:?}"
    );
    assert!(found.iter().any(|(_, why)| why == "no pod is running"));
}

//! Tests of all checks with made-up facts: a healthy cluster passes, and each fault is reported by exactly one check.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use identity_x509::{Anchor, Csr, Issuer, LeafTimes, make_key_and_csr};
use serde_json::{Value, json};

use super::categories;
use crate::{Facts, ListError, Mode, ObjectKind, Outcome, Scope};

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

/// Certificate for a webhook's host, and the anchor that signed it; the key is dropped.
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
    facts.lists.insert(ObjectKind::Pods, Ok(all));
    let owners = components.map(|name| named(&format!("linkerd-{name}"))).to_vec();
    facts.lists.insert(ObjectKind::Deployments, Ok(owners.clone()));
    facts.lists.insert(ObjectKind::ServiceAccounts, Ok(owners));
    let roles = components
        .map(|name| named(&format!("linkerd-linkerd-{name}")))
        .to_vec();
    facts.lists.insert(ObjectKind::ClusterRoles, Ok(roles.clone()));
    facts.lists.insert(ObjectKind::ClusterRoleBindings, Ok(roles));
    let mut vote = named("vote");
    vote["metadata"]["annotations"] = json!({"linkerd.io/inject": "enabled"});
    facts
        .lists
        .insert(ObjectKind::Namespaces, Ok(vec![named("linkerd"), vote]));
}

/// Facts of a healthy cluster.
fn healthy() -> Facts {
    let now = SystemTime::now();
    let anchor = Anchor::generate("root", YEAR).expect("an anchor");
    let issuer = Issuer::generate(&anchor, "issuer", YEAR).expect("an issuer");
    let (certificate, bundle) = webhook_certificate("linkerd-proxy-injector.linkerd.svc", now);
    let values = "linkerdVersion: \"0.1.0\"\nclusterNetworks: 10.0.0.0/8\nwebhookFailurePolicy: Ignore\n";
    let mut facts = Facts {
        now,
        scope: Scope {
            proxy: true,
            control_plane: "linkerd".to_owned(),
            viz: "linkerd-viz".to_owned(),
            version: "0.1.0".to_owned(),
            resources: vec![("servers.policy.linkerd.io".to_owned(), vec!["v1beta3".to_owned()])],
            ..Scope::default()
        },
        version: Ok("v1.34.4".to_owned()),
        ..Facts::default()
    };
    control_plane(&mut facts);
    let mut put = |what, objects: Vec<Value>| facts.lists.insert(what, Ok(objects));
    put(
        ObjectKind::ConfigMaps,
        vec![
            json!({"metadata": {"name": "linkerd-config"}, "data": {"values": values}}),
            json!({"metadata": {"name": "linkerd-identity-trust-roots"},
                "data": {"ca-bundle.crt": anchor.certificate_pem()}}),
        ],
    );
    let (crt, key) = (issuer.certificate_pem(), issuer.key_pem());
    put(
        ObjectKind::Secrets,
        vec![
            secret("linkerd-identity-issuer", &[("crt.pem", &crt), ("key.pem", &key)]),
            secret("linkerd-proxy-injector-k8s-tls", &[("tls.crt", &certificate)]),
        ],
    );
    put(ObjectKind::Mutating, vec![webhook(super::webhooks::INJECTOR, &bundle)]);
    put(
        ObjectKind::Validating,
        vec![webhook(super::webhooks::VALIDATOR, &bundle)],
    );
    put(
        ObjectKind::Resources,
        vec![json!({"metadata": {"name": "servers.policy.linkerd.io"},
            "spec": {"group": "policy.linkerd.io", "versions": [{"name": "v1beta3", "served": true}]},
            "status": {"conditions": [{"type": "Established", "status": "True"}]}})],
    );
    put(
        ObjectKind::Services,
        vec![json!({"metadata": {"name": "web", "namespace": "vote"}, "spec": {}})],
    );
    facts
}

/// Adds a CNI plugin of which one pod is not ready.
fn with_cni(facts: &mut Facts) {
    let mut set = named("linkerd-cni");
    set["status"] = json!({"desiredNumberScheduled": 3, "numberReady": 2});
    facts.lists.insert(ObjectKind::CniDaemonSets, Ok(vec![set]));
    facts
        .lists
        .insert(ObjectKind::CniServiceAccounts, Ok(vec![named("linkerd-cni")]));
    facts
        .lists
        .insert(ObjectKind::CniConfigMaps, Ok(vec![named("linkerd-cni-config")]));
    for what in [ObjectKind::ClusterRoles, ObjectKind::ClusterRoleBindings] {
        let Some(Ok(list)) = facts.lists.get_mut(&what) else {
            facts.lists.insert(what, Ok(vec![named("linkerd-cni")]));
            continue;
        };
        list.push(named("linkerd-cni"));
    }
}

#[test]
fn fails_where_ipv6_bypasses_the_sidecars() {
    let ipv6 = |facts: &Facts| {
        let all = failures(facts).into_iter();
        let found = all.filter(|(check, _)| check.starts_with("IPv6"));
        found.map(|(_, why)| why).collect::<Vec<_>>()
    };
    let dual = |what, object: Value| {
        let mut facts = healthy();
        facts.lists.insert(what, Ok(vec![object]));
        facts
    };
    let web = json!({"namespace": "vote", "name": "web"});
    let service = json!({"metadata": web, "spec": {"ipFamilies": ["IPv4", "IPv6"]}});
    assert_eq!(
        ipv6(&dual(ObjectKind::Services, service.clone())),
        ["disableIPv6 is set, but the cluster uses IPv6: Service vote/web"]
    );
    let node = json!({"metadata": {"name": "n1"}, "spec": {"podCIDRs": ["10.1.0.0/24", "fd00:1::/64"]}});
    assert_eq!(
        ipv6(&dual(ObjectKind::Nodes, node)),
        ["disableIPv6 is set, but the cluster uses IPv6: node n1"]
    );
    let pod = json!({"metadata": web, "status": {"podIPs": [{"ip": "10.1.0.2"}, {"ip": "fd00:1::2"}]}});
    assert_eq!(ipv6(&dual(ObjectKind::Pods, pod)).len(), 1);
    let single = json!({"metadata": web, "spec": {"ipFamilies": ["IPv4"]}, "status": {"podIPs": [{"ip": "10.1.0.2"}]}});
    assert_eq!(ipv6(&dual(ObjectKind::Pods, single)), [""; 0]);
    let mut redirected = dual(ObjectKind::Services, service);
    let Some(Ok(configs)) = redirected.lists.get_mut(&ObjectKind::ConfigMaps) else {
        panic!("there is a configuration");
    };
    configs[0]["data"]["values"] = "disableIPv6: false\nclusterNetworks: 10.0.0.0/8\n".into();
    assert_eq!(ipv6(&redirected), [""; 0]);
}

#[test]
fn checks_the_cni_plugin_only_where_it_is_enabled() {
    let mut facts = healthy();
    let of_cni = |facts: &Facts| {
        let all = failures(facts);
        all.into_iter()
            .filter(|(check, _)| check.starts_with("cni plugin"))
            .collect::<Vec<_>>()
    };
    assert_eq!(of_cni(&facts), []);
    let Some(Ok(configs)) = facts.lists.get_mut(&ObjectKind::ConfigMaps) else {
        panic!("there is a configuration");
    };
    configs[0]["data"]["values"] = "cniEnabled: true\nclusterNetworks: 10.0.0.0/8\n".into();
    assert_eq!(of_cni(&facts).len(), 5, "not installed");
    with_cni(&mut facts);
    let [(check, why)] = &of_cni(&facts)[..] else {
        panic!("one of its pods is not ready");
    };
    assert_eq!(
        (check.as_str(), why.as_str()),
        (
            "cni plugin pod is running on all nodes",
            "the plugin is ready on 2 of 3 nodes"
        )
    );
}

#[test]
fn pre_checks_the_cni_plugin_on_request() {
    let ask = |cni_enabled| Scope {
        mode: Mode::Pre,
        cni_enabled,
        cni: "linkerd-cni".to_owned(),
        ..Scope::default()
    };
    let of_cni = |facts: &Facts| {
        failures(facts)
            .into_iter()
            .filter(|(check, _)| check.starts_with("cni"))
            .count()
    };
    let mut facts = Facts {
        scope: ask(false),
        ..Facts::default()
    };
    assert_eq!(of_cni(&facts), 0);
    facts.scope = ask(true);
    assert_eq!(of_cni(&facts), 5);
    with_cni(&mut facts);
    assert_eq!(of_cni(&facts), 1);
    let lists_to_read = facts.scope.lists_to_read();
    assert!(
        lists_to_read
            .iter()
            .any(|want| want.what == ObjectKind::CniDaemonSets && want.namespace.as_deref() == Some("linkerd-cni"))
    );
}

/// Failed checks, with their sentences.
fn failures(facts: &Facts) -> Vec<(String, String)> {
    let categories = categories(&facts.scope);
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

/// Asserts that exactly one check fails, with this sentence.
fn assert_one(facts: &Facts, check: &str, sentence: &str) {
    let found = failures(facts);
    let [(description, why)] = &found[..] else {
        panic!("{check}: {found:?}")
    };
    assert_eq!(description, check);
    assert!(why.contains(sentence), "{check}: {why}");
}

fn edit(what: ObjectKind, at: usize, change: impl FnOnce(&mut Value)) -> Facts {
    let mut facts = healthy();
    let list = facts.lists.get_mut(&what).expect("listed").as_mut().expect("read");
    change(&mut list[at]);
    facts
}

#[test]
fn passes_a_healthy_cluster() {
    assert_eq!(failures(&healthy()), []);
}

#[test]
fn names_missing_objects() {
    let mut facts = healthy();
    facts
        .lists
        .insert(ObjectKind::ServiceAccounts, Ok(vec![named("linkerd-identity")]));
    assert_one(
        &facts,
        "control plane ServiceAccounts exist",
        "linkerd-destination, linkerd-proxy-injector",
    );
    let mut facts = healthy();
    facts.lists.insert(
        ObjectKind::ClusterRoles,
        Err(ListError::Error("permission denied".to_owned())),
    );
    assert_one(&facts, "control plane ClusterRoles exist", "permission denied");
    let facts = edit(ObjectKind::Resources, 0, |resource| {
        resource["spec"]["versions"][0]["name"] = json!("v1beta2");
    });
    assert_one(
        &facts,
        "control plane CustomResourceDefinitions are up-to-date",
        "servers.policy.linkerd.io (without v1beta3)",
    );
}

#[test]
fn names_an_unready_pod_with_its_reason() {
    let facts = edit(ObjectKind::Pods, 0, |pod| {
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
fn names_pods_without_a_sidecar() {
    let bare = |pod: &mut Value| pod["spec"]["containers"] = json!([{"name": "web"}]);
    let found = failures(&edit(ObjectKind::Pods, 3, bare));
    let mut about = found
        .iter()
        .filter(|(check, _)| check == "pods in annotated namespaces have their sidecar");
    assert!(
        about.next().is_some_and(|(_, why)| why.contains("vote/web-1")),
        "{found:?}"
    );
    let facts = edit(ObjectKind::Pods, 3, |pod| {
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
fn reports_the_consequence_of_an_injector_that_is_down() {
    let facts = edit(ObjectKind::Pods, 2, |pod| {
        pod["metadata"]["deletionTimestamp"] = json!("2026-11-30T00:00:00Z");
    });
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
fn reports_mismatched_certificates() {
    let (_, other) = webhook_certificate("linkerd-proxy-injector.linkerd.svc", SystemTime::now());
    let facts = edit(ObjectKind::Mutating, 0, |webhook| {
        webhook["webhooks"][0]["clientConfig"]["caBundle"] = json!(STANDARD.encode(other));
    });
    assert_one(
        &facts,
        "proxy-injector webhook has valid cert",
        "not signed by the caBundle",
    );
    let anchor = Anchor::generate("root", YEAR).expect("an anchor").certificate_pem();
    let facts = edit(ObjectKind::ConfigMaps, 1, |config| {
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
fn names_the_invalid_field_of_an_object() {
    let mut facts = healthy();
    let server = |spec: Value| json!({"metadata": {"name": "s", "namespace": "vote"}, "spec": spec});
    let good = json!({"podSelector": {"matchLabels": {"app": "web"}}, "port": 80});
    facts.lists.insert(ObjectKind::Servers, Ok(vec![server(good.clone())]));
    assert_eq!(failures(&facts), []);
    let mut spelled = good.clone();
    spelled["proxyProtocl"] = json!("HTTP/1");
    facts.lists.insert(ObjectKind::Servers, Ok(vec![server(spelled)]));
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
    facts.lists.insert(ObjectKind::TrafficSplits, Ok(vec![split]));
    assert_one(
        &facts,
        "traffic splits refer to Services that exist",
        "there is no Service vote/web-v2",
    );
}

#[test]
fn names_a_proxy_without_a_certificate() {
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
fn counts_proxies_not_queried() {
    let mut facts = healthy();
    facts.proxies_left = 7;
    let queried = facts.proxies.len();
    assert_one(
        &facts,
        "every data plane proxy was queried for its certificate",
        &format!("{queried} were queried, 7 were not"),
    );
}

#[test]
fn pre_checks_permissions() {
    let scope = Scope {
        mode: Mode::Pre,
        control_plane: "linkerd".to_owned(),
        ..Scope::default()
    };
    let permissions = scope.permissions();
    let mut facts = Facts {
        now: SystemTime::now(),
        version: Ok("v1.34.4".to_owned()),
        permissions: permissions
            .iter()
            .map(|permission| (permission.clone(), Ok(permission.resource != "secrets")))
            .collect(),
        scope,
        ..Facts::default()
    };
    let found = failures(&facts);
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(found[0].1, "not authorized to create secrets in the namespace linkerd");
    facts.permissions.clear();
    facts.lists.insert(ObjectKind::Namespaces, Ok(vec![named("linkerd")]));
    assert_one(
        &facts,
        "control plane namespace does not already exist",
        "already exists",
    );
}

#[test]
fn checks_viz_only_where_it_is_installed() {
    let mut facts = healthy();
    let namespaces = facts
        .lists
        .get_mut(&ObjectKind::Namespaces)
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

#[test]
fn requires_viz_on_request() {
    let mut facts = healthy();
    facts.scope.viz_required = true;
    let found = failures(&facts);
    assert!(
        found.iter().any(|(check, _)| check == "linkerd-viz Namespace exists"),
        "{found:?}"
    );
}

#[test]
fn reports_missing_custom_resources_only_once() {
    let mut facts = healthy();
    facts.lists.insert(ObjectKind::Resources, Ok(vec![]));
    let found = failures(&facts);
    let resources: Vec<_> = found
        .iter()
        .filter(|(check, _)| check.contains("CustomResource"))
        .collect();
    assert_eq!(resources.len(), 1, "{resources:?}");
    let passed = super::resources::category(&facts.scope)
        .checks
        .iter()
        .any(|check| check.description.contains("up-to-date") && check.decide(&facts) == Outcome::Pass);
    assert!(!passed, "missing resources are not up to date");
}

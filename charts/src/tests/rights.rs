//! Rights of the mesh's own programs, and the ports that NetworkPolicies open.

use std::collections::{BTreeMap, BTreeSet};

use proxy_model::ports;
use serde_json::Value;

use super::{given, given_to, ours};
use crate::Chart;

/// Rules of all roles of a chart.
fn rules(chart: Chart) -> Vec<Value> {
    let objects = ours(chart, "Helm", &given_to(chart, &[]));
    let roles = objects
        .values()
        .filter(|object| ["Role", "ClusterRole"].map(Value::from).contains(&object["kind"]));
    roles
        .flat_map(|role| role["rules"].as_array().cloned().unwrap_or_default())
        .collect()
}

fn has(rule: &Value, key: &str, value: &str) -> bool {
    rule[key]
        .as_array()
        .is_some_and(|list| list.iter().any(|one| one == value))
}

#[test]
fn secrets_and_leases_are_granted_by_name() {
    let lease = include_str!("../../../destination/src/run.rs");
    let (_, rest) = lease.split_once("const LEASE: &str = \"").expect("the lease");
    let (lease, _) = rest.split_once('"').expect("a string");
    for (chart, resource, count) in [
        (Chart::ControlPlane, "leases", 2),
        (Chart::ControlPlane, "secrets", 2),
        (Chart::Viz, "secrets", 2),
    ] {
        let rules: Vec<_> = rules(chart)
            .into_iter()
            .filter(|rule| has(rule, "resources", resource))
            .collect();
        assert_eq!(rules.len(), count, "{resource}");
        for rule in rules {
            let is_creation = rule["verbs"] == serde_json::json!(["create"]);
            assert_eq!(rule["resourceNames"].is_array(), !is_creation, "{rule}");
            assert!(
                resource != "leases" || is_creation || has(&rule, "resourceNames", lease),
                "{rule}"
            );
        }
    }
}

#[test]
fn no_role_is_wider_than_its_program() {
    for chart in [Chart::ControlPlane, Chart::Viz, Chart::Cni] {
        for rule in rules(chart) {
            assert!(!has(&rule, "verbs", "*") && !has(&rule, "apiGroups", "*"), "{rule}");
            let is_ours = has(&rule, "apiGroups", "policy.linkerd.io") || has(&rule, "apiGroups", "tap.linkerd.io");
            assert!(is_ours || !has(&rule, "resources", "*"), "{rule}");
        }
        // Roles of the cluster's own grant more than the programs use: tokenreviews beside subjectaccessreviews.
        let objects = ours(chart, "Helm", &given_to(chart, &[]));
        let bindings = objects.values().filter(|object| object["kind"] == "ClusterRoleBinding");
        for binding in bindings {
            let role = binding["roleRef"]["name"].as_str().expect("a name");
            assert!(role.starts_with("linkerd"), "{role} is not ours");
        }
    }
    assert!(
        rules(Chart::Viz)
            .iter()
            .any(|rule| has(rule, "resources", "subjectaccessreviews"))
    );
}

#[test]
fn one_container_of_a_pod_holds_the_token_of_the_api_server() {
    let path = "/var/run/secrets/kubernetes.io/serviceaccount";
    let holders = |sets: &[&str]| {
        let objects = ours(Chart::ControlPlane, "Helm", &given(sets));
        let pods = objects.values().filter(|object| object["kind"] == "Deployment");
        let of_pod = |pod: &Value| {
            let spec = &pod["spec"]["template"]["spec"];
            let lists = ["containers", "initContainers"].map(|list| spec[list].as_array().cloned().expect("a list"));
            let mounts = |container: &Value| container["volumeMounts"].as_array().cloned().unwrap_or_default();
            let holds = |container: &Value| mounts(container).iter().any(|mount| mount["mountPath"] == path);
            let holders = lists
                .concat()
                .iter()
                .filter(|one| holds(one))
                .map(|one| one["name"].clone())
                .collect::<Vec<_>>();
            (spec["automountServiceAccountToken"].clone(), holders)
        };
        pods.map(of_pod).collect::<Vec<_>>()
    };
    let named = ["destination", "identity", "proxy-injector"].map(|name| (Value::Bool(false), vec![Value::from(name)]));
    assert_eq!(holders(&[]), named);
    // Sidecars prove their identity by it, too.
    let everywhere = [const { (Value::Null, Vec::new()) }; 3];
    assert_eq!(holders(&["identity.serviceAccountTokenProjection=false"]), everywhere);
}

/// Open ports by the number of peers that a rule lists; 0 means any.
fn open(policy: &Value) -> BTreeMap<u64, usize> {
    let rules = policy["spec"]["ingress"].as_array().into_iter().flatten();
    let of_rule = |rule: &Value| {
        let peers = rule["from"].as_array().map_or(0, Vec::len);
        let ports = rule["ports"].as_array().cloned().expect("ports");
        ports
            .into_iter()
            .map(move |port| (port["port"].as_u64().expect("a number"), peers))
            .collect::<Vec<_>>()
    };
    rules.flat_map(of_rule).collect()
}

fn policies(chart: Chart, sets: &[&str]) -> BTreeMap<String, BTreeMap<u64, usize>> {
    let objects = ours(chart, "Helm", &given_to(chart, sets));
    let all = objects.values().filter(|object| object["kind"] == "NetworkPolicy");
    all.map(|policy| {
        assert_eq!(policy["spec"]["policyTypes"], serde_json::json!(["Ingress"]));
        (
            policy["metadata"]["name"].as_str().expect("a name").to_owned(),
            open(policy),
        )
    })
    .collect()
}

#[test]
fn network_policies_open_the_ports_of_their_program_to_its_clients() {
    for chart in [Chart::ControlPlane, Chart::Viz] {
        assert!(policies(chart, &[]).is_empty(), "off by default");
    }
    let on = ["networkPolicies.enabled=true"];
    let sidecar = [u64::from(ports::ADMIN), u64::from(ports::TAP)];
    let control_plane = policies(Chart::ControlPlane, &on);
    for (name, program, clients) in [
        ("linkerd-identity", "mesh-identity", true),
        ("linkerd-destination", "mesh-destination", true),
        ("linkerd-proxy-injector", "mesh-injector", false),
    ] {
        let of_program = ports::ALL
            .iter()
            .filter(|(_, owner, _)| *owner == program)
            .map(|(port, ..)| u64::from(*port));
        let mut expected: BTreeSet<u64> = of_program.chain(sidecar).collect();
        expected.extend(clients.then_some(u64::from(ports::INBOUND)));
        let open = &control_plane[name];
        assert_eq!(open.keys().copied().collect::<BTreeSet<_>>(), expected, "{name}");
        // The webhook alone is open to any source: the API server's address is unknown.
        let to_any = open.iter().filter(|(_, peers)| **peers == 0).map(|(port, _)| *port);
        assert!(
            to_any.eq((!clients).then_some(u64::from(ports::INJECTOR))),
            "{name}: {open:?}"
        );
    }
    let named = [on[0], "networkPolicies.apiServer[0].ipBlock.cidr=10.0.0.1/32"];
    for chart in [Chart::ControlPlane, Chart::Viz] {
        let all = policies(chart, &named);
        assert!(
            all.values().flat_map(BTreeMap::values).all(|peers| *peers == 1),
            "{all:?}"
        );
    }
    let viz = &policies(Chart::Viz, &on)["mesh-viz"];
    let expected = [ports::TAP, ports::ADMIN, ports::VIZ_EXTENSION, ports::VIZ_ADMIN].map(u64::from);
    assert!(viz.keys().eq(&expected), "{viz:?}: the API is for a port-forward");
    // An empty list of peers would mean any.
    let closed = policies(
        Chart::ControlPlane,
        &[on[0], "networkPolicies.metrics=null", "networkPolicies.clients=null"],
    );
    assert!(closed["linkerd-identity"].is_empty(), "{closed:?}");
}

//! Readers of SMI's access and specs, in each version.

use serde_json::{Value, json};

use crate::{Kind, Object, policy::PortRef, specs::HttpRouteGroup};

use super::*;

fn read(version: &str, kind: &str, rest: Value) -> Result<Object, String> {
    let mut value = json!({"apiVersion": version, "kind": kind, "metadata": {"name": "n", "namespace": "a"}});
    let fields = rest.as_object().expect("fields").clone();
    value.as_object_mut().expect("a map").extend(fields);
    assert_eq!(Object::unknown_fields(&value), [], "{value}");
    Object::from_value(value).map_err(|invalid| invalid.to_string())
}

fn target(version: &str, rest: Value) -> TrafficTargetSpec {
    let version = format!("access.smi-spec.io/{version}");
    match read(&version, "TrafficTarget", rest).expect("a target") {
        Object::TrafficTarget(target) => target.spec.clone(),
        other => panic!("{other:?}"),
    }
}

fn group(version: &str, rest: Value) -> HttpRouteGroup {
    let version = format!("specs.smi-spec.io/{version}");
    match read(&version, "HTTPRouteGroup", rest).expect("a group") {
        Object::HttpRouteGroup(group) => (*group).clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn targets_of_all_versions_are_the_same_object() {
    let account = |name: &str| json!({"kind": "ServiceAccount", "name": name, "namespace": "a"});
    let rules = json!([{"kind": "HTTPRouteGroup", "name": "g", "matches": ["m"]}, {"kind": "TCPRoute", "name": "t"}]);
    let first = target(
        "v1alpha1",
        json!({"destination": account("server"), "sources": [account("client")], "specs": rules}),
    );
    for version in ["v1alpha1", "v1alpha2", "v1alpha3"] {
        let spec = json!({"destination": account("server"), "sources": [account("client")], "rules": rules});
        assert_eq!(target(version, json!({"spec": spec})), first, "{version}");
    }
    assert_eq!(first.rules[0].matches, ["m"]);
    let written = serde_json::to_value(Object::from(TrafficTarget {
        api_version: "access.smi-spec.io/v1alpha1".to_owned(),
        kind: "TrafficTarget".to_owned(),
        metadata: ObjectMeta {
            name: Some("n".to_owned()),
            namespace: Some("a".to_owned()),
            ..ObjectMeta::default()
        },
        spec: first.clone(),
    }));
    let Ok(Object::TrafficTarget(again)) = Object::from_value(written.expect("JSON")) else {
        panic!("not read again")
    };
    assert_eq!(again.spec, first);
}

#[test]
fn a_port_is_a_number_as_number_or_text_or_a_name() {
    let port = |port: Value| {
        let destination = json!({"kind": "ServiceAccount", "name": "s", "namespace": "a", "port": port});
        target("v1alpha1", json!({"destination": destination})).destination.port
    };
    assert_eq!(port(json!(8080)), Some(PortRef::Number(8080)));
    assert_eq!(port(json!("8080")), Some(PortRef::Number(8080)));
    assert_eq!(port(json!("http")), Some(PortRef::Name("http".to_owned())));
    assert_eq!(port(json!(null)), None);
}

#[test]
fn one_place_of_the_fields_must_be_chosen() {
    let spec = json!({"destination": {"kind": "ServiceAccount", "name": "s"}});
    let both = json!({"spec": spec, "destination": spec["destination"]});
    let refused = |kind, version, rest| read(version, kind, rest).expect_err("refused");
    let of_target = |rest| refused("TrafficTarget", "access.smi-spec.io/v1alpha3", rest);
    assert!(of_target(both).contains("both in its spec and"));
    assert!(of_target(json!({})).contains("neither a spec nor"));
    let of_group = |rest| refused("HTTPRouteGroup", "specs.smi-spec.io/v1alpha4", rest);
    assert!(of_group(json!({"matches": [], "spec": {"matches": []}})).contains("both in its spec and"));
    assert!(of_group(json!({})).contains("neither a spec nor"));
}

#[test]
fn groups_of_all_versions_are_the_same_object() {
    let matches = |headers: Value| json!([{"name": "m", "pathRegex": "/a", "methods": ["GET"], "headers": headers}]);
    let map = matches(json!({"x-a": "1", "x-b": ".*"}));
    let list = matches(json!([{"x-b": ".*"}, {"x-a": "1"}]));
    let first = group("v1alpha1", json!({"matches": map.clone()}));
    for version in ["v1alpha1", "v1alpha2", "v1alpha3", "v1alpha4"] {
        for matches in [&map, &list] {
            let spec = group(version, json!({"spec": {"matches": matches}})).spec;
            assert_eq!(spec, first.spec, "{version}");
            assert_eq!(
                group(version, json!({"matches": matches})).spec,
                first.spec,
                "{version}"
            );
        }
    }
    let twice = json!({"spec": {"matches": matches(json!([{"x-a": "1"}, {"x-a": "2"}]))}});
    let error = read("specs.smi-spec.io/v1alpha4", "HTTPRouteGroup", twice).expect_err("refused");
    assert!(error.contains("x-a is listed twice"), "{error}");
}

#[test]
fn tcp_routes_have_ports_or_none() {
    let ports = |version: &str, rest: Value| {
        let version = format!("specs.smi-spec.io/{version}");
        match read(&version, "TCPRoute", rest).expect("a route") {
            Object::SmiTcpRoute(route) => route.spec.matches.ports.clone(),
            other => panic!("{other:?}"),
        }
    };
    for version in ["v1alpha1", "v1alpha2"] {
        assert_eq!(ports(version, json!({})), [0_u16; 0]);
    }
    assert_eq!(ports("v1alpha3", json!({"spec": {}})), [0_u16; 0]);
    let four = json!({"spec": {"matches": {"name": "n", "ports": [8300, 8301]}}});
    assert_eq!(ports("v1alpha4", four), [8300, 8301]);
    let zero = json!({"spec": {"matches": {"ports": [0]}}});
    let error = read("specs.smi-spec.io/v1alpha4", "TCPRoute", zero).expect_err("refused");
    assert!(error.contains("spec.matches.ports[0]: 0 is not a port"), "{error}");
    assert_eq!(
        Kind::from_group("specs.smi-spec.io", "TCPRoute"),
        Some(Kind::SmiTcpRoute)
    );
    assert_eq!(
        Kind::from_group("gateway.networking.k8s.io", "TCPRoute"),
        Some(Kind::TcpRoute)
    );
}

#[test]
fn udp_routes_are_refused_in_words() {
    let route = json!({"spec": {"matches": {"ports": [53]}}});
    let error = read("specs.smi-spec.io/v1alpha4", "UDPRoute", route).expect_err("refused");
    assert_eq!(
        error,
        "UDPRoute a/n: kind: the mesh carries no UDP, so the route cannot act"
    );
}

#[test]
fn a_target_is_for_service_accounts_of_its_own_namespace() {
    let refused = |destination: Value| {
        let rest = json!({"spec": {"destination": destination}});
        read("access.smi-spec.io/v1alpha3", "TrafficTarget", rest).expect_err("refused")
    };
    let other = refused(json!({"kind": "ServiceAccount", "name": "s", "namespace": "b"}));
    assert!(
        other.contains("spec.destination.namespace: \"b\" is not the namespace of the target, a"),
        "{other}"
    );
    let binding = refused(json!({"kind": "IdentityBinding", "name": "s"}));
    assert!(
        binding.contains("spec.destination.kind: IdentityBinding is not supported, ServiceAccount is"),
        "{binding}"
    );
}

//! Tests of parsing documents, and of their unread fields.

use serde_json::json;

use super::*;

fn rejection(value: Value) -> String {
    Object::from_value(value).expect_err("rejected").to_string()
}

#[test]
fn object_without_namespace_is_in_default() {
    let value = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"ports": [{"port": 80}]}});
    let object = Object::from_value(value).expect("valid");
    assert_eq!(object.object_ref(), ObjectRef::new(Kind::Service, "default", "web"));
    assert_eq!(serde_json::to_value(&object).expect("serializes")["kind"], "Service");
}

#[test]
fn rejections_name_object_field_and_reason() {
    let kind = rejection(json!({"apiVersion": "v1", "kind": "Teapot", "metadata": {"name": "t"}}));
    assert!(
        kind.contains("the kind Teapot (v1) is not one that the mesh reads"),
        "{kind}"
    );
    let version = rejection(json!({"apiVersion": "split.smi-spec.io/v1", "kind": "TrafficSplit"}));
    assert!(version.contains("v1alpha4"), "{version}");
    let port = rejection(
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "a"},
        "spec": {"ports": [{"port": 70000}]}}),
    );
    assert_eq!(
        port,
        "Service a/web: spec.ports[0].port: 70000 is not a port from 1 to 65535"
    );
    let long = "x".repeat(64);
    let name = rejection(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": long}}));
    assert!(name.contains("metadata.name") && name.contains("63"), "{name}");
    let weight = rejection(
        json!({"apiVersion": "split.smi-spec.io/v1alpha4", "kind": "TrafficSplit",
        "metadata": {"name": "s"}, "spec": {"service": "web", "backends": [{"service": "a", "weight": -1}]}}),
    );
    assert!(
        weight.contains("spec.backends[0].weight") && weight.contains("not negative"),
        "{weight}"
    );
}

#[test]
fn unknown_fields_are_listed_by_path() {
    let value = json!({"apiVersion": "policy.linkerd.io/v1beta3", "kind": "HTTPRoute",
        "metadata": {"name": "r", "strange": 1}, "status": {"parents": []},
        "spec": {"parentRefs": [{"name": "web", "kinds": "Service"}], "rule": [],
            "rules": [{"filters": [{"type": "RequestRedirect", "requestRedirect": {"to": "x"}}]}]}});
    let mut unknown: Vec<_> = Object::unknown_fields(&value).iter().map(ToString::to_string).collect();
    unknown.sort();
    let expected = [
        "spec.parentRefs[0].kinds",
        "spec.rule",
        "spec.rules[0].filters[0].requestRedirect.to",
    ];
    assert_eq!(unknown, expected);
    assert!(Object::unknown_fields(&json!({"apiVersion": "v1", "kind": "Pod", "x": 1})).is_empty());
}

#[test]
fn accepts_numeric_quantities() {
    let value = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": 1}}}]}});
    assert!(Object::from_value(value).is_ok());
}

#[test]
fn patterns_of_identities_are_names_suffixes_or_all() {
    let with = |pattern: &str| {
        let value = json!({"apiVersion": "policy.linkerd.io/v1alpha1", "kind": "MeshTLSAuthentication",
            "metadata": {"name": "m"}, "spec": {"identities": [pattern]}});
        Object::from_value(value).map_err(|invalid| invalid.to_string())
    };
    for good in [
        "*",
        "*.ns.serviceaccount.identity.linkerd.cluster.local",
        "web.ns.svc",
        "spiffe://root/ns/web",
    ] {
        assert!(with(good).is_ok(), "{good}");
    }
    // The last ones reached proxies as a suffix without labels: that of all identities.
    for bad in ["", "*foo", "*.foo.*", "a b", "*..foo", "*..", "*."] {
        let error = with(bad).expect_err(bad);
        assert!(error.contains("spec.identities[0]: must be an identity"), "{error}");
    }
}

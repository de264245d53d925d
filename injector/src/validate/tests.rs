//! What is refused, in which words; what is only warned of; what passes.

use injector_patch::Config;
use serde_json::json;

use super::*;

fn judged(object: Value) -> Verdict {
    let config = Config {
        identity_trust_anchors_pem: "PEM".to_owned(),
        ..Config::default()
    };
    let injector = Injector::new(config).expect("valid");
    let version = object["apiVersion"].as_str().unwrap_or_default();
    let group = version.split_once('/').map_or("", |(group, _)| group).to_owned();
    let asked = Asked {
        group: &group,
        namespace: "shop",
        injector: &injector,
    };
    asked.judge(object).1
}

fn refusal(object: Value) -> String {
    match judged(object) {
        Verdict::Refused(reason) => reason,
        allowed @ Verdict::Allowed(_) => panic!("{allowed:?}"),
    }
}

fn warnings(object: Value) -> Vec<String> {
    match judged(object) {
        Verdict::Allowed(warnings) => warnings,
        refused @ Verdict::Refused(_) => panic!("{refused:?}"),
    }
}

fn of(version: &str, kind: &str, spec: Value) -> Value {
    json!({"apiVersion": version, "kind": kind, "metadata": {"name": "web"}, "spec": spec})
}

#[test]
fn what_makes_no_sense_is_refused_with_field_and_reason() {
    let server = |spec| of("policy.linkerd.io/v1beta3", "Server", spec);
    for (object, said) in [
        (
            server(json!({"podSelector": {}, "port": 0})),
            "Server shop/web: spec.port: 0 is not a port from 1 to 65535",
        ),
        (
            server(json!({"port": 80})),
            "Server shop/web: spec: exactly one of podSelector and externalWorkloadSelector must be set",
        ),
        (
            server(json!({"podSelector": {}, "port": 80, "proxyProtocol": "HTTP/3"})),
            "Server shop/web: spec.proxyProtocol: unknown variant",
        ),
        (
            server(json!({"podSelector": {}, "port": 80, "proxyProtocoll": "HTTP/1", "x": 1})),
            "Server shop/web: spec.proxyProtocoll, spec.x are no fields that the mesh knows",
        ),
        (
            of(
                "split.smi-spec.io/v1alpha1",
                "TrafficSplit",
                json!({"service": "", "backends": []}),
            ),
            "TrafficSplit shop/web: spec.service: the split names no Service",
        ),
        (
            of(
                "linkerd.io/v1alpha2",
                "ServiceProfile",
                json!({"routes": [{"name": "a", "condition": {}}]}),
            ),
            "ServiceProfile shop/web: spec.routes[0].condition: the condition sets none of",
        ),
        (
            of(
                "linkerd.io/v1alpha2",
                "ServiceProfile",
                json!({"routes": [{"name": "a", "condition": {"pathRegex": "(("}}]}),
            ),
            "ServiceProfile shop/web: the condition of the route \"a\" cannot be compiled",
        ),
        (
            of("linkerd.io/v1alpha2", "ServiceProfile", json!({"route": []})),
            "ServiceProfile shop/web: spec.route: unknown field `route`",
        ),
        (
            of(
                "policy.linkerd.io/v1alpha1",
                "NetworkAuthentication",
                json!({"networks": [{"cidr": "10.0.0.0/99"}]}),
            ),
            "NetworkAuthentication shop/web: spec.networks[0].cidr: \"10.0.0.0/99\" is neither a network",
        ),
        (
            of("policy.linkerd.io/v9", "Server", json!({})),
            "apiVersion: policy.linkerd.io/v9 of Server is not a version that the mesh reads",
        ),
        (
            of("security.linkerd.io/v1", "Server", json!({})),
            "Server web: apiVersion: the mesh reads nothing of the group security.linkerd.io (security.linkerd.io/v1); \
             write policy.linkerd.io/v1beta3",
        ),
    ] {
        let reason = refusal(object);
        assert!(reason.starts_with(said), "{reason}");
    }
}

#[test]
fn sound_objects_pass_with_a_generated_name_too() {
    let policy = json!({"apiVersion": "policy.linkerd.io/v1alpha1", "kind": "AuthorizationPolicy",
        "metadata": {"generateName": "web-"}, "spec": {"targetRef": {"group": "policy.linkerd.io", "kind": "Server",
        "name": "web"}, "requiredAuthenticationRefs": []}});
    assert_eq!(warnings(policy), [""; 0]);
    let split = |weight| {
        let backends = json!([{"service": "web-1", "weight": weight}]);
        of(
            "split.smi-spec.io/v1alpha1",
            "TrafficSplit",
            json!({"service": "web", "backends": backends}),
        )
    };
    assert_eq!(warnings(split(json!("900m"))), [""; 0]);
    assert_eq!(warnings(split(json!(1))), [""; 0]);
    assert_eq!(judged(Value::Null), Verdict::Allowed(vec![]));
}

#[test]
fn what_does_less_than_it_seems_is_warned_of() {
    let split = json!({"service": "web", "backends": [], "matches": [{"kind": "HTTPRouteGroup", "name": "g"}]});
    let said = warnings(of("split.smi-spec.io/v1alpha4", "TrafficSplit", split));
    assert_eq!(said, ["spec.matches is not supported yet, so the split has no effect"]);
    let said = warnings(of("linkerd.io/v1alpha2", "ServiceProfile", json!({})));
    assert!(said[0].contains("(web.shop.svc.cluster.local)"), "{said:?}");
}

#[test]
fn of_gateway_routes_only_those_for_the_mesh_are_looked_at() {
    let route = |parent: Value, annotation: &str, filter: &str| {
        let rules = json!([{"filters": [{"type": filter}], "sessionPersistence": {}}]);
        let mut route = of(
            "gateway.networking.k8s.io/v1",
            "HTTPRoute",
            json!({"parentRefs": [parent], "rules": rules}),
        );
        route["metadata"]["annotations"] = json!({"retry.linkerd.io/http": annotation});
        route
    };
    let service = || json!({"group": "", "kind": "Service", "name": "web"});
    assert_eq!(warnings(route(json!({"name": "edge"}), "never", "URLRewrite")), [""; 0]);
    let said = refusal(route(service(), "never", "URLRewrite"));
    assert!(
        said.contains("annotation retry.linkerd.io/http: \"never\" is not"),
        "{said}"
    );
    let said = warnings(route(service(), "5xx", "URLRewrite"));
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        said[0].contains("spec.rules[0].sessionPersistence is no field"),
        "{said:?}"
    );
    assert!(said[1].ends_with("so the mesh does not use the route"), "{said:?}");
}

#[test]
fn annotations_are_warned_of_where_they_are_written() {
    let deployment = |annotations: Value| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"template": {
            "metadata": {"annotations": annotations}, "spec": {"hostNetwork": true, "containers": [{"name": "a"}]}}}})
    };
    let said = warnings(deployment(
        json!({"config.linkerd.io/skip-inbound-port": "1", "linkerd.io/inject": "enabled"}),
    ));
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        said[0].starts_with("unknown annotation config.linkerd.io/skip-inbound-port"),
        "{said:?}"
    );
    assert_eq!(said[1], "its pods will not be injected: hostNetwork is enabled");
    assert_eq!(warnings(deployment(json!({}))), [""; 0]);

    let namespace = |annotations: Value| {
        warnings(
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a", "annotations": annotations}}),
        )
    };
    assert_eq!(
        namespace(json!({"linkerd.io/inject": "enabled", "config.linkerd.io/proxy-log-level": "info"})),
        [""; 0]
    );
    let said = namespace(json!({"linkerd.io/inject": "yes", "config.linkerd.io/proxy-uid": "root"}));
    assert!(
        said[0].contains("\"yes\" is not one of enabled, ingress, disabled"),
        "{said:?}"
    );
    assert!(said[1].ends_with("its pods will be rejected"), "{said:?}");
}

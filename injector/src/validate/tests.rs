//! Rejections with their messages, warnings, and valid objects.

use destination_source::Update;
use injector_patch::Config;
use proxy_process::admin::Readiness;
use serde_json::json;

use super::*;

fn judged(object: Value) -> Verdict {
    judged_in(&Cluster::default(), object)
}

fn judged_in(cluster: &Cluster, object: Value) -> Verdict {
    let config = Config {
        identity_trust_anchors_pem: "PEM".to_owned(),
        ..Config::default()
    };
    let injector = Injector::new(config).expect("valid");
    let version = object["apiVersion"].as_str().unwrap_or_default();
    let group = version.split_once('/').map_or("", |(group, _)| group).to_owned();
    let validator = Validator {
        group: &group,
        namespace: "shop",
        injector: &injector,
        cluster,
    };
    validator.judge(object).verdict
}

fn rejection(object: Value) -> String {
    match judged(object) {
        Verdict::Rejected(reason) => reason,
        allowed @ Verdict::Allowed(_) => panic!("{allowed:?}"),
    }
}

fn warnings(object: Value) -> Vec<String> {
    match judged(object) {
        Verdict::Allowed(warnings) => warnings,
        rejected @ Verdict::Rejected(_) => panic!("{rejected:?}"),
    }
}

fn object(version: &str, kind: &str, spec: Value) -> Value {
    json!({"apiVersion": version, "kind": kind, "metadata": {"name": "web"}, "spec": spec})
}

#[test]
fn rejects_invalid_objects_with_field_and_reason() {
    let server = |spec| object("policy.linkerd.io/v1beta3", "Server", spec);
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
            "Server shop/web: unknown fields spec.proxyProtocoll, spec.x",
        ),
        (
            object(
                "split.smi-spec.io/v1alpha1",
                "TrafficSplit",
                json!({"service": "", "backends": []}),
            ),
            "TrafficSplit shop/web: spec.service: the split does not name a Service",
        ),
        (
            object(
                "linkerd.io/v1alpha2",
                "ServiceProfile",
                json!({"routes": [{"name": "a", "condition": {}}]}),
            ),
            "ServiceProfile shop/web: spec.routes[0].condition: the condition sets none of",
        ),
        (
            object(
                "linkerd.io/v1alpha2",
                "ServiceProfile",
                json!({"routes": [{"name": "a", "condition": {"pathRegex": "(("}}]}),
            ),
            "ServiceProfile shop/web: invalid condition of the route \"a\": ",
        ),
        (
            object("linkerd.io/v1alpha2", "ServiceProfile", json!({"route": []})),
            "ServiceProfile shop/web: spec.route: unknown field `route`",
        ),
        (
            object(
                "policy.linkerd.io/v1alpha1",
                "NetworkAuthentication",
                json!({"networks": [{"cidr": "10.0.0.0/99"}]}),
            ),
            "NetworkAuthentication shop/web: spec.networks[0].cidr: \"10.0.0.0/99\" is neither a network",
        ),
        (
            object("policy.linkerd.io/v9", "Server", json!({})),
            "apiVersion: policy.linkerd.io/v9 of Server is not a version that the mesh reads",
        ),
        (
            object("security.linkerd.io/v1", "Server", json!({})),
            "Server web: apiVersion: unsupported group security.linkerd.io (security.linkerd.io/v1); \
             use policy.linkerd.io/v1beta3",
        ),
    ] {
        let reason = rejection(object);
        assert!(reason.starts_with(said), "{reason}");
    }
}

#[test]
fn rejects_invalid_objects_of_smi_with_their_reasons() {
    for (object, said) in [
        (
            object(
                "access.smi-spec.io/v1alpha3",
                "TrafficTarget",
                json!({"destination": {"kind": "ServiceAccount", "name": "a", "namespace": "other"}}),
            ),
            "TrafficTarget shop/web: spec.destination.namespace: \"other\" is not the namespace of the target, shop",
        ),
        (
            object(
                "access.smi-spec.io/v1alpha3",
                "TrafficTarget",
                json!({"destination": {"kind": "ServiceAccount", "name": "a"},
                    "sources": [{"kind": "IdentityBinding", "name": "b"}], "rules": [{"kind": "TCPRoute", "name": "t"}]}),
            ),
            "TrafficTarget shop/web: the source b is of kind IdentityBinding, and only ServiceAccount is supported",
        ),
        (
            object(
                "access.smi-spec.io/v1alpha2",
                "TrafficTarget",
                json!({"destination": {"kind": "ServiceAccount", "name": "a"},
                    "sources": [{"kind": "ServiceAccount", "name": "b"}], "rules": [{"kind": "UDPRoute", "name": "dns"}]}),
            ),
            "TrafficTarget shop/web: the rule dns is a UDPRoute, and the mesh carries no UDP",
        ),
        (
            object(
                "specs.smi-spec.io/v1alpha4",
                "UDPRoute",
                json!({"matches": {"ports": [53]}}),
            ),
            "UDPRoute shop/web: kind: the mesh carries no UDP, so the route cannot act",
        ),
        (
            object(
                "specs.smi-spec.io/v1alpha4",
                "HTTPRouteGroup",
                json!({"matches": [{"name": "m", "pathRegex": "(("}]}),
            ),
            "HTTPRouteGroup shop/web: invalid regular expression \"((\"",
        ),
        (
            object(
                "specs.smi-spec.io/v1alpha4",
                "HTTPRouteGroup",
                json!({"matches": [{"name": "m", "path": "/a"}]}),
            ),
            "HTTPRouteGroup shop/web: unknown field spec.matches[0].path",
        ),
    ] {
        let reason = rejection(object);
        assert!(reason.starts_with(said), "{reason}");
    }
}

#[test]
fn accepts_valid_objects_with_a_generated_name_too() {
    let policy = json!({"apiVersion": "policy.linkerd.io/v1alpha1", "kind": "AuthorizationPolicy",
        "metadata": {"generateName": "web-"}, "spec": {"targetRef": {"group": "policy.linkerd.io", "kind": "Server",
        "name": "web"}, "requiredAuthenticationRefs": []}});
    assert_eq!(warnings(policy), [""; 0]);
    let split = |weight| {
        let backends = json!([{"service": "web-1", "weight": weight}]);
        object(
            "split.smi-spec.io/v1alpha1",
            "TrafficSplit",
            json!({"service": "web", "backends": backends}),
        )
    };
    assert_eq!(warnings(split(json!("900m"))), [""; 0]);
    assert_eq!(warnings(split(json!(1))), [""; 0]);
    let account = json!({"kind": "ServiceAccount", "name": "a", "namespace": "shop"});
    let early = json!({"apiVersion": "access.smi-spec.io/v1alpha1", "kind": "TrafficTarget", "metadata": {"name": "web"},
        "destination": account, "sources": [account], "specs": [{"kind": "TCPRoute", "name": "t"}]});
    assert_eq!(warnings(early), [""; 0]);
    assert_eq!(judged(Value::Null), Verdict::Allowed(vec![]));
}

#[test]
fn warns_of_objects_without_effect() {
    let split = json!({"service": "web", "backends": [], "matches": [{"kind": "HTTPRouteGroup", "name": "g"}]});
    let said = warnings(object("split.smi-spec.io/v1alpha4", "TrafficSplit", split));
    assert_eq!(said, ["spec.matches is not supported yet, so the split has no effect"]);
    let said = warnings(object("linkerd.io/v1alpha2", "ServiceProfile", json!({})));
    assert!(said[0].contains("(web.shop.svc.cluster.local)"), "{said:?}");
}

#[tokio::test]
async fn warns_of_splits_between_services_that_do_not_exist() {
    let cluster = Cluster::default();
    let split = |service: &str| {
        let backends = json!([{"service": "web", "weight": 1}, {"service": "v2", "weight": 1}]);
        let spec = json!({"service": service, "backends": backends});
        match judged_in(&cluster, object("split.smi-spec.io/v1alpha2", "TrafficSplit", spec)) {
            Verdict::Allowed(warnings) => warnings,
            rejected @ Verdict::Rejected(_) => panic!("{rejected:?}"),
        }
    };
    assert_eq!(split("gone"), [""; 0], "nothing is known before the first list");
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"ports": [{"port": 80}]}});
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let service = Object::from_value(service).expect("valid");
    sender.send(Update::Reset(vec![service])).await.expect("open");
    drop(sender);
    cluster.clone().follow(receiver, Readiness::default()).await;
    for apex in ["web", "web.shop", "web.shop.svc.cluster.local."] {
        assert_eq!(
            split(apex),
            ["spec.backends[1].service: the Service shop/v2 does not exist, so the others receive its share"],
            "{apex}"
        );
    }
    assert_eq!(
        split("gone"),
        ["spec.service: the Service shop/gone does not exist, so the split has no effect"]
    );
}

#[test]
fn validates_only_gateway_routes_of_the_mesh() {
    let route = |parent: Value, annotation: &str, filter: &str| {
        let rules = json!([{"filters": [{"type": filter}], "sessionPersistence": {}}]);
        let mut route = object(
            "gateway.networking.k8s.io/v1",
            "HTTPRoute",
            json!({"parentRefs": [parent], "rules": rules}),
        );
        route["metadata"]["annotations"] = json!({"retry.linkerd.io/http": annotation});
        route
    };
    let service = || json!({"group": "", "kind": "Service", "name": "web"});
    assert_eq!(
        warnings(route(json!({"name": "edge"}), "never", "ExtensionRef")),
        [""; 0]
    );
    let said = rejection(route(service(), "never", "ExtensionRef"));
    assert!(
        said.contains("annotation retry.linkerd.io/http: \"never\" is not"),
        "{said}"
    );
    let said = warnings(route(service(), "5xx", "ExtensionRef"));
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        said[0].contains("unknown field spec.rules[0].sessionPersistence"),
        "{said:?}"
    );
    assert!(said[1].ends_with("so the mesh does not use the route"), "{said:?}");
}

#[test]
fn warns_of_annotations_where_they_are_written() {
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

#[test]
fn objects_over_their_budget_are_rejected_or_warned_of() {
    let expression = |at: usize| format!(r"/{at}/\w{{8}}");
    let route = |at: usize| json!({"name": "r", "condition": {"pathRegex": expression(at)}});
    let profile = |count: usize| {
        let routes: Vec<_> = (0..count).map(route).collect();
        object("linkerd.io/v1alpha2", "ServiceProfile", json!({"routes": routes}))
    };
    assert!(rejection(profile(2_000)).contains("it has more than 256 routes or rules (limit OBJECT_ROUTES)"));
    assert!(rejection(profile(20)).contains("bytes of compiled regular expressions (limit OBJECT_PATTERN_BYTES)"));
    let matches: Vec<_> = (0..20)
        .map(|at| json!({"path": {"type": "RegularExpression", "value": expression(at)}}))
        .collect();
    let spec =
        json!({"parentRefs": [{"group": "", "kind": "Service", "name": "web"}], "rules": [{"matches": matches}]});
    let theirs = warnings(object("gateway.networking.k8s.io/v1", "HTTPRoute", spec.clone()));
    assert!(
        theirs[0].contains("(limit OBJECT_PATTERN_BYTES), so the mesh does not use the route"),
        "{theirs:?}"
    );
    let ours = rejection(object("policy.linkerd.io/v1beta3", "HTTPRoute", spec));
    assert!(ours.contains("(limit OBJECT_PATTERN_BYTES)"), "{ours}");
}

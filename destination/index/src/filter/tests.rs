//! Filters that act, and those that are refused in words.

use destination_k8s::Object;
use proxy_model::{ClientProtocol, OutboundTarget};
use serde_json::{Value, json};

use super::*;
use crate::{Config, Faults, Index, Workload, status::Content};

fn object(value: Value) -> Object {
    Object::from_value(value).expect("an object")
}

fn index(kind: &str, rule: Value) -> Index {
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "a"},
        "spec": {"clusterIP": "10.9.0.1", "ports": [{"port": 80}]}});
    let route = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": kind, "metadata": {"name": "r", "namespace": "a"},
        "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "web"}], "rules": [rule]}});
    let mut index = Index::new(Config::default());
    index.apply([object(service), object(route)]);
    index
}

/// Filters of the rule and of its first backend.
fn served(kind: &str, rule: Value) -> (Vec<Filter>, Vec<Filter>) {
    let mut index = index(kind, rule);
    let target = OutboundTarget::Addr("10.9.0.1:80".parse().expect("an address"));
    let client = Workload::parse("a:client").expect("a workload");
    let policy = index.outbound(&target, &client).expect("an answer").borrow().clone();
    let (filters, action) = match &policy.protocol {
        ClientProtocol::Detect { http1, .. } => (&http1.routes[0].rules[0].filters, &http1.routes[0].rules[0].action),
        ClientProtocol::Grpc(grpc) => (&grpc.routes[0].rules[0].filters, &grpc.routes[0].rules[0].action),
        other => panic!("{other:?}"),
    };
    let backend = action.distribution.backend(0).expect("a backend");
    (filters.clone(), backend.filters.clone())
}

/// Reason and message of the condition `Accepted`.
fn refused(kind: &str, rule: Value) -> (&'static str, String) {
    let statuses = index(kind, rule).statuses();
    let Some(Content::Route(parents)) = statuses.values().next() else {
        panic!("{statuses:?}")
    };
    let accepted = &parents[0].conditions[0];
    assert!(!accepted.holds, "{accepted:?}");
    (accepted.reason, accepted.message.clone())
}

fn rewrite(change: Value) -> Value {
    json!({"type": "URLRewrite", "urlRewrite": change})
}

fn rewrites_prefix(new: &str) -> Value {
    rewrite(json!({"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": new}}))
}

#[test]
fn rewrites_reach_the_policy_of_rules_and_backends() {
    let host = rewrite(json!({"hostname": "api.example"}));
    let backend = json!({"name": "web", "port": 80, "filters": [rewrites_prefix("")]});
    let header = json!({"type": "ResponseHeaderModifier", "responseHeaderModifier": {"remove": ["x-a"]}});
    let (rule, _) = served("HTTPRoute", json!({"filters": [host, header]}));
    let expected = Rewrite {
        host: Some("api.example".into()),
        path: None,
    };
    assert_eq!(rule[0], Filter::Rewrite(expected));
    assert!(matches!(&rule[1..], [Filter::ResponseHeaders(_)]));
    let (rule, own) = served("HTTPRoute", json!({"backendRefs": [backend]}));
    let expected = Rewrite {
        host: None,
        path: Some(PathModifier::Prefix(String::new())),
    };
    assert_eq!((rule, own), (vec![], vec![Filter::Rewrite(expected)]));
}

#[test]
fn header_modifiers_reach_grpc_routes() {
    let header =
        json!({"type": "ResponseHeaderModifier", "responseHeaderModifier": {"set": [{"name": "x-a", "value": "1"}]}});
    let backend = json!({"name": "web", "port": 80, "filters": [header]});
    let (rule, own) = served("GRPCRoute", json!({"filters": [header], "backendRefs": [backend]}));
    assert!(matches!(rule[..], [Filter::ResponseHeaders(_)]), "{rule:?}");
    assert_eq!(rule, own);
}

fn mirror(change: Value) -> Value {
    let mut settings = json!({"backendRef": {"name": "web", "port": 80}});
    settings
        .as_object_mut()
        .expect("an object")
        .extend(change.as_object().expect("an object").clone());
    json!({"type": "RequestMirror", "requestMirror": settings})
}

#[test]
fn mirrors_reach_the_policy_with_their_share() {
    for (change, numerator, denominator) in [
        (json!({}), 1, 1),
        (json!({"percent": 20}), 20, 100),
        (json!({"fraction": {"numerator": 3}}), 3, 100),
        (json!({"fraction": {"numerator": 1, "denominator": 3}}), 1, 3),
    ] {
        for kind in ["HTTPRoute", "GRPCRoute"] {
            let (filters, _) = served(kind, json!({"filters": [mirror(change.clone())]}));
            let [Filter::Mirror(found)] = &filters[..] else {
                panic!("{filters:?}")
            };
            assert_eq!(found.ratio, Ratio { numerator, denominator });
            assert_eq!(
                (found.backend.meta.name(), found.backend.dispatch.is_some()),
                ("web", true)
            );
        }
    }
    let lost = mirror(json!({"backendRef": {"name": "lost", "port": 80}}));
    assert_eq!(served("HTTPRoute", json!({"filters": [lost]})).0, []);
    let statuses = index("HTTPRoute", json!({"filters": [lost]})).statuses();
    let Some(Content::Route(parents)) = statuses.values().next() else {
        panic!("{statuses:?}")
    };
    let said: Vec<_> = parents[0]
        .conditions
        .iter()
        .map(|c| (c.holds, c.reason, c.message.as_str()))
        .collect();
    let missing = "The mirror's backend a/lost does not exist; it gets no copies.";
    assert_eq!(said, [(true, "Accepted", ""), (false, "BackendNotFound", missing)]);
}

#[test]
fn refuses_mirrors_at_a_server() {
    let route = |parent: Value| {
        let spec = json!({"parentRefs": [parent], "rules": [rule(&[mirror(json!({}))])]});
        let metadata = json!({"name": "r", "namespace": "a"});
        let route =
            json!({"apiVersion": "policy.linkerd.io/v1beta3", "kind": "HTTPRoute", "metadata": metadata, "spec": spec});
        Faults::from_object(&object(route)).content
    };
    let server = json!({"group": "policy.linkerd.io", "kind": "Server", "name": "s"});
    let said = "the filter RequestMirror of a Server's route is not supported";
    assert_eq!(route(server), [said]);
    assert_eq!(
        route(json!({"group": "core", "kind": "Service", "name": "web"})),
        [""; 0]
    );
}

fn rule(filters: &[Value]) -> Value {
    json!({"filters": filters})
}

/// Asserts the message of each rule's route.
fn assert_refused<const N: usize>(rules: [(Value, &str); N]) {
    for (rule, message) in rules {
        let found = refused("HTTPRoute", rule);
        assert_eq!((found.0, found.1.as_str()), ("UnsupportedValue", message));
    }
}

#[test]
fn refuses_mirrors_that_cannot_act_and_other_filters() {
    assert_refused([
        (
            rule(&[mirror(json!({"percent": 101}))]),
            "the filter RequestMirror has the percent \"101\", which is above 100.",
        ),
        (
            rule(&[mirror(json!({"fraction": {"numerator": 2, "denominator": 1}}))]),
            "the filter RequestMirror has the fraction \"2/1\", which is not a share.",
        ),
        (
            rule(&[mirror(json!({"percent": 1, "fraction": {"numerator": 1}}))]),
            "the filter RequestMirror has the percent \"1\", beside a fraction.",
        ),
        (
            rule(&[mirror(json!({"backendRef": {"name": "web"}}))]),
            "the filter RequestMirror has the backendRef \"web\", which has no port.",
        ),
        (
            rule(&[mirror(
                json!({"backendRef": {"name": "web", "port": 80, "kind": "Bucket"}}),
            )]),
            "a backend of kind Bucket is not supported.",
        ),
        (
            json!({"backendRefs": [{"name": "web", "port": 80, "filters": [mirror(json!({}))]}]}),
            "the filter RequestMirror of a backend is not supported.",
        ),
        (
            rule(&[json!({"type": "ExtensionRef"})]),
            "the filter ExtensionRef is not supported.",
        ),
    ]);
}

#[test]
fn refuses_changes_of_a_url_that_cannot_act() {
    let redirect = |change: Value| json!({"type": "RequestRedirect", "requestRedirect": change});
    let exact = json!({"path": {"type": "Exact", "value": "/a"}});
    let prefix = json!({"path": {"type": "PathPrefix", "value": "/b"}});
    let unsupported = [
        (
            json!({"filters": [rewrites_prefix("/x")], "matches": [prefix, exact]}),
            "the filter URLRewrite replaces a prefix, so the matches of its rule must be of type PathPrefix.",
        ),
        (
            json!({"matches": [exact], "backendRefs": [{"name": "web", "port": 80, "filters": [rewrites_prefix("/x")]}]}),
            "the filter URLRewrite replaces a prefix, so the matches of its rule must be of type PathPrefix.",
        ),
        (
            rule(&[rewrites_prefix("x")]),
            "the filter URLRewrite has the replacePrefixMatch \"x\", which is not a path.",
        ),
        (
            rule(&[rewrite(
                json!({"path": {"type": "ReplaceFullPath", "replaceFullPath": "/a?b"}}),
            )]),
            "the filter URLRewrite has the replaceFullPath \"/a?b\", which is not a path.",
        ),
        (
            rule(&[rewrite(json!({"hostname": "web:80"}))]),
            "the filter URLRewrite has the hostname \"web:80\", which is not the name of a host.",
        ),
        (
            rule(&[redirect(json!({"scheme": "ftp"}))]),
            "the filter RequestRedirect has the scheme \"ftp\", which is neither http nor https.",
        ),
        (
            rule(&[redirect(json!({"statusCode": 200}))]),
            "the filter RequestRedirect has the statusCode \"200\", which does not redirect.",
        ),
    ];
    assert_refused(unsupported);
    let twice = "a rule and its backends can have one URLRewrite or one RequestRedirect.";
    let backend = json!({"name": "web", "port": 80, "filters": [rewrites_prefix("/y")]});
    for rule in [
        rule(&[rewrites_prefix("/x"), redirect(json!({}))]),
        json!({"filters": [rewrites_prefix("/x")], "backendRefs": [backend]}),
    ] {
        assert_eq!(refused("HTTPRoute", rule), ("IncompatibleFilters", twice.to_owned()));
    }
    let of_grpc = refused("GRPCRoute", rule(&[rewrites_prefix("/x")]));
    assert_eq!(of_grpc.1, "the filter URLRewrite of a GRPCRoute is not supported.");
}

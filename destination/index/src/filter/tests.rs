//! Filters that act, and those that are refused in words.

use destination_k8s::Object;
use proxy_model::{ClientProtocol, OutboundTarget};
use serde_json::{Value, json};

use super::*;
use crate::{Config, Index, Workload, status::Content};

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

#[test]
fn what_cannot_act_is_refused_with_its_reason() {
    let redirect = |change: Value| json!({"type": "RequestRedirect", "requestRedirect": change});
    let rule = |filters: &[Value]| json!({"filters": filters});
    let exact = json!({"path": {"type": "Exact", "value": "/a"}});
    let prefix = json!({"path": {"type": "PathPrefix", "value": "/b"}});
    let unsupported = [
        (
            rule(&[json!({"type": "ExtensionRef"})]),
            "the filter ExtensionRef is not supported.",
        ),
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
    for (rule, message) in unsupported {
        let found = refused("HTTPRoute", rule);
        assert_eq!((found.0, found.1.as_str()), ("UnsupportedValue", message));
    }
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

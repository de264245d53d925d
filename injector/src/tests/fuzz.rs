//! Hostile reviews: every client of the port may send one.

use tests_fuzz::{Target, within};

use super::*;
use crate::review::{Purpose, Reviewer};

fn review(group: &str, object: &Value) -> Vec<u8> {
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "u-1", "kind": {"group": group, "version": "v1", "kind": object["kind"]}, "operation": "CREATE",
        "namespace": "shop", "object": object, "oldObject": null, "dryRun": true}});
    serde_json::to_vec(&review).expect("JSON")
}

fn seeds() -> Vec<Vec<u8>> {
    let pod = pod(&json!({"linkerd.io/inject": "enabled", "config.linkerd.io/proxy-cpu-limit": "500m"}));
    let service = json!({"kind": "Service", "metadata": {"name": "db"}, "spec": {"ports": [{"port": 3306}]}});
    let server = json!({"apiVersion": "policy.linkerd.io/v1beta3", "kind": "Server", "metadata": {"name": "s"},
        "spec": {"port": 80, "podSelector": {"matchLabels": {"app": "web"}}, "proxyProtocol": "HTTP/1"}});
    let profile = json!({"apiVersion": "linkerd.io/v1alpha2", "kind": "ServiceProfile",
        "metadata": {"name": "web.shop.svc.cluster.local"},
        "spec": {"routes": [{"name": "a", "condition": {"pathRegex": "/a(b|c)*"}}]}});
    let route = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "r"},
        "spec": {"parentRefs": [{"name": "web", "kind": "Service", "group": ""}], "rules": [{"matches": [
            {"path": {"type": "RegularExpression", "value": "/a.*"}}]}]}});
    vec![
        review("", &pod),
        review("", &service),
        review("policy.linkerd.io", &server),
        review("linkerd.io", &profile),
        review("gateway.networking.k8s.io", &route),
    ]
}

#[test]
fn fuzz_review() {
    let place = Place {
        namespace: "linkerd".to_owned(),
        native_sidecars: true,
    };
    let injector = reload::injector(["{}", "PEM"], &place).expect("defaults");
    let (cluster, events, metrics) = (Cluster::default(), Events::default(), Metrics::new());
    let reviewer = Reviewer {
        injector: &injector,
        cluster: &cluster,
        events: &events,
        metrics: &metrics,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let target = Target {
        name: "fuzz_review",
        seeds: seeds(),
        words: &[
            "null",
            "{}",
            "[]",
            "\"\"",
            "\\u0000",
            "1e400",
            "-1",
            "\"Pod\"",
            "\"metadata\":",
            "\"annotations\":",
            ",",
            "~1",
            "[[[",
        ],
    };
    target.run(|bytes| {
        for purpose in [Purpose::Inject, Purpose::Validate] {
            let answer = within(200 * bytes.len() + 1024 * 1024, || {
                runtime.block_on(reviewer.answer(purpose, bytes))
            });
            let Ok(answer) = answer else { continue };
            // What is not read need not be UTF-8.
            let Ok(asked) = serde_json::from_slice::<Value>(bytes) else {
                continue;
            };
            let answer: Value = serde_json::from_slice(&answer).expect("JSON");
            let (request, response) = (&asked["request"], &answer["response"]);
            assert_eq!(response["uid"], request["uid"]);
            assert!(response["allowed"].is_boolean() && (response["patch"].is_null() || purpose == Purpose::Inject));
            if let Some(patch) = response["patch"].as_str() {
                keeps_containers(&request["object"], &STANDARD.decode(patch).expect("base64"));
            }
        }
    });
}

/// The API server can apply the patch, and no container of the author's is lost.
fn keeps_containers(object: &Value, patch: &[u8]) {
    let patch: json_patch::Patch = serde_json::from_slice(patch).expect("a JSON patch");
    let mut after = object.clone();
    json_patch::patch(&mut after, &patch).expect("it applies");
    let containers = |object: &Value| object["spec"]["containers"].as_array().cloned().unwrap_or_default();
    let names = |object: &Value| {
        containers(object)
            .iter()
            .map(|one| one["name"].clone())
            .collect::<Vec<_>>()
    };
    assert!(names(object).iter().all(|name| names(&after).contains(name)));
}

//! Filters of Gateway API routes on real traffic through two sidecars.

use tests_local::{Mesh, Sidecars, test_app, text};

const APPS: &str = include_str!("../manifests/apps.yaml");

/// Routes of the Service `color`, at the hands of a client's sidecar, and of the Server of `green`, at its own.
const ROUTES: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: color, namespace: apps}
spec:
  parentRefs: [{group: '', kind: Service, name: color, port: 80}]
  rules:
  - matches: [{path: {type: PathPrefix, value: /old}}]
    filters:
    - {type: URLRewrite, urlRewrite: {hostname: blue.example, path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}}
    backendRefs: [{name: blue, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /strip}}]
    backendRefs:
    - name: green
      port: 80
      filters:
      - {type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: ''}}}
      - {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-of-backend, value: green}]}}
  - matches: [{path: {type: PathPrefix, value: /}}]
    filters:
    - {type: RequestRedirect, requestRedirect: {path: {type: ReplaceFullPath, replaceFullPath: /login}, statusCode: 302}}
---
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: green, namespace: apps}
spec: {podSelector: {matchLabels: {app: green}}, port: http, proxyProtocol: HTTP/1, accessPolicy: all-unauthenticated}
---
apiVersion: policy.linkerd.io/v1beta3
kind: HTTPRoute
metadata: {name: green, namespace: apps}
spec:
  parentRefs: [{group: policy.linkerd.io, kind: Server, name: green}]
  rules:
  - matches: [{path: {type: PathPrefix, value: /}}]
    filters:
    - {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-of-server, value: green}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: echo, namespace: apps}
spec:
  parentRefs: [{group: '', kind: Service, name: server, port: 8081}]
  rules:
  - filters:
    - {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-of-route, value: echo}]}}
    backendRefs:
    - name: server
      port: 8081
      filters:
      - {type: ResponseHeaderModifier, responseHeaderModifier: {add: [{name: x-of-backend, value: echo}]}}
";

/// Mirror of the Service `color`, whose requests go to blue.
const MIRROR: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: mirror, namespace: apps}
spec:
  parentRefs: [{group: '', kind: Service, name: color, port: 80}]
  rules:
  - filters: [{type: RequestMirror, requestMirror: {backendRef: {name: green, port: 80}}}]
    backendRefs: [{name: blue, port: 80}]
";

#[test]
fn a_mirror_gets_a_copy_of_each_request() {
    let mesh = Mesh::start(Sidecars::On, &[("apps.yaml", APPS), ("mirror.yaml", MIRROR)]);
    let copies = |outcome: &str| {
        let outcome = format!("outcome=\"{outcome}\"");
        mesh.metric("client", "mesh_mirrored_requests_total", &[&outcome])
    };
    mesh.wait("the mirror", || {
        assert_eq!(seen(&get(&mesh, "/").1)[0], "blue");
        copies("answered") > 0
    });
    let meshed = ["direction=\"inbound\"", "tls=\"true\""];
    let at = |deployment: &str| mesh.metric(deployment, "request_total", &meshed);
    let before = [at("blue"), at("green"), copies("answered")];
    let app = test_app();
    for body in [&["--requests", "200"][..], &["--requests", "200", "--post"]] {
        let call = [
            app.as_str(),
            "load",
            "color:80",
            "--kept",
            "1",
            "--fresh",
            "0",
            "--rate",
            "500",
        ];
        let call: Vec<_> = call.iter().chain(body).copied().collect();
        let counts = mesh.exec_json("deploy/client", &call);
        assert_eq!(
            (&counts["failures"], &counts["requests"]),
            (&0.into(), &200.into()),
            "{counts}"
        );
        let pods = counts["pods"].as_object().expect("pods");
        assert!(pods.keys().all(|pod| pod.starts_with("blue-")), "{counts}");
    }
    let after = before.map(|count| count + 400);
    mesh.wait("all copies", || copies("answered") >= after[2]);
    assert_eq!([at("blue"), at("green"), copies("answered")], after);
    assert_eq!(["failed", "incomplete", "refused"].map(copies), [0; 3]);
    mesh.down();
}

/// Head and body of the answer to a GET of the Service `color`.
fn get(mesh: &Mesh, path: &str) -> (String, serde_json::Value) {
    let script = format!(
        "exec 3<>/dev/tcp/color/80; printf 'GET {path} HTTP/1.1\\r\\nhost: color\\r\\nconnection: close\\r\\n\\r\\n' >&3; cat <&3"
    );
    let output = mesh.exec("deploy/client", &["bash", "-c", &script]);
    let answer = text(&output.stdout);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let start = body.find('{').unwrap_or(body.len());
    let mut values = serde_json::Deserializer::from_str(&body[start..]).into_iter();
    (
        head.to_lowercase(),
        values.next().and_then(Result::ok).unwrap_or_default(),
    )
}

/// Pod's Deployment, target and host that the application saw.
fn seen(body: &serde_json::Value) -> [String; 3] {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let pod = text(&body["pod"]);
    let headers = body["headers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let host = headers.iter().find(|header| header[0] == "host");
    [
        pod.split('-').next().unwrap_or_default().to_owned(),
        text(&body["uri"]),
        host.map(|header| text(&header[1])).unwrap_or_default(),
    ]
}

#[test]
fn filters_of_routes_act() {
    let mesh = Mesh::start(Sidecars::On, &[("apps.yaml", APPS), ("routes.yaml", ROUTES)]);
    mesh.wait("the rewrite", || seen(&get(&mesh, "/old/a?b=c").1)[1] == "/new/a?b=c");
    let (_, body) = get(&mesh, "/old/");
    assert_eq!(seen(&body), ["blue", "/new/", "blue.example"]);

    let has = |head: &str, line: &str| head.lines().any(|found| found == line);
    let (head, body) = get(&mesh, "/strip/a");
    assert_eq!(seen(&body), ["green", "/a", "color"]);
    assert!(has(&head, "x-of-backend: green"), "{head}");
    mesh.wait("the Server's route", || {
        has(&get(&mesh, "/strip").0, "x-of-server: green")
    });

    let (head, _) = get(&mesh, "/home");
    assert!(
        head.starts_with("http/1.1 302") && has(&head, "location: http://color/login"),
        "{head}"
    );
    // There is the client already: the Service itself answers.
    let (head, body) = get(&mesh, "/login");
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert_eq!(seen(&body), ["blue", "/login", "color"]);

    let app = test_app();
    let call = [app.as_str(), "client", "grpc", "server:8081", "--messages", "3"];
    let answer = mesh.exec_json("deploy/client", &call);
    assert_eq!(answer["messages"], 3);
    let header = |name: &str| answer["headers"][name].as_str().unwrap_or_default().to_owned();
    assert_eq!(["x-of-route", "x-of-backend"].map(header), ["echo", "echo"]);
    mesh.down();
}

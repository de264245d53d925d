//! The index by concern, beyond the recordings of upstream. Objects are as `mesh local` writes them.

mod access;
mod targets;

use destination_k8s::Kind;

use super::*;

const BASE: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: a}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: a}
spec: {clusterIP: 10.9.0.1, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: web-1, namespace: a}
spec: {clusterIP: 10.9.0.2, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: web-2, namespace: a}
spec: {clusterIP: 10.9.0.3, ports: [{port: 80}, {port: 81}]}
---
apiVersion: v1
kind: Pod
metadata:
  name: web-6d5f-abcde
  namespace: a
  labels: {app: web, pod-template-hash: 6d5f, linkerd.io/control-plane-ns: linkerd}
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web-6d5f, uid: '', controller: true}]
spec:
  serviceAccountName: web
  containers:
  - {name: app, ports: [{containerPort: 8080}]}
  - name: linkerd-proxy
    env: [{name: LINKERD2_PROXY_INBOUND_LISTEN_ADDR, value: '0.0.0.0:5143'}]
status: {phase: Running, podIP: 10.9.1.1}
";

const SLICE: &str = "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-x, namespace: a, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints:
- {addresses: [10.9.1.1], conditions: {ready: true}, targetRef: {kind: Pod, name: web-6d5f-abcde, namespace: a}}
- {addresses: [10.9.1.2], conditions: {ready: false}}
- {addresses: [10.9.1.3], conditions: {ready: true}, targetRef: {kind: Pod, name: later, namespace: a}}
ports: [{port: 8080}]
";

const SPLIT: &str = "
apiVersion: split.smi-spec.io/v1alpha1
kind: TrafficSplit
metadata: {name: s, namespace: a}
spec:
  service: web
  backends: [{service: web-1, weight: 900m}, {service: web-2, weight: 100m}]
";

fn objects(yaml: &str) -> Vec<Object> {
    let values = destination_yaml::all(yaml).expect("YAML");
    values
        .into_iter()
        .map(|value| Object::from_value(value).expect("an object"))
        .collect()
}

fn index(yaml: &[&str]) -> Index {
    let mut index = Index::new(Config::default());
    index.apply(yaml.iter().flat_map(|yaml| objects(yaml)));
    index
}

fn targets(index: &mut Index, path: &str) -> Vec<(String, u32)> {
    let profile = index
        .profile(path, &Context::default())
        .expect("an answer")
        .borrow()
        .clone();
    profile
        .targets
        .iter()
        .map(|target| {
            (
                target.authority.host().replace(".a.svc.cluster.local", ""),
                target.weight,
            )
        })
        .collect()
}

fn pair(name: &str, weight: u32) -> (String, u32) {
    (name.to_owned(), weight)
}

fn problems(index: &Index) -> Vec<String> {
    index.problems().iter().map(ToString::to_string).collect()
}

#[test]
fn endpoints_follow_slices_and_pods() {
    let mut index = index(&[BASE]);
    let mut answer = index
        .endpoints("web.a.svc.cluster.local:80", &Context::default())
        .expect("an answer");
    assert!(answer.borrow_and_update().exists && answer.borrow().endpoints.is_empty());

    index.apply(objects(SLICE));
    let set = answer.borrow_and_update().clone();
    let addrs: Vec<_> = set.endpoints.keys().map(ToString::to_string).collect();
    assert_eq!(
        addrs,
        ["10.9.1.1:8080"],
        "neither unready endpoints nor those of unknown pods"
    );
    let endpoint = &set.endpoints.values().next().expect("one");
    assert_eq!(
        endpoint.opaque_transport_port.map(u16::from),
        Some(5143),
        "the sidecar's own inbound port"
    );
    assert_eq!(
        endpoint.labels["deployment"], "web",
        "also before its ReplicaSet is known"
    );
    assert_eq!(endpoint.labels["zone_locality"], "unknown");

    let pod = BASE
        .rsplit("---")
        .next()
        .expect("a pod")
        .replace("web-6d5f-abcde", "later")
        .replace("10.9.1.1", "10.9.1.3");
    index.apply(objects(&pod));
    assert_eq!(answer.borrow_and_update().endpoints.len(), 2);
    index.delete([ObjectRef::new(Kind::Service, "a", "web")]);
    assert!(!answer.borrow_and_update().exists);
    assert!(matches!(
        index.endpoints("web.a.svc.cluster.local:80", &Context::default()),
        Err(Refused::NotFound(_))
    ));
}

#[test]
fn split_sets_the_targets_of_its_apex_only() {
    let mut index = index(&[BASE, SPLIT]);
    assert_eq!(
        targets(&mut index, "10.9.0.1:80"),
        [pair("web-1", 9000), pair("web-2", 1000)]
    );
    assert_eq!(targets(&mut index, "10.9.0.2:80"), []);
    assert_eq!(problems(&index), [] as [String; 0]);

    // Through one stream: new weights, then no split.
    let mut profile = index.profile("10.9.0.1:80", &Context::default()).expect("an answer");
    index.apply(objects(&SPLIT.replace("900m", "0").replace("100m", "1")));
    let weights = |profile: &Profile| profile.targets.iter().map(|t| t.weight).collect::<Vec<_>>();
    assert_eq!(weights(&profile.borrow_and_update()), [0, 10_000]);
    index.delete([ObjectRef::new(Kind::TrafficSplit, "a", "s")]);
    assert_eq!(weights(&profile.borrow_and_update()), [] as [u32; 0]);
}

#[test]
fn missing_backends_leave_their_share_to_the_others_and_are_reported() {
    let mut split = index(&[BASE, &SPLIT.replace("service: web-1", "service: gone")]);
    assert_eq!(targets(&mut split, "10.9.0.1:80"), [pair("web-2", 1000)]);
    assert_eq!(
        problems(&split),
        ["TrafficSplit a/s: the backend a/gone does not exist, so the others receive its share"]
    );
    // The backend appears: it gets its share at once, and the problem is gone.
    let mut profile = split.profile("10.9.0.1:80", &Context::default()).expect("an answer");
    split.apply(objects(
        "{apiVersion: v1, kind: Service, metadata: {name: gone, namespace: a}, spec: {ports: [{port: 80}]}}",
    ));
    assert_eq!(
        (profile.borrow_and_update().targets.len(), problems(&split).len()),
        (2, 0)
    );

    let port = index(&[BASE, &SPLIT.replace("service: web\n", "service: web-2\n")]);
    assert_eq!(problems(&port).len(), 1);
    assert!(
        problems(&port)[0].contains("a/web-1 has no port 81"),
        "{:?}",
        problems(&port)
    );
}

#[test]
fn reports_splits_without_effect() {
    for (change, to, words) in [
        (
            "service: web\n",
            "service: other\n",
            "the Service a/other does not exist",
        ),
        (
            "service: web\n",
            "service: web.b.svc.cluster.local\n",
            "is not a Service of namespace a",
        ),
        (
            "900m}, {service: web-2, weight: 100m",
            "0}, {service: web-2, weight: 0",
            "all backends have weight 0",
        ),
        (
            "  backends",
            "  matches: [{kind: HTTPRouteGroup, name: g}]\n  backends",
            "spec.matches is not supported yet",
        ),
    ] {
        let mut index = index(&[BASE, &SPLIT.replace(change, to)]);
        assert_eq!(targets(&mut index, "10.9.0.1:80"), [], "{words}");
        assert_eq!(problems(&index).len(), 1, "{words}");
        assert!(problems(&index)[0].contains(words), "{:?}", problems(&index));
    }
    // A full name in the split's own namespace counts; a second split of one apex does not.
    let full = SPLIT.replace("service: web\n", "service: web.a.svc.cluster.local\n");
    let second = SPLIT.replace("name: s,", "name: t,").replace("900m", "1");
    let mut index = index(&[BASE, &full, &second]);
    assert_eq!(
        targets(&mut index, "10.9.0.1:80"),
        [pair("web-1", 9000), pair("web-2", 1000)]
    );
    assert!(
        problems(&index)[0].contains("TrafficSplit a/t: TrafficSplit a/s already splits web"),
        "{:?}",
        problems(&index)
    );
}

#[test]
fn split_wins_over_overrides_and_keeps_the_routes() {
    let profile = "
apiVersion: linkerd.io/v1alpha2
kind: ServiceProfile
metadata: {name: web.a.svc.cluster.local, namespace: a}
spec:
  routes: [{name: all, condition: {pathRegex: '.*'}}, {name: bad, condition: {pathRegex: '('}}]
  dstOverrides: [{authority: web-2.a.svc.cluster.local, weight: 1}]
";
    let mut both = index(&[BASE, SPLIT, profile]);
    assert_eq!(targets(&mut both, "10.9.0.1:80").len(), 2);
    let answer = both.profile("10.9.0.1:80", &Context::default()).expect("an answer");
    assert_eq!(
        answer.borrow().routes.len(),
        1,
        "a route with an invalid condition matches nothing, not everything"
    );
    assert!(
        problems(&both).iter().any(|problem| {
            problem.contains("invalid condition of the route \"bad\": ") && problem.contains("unclosed group")
        }),
        "{:?}",
        problems(&both)
    );
    let skipped = profile.replace("namespace: a}", "namespace: a, annotations: {smi.linkerd.io/skip: x}}");
    let mut skipped = index(&[BASE, SPLIT, &skipped]);
    assert_eq!(targets(&mut skipped, "10.9.0.1:80"), [pair("web-2", 10_000)]);
}

#[test]
fn route_with_its_own_budget_is_retryable_unless_disabled() {
    let profile = "
apiVersion: linkerd.io/v1alpha2
kind: ServiceProfile
metadata: {name: web.a.svc.cluster.local, namespace: a}
spec:
  routes:
  - {name: own, condition: {pathRegex: /a}, retryBudget: {retryRatio: 0.5, minRetriesPerSecond: 3, ttl: 7s}}
  - {name: no, condition: {pathRegex: /b}, isRetryable: false, retryBudget: {retryRatio: 0.5, minRetriesPerSecond: 3, ttl: 7s}}
  - {name: plain, condition: {pathRegex: /c}}
";
    let mut index = index(&[BASE, profile]);
    let answer = index.profile("10.9.0.1:80", &Context::default()).expect("an answer");
    let routes = answer.borrow().routes.clone();
    let retryable: Vec<_> = routes.iter().map(|route| route.is_retryable).collect();
    assert_eq!(retryable, [true, false, false]);
    let own = routes[0].retry_budget.as_ref().expect("a budget");
    assert_eq!((own.ratio, own.min_per_second), (0.5, 3));
    assert_eq!(routes[2].retry_budget, None);
}

#[test]
fn statuses_explain_rejections() {
    let objects = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r, namespace: a}
spec:
  parentRefs: [{group: core, kind: Service, name: web}, {group: core, kind: Service, name: gone}]
  rules: [{filters: [{type: ExtensionRef}], backendRefs: [{name: lost, port: 80}]}]
---
apiVersion: policy.linkerd.io/v1alpha1
kind: EgressNetwork
metadata: {name: e, namespace: a}
spec: {trafficPolicy: Allow, networks: [{cidr: 10.0.0.0/9}]}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: HTTPLocalRateLimitPolicy
metadata: {name: l, namespace: a}
spec: {targetRef: {group: policy.linkerd.io, kind: Server, name: s}, total: {requestsPerSecond: 1}}
";
    let statuses = index(&[BASE, objects]).statuses();
    let mut said: Vec<String> = vec![];
    for content in statuses.values() {
        let conditions = match content {
            status::Content::Route(parents) => parents.iter().flat_map(|parent| &parent.conditions).collect(),
            status::Content::Policy(conditions, _) => conditions.iter().collect::<Vec<_>>(),
        };
        said.extend(
            conditions
                .iter()
                .map(|c| format!("{} {} {}", c.kind, c.reason, c.message)),
        );
    }
    let lost = "ResolvedRefs BackendNotFound The backend Service a/lost does not exist; its share of requests fails.";
    let expected = [
        "Accepted NoMatchingTarget There is no Server a/s.",
        "Accepted EgressReasonNetworkOverlap The network 10.0.0.0/9 overlaps the cluster network 10.0.0.0/8.",
        "Accepted UnsupportedValue the filter ExtensionRef is not supported.",
        lost,
        "Accepted NoMatchingParent The Service a/gone does not exist.",
        lost,
    ];
    assert_eq!(said, expected);
}

#[test]
fn default_opaque_ports_apply_without_an_injector() {
    let database = BASE.replace("8080", "3306").replace("port: 80,", "port: 3306,");
    let mut index = index(&[&database, &SLICE.replace("8080", "3306")]);
    let profile = index.profile("10.9.0.1:3306", &Context::default()).expect("an answer");
    assert!(profile.borrow().opaque_protocol);
    let endpoints = index
        .endpoints("web.a.svc.cluster.local:3306", &Context::default())
        .expect("an answer");
    assert_eq!(
        endpoints.borrow().endpoints.values().next().map(|e| e.hint),
        Some(proxy_model::Hint::Opaque)
    );
    let workload = Workload::parse("a:web-6d5f-abcde").expect("a workload");
    let inbound = index.inbound(&workload, 3306).expect("an answer");
    assert_eq!(
        inbound.borrow().as_ref().map(|p| p.protocol.clone()),
        Some(proxy_model::ServerProtocol::Opaque)
    );
    // A namespace's annotation applies to its pods and Services.
    index.apply(objects(
        "{apiVersion: v1, kind: Namespace, metadata: {name: a, annotations: {config.linkerd.io/opaque-ports: '81'}}}",
    ));
    assert!(!profile.borrow().opaque_protocol);
    assert_ne!(
        inbound.borrow().as_ref().map(|p| p.protocol.clone()),
        Some(proxy_model::ServerProtocol::Opaque)
    );
}

#[test]
fn inbound_answer_ends_with_its_pod_and_dangling_references_are_reported() {
    let policy = "
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: p, namespace: a}
spec:
  targetRef: {group: policy.linkerd.io, kind: Server, name: s}
  requiredAuthenticationRefs: [{group: policy.linkerd.io, kind: MeshTLSAuthentication, name: gone, namespace: b}]
";
    let mut index = index(&[BASE, policy]);
    assert!(
        problems(&index)[0].contains("MeshTLSAuthentication b/gone does not exist"),
        "{:?}",
        problems(&index)
    );
    let workload = Workload::parse("{\"ns\":\"a\",\"pod\":\"web-6d5f-abcde\"}").expect("a workload");
    let inbound = index.inbound(&workload, 8080).expect("an answer");
    assert_eq!(index.counts().inbound, 1);
    index.delete([ObjectRef::new(Kind::Pod, "a", "web-6d5f-abcde")]);
    assert!(inbound.borrow().is_none());
    assert!(matches!(index.inbound(&workload, 8080), Err(Refused::NotFound(_))));
}

#[test]
fn reset_sends_only_differences() {
    let mut index = index(&[BASE, SPLIT]);
    let mut profile = index.profile("10.9.0.1:80", &Context::default()).expect("an answer");
    let mut other = index.profile("10.9.0.2:80", &Context::default()).expect("an answer");
    profile.borrow_and_update();
    other.borrow_and_update();
    index.reset(objects(BASE));
    assert!(profile.has_changed().expect("open") && !other.has_changed().expect("open"));
    assert!(profile.borrow_and_update().targets.is_empty());
}

#[test]
fn forwards_outside_the_cluster_and_rejects_unknown_addresses_inside() {
    let mut index = index(&[BASE]);
    let client = Workload::parse("a:web-6d5f-abcde").expect("a workload");
    let target = |text: &str| OutboundTarget::Addr(text.parse().expect("an address"));
    let outside = index.outbound(&target("8.8.8.8:443"), &client).expect("an answer");
    assert_eq!(outside.borrow().meta.name(), "egress-fallback");
    assert!(matches!(
        index.outbound(&target("10.9.1.1:8080"), &client),
        Err(Refused::NotFound(_))
    ));
    // The answer for a Service's address stays when the Service is deleted, and follows its successor.
    let service = index.outbound(&target("10.9.0.1:80"), &client).expect("an answer");
    index.delete([ObjectRef::new(Kind::Service, "a", "web")]);
    assert_eq!(service.borrow().meta.name(), "web");
    index.apply(objects("{apiVersion: v1, kind: Service, metadata: {name: new, namespace: a}, spec: {clusterIP: 10.9.0.1, ports: [{port: 80}]}}"));
    assert_eq!(service.borrow().meta.name(), "new");
}

#[test]
fn short_authority_is_rejected_with_the_expected_form() {
    let mut index = index(&[BASE]);
    let rejected = index.endpoints("web.a:80", &Context::default()).expect_err("rejected");
    assert_eq!(
        rejected.to_string(),
        "Invalid authority: web.a:80: expected <service>.<namespace>.svc.cluster.local:<port>"
    );
}

#[test]
fn ports_that_require_identity_or_tls_authorize_no_other_clients() {
    use proxy_model::Authentication;
    let env = "    env: [{name: LINKERD2_PROXY_INBOUND_LISTEN_ADDR, value: '0.0.0.0:5143'}";
    let lists = "{name: LINKERD2_PROXY_INBOUND_PORTS_REQUIRE_IDENTITY, value: '8080,9000-9001'}, \
                 {name: LINKERD2_PROXY_INBOUND_PORTS_REQUIRE_TLS, value: '8081,8082'}";
    let base = BASE.replace(env, &format!("{env}, {lists}")).replace(
        "linkerd.io/control-plane-ns: linkerd}",
        "linkerd.io/control-plane-ns: linkerd}\n  annotations: {config.linkerd.io/proxy-require-identity-inbound-ports: '8082'}",
    );
    let mut index = index(&[&base]);
    let workload = Workload::parse("a:web-6d5f-abcde").expect("a workload");
    let mut authentication = |port: u16| {
        let answer = index.inbound(&workload, port).expect("an answer");
        let policy = answer.borrow().clone().expect("a policy");
        let [authorization] = policy.authorizations.as_slice() else {
            panic!("{policy:?}")
        };
        authorization.authentication.clone()
    };
    for (port, required) in [
        (80, Authentication::Unauthenticated),
        (8080, Authentication::any_identity()),
        (9001, Authentication::any_identity()),
        (8081, Authentication::TlsUnauthenticated),
        (8082, Authentication::any_identity()),
    ] {
        assert_eq!(authentication(port), required, "{port}");
    }
}

/// Route of `namespace` to the Service `a/web` and, as far as a reference can, to the Server `a/s`.
fn hijack(namespace: &str) -> String {
    format!(
        "
apiVersion: policy.linkerd.io/v1beta3
kind: HTTPRoute
metadata: {{name: of-{namespace}, namespace: {namespace}}}
spec:
  parentRefs: [{{group: core, kind: Service, name: web, namespace: a, port: 80}}]
  rules: [{{backendRefs: [{{name: web-1, namespace: a, port: 80}}]}}]
---
apiVersion: policy.linkerd.io/v1beta3
kind: HTTPRoute
metadata: {{name: server-of-{namespace}, namespace: {namespace}}}
spec:
  parentRefs: [{{group: policy.linkerd.io, kind: Server, name: s, namespace: a}}]
  rules: [{{matches: [{{path: {{type: PathPrefix, value: /}}}}]}}]
---
apiVersion: linkerd.io/v1alpha2
kind: ServiceProfile
metadata: {{name: web.a.svc.cluster.local, namespace: {namespace}}}
spec: {{routes: [{{name: of-{namespace}, condition: {{method: GET}}}}]}}
"
    )
}

#[test]
fn a_route_of_another_namespace_holds_for_its_own_clients_alone() {
    let server = "
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: s, namespace: a}
spec: {podSelector: {matchLabels: {app: web}}, port: 8080}
";
    let mut index = index(&[BASE, server, &hijack("b")]);
    let target = OutboundTarget::Addr("10.9.0.1:80".parse().expect("an address"));
    let mut routes = |client: &str| {
        let client = Workload::parse(client).expect("a workload");
        let policy = index.outbound(&target, &client).expect("an answer").borrow().clone();
        let proxy_model::ClientProtocol::Detect { http1, .. } = &policy.protocol else {
            panic!("{policy:?}")
        };
        http1
            .routes
            .iter()
            .map(|route| route.meta.name().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(routes("b:client"), ["of-b"]);
    for others in ["a:web-6d5f-abcde", "c:client"] {
        assert_eq!(routes(others), ["http"], "{others}: the Service's own default");
    }

    let in_namespace = |ns: &str| Context {
        ns: ns.into(),
        ..Context::default()
    };
    let mut profile = |ns: &str| {
        let profile = index
            .profile("web.a.svc.cluster.local:80", &in_namespace(ns))
            .expect("an answer");
        profile.borrow().routes.len()
    };
    assert_eq!([profile("a"), profile("b"), profile("c")], [0, 1, 0]);

    let workload = Workload::parse("{\"ns\":\"a\",\"pod\":\"web-6d5f-abcde\"}").expect("a workload");
    let inbound = index
        .inbound(&workload, 8080)
        .expect("an answer")
        .borrow()
        .clone()
        .expect("known");
    let proxy_model::ServerProtocol::Detect { routes, .. } = &inbound.protocol else {
        panic!("{inbound:?}")
    };
    assert_eq!(
        routes.iter().map(|route| route.meta.name()).collect::<Vec<_>>(),
        ["default"]
    );
}

#[test]
fn grpc_ports_of_the_control_plane_are_not_detected() {
    let pod = BASE.rsplit("---").next().expect("a pod");
    let label = "linkerd.io/control-plane-component: linkerd-destination, linkerd.io/control-plane-ns";
    let own = pod
        .replace("namespace: a", "namespace: linkerd")
        .replace("linkerd.io/control-plane-ns", label);
    let claimed = pod.replace("linkerd.io/control-plane-ns", label);
    let mut index = index(&[&own, &claimed]);
    let mut is_http2 = |workload: &str, port: u16| {
        let workload = Workload::parse(workload).expect("a workload");
        let answer = index.inbound(&workload, port).expect("an answer");
        let policy = answer.borrow().clone().expect("a policy");
        matches!(policy.protocol, proxy_model::ServerProtocol::Http2 { .. })
    };
    assert!(is_http2("linkerd:web-6d5f-abcde", 8086) && is_http2("linkerd:web-6d5f-abcde", 8090));
    assert!(!is_http2("linkerd:web-6d5f-abcde", 9996) && !is_http2("a:web-6d5f-abcde", 8086));
}

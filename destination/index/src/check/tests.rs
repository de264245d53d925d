//! Objects over their budget, and the others.

use destination_k8s::ObjectRef;
use proxy_model::{
    ClientProtocol, OutboundTarget, ServerProtocol, limits,
    profile::{ProfileRoute, RequestMatch},
};
use serde_json::{Value, json};

use super::*;
use crate::{Config, Context, Index, Workload, status::Content};

fn object(value: Value) -> Object {
    Object::from_value(value).expect("an object")
}

fn service(name: &str, address: &str) -> Object {
    object(
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "a"},
        "spec": {"clusterIP": address, "ports": [{"port": 80}]}}),
    )
}

fn profile(service: &str, expressions: impl IntoIterator<Item = String>) -> Object {
    let routes = expressions
        .into_iter()
        .map(|text| json!({"name": "r", "condition": {"pathRegex": text}}));
    object(json!({"apiVersion": "linkerd.io/v1alpha2", "kind": "ServiceProfile",
        "metadata": {"name": format!("{service}.a.svc.cluster.local"), "namespace": "a"},
        "spec": {"routes": routes.collect::<Vec<_>>()}}))
}

/// The attack: more expressions than a proxy or the control plane could bear, in an object that etcd stores.
fn dear(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|at| format!(r"/{at}/\w{{8}}"))
}

fn http_route(name: &str, parent: Value, expressions: impl IntoIterator<Item = String>) -> Object {
    let matches = expressions
        .into_iter()
        .map(|text| json!({"path": {"type": "RegularExpression", "value": text}}));
    object(json!({"apiVersion": "policy.linkerd.io/v1beta3", "kind": "HTTPRoute",
        "metadata": {"name": name, "namespace": "a"},
        "spec": {"parentRefs": [parent], "rules": [{"matches": matches.collect::<Vec<_>>()}]}}))
}

fn index() -> Index {
    let mut index = Index::new(Config::default());
    index.apply([service("web", "10.9.0.1"), service("other", "10.9.0.2")]);
    index
}

fn routes(index: &mut Index, address: &str) -> Vec<ProfileRoute> {
    let answer = index.profile(address, &Context::default()).expect("an answer");
    answer.borrow().routes.clone()
}

fn problems(index: &Index) -> Vec<String> {
    index.problems().iter().map(ToString::to_string).collect()
}

#[test]
fn a_profile_over_its_budget_is_refused_and_all_else_goes_on() {
    let mut index = index();
    let attack = Checked::from(profile("web", dear(20_000)));
    assert_eq!(attack.exceeded(), Some(limits::OBJECT_ROUTES.row()));
    index.apply([attack, profile("other", ["/books/[^/]*".to_owned()]).into()]);
    assert_eq!(routes(&mut index, "10.9.0.1:80"), []);
    assert_eq!(routes(&mut index, "10.9.0.2:80").len(), 1);
    assert_eq!(
        problems(&index),
        [
            "ServiceProfile a/web.a.svc.cluster.local: it has more than 256 routes or rules (limit OBJECT_ROUTES), so the \
             profile is ignored"
        ]
    );
    // Fewer, but as dear: expressions are counted, too.
    index.apply([profile("web", dear(20))]);
    assert_eq!(routes(&mut index, "10.9.0.1:80"), []);
    assert!(
        problems(&index)[0].contains("limit OBJECT_PATTERN_BYTES"),
        "{:?}",
        problems(&index)
    );
    index.apply([profile("web", dear(2))]);
    assert_eq!(
        (routes(&mut index, "10.9.0.1:80").len(), problems(&index).len()),
        (2, 0)
    );
}

#[test]
fn the_index_compiles_no_expression() {
    let mut index = index();
    index.apply([profile("web", dear(2))]);
    index.problems();
    for route in routes(&mut index, "10.9.0.1:80") {
        let Some(RequestMatch::Path(pattern)) = route.condition else {
            panic!("a condition on the path")
        };
        assert!(!pattern.is_compiled(), "{pattern:?}");
    }
}

#[test]
fn a_route_over_its_budget_says_so_in_its_status_and_the_others_of_its_service_apply() {
    let mut index = index();
    let parent = json!({"group": "core", "kind": "Service", "name": "web"});
    let attack = http_route("attack", parent.clone(), dear(limits::OBJECT_MATCHES.value + 1));
    let good = http_route("good", parent.clone(), ["/books/[^/]*".to_owned()]);
    let wrong = http_route("wrong", parent, ["(".to_owned()]);
    index.apply([attack, good, wrong]);
    let target = OutboundTarget::Addr("10.9.0.1:80".parse().expect("an address"));
    let client = Workload::parse("a:client").expect("a workload");
    let policy = index.outbound(&target, &client).expect("an answer");
    let ClientProtocol::Detect { http1, .. } = &policy.borrow().protocol else {
        panic!("HTTP")
    };
    let names: Vec<_> = http1.routes.iter().map(|route| route.meta.name().to_owned()).collect();
    assert_eq!(names, ["good"]);
    let said = |name: &str| {
        let statuses = index.statuses();
        let key = ObjectRef::new(Kind::PolicyHttpRoute, "a", name);
        let Some(Content::Route(parents)) = statuses.get(&key) else {
            panic!("a status")
        };
        parents[0].conditions[0].clone()
    };
    assert!(said("good").holds);
    assert_eq!(
        said("attack").message,
        "it has more than 1024 conditions (limit OBJECT_MATCHES)."
    );
    assert!(said("wrong").message.contains("unclosed group"), "{:?}", said("wrong"));
}

#[test]
fn a_refused_route_of_a_server_is_ignored() {
    let mut index = index();
    let server = json!({"apiVersion": "policy.linkerd.io/v1beta3", "kind": "Server", "metadata": {"name": "s", "namespace": "a"},
        "spec": {"podSelector": {}, "port": 80, "proxyProtocol": "HTTP/1"}});
    let pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "namespace": "a", "labels": {"linkerd.io/control-plane-ns": "linkerd"}},
        "spec": {"containers": [{"name": "app", "ports": [{"containerPort": 80}]}]},
        "status": {"phase": "Running", "podIP": "10.9.1.1"}});
    let parent = json!({"group": "policy.linkerd.io", "kind": "Server", "name": "s"});
    index.apply([object(server), object(pod)]);
    index.apply([
        http_route("attack", parent.clone(), dear(300)),
        http_route("good", parent, ["/[a-z]+".to_owned()]),
    ]);
    let workload = Workload::parse("a:p").expect("a workload");
    let policy = index.inbound(&workload, 80).expect("an answer");
    let policy = policy.borrow().clone().expect("a policy");
    let ServerProtocol::Http1 { routes, .. } = &policy.protocol else {
        panic!("HTTP/1")
    };
    let names: Vec<_> = routes.iter().map(|route| route.meta.name().to_owned()).collect();
    assert_eq!(names, ["good"]);
}

#[test]
fn parents_beyond_the_limit_cost_nothing() {
    let mut index = index();
    let parents: Vec<_> = (0..30_000)
        .map(|at| json!({"group": "core", "kind": "Service", "name": format!("web-{at}")}))
        .collect();
    let route = json!({"apiVersion": "policy.linkerd.io/v1beta3", "kind": "HTTPRoute", "metadata": {"name": "r", "namespace": "a"},
        "spec": {"parentRefs": parents}});
    index.apply([object(route)]);
    let statuses = index.statuses();
    let Some(Content::Route(parents)) = statuses.values().next() else {
        panic!("a status")
    };
    assert_eq!(parents.len(), limits::OBJECT_PARENTS.value);
    assert!(
        problems(&index)[0].contains("limit OBJECT_PARENTS"),
        "{:?}",
        problems(&index)
    );
}

#[test]
fn conditions_deeper_than_proxies_take_are_invalid() {
    let nested = |depth: usize| {
        let inner = json!({"pathRegex": "/"});
        let condition = (1..depth).fold(inner, |condition, _| json!({"not": condition}));
        let profile = json!({"apiVersion": "linkerd.io/v1alpha2", "kind": "ServiceProfile",
            "metadata": {"name": "web.a.svc.cluster.local", "namespace": "a"},
            "spec": {"routes": [{"name": "deep", "condition": condition}]}});
        Checked::from(object(profile)).check.faults.content
    };
    let deepest = limits::MATCH_DEPTH.value;
    assert_eq!(nested(deepest), [] as [String; 0]);
    assert_eq!(
        nested(deepest + 1),
        ["invalid condition of the route \"deep\": it is nested more than 32 deep"]
    );
}

#[test]
fn remembered_expressions_are_bounded() {
    let mut checker = Checker::default();
    for batch in 0..KNOWN_PATTERNS.value / 100 {
        let texts = (0..200).map(|at| format!("/{batch}/{at}"));
        checker.check(profile("web", texts));
    }
    assert!(checker.costs.len() <= KNOWN_PATTERNS.value);
}

#[test]
fn the_oldest_routes_of_a_parent_apply() {
    let mut index = index();
    let most = limits::PARENT_ROUTES.value;
    let parent = json!({"group": "core", "kind": "Service", "name": "web"});
    // Without a time of creation, they are sorted by name.
    index.apply((0..most * 4).map(|at| http_route(&format!("r-{at:04}"), parent.clone(), ["/a".to_owned()])));
    let target = OutboundTarget::Addr("10.9.0.1:80".parse().expect("an address"));
    let client = Workload::parse("a:client").expect("a workload");
    let policy = index.outbound(&target, &client).expect("an answer");
    let ClientProtocol::Detect { http1, .. } = &policy.borrow().protocol else {
        panic!("HTTP")
    };
    assert_eq!(http1.routes.len(), most);
    let statuses = index.statuses();
    let accepted = statuses.values().filter(|content| match content {
        Content::Route(parents) => parents[0].conditions[0].holds,
        Content::Policy(..) => false,
    });
    assert_eq!(accepted.count(), most);
    let Some(Content::Route(last)) = statuses.values().last() else {
        panic!("a status")
    };
    let said = "The Service a/web has 512 older routes, the most that apply.";
    assert_eq!(last[0].conditions[0].message, said);
}

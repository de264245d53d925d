//! Splits, overrides, routes and profiles of one Service: how they combine, and what is said where they do not.

use proxy_model::{
    ClientPolicy, ClientProtocol,
    limits::RULE_TARGETS,
    outbound::{Dispatch, Distribution, Http, RouteBackend},
};

use super::*;

/// Routes requests with a header to `web-2`, and all others to the Service itself.
const AB: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: ab, namespace: a}
spec:
  parentRefs: [{group: core, kind: Service, name: web}]
  rules:
  - matches: [{headers: [{name: x-beta, value: 'yes'}]}]
    backendRefs: [{name: web-2, port: 80}]
  - backendRefs: [{name: web, port: 80}]
    timeouts: {request: 3s}
";

const PROFILE: &str = "
apiVersion: linkerd.io/v1alpha2
kind: ServiceProfile
metadata: {name: web.a.svc.cluster.local, namespace: a}
spec:
  routes: [{name: all, condition: {pathRegex: '.*'}, isRetryable: true}]
  dstOverrides: [{authority: web-2.a.svc.cluster.local, weight: 1}]
";

fn policy(index: &mut Index, target: &str, client_ns: &str) -> ClientPolicy {
    let client = Workload::parse(&format!("{client_ns}:client")).expect("a workload");
    let target = OutboundTarget::Addr(target.parse().expect("an address"));
    let answer = index.outbound(&target, &client).expect("an answer");
    ClientPolicy::clone(&answer.borrow())
}

fn http(policy: &ClientPolicy) -> &Http {
    match &policy.protocol {
        ClientProtocol::Detect { http1, http2, .. } => {
            assert_eq!(http1, http2);
            http1
        }
        protocol => panic!("{protocol:?}"),
    }
}

/// Backends with their weights; a lone one has 1.
fn backends(distribution: &Distribution) -> Vec<(String, u32)> {
    let path = |found: &RouteBackend| match &found.backend.dispatch {
        Some(Dispatch::Balance { path, .. }) => path.replace(".a.svc.cluster.local:80", ""),
        other => format!("{other:?}"),
    };
    match distribution {
        Distribution::Empty => vec![],
        Distribution::FirstAvailable(all) => all.iter().map(|found| (path(found), 1)).collect(),
        Distribution::RandomAvailable(all) => all.iter().map(|(found, weight)| (path(found), *weight)).collect(),
    }
}

/// Backends of each HTTP rule for clients of a namespace.
fn rules(index: &mut Index, client_ns: &str) -> Vec<Vec<(String, u32)>> {
    let policy = policy(index, "10.9.0.1:80", client_ns);
    let routes = http(&policy).routes.iter();
    let rules = routes.flat_map(|route| &route.rules);
    rules.map(|rule| backends(&rule.action.distribution)).collect()
}

/// Root of a split with its targets.
type Split = (String, Vec<(String, u32)>);

/// Targets of the policy of `10.9.0.1:80` for clients of a namespace.
fn splits(index: &mut Index, client_ns: &str) -> Vec<Split> {
    let targets = policy(index, "10.9.0.1:80", client_ns).targets.expect("ours");
    let short = |name: &str| name.replace(".a.svc.cluster.local", "").replace(":80", "");
    let target = |target: &proxy_model::profile::Target| {
        let name = short(target.authority.host());
        assert_eq!(target.backend.as_ref().map(|meta| meta.name()), Some(name.as_str()));
        (name, target.weight)
    };
    let split = |(root, targets): (&Arc<str>, &Vec<_>)| (short(root), targets.iter().map(target).collect());
    targets.iter().map(split).collect()
}

fn split(root: &str, targets: &[(&str, u32)]) -> Split {
    let targets = targets.iter().map(|(name, weight)| pair(name, *weight));
    (root.to_owned(), targets.collect())
}

const NONE: [Split; 0] = [];

#[test]
fn a_policy_has_the_targets_of_its_service_at_each_change() {
    let mut index = index(&[BASE]);
    assert_eq!(splits(&mut index, "a"), NONE);
    index.apply(objects(SPLIT));
    assert_eq!(
        splits(&mut index, "a"),
        [split("web", &[("web-1", 9000), ("web-2", 1000)])]
    );
    assert_eq!(rules(&mut index, "a"), [[pair("web", 1)]], "as other proxies see it");
    // A backend without a share needs no lookup of its endpoints.
    index.apply(objects(&SPLIT.replace("100m", "0")));
    assert_eq!(splits(&mut index, "a"), [split("web", &[("web-1", 9000)])]);
    index.delete([ObjectRef::new(Kind::TrafficSplit, "a", "s")]);
    assert_eq!(splits(&mut index, "a"), NONE);
}

#[test]
fn an_opaque_port_is_split_too() {
    let opaque = BASE.replace(
        "ports: [{port: 80, targetPort",
        "ports: [{port: 80, appProtocol: tcp, targetPort",
    );
    let mut index = index(&[&opaque, SPLIT]);
    let policy = policy(&mut index, "10.9.0.1:80", "a");
    assert!(matches!(policy.protocol, ClientProtocol::Opaque(_)), "{policy:?}");
    assert_eq!(splits(&mut index, "a").len(), 1);
}

#[test]
fn a_route_a_split_a_profile_and_annotations_combine_on_one_service() {
    let annotated = BASE.replace(
        "metadata: {name: web, namespace: a}",
        "metadata: {name: web, namespace: a, annotations: {balancer.linkerd.io/failure-accrual: consecutive}}",
    );
    let mut index = index(&[&annotated, SPLIT, AB, PROFILE]);
    assert_eq!(rules(&mut index, "a"), [[pair("web-2", 1)], [pair("web", 1)]]);
    assert_eq!(
        splits(&mut index, "a"),
        [split("web", &[("web-1", 9000), ("web-2", 1000)])]
    );
    let all = policy(&mut index, "10.9.0.1:80", "a");
    assert!(http(&all).failure_accrual.is_some());
    let timeouts = http(&all).routes[0].rules[1].action.timeouts;
    assert_eq!(timeouts.request, Some(std::time::Duration::from_secs(3)));
    // Other proxies split by the profile, which has its routes as before.
    assert_eq!(
        targets(&mut index, "10.9.0.1:80"),
        [pair("web-1", 9000), pair("web-2", 1000)]
    );
    let profile = index.profile("10.9.0.1:80", &Context::default()).expect("an answer");
    assert!(profile.borrow().routes[0].is_retryable);
    assert_eq!(
        problems(&index),
        ["ServiceProfile a/web.a.svc.cluster.local: TrafficSplit a/s splits web, so dstOverrides have no effect"]
    );
}

#[test]
fn the_profile_of_the_clients_namespace_decides_about_splits_and_overrides() {
    let own = PROFILE
        .replace("namespace: a}", "namespace: b}")
        .replace("web-2", "web-1");
    let skipping = own.replace(
        "namespace: b}",
        "namespace: c, annotations: {smi.linkerd.io/skip: 'true'}}",
    );
    let mut index = index(&[BASE, SPLIT, PROFILE, &own, &skipping]);
    for client_ns in ["a", "b", "other"] {
        let expected = [split("web", &[("web-1", 9000), ("web-2", 1000)])];
        assert_eq!(splits(&mut index, client_ns), expected, "{client_ns}");
    }
    assert_eq!(splits(&mut index, "c"), [split("web", &[("web-1", 10_000)])]);
    let mut reported = problems(&index);
    reported.retain(|problem| problem.starts_with("TrafficSplit"));
    assert_eq!(
        reported,
        [
            "TrafficSplit a/s: the ServiceProfile c/web.a.svc.cluster.local is annotated smi.linkerd.io/skip, so the \
          split has no effect on clients in namespace c"
        ]
    );
    index.delete([ObjectRef::new(Kind::TrafficSplit, "a", "s")]);
    for (client_ns, name) in [("a", "web-2"), ("b", "web-1"), ("other", "web-2")] {
        let expected = [split("web", &[(name, 10_000)])];
        assert_eq!(splits(&mut index, client_ns), expected, "{client_ns}");
    }
}

#[test]
fn references_to_roots_of_other_splits_have_their_targets_too() {
    // A split of which one backend is its own root.
    let other = SPLIT
        .replace("name: s,", "name: t,")
        .replace("{service: web-2,", "{service: api,")
        .replace("service: web\n", "service: web-1\n");
    let api = "{apiVersion: v1, kind: Service, metadata: {name: api, namespace: a}, spec: {ports: [{port: 80}]}}";
    let route = AB.replace(
        "{name: web-2, port: 80}",
        "{name: web-2, port: 80}, {name: web-1, port: 80, weight: 3}",
    );
    let mut index = index(&[BASE, SPLIT, &other, api, &route]);
    assert_eq!(
        rules(&mut index, "a"),
        [vec![pair("web-2", 1), pair("web-1", 3)], vec![pair("web", 1)]]
    );
    let mut found = splits(&mut index, "a");
    found.sort();
    assert_eq!(
        found,
        [
            split("web", &[("web-1", 9000), ("web-2", 1000)]),
            split("web-1", &[("web-1", 9000), ("api", 1000)]),
        ]
    );
    assert_eq!(problems(&index), [] as [String; 0]);
}

#[test]
fn overrides_without_any_weight_leave_the_traffic_to_the_service() {
    let mut none = index(&[BASE, &PROFILE.replace("weight: 1", "weight: 0")]);
    assert_eq!(splits(&mut none, "a"), NONE);
    assert_eq!(
        targets(&mut none, "10.9.0.1:80"),
        [pair("web-2", 0)],
        "as upstream answers"
    );
    assert_eq!(
        problems(&none),
        ["ServiceProfile a/web.a.svc.cluster.local: all dstOverrides have weight 0, so they have no effect"]
    );
}

#[test]
fn a_split_without_a_backend_at_a_port_says_where_its_traffic_goes() {
    let only = SPLIT.replace("{service: web-2, weight: 100m}", "{service: web-2, weight: 0}");
    let apex = only.replace("service: web\n", "service: web-2\n");
    let mut index = index(&[BASE, &apex]);
    let targets = |index: &mut Index, addr: &str| policy(index, addr, "a").targets.map(|all| all.len());
    assert_eq!(targets(&mut index, "10.9.0.3:80"), Some(1));
    assert_eq!(targets(&mut index, "10.9.0.3:81"), Some(0));
    let said = "no backend with a weight has port 81, so all traffic there goes to a/web-2 itself";
    assert_eq!(problems(&index), [format!("TrafficSplit a/s: {said}")]);
    let gone = SPLIT.replace("web-1", "gone").replace("web-2", "gone-too");
    let itself = |name: &str| {
        format!("TrafficSplit a/s: the backend a/{name} does not exist, so a/web itself receives its share")
    };
    assert_eq!(
        problems(&self::index(&[BASE, &gone])),
        [itself("gone"), itself("gone-too")]
    );
}

#[test]
fn splits_and_overrides_that_no_rule_leads_to_are_reported() {
    let away = AB.replace(
        "backendRefs: [{name: web, port: 80}]",
        "backendRefs: [{name: web-1, port: 80}]",
    );
    let said = "no rule of the routes at Service a/web leads to it, so the split has no effect on the requests that they match";
    let reports = |route: &str| problems(&index(&[BASE, SPLIT, route]));
    assert_eq!(reports(&away), [format!("TrafficSplit a/s: {said}")]);
    assert_eq!(reports(AB), [] as [String; 0]);
    // A rule without backends leads to the Service; a route of another namespace is for its own clients.
    assert_eq!(
        reports(&away.replace("backendRefs: [{name: web-1, port: 80}]\n    timeouts", "timeouts")),
        [] as [String; 0]
    );
    assert_eq!(
        reports(
            &away
                .replace("namespace: a}", "namespace: b}")
                .replace("name: web}", "name: web, namespace: a}")
        ),
        [] as [String; 0]
    );
    let overrides = problems(&index(&[BASE, PROFILE, &away]));
    assert!(
        overrides[0].contains("leads to it, so dstOverrides have no effect"),
        "{overrides:?}"
    );
}

#[test]
fn more_targets_than_a_rule_has_room_for_are_left_out_and_reported() {
    let of = |apex: &str, count: usize| {
        let backends = vec!["{service: web-2, weight: 1}"; count].join(", ");
        let head = SPLIT.split("  backends").next().expect("a head");
        head.replace("service: web\n", &format!("service: {apex}\n"))
            .replace("name: s,", &format!("name: {apex},"))
            + &format!("  backends: [{backends}]\n")
    };
    let most = RULE_TARGETS.value;
    let mut fits = index(&[BASE, &of("web", most)]);
    assert_eq!(splits(&mut fits, "a")[0].1.len(), most);
    let mut beyond = index(&[BASE, &of("web", most + 1)]);
    assert_eq!(splits(&mut beyond, "a"), NONE);
    let said = format!(
        "TrafficSplit a/web: it has {} backends, more than the limit of {most}, so the split has no effect",
        most + 1
    );
    assert_eq!(problems(&beyond), [said]);

    let route = AB.replace(
        "backendRefs: [{name: web, port: 80}]",
        "backendRefs: [{name: web, port: 80}, {name: web-1, port: 80}]",
    );
    let two = index(&[BASE, &of("web", most - 1), &of("web-1", 2), &route]);
    assert_eq!(
        problems(&two),
        [format!(
            "HTTPRoute a/ab: the splits of one rule's backends have more than {most} targets, so that of a/web-1 has no effect there"
        )]
    );
}

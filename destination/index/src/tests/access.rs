//! SMI's access control: what TrafficTargets make of a pod's ports, and what is said about those that are wrong.

use proxy_model::{
    Authentication, Authorization, Meta, ServerPolicy, ServerProtocol,
    inbound::HttpRoute,
    route::{HeaderValueMatch, HttpMatch, PathMatch},
};

use super::*;

const GROUP: &str = "
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: api, namespace: a}
spec:
  matches:
  - {name: read, pathRegex: '/items/.*', methods: [GET, HEAD], headers: {x-kind: '[ab]'}}
  - {name: write, methods: ['*'], pathRegex: '/items'}
";
const TCP: &str = "
apiVersion: specs.smi-spec.io/v1alpha4
kind: TCPRoute
metadata: {name: tcp, namespace: a}
spec: {matches: {ports: [8080]}}
";

fn target(name: &str, rules: &str) -> String {
    format!(
        "apiVersion: access.smi-spec.io/v1alpha3\nkind: TrafficTarget\nmetadata: {{name: {name}, namespace: a}}\nspec:\n  \
         destination: {{kind: ServiceAccount, name: web, namespace: a}}\n  \
         sources: [{{kind: ServiceAccount, name: client, namespace: b}}, {{kind: ServiceAccount, name: near}}]\n  \
         rules: {rules}\n"
    )
}

fn policy(index: &mut Index, port: u16) -> ServerPolicy {
    let workload = Workload {
        ns: "a".into(),
        pod: Some("web-6d5f-abcde".into()),
    };
    let answer = index.inbound(&workload, port).expect("an answer");
    let answer = answer.borrow().clone();
    (*answer.expect("a policy")).clone()
}

fn routes(policy: &ServerPolicy) -> &[HttpRoute] {
    match &policy.protocol {
        ServerProtocol::Detect { routes, .. } => routes,
        other => panic!("{other:?}"),
    }
}

fn names(policy: &ServerPolicy) -> Vec<&str> {
    routes(policy).iter().map(|route| route.meta.name()).collect()
}

fn clients(authorizations: &[Authorization]) -> Vec<String> {
    let ids = authorizations.iter().flat_map(|found| match &found.authentication {
        Authentication::TlsAuthenticated { identities, suffixes } if suffixes.is_empty() => identities.clone(),
        other => panic!("{other:?}"),
    });
    ids.map(|id| {
        id.to_string()
            .replace(".serviceaccount.identity.linkerd.cluster.local", "")
    })
    .collect()
}

fn text(found: &HttpMatch) -> String {
    let path = match &found.path {
        Some(PathMatch::Regex(pattern)) => pattern.as_str(),
        Some(other) => panic!("{other:?}"),
        None => "any",
    };
    let header = |header: &proxy_model::route::HeaderMatch| match &header.value {
        HeaderValueMatch::Regex(pattern) => format!(" {}={}", header.name, pattern.as_str()),
        HeaderValueMatch::Exact(exact) => panic!("{exact:?}"),
    };
    let headers: String = found.headers.iter().map(header).collect();
    let method = found.method.as_ref().map_or("any", |method| method.as_str());
    format!("{method} {path}{headers}")
}

fn matches(policy: &ServerPolicy, route: usize) -> Vec<String> {
    let rules = &routes(policy)[route].rules;
    rules.iter().flat_map(|rule| &rule.matches).map(text).collect()
}

#[test]
fn a_target_permits_its_sources_the_selected_requests_and_nothing_else() {
    let read = target("t", "[{kind: HTTPRouteGroup, name: api, matches: [read]}]");
    let mut index = index(&[BASE, GROUP, &read]);
    let found = policy(&mut index, 8080);
    assert_eq!(problems(&index), [""; 0]);
    assert_eq!(names(&found), ["api", "default"]);
    assert_eq!(found.authorizations, [], "what no route permits is denied");
    assert_eq!(found.labels["name"], "deny");
    assert_eq!(
        matches(&found, 0),
        ["GET /items/.* x-kind=[ab]", "HEAD /items/.* x-kind=[ab]"]
    );
    let route = &routes(&found)[0];
    assert_eq!(clients(&route.authorizations), ["client.b", "near.a"]);
    assert_eq!(
        route.authorizations[0].meta,
        Some(Meta::resource("access.smi-spec.io", "traffictarget", "", "t"))
    );
    assert_eq!(route.meta.group(), proxy_model::inbound::ADDITIVE_GROUP);

    // Without names it is the whole group, and another target of the same account adds to the first.
    index.apply(objects(&target("u", "[{kind: HTTPRouteGroup, name: api}]")));
    let found = policy(&mut index, 8080);
    assert_eq!(names(&found), ["api", "api", "default"]);
    assert_eq!(matches(&found, 1).last().map(String::as_str), Some("any /items"));
}

#[test]
fn without_targets_or_after_the_last_is_gone_the_policy_is_the_default_one() {
    let mut index = index(&[BASE, GROUP, TCP]);
    let before = policy(&mut index, 8080);
    assert_eq!(before.labels["name"], "all-unauthenticated");
    let workload = Workload {
        ns: "a".into(),
        pod: Some("web-6d5f-abcde".into()),
    };
    let mut answer = index.inbound(&workload, 8080).expect("an answer");
    index.apply(objects(&target("t", "[{kind: TCPRoute, name: tcp}]")));
    assert!(answer.has_changed().expect("open"));
    assert_eq!(
        clients(&policy(&mut index, 8080).authorizations),
        ["client.b", "near.a"]
    );
    answer.mark_unchanged();
    index.delete([ObjectRef::new(Kind::TrafficTarget, "a", "t")]);
    assert!(answer.has_changed().expect("open"));
    assert_eq!(policy(&mut index, 8080), before);
    // A target for another account is none of this pod's.
    let other = target("o", "[{kind: TCPRoute, name: tcp}]").replace("name: web,", "name: other,");
    index.apply(objects(&other));
    assert_eq!(policy(&mut index, 8080), before);
}

#[test]
fn tcp_routes_choose_ports_and_groups_choose_requests_there() {
    let both = target("t", "[{kind: HTTPRouteGroup, name: api}, {kind: TCPRoute, name: tcp}]");
    let mut index = index(&[BASE, GROUP, TCP, &both]);
    let open = policy(&mut index, 8080);
    assert_eq!((names(&open), open.authorizations.len()), (vec!["api", "default"], 0));
    let closed = policy(&mut index, 8081);
    assert_eq!((names(&closed), closed.authorizations.len()), (vec!["default"], 0));
    // One TCPRoute without ports is all of them.
    index.apply(objects(
        "apiVersion: specs.smi-spec.io/v1alpha3\nkind: TCPRoute\nmetadata: {name: tcp, namespace: a}",
    ));
    assert_eq!(names(&policy(&mut index, 8081)), ["api", "default"]);
    index.apply(objects(&target("t", "[{kind: TCPRoute, name: tcp}]")));
    let bytes = policy(&mut index, 8081);
    assert_eq!((names(&bytes), bytes.authorizations.len()), (vec!["default"], 1));
}

#[test]
fn the_port_of_an_early_target_restricts_it_by_number_or_name() {
    for (port, open) in [
        ("8080", true),
        ("'8080'", true),
        ("8081", false),
        ("web", true),
        ("other", false),
    ] {
        let early = format!(
            "apiVersion: access.smi-spec.io/v1alpha1\nkind: TrafficTarget\nmetadata: {{name: t, namespace: a}}\n\
             destination: {{kind: ServiceAccount, name: web, namespace: a, port: {port}}}\n\
             sources: [{{kind: ServiceAccount, name: client, namespace: b}}]\nspecs: [{{kind: TCPRoute, name: tcp}}]\n"
        );
        let base = BASE.replace("{containerPort: 8080}", "{containerPort: 8080, name: web}");
        let mut index = index(&[&base, TCP, &early]);
        assert_eq!(
            policy(&mut index, 8080).authorizations.len(),
            usize::from(open),
            "{port}"
        );
    }
}

#[test]
fn probes_the_sidecars_own_ports_and_opaque_ports_keep_what_they_need() {
    let base = BASE.replace(
        "{name: app, ports: [{containerPort: 8080}]}",
        "{name: app, ports: [{containerPort: 8080}, {containerPort: 3306}], livenessProbe: {httpGet: {path: /live, port: 8080}}}",
    );
    let mut index = index(&[&base, GROUP, &target("t", "[{kind: HTTPRouteGroup, name: api}]")]);
    let found = policy(&mut index, 8080);
    assert_eq!(names(&found), ["api", "default", "probe"]);
    assert_eq!(
        routes(&found)[2].authorizations[0].authentication,
        Authentication::Unauthenticated
    );
    assert_eq!(policy(&mut index, 4191).labels["name"], "all-unauthenticated");
    let opaque = policy(&mut index, 3306);
    assert_eq!(
        (opaque.protocol, opaque.authorizations.len()),
        (ServerProtocol::Opaque, 0)
    );
    assert_eq!(
        problems(&index),
        ["TrafficTarget a/t: the port 3306 is opaque, so requests to it are not allowed"]
    );
}

#[test]
fn a_server_decides_alone_and_that_is_said() {
    let server = "apiVersion: policy.linkerd.io/v1beta3\nkind: Server\nmetadata: {name: s, namespace: a}\n\
                  spec: {podSelector: {matchLabels: {app: web}}, port: 8080, accessPolicy: all-authenticated}";
    let mut index = index(&[BASE, TCP, server, &target("t", "[{kind: TCPRoute, name: tcp}]")]);
    let found = policy(&mut index, 8080);
    assert_eq!(found.labels["name"], "s");
    assert_eq!(
        found.authorizations[0].meta,
        Some(Meta::default_named("all-authenticated"))
    );
    assert_eq!(
        problems(&index),
        ["TrafficTarget a/t: the Server a/s decides alone about the port 8080, so the target does not act there"]
    );
}

#[test]
fn a_wrong_target_permits_nothing_and_says_why() {
    let bad = "apiVersion: specs.smi-spec.io/v1alpha4\nkind: HTTPRouteGroup\nmetadata: {name: bad, namespace: a}\n\
               spec: {matches: [{name: m, pathRegex: '(('}]}";
    let empty = "apiVersion: specs.smi-spec.io/v1alpha4\nkind: HTTPRouteGroup\nmetadata: {name: empty, namespace: a}\n\
                 spec: {matches: []}";
    for (rules, reason) in [
        (
            "[{kind: HTTPRouteGroup, name: none}]",
            "the HTTPRouteGroup of specs.smi-spec.io none does not exist",
        ),
        (
            "[{kind: TCPRoute, name: none}]",
            "the TCPRoute of specs.smi-spec.io none does not exist",
        ),
        (
            "[{kind: HTTPRouteGroup, name: api, matches: [read, none]}]",
            "the HTTPRouteGroup api has no match none",
        ),
        (
            "[{kind: HTTPRouteGroup, name: empty}]",
            "the HTTPRouteGroup empty has no matches",
        ),
        (
            "[{kind: HTTPRouteGroup, name: bad}]",
            "the HTTPRouteGroup bad is refused",
        ),
        (
            "[{kind: TCPRoute, name: tcp}, {kind: UDPRoute, name: dns}]",
            "the rule dns is a UDPRoute, and the mesh carries no UDP",
        ),
        (
            "[{kind: GRPCRoute, name: g}]",
            "the rule g is of kind GRPCRoute, and only HTTPRouteGroup and TCPRoute are supported",
        ),
        (
            "[{kind: TCPRoute, name: tcp, matches: [m]}]",
            "the rule tcp is a TCPRoute, which has no matches by name",
        ),
        ("[]", "it has no rules"),
    ] {
        let mut index = index(&[BASE, GROUP, TCP, bad, empty, &target("t", rules)]);
        let found = policy(&mut index, 8080);
        assert_eq!(
            (names(&found), found.authorizations.len()),
            (vec!["default"], 0),
            "{rules}"
        );
        let said = format!("TrafficTarget a/t: {reason}, so the target allows nothing");
        assert_eq!(
            problems(&index).iter().filter(|problem| **problem == said).count(),
            1,
            "{:?}",
            problems(&index)
        );
    }
}

#[test]
fn a_target_with_wrong_sources_permits_nothing_and_says_why() {
    let account = "[{kind: TCPRoute, name: tcp}]";
    for (source, reason) in [
        (
            "[{kind: Group, name: g}]",
            "the source g is of kind Group, and only ServiceAccount is supported",
        ),
        ("[]", "it has no sources"),
    ] {
        let (from, to) = (target("t", account), format!("sources: {source}\n"));
        let start = from.find("sources:").expect("sources");
        let end = start + from[start..].find('\n').expect("a line") + 1;
        let text = format!("{}{to}{}", &from[..start], &from[end..]);
        let mut index = index(&[BASE, TCP, &text]);
        assert_eq!(policy(&mut index, 8080).authorizations.len(), 0, "{source}");
        let said = format!("TrafficTarget a/t: {reason}, so the target allows nothing");
        assert_eq!(problems(&index), [said]);
    }
}

#[test]
fn a_wrong_group_is_reported_and_its_expressions_have_a_budget() {
    let group = |matches: &str| {
        format!(
            "apiVersion: specs.smi-spec.io/v1alpha4\nkind: HTTPRouteGroup\nmetadata: {{name: g, namespace: a}}\nspec: {{matches: {matches}}}"
        )
    };
    let many: Vec<String> = (0..300)
        .map(|at| format!("{{name: m{at}, pathRegex: '/{at}'}}"))
        .collect();
    for (matches, reason) in [
        (
            "[{name: m, headers: [{host: a}]}]",
            "it matches the header host, which is not supported",
        ),
        ("[{name: m, headers: {'a b': a}}]", "\"a b\" is not a valid header name"),
        ("[{name: m, methods: [get]}]", "\"get\" is not an HTTP method"),
        (
            &format!("[{}]", many.join(",")),
            "it has more than 256 regular expressions (limit OBJECT_PATTERNS)",
        ),
    ] {
        let index = index(&[BASE, &group(matches)]);
        let said = format!("HTTPRouteGroup a/g: {reason}, so the targets that name it allow nothing");
        assert_eq!(problems(&index), [said]);
    }
}

#[test]
fn the_targets_of_one_account_are_bounded() {
    let all: String = (0..70)
        .map(|at| target(&format!("t{at:02}"), "[{kind: TCPRoute, name: tcp}]") + "---\n")
        .collect();
    let mut index = index(&[BASE, TCP, &all]);
    assert_eq!(policy(&mut index, 8080).authorizations.len(), 64);
    let said = problems(&index);
    assert_eq!(said.len(), 6);
    assert_eq!(
        said[0],
        "TrafficTarget a/t64: the targets of its service account are over the limit ACCOUNT_TARGETS (64), so the target \
         allows nothing"
    );
}

#[test]
fn the_expressions_of_one_account_are_bounded_together() {
    // Each group is within its own budget.
    let groups: Vec<String> = (0..30)
        .map(|at| {
            format!(
                "apiVersion: specs.smi-spec.io/v1alpha4\nkind: HTTPRouteGroup\nmetadata: {{name: g{at:02}, namespace: a}}\n\
                 spec: {{matches: [{{name: m, pathRegex: '\\w{{{{7}}}}'}}, {{name: n, pathRegex: '\\w{{{{6}}}}'}}]}}\n---\n"
            )
        })
        .collect();
    let groups = groups.concat().replace("{{", "{").replace("}}", "}");
    let all: String = (0..30)
        .map(|at| {
            target(
                &format!("t{at:02}"),
                &format!("[{{kind: HTTPRouteGroup, name: g{at:02}}}]"),
            ) + "---\n"
        })
        .collect();
    let mut index = index(&[BASE, &groups, &all]);
    let permitted = names(&policy(&mut index, 8080)).len() - 1;
    assert!((1..30).contains(&permitted), "{permitted}");
    let said = problems(&index);
    assert_eq!(said.len(), 30 - permitted);
    assert!(
        said[0].contains("bytes of compiled regular expressions (limit POLICY_PATTERN_BYTES)"),
        "{said:?}"
    );
}

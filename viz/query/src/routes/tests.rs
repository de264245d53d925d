//! Routes computed from scrape texts of clients.

use super::*;
use crate::{
    objects::Profile,
    stat::tests::{objects, pod},
    window::Limits,
};

const DST: &str = "direction=\"outbound\",dst=\"voting-v1.vote.svc.cluster.local:80\"";

/// Web's proxy after `n` rounds: a route that is retried once in ten, and requests by an HTTPRoute to voting-v2.
fn scrape(n: u64) -> String {
    let vote = format!("{DST},rt_route=\"POST /vote\"");
    let policy = "parent_group=\"core\",parent_kind=\"Service\",parent_namespace=\"vote\",parent_name=\"voting-v2\",parent_port=\"80\"";
    let http = format!(
        "{policy},route_group=\"policy.linkerd.io\",route_kind=\"HTTPRoute\",route_namespace=\"vote\",route_name=\"v2\""
    );
    format!(
        "route_response_total{{{vote},status_code=\"200\",classification=\"success\"}} {}\n\
route_actual_response_total{{{vote},status_code=\"200\",classification=\"success\"}} {}\n\
route_actual_response_total{{{vote},status_code=\"503\",classification=\"failure\"}} {n}\n\
route_response_latency_ms_bucket{{{vote},status_code=\"200\",le=\"2\"}} {}\n\
route_response_latency_ms_bucket{{{vote},status_code=\"200\",le=\"+Inf\"}} {}\n\
outbound_http_route_request_statuses_total{{{http},hostname=\"\",http_status=\"200\",error=\"\"}} {n}\n\
outbound_http_route_request_statuses_total{{{http},hostname=\"\",http_status=\"\",error=\"REQUEST_TIMEOUT\"}} {n}\n\
outbound_http_route_request_duration_seconds_bucket{{le=\"0.05\",{http}}} {}\n\
outbound_http_route_request_duration_seconds_bucket{{le=\"+Inf\",{http}}} {}\n",
        10 * n,
        10 * n,
        10 * n,
        10 * n,
        2 * n,
        2 * n,
    )
}

fn window() -> Window {
    let mut window = Window::new(Limits::default());
    window.observe(&pod("vote", "web", true), 1_000, &scrape(0));
    window.observe(&pod("vote", "web", true), 11_000, &scrape(10));
    window
}

fn objects_with_profile() -> Objects {
    let profile = Profile {
        namespace: "vote".into(),
        service: "voting-v1".into(),
        routes: vec!["POST /vote".into(), "GET /votes".into()],
    };
    Objects {
        profiles: vec![profile],
        ..objects()
    }
}

fn rows(text: &str, to: Option<&str>) -> Vec<RouteRow> {
    let mut request = RoutesRequest::new(text.parse().expect("a resource"));
    request.namespace = Some("vote".into());
    request.to = to.map(|to| to.parse().expect("a resource"));
    routes(&request, &objects_with_profile(), &window()).expect("valid")
}

fn row<'a>(rows: &'a [RouteRow], route: &str) -> &'a RouteRow {
    let found = rows.iter().find(|row| row.route == route);
    found.unwrap_or_else(|| panic!("{route} in {rows:?}"))
}

#[test]
fn requests_to_a_service_count_for_its_workload() {
    for resource in ["deploy/voting-v1", "svc/voting-v1"] {
        let rows = rows(resource, None);
        let names: Vec<_> = rows.iter().map(|row| row.route.as_str()).collect();
        assert_eq!(names, ["GET /votes", "POST /vote", "[DEFAULT]"], "{resource}");
        let vote = row(&rows, "POST /vote");
        assert_eq!(
            (vote.name.as_str(), vote.authority.as_str()),
            ("voting-v1", "voting-v1")
        );
        assert_eq!((vote.success, vote.rps), (Some(1.0), Some(10.0)));
        assert_eq!(vote.latency_ms_p99, Some(2));
        assert_eq!((vote.actual_rps, row(&rows, "GET /votes").rps), (None, None));
    }
}

#[test]
fn attempts_and_responses_differ_with_to() {
    let rows = rows("deploy/web", Some("svc/voting-v1"));
    let vote = row(&rows, "POST /vote");
    assert_eq!((vote.name.as_str(), vote.authority.as_str()), ("web", "voting-v1"));
    assert_eq!((vote.effective_success, vote.effective_rps), (Some(1.0), Some(10.0)));
    assert_eq!((vote.actual_success, vote.actual_rps), (Some(10.0 / 11.0), Some(11.0)));
}

#[test]
fn policy_route_counts_its_errors_as_failures() {
    let rows = rows("svc/voting-v2", None);
    let v2 = row(&rows, "v2");
    assert_eq!(
        (v2.route_kind.as_str(), v2.success, v2.rps),
        ("httproute", Some(0.5), Some(2.0))
    );
    assert_eq!(
        v2.latency_ms_p50, None,
        "the first bucket of its histogram ends at 50 ms"
    );
    assert!(
        !rows.iter().any(|row| row.route == DEFAULT_ROUTE),
        "no profile: {rows:?}"
    );
    let request = RoutesRequest::new(Resource::all(Kind::Authority));
    assert!(routes(&request, &objects(), &window()).is_err());
}

/// Web's proxy after `n` rounds by the default route of `voting`, a Service over the pods of two workloads.
fn default_scrape(n: u64) -> String {
    let route = "parent_group=\"core\",parent_kind=\"Service\",parent_namespace=\"vote\",parent_name=\"voting\",route_kind=\"default\",route_name=\"http\"";
    let endpoint = |name: &str| {
        format!(
            "direction=\"outbound\",dst_namespace=\"vote\",dst_service=\"voting\",dst_deployment=\"{name}\",dst_pod=\"{name}-6b5f8-abcde\""
        )
    };
    let (v1, v2) = (endpoint("voting-v1"), endpoint("voting-v2"));
    format!(
        "outbound_http_route_request_statuses_total{{{route},http_status=\"200\",error=\"\"}} {}\n\
outbound_http_route_request_statuses_total{{{route},http_status=\"500\",error=\"\"}} {n}\n\
outbound_http_route_request_duration_seconds_bucket{{le=\"0.05\",{route}}} {}\n\
outbound_http_route_request_duration_seconds_bucket{{le=\"+Inf\",{route}}} {}\n\
response_total{{{v1},classification=\"success\"}} {}\n\
response_total{{{v2},classification=\"failure\"}} {n}\n\
response_latency_ms_bucket{{{v1},le=\"2\"}} {}\n\
response_latency_ms_bucket{{{v1},le=\"+Inf\"}} {}\n\
response_latency_ms_bucket{{{v2},le=\"5\"}} {n}\n\
response_latency_ms_bucket{{{v2},le=\"+Inf\"}} {n}\n",
        9 * n,
        10 * n,
        10 * n,
        9 * n,
        9 * n,
        9 * n,
    )
}

/// Rows of `resource` where `voting` selects the pods of both workloads.
fn default_rows(resource: &str, labels: Option<&str>) -> Vec<RouteRow> {
    let both = |name: &str| {
        let mut pod = Pod::clone(&pod("vote", name, true));
        pod.labels.insert("part".into(), "voting".into());
        std::sync::Arc::new(pod)
    };
    let mut objects = objects();
    objects.pods = vec![pod("vote", "web", true), both("voting-v1"), both("voting-v2")];
    objects.splits.clear();
    objects.services.retain(|service| service.name == "voting");
    objects.services[0].selector = [("part".to_owned(), "voting".to_owned())].into();
    let mut window = Window::new(Limits::default());
    window.observe(&pod("vote", "web", true), 1_000, &default_scrape(0));
    window.observe(&pod("vote", "web", true), 11_000, &default_scrape(10));
    let mut request = RoutesRequest::new(resource.parse().expect("a resource"));
    request.namespace = Some("vote".into());
    request.labels = labels.map(str::to_owned);
    routes(&request, &objects, &window).expect("valid")
}

#[test]
fn workloads_of_one_service_have_their_own_figures() {
    let rows = default_rows("deploy", None);
    let short: Vec<_> = rows
        .iter()
        .map(|row| (row.name.as_str(), row.success, row.rps))
        .collect();
    assert_eq!(
        short,
        [("voting-v1", Some(1.0), Some(9.0)), ("voting-v2", Some(0.0), Some(1.0))]
    );
    assert_eq!((rows[0].latency_ms_p99, rows[1].latency_ms_p99), (Some(2), Some(5)));
    let selected = default_rows("deploy", Some("app=voting-v2"));
    assert_eq!((selected.len(), selected[0].rps), (1, Some(1.0)));
}

#[test]
fn latencies_of_the_default_route_are_those_of_endpoints() {
    let rows = default_rows("svc/voting", None);
    assert_eq!((rows.len(), rows[0].success, rows[0].rps), (1, Some(0.9), Some(10.0)));
    assert_eq!((rows[0].latency_ms_p50, rows[0].latency_ms_p99), (Some(1), Some(5)));
}

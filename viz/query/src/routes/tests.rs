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
    assert!(
        v2.latency_ms_p50.is_some_and(|ms| ms <= 50),
        "seconds become milliseconds"
    );
    assert!(
        !rows.iter().any(|row| row.route == DEFAULT_ROUTE),
        "no profile: {rows:?}"
    );
    let request = RoutesRequest::new(Resource::all(Kind::Authority));
    assert!(routes(&request, &objects(), &window()).is_err());
}

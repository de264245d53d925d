//! Rows computed from scrape texts.

use std::sync::Arc;

use super::*;
use crate::{
    objects::{PodKey, Service, Split, Workload},
    window::Limits,
};

pub(crate) fn pod(namespace: &str, deployment: &str, meshed: bool) -> Arc<Pod> {
    Arc::new(Pod {
        key: PodKey {
            namespace: namespace.into(),
            name: format!("{deployment}-6b5f8-abcde").into(),
        },
        ip: None,
        admin_port: 4191,
        tap_port: Some(4190),
        owners: vec![
            (Kind::ReplicaSet, format!("{deployment}-6b5f8")),
            (Kind::Deployment, deployment.to_owned()),
        ],
        labels: [("app".to_owned(), deployment.to_owned())].into(),
        phase: "Running".to_owned(),
        ready: true,
        meshed,
        identity: Some(format!(
            "{deployment}.{namespace}.serviceaccount.identity.linkerd.cluster.local"
        )),
    })
}

pub(crate) fn objects() -> Objects {
    let workload = |name: &str| Workload {
        kind: Kind::Deployment,
        namespace: "vote".to_owned(),
        name: name.to_owned(),
        labels: [("app".to_owned(), name.to_owned())].into(),
    };
    let service = |name: &str| Service {
        namespace: "vote".into(),
        name: name.into(),
        labels: BTreeMap::new(),
        selector: [("app".to_owned(), name.to_owned())].into(),
    };
    Objects {
        profiles: vec![],
        pods: vec![
            pod("vote", "web", true),
            pod("vote", "voting-v1", true),
            pod("vote", "voting-v2", true),
            pod("vote", "legacy", false),
        ],
        workloads: ["web", "voting-v1", "legacy"].map(workload).into(),
        services: ["voting", "voting-v1", "voting-v2"].map(service).into(),
        splits: vec![Split {
            namespace: "vote".into(),
            apex: "voting".into(),
            leaves: vec![("voting-v1".into(), "90".into()), ("voting-v2".into(), "10".into())],
        }],
    }
}

/// Web's proxy after `n` rounds, each of nine requests to v1 that succeed and one to v2 that fails.
pub(crate) fn web_scrape(n: u64) -> String {
    let load = "load.vote.serviceaccount.identity.linkerd.cluster.local";
    let inbound = format!(
        "direction=\"inbound\",target_addr=\"10.9.0.2:8080\",target_ip=\"10.9.0.2\",target_port=\"8080\",tls=\"true\",client_id=\"{load}\",srv_group=\"\",srv_kind=\"default\",srv_name=\"all-unauthenticated\",srv_port=\"8080\""
    );
    let leaf = |name: &str, ip: &str| {
        format!(
            "direction=\"outbound\",peer=\"dst\",authority=\"{name}.vote.svc.cluster.local\",target_addr=\"{ip}:8080\",target_ip=\"{ip}\",target_port=\"8080\",tls=\"true\",server_id=\"{name}.vote.serviceaccount.identity.linkerd.cluster.local\",dst_control_plane_ns=\"linkerd\",dst_deployment=\"{name}\",dst_namespace=\"vote\",dst_pod=\"{name}-6b5f8-abcde\",dst_service=\"{name}\",dst_serviceaccount=\"{name}\""
        )
    };
    let (v1, v2) = (leaf("voting-v1", "10.9.0.3"), leaf("voting-v2", "10.9.0.4"));
    let http = |labels: &str| labels.replace("peer=\"dst\",", "");
    format!(
        "# HELP response_total Total count of HTTP responses.\n# TYPE response_total counter\n\
response_total{{{inbound},status_code=\"200\",classification=\"success\",grpc_status=\"\",error=\"\"}} {}\n\
response_total{{{inbound},status_code=\"500\",classification=\"failure\",grpc_status=\"\",error=\"\"}} {n}\n\
response_total{{direction=\"inbound\",target_addr=\"10.9.0.2:4191\",target_ip=\"10.9.0.2\",target_port=\"4191\",tls=\"true\",client_id=\"mesh-viz\",status_code=\"200\",classification=\"success\"}} {n}\n\
response_total{{direction=\"inbound\",target_port=\"8080\",tls=\"no_identity\",route_kind=\"default\",route_name=\"probe\",classification=\"success\"}} {n}\n\
response_latency_ms_bucket{{{inbound},status_code=\"200\",le=\"1\"}} 0\n\
response_latency_ms_bucket{{{inbound},status_code=\"200\",le=\"2\"}} {}\n\
response_latency_ms_bucket{{{inbound},status_code=\"200\",le=\"+Inf\"}} {}\n\
response_total{{{},status_code=\"200\",classification=\"success\",grpc_status=\"\",error=\"\"}} {}\n\
response_total{{{},status_code=\"500\",classification=\"failure\",grpc_status=\"\",error=\"\"}} {n}\n\
tcp_open_connections{{{v1}}} 1\n\
tcp_open_connections{{{inbound},peer=\"src\"}} 3\n\
tcp_read_bytes_total{{{inbound},peer=\"src\"}} {}\n\
process_start_time_seconds 1763692800\n# EOF\n",
        9 * n,
        9 * n,
        10 * n,
        http(&v1),
        9 * n,
        http(&v2),
        1000 * n,
    )
}

fn window(scrapes: &[(u64, u64)]) -> Window {
    let mut window = Window::new(Limits::default());
    for (at, n) in scrapes {
        window.observe(&pod("vote", "web", true), *at, &web_scrape(*n));
    }
    window
}

fn rows(text: &str, change: impl FnOnce(&mut StatRequest), window: &Window) -> Vec<StatRow> {
    let mut request = StatRequest::new(text.parse().expect("a resource"));
    change(&mut request);
    stat(&request, &objects(), window).expect("valid")
}

#[test]
fn inbound_rows_use_the_covered_time_and_exclude_mesh_traffic() {
    let window = window(&[(1_000, 10), (2_000, 20), (5_000, 50)]);
    let rows = rows("deploy", |_| {}, &window);
    assert_eq!(
        rows.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(),
        ["voting-v1", "voting-v2", "web"],
        "legacy has no proxy"
    );
    let web = &rows[2];
    assert_eq!((web.successes, web.failures, web.covered_ms), (360, 40, 4000));
    assert_eq!((web.success, web.rps, web.secured), (Some(0.9), Some(100.0), Some(1.0)));
    // 360 of 400 took 1 to 2 ms: the median is at rank 200 of these.
    assert_eq!((web.latency_ms_p50, web.latency_ms_p99), (Some(2), Some(2)));
    assert_eq!(
        (web.tcp_open_connections, web.tcp_read_bytes_rate),
        (Some(3), Some(10_000.0))
    );
    assert_eq!(web.meshed, Some(Meshed { meshed: 1, running: 1 }));
    assert_eq!((rows[0].success, rows[0].rps), (None, None));
}

#[test]
fn shorter_window_excludes_older_samples() {
    let window = window(&[(1_000, 10), (2_000, 20), (5_000, 50)]);
    let rows = rows("deploy/web", |r| r.window_ms = 3_000, &window);
    assert_eq!((rows[0].successes, rows[0].covered_ms), (270, 3000));
}

#[test]
fn restart_does_not_count_backwards() {
    let window = window(&[(1_000, 10), (2_000, 3), (3_000, 4)]);
    let rows = rows("deploy/web", |_| {}, &window);
    assert_eq!((rows[0].successes, rows[0].failures), (36, 4));
}

#[test]
fn single_scrape_has_no_rate() {
    let rows = rows("deploy/web", |_| {}, &window(&[(1_000, 10)]));
    assert_eq!(
        (rows[0].rps, rows[0].tcp_open_connections, rows[0].tcp_read_bytes_rate),
        (None, Some(3), None)
    );
}

#[test]
fn filters_use_the_outbound_side() {
    let window = window(&[(1_000, 0), (2_000, 10)]);
    let to = rows(
        "deploy",
        |r| r.to = Some("deploy/voting-v1".parse().expect("valid")),
        &window,
    );
    assert_eq!(
        to.iter().map(|r| (r.name.as_str(), r.successes)).collect::<Vec<_>>(),
        [("web", 90)]
    );
    let apex = rows("deploy", |r| r.to = Some("svc/voting".parse().expect("valid")), &window);
    assert_eq!(
        apex.iter().map(|r| (r.successes, r.failures)).collect::<Vec<_>>(),
        [(90, 10)],
        "an apex includes its leaves"
    );
    let from = rows(
        "deploy",
        |r| r.from = Some("deploy/web".parse().expect("valid")),
        &window,
    );
    assert_eq!(
        from.iter().map(|r| (r.name.as_str(), r.rps)).collect::<Vec<_>>(),
        [("voting-v1", Some(90.0)), ("voting-v2", Some(10.0))]
    );
    let nowhere = |r: &mut StatRequest| {
        r.to = Some(Resource::all(Kind::Deployment));
        r.to_namespace = Some("other".into());
    };
    assert!(rows("deploy", nowhere, &window).is_empty());
}

#[test]
fn split_service_has_a_row_per_leaf() {
    let window = window(&[(1_000, 0), (2_000, 10)]);
    let rows = rows("svc/voting", |_| {}, &window);
    let split = |r: &StatRow| {
        (
            r.leaf.clone().unwrap_or_default(),
            r.weight.clone().unwrap_or_default(),
            r.rps,
        )
    };
    let expected = [
        ("voting-v1".into(), "90".into(), Some(90.0)),
        ("voting-v2".into(), "10".into(), Some(10.0)),
    ];
    assert_eq!(rows.iter().map(split).collect::<Vec<_>>(), expected);
}

#[test]
fn lists_every_kind_and_applies_selectors() {
    let window = window(&[(1_000, 0), (2_000, 10)]);
    assert_eq!(rows("au", |_| {}, &window).len(), 2);
    assert_eq!(
        rows("ns", |r| r.namespace = Some("default".into()), &window)[0].name,
        "vote"
    );
    assert_eq!(rows("po", |_| {}, &window)[1].status.as_deref(), Some("Running"));
    assert_eq!(rows("deploy", |r| r.unmeshed = true, &window).len(), 4);
    assert_eq!(rows("deploy", |r| r.labels = Some("app=web".into()), &window).len(), 1);
}

#[test]
fn starting_pod_has_a_row_but_is_not_meshed_yet() {
    let mut objects = objects();
    for pod in &mut objects.pods {
        Arc::make_mut(pod).phase = "Pending".to_owned();
    }
    let request = StatRequest::new("deploy/web".parse().expect("a resource"));
    let rows = stat(&request, &objects, &window(&[])).expect("valid");
    assert_eq!(rows[0].meshed, Some(Meshed { meshed: 0, running: 1 }));
}

#[test]
fn rejects_contradictory_requests() {
    let rejection = |change: fn(&mut StatRequest), text: &str| {
        let mut request = StatRequest::new(text.parse().expect("a resource"));
        change(&mut request);
        stat(&request, &objects(), &window(&[]))
            .expect_err("rejected")
            .to_string()
    };
    assert!(rejection(|r| r.from = Some(Resource::all(Kind::Service)), "deploy").contains("--from service"));
    assert!(rejection(|r| r.labels = Some("a in b".into()), "deploy").contains("\"a in b\""));
    let both = |r: &mut StatRequest| {
        r.to = Some(Resource::all(Kind::Pod));
        r.from = Some(Resource::all(Kind::Pod));
    };
    assert!(rejection(both, "deploy").contains("exclude each other"));
}

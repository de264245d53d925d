//! A pod whose scrape claims what is not so.

use std::sync::Arc;

use viz_api::{EdgesRequest, StatRequest};

use super::*;
use crate::{
    edges, stat,
    stat::tests::{objects, pod, web_scrape},
    window::Limits,
};

/// Scrape with one series, whose destination has these labels beside the direction.
fn lie(labels: &str) -> String {
    format!(
        "tcp_open_connections{{direction=\"outbound\",peer=\"dst\",tls=\"true\",{labels}}} 1\n\
         response_total{{direction=\"outbound\",tls=\"true\",{labels},classification=\"failure\"}} 7\n"
    )
}

/// Numbers of edges and of failures that the scrape of one pod makes.
fn counted(text: &str) -> (usize, u64) {
    let mut window = Window::new(Limits::default());
    let liar = pod("vote", "web", true);
    window.observe(&liar, 1_000, "request_total 0\n");
    window.observe(&liar, 2_000, text);
    let mut objects = objects();
    Arc::make_mut(&mut objects.pods[1]).ip = Some("10.9.0.3".parse().expect("an address"));
    let request = EdgesRequest {
        kind: Kind::Deployment,
        namespace: None,
        window_ms: 60_000,
        include_scrapes: false,
    };
    let edges = edges(&request, &objects, &window).expect("valid").len();
    let mut request = StatRequest::new("deploy/web".parse().expect("a resource"));
    request.to = Some("deploy".parse().expect("a resource"));
    request.namespace = Some("vote".to_owned());
    let rows = stat(&request, &objects, &window).expect("valid");
    (edges, rows.iter().map(|row| row.failures).sum())
}

#[test]
fn figures_count_for_destinations_that_are_what_the_labels_say() {
    let honest = "target_ip=\"10.9.0.3\",server_id=\"voting-v1.vote.serviceaccount.identity.linkerd.cluster.local\",\
        dst_deployment=\"voting-v1\",dst_namespace=\"vote\",dst_pod=\"voting-v1-6b5f8-abcde\",dst_service=\"voting-v1\"";
    assert_eq!(counted(&lie(honest)), (1, 7));
    for (what, is, claimed) in [
        ("deployment", "dst_deployment=\"voting-v1\"", "dst_deployment=\"web\""),
        ("pod", "voting-v1-6b5f8-abcde", "voting-v1-6b5f8-other"),
        ("namespace", "dst_namespace=\"vote\"", "dst_namespace=\"bank\""),
        ("service", "dst_service=\"voting-v1\"", "dst_service=\"voting-v2\""),
        ("address", "10.9.0.3", "10.9.0.99"),
        ("identity", "server_id=\"voting-v1.", "server_id=\"bank."),
        ("no pod", "dst_pod=\"voting-v1-6b5f8-abcde\"", "dst_pod=\"\""),
    ] {
        assert!(honest.contains(is), "{what}");
        assert_eq!(counted(&lie(&honest.replace(is, claimed))), (0, 0), "{what}");
    }
}

#[test]
fn pods_of_the_last_minutes_are_destinations() {
    let mut window = Window::new(Limits::default());
    let all = objects();
    window.retain(&all, 1_000);
    let none = Objects::default();
    window.retain(&none, 2_000);
    let labels = "{direction=\"outbound\",dst_deployment=\"web\",dst_namespace=\"vote\",dst_pod=\"web-6b5f8-abcde\"}";
    let labels = Labels::read(labels.trim_matches(['{', '}']), &mut Default::default());
    assert!(Destinations::new(&none, &window).confirm(&labels));
    window.retain(&none, 1_000_000);
    assert!(!Destinations::new(&none, &window).confirm(&labels), "long gone");
}

#[test]
fn labels_of_a_pod_take_bounded_memory() {
    let limits = Limits {
        label_bytes_per_pod: 10_000,
        ..Limits::default()
    };
    let mut window = Window::new(limits);
    let liar = pod("vote", "web", true);
    for at in 0..100 {
        let text = lie(&format!("dst_pod=\"{at}{}\"", "x".repeat(2000)));
        window.observe(&liar, at, &text);
    }
    assert!(window.refused() >= 190, "{}", window.refused());
    let before = window.refused();
    window.observe(&liar, 100, &format!("response_total{{a=\"{}\"}} 1\n", "x".repeat(9000)));
    assert_eq!(window.refused(), before + 1, "too long");
    assert!(web_scrape(1).len() < 10_000);
}

//! Edges computed from scrape texts of both ends.

use super::*;
use crate::{
    stat::tests::{objects, pod, web_scrape},
    window::Limits,
};

const WEB: &str = "web.vote.serviceaccount.identity.linkerd.cluster.local";

fn request(kind: Kind) -> EdgesRequest {
    EdgesRequest {
        kind,
        namespace: Some("vote".into()),
        window_ms: 60_000,
        include_scrapes: false,
    }
}

fn voting_scrape(client: &str) -> String {
    format!(
        "tcp_open_total{{direction=\"inbound\",peer=\"src\",target_addr=\"10.9.0.3:8080\",tls=\"true\",client_id=\"{client}\"}} 1\n"
    )
}

#[test]
fn edge_has_both_identities_and_confirms_the_client() {
    let mut window = Window::new(Limits::default());
    let web = pod("vote", "web", true);
    window.observe(&web, 1_000, &web_scrape(0));
    window.observe(&web, 2_000, &web_scrape(10));
    window.observe(&pod("vote", "voting-v1", true), 2_000, &voting_scrape(WEB));
    let rows = edges(&request(Kind::Deployment), &objects(), &window).expect("valid");
    let short: Vec<_> = rows
        .iter()
        .map(|r| {
            (
                r.dst.as_str(),
                r.open_connections,
                r.client_id_witnessed,
                r.no_tls_reason.as_str(),
            )
        })
        .collect();
    assert_eq!(short, [("voting-v1", 1, true, ""), ("voting-v2", 0, false, "")]);
    assert_eq!(
        (rows[0].client_id.as_str(), rows[0].server_id.as_str()),
        (WEB, "voting-v1.vote.serviceaccount.identity.linkerd.cluster.local")
    );
}

#[test]
fn plaintext_edge_has_a_reason_and_no_identity() {
    let mut window = Window::new(Limits::default());
    let text = "tcp_open_connections{direction=\"outbound\",peer=\"dst\",tls=\"no_identity\",no_tls_reason=\"not_provided_by_service_discovery\",dst_deployment=\"legacy\",dst_namespace=\"vote\",dst_pod=\"legacy-6b5f8-abcde\"} 2\n";
    window.observe(&pod("vote", "web", true), 1_000, text);
    let rows = edges(&request(Kind::Deployment), &objects(), &window).expect("valid");
    assert_eq!(
        (rows.len(), rows[0].client_id.as_str(), rows[0].open_connections),
        (1, "", 2)
    );
    assert_eq!(rows[0].no_tls_reason, "not_provided_by_service_discovery");
}

#[test]
fn excludes_other_namespaces_and_rejects_services() {
    let mut window = Window::new(Limits::default());
    window.observe(&pod("vote", "web", true), 1_000, &web_scrape(1));
    let elsewhere = EdgesRequest {
        namespace: Some("default".into()),
        ..request(Kind::Deployment)
    };
    assert_eq!(edges(&elsewhere, &objects(), &window), Ok(Vec::new()));
    assert_eq!(
        edges(&request(Kind::Service), &objects(), &window),
        Err(Error::Edges(Kind::Service))
    );
}

#[test]
fn excludes_scrapes_unless_requested() {
    let mut window = Window::new(Limits::default());
    let text = "tcp_open_connections{direction=\"outbound\",peer=\"dst\",target_port=\"4191\",tls=\"true\",dst_deployment=\"web\",dst_namespace=\"vote\",dst_pod=\"web-6b5f8-abcde\"} 1\n";
    window.observe(&pod("linkerd-viz", "mesh-viz", true), 1_000, text);
    assert_eq!(edges(&request(Kind::Deployment), &objects(), &window), Ok(Vec::new()));
    let all = EdgesRequest {
        include_scrapes: true,
        ..request(Kind::Deployment)
    };
    let rows = edges(&all, &objects(), &window).expect("valid");
    assert_eq!((rows.len(), rows[0].src.as_str()), (1, "mesh-viz"));
}

//! Authorizations computed from a scrape text.

use super::*;
use crate::{stat::tests::pod, window::Limits};

fn scrape(n: u64) -> String {
    let server = "direction=\"inbound\",target_addr=\"10.9.0.2:8080\",target_port=\"8080\",tls=\"true\",client_id=\"web\",srv_group=\"policy.linkerd.io\",srv_kind=\"server\",srv_name=\"api\",srv_port=\"8080\"";
    let route = "route_group=\"\",route_kind=\"default\",route_name=\"default\"";
    let authz = "authz_group=\"policy.linkerd.io\",authz_kind=\"authorizationpolicy\",authz_name=\"web-only\"";
    let probe = "direction=\"inbound\",target_port=\"8080\",srv_kind=\"server\",srv_name=\"api\",route_kind=\"default\",route_name=\"probe\",authz_kind=\"default\",authz_name=\"probe\"";
    let deny = server.replace("direction=\"inbound\",", "");
    let plain = deny.replace("tls=\"true\",client_id=\"web\"", "tls=\"no_identity\"");
    format!(
        "response_total{{{server},{route},{authz},status_code=\"200\",classification=\"success\"}} {}\n\
response_total{{{probe},classification=\"success\"}} {n}\n\
response_latency_ms_bucket{{{server},{route},{authz},le=\"1\"}} {}\n\
response_latency_ms_bucket{{{server},{route},{authz},le=\"+Inf\"}} {}\n\
inbound_http_authz_deny_total{{{deny},{route}}} {}\n\
inbound_http_authz_deny_total{{{plain},{route}}} {}\n",
        10 * n,
        10 * n,
        10 * n,
        2 * n,
        3 * n,
    )
}

#[test]
fn separates_allowed_from_denied_requests() {
    let mut window = Window::new(Limits::default());
    window.observe(&pod("vote", "web", true), 1_000, &scrape(0));
    window.observe(&pod("vote", "web", true), 11_000, &scrape(10));
    let mut request = AuthzRequest::new("deploy/web".parse().expect("a resource"));
    request.namespace = Some("vote".into());
    let rows = authz(&request, &window).expect("valid");
    let [denied, allowed] = &rows[..] else {
        panic!("{rows:?}")
    };
    assert_eq!(
        (denied.authorization.as_str(), denied.unauthorized),
        (UNAUTHORIZED, Some(5.0))
    );
    let clients: Vec<_> = denied.clients.iter().map(|c| (c.client_id.as_str(), c.rps)).collect();
    assert_eq!(clients, [("", 3.0), ("web", 2.0)]);
    assert_eq!(allowed.clients, []);
    assert_eq!((denied.server.as_str(), denied.route.as_str()), ("api:8080", "default"));
    assert_eq!(allowed.authorization, "authorizationpolicy/web-only");
    assert_eq!(
        (allowed.success, allowed.rps, allowed.unauthorized),
        (Some(1.0), Some(10.0), None)
    );
    assert_eq!(allowed.latency_ms_p50, Some(1));

    request.namespace = Some("other".into());
    assert_eq!(authz(&request, &window), Ok(vec![]));
    request.resource = "svc/web".parse().expect("a resource");
    assert!(authz(&request, &window).is_err_and(|e| e.to_string().contains("no authorizations of its own")));
}

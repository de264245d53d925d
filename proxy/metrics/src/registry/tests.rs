//! The text and its numbers, from outside.

use std::{collections::BTreeMap, time::Duration};

use http::StatusCode;
use proxy_model::{Id, tap::Direction};

use super::*;
use crate::{Class, NoTls, OutboundLabels, Tls, names::error};

fn line<'a>(text: &'a str, start: &str) -> Vec<&'a str> {
    text.lines().filter(|l| l.starts_with(start)).collect()
}

#[test]
fn requests_of_two_workers_are_one_series_with_upstreams_labels() {
    let metrics = Metrics::default();
    let id: Id = "web.ns.serviceaccount.identity.linkerd.cluster.local"
        .parse()
        .expect("valid");
    let endpoint = BTreeMap::from([
        ("pod".to_owned(), "web-1".to_owned()),
        ("namespace".to_owned(), "ns".to_owned()),
    ]);
    let labels = OutboundLabels {
        authority: Some("web.ns.svc.cluster.local"),
        target: "10.9.0.2:8080".parse().expect("valid"),
        tls: Tls::Server(&id),
        endpoint: &endpoint,
    };
    for _ in 0..2 {
        let slot = metrics.recorder().outbound_http(&labels);
        let mut guard = slot.request();
        guard.response(StatusCode::OK);
        guard.end(Class::Success, None);
        drop(slot.request());
        let guard = slot.request();
        guard.fail(Some(StatusCode::GATEWAY_TIMEOUT), error::FAIL_FAST);
    }
    let text = metrics.render();
    let set = "direction=\"outbound\",authority=\"web.ns.svc.cluster.local\",target_addr=\"10.9.0.2:8080\",\
               target_ip=\"10.9.0.2\",target_port=\"8080\",tls=\"true\",\
               server_id=\"web.ns.serviceaccount.identity.linkerd.cluster.local\",dst_namespace=\"ns\",dst_pod=\"web-1\"";
    assert_eq!(line(&text, "request_total"), [format!("request_total{{{set}}} 6")]);
    assert_eq!(
        line(&text, "response_total"),
        [
            format!(
                "response_total{{{set},status_code=\"\",classification=\"failure\",grpc_status=\"\",error=\"cancelled\"}} 2"
            ),
            format!(
                "response_total{{{set},status_code=\"200\",classification=\"success\",grpc_status=\"\",error=\"\"}} 2"
            ),
            format!(
                "response_total{{{set},status_code=\"504\",classification=\"failure\",grpc_status=\"\",error=\"failfast\"}} 2"
            ),
        ]
    );
    let buckets = line(&text, "response_latency_ms_bucket");
    assert_eq!(buckets.len(), 2 * 26);
    assert_eq!(
        buckets[25],
        format!("response_latency_ms_bucket{{{set},status_code=\"200\",le=\"+Inf\"}} 2")
    );
    assert!(text.ends_with("# EOF\n") && text.contains("\nprocess_cpu_seconds_total "));
}

#[test]
fn connections_are_open_until_their_guard_is_dropped() {
    let metrics = Metrics::default();
    let slot = metrics
        .recorder()
        .outbound_accept("10.0.0.1:80".parse().expect("valid"));
    let mut first = slot.open();
    let second = slot.open();
    first.read(3);
    first.wrote(5);
    first.failed(&std::io::ErrorKind::ConnectionReset.into());
    drop(first);
    let text = metrics.render();
    assert!(text.contains("no_tls_reason=\"loopback\"} 1\n"), "{text}");
    assert!(line(&text, "tcp_close_total")[1].ends_with("errno=\"ECONNRESET\"} 1"));
    assert!(line(&text, "tcp_open_connections")[0].ends_with(" 1"));
    drop(second);
    assert!(line(&metrics.render(), "tcp_open_connections")[0].ends_with(" 0"));
}

#[test]
fn series_beyond_the_limit_count_into_one() {
    let limits = Limits {
        series: 2,
        ..Limits::default()
    };
    let metrics = Metrics::with_limits(BuildInfo::default(), limits);
    let recorder = metrics.recorder();
    let counters: Vec<_> = (0..5)
        .map(|i| recorder.counter(&names::REQUEST_TOTAL, &format!("target_port=\"{i}\"")))
        .collect();
    counters.iter().for_each(Counter::inc);
    let text = metrics.render();
    assert!(text.contains("request_total{overflow=\"true\"} 3\n"), "{text}");
    assert!(
        text.contains("mesh_limit_refused_total{limit=\"METRIC_SERIES\"} 3\n"),
        "{text}"
    );
}

#[test]
fn idle_series_are_dropped_unless_they_are_held() {
    let limits = Limits {
        retain_idle: Duration::ZERO,
        ..Limits::default()
    };
    let metrics = Metrics::with_limits(BuildInfo::default(), limits);
    let recorder = metrics.recorder();
    let held = recorder.counter(&names::REQUEST_TOTAL, "a=\"1\"");
    held.inc();
    recorder.counter(&names::REQUEST_TOTAL, "a=\"2\"").inc();
    let text = metrics.render();
    assert_eq!(line(&text, "request_total"), ["request_total{a=\"1\"} 1"]);
    assert!(text.contains("mesh_metrics_series_evicted_total 1\n"), "{text}");
}

#[test]
fn bytes_of_all_series_are_limited() {
    let limits = Limits {
        bytes: 3000,
        retain_idle: Duration::ZERO,
        ..Limits::default()
    };
    let metrics = Metrics::with_limits(BuildInfo::default(), limits);
    let recorder = metrics.recorder();
    for number in 0..100 {
        let labels = format!("a=\"{number}{}\"", "x".repeat(200));
        recorder.counter(&names::REQUEST_TOTAL, &labels).inc();
    }
    let printed = |text: &str| {
        line(text, "request_total{")
            .iter()
            .map(|line| line.len())
            .sum::<usize>()
    };
    assert!(metrics.0.registry.lock().expect("whole").bytes <= 3000 + 200);
    let text = metrics.render();
    assert!(text.contains("limit=\"METRIC_BYTES\"} 8"), "{text}");
    assert!(printed(&text) < 3000, "{text}");
    // Room that idle series gave back is used again.
    recorder.counter(&names::REQUEST_TOTAL, "b=\"1\"").inc();
    assert!(metrics.render().contains("mesh_metrics_series_evicted_total"));
    metrics.evict_idle();
    assert_eq!(
        metrics.0.registry.lock().expect("whole").families[names::REQUEST_TOTAL.index].len(),
        0
    );
}

#[test]
fn families_longer_than_a_lock_are_printed_whole() {
    let metrics = Metrics::default();
    let recorder = metrics.recorder();
    for number in 0..3 * AT_ONCE {
        recorder
            .counter(&names::REQUEST_TOTAL, &format!("a=\"{number}\""))
            .inc();
    }
    let text = metrics.render();
    assert_eq!(line(&text, "request_total{").len(), 3 * AT_ONCE);
    assert_eq!(line(&text, "# TYPE request_total ").len(), 1);
}

#[test]
fn a_miss_wakes_the_task_that_makes_room() {
    use std::{
        pin::pin,
        task::{Context, Waker},
    };
    let limits = Limits {
        series: 0,
        ..Limits::default()
    };
    let metrics = Metrics::with_limits(BuildInfo::default(), limits);
    let mut cx = Context::from_waker(Waker::noop());
    let mut shortage = pin!(metrics.shortage());
    assert!(shortage.as_mut().poll(&mut cx).is_pending());
    metrics.recorder().counter(&names::REQUEST_TOTAL, "a=\"1\"").inc();
    assert!(shortage.as_mut().poll(&mut cx).is_ready());
    assert!(pin!(metrics.shortage()).poll(&mut cx).is_pending(), "taken");
}

#[test]
fn ages_count_from_the_last_message_and_end_with_their_answer() {
    let metrics = Metrics::default();
    let mut age = metrics.answer_age("endpoints", "web.ns:80");
    age.confirmed();
    age.disconnected();
    age.confirmed();
    let text = metrics.render();
    assert!(
        text.contains("mesh_discovery_age_seconds{kind=\"endpoints\",target=\"web.ns:80\"} 0.0"),
        "{text}"
    );
    assert!(text.contains("mesh_discovery_connected{kind=\"endpoints\"} 1\n"));
    assert!(text.contains("mesh_discovery_reconnects_total{kind=\"endpoints\"} 1\n"));
    drop(age);
    assert!(!metrics.render().contains("mesh_discovery_age_seconds{"));
}

#[test]
fn ages_of_more_ports_than_a_workload_declares_are_one_series() {
    let metrics = Metrics::default();
    let age = |port: usize| metrics.answer_age("inbound", &port.to_string());
    let most = limits::EAGER_PORTS.value;
    let ages: Vec<_> = (0..most + 100).map(age).collect();
    let text = metrics.render();
    assert_eq!(line(&text, "mesh_discovery_age_seconds{").len(), most + 1);
    assert!(text.contains("{kind=\"inbound\",target=\"other\"}"));
    drop(ages);
    drop(age(9));
    let _again = age(9);
    assert!(metrics.render().contains("target=\"9\""), "room again");
}

#[test]
fn label_values_are_escaped_and_registry_histograms_have_le_first() {
    let metrics = Metrics::default();
    let recorder = metrics.recorder();
    let labels = BTreeMap::from([("route".to_owned(), "GET \"/a\"\\".to_owned())]);
    let _route = recorder.profile_route(Direction::Outbound, "web:80", &labels);
    let server = crate::ServerLabels {
        kind: "default",
        name: "all-unauthenticated",
        group: "",
        port: Some(80),
    };
    recorder.inbound_detected(&server, "http/1", Duration::from_millis(2));
    let text = metrics.render();
    assert!(text.contains(r#"rt_route="GET \"/a\"\\""#), "{text}");
    assert!(
        text.contains("inbound_tcp_detect_http_duration_seconds_bucket{le=\"0.1\",srv_group=\"\""),
        "{text}"
    );
    assert_eq!(Tls::None(NoTls::Loopback), Tls::None(NoTls::Loopback));
}

//! Hostile scrapes: a pod writes its own metrics.

use std::{collections::BTreeMap, sync::Arc};

use tests_fuzz::{Target, within};
use viz_query::{Limits, Pod, PodKey, Window, objects::LabelSelector, parse};

const SCRAPE: &str = "# HELP request_total Requests\n# TYPE request_total counter\n\
    request_total{direction=\"outbound\",dst_service=\"web\",tls=\"true\"} 12\n\
    response_latency_ms_bucket{direction=\"inbound\",le=\"10\"} 3\n\
    response_latency_ms_bucket{direction=\"inbound\",le=\"+Inf\"} 4 1700000000\n\
    response_total{classification=\"success\",error=\"}\\\"\\n,z=\\\\\"} 5\n\
    process_start_time_seconds 1.7e9\ninbound_http_authz_allow_total{srv_name=\"s\",authz_name=\"a\"} 1\n";

fn pod(name: &str) -> Arc<Pod> {
    Arc::new(Pod {
        key: PodKey {
            namespace: "ns".into(),
            name: name.into(),
        },
        ip: None,
        admin_port: 4191,
        tap_port: None,
        owners: Vec::new(),
        labels: BTreeMap::new(),
        phase: "Running".to_owned(),
        ready: true,
        meshed: true,
        identity: None,
    })
}

#[test]
fn fuzz_scrape() {
    let target = Target {
        name: "fuzz_scrape",
        seeds: vec![
            SCRAPE.as_bytes().to_vec(),
            b"request_total{} NaN\nrequest_total{a=\"\\".to_vec(),
        ],
        words: &[
            "request_total{",
            "} 1\n",
            "=\"",
            "\\\"",
            "\\",
            "NaN",
            "-Inf",
            "1e999",
            "le=\"",
            ",",
            "\u{fffd}",
            "µ",
        ],
    };
    target.run(|bytes| {
        let text = &String::from_utf8_lossy(bytes);
        for line in parse::lines(text) {
            assert!(line.series.starts_with(line.name) && text.contains(line.series));
            let pairs = within(64 * line.labels.len() + 1024, || parse::labels(line.labels));
            let length: usize = pairs.iter().map(|(key, value)| key.len() + value.len()).sum();
            assert!(length <= line.labels.len(), "labels grow");
        }
        let limits = Limits {
            label_bytes_per_pod: 1 << 20,
            window_ms: 60_000,
            pods: 2,
            series_per_pod: 8,
            points: 200,
        };
        let mut window = Window::new(limits);
        within(256 * text.len() + 64 * 1024, || {
            for at in 0..4 {
                for name in ["a", "b", "c"] {
                    window.observe(&pod(name), at * 20_000, text);
                }
            }
        });
        assert!(window.refused() >= 4, "the third pod is one too many");
        let _ = within(64 * text.len() + 1024, || LabelSelector::parse(text));
    });
}

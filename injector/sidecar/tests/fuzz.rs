//! Hostile annotations: a tenant writes them, the injector makes containers of them.

use injector_sidecar::{Annotations, Config, Namespace, Pod, PodFacts, SidecarSpec, annotations};
use serde_json::{Map, Value, json};
use tests_fuzz::{Target, within};

/// Annotations as lines `key: value`.
const SEEDS: [&str; 4] = [
    "config.linkerd.io/proxy-cpu-limit: 500m\nconfig.linkerd.io/proxy-memory-limit: 250Mi\n",
    "config.linkerd.io/skip-outbound-ports: 25,587,8000-8010\nconfig.linkerd.io/opaque-ports: 3306\n",
    "config.linkerd.io/proxy-outbound-connect-timeout: 1000ms\nconfig.linkerd.io/shutdown-grace-period: 30s\n",
    "config.linkerd.io/proxy-additional-env: [{\"name\":\"A\",\"value\":\"b\"}]\nconfig.linkerd.io/access-log: json\n",
];

fn annotations_of(text: &str) -> Map<String, Value> {
    let pairs = text.lines().filter_map(|line| line.split_once(": "));
    pairs.map(|(key, value)| (key.to_owned(), value.into())).collect()
}

#[test]
fn fuzz_annotations() {
    let mut seeds: Vec<Vec<u8>> = SEEDS.map(|text| text.as_bytes().to_vec()).into();
    // Each setting with a value of each sort.
    for value in ["1", "true", "8080", "10s", "100m", "a,b", "-1", "enabled"] {
        seeds.extend(annotations::settings().map(|(key, _)| format!("{key}: {value}\n").into_bytes()));
    }
    let config = Config::from_values(&json!({})).expect("defaults");
    let target = Target {
        name: "fuzz_annotations",
        seeds,
        words: &[
            "config.linkerd.io/",
            ": ",
            "\n",
            "65536",
            "1e9",
            "18446744073709551616",
            "ms",
            "Mi",
            "NaN",
            "-",
            "$(A)",
            "[{",
        ],
    };
    target.run(|bytes| {
        let text = String::from_utf8_lossy(bytes);
        let given = annotations_of(&text);
        let pod = json!({"metadata": {"annotations": given}, "spec": {"containers": [{"name": "app", "ports": [
            {"containerPort": 8080}]}]}});
        let (pod, namespace) = (Pod(&pod), Namespace::default());
        let annotations = Annotations::new(pod.metadata(), &namespace);
        let facts = PodFacts::new(pod);
        let resolved = within(128 * text.len() + 128 * 1024, || {
            SidecarSpec::resolve(&config, &annotations, &facts)
        });
        if let Err(error) = resolved {
            // The author learns which annotation is at fault.
            let error = error.to_string();
            assert!(given.keys().any(|key| error.contains(key.as_str())), "{error}");
        }
    });
}

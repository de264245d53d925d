//! Hostile tokens in the requests of proxies.

use destination_index::{Context, Workload};
use tests_fuzz::{Target, within};

#[test]
fn fuzz_client_tokens() {
    let seeds = [
        "{\"ns\":\"plain\",\"nodeName\":\"n1\",\"pod\":\"p\"}\n",
        "{\"ns\":\"a\",\"external_workload\":\"vm\"}",
        "ns:plain",
        "ns:pod-1",
    ];
    let target = Target {
        name: "fuzz_client_tokens",
        seeds: seeds.map(|text| text.as_bytes().to_vec()).into(),
        words: &["\"ns\":", "\"pod\":", "null", "{", "}", ":", "\\u0000", "[[[[", "ns:"],
    };
    target.run(|bytes| {
        let token = &String::from_utf8_lossy(bytes);
        let (context, workload) = within(16 * token.len() + 2048, || {
            (Context::parse(token), Workload::parse(token))
        });
        let length = context.ns.len() + context.node.len() + context.pod.len();
        assert!(length <= token.len(), "{token:?} became {context:?}");
        if let Ok(Workload { ns, pod: Some(pod) }) = workload {
            // Both spellings name the same client.
            let json = serde_json::json!({"ns": &*ns, "pod": &*pod}).to_string();
            assert_eq!(Workload::parse(&json).ok(), Some(Workload { ns, pod: Some(pod) }));
        }
    });
}

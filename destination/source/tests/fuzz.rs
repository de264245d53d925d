//! Hostile manifests, as tenants and `mesh local` read them.

use std::path::Path;

use destination_k8s::Object;
use destination_source::manifest;
use tests_fuzz::{Target, within};

const SEEDS: [&str; 6] = [
    "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: ns}\nspec:\n  ports:\n  - {port: 80, targetPort: http}\n",
    "apiVersion: policy.linkerd.io/v1beta3\nkind: Server\nmetadata: {name: s}\nspec:\n  port: 80\n  podSelector:\n    \
     matchLabels: {app: web}\n  proxyProtocol: HTTP/1\n",
    "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata:\n  name: r\n  annotations:\n    \
     timeout.linkerd.io/request: 1m30s\nspec:\n  parentRefs: [{name: web, kind: Service, group: '', port: 80}]\n  rules:\n  \
     - matches: [{path: {type: RegularExpression, value: '/a.*'}}]\n    timeouts: {request: 1s}\n",
    "apiVersion: linkerd.io/v1alpha2\nkind: ServiceProfile\nmetadata: {name: web.ns.svc.cluster.local}\nspec:\n  routes:\n  \
     - name: a\n    condition: {all: [{method: GET}, {pathRegex: /a}]}\n  retryBudget: {retryRatio: 0.2, \
     minRetriesPerSecond: 10, ttl: 10s}\n",
    "apiVersion: split.smi-spec.io/v1alpha4\nkind: TrafficSplit\nmetadata: {name: s}\nspec:\n  service: web\n  backends:\n  \
     - {service: a, weight: 500m}\n",
    "a: &a [x, x]\nb: &b [*a, *a, *a]\nc: &c [*b, *b, *b]\nd: [*c, *c]\n<<: {k: v}\n---\nkind: List\nitems:\n- {kind: Pod}\n",
];

#[test]
fn fuzz_manifest() {
    let target = Target {
        name: "fuzz_manifest",
        seeds: SEEDS.map(|text| text.as_bytes().to_vec()).into(),
        words: &[
            "---\n",
            "...\n",
            "&a ",
            "*a",
            "<<: ",
            "!!str ",
            "!x ",
            "- ",
            ": ",
            "|\n",
            ">\n",
            "{",
            "}",
            "[",
            "]",
            "'",
            "\"",
            "null",
            "~",
            "-1",
            "1e400",
            "65536",
            "18446744073709551616",
            "500m",
            "spec:\n",
            "metadata:\n",
            "\u{feff}",
        ],
    };
    target.run(|bytes| {
        let text = &String::from_utf8_lossy(bytes);
        // Each of up to 100 open anchors keeps the events of its content.
        let parsed = within(16_000 * text.len() + 256 * 1024, || {
            manifest::parse(Path::new("a.yaml"), text)
        });
        // As YAML counts them; the end of a document may be the line after them.
        let lines = 1 + text.split(['\r', '\n', '\u{85}', '\u{2028}', '\u{2029}']).count();
        assert!(
            parsed
                .refused
                .iter()
                .all(|refusal| refusal.line.is_some_and(|line| (1..=lines).contains(&line)))
        );
        for object in parsed.objects {
            // As `mesh` writes objects, so it reads them.
            let written = serde_json::to_value(&object).expect("JSON");
            let again = Object::from_value(written).expect("what was written");
            assert_eq!(serde_json::to_string(&again).ok(), serde_json::to_string(&object).ok());
        }
    });
}

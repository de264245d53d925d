//! Hostile requests for taps: anybody whom the API server lets in writes them.

use prost::Message;
use tests_fuzz::{Target, within};
use viz_api::{
    Kind, Resource,
    cluster::{parse_tap_path, tap_path},
    wire::{self, ResourceName, ResourceSelection, TapByResourceRequest},
};

#[test]
fn fuzz_tap_request() {
    let request = TapByResourceRequest {
        target: Some(ResourceSelection {
            resource: Some(ResourceName {
                namespace: "ns".to_owned(),
                kind: "deployment".to_owned(),
                name: "web".to_owned(),
            }),
            label_selector: "app=web".to_owned(),
        }),
        max_rps: 100.0,
        extract: Some(wire::Extract {}),
        ..TapByResourceRequest::default()
    };
    let message = request.encode_to_vec();
    let mut framed = (message.len() as u32).to_le_bytes().to_vec();
    framed.extend(&message);
    let target = Target {
        name: "fuzz_tap_request",
        seeds: vec![message, framed],
        words: &["deployment", "pod", "\n", "\u{12}", "\u{1a}", "GET", "all"],
    };
    target.run(|bytes| {
        let _ = within(400 * bytes.len() + 4096, || wire::decode(bytes));
    });
}

#[test]
fn fuzz_tap_path() {
    let paths = [
        tap_path(&Resource::named(Kind::Deployment, "web"), "ns"),
        tap_path(&Resource::all(Kind::Pod), "ns"),
        tap_path(&Resource::named(Kind::Namespace, "ns"), "ns"),
    ];
    let target = Target {
        name: "fuzz_tap_path",
        seeds: paths.map(String::into_bytes).into(),
        words: &["/", "..", "%2f", "namespaces", "tap", "pods", "deploy/web"],
    };
    target.run(|bytes| {
        let text = &String::from_utf8_lossy(bytes);
        if let Some((resource, namespace)) = within(64 * text.len() + 1024, || parse_tap_path(text)) {
            // What is authorized is what is tapped: nothing of the path is skipped over.
            assert!(!namespace.contains('/') && resource.name.iter().all(|name| !name.contains('/')));
            assert_eq!(
                parse_tap_path(&tap_path(&resource, &namespace)),
                Some((resource, namespace))
            );
        }
        if let Ok(resource) = text.parse::<Resource>() {
            assert_eq!(resource.to_string().parse(), Ok(resource));
        }
    });
}

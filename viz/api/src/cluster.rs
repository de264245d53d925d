//! Tap on a cluster: an aggregated API of the API server, which authenticates the user. The request body is a
//! [`TapRequest`](crate::TapRequest) as JSON; the response is a line of JSON per event with
//! `Accept: application/x-ndjson`, otherwise Linkerd's protobuf.

use crate::kind::{Kind, Resource};

/// API group.
pub const GROUP: &str = "tap.linkerd.io";
/// API version.
pub const VERSION: &str = "v1alpha1";
/// Subresource: permission to tap is the verb `watch` on it.
pub const SUBRESOURCE: &str = "tap";
/// Media type of events as lines of JSON.
pub const LINES: &str = "application/x-ndjson";

/// Kinds that can be tapped.
pub const KINDS: [Kind; 9] = [
    Kind::Namespace,
    Kind::Pod,
    Kind::ReplicationController,
    Kind::DaemonSet,
    Kind::Deployment,
    Kind::ReplicaSet,
    Kind::StatefulSet,
    Kind::Job,
    Kind::CronJob,
];

/// Path to `POST` a tap of `resource` in `namespace` to. A resource without a name is all of its kind; a namespace is
/// tapped by its own name.
pub fn tap_path(resource: &Resource, namespace: &str) -> String {
    let name = resource.name.as_deref().unwrap_or_default();
    let root = format!("/apis/{GROUP}/{VERSION}/watch/namespaces");
    match resource.kind {
        Kind::Namespace if name.is_empty() => format!("{root}/{namespace}/{SUBRESOURCE}"),
        Kind::Namespace => format!("{root}/{name}/{SUBRESOURCE}"),
        kind => format!("{root}/{namespace}/{}/{name}/{SUBRESOURCE}", kind.plural()),
    }
}

/// Resource and namespace that a tap path names; none for any other path.
pub fn parse_tap_path(path: &str) -> Option<(Resource, String)> {
    let rest = path.strip_prefix("/apis/")?.strip_prefix(GROUP)?;
    let rest = rest.strip_prefix('/')?.strip_prefix(VERSION)?;
    let parts: Vec<&str> = rest.strip_prefix("/watch/namespaces/")?.split('/').collect();
    let (namespace, resource) = match parts[..] {
        [namespace, SUBRESOURCE] => (namespace, Resource::named(Kind::Namespace, namespace)),
        [namespace, kind, name, SUBRESOURCE] => {
            let kind = KINDS
                .into_iter()
                .find(|k| *k != Kind::Namespace && k.plural() == kind)?;
            let name = Some(name.to_owned()).filter(|name| !name.is_empty());
            (namespace, Resource { kind, name })
        }
        _ => return None,
    };
    (!namespace.is_empty()).then(|| (resource, namespace.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tap_paths_round_trip() {
        let resource = |text: &str| text.parse::<Resource>().expect("valid");
        for (text, path) in [
            ("deploy/web", "/watch/namespaces/vote/deployments/web/tap"),
            ("po", "/watch/namespaces/vote/pods//tap"),
            ("ns/vote", "/watch/namespaces/vote/tap"),
        ] {
            let made = tap_path(&resource(text), "vote");
            assert_eq!(made, format!("/apis/tap.linkerd.io/v1alpha1{path}"));
            assert_eq!(parse_tap_path(&made), Some((resource(text), "vote".to_owned())));
        }
        for path in [
            "",
            "/watch/namespaces/vote/services/web/tap",
            "/watch/namespaces/vote/pods/x",
            "/watch/namespaces//tap",
        ] {
            assert_eq!(
                parse_tap_path(&format!("/apis/tap.linkerd.io/v1alpha1{path}")),
                None,
                "{path}"
            );
        }
    }
}

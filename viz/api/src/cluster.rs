//! Tap on a cluster: an aggregated API of the API server, which says who asks. The body is a [`TapRequest`](crate::TapRequest)
//! as JSON; with `Accept: application/x-ndjson` the answer is a line of JSON an event, else it is Linkerd's protobuf.

use crate::kind::{Kind, Resource};

/// Group of the API.
pub const GROUP: &str = "tap.linkerd.io";
/// Its version.
pub const VERSION: &str = "v1alpha1";
/// Subresource whose `watch` is the right to tap.
pub const SUBRESOURCE: &str = "tap";
/// Media type of events as lines of JSON.
pub const LINES: &str = "application/x-ndjson";

/// What can be tapped there.
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

/// The path to `POST` to, to tap `resource` in `namespace`. A resource without a name is all of its kind; a namespace
/// is tapped by its own name.
pub fn tap_path(resource: &Resource, namespace: &str) -> String {
    let name = resource.name.as_deref().unwrap_or_default();
    let root = format!("/apis/{GROUP}/{VERSION}/watch/namespaces");
    match resource.kind {
        Kind::Namespace if name.is_empty() => format!("{root}/{namespace}/{SUBRESOURCE}"),
        Kind::Namespace => format!("{root}/{name}/{SUBRESOURCE}"),
        kind => format!("{root}/{namespace}/{}/{name}/{SUBRESOURCE}", kind.plural()),
    }
}

/// What a path asks for: the resource and its namespace; none if it is no path of a tap.
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
    fn a_path_is_read_as_it_was_written() {
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

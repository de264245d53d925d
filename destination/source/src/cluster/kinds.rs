//! What the API server calls the kinds, and which of them are read how.

use destination_k8s::{Kind, keys};

/// What `mesh-destination` watches.
pub const FOR_DESTINATION: &[Kind] = &[
    Kind::Namespace,
    Kind::Node,
    Kind::ReplicaSet,
    Kind::Job,
    Kind::Pod,
    Kind::Service,
    Kind::EndpointSlice,
    Kind::ServiceProfile,
    Kind::TrafficSplit,
    Kind::Server,
    Kind::ServerAuthorization,
    Kind::AuthorizationPolicy,
    Kind::MeshTlsAuthentication,
    Kind::NetworkAuthentication,
    Kind::HttpLocalRateLimitPolicy,
    Kind::EgressNetwork,
    Kind::PolicyHttpRoute,
    Kind::HttpRoute,
    Kind::GrpcRoute,
    Kind::TlsRoute,
    Kind::TcpRoute,
];

/// What `mesh-injector` watches: namespaces, the controllers between a pod and its owner, and the Services that splits name.
pub const FOR_INJECTOR: &[Kind] = &[Kind::Namespace, Kind::ReplicaSet, Kind::Job, Kind::Service];

/// What `mesh-viz` watches.
pub const FOR_VIZ: &[Kind] = &[
    Kind::Namespace,
    Kind::Deployment,
    Kind::ReplicaSet,
    Kind::StatefulSet,
    Kind::DaemonSet,
    Kind::Job,
    Kind::CronJob,
    Kind::Pod,
    Kind::Service,
    Kind::ServiceProfile,
    Kind::TrafficSplit,
    Kind::Server,
    Kind::ServerAuthorization,
    Kind::AuthorizationPolicy,
    Kind::PolicyHttpRoute,
    Kind::HttpRoute,
    Kind::GrpcRoute,
];

/// The kind's name in a path of the API.
pub(super) fn plural(kind: Kind) -> String {
    let lower = kind.as_str().to_ascii_lowercase();
    match lower.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None => format!("{lower}s"),
    }
}

/// Whether metadata is all that the mesh reads of the kind.
pub(super) fn is_metadata_only(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Namespace
            | Kind::Node
            | Kind::Deployment
            | Kind::ReplicaSet
            | Kind::StatefulSet
            | Kind::DaemonSet
            | Kind::Job
            | Kind::CronJob
            | Kind::ServiceAccount
    )
}

/// Whether the kind is there only where its CRD is installed.
pub(super) fn is_custom(kind: Kind) -> bool {
    !matches!(
        kind.group(),
        "" | keys::CORE_GROUP | "apps" | "batch" | "discovery.k8s.io"
    )
}

/// The path of a version's objects, in one namespace or in all.
pub(super) fn path(kind: Kind, version: &str, namespace: Option<&str>) -> String {
    let root = if version.contains('/') { "apis" } else { "api" };
    let within = namespace.map_or_else(String::new, |namespace| format!("/namespaces/{namespace}"));
    format!("/{root}/{version}{within}/{}", plural(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_api() {
        assert_eq!(path(Kind::Pod, "v1", None), "/api/v1/pods");
        assert_eq!(
            path(Kind::HttpLocalRateLimitPolicy, "policy.linkerd.io/v1alpha1", Some("a")),
            "/apis/policy.linkerd.io/v1alpha1/namespaces/a/httplocalratelimitpolicies"
        );
        assert_eq!(plural(Kind::MeshTlsAuthentication), "meshtlsauthentications");
        assert_eq!(plural(Kind::EndpointSlice), "endpointslices");
    }

    #[test]
    fn only_kinds_of_crds_may_be_missing() {
        assert!(is_custom(Kind::TrafficSplit) && is_custom(Kind::HttpRoute));
        for kind in [Kind::Pod, Kind::Deployment, Kind::Job, Kind::EndpointSlice] {
            assert!(!is_custom(kind), "{kind}");
        }
    }
}

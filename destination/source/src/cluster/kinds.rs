//! Names of the kinds at the API server, and how each is read.

use destination_k8s::{Kind, keys};

/// Kinds watched by `mesh-destination`.
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
    Kind::TrafficTarget,
    Kind::HttpRouteGroup,
    Kind::SmiTcpRoute,
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

/// Kinds watched by `mesh-injector`: namespaces, the controllers between a pod and its workload, and the Services that
/// splits name.
pub const FOR_INJECTOR: &[Kind] = &[Kind::Namespace, Kind::ReplicaSet, Kind::Job, Kind::Service];

/// Kinds watched by `mesh-viz`.
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

/// Returns the kind's name in a path of the API.
pub(super) fn plural(kind: Kind) -> &'static str {
    match kind {
        Kind::Namespace => "namespaces",
        Kind::Node => "nodes",
        Kind::Deployment => "deployments",
        Kind::ReplicaSet => "replicasets",
        Kind::StatefulSet => "statefulsets",
        Kind::DaemonSet => "daemonsets",
        Kind::Job => "jobs",
        Kind::CronJob => "cronjobs",
        Kind::Pod => "pods",
        Kind::Service => "services",
        Kind::ServiceAccount => "serviceaccounts",
        Kind::EndpointSlice => "endpointslices",
        Kind::ConfigMap => "configmaps",
        Kind::Secret => "secrets",
        Kind::ServiceProfile => "serviceprofiles",
        Kind::TrafficSplit => "trafficsplits",
        Kind::Server => "servers",
        Kind::ServerAuthorization => "serverauthorizations",
        Kind::AuthorizationPolicy => "authorizationpolicies",
        Kind::MeshTlsAuthentication => "meshtlsauthentications",
        Kind::NetworkAuthentication => "networkauthentications",
        Kind::HttpLocalRateLimitPolicy => "httplocalratelimitpolicies",
        Kind::EgressNetwork => "egressnetworks",
        Kind::PolicyHttpRoute | Kind::HttpRoute => "httproutes",
        Kind::GrpcRoute => "grpcroutes",
        Kind::TlsRoute => "tlsroutes",
        Kind::TrafficTarget => "traffictargets",
        Kind::HttpRouteGroup => "httproutegroups",
        Kind::TcpRoute | Kind::SmiTcpRoute => "tcproutes",
        Kind::UdpRoute => "udproutes",
    }
}

/// Returns true if the mesh reads only metadata of the kind.
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

/// Returns true if the kind exists only where its CRD is installed.
pub(super) fn is_custom(kind: Kind) -> bool {
    !matches!(
        kind.group(),
        "" | keys::CORE_GROUP | "apps" | "batch" | "discovery.k8s.io"
    )
}

/// Returns the path of a version's objects, in one namespace or in all.
pub(super) fn path(kind: Kind, version: &str, namespace: Option<&str>) -> String {
    let root = if version.contains('/') { "apis" } else { "api" };
    let within = namespace.map_or_else(String::new, |namespace| format!("/namespaces/{namespace}"));
    format!("/{root}/{version}{within}/{}", plural(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_paths_of_the_api() {
        assert_eq!(path(Kind::Pod, "v1", None), "/api/v1/pods");
        assert_eq!(
            path(Kind::HttpLocalRateLimitPolicy, "policy.linkerd.io/v1alpha1", Some("a")),
            "/apis/policy.linkerd.io/v1alpha1/namespaces/a/httplocalratelimitpolicies"
        );
        assert_eq!(plural(Kind::MeshTlsAuthentication), "meshtlsauthentications");
        assert_eq!(plural(Kind::EndpointSlice), "endpointslices");
    }

    #[test]
    fn only_crd_kinds_are_custom() {
        assert!(is_custom(Kind::TrafficSplit) && is_custom(Kind::HttpRoute));
        for kind in [Kind::Pod, Kind::Deployment, Kind::Job, Kind::EndpointSlice] {
            assert!(!is_custom(kind), "{kind}");
        }
    }
}

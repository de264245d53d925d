//! Snapshot of a cluster: objects, permissions, metrics of proxies.

use std::{collections::BTreeMap, time::SystemTime};

use destination_k8s::PodView;
use k8s_openapi::api::core::v1::Pod;
use serde::Deserialize as _;
use serde_json::Value;

/// Stage of the installation to check.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Installed mesh.
    #[default]
    Installed,
    /// Before the installation (`--pre`).
    Pre,
    /// After the custom resources are installed (`--crds`).
    Crds,
}

/// Scope of a run, from the command line.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Stage of the installation.
    pub mode: Mode,
    /// Also check the data plane (`--proxy`).
    pub proxy: bool,
    /// Namespace of the data plane; none means all.
    pub namespace: Option<String>,
    /// Namespace of the control plane.
    pub control_plane: String,
    /// Namespace of viz.
    pub viz: String,
    /// Require viz (`mesh viz check`).
    pub viz_required: bool,
    /// Namespace of the CNI plugin.
    pub cni: String,
    /// Require the CNI plugin (`--pre --linkerd-cni-enabled`).
    pub cni_enabled: bool,
    /// Version of this program, or its override.
    pub version: String,
    /// Expected version of the control plane (`--expected-version`).
    pub expected_version: Option<String>,
    /// Custom resources of this program's chart: name of the CRD, and the versions it serves.
    pub resources: Vec<(String, Vec<String>)>,
}

/// Reason for a missing list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListError {
    /// The cluster has no such kind.
    Absent,
    /// The list could not be read, for this reason.
    Error(String),
}

impl std::fmt::Display for ListError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Absent => f.write_str("the cluster has no such kind"),
            Self::Error(error) => f.write_str(error),
        }
    }
}

/// Objects of a kind.
pub type List = Result<Vec<Value>, ListError>;

macro_rules! whats {
    ($($(#[$doc:meta])* $name:ident = $version:literal $plural:literal;)*) => {
        /// Kind of objects that checks read.
        #[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum ObjectKind {
            $($(#[$doc])* $name,)*
        }

        impl ObjectKind {
            /// Returns group and version.
            pub fn api_version(self) -> &'static str {
                match self { $(Self::$name => $version,)* }
            }

            /// Returns the plural.
            pub fn plural(self) -> &'static str {
                match self { $(Self::$name => $plural,)* }
            }
        }
    };
}

whats! {
    /// Namespaces.
    Namespaces = "v1" "namespaces";
    /// Nodes.
    Nodes = "v1" "nodes";
    /// Pods.
    Pods = "v1" "pods";
    /// Services.
    Services = "v1" "services";
    /// ConfigMaps of the control plane.
    ConfigMaps = "v1" "configmaps";
    /// Secrets of the control plane.
    Secrets = "v1" "secrets";
    /// Secrets of viz.
    VizSecrets = "v1" "secrets";
    /// ConfigMaps of the CNI plugin.
    CniConfigMaps = "v1" "configmaps";
    /// ServiceAccounts of the CNI plugin.
    CniServiceAccounts = "v1" "serviceaccounts";
    /// DaemonSets of the CNI plugin.
    CniDaemonSets = "apps/v1" "daemonsets";
    /// ServiceAccounts of the control plane.
    ServiceAccounts = "v1" "serviceaccounts";
    /// Deployments of the control plane.
    Deployments = "apps/v1" "deployments";
    /// Deployments of viz.
    VizDeployments = "apps/v1" "deployments";
    /// ClusterRoles.
    ClusterRoles = "rbac.authorization.k8s.io/v1" "clusterroles";
    /// ClusterRoleBindings.
    ClusterRoleBindings = "rbac.authorization.k8s.io/v1" "clusterrolebindings";
    /// CustomResourceDefinitions.
    Resources = "apiextensions.k8s.io/v1" "customresourcedefinitions";
    /// MutatingWebhookConfigurations.
    Mutating = "admissionregistration.k8s.io/v1" "mutatingwebhookconfigurations";
    /// ValidatingWebhookConfigurations.
    Validating = "admissionregistration.k8s.io/v1" "validatingwebhookconfigurations";
    /// APIServices.
    ApiServices = "apiregistration.k8s.io/v1" "apiservices";
    /// TrafficSplits.
    TrafficSplits = "split.smi-spec.io/v1alpha4" "trafficsplits";
    /// TrafficTargets.
    TrafficTargets = "access.smi-spec.io/v1alpha3" "traffictargets";
    /// HTTPRouteGroups.
    HttpRouteGroups = "specs.smi-spec.io/v1alpha4" "httproutegroups";
    /// TCPRoutes of SMI.
    SmiTcpRoutes = "specs.smi-spec.io/v1alpha4" "tcproutes";
    /// UDPRoutes of SMI.
    UdpRoutes = "specs.smi-spec.io/v1alpha4" "udproutes";
    /// ServiceProfiles.
    ServiceProfiles = "linkerd.io/v1alpha2" "serviceprofiles";
    /// Servers.
    Servers = "policy.linkerd.io/v1beta3" "servers";
    /// ServerAuthorizations.
    ServerAuthorizations = "policy.linkerd.io/v1beta1" "serverauthorizations";
    /// AuthorizationPolicies.
    AuthorizationPolicies = "policy.linkerd.io/v1alpha1" "authorizationpolicies";
    /// MeshTLSAuthentications.
    MeshTlsAuthentications = "policy.linkerd.io/v1alpha1" "meshtlsauthentications";
    /// NetworkAuthentications.
    NetworkAuthentications = "policy.linkerd.io/v1alpha1" "networkauthentications";
    /// HTTPLocalRateLimitPolicies.
    RateLimits = "policy.linkerd.io/v1alpha1" "httplocalratelimitpolicies";
    /// HTTPRoutes of Linkerd's group.
    PolicyHttpRoutes = "policy.linkerd.io/v1beta3" "httproutes";
    /// HTTPRoutes of the Gateway API.
    HttpRoutes = "gateway.networking.k8s.io/v1" "httproutes";
    /// GRPCRoutes of the Gateway API.
    GrpcRoutes = "gateway.networking.k8s.io/v1" "grpcroutes";
}

/// List to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListRequest {
    /// Kind of the objects.
    pub what: ObjectKind,
    /// Namespace; none means all.
    pub namespace: Option<String>,
}

/// Permission to query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permission {
    /// Verb, such as `create`.
    pub verb: &'static str,
    /// API group; empty is the core group.
    pub group: &'static str,
    /// Plural of the kind.
    pub resource: &'static str,
    /// Namespace; empty means the whole cluster.
    pub namespace: String,
    /// Object name; empty means any.
    pub name: &'static str,
}

/// Facts about a cluster.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Time of the snapshot.
    pub now: SystemTime,
    /// Scope of the run.
    pub scope: Scope,
    /// URL of the cluster, or the error.
    pub client: Result<String, String>,
    /// Version of the cluster, or the error.
    pub version: Result<String, String>,
    /// Objects by kind.
    pub lists: BTreeMap<ObjectKind, List>,
    /// Permissions of the user: allowed, not allowed, or the error.
    pub permissions: Vec<(Permission, Result<bool, String>)>,
    /// Metrics of proxies, by `namespace/pod`; only with `--proxy`.
    pub proxies: BTreeMap<String, Result<String, String>>,
    /// Number of proxies not queried because there are too many.
    pub proxies_left: usize,
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            now: SystemTime::UNIX_EPOCH,
            scope: Scope::default(),
            client: Ok(String::new()),
            version: Ok(String::new()),
            lists: BTreeMap::new(),
            permissions: Vec::new(),
            proxies: BTreeMap::new(),
            proxies_left: 0,
        }
    }
}

impl Facts {
    /// Returns the objects of a kind; none if the kind is absent.
    pub(crate) fn list(&self, what: ObjectKind) -> Result<&[Value], String> {
        match self.lists.get(&what) {
            Some(Ok(list)) => Ok(list),
            None | Some(Err(ListError::Absent)) => Ok(&[]),
            Some(Err(ListError::Error(error))) => Err(error.clone()),
        }
    }

    /// Returns an object by name, of a kind that was listed in at most one namespace.
    pub(crate) fn named(&self, what: ObjectKind, name: &str) -> Result<Option<&Value>, String> {
        Ok(self.list(what)?.iter().find(|object| object_name(object) == name))
    }

    /// Returns a Namespace by name.
    pub(crate) fn namespace(&self, name: &str) -> Option<&Value> {
        self.named(ObjectKind::Namespaces, name).ok().flatten()
    }

    /// Iterates over the pods of a namespace.
    pub(crate) fn pods_in<'a>(&'a self, namespace: &'a str) -> Result<impl Iterator<Item = &'a Value>, String> {
        let pods = self.list(ObjectKind::Pods)?;
        Ok(pods.iter().filter(move |pod| object_namespace(pod) == namespace))
    }
}

/// Returns a text in a document, or an empty one.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Iterates over a list in a document.
pub(crate) fn items<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

/// Returns a label, or an empty text.
pub(crate) fn label<'a>(object: &'a Value, key: &str) -> &'a str {
    object["metadata"]["labels"][key].as_str().unwrap_or_default()
}

/// Returns an annotation, or an empty text.
pub(crate) fn annotation<'a>(object: &'a Value, key: &str) -> &'a str {
    object["metadata"]["annotations"][key].as_str().unwrap_or_default()
}

/// Returns the name of an object.
pub(crate) fn object_name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

/// Returns the namespace of an object.
pub(crate) fn object_namespace(object: &Value) -> &str {
    text(object, "/metadata/namespace")
}

/// Returns `namespace/name`.
pub(crate) fn full_name(object: &Value) -> String {
    format!("{}/{}", object_namespace(object), object_name(object))
}

/// Reads a pod through its typed view. An unreadable pod counts as empty.
pub fn view_pod<T>(pod: &Value, read: impl FnOnce(PodView<'_>) -> T) -> T {
    let pod = Pod::deserialize(pod).unwrap_or_default();
    read(PodView::new(&pod))
}

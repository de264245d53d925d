//! What is known of a cluster at one moment: objects as the API server has them, rights, what proxies say of themselves.

use std::{collections::BTreeMap, time::SystemTime};

use serde_json::Value;

/// What is looked at.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// An installed mesh.
    #[default]
    Installed,
    /// Whether one can be installed (`--pre`).
    Pre,
    /// Whether the custom resources are there (`--crds`).
    Crds,
}

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// What is looked at.
    pub mode: Mode,
    /// Whether the data plane is checked too (`--proxy`).
    pub proxy: bool,
    /// The namespace of the data plane; none means all.
    pub namespace: Option<String>,
    /// The control plane's namespace.
    pub control_plane: String,
    /// The namespace of viz.
    pub viz: String,
    /// The namespace of the CNI plugin.
    pub cni: String,
    /// Whether the CNI plugin must be there before the mesh is installed (`--pre --linkerd-cni-enabled`).
    pub cni_enabled: bool,
    /// This program's version, or the one that was given instead.
    pub version: String,
    /// The version that the control plane should have (`--expected-version`).
    pub expected_version: Option<String>,
    /// The custom resources' version that this program's chart has: name of the CRD and the versions that it serves.
    pub resources: Vec<(String, Vec<String>)>,
}

/// Why there is no list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The cluster has no such kind.
    Absent,
    /// It could not be read: why.
    Error(String),
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Absent => f.write_str("the cluster has no such kind"),
            Self::Error(error) => f.write_str(error),
        }
    }
}

/// The objects of a kind.
pub type List = Result<Vec<Value>, Missing>;

macro_rules! whats {
    ($($(#[$doc:meta])* $name:ident = $version:literal $plural:literal;)*) => {
        /// A kind of object that checks look at.
        #[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum What {
            $($(#[$doc])* $name,)*
        }

        impl What {
            /// Group and version.
            pub fn api_version(self) -> &'static str {
                match self { $(Self::$name => $version,)* }
            }

            /// The plural.
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

/// A list to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// Which kind.
    pub what: What,
    /// In which namespace; none means all of them.
    pub namespace: Option<String>,
}

/// Whether we may do something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Right {
    /// Such as `create`.
    pub verb: &'static str,
    /// The group; empty is the core group.
    pub group: &'static str,
    /// The plural.
    pub resource: &'static str,
    /// The namespace; empty means the whole cluster.
    pub namespace: String,
    /// The object; empty means any.
    pub name: &'static str,
}

/// What is known.
#[derive(Clone, Debug)]
pub struct Facts {
    /// When.
    pub now: SystemTime,
    /// What was asked for.
    pub ask: Ask,
    /// Where the cluster is, or why that is not known.
    pub client: Result<String, String>,
    /// Its version, or why it does not answer.
    pub version: Result<String, String>,
    /// Its objects.
    pub lists: BTreeMap<What, List>,
    /// Our rights: allowed, not allowed, or why that is not known.
    pub rights: Vec<(Right, Result<bool, String>)>,
    /// What proxies say of themselves, by `namespace/pod`; only with `--proxy`.
    pub proxies: BTreeMap<String, Result<String, String>>,
    /// Proxies that were not asked because there are too many.
    pub proxies_left: usize,
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            now: SystemTime::UNIX_EPOCH,
            ask: Ask::default(),
            client: Ok(String::new()),
            version: Ok(String::new()),
            lists: BTreeMap::new(),
            rights: Vec::new(),
            proxies: BTreeMap::new(),
            proxies_left: 0,
        }
    }
}

impl Facts {
    /// The objects of a kind; none if the kind is absent.
    pub(crate) fn list(&self, what: What) -> Result<&[Value], String> {
        match self.lists.get(&what) {
            Some(Ok(list)) => Ok(list),
            None | Some(Err(Missing::Absent)) => Ok(&[]),
            Some(Err(Missing::Error(error))) => Err(error.clone()),
        }
    }

    /// The object with a name, of a kind that lives in one namespace here or in none.
    pub(crate) fn named(&self, what: What, name: &str) -> Result<Option<&Value>, String> {
        Ok(self.list(what)?.iter().find(|object| object_name(object) == name))
    }

    /// The namespace of a name.
    pub(crate) fn namespace(&self, name: &str) -> Option<&Value> {
        self.named(What::Namespaces, name).ok().flatten()
    }

    /// The pods of a namespace.
    pub(crate) fn pods_in<'a>(&'a self, namespace: &'a str) -> Result<impl Iterator<Item = &'a Value>, String> {
        let pods = self.list(What::Pods)?;
        Ok(pods.iter().filter(move |pod| object_namespace(pod) == namespace))
    }
}

/// A text in a document; empty if there is none.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The elements of a list in a document.
pub(crate) fn items<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

/// A label; empty if there is none.
pub(crate) fn label<'a>(object: &'a Value, key: &str) -> &'a str {
    object["metadata"]["labels"][key].as_str().unwrap_or_default()
}

/// An annotation; empty if there is none.
pub(crate) fn annotation<'a>(object: &'a Value, key: &str) -> &'a str {
    object["metadata"]["annotations"][key].as_str().unwrap_or_default()
}

/// Its name.
pub(crate) fn object_name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

/// Its namespace.
pub(crate) fn object_namespace(object: &Value) -> &str {
    text(object, "/metadata/namespace")
}

/// `namespace/name`.
pub(crate) fn full_name(object: &Value) -> String {
    format!("{}/{}", object_namespace(object), object_name(object))
}

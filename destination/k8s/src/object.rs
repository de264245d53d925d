//! One enum over all kinds that are read, and the conversion of a parsed document into one of them.

use std::{collections::BTreeMap, fmt, sync::Arc};

use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
        batch::v1::{CronJob, Job},
        core::v1::{ConfigMap, Namespace, Node, Pod, Secret, Service, ServiceAccount},
        discovery::v1::EndpointSlice,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::{Serialize, Serializer, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    AuthorizationPolicy, EgressNetwork, GrpcRoute, HttpLocalRateLimitPolicy, HttpRoute, HttpRouteGroup,
    MeshTlsAuthentication, NetworkAuthentication, PolicyHttpRoute, Server, ServerAuthorization, ServiceProfile,
    SmiTcpRoute, TcpRoute, TlsRoute, TrafficSplit, TrafficTarget, UdpRoute,
    check::{self, Check},
    keys,
    path::{Fault, Path, Segment},
};

/// Scope of a kind's objects.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Scope {
    Cluster,
    Namespaced,
}

macro_rules! objects {
    ($($(#[$doc:meta])* $variant:ident($ty:ty) = $kind:literal in [$($api:literal),+], $scope:ident;)*) => {
        /// An object of any kind that the mesh reads.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Object {
            $($(#[$doc])* $variant(Arc<$ty>),)*
        }

        /// A kind of object. The two HTTPRoutes are two kinds.
        #[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Kind {
            $($(#[$doc])* $variant,)*
        }

        impl Kind {
            /// Returns the kind as a manifest writes it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $kind,)* }
            }

            /// Returns the versions that are read, `group/version`, preferred first.
            pub fn api_versions(self) -> &'static [&'static str] {
                match self { $(Self::$variant => &[$($api),+],)* }
            }

            /// Returns true if objects of this kind live in a namespace.
            pub fn is_namespaced(self) -> bool {
                let scope = match self { $(Self::$variant => Scope::$scope,)* };
                scope == Scope::Namespaced
            }

            const ALL: &'static [Self] = &[$(Self::$variant,)*];
        }

        impl Object {
            /// Returns the kind.
            pub fn kind(&self) -> Kind {
                match self { $(Self::$variant(_) => Kind::$variant,)* }
            }

            /// Returns the metadata.
            pub fn metadata(&self) -> &ObjectMeta {
                match self { $(Self::$variant(object) => &object.metadata,)* }
            }

            fn ignored(kind: Kind, value: &Value) -> Vec<Path> {
                match kind { $(Kind::$variant => ignored::<$ty>(value),)* }
            }

            fn read(kind: Kind, value: Value) -> Result<Self, Invalid> {
                match kind { $(Kind::$variant => read::<$ty>(kind, value).map(|o| Self::$variant(Arc::new(o))),)* }
            }
        }

        $(
            impl From<$ty> for Object {
                fn from(mut object: $ty) -> Self {
                    fill_namespace(Kind::$variant, &mut object.metadata);
                    Self::$variant(Arc::new(object))
                }
            }

            impl Meta for $ty {
                fn meta_mut(&mut self) -> &mut ObjectMeta {
                    &mut self.metadata
                }
            }
        )*

        impl Serialize for Object {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self { $(Self::$variant(object) => object.serialize(serializer),)* }
            }
        }
    };
}

/// Mutable access to metadata, for the macro to fill in a default namespace.
trait Meta {
    fn meta_mut(&mut self) -> &mut ObjectMeta;
}

objects! {
    /// A namespace.
    Namespace(Namespace) = "Namespace" in ["v1"], Cluster;
    /// A node.
    Node(Node) = "Node" in ["v1"], Cluster;
    /// A Deployment.
    Deployment(Deployment) = "Deployment" in ["apps/v1"], Namespaced;
    /// A ReplicaSet.
    ReplicaSet(ReplicaSet) = "ReplicaSet" in ["apps/v1"], Namespaced;
    /// A StatefulSet.
    StatefulSet(StatefulSet) = "StatefulSet" in ["apps/v1"], Namespaced;
    /// A DaemonSet.
    DaemonSet(DaemonSet) = "DaemonSet" in ["apps/v1"], Namespaced;
    /// A Job.
    Job(Job) = "Job" in ["batch/v1"], Namespaced;
    /// A CronJob.
    CronJob(CronJob) = "CronJob" in ["batch/v1"], Namespaced;
    /// A Pod.
    Pod(Pod) = "Pod" in ["v1"], Namespaced;
    /// A Service.
    Service(Service) = "Service" in ["v1"], Namespaced;
    /// A service account.
    ServiceAccount(ServiceAccount) = "ServiceAccount" in ["v1"], Namespaced;
    /// An EndpointSlice of a Service.
    EndpointSlice(EndpointSlice) = "EndpointSlice" in ["discovery.k8s.io/v1"], Namespaced;
    /// A ConfigMap.
    ConfigMap(ConfigMap) = "ConfigMap" in ["v1"], Namespaced;
    /// A Secret.
    Secret(Secret) = "Secret" in ["v1"], Namespaced;
    /// A ServiceProfile.
    ServiceProfile(ServiceProfile) = "ServiceProfile" in ["linkerd.io/v1alpha2", "linkerd.io/v1alpha1"], Namespaced;
    /// A TrafficSplit.
    TrafficSplit(TrafficSplit) = "TrafficSplit" in [
        "split.smi-spec.io/v1alpha4", "split.smi-spec.io/v1alpha3", "split.smi-spec.io/v1alpha2",
        "split.smi-spec.io/v1alpha1"
    ], Namespaced;
    /// A TrafficTarget.
    TrafficTarget(TrafficTarget) = "TrafficTarget" in [
        "access.smi-spec.io/v1alpha3", "access.smi-spec.io/v1alpha2", "access.smi-spec.io/v1alpha1"
    ], Namespaced;
    /// An HTTPRouteGroup.
    HttpRouteGroup(HttpRouteGroup) = "HTTPRouteGroup" in [
        "specs.smi-spec.io/v1alpha4", "specs.smi-spec.io/v1alpha3", "specs.smi-spec.io/v1alpha2",
        "specs.smi-spec.io/v1alpha1"
    ], Namespaced;
    /// A TCPRoute of SMI.
    SmiTcpRoute(SmiTcpRoute) = "TCPRoute" in [
        "specs.smi-spec.io/v1alpha4", "specs.smi-spec.io/v1alpha3", "specs.smi-spec.io/v1alpha2",
        "specs.smi-spec.io/v1alpha1"
    ], Namespaced;
    /// A UDPRoute, which is refused.
    UdpRoute(UdpRoute) = "UDPRoute" in ["specs.smi-spec.io/v1alpha4"], Namespaced;
    /// A Server.
    Server(Server) = "Server" in [
        "policy.linkerd.io/v1beta3", "policy.linkerd.io/v1beta2", "policy.linkerd.io/v1beta1",
        "policy.linkerd.io/v1alpha1"
    ], Namespaced;
    /// A ServerAuthorization.
    ServerAuthorization(ServerAuthorization) = "ServerAuthorization" in [
        "policy.linkerd.io/v1beta1", "policy.linkerd.io/v1alpha1"
    ], Namespaced;
    /// An AuthorizationPolicy.
    AuthorizationPolicy(AuthorizationPolicy) = "AuthorizationPolicy" in ["policy.linkerd.io/v1alpha1"], Namespaced;
    /// A MeshTLSAuthentication.
    MeshTlsAuthentication(MeshTlsAuthentication) = "MeshTLSAuthentication" in ["policy.linkerd.io/v1alpha1"], Namespaced;
    /// A NetworkAuthentication.
    NetworkAuthentication(NetworkAuthentication) = "NetworkAuthentication" in ["policy.linkerd.io/v1alpha1"], Namespaced;
    /// A rate limit of a Server.
    HttpLocalRateLimitPolicy(HttpLocalRateLimitPolicy) = "HTTPLocalRateLimitPolicy" in [
        "policy.linkerd.io/v1alpha1"
    ], Namespaced;
    /// An EgressNetwork.
    EgressNetwork(EgressNetwork) = "EgressNetwork" in ["policy.linkerd.io/v1alpha1"], Namespaced;
    /// An HTTPRoute of `policy.linkerd.io`.
    PolicyHttpRoute(PolicyHttpRoute) = "HTTPRoute" in [
        "policy.linkerd.io/v1beta3", "policy.linkerd.io/v1beta2", "policy.linkerd.io/v1beta1",
        "policy.linkerd.io/v1alpha1"
    ], Namespaced;
    /// An HTTPRoute of the Gateway API.
    HttpRoute(HttpRoute) = "HTTPRoute" in [
        "gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"
    ], Namespaced;
    /// A GRPCRoute of the Gateway API.
    GrpcRoute(GrpcRoute) = "GRPCRoute" in [
        "gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1alpha2"
    ], Namespaced;
    /// A TLSRoute of the Gateway API; in the version that upstream reads.
    TlsRoute(TlsRoute) = "TLSRoute" in ["gateway.networking.k8s.io/v1alpha2"], Namespaced;
    /// A TCPRoute of the Gateway API.
    TcpRoute(TcpRoute) = "TCPRoute" in ["gateway.networking.k8s.io/v1alpha2"], Namespaced;
}

impl Kind {
    /// Finds a kind by group and name.
    pub fn from_group(group: &str, kind: &str) -> Option<Self> {
        let mut all = Self::ALL.iter().copied();
        all.find(|known| known.group() == group && known.as_str() == kind)
    }

    /// Returns true if a CRD of the mesh, of SMI or of the Gateway API defines the kind.
    pub fn is_custom(self) -> bool {
        [
            keys::POLICY_GROUP,
            keys::PROFILE_GROUP,
            keys::SPLIT_GROUP,
            keys::ACCESS_GROUP,
            keys::SPECS_GROUP,
            keys::GATEWAY_GROUP,
        ]
        .contains(&self.group())
    }

    /// Returns the group; empty for the core group.
    pub fn group(self) -> &'static str {
        self.api_versions()[0].rsplit_once('/').map_or("", |(group, _)| group)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Reference to one object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectRef {
    /// Kind.
    pub kind: Kind,
    /// Namespace; empty for an object without one.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

impl ObjectRef {
    /// Refers to an object.
    pub fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        Self {
            kind,
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, namespace, name } = self;
        if namespace.is_empty() {
            write!(f, "{kind} {name}")
        } else {
            write!(f, "{kind} {namespace}/{name}")
        }
    }
}

/// Reason for which a document is rejected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Invalid {
    /// The object, as far as the document names one of a kind that is read.
    pub object: Option<ObjectRef>,
    /// Position of the fault.
    pub path: Path,
    /// Description of the fault.
    pub reason: String,
}

impl Invalid {
    fn at(path: Path, reason: impl Into<String>) -> Self {
        Self {
            object: None,
            path,
            reason: reason.into(),
        }
    }
}

impl From<Fault> for Invalid {
    fn from(fault: Fault) -> Self {
        Self::at(fault.path, fault.reason)
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        if !self.path.0.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.reason)
    }
}

impl Object {
    /// Parses one document (not a `List`). A namespaced object without a namespace is in `default`.
    pub fn from_value(mut value: Value) -> Result<Self, Invalid> {
        let kind = kind_of(&value)?;
        let object = object_ref_of(kind, &value);
        quantities_as_text(&mut value);
        Self::read(kind, value).map_err(|invalid| Invalid { object, ..invalid })
    }

    /// Returns the unknown fields of a custom kind's document; they would have no effect.
    pub fn unknown_fields(value: &Value) -> Vec<Path> {
        Self::unread_of(value, |kind| kind.is_custom())
    }

    /// Returns the unread fields of any kind but the Gateway API's, which has more fields than a mesh reads. For
    /// documents that no API server has validated, where a misspelt field would be dropped silently.
    pub fn unread_fields(value: &Value) -> Vec<Path> {
        Self::unread_of(value, |kind| !kind.group().starts_with("gateway."))
    }

    fn unread_of(value: &Value, is_strict: impl Fn(&Kind) -> bool) -> Vec<Path> {
        let strict = kind_of(value).ok().filter(is_strict);
        strict.map_or_else(Vec::new, |kind| Self::ignored(kind, value))
    }

    /// Returns a reference to the object.
    pub fn object_ref(&self) -> ObjectRef {
        ObjectRef::new(self.kind(), self.namespace(), self.name())
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        self.metadata().name.as_deref().unwrap_or_default()
    }

    /// Returns the namespace; empty for an object without one.
    pub fn namespace(&self) -> &str {
        self.metadata().namespace.as_deref().unwrap_or_default()
    }

    /// Returns the labels.
    pub fn labels(&self) -> Option<&BTreeMap<String, String>> {
        self.metadata().labels.as_ref()
    }

    /// Returns the value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels()?.get(key).map(String::as_str)
    }

    /// Returns the value of an annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata().annotations.as_ref()?.get(key).map(String::as_str)
    }
}

fn kind_of(value: &Value) -> Result<Kind, Invalid> {
    if !value.is_object() {
        return Err(Invalid::at(
            Path::default(),
            "the document is not an object with apiVersion, kind and metadata",
        ));
    }
    let text = |key: &str| value.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let Some(kind) = text("kind") else {
        return Err(Invalid::at(Path::keys(&["kind"]), "the document has no kind"));
    };
    let Some(version) = text("apiVersion") else {
        return Err(Invalid::at(
            Path::keys(&["apiVersion"]),
            format!("the {kind} has no apiVersion"),
        ));
    };
    let candidates = || Kind::ALL.iter().copied().filter(|k| k.as_str() == kind);
    if let Some(kind) = candidates().find(|k| k.api_versions().contains(&version)) {
        return Ok(kind);
    }
    let known: Vec<_> = candidates().flat_map(Kind::api_versions).copied().collect();
    Err(if known.is_empty() {
        Invalid::at(
            Path::keys(&["kind"]),
            format!("the kind {kind} ({version}) is not one that the mesh reads"),
        )
    } else {
        let reason = format!(
            "{version} of {kind} is not a version that the mesh reads; it reads {}",
            known.join(", ")
        );
        Invalid::at(Path::keys(&["apiVersion"]), reason)
    })
}

fn object_ref_of(kind: Kind, value: &Value) -> Option<ObjectRef> {
    let metadata = value.get("metadata")?;
    let name = metadata.get("name")?.as_str()?;
    let namespace = metadata.get("namespace").and_then(Value::as_str).unwrap_or("default");
    Some(ObjectRef::new(
        kind,
        if kind.is_namespaced() { namespace } else { "" },
        name,
    ))
}

fn fill_namespace(kind: Kind, meta: &mut ObjectMeta) {
    if !kind.is_namespaced() {
        meta.namespace = None;
    } else if meta.namespace.as_deref().is_none_or(str::is_empty) {
        meta.namespace = Some("default".to_owned());
    }
}

fn read<T: DeserializeOwned + Meta + Check>(kind: Kind, value: Value) -> Result<T, Invalid> {
    let mut object: T = serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().iter().filter_map(|segment| match segment {
            serde_path_to_error::Segment::Seq { index } => Some(Segment::Index(*index)),
            serde_path_to_error::Segment::Map { key } => Some(Segment::Key(key.clone())),
            _ => None,
        });
        Invalid::at(Path(path.collect()), plain(&error.inner().to_string()))
    })?;
    fill_namespace(kind, object.meta_mut());
    let longest = if matches!(kind, Kind::Namespace | Kind::Service) {
        check::LABEL_MAX
    } else {
        check::SUBDOMAIN_MAX
    };
    check::metadata(kind.as_str(), longest, object.meta_mut())?;
    object.check()?;
    Ok(object)
}

/// Unread fields, except in `status`, which upstream writes, and in `metadata`, which the API server validates.
fn ignored<T: DeserializeOwned>(value: &Value) -> Vec<Path> {
    let mut paths = vec![];
    // Of one type for all kinds: a closure of this function would be another type for each, and the parser of pods,
    // which seven kinds contain, would be compiled for each.
    let push: &mut dyn FnMut(serde_ignored::Path<'_>) = &mut |path| paths.push(path_of(&path));
    // A document that cannot be parsed is rejected elsewhere.
    let _ = serde_ignored::deserialize::<_, _, T>(value, push);
    let theirs =
        |path: &Path| matches!(path.0.first(), Some(Segment::Key(key)) if key == "status" || key == "metadata");
    paths.retain(|path| !theirs(path));
    paths
}

fn path_of(path: &serde_ignored::Path<'_>) -> Path {
    use serde_ignored::Path as Ignored;
    match path {
        Ignored::Root => Path::default(),
        Ignored::Seq { parent, index } => path_of(parent).index(*index),
        Ignored::Map { parent, key } => path_of(parent).key(key),
        Ignored::Some { parent } | Ignored::NewtypeStruct { parent } | Ignored::NewtypeVariant { parent } => {
            path_of(parent)
        }
    }
}

/// Replaces Rust's type names in serde's messages by plain words.
fn plain(reason: &str) -> String {
    reason
        .replace("expected u16", "expected a whole number from 0 to 65535")
        .replace("expected u32", "expected a whole number that is not negative")
        .replace("expected i32", "expected a whole number")
        .replace("invalid type: unit value", "no value")
        .replace("invalid type: null", "no value")
}

/// Turns numeric quantities (`cpu: 1`) into strings, as Kubernetes accepts both.
fn quantities_as_text(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(quantities_as_text),
        Value::Object(map) => {
            for (key, value) in map {
                match (key.as_str(), &mut *value) {
                    ("limits" | "requests", Value::Object(quantities)) => {
                        for quantity in quantities.values_mut().filter(|quantity| quantity.is_number()) {
                            *quantity = Value::String(quantity.to_string());
                        }
                    }
                    ("sizeLimit", number @ Value::Number(_)) => *number = Value::String(number.to_string()),
                    _ => quantities_as_text(value),
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;

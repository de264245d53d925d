//! Kinds of resources with their short names, and `kind/name`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A kind that viz has rows for.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Authority of a request.
    Authority,
    CronJob,
    DaemonSet,
    Deployment,
    Job,
    Namespace,
    Pod,
    ReplicaSet,
    ReplicationController,
    Service,
    StatefulSet,
}

/// Error of parsing a [`Resource`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidResource {
    UnknownKind(String),
    /// A kind with an empty or a second name.
    BadName(String),
}

impl fmt::Display for InvalidResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKind(kind) => write!(
                f,
                "unknown resource kind {kind:?} (one of {})",
                Kind::ALL.map(|k| k.short()).join(", ")
            ),
            Self::BadName(text) => write!(f, "{text:?} is not KIND or KIND/NAME"),
        }
    }
}

impl std::error::Error for InvalidResource {}

/// Names of one kind: short, singular, plural, metric label.
struct Names(Kind, &'static str, &'static str, &'static str, &'static str);

const NAMES: [Names; 11] = [
    Names(Kind::Authority, "au", "authority", "authorities", "authority"),
    Names(Kind::CronJob, "cj", "cronjob", "cronjobs", "cronjob"),
    Names(Kind::DaemonSet, "ds", "daemonset", "daemonsets", "daemonset"),
    Names(Kind::Deployment, "deploy", "deployment", "deployments", "deployment"),
    Names(Kind::Job, "job", "job", "jobs", "job"),
    Names(Kind::Namespace, "ns", "namespace", "namespaces", "namespace"),
    Names(Kind::Pod, "po", "pod", "pods", "pod"),
    Names(Kind::ReplicaSet, "rs", "replicaset", "replicasets", "replicaset"),
    Names(
        Kind::ReplicationController,
        "rc",
        "replicationcontroller",
        "replicationcontrollers",
        "replicationcontroller",
    ),
    Names(Kind::Service, "svc", "service", "services", "service"),
    Names(Kind::StatefulSet, "sts", "statefulset", "statefulsets", "statefulset"),
];

impl Kind {
    /// Every kind, by name.
    pub const ALL: [Self; 11] = [
        Self::Authority,
        Self::CronJob,
        Self::DaemonSet,
        Self::Deployment,
        Self::Job,
        Self::Namespace,
        Self::Pod,
        Self::ReplicaSet,
        Self::ReplicationController,
        Self::Service,
        Self::StatefulSet,
    ];

    /// Kinds that `all` stands for in a statistic.
    pub const STAT_ALL: [Self; 9] = [
        Self::DaemonSet,
        Self::StatefulSet,
        Self::Job,
        Self::Deployment,
        Self::ReplicationController,
        Self::Pod,
        Self::Service,
        Self::CronJob,
        Self::ReplicaSet,
    ];

    fn names(self) -> &'static Names {
        &NAMES[self as usize]
    }

    /// Short name, the prefix in tables.
    pub fn short(self) -> &'static str {
        self.names().1
    }

    /// Singular, lower case.
    pub fn singular(self) -> &'static str {
        self.names().2
    }

    /// Plural, lower case, as in the Kubernetes API.
    pub fn plural(self) -> &'static str {
        self.names().3
    }

    /// Metric label that names an object of this kind; prefixed by `dst_` on the outbound side.
    pub fn label(self) -> &'static str {
        self.names().4
    }

    /// Kind named `kind` in a manifest, in any case.
    pub fn from_manifest(kind: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.singular().eq_ignore_ascii_case(kind))
    }

    /// Returns whether objects of this kind are pods or own pods.
    pub fn is_workload(self) -> bool {
        !matches!(self, Self::Authority | Self::Namespace | Self::Service)
    }
}

impl FromStr for Kind {
    type Err = InvalidResource;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let lower = text.to_ascii_lowercase();
        let known = NAMES.iter().find(|n| [n.1, n.2, n.3].contains(&lower.as_str()));
        known
            .map(|n| n.0)
            .ok_or_else(|| InvalidResource::UnknownKind(text.to_owned()))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.singular())
    }
}

impl TryFrom<String> for Kind {
    type Error = InvalidResource;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Kind> for String {
    fn from(kind: Kind) -> Self {
        kind.singular().to_owned()
    }
}

impl Serialize for Kind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.singular())
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// All objects of a kind, or the one with a name; written `deploy` or `deploy/web`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Resource {
    pub kind: Kind,
    /// None means all.
    pub name: Option<String>,
}

impl Resource {
    /// All objects of `kind`.
    pub fn all(kind: Kind) -> Self {
        Self { kind, name: None }
    }

    /// The object of `kind` with this name.
    pub fn named(kind: Kind, name: &str) -> Self {
        Self {
            kind,
            name: Some(name.to_owned()),
        }
    }

    /// Returns whether it includes the object called `name`.
    pub fn matches(&self, name: &str) -> bool {
        self.name.as_deref().is_none_or(|n| n == name)
    }
}

impl FromStr for Resource {
    type Err = InvalidResource;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            None => Ok(Self::all(text.parse()?)),
            Some((_, name)) if name.is_empty() || name.contains('/') => Err(InvalidResource::BadName(text.to_owned())),
            Some((kind, name)) => Ok(Self::named(kind.parse()?, name)),
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{}/{name}", self.kind),
            None => self.kind.fmt(f),
        }
    }
}

impl TryFrom<String> for Resource {
    type Error = InvalidResource;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Resource> for String {
    fn from(resource: Resource) -> Self {
        resource.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_the_order_of_kinds() {
        for kind in Kind::ALL {
            assert_eq!(kind.names().0, kind);
            assert_eq!(kind.short().parse(), Ok(kind));
        }
    }

    #[test]
    fn parses_resources_and_rejects_unknown_kinds() {
        assert_eq!("deploy/web".parse(), Ok(Resource::named(Kind::Deployment, "web")));
        assert_eq!("Pods".parse(), Ok(Resource::all(Kind::Pod)));
        assert_eq!(
            "deploy/".parse::<Resource>(),
            Err(InvalidResource::BadName("deploy/".into()))
        );
        let error = "banana/x".parse::<Resource>().expect_err("no such kind").to_string();
        assert!(
            error.starts_with("unknown resource kind \"banana\" (one of au, cj"),
            "{error}"
        );
    }
}

//! Origin of an answer: the name of an object that every metric label and every rejection carries.

use std::{fmt, num::NonZeroU16, sync::Arc};

/// The source of a policy, route or backend.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Meta {
    /// A default of the mesh, by name.
    Default(Arc<str>),
    /// A Kubernetes object.
    Resource {
        /// API group; empty is the core group.
        group: Arc<str>,
        /// Kind, in the case that upstream uses for it.
        kind: Arc<str>,
        /// Name of the object.
        name: Arc<str>,
        /// Namespace; empty for an object without one.
        namespace: Arc<str>,
        /// Section of the object; empty for the whole of it.
        section: Arc<str>,
        /// Port of the object, if one port of it is meant.
        port: Option<NonZeroU16>,
    },
}

impl Meta {
    /// A default of the mesh.
    pub fn default_named(name: &str) -> Self {
        Self::Default(name.into())
    }

    /// An object, whole.
    pub fn resource(group: &str, kind: &str, namespace: &str, name: &str) -> Self {
        Self::Resource {
            group: group.into(),
            kind: kind.into(),
            name: name.into(),
            namespace: namespace.into(),
            section: "".into(),
            port: None,
        }
    }

    /// The same object, one port of it.
    pub fn with_port(self, number: u16) -> Self {
        match self {
            Self::Resource {
                group,
                kind,
                name,
                namespace,
                section,
                ..
            } => Self::Resource {
                group,
                kind,
                name,
                namespace,
                section,
                port: NonZeroU16::new(number),
            },
            default @ Self::Default(_) => default,
        }
    }

    /// Label value `*_group`.
    pub fn group(&self) -> &str {
        match self {
            Self::Default(_) => "",
            Self::Resource { group, .. } => group,
        }
    }

    /// Label value `*_kind`; `default` for a default of the mesh.
    pub fn kind(&self) -> &str {
        match self {
            Self::Default(_) => "default",
            Self::Resource { kind, .. } => kind,
        }
    }

    /// Label value `*_name`.
    pub fn name(&self) -> &str {
        match self {
            Self::Default(name) | Self::Resource { name, .. } => name,
        }
    }

    /// Label value `*_namespace`.
    pub fn namespace(&self) -> &str {
        match self {
            Self::Default(_) => "",
            Self::Resource { namespace, .. } => namespace,
        }
    }

    /// Label value `*_section_name`.
    pub fn section(&self) -> &str {
        match self {
            Self::Default(_) => "",
            Self::Resource { section, .. } => section,
        }
    }

    /// Label value `*_port`.
    pub fn port(&self) -> Option<NonZeroU16> {
        match self {
            Self::Default(_) => None,
            Self::Resource { port, .. } => *port,
        }
    }
}

impl fmt::Display for Meta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default(name) => write!(f, "default/{name}"),
            Self::Resource {
                kind, name, namespace, ..
            } => write!(f, "{kind}/{namespace}/{name}"),
        }
    }
}

//! Dependencies of answers: the keys by which a change finds the views to update.

use std::{net::IpAddr, sync::Arc};

use destination_k8s::{Kind, ObjectRef, keys, route::ParentRef};

/// Parent of routes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Parent {
    pub kind: Kind,
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

impl Parent {
    pub(crate) fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        Self {
            kind,
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// Resolves a reference, if it is to a kind of parent that the mesh serves.
    pub(crate) fn from_ref(reference: &ParentRef, own_namespace: &str) -> Option<Self> {
        let kind = match (reference.group.as_str(), reference.kind.as_str()) {
            ("" | keys::CORE_GROUP, "Service") => Kind::Service,
            (keys::POLICY_GROUP, "Server") => Kind::Server,
            (keys::POLICY_GROUP, "EgressNetwork") => Kind::EgressNetwork,
            _ => return None,
        };
        Some(Self::new(
            kind,
            reference.namespace.as_deref().unwrap_or(own_namespace),
            &reference.name,
        ))
    }
}

/// Dependency of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Dep {
    /// One object, existing or not.
    Object(ObjectRef),
    /// The objects of a kind in a namespace.
    List(Kind, Arc<str>),
    /// Objects with an address.
    Ip(IpAddr),
    /// The slices of a Service.
    Slices(Arc<str>, Arc<str>),
    /// The routes of a parent.
    Routes(Parent),
}

//! Which part of the control plane a pod is, by its label: such a part reaches itself on loopback, and reads the trust
//! anchors where they are kept, so that it follows their change.

use destination_k8s::keys;

use crate::pod::Pod;

/// A part of the control plane, or none.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Component {
    /// An ordinary pod.
    None,
    /// linkerd-destination.
    Destination,
    /// linkerd-identity.
    Identity,
    /// Another part of it.
    Other,
}

impl Component {
    pub(crate) fn of(pod: Pod<'_>) -> Self {
        match pod.label(keys::CONTROL_PLANE_COMPONENT) {
            None => Self::None,
            Some("destination" | "linkerd-destination") => Self::Destination,
            Some("identity" | "linkerd-identity") => Self::Identity,
            Some(_) => Self::Other,
        }
    }
}

//! Identities: the name in a leaf's SAN, and the names by which a client verifies a server.

use std::{fmt, str::FromStr, sync::Arc};

/// A name that a leaf carries in its SAN. DNS names are lower case, without a trailing dot; URIs are kept as they are.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Id {
    /// A DNS name, for example `web.emoji.serviceaccount.identity.linkerd.cluster.local`.
    Dns(Arc<str>),
    /// A SPIFFE URI.
    Uri(Arc<str>),
}

/// Error for a text that is not an [`Id`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid identity {0:?}: must be a DNS name or a spiffe:// URI")]
pub struct InvalidId(pub String);

impl Id {
    /// Identity of the service account `name` of `namespace`.
    pub fn service_account(name: &str, namespace: &str, mesh: MeshNames<'_>) -> Result<Self, InvalidId> {
        mesh.service_account(name, namespace).parse()
    }

    /// The identity as text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Dns(name) | Self::Uri(name) => name,
        }
    }

    /// Returns true for a DNS name that ends in `suffix` (already normalised; empty matches all DNS names).
    pub fn has_suffix(&self, suffix: &str) -> bool {
        match self {
            Self::Uri(_) => false,
            Self::Dns(name) => match name.strip_suffix(suffix) {
                Some(head) => suffix.is_empty() || head.is_empty() || head.ends_with('.'),
                None => false,
            },
        }
    }
}

const SPIFFE: &str = "spiffe://";
/// Longest SPIFFE ID, by its specification.
const SPIFFE_BYTES_MAX: usize = 2048;

/// Returns true for the bytes of a URI (RFC 3986, 2): no blanks, quotes, control characters.
fn is_uri_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&byte)
}

impl FromStr for Id {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(rest) = text.strip_prefix(SPIFFE) {
            let is_uri = text.len() <= SPIFFE_BYTES_MAX && !rest.is_empty() && rest.bytes().all(is_uri_byte);
            return if is_uri {
                Ok(Self::Uri(text.into()))
            } else {
                Err(InvalidId(text.to_owned()))
            };
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let label_ok = |l: &str| {
            !l.is_empty() && l.len() <= 63 && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        if name.len() > 253 || !name.split('.').all(label_ok) {
            return Err(InvalidId(text.to_owned()));
        }
        Ok(Self::Dns(name.into()))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Marks the identity of a service account.
const SERVICE_ACCOUNT: &str = ".serviceaccount.identity.";

/// Names of one mesh that its identities end in.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct MeshNames<'a> {
    /// Namespace of the control plane.
    pub control_plane_namespace: &'a str,
    /// Suffix of all identities.
    pub trust_domain: &'a str,
}

impl MeshNames<'_> {
    /// Identity of a service account: `NAME.NAMESPACE.serviceaccount.identity.CONTROL-PLANE.TRUST-DOMAIN`.
    ///
    /// Not checked, because templates are made with it, too (`$(_pod_sa)`); [`Id::service_account`] checks.
    pub fn service_account(self, name: &str, namespace: &str) -> String {
        format!("{name}.{}", self.service_accounts(namespace))
    }

    /// Suffix of the identities of all service accounts of a namespace, without a leading dot.
    pub fn service_accounts(self, namespace: &str) -> String {
        let Self {
            control_plane_namespace,
            trust_domain,
        } = self;
        format!("{namespace}{SERVICE_ACCOUNT}{control_plane_namespace}.{trust_domain}")
    }
}

/// Parts of the identity of a service account.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServiceAccount<'a> {
    /// Name, which may have dots.
    pub name: &'a str,
    /// Namespace.
    pub namespace: &'a str,
    /// Mesh that issued the identity.
    pub mesh: MeshNames<'a>,
}

impl<'a> ServiceAccount<'a> {
    /// Parses what [`MeshNames::service_account`] makes; none for identities of another form.
    pub fn parse(id: &'a str) -> Option<Self> {
        // The last mark counts: a service account may be called `web.vote.serviceaccount.identity`.
        let (account, mesh) = id.rsplit_once(SERVICE_ACCOUNT)?;
        let (name, namespace) = account.rsplit_once('.')?;
        let (control_plane_namespace, trust_domain) = mesh.split_once('.')?;
        let parts = [name, namespace, control_plane_namespace, trust_domain];
        parts.iter().all(|part| !part.is_empty()).then_some(Self {
            name,
            namespace,
            mesh: MeshNames {
                control_plane_namespace,
                trust_domain,
            },
        })
    }
}

/// Identity by which a client verifies a server: the SNI to send, and the name that the leaf must carry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TlsIdentity {
    /// Name that the server's leaf must carry.
    pub server_id: Id,
    /// SNI to send. Equals the id where discovery gave no other.
    pub server_name: Arc<str>,
}

impl TlsIdentity {
    /// A DNS identity whose SNI is its own name.
    pub fn dns(name: &str) -> Result<Self, InvalidId> {
        let server_id: Id = name.parse()?;
        let server_name = server_id.as_str().into();
        Ok(Self { server_id, server_name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_end_at_a_label() {
        let id: Id = "Web.ns.local.".parse().expect("valid");
        assert!(id.has_suffix("") && id.has_suffix("ns.local") && id.has_suffix("web.ns.local"));
        assert!(!id.has_suffix("s.local"));
        for bad in [
            "a b",
            "spiffe://",
            "spiffe://a b",
            "spiffe://a\n",
            "spiffe://a\"",
            "spiffe://é",
            "http://a",
        ] {
            assert!(bad.parse::<Id>().is_err(), "{bad}");
        }
        assert!(format!("spiffe://{}", "a".repeat(2048)).parse::<Id>().is_err());
    }

    #[test]
    fn service_accounts_round_trip() {
        let mesh = crate::defaults::MESH_NAMES;
        let id = Id::service_account("web", "vote", mesh).expect("valid");
        assert_eq!(id.as_str(), "web.vote.serviceaccount.identity.linkerd.cluster.local");
        let (name, namespace) = ("web", "vote");
        let parsed = ServiceAccount { name, namespace, mesh };
        assert_eq!(ServiceAccount::parse(id.as_str()), Some(parsed));
        assert!(id.has_suffix(&mesh.service_accounts("vote")) && !id.has_suffix(&mesh.service_accounts("ote")));
    }

    #[test]
    fn a_service_account_cannot_pass_for_another_by_its_name() {
        let mesh = crate::defaults::MESH_NAMES;
        let id = mesh.service_account("web.vote.serviceaccount.identity.linkerd", "evil");
        let parsed = ServiceAccount::parse(&id).expect("a service account");
        assert_eq!((parsed.namespace, parsed.mesh), ("evil", mesh));
    }

    #[test]
    fn other_identities_are_not_service_accounts() {
        for other in [
            "web.local",
            "vote.serviceaccount.identity.linkerd.cluster.local",
            "web.vote.serviceaccount.identity.linkerd",
            "spiffe://root.linkerd.cluster.local/vm",
        ] {
            assert_eq!(ServiceAccount::parse(other), None, "{other}");
        }
        assert!(Id::service_account("a b", "ns", crate::defaults::MESH_NAMES).is_err());
    }
}

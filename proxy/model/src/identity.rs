//! Who a workload is: the name in a leaf's SAN, and how a client names the server it wants.

use std::{fmt, str::FromStr, sync::Arc};

/// A name that a leaf carries in its SAN. DNS names are lower case, without a trailing dot; URIs are kept as they are.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Id {
    /// A DNS name, for example `web.emoji.serviceaccount.identity.linkerd.cluster.local`.
    Dns(Arc<str>),
    /// A SPIFFE URI.
    Uri(Arc<str>),
}

/// Why a text is no [`Id`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither a DNS name nor a spiffe:// URI")]
pub struct InvalidId(pub String);

impl Id {
    /// The text of it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Dns(name) | Self::Uri(name) => name,
        }
    }

    /// Whether this is a DNS name that ends in `suffix` (already normalised; empty matches any DNS name).
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

impl FromStr for Id {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with("spiffe://") {
            return Ok(Self::Uri(text.into()));
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

/// How a client proves whom it reached: the SNI it asks for, and the name that the leaf must carry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TlsIdentity {
    /// Name that the server's leaf must carry.
    pub server_id: Id,
    /// SNI to send. Equals the id where discovery gave no name of its own.
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
        assert!("a b".parse::<Id>().is_err());
    }
}

//! The decision: identity, token and CSR in, a leaf or a refusal out.

use std::{sync::Arc, time::SystemTime};

use identity_x509::{Blame, Csr, Leaf, LeafTimes};
use proxy_model::MeshNames;

use crate::{
    authority::{Authority, AuthorityReceiver},
    token::{self, ServiceAccount, Validator},
};

/// Longest DNS name.
const IDENTITY_BYTES_MAX: usize = 253;

/// A workload's request for a certificate.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    /// Requested identity.
    pub(crate) identity: String,
    /// Token that proves the identity.
    pub(crate) token: Vec<u8>,
    /// Signing request of the workload's key, for the same name.
    pub(crate) csr_der: Vec<u8>,
}

/// A signed leaf with its issuer.
#[derive(Debug)]
pub(crate) struct Certified {
    pub(crate) leaf: Leaf,
    /// Signer; its chain is sent along with the leaf.
    pub(crate) authority: Arc<Authority>,
}

/// Reason for which a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the request has no {0}")]
    Missing(&'static str),
    #[error("the identity is {0} bytes, longer than any DNS name")]
    IdentityTooLong(usize),
    #[error(transparent)]
    Certificate(#[from] identity_x509::Error),
    #[error(transparent)]
    Token(#[from] token::Error),
    #[error("the requested identity is {requested:?}, but the token belongs to {found:?}")]
    NotYours { requested: String, found: String },
    #[error("the issuer is not ready: see the log of mesh-identity")]
    NotReady,
}

/// Kind of refusal, as gRPC distinguishes them.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    InvalidArgument,
    FailedPrecondition,
    Unavailable,
    Internal,
}

impl Refusal {
    /// Returns the kind.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Missing(_) | Self::IdentityTooLong(_) => Kind::InvalidArgument,
            Self::Certificate(error) => match error.blame() {
                Blame::MalformedRequest => Kind::InvalidArgument,
                Blame::RefusedRequest => Kind::FailedPrecondition,
                Blame::Issuer => Kind::Unavailable,
                Blame::Internal => Kind::Internal,
            },
            Self::Token(token::Error::TooLarge(_) | token::Error::Invalid(_)) => Kind::InvalidArgument,
            Self::Token(token::Error::NotServiceAccount(_)) | Self::NotYours { .. } => Kind::FailedPrecondition,
            Self::Token(token::Error::NotReady(_) | token::Error::NotReviewed(_)) | Self::NotReady => Kind::Unavailable,
        }
    }

    /// Returns the reason code for metric and log.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Missing(_) => "missing_field",
            Self::IdentityTooLong(_) => "identity_too_long",
            Self::Certificate(error) => match error.blame() {
                Blame::MalformedRequest => "malformed_csr",
                Blame::RefusedRequest => "refused_csr",
                Blame::Issuer => "issuer_invalid",
                Blame::Internal => "internal",
            },
            Self::Token(token::Error::NotServiceAccount(_)) => "not_a_service_account",
            Self::Token(token::Error::NotReady(_)) => "token_keys_not_ready",
            Self::Token(token::Error::NotReviewed(_)) => "token_not_reviewed",
            Self::Token(_) => "invalid_token",
            Self::NotYours { .. } => "identity_not_of_token",
            Self::NotReady => "issuer_not_ready",
        }
    }
}

/// Decides about requests.
#[derive(Clone, Debug)]
pub(crate) struct Certifier {
    pub(crate) authority: AuthorityReceiver,
    pub(crate) validator: Validator,
    /// Namespace of the control plane.
    pub(crate) control_plane_namespace: String,
    /// Trust domain of identities.
    pub(crate) trust_domain: String,
    pub(crate) times: LeafTimes,
}

impl Certifier {
    /// Signs a leaf for a workload that proves its identity. Cheap checks come first: form, names, token.
    pub(crate) async fn certify(&self, request: &Request, now: SystemTime) -> Result<Certified, Refusal> {
        for (field, empty) in [
            ("identity", request.identity.is_empty()),
            ("token", request.token.is_empty()),
            ("certificate signing request", request.csr_der.is_empty()),
        ] {
            if empty {
                return Err(Refusal::Missing(field));
            }
        }
        if request.identity.len() > IDENTITY_BYTES_MAX {
            return Err(Refusal::IdentityTooLong(request.identity.len()));
        }
        let csr = Csr::from_der(&request.csr_der)?;
        csr.check(&request.identity)?;
        let authority = self.authority.borrow().clone().ok_or(Refusal::NotReady)?;
        let found = self.identity_of(&self.validator.validate(&request.token).await?);
        if found != request.identity {
            return Err(Refusal::NotYours {
                requested: request.identity.clone(),
                found,
            });
        }
        let leaf = authority.issuer.sign(&csr, &found, self.times, now)?;
        // A proxy would discard a leaf that it cannot verify and retry endlessly; better not to issue it.
        authority.anchors.verify(&leaf.der, authority.issuer.chain(), now)?;
        Ok(Certified { leaf, authority })
    }

    fn identity_of(&self, account: &ServiceAccount) -> String {
        let names = MeshNames {
            control_plane_namespace: &self.control_plane_namespace,
            trust_domain: &self.trust_domain,
        };
        names.service_account(&account.name, &account.namespace)
    }
}

//! The decision: identity, token and CSR in, a leaf or a refusal out.

use std::{sync::Arc, time::SystemTime};

use identity_x509::{Blame, Csr, Leaf, LeafTimes};
use proxy_model::{MeshNames, reason::Reason};

use crate::{
    authority::{Authority, AuthorityReceiver},
    review::Caller,
    token,
    validator::{ServiceAccount, Validator},
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
    /// Client that has sent it.
    pub(crate) caller: Caller,
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

impl Refusal {
    /// Returns the reason, with its gRPC code and label.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Missing(_) => Reason::MissingField,
            Self::IdentityTooLong(_) => Reason::IdentityTooLong,
            Self::Certificate(error) => match error.blame() {
                Blame::MalformedRequest => Reason::MalformedCsr,
                Blame::RefusedRequest => Reason::RefusedCsr,
                Blame::Issuer => Reason::IssuerInvalid,
                Blame::Internal => Reason::IdentityInternal,
            },
            Self::Token(token::Error::NotServiceAccount(_)) => Reason::NotServiceAccount,
            Self::Token(token::Error::NotReady(_)) => Reason::TokenKeysNotReady,
            Self::Token(token::Error::NotReviewed(_)) => Reason::TokenNotReviewed,
            Self::Token(token::Error::TooMany(_)) => Reason::TokensTooMany,
            Self::Token(token::Error::TooLarge(_) | token::Error::Invalid(_)) => Reason::InvalidToken,
            Self::NotYours { .. } => Reason::IdentityNotOfToken,
            Self::NotReady => Reason::IssuerNotReady,
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
        let found = self.identity_of(&self.validator.validate(&request.token, &request.caller).await?);
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

//! The decision: identity, token and CSR in, a leaf or the reason for none out.

use std::{sync::Arc, time::SystemTime};

use identity_x509::{Blame, Csr, Leaf, LeafTimes};

use crate::{
    authority::{Authority, AuthorityReceiver},
    token::{self, ServiceAccount, Validator},
};

/// Longest DNS name.
const IDENTITY_BYTES_MAX: usize = 253;

/// What a workload asks for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    /// Who it wants to be.
    pub(crate) identity: String,
    /// What proves it.
    pub(crate) token: Vec<u8>,
    /// Its key, with the same name.
    pub(crate) csr_der: Vec<u8>,
}

/// What it gets.
#[derive(Debug)]
pub(crate) struct Certified {
    pub(crate) leaf: Leaf,
    /// Who signed; its chain goes with the leaf.
    pub(crate) authority: Arc<Authority>,
}

/// Why it gets nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the request has no {0}")]
    Missing(&'static str),
    #[error("the identity is {0} bytes, more than a DNS name can be")]
    IdentityTooLong(usize),
    #[error(transparent)]
    Certificate(#[from] identity_x509::Error),
    #[error(transparent)]
    Token(#[from] token::Error),
    #[error("the requested identity is {requested:?}, but the token is of {found:?}")]
    NotYours { requested: String, found: String },
    #[error("the issuer is not ready: see the log of mesh-identity")]
    NotReady,
}

/// What kind of refusal it is, as gRPC tells kinds apart.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    InvalidArgument,
    FailedPrecondition,
    Unavailable,
    Internal,
}

impl Refusal {
    /// What kind it is.
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

    /// One word for the metric and the log.
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

/// Decides.
#[derive(Clone, Debug)]
pub(crate) struct Certifier {
    pub(crate) authority: AuthorityReceiver,
    pub(crate) validator: Validator,
    /// What follows ServiceAccount and namespace in an identity: `linkerd.cluster.local`.
    pub(crate) suffix: String,
    pub(crate) times: LeafTimes,
}

impl Certifier {
    /// Signs a leaf for a workload that proves who it is. Checks go from the cheap to the dear: form, names, token.
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
        // A proxy would throw away what it cannot verify, and ask again for ever; better not to hand it out.
        authority.anchors.verify(&leaf.der, authority.issuer.chain(), now)?;
        Ok(Certified { leaf, authority })
    }

    fn identity_of(&self, account: &ServiceAccount) -> String {
        format!(
            "{}.{}.serviceaccount.identity.{}",
            account.name, account.namespace, self.suffix
        )
    }
}

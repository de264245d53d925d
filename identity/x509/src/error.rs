//! What can be wrong with certificates and requests, and whose fault it is.

use std::time::SystemTime;

/// Whose fault an [`Error`] is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The request was no request: its bytes are not what they claim to be.
    MalformedRequest,
    /// The request was well formed, but must not be granted.
    RefusedRequest,
    /// The issuer or the anchors are wrong: the operator's files.
    Issuer,
    /// Nobody's but ours (no randomness, a bug).
    Internal,
}

/// What is wrong, in one sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Larger than any CSR.
    #[error("the CSR is {0} bytes, more than the {max} that are looked at", max = crate::CSR_BYTES_MAX)]
    CsrTooLarge(usize),
    /// The bytes are no CSR.
    #[error("the CSR is not valid DER of a PKCS#10 request: {0}")]
    CsrNotDer(String),
    /// Key or signature algorithm is not ours.
    #[error("the CSR's key must be ECDSA P-256, signed with SHA-256")]
    CsrNotP256,
    /// The requester does not hold the key.
    #[error("the CSR's signature does not verify with its own key")]
    CsrBadSignature,
    /// Not exactly one DNS name.
    #[error("the CSR must have exactly one DNS name, it has {0}")]
    CsrDnsNames(usize),
    /// A name of another type.
    #[error("the CSR must have no {0} among its names")]
    CsrOtherName(&'static str),
    /// The name is not the identity.
    #[error("the CSR's {field} is {csr:?}, but the requested identity is {identity:?}")]
    CsrNameDiffers {
        /// Which name of the CSR.
        field: &'static str,
        /// What it is.
        csr: String,
        /// What it should be.
        identity: String,
    },
    /// PEM without a certificate, or broken.
    #[error("the {what} is not valid PEM: {reason}")]
    NotPem {
        /// Which text.
        what: &'static str,
        /// What the parser said.
        reason: String,
    },
    /// A certificate that does not parse.
    #[error("a certificate of the {what} is not valid X.509: {reason}")]
    NotX509 {
        /// Which text.
        what: &'static str,
        /// What the parser said.
        reason: String,
    },
    /// The key does not parse, or is of another type.
    #[error("the issuer's key is not an ECDSA P-256 private key in PEM: {0}")]
    IssuerKey(String),
    /// Key and certificate don't belong together.
    #[error("the issuer's key does not belong to the issuer's certificate")]
    IssuerKeyMismatch,
    /// Not a CA.
    #[error("the issuer's certificate is not a CA certificate")]
    IssuerNotCa,
    /// Out of date.
    #[error("the issuer's certificate expired at {until}", until = crate::validity::text(.0))]
    IssuerExpired(SystemTime),
    /// Not yet valid.
    #[error("the issuer's certificate is not valid before {from}", from = crate::validity::text(.0))]
    IssuerNotYetValid(SystemTime),
    /// Does not chain.
    #[error("the issuer's certificate does not chain to a trust anchor: {0}")]
    IssuerNotTrusted(String),
    /// Signing or key generation failed.
    #[error("cannot make a certificate: {0}")]
    Crypto(String),
}

impl Error {
    /// Whose fault it is.
    pub fn blame(&self) -> Blame {
        match self {
            Self::CsrTooLarge(_) | Self::CsrNotDer(_) => Blame::MalformedRequest,
            Self::CsrNotP256
            | Self::CsrBadSignature
            | Self::CsrDnsNames(_)
            | Self::CsrOtherName(_)
            | Self::CsrNameDiffers { .. } => Blame::RefusedRequest,
            Self::NotPem { .. }
            | Self::NotX509 { .. }
            | Self::IssuerKey(_)
            | Self::IssuerKeyMismatch
            | Self::IssuerNotCa
            | Self::IssuerExpired(_)
            | Self::IssuerNotYetValid(_)
            | Self::IssuerNotTrusted(_) => Blame::Issuer,
            Self::Crypto(_) => Blame::Internal,
        }
    }

    pub(crate) fn crypto(error: impl std::fmt::Display) -> Self {
        Self::Crypto(error.to_string())
    }
}

//! Errors of certificates and requests, each with the party to blame.

use std::time::SystemTime;

/// Party to blame for an [`Error`].
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The requester: the bytes do not parse as a request.
    MalformedRequest,
    /// The requester: the request is well formed, but must not be granted.
    RefusedRequest,
    /// The operator: the files of issuer or anchors are wrong.
    Issuer,
    /// This program (no randomness, a bug).
    Internal,
}

/// Error of this crate; displays as one sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// CSR over the size limit.
    #[error("the CSR is {0} bytes, the limit is {max}", max = crate::CSR_BYTES_MAX)]
    CsrTooLarge(usize),
    /// Not a CSR.
    #[error("the CSR is not valid DER of a PKCS#10 request: {0}")]
    CsrNotDer(String),
    /// Unsupported key or signature algorithm.
    #[error("the CSR's key must be ECDSA P-256, signed with SHA-256")]
    CsrNotP256,
    /// The requester does not hold the key.
    #[error("the CSR's signature does not verify with its own key")]
    CsrBadSignature,
    /// Not exactly one DNS name.
    #[error("the CSR must have exactly one DNS name, but has {0}")]
    CsrDnsNames(usize),
    /// A name of another type.
    #[error("the CSR must not name any {0}")]
    CsrOtherName(&'static str),
    /// The name is not the identity.
    #[error("the CSR's {field} is {csr:?}, but the requested identity is {identity:?}")]
    CsrNameDiffers {
        /// Field of the CSR.
        field: &'static str,
        /// Value in the CSR.
        csr: String,
        /// Requested identity.
        identity: String,
    },
    /// Invalid PEM, or PEM without a certificate.
    #[error("the {what} is not valid PEM: {reason}")]
    NotPem {
        /// Kind of text.
        what: &'static str,
        /// Message of the parser.
        reason: String,
    },
    /// Invalid certificate.
    #[error("a certificate of the {what} is not valid X.509: {reason}")]
    NotX509 {
        /// Kind of text.
        what: &'static str,
        /// Message of the parser.
        reason: String,
    },
    /// Invalid key, or a key of another type.
    #[error("the issuer's key is not an ECDSA P-256 private key in PEM: {0}")]
    IssuerKey(String),
    /// Key of another certificate.
    #[error("the issuer's key does not belong to the issuer's certificate")]
    IssuerKeyMismatch,
    /// Not a CA.
    #[error("the issuer's certificate is not a CA certificate")]
    IssuerNotCa,
    /// Expired.
    #[error("the issuer's certificate expired at {until}", until = crate::validity::text(.0))]
    IssuerExpired(SystemTime),
    /// Not yet valid.
    #[error("the issuer's certificate is not valid before {from}", from = crate::validity::text(.0))]
    IssuerNotYetValid(SystemTime),
    /// Chain verification failed.
    #[error("the issuer's certificate does not chain to a trust anchor: {0}")]
    IssuerNotTrusted(String),
    /// Signing or key generation failed.
    #[error("cannot make a certificate: {0}")]
    Crypto(String),
}

impl Error {
    /// Returns the party to blame.
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
